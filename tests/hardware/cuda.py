"""Holds known amounts of GPU memory in this process, through the driver alone: libcuda.so.1 and no framework."""

import ctypes
from types import TracebackType
from typing import Self


class CudaError(RuntimeError):
    """A call of the CUDA driver failed, or there is no driver."""


def _check(code: int, call: str) -> None:
    if code != 0:
        raise CudaError(f"{call} failed with CUDA error {code}")


class Context:
    """A CUDA context on the first visible GPU, and what was allocated in it; all of it goes at the end."""

    def __enter__(self) -> Self:
        """Start the context, which takes some hundred MiB of its own. Raises CudaError."""
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError("no CUDA driver (libcuda.so.1) on this host") from error
        self._context, device = ctypes.c_void_p(), ctypes.c_int()
        _check(self._cuda.cuInit(0), "cuInit")
        _check(self._cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
        _check(self._cuda.cuCtxCreate_v2(ctypes.byref(self._context), 0, device), "cuCtxCreate")
        return self

    def allocate(self, size_bytes: int) -> None:
        """Take memory that nothing else uses until the context ends. Raises CudaError."""
        pointer = ctypes.c_uint64()
        _check(self._cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size_bytes)), "cuMemAlloc")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back: destroying a context frees what was allocated in it."""
        _check(self._cuda.cuCtxDestroy_v2(self._context), "cuCtxDestroy")
