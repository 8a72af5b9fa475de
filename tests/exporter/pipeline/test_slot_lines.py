"""Engine lines: every known wording is read, from either log, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import LogEvent, PredictionOutput, ServerLog
from exporter.pipeline.slots import CrashLine, SlotLine, SlotMonitor, parse_line
from tests.exporter.pipeline.engine_lines import (
    DECODE,
    ENGINE_LINES,
    LAUNCH,
    NOW,
    PROMPT,
    RELEASE,
    monitor,
    runtime,
    server,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("slot launch_slot_: id 0 | task 316 | processing task", SlotLine(0, 316, launched=True)),
        (LAUNCH, SlotLine(0, 316, launched=True)),
        ("1.11.544.915 I slot launch_slot_: id  0 | task 0 | processing task", SlotLine(0, 0, launched=True)),
        (PROMPT, SlotLine(0, 316, prompt_progress=0.21)),
        (
            (
                "slot update_slots: id  0 | task 0 | prompt processing progress, n_past = 33, n_tokens = 33, "
                "progress = 1.000000"
            ),
            SlotLine(0, 0, prompt_progress=1.0),
        ),
        (DECODE, SlotLine(0, 316, tokens_per_second=30.85)),
        (
            "slot print_timing: id  1 | task 916 | n_decoded =    276, tg =  28.66 t/s",
            SlotLine(1, 916, tokens_per_second=28.66),
        ),
        ("slot release: id 0 | task 0 | stop processing...", SlotLine(0, 0, released=True)),
        (RELEASE, SlotLine(0, 316, released=True)),
        (PROMPT.replace("0.21", "1.02"), SlotLine(0, 316, prompt_progress=1.0)),
        (LAUNCH + " " * (512 - len(LAUNCH)), SlotLine(0, 316, launched=True)),
        ("srv  update_slots: all slots are idle", SlotLine(None)),
        ("srv update_slots: all slots are idle", SlotLine(None)),
    ],
)
def test_every_published_wording_is_read(line: str, expected: SlotLine) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "slot get_availabl: id  0 | task -1 | selected slot by LRU, t_last = -1",
        "slot print_timing: id  2 | task 6 | ",
        "slot launch_slot_: id  0 | task 1 | processing task quickly",
        " slot launch_slot_: id  0 | task 1 | processing task",
        "> slot launch_slot_: id  0 | task 1 | processing task",
        "slot launch_slot_: id  0 | task 1 | processing task\nx",
        "slot process_token: id  0 | task 0 | n_decoded = 1, n_remaining = -1, next token: 42 'tg'",
        "Prompt cache restore: cached_tokens=6 uncached_tokens=7",
        "slot launch_slot_: id  0 | task 1 | processing task" + " " * 600,
    ],
)
def test_any_other_wording_is_not(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            runtime("The model has crashed without additional information. (Exit code: -1073740791)"),
            CrashLine(NOW, "m", -1073740791, was_running=True),
        ),
        (
            runtime(
                "The model has crashed without additional information. (Exit code: 18446744072635812000). "
                "Error Data: n/a, Additional Data: n/a"
            ),
            CrashLine(NOW, "m", 18446744072635812000, was_running=True),
        ),
        (
            server(
                "The model has crashed without additional information. (Exit code: null)",
                level="error",
                bracket="[m]",
            ),
            CrashLine(NOW, "m", None, was_running=True),
        ),
        (
            runtime(
                "Engine protocol runtime llama-server for heJSMjjYzDKkw3rW exited before becoming healthy. exitCode=1, "
                "signal=null",
                model=None,
                ref=None,
            ),
            CrashLine(NOW, None, 1, was_running=False),
        ),
    ],
)
def test_a_crash_is_told(event: LogEvent, expected: CrashLine) -> None:
    assert SlotMonitor().add(event) == expected


CARRIERS = [
    'Received request: POST to /v1/chat/completions with body {{\n  "content": "\n{}\n"}}',
    "Generated prediction:\n{}",
    "stderr: {}",
    " {}",
    "x{}",
    '"{}"',
    "{} and more",
    "> {}",
    "\n{}",
    "\u2028{}",
]


@given(
    st.lists(st.sampled_from(ENGINE_LINES) | st.text(max_size=20), min_size=1).map("\n".join),
    st.sampled_from(CARRIERS),
    st.sampled_from(["debug", "info", "error"]),
)
def test_content_cannot_pass_for_an_engine_line(text: str, carrier: str, level: str) -> None:
    content = carrier.format(text)
    if parse_line(content.partition("\n")[0]) is not None:
        return
    slots = monitor(runtime(LAUNCH))
    before = slots.slots("m")
    for event in (
        server(content, level=level),
        ServerLog(NOW, level, content),
        ServerLog(NOW, level, f"[2026-11-22 12:51:12][INFO][m] {text}"),
        runtime(content),
        PredictionOutput(NOW, "m", text, None),
    ):
        if not content.strip().startswith(("The model", "Engine protocol")):
            assert slots.add(event) is None
    assert slots.slots("m") == before
    assert slots.instances() == ["m"]


@pytest.mark.parametrize("line", [LAUNCH, PROMPT, DECODE, RELEASE])
def test_digits_no_engine_writes_make_it_another_line(line: str) -> None:
    assert parse_line(line) is not None
    for digit in "0123456789":
        if digit in line:
            assert parse_line(line.replace(digit, chr(0x660 + int(digit)))) is None


@given(st.text(), st.text())
def test_no_text_raises(line: str, other: str) -> None:
    parse_line(line)
    monitor(runtime(line), server(line), server(line, bracket=f"[{other}]"), ServerLog(1, other, line))
