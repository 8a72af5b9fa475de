"""Asks NVML one question at a time and turns every "not supported" and every impossible value into None.

Only error codes and sentinels of NVML are interpreted here.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import pynvml

T = TypeVar("T")

SESSION_OVER: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,  # the driver was reloaded below us
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,  # the driver was upgraded below us
    }
)
"""Errors after which every handle is worthless and NVML has to be initialised anew."""

GPU_LOST: Final = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})
"""Errors after which this one GPU has no values."""

_SENTINELS: Final = frozenset({0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF})
"""NVML_VALUE_NOT_AVAILABLE as 32 and 64 bit: some GPUs answer "success" with it."""


def ask(question: Callable[..., T], *arguments: object) -> T | None:
    """Answer the question, or None when this GPU, driver or user cannot have the answer.

    Raises NVMLError when the GPU is lost or the session with the driver is over: those concern more than one value.
    """
    try:
        answer = question(*arguments)
    except pynvml.NVMLError as error:
        if error.value in SESSION_OVER or error.value in GPU_LOST:
            raise
        return None
    if isinstance(answer, int) and answer in _SENTINELS:
        return None
    return answer


def within(value: float | None, most: float, *, least: float = 0.0) -> float | None:
    """Return a value in its possible range, else None: drivers put sentinels and nonsense into structs and lists."""
    return value if value is not None and least <= value <= most and value not in _SENTINELS else None


def refuses(question: Callable[..., object], *arguments: object) -> int | None:
    """Tell the NVML error code the question is refused with, or None when it is answered."""
    try:
        question(*arguments)
    except pynvml.NVMLError as error:
        if error.value in SESSION_OVER or error.value in GPU_LOST:
            raise
        return int(error.value)
    return None


def ask_fields(handle: object, fields: list[tuple[int, int]]) -> dict[tuple[int, int], int | float]:
    """Answer many field values, given as (field id, scope id), in one call; what is not supported is not in it.

    Source: nvmlDeviceGetFieldValues, whose every value carries its own return code and type.
    """
    values = ask(pynvml.nvmlDeviceGetFieldValues, handle, fields)
    if values is None:
        return {}
    answers: dict[tuple[int, int], int | float] = {}
    for key, value in zip(fields, values, strict=True):
        member = _MEMBERS.get(value.valueType)
        if value.nvmlReturn != pynvml.NVML_SUCCESS or member is None:
            continue
        answer = getattr(value.value, member)
        if answer not in _SENTINELS:
            answers[key] = answer
    return answers


_MEMBERS: Final = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}
