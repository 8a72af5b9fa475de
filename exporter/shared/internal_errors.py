"""Counts exceptions that a bug of DaemonPulse caused, and logs each kind once.

The caller catches the exception where it costs the least.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

log = logging.getLogger(__name__)

MAX_KINDS: Final = 100
"""Kinds that are logged, one line each; more than these are only counted."""


class InternalErrors:
    """The internal errors of one part of the exporter, by stage. Every stage starts at 0."""

    def __init__(self, *stages: str) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(stages, 0))
        self._kinds: set[tuple[str, str, str]] = set()
        self._catches: dict[str, _Catch] = {}

    def catch(self, stage: str) -> _Catch:
        """Return a context that ends at an exception, and notes it."""
        made = self._catches.get(stage)
        if made is None:
            made = self._catches[stage] = _Catch(self, stage)
        return made

    def note(self, stage: str, error: Exception) -> None:
        """Count an error; log it if no error of this stage, type and place was logged before.

        The error's message stays out of the log: it may quote a prompt.
        """
        self.counts[stage] += 1
        kind = (stage, type(error).__name__, _place(error))
        if kind in self._kinds or len(self._kinds) >= MAX_KINDS:
            return
        self._kinds.add(kind)
        log.error("internal error: %s", kind[1], extra={"stage": stage, "place": kind[2]})


class _Catch:
    """Counts an exception and continues after the `with` block. Holds no state, so it may be nested."""

    __slots__ = ("_errors", "_stage")

    def __init__(self, errors: InternalErrors, stage: str) -> None:
        self._errors = errors
        self._stage = stage

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False  # cancellation and interrupts pass
        self._errors.note(self._stage, error)
        return True


def _place(error: Exception) -> str:
    """Name the innermost line of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} {code.co_name}"
