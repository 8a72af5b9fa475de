"""Joins what the tap saw of a request with the log stream's report of the same one, so that nothing counts twice.

Pure but for the clock it is given. The daemon's log names no request, so the two are matched by what both know: the
model, the token counts, the length of the text, and when it ended. Each waits a few seconds for the other.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
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
"""For so long after a prediction in it, a log stream counts as one that tells of predictions."""
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
        """Take out what has waited long enough. All entries wait equally long, so the oldest comes first."""
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
        key = self._model_key(prediction.model)
        entry = _Entry(now_s + LOG_WAITS_S, _chars_of_prediction(prediction), prediction)
        best: tuple[float, str, _Entry] | None = None
        for model, other in self._tapped.of({key, prediction.model, ""}):
            best = _better(best, _distance(entry, other), model, other)
        if best is not None and best[2].report is not None:
            self._tapped.take(best[1], best[2])
            self._match(prediction, best[2].report)
        elif tap_is_up and self._logged.size < MAX_WAITING:
            self._logged.put(key, entry)
        else:
            self._release(prediction)

    def take_report(self, report: Report) -> None:
        """Take a request of the tap in which a model wrote."""
        if report.route in _COMPOUND_ROUTES and report.tools:
            self.outcomes["compound"] += 1
            self._settled(report, None)
            return
        entry = _Entry(self._clock() + TAP_WAITS_S, _chars_of_report(report), report=report)
        best: tuple[float, str, _Entry] | None = None
        models = {report.model, self._model_key(report.model)} if report.model else None
        for model, other in self._logged.of(models):
            best = _better(best, _distance(other, entry), model, other)
        if best is not None and best[2].prediction is not None:
            self._logged.take(best[1], best[2])
            self._match(best[2].prediction, report)
        elif self._tapped.size < MAX_WAITING:
            self._tapped.put(self._model_key(report.model) if report.model else "", entry)
        else:
            self._give_up(report)

    def expire(self, *, everything: bool = False) -> None:
        """Let go of what has waited long enough. To be called about once a second, and at the end."""
        now_s = float("inf") if everything else self._clock()
        for entry in self._logged.expired(now_s):
            if entry.prediction is not None:
                self._release(entry.prediction)
        for entry in self._tapped.expired(now_s):
            if entry.report is not None:
                self._give_up(entry.report)

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
        """Count what was not found in the log by itself, where the log does not tell of predictions at all."""
        if self._clock() - self._log_spoke_at < LOG_SPEAKS_S:
            self.outcomes["unmatched"] += 1
        else:
            self.outcomes["tap_only"] += 1
            self._emit(alone(self._daemon, report))
        self._settled(report, None)


def _better(
    best: tuple[float, str, _Entry] | None, distance: float | None, model: str, entry: _Entry
) -> tuple[float, str, _Entry] | None:
    if distance is None or (best is not None and best[0] <= distance):
        return best
    return distance, model, entry


def _distance(logged: _Entry, tapped: _Entry) -> float | None:  # noqa: PLR0911 - one line a reason
    """Say how far apart a log report and a tap report of the same model are; None: they are not of one request."""
    prediction, report = logged.prediction, tapped.report
    if prediction is None or report is None:
        return None
    off_s = abs(prediction.end_ns - report.end_ns) / _NS_PER_S
    begun_s = (prediction.end_ns - report.start_ns) / _NS_PER_S
    if off_s > CLOCK_SKEW_S and not -CLOCK_SKEW_S < begun_s < report.e2e_s:
        return None
    if _differ(report.usage.input, prediction.prompt_tokens):
        return None
    is_whole = not report.cancelled and not report.cut
    if is_whole and _differ(report.usage.output, prediction.predicted_tokens):
        return None
    if prediction.finished_reason is FinishedReason.ABORT and is_whole and report.error is None:
        off_s += (
            CLOCK_SKEW_S  # possible, as a model that is unloaded ends its streams; another one is likelier
        )
    if not report.phases:
        return off_s
    slack = _SLACK_CHARS + _SLACK_SHARE * logged.chars
    excess = tapped.chars - logged.chars
    if excess > slack or (is_whole and excess < -slack):
        return None
    return off_s + (abs(excess) / 10 if is_whole else 0.0)


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def _chars_of_prediction(prediction: Prediction) -> int:
    return sum(phase.end_char - phase.start_char for phase in prediction.phases if phase.kind in _WRITTEN)


def _chars_of_report(report: Report) -> int:
    return sum(phase.chars for phase in report.phases if phase.kind in _WRITTEN)
