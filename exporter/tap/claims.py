"""Joins the tap's report of a request with the log stream's, so that nothing counts twice.

Pure but for the clock it is given. The daemon's log names no request, so the two are matched by what both know: the
model, the token counts, the length of the text, how it ends, and when. Where that agrees they are joined at once. What
is only alike waits, for what it is more alike to may still come.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from exporter.pipeline.output.segments import Kind
from exporter.pipeline.predictions import FinishedReason, Prediction
from exporter.tap.merge import alone, estimated_share, merged
from exporter.tap.report import Report

LOG_WAITS_S: Final = 3.0
"""A log report waits so long for the tap's: a fetch takes a fraction of a second."""
TAP_WAITS_S: Final = 10.0
LOG_SPEAKS_S: Final = 600.0
"""A log stream counts as one with predictions for so long after its last one."""
MAX_WAITING: Final = 20_000
MAX_LOOKED_AT: Final = 512
"""Of those that wait under one model, the oldest."""
CLOCK_SKEW_S: Final = 2.0
"""Between the daemon's timestamps and the tap's clock."""
_SLACK_CHARS: Final = 32
"""White space at the ends of a text, which APIs trim."""
_SLACK_SHARE: Final = 0.05
_COMPOUND_ROUTES: Final = frozenset({"/api/v1/chat", "/v1/responses"})
"""Here the daemon itself runs tools and lets the model go on: several predictions in one request."""
_WRITTEN: Final = frozenset({Kind.REASONING, Kind.ANSWER})
_NS_PER_S: Final = 1e9
_COUNTS: Final = ("input", "output")
_UNSURE: Final = 1e6
"""Added to a distance, which is seconds and characters."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A prediction of the log, or a report of the tap, that waits for the other."""

    until_s: float
    chars: int
    prediction: Prediction | None = None
    report: Report | None = None


class _Waiting:
    """Entries by model, in the order they came."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[_Entry, None]] = {}
        self._in_order: deque[tuple[str, _Entry]] = deque()
        self.size = 0

    def put(self, model: str, entry: _Entry) -> None:
        self._by_model.setdefault(model, {})[entry] = None
        self._in_order.append((model, entry))
        self.size += 1

    def of(self, models: set[str] | None) -> Iterator[tuple[str, _Entry]]:
        """Look through those of some models, None for all."""
        for model in tuple(self._by_model) if models is None else models:
            entries = self._by_model.get(model)
            if entries:
                for index, entry in enumerate(entries):
                    if index == MAX_LOOKED_AT:
                        break
                    yield model, entry

    def take(self, model: str, entry: _Entry) -> None:
        entries = self._by_model[model]
        del entries[entry]
        if not entries:
            del self._by_model[model]
        self.size -= 1

    def expired(self, now_s: float) -> list[_Entry]:
        """Take out the entries that have waited long enough, the oldest first."""
        expired: list[_Entry] = []
        while self._in_order:
            model, entry = self._in_order[0]
            is_waiting = entry in self._by_model.get(model, ())
            if is_waiting and entry.until_s > now_s:
                break
            self._in_order.popleft()
            if is_waiting:
                self.take(model, entry)
                expired.append(entry)
        return expired


class Claims:
    """The matching of one daemon's requests."""

    def __init__(
        self,
        daemon: str,
        *,
        emit: Callable[[Prediction], None],
        settled: Callable[[Report, Prediction | None], None],
        estimate_error: Callable[[str, float], None],
        clock: Callable[[], float],
        model_key: Callable[[str], str] = lambda identifier: identifier,
    ) -> None:
        """`emit` gets each prediction once; `settled` each report with the log's prediction of it, if one was found.

        `estimate_error` gets the model and by how much its estimated share of reasoning was off, 0 to 1.
        `clock` gives monotonic seconds, `model_key` maps an instance identifier to the model's key.
        """
        self.outcomes: Counter[str] = Counter()
        self._daemon = daemon
        self._emit = emit
        self._settled = settled
        self._estimate_error = estimate_error
        self._clock = clock
        self._model_key = model_key
        self._logged = _Waiting()
        self._tapped = _Waiting()
        self._log_spoke_at = float("-inf")

    @property
    def waiting(self) -> int:
        """Predictions and reports that wait for the other."""
        return self._logged.size + self._tapped.size

    def take_logged(self, prediction: Prediction, *, tap_is_up: bool) -> None:
        """Take a prediction of the log stream."""
        now_s = self._log_spoke_at = self._clock()
        entry = _Entry(now_s + LOG_WAITS_S, _chars_of_prediction(prediction), prediction)
        if self._join_logged(entry, sure=True):
            return
        if tap_is_up and self._logged.size < MAX_WAITING:
            self._logged.put(self._model_key(prediction.model), entry)
        elif not self._join_logged(entry, sure=False):
            self._release(prediction)

    def take_report(self, report: Report) -> None:
        """Take a request of the tap in which a model wrote."""
        if report.route in _COMPOUND_ROUTES and report.tools:
            self.outcomes["compound"] += 1
            self._settled(report, None)
            return
        entry = _Entry(self._clock() + TAP_WAITS_S, _chars_of_report(report), report=report)
        if self._join_tapped(entry, sure=True):
            return
        if self._tapped.size < MAX_WAITING:
            self._tapped.put(self._model_key(report.model) if report.model else "", entry)
        else:
            self._give_up(report)

    def expire(self, *, everything: bool = False) -> None:
        """Let go of what has waited long enough. To be called about once a second, and at the end."""
        now_s = float("inf") if everything else self._clock()
        for entry in self._logged.expired(now_s):
            if entry.prediction is not None and not self._join_logged(entry, sure=False):
                self._release(entry.prediction)
        for entry in self._tapped.expired(now_s):
            if entry.report is not None and not self._join_tapped(entry, sure=False):
                self._give_up(entry.report)

    def _join_logged(self, entry: _Entry, *, sure: bool) -> bool:
        """Join a log report with the closest of the tap's; `sure` takes only one that agrees in everything."""
        prediction = entry.prediction
        if prediction is None:
            return False
        models = {self._model_key(prediction.model), prediction.model, ""}
        best = _closest((_distance(entry, other), model, other) for model, other in self._tapped.of(models))
        if best is None or best[2].report is None or (sure and best[0] >= _UNSURE):
            return False
        self._tapped.take(best[1], best[2])
        self._match(prediction, best[2].report)
        return True

    def _join_tapped(self, entry: _Entry, *, sure: bool) -> bool:
        """Join a report of the tap with the closest of the log's."""
        report = entry.report
        if report is None:
            return False
        models = {report.model, self._model_key(report.model)} if report.model else None
        best = _closest((_distance(other, entry), model, other) for model, other in self._logged.of(models))
        if best is None or best[2].prediction is None or (sure and best[0] >= _UNSURE):
            return False
        self._logged.take(best[1], best[2])
        self._match(best[2].prediction, report)
        return True

    def _match(self, prediction: Prediction, report: Report) -> None:
        self.outcomes["matched"] += 1
        exact, estimated = report.reasoning_share, estimated_share(prediction)
        if exact is not None and estimated is not None and not report.cancelled:
            self._estimate_error(prediction.model, abs(exact - estimated))
        both = merged(prediction, report)
        self._emit(both)
        self._settled(report, both)

    def _release(self, prediction: Prediction) -> None:
        self.outcomes["log_only"] += 1
        self._emit(prediction)

    def _give_up(self, report: Report) -> None:
        """Count what was not found in the log, where the log has no predictions at all."""
        if self._clock() - self._log_spoke_at < LOG_SPEAKS_S:
            self.outcomes["unmatched"] += 1
        else:
            self.outcomes["tap_only"] += 1
            self._emit(alone(self._daemon, report))
        self._settled(report, None)


def _closest(found: Iterable[tuple[float | None, str, _Entry]]) -> tuple[float, str, _Entry] | None:
    best: tuple[float, str, _Entry] | None = None
    for distance, model, entry in found:
        if distance is not None and (best is None or distance < best[0]):
            best = distance, model, entry
    return best


def _distance(logged: _Entry, tapped: _Entry) -> float | None:
    """Say how far apart a log report and a tap report of the same model are; None: they are not of one request.

    From _UNSURE on they are only alike.
    """
    prediction, report = logged.prediction, tapped.report
    if prediction is None or report is None:
        return None
    off_s = abs(prediction.end_ns - report.end_ns) / _NS_PER_S
    begun_s = (prediction.end_ns - report.start_ns) / _NS_PER_S
    if off_s > CLOCK_SKEW_S and not -CLOCK_SKEW_S < begun_s < report.e2e_s:
        return None
    is_whole = not report.cancelled and not report.cut
    pairs = [(report.usage.input, prediction.prompt_tokens)]
    if is_whole:
        pairs.append((report.usage.output, prediction.predicted_tokens))
    known = [one == other for one, other in pairs if one is not None and other is not None]
    excess = tapped.chars - logged.chars if report.phases else 0
    slack = _SLACK_CHARS + _SLACK_SHARE * logged.chars
    if not all(known) or excess > slack or (is_whole and excess < -slack):
        return None
    was_aborted = prediction.finished_reason is FinishedReason.ABORT
    both_known = bool(report.ending and prediction.ending)
    same_end = both_known and report.ending == prediction.ending
    if is_whole and not was_aborted and (same_end if both_known else len(known) == len(_COUNTS)):
        return off_s
    differs = is_whole and both_known and not same_end
    return _UNSURE + off_s + (abs(excess) if is_whole else 0) + (_SLACK_CHARS * 100 if differs else 0)


def _chars_of_prediction(prediction: Prediction) -> int:
    return sum(phase.end_char - phase.start_char for phase in prediction.phases if phase.kind in _WRITTEN)


def _chars_of_report(report: Report) -> int:
    return sum(phase.chars for phase in report.phases if phase.kind in _WRITTEN)
