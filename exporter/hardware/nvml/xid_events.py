"""Counts XID errors as the driver reports them, in its own thread.

Keeps no history: an XID while no thread watches is not counted.
"""

import ctypes
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pynvml

from exporter.hardware.nvml.capabilities import Capabilities, Handle
from exporter.hardware.nvml.query import SESSION_OVER, ask

log = logging.getLogger(__name__)

WAIT_MS: Final = 500
"""Length of one wait for an event: a shutdown waits as long, and the thread wakes up as often."""
_PAUSE_AFTER_ERROR_S: Final = 1.0
"""A lost GPU makes every wait fail at once; the other GPUs' events are still wanted, without a busy loop."""


class XidWatcher:
    """Counts per (gpu uuid, xid) over as many sessions with the driver as there are."""

    def __init__(self, *, wait_ms: int = WAIT_MS) -> None:
        self._wait_ms = wait_ms
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._watching = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def counts(self) -> Mapping[tuple[str, int], int] | None:
        """Count so far; None when no GPU can be watched and none has reported anything."""
        with self._lock:
            return dict(self._counts) if self._watching or self._counts else None

    def start(self, gpus: Iterable[Capabilities]) -> None:
        """Watch these GPUs; those that cannot report XIDs are left out, and so are GPUs without a uuid."""
        events = ask(pynvml.nvmlEventSetCreate)
        if events is None:
            return
        watched = {
            _address(gpu.handle): gpu.uuid
            for gpu in gpus
            if gpu.uuid is not None and _register(gpu.handle, events)
        }
        if not watched:
            ask(pynvml.nvmlEventSetFree, events)
            return
        self._watching = True
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(events, watched, self._stop), name="nvml-xid", daemon=True
        )
        self._thread.start()

    def stop(self) -> bool:
        """End the thread; False when the driver does not return in time and the thread is left behind."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * self._wait_ms / 1000 + _PAUSE_AFTER_ERROR_S)
            if self._thread.is_alive():
                return False
            self._thread = None
        self._watching = False
        return True

    def _watch(self, events: Any, watched: Mapping[int | None, str], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(events, self._wait_ms)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    continue
                if error.value in SESSION_OVER:
                    break
                stop.wait(_PAUSE_AFTER_ERROR_S)
                continue
            uuid = watched.get(_address(event.device))
            if uuid is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                with self._lock:
                    self._counts[uuid, int(event.eventData)] += 1
                log.warning("a GPU reported an XID error", extra={"gpu": uuid, "xid": int(event.eventData)})
        try:
            pynvml.nvmlEventSetFree(events)
        except pynvml.NVMLError as error:
            log.debug("the event set went with its session", extra={"problem": str(error)})


def _register(handle: Handle, events: Any) -> bool:
    xid = pynvml.nvmlEventTypeXidCriticalError
    try:
        if not pynvml.nvmlDeviceGetSupportedEventTypes(handle) & xid:
            return False
        pynvml.nvmlDeviceRegisterEvents(handle, xid, events)
    except pynvml.NVMLError as error:
        log.debug("XIDs of one GPU cannot be watched", extra={"problem": str(error)})
        return False
    return True


def _address(handle: Handle) -> int | None:
    """Name a handle by where it points: an event carries a new pointer object to the same GPU."""
    return ctypes.cast(handle, ctypes.c_void_p).value
