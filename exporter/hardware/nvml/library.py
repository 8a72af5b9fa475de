"""Loads and unloads the NVML library for the whole process, and knows what of pynvml is private.

pynvml keeps one library for the process, and every source of this process uses it: whoever unloads it while another
source is inside crashes the process. So sessions are counted here, under one lock, and the library is let go of only
when nobody has one.
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
    """Begin a session with the driver. Raises NVMLError; the library is unloaded first if nobody else uses it."""
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
    """End a session; a driver that went away has ended it already, and says so."""
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
