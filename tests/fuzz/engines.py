"""Targets: the lines by which engines tell of their slots, and everything that only looks like one.

Knows the published wordings, and writes them itself: the product's own expressions are not asked what a line is.
"""

import re
from typing import Final

from exporter.llmster.events import LogEvent, PredictionInput, PredictionOutput, RuntimeLog, ServerLog
from exporter.pipeline.log_formats import engine
from exporter.pipeline.log_formats.engine import What
from exporter.pipeline.slot_state import Slot
from exporter.pipeline.slots import SlotMonitor
from tests.fuzz.choices import Choices

NOW: Final = 1_795_351_872_748
_STAMP: Final = "[2026-11-22 12:51:12][{level}][m] "
_LEVELS: Final = ("debug", "info", "warn", "error", "")
_BEFORE: Final = (
    "> ",
    '"',
    "{",
    "(",
    "you: ",
    "said slot ",
    "`",
    "\u00a0",
    "\u200b",
    "#",
    "[x]",
    "[DEBUG] ",
    "II ",
)
"""What stands before an engine line that somebody quotes."""
_AFTER: Final = ("!", '"', "}", " and so on", "\u00a0", "\t|", "x", "\0", " \N{GRINNING FACE}")
_SPOOFED: Final = 316
_MUTATIONS: Final = (
    "", " ", "  ", "0", "7", "9" * 9, "9" * 17, "\u0663", "\u00b2", "\uff11", "\n", "\r", "|", "-", ".", "e9", "\0",
    "I ", "0.01.234.567 ", "slot ", "_", "\N{GREEK SMALL LETTER MU}",
)  # fmt: skip


def _line(choices: Choices, slot: int, task: int) -> str:
    """Write one engine line in one of the published wordings."""
    head = f"id  {slot} | task {task} | "
    return choices.pick(
        (
            f"slot launch_slot_: {head}processing task, is_child = 0",
            f"slot launch_slot_: {head}processing task",
            f"slot print_timing: {head}n_gen = 276, tg = 28.66 t/s, tg_3s = 30.85 t/s",
            f"slot print_timing: {head}n_decoded = 276, tg =  28.66 t/s",
            (
                f"slot print_timing: {head}prompt processing, n_tokens = 14336, progress = 0.21, t = 15.95 s / "
                "898.87 tokens per second"
            ),
            f"slot update_slots: {head}prompt processing progress, n_past = 33, n_tokens = 33, progress = 1.000000",
            f"slot      release: {head}stop processing: n_tokens = 3553, truncated = 0",
            "srv  update_slots: all slots are idle",
        )
    )


def _runtime(message: str, at_ms: int, level: str = "debug") -> RuntimeLog:
    return RuntimeLog(at_ms, level, message, "llama.cpp", "2.41.0", "llama.cpp", "m", "r", 7)


def spoofs(choices: Choices) -> None:
    """Text that holds an engine line, but is none, changes nothing: neither quoted, nor longer, nor below others."""
    monitor = SlotMonitor()
    monitor.keep_only({"m"})
    monitor.add(_runtime("slot launch_slot_: id 0 | task 1 | processing task", NOW))
    before = monitor.slots("m")
    for _ in range(1 + choices.upto(5)):
        event = _spoof(choices)
        assert monitor.add(event) is None, f"{event} is not a crash"
        assert monitor.slots("m") == before, f"{event} passed for an engine line"
        assert monitor.instances() == ["m"], event
        assert not monitor.unattributed, event


def _spoof(choices: Choices) -> LogEvent:
    line = _line(choices, choices.upto(3), _SPOOFED)
    fatal = f"The model has crashed without additional information. (Exit code: {choices.upto(255)})"
    manner = choices.upto(3)
    if manner == 0:
        text = choices.pick(_BEFORE) + choices.pick((line, fatal))
    elif manner == 1:
        text = line + choices.pick(_AFTER)
    elif manner == 2:
        text = f"{choices.pick(_BEFORE)}{choices.text(60)}\n{line}\n{fatal}"
    else:
        text = _BEFORE[choices.upto(6)] + choices.text(30) + line + choices.text(30)
    level = choices.pick(_LEVELS)
    stamped = choices.pick(_LEVELS[1:]).upper()
    events: tuple[LogEvent, ...] = (
        PredictionOutput(NOW + 1, "m", line + "\n" + text, None),
        PredictionInput(NOW + 1, "m", "", line),
        ServerLog(NOW + 1, level, text),
        ServerLog(NOW + 1, level, _STAMP.format(level="DEBUG") + text),
        # A whole engine line, but in the words of another level than the engines' own.
        ServerLog(NOW + 1, choices.pick(_LEVELS), _STAMP.format(level=stamped) + line),
        ServerLog(NOW + 1, choices.pick(_LEVELS[1:]), _STAMP.format(level="DEBUG") + line),
        ServerLog(NOW + 1, "debug", line),
        _runtime(
            text.partition("\n")[0], NOW + 1, level
        ),  # what follows in an engine's event is the engine's
    )
    return choices.pick(events)


def lines(choices: Choices) -> None:
    """No text raises; a line with any change to it either says the same, or nothing, or what it now says."""
    line = _line(choices, choices.upto(600), choices.upto(60_000))
    for _ in range(choices.upto(3)):
        at = choices.upto(len(line))
        kept = at + choices.upto(2)
        line = line[:at] + choices.pick(_MUTATIONS) + line[kept:]
    read = engine.read(line)
    if read is None:
        return
    assert "\n" not in line, repr(line)
    assert line.isascii(), f"{line!r}: no engine writes such digits"
    if read.slot is not None:
        assert f" {read.slot} | task {read.task} | " in re.sub(r" 0+(?=\d)", " ", line), (line, read)
    for value in read.values:
        if value is not None and read.what is not What.STARTED:
            assert 0 <= float(value) < 10**12, (line, read)


def slots(choices: Choices) -> None:
    """Slots follow what engines say, whichever of the two logs says it, once or twice."""
    once, twice = SlotMonitor(), SlotMonitor()
    expected: dict[int, Slot] = {}
    tasks = 0
    now = NOW
    for _ in range(choices.upto(40)):
        now += choices.upto(300)
        number = choices.upto(3)
        current = expected.get(number)
        action = choices.upto(4)
        if action == 0 or current is None or not current.busy:
            tasks += 1
            line = f"slot launch_slot_: id  {number} | task {tasks} | processing task"
            after = Slot(busy=True, task=tasks, progress_ms=now)
        elif action == 1:
            line = f"slot release: id  {number} | task {current.task} | stop processing"
            after = Slot(busy=False, task=current.task, progress_ms=now)
        elif action == 2:
            line = (
                f"slot print_timing: id  {number} | task {current.task} | n_gen = 276, tg = 28.66 t/s, "
                "tg_3s = 30.85 t/s"
            )
            after = Slot(
                busy=True, task=current.task, prompt_progress=1.0, tokens_per_second=30.85, progress_ms=now
            )
        elif action == 3:
            line = (
                f"slot print_timing: id  {number} | task {current.task} | prompt processing, n_tokens =  14336, "
                "progress = 0.21, t =  15.95 s / 898.87 tokens per second"
            )
            after = Slot(
                busy=True,
                task=current.task,
                prompt_progress=0.21,
                tokens_per_second=current.tokens_per_second,
                prefill_tokens_per_second=898.87,
                context_tokens=14336,
                progress_ms=now,
            )
        else:
            _all_idle(once, twice, expected, now)
            continue
        expected[number] = after
        once.add(_runtime(line, now))
        copies: list[LogEvent] = [
            _runtime(line, now),
            ServerLog(now, "debug", _STAMP.format(level="DEBUG") + line),
        ]
        for copy in copies if choices.flag() else copies[::-1]:
            twice.add(copy)
        assert once.slots("m") == expected, (line, once.slots("m"), expected)
        assert twice.slots("m") == expected, (line, twice.slots("m"), expected)
    assert once.last_progress_ms("m") == max((slot.progress_ms for slot in expected.values()), default=None)


def _all_idle(once: SlotMonitor, twice: SlotMonitor, expected: dict[int, Slot], now: int) -> None:
    """Say that every slot is idle, which ends what each was busy with."""
    for number, slot in expected.items():
        if slot.busy:
            expected[number] = Slot(busy=False, task=slot.task, progress_ms=now)
    for monitor in (once, twice, twice):
        monitor.add(_runtime("srv  update_slots: all slots are idle", now))
    assert once.slots("m") == twice.slots("m") == expected
