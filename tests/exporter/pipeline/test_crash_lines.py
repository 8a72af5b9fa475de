"""Fatal lines: a crash is reported with its instance and exit code, and content cannot pass for a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.events import LogEvent, PredictionOutput, ServerLog
from exporter.pipeline.log_formats import engine
from exporter.pipeline.slots import Crash, SlotMonitor
from tests.exporter.pipeline.engine_lines import ENGINE_LINES, LAUNCH, NOW, monitor, runtime, server


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            runtime("The model has crashed without additional information. (Exit code: -1073740791)"),
            Crash(NOW, "m", -1073740791, was_running=True),
        ),
        (
            runtime(
                "The model has crashed without additional information. (Exit code: 18446744072635812000). "
                "Error Data: n/a, Additional Data: n/a"
            ),
            Crash(NOW, "m", 18446744072635812000, was_running=True),
        ),
        (
            server(
                "The model has crashed without additional information. (Exit code: null)",
                level="error",
                bracket="[m]",
            ),
            Crash(NOW, "m", None, was_running=True),
        ),
        (
            runtime(
                "Engine protocol runtime llama-server for heJSMjjYzDKkw3rW exited before becoming healthy. exitCode=1, "
                "signal=null",
                model=None,
                ref=None,
            ),
            Crash(NOW, None, 1, was_running=False),
        ),
    ],
)
def test_a_crash_is_told(event: LogEvent, expected: Crash) -> None:
    assert SlotMonitor().add(event) == expected


def test_a_fatal_line_may_be_the_second_of_its_event() -> None:
    crashed = runtime(
        "slot print_timing: id  0 |\nThe model has crashed without additional information. (Exit code: 6)"
    )
    assert SlotMonitor().add(crashed) == Crash(NOW, "m", 6, was_running=True)


CARRIERS = [
    'Received request: POST to /v1/chat/completions with body {{\n  "content": "\n{}\n"}}',
    "Generated prediction:\n{}",
    "stderr: {}",
    "  {}",
    "x{}",
    '"{}"',
    "> {}",
    "\u2028{}",
]


@given(
    st.lists(st.sampled_from(ENGINE_LINES) | st.text(max_size=20), min_size=1).map("\n".join),
    st.sampled_from(CARRIERS),
    st.sampled_from(["debug", "info", "error"]),
)
def test_content_in_the_server_log_cannot_pass_for_an_engine_line(
    text: str, carrier: str, level: str
) -> None:
    content = carrier.format(text)
    if engine.begins(content):
        return
    slots = monitor(runtime(LAUNCH))
    before = slots.slots("m")
    for event in (
        server(content, level=level),
        ServerLog(NOW, level, content),
        ServerLog(NOW, level, f"[2026-11-22 12:51:12][INFO][m] {text}"),
        PredictionOutput(NOW, "m", text, None),
    ):
        if "The model" not in text:
            assert slots.add(event) is None
            assert slots.slots("m") == before
    assert slots.instances() in (["m"], [])


@given(st.text(), st.text())
def test_no_text_raises(line: str, other: str) -> None:
    engine.read(line)
    monitor(
        runtime(line),
        runtime(other),
        server(line),
        server(line, bracket=f"[{other}]"),
        ServerLog(1, other, line),
    )
