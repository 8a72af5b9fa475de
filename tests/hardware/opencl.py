"""Holds known amounts of GPU memory in this process by OpenCL: libOpenCL.so.1 and any driver of it, no framework."""

import ctypes
from types import TracebackType
from typing import Final, Self

_DEVICE_TYPE_GPU: Final = 1 << 2
_MEM_READ_WRITE: Final = 1
_PLATFORM_VENDOR: Final = 0x0903
_NAMES: Final = {"amd": ("advanced micro devices", "amd"), "intel": ("intel",)}


class OpenClError(RuntimeError):
    """A call of OpenCL failed, or there is no driver of it for the GPU."""


def _check(code: int, call: str) -> None:
    if code != 0:
        raise OpenClError(f"{call} failed with OpenCL error {code}")


class Context:
    """An OpenCL context on the first GPU of a vendor's platform, and buffers in it; all of it goes at the end."""

    def __init__(self, vendor: str) -> None:
        self._names = _NAMES[vendor]
        self._buffers: list[ctypes.c_void_p] = []

    def __enter__(self) -> Self:
        """Start the context. Raises OpenClError."""
        try:
            self._cl = ctypes.CDLL("libOpenCL.so.1")
        except OSError as error:
            raise OpenClError("no OpenCL loader (libOpenCL.so.1) on this host") from error
        for name in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
            getattr(self._cl, name).restype = ctypes.c_void_p
        device, code = self._device(), ctypes.c_int()
        self._context = ctypes.c_void_p(
            self._cl.clCreateContext(None, 1, ctypes.byref(device), None, None, ctypes.byref(code))
        )
        _check(code.value, "clCreateContext")
        self._queue = ctypes.c_void_p(
            self._cl.clCreateCommandQueue(self._context, device, ctypes.c_uint64(0), ctypes.byref(code))
        )
        _check(code.value, "clCreateCommandQueue")
        return self

    def allocate(self, size_bytes: int) -> None:
        """Take memory that nothing else uses, and write to it: drivers give memory when it is first used."""
        code = ctypes.c_int()
        buffer = ctypes.c_void_p(
            self._cl.clCreateBuffer(
                self._context,
                ctypes.c_uint64(_MEM_READ_WRITE),
                ctypes.c_size_t(size_bytes),
                None,
                ctypes.byref(code),
            )
        )
        _check(code.value, "clCreateBuffer")
        self._buffers.append(buffer)
        pattern = ctypes.c_uint32(0xA5A5A5A5)
        _check(
            self._cl.clEnqueueFillBuffer(
                self._queue,
                buffer,
                ctypes.byref(pattern),
                ctypes.c_size_t(4),
                ctypes.c_size_t(0),
                ctypes.c_size_t(size_bytes),
                0,
                None,
                None,
            ),
            "clEnqueueFillBuffer",
        )
        _check(self._cl.clFinish(self._queue), "clFinish")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back."""
        for buffer in self._buffers:
            self._cl.clReleaseMemObject(buffer)
        self._cl.clReleaseCommandQueue(self._queue)
        self._cl.clReleaseContext(self._context)

    def _device(self) -> ctypes.c_void_p:
        platforms, count = (ctypes.c_void_p * 16)(), ctypes.c_uint()
        _check(self._cl.clGetPlatformIDs(16, platforms, ctypes.byref(count)), "clGetPlatformIDs")
        for platform in platforms[: count.value]:
            text = ctypes.create_string_buffer(256)
            self._cl.clGetPlatformInfo(
                ctypes.c_void_p(platform), _PLATFORM_VENDOR, ctypes.c_size_t(256), text, None
            )
            device = ctypes.c_void_p()
            if any(
                name in text.value.decode().lower() for name in self._names
            ) and not self._cl.clGetDeviceIDs(
                ctypes.c_void_p(platform), ctypes.c_uint64(_DEVICE_TYPE_GPU), 1, ctypes.byref(device), None
            ):
                return device
        raise OpenClError(f"no OpenCL platform of {self._names[0]} has a GPU")
