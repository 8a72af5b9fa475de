"""Loads and unloads the NVML library for the whole process; the only user of pynvml's private parts.

pynvml keeps one library for the process, and every source of this process uses it. Unloading it while another source
is inside crashes the process, so sessions are counted here, under one lock, and the library is unloaded after the
last one.
"""

import _ctypes
import logging
import threading
from typing import Final

import pynvml

log = logging.getLogger(__name__)

_LOCK: Final = threading.Lock()
_sessions = 0


def begin() -> None:
    """Begin a session with the driver. Raises NVMLError; the library is unloaded first if it has no other user."""
    global _sessions  # noqa: PLW0603 - one library per process, so one count
    with _LOCK:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND and _sessions == 0:
                _unload()
            raise
        _sessions += 1


def end() -> None:
    """End a session; a driver that was unloaded has ended it already and raises."""
    global _sessions  # noqa: PLW0603 - see begin()
    with _LOCK:
        _sessions = max(0, _sessions - 1)
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.debug("NVML session was over already", extra={"problem": str(error)})


def _unload() -> None:
    """Let go of a library that could not be initialised, so that the next try finds the one installed by then.

    pynvml loads it once and for ever; a driver installed or upgraded later would meet the old library and refuse it
    (LIB_RM_VERSION_MISMATCH) until a restart. Delete when pynvml can unload.
    """
    library, pynvml.nvmlLib = pynvml.nvmlLib, None
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - pointers into the library that is closed below
    if library is not None:
        _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes offers no other way to its handle
