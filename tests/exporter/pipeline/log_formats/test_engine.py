"""Lines of llama-server: every known wording is read whole, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.log_formats import engine
from exporter.pipeline.log_formats.engine import EngineLine, What
from tests.exporter.pipeline.engine_lines import DECODE, LAUNCH, PROMPT, RELEASE
from tests.exporter.pipeline.engine_replay import NAMES, recording

SLOT = "slot print_timing: id  1 | task 916 | "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("slot launch_slot_: id 0 | task 316 | processing task", EngineLine(What.LAUNCHED, 0, 316, (None,))),
        (LAUNCH, EngineLine(What.LAUNCHED, 0, 316, ("0",))),
        (LAUNCH[:-1] + "1", EngineLine(What.LAUNCHED, 0, 316, ("1",))),
        ("1.11.544.915 I " + LAUNCH, EngineLine(What.LAUNCHED, 0, 316, ("0",), 71_544)),
        (" 26.26.871.357 I " + LAUNCH, EngineLine(What.LAUNCHED, 0, 316, ("0",), 1_586_871)),
        ("W " + LAUNCH, EngineLine(What.LAUNCHED, 0, 316, ("0",))),
        (PROMPT, EngineLine(What.PROMPT, 0, 316, ("14336", "0.21", "898.87"))),
        (
            (
                "slot update_slots: id  0 | task 0 | prompt processing progress, n_past = 33, n_tokens = 33, "
                "progress = 1.000000"
            ),
            EngineLine(What.PROMPT, 0, 0, ("33", "1.000000")),
        ),
        (DECODE, EngineLine(What.DECODE, 0, 316, ("276", "28.66", "30.85"))),
        (
            SLOT + "n_decoded =    276, tg =  28.66 t/s",
            EngineLine(What.DECODE, 1, 916, ("276", "28.66", None)),
        ),
        ("slot release: id 0 | task 0 | stop processing...", EngineLine(What.RELEASED, 0, 0)),
        (RELEASE, EngineLine(What.RELEASED, 0, 316, ("3553", "0"))),
        (
            SLOT
            + "prompt eval time =      23.05 ms /    47 tokens (    0.49 ms per token,  2039.40 tokens per second)",
            EngineLine(What.PROMPT_DONE, 1, 916, ("23.05", "47")),
        ),
        (
            SLOT
            + "       eval time =     595.32 ms /    30 tokens (   20.53 ms per token,    48.71 tokens per second)",
            EngineLine(What.DECODE_DONE, 1, 916, ("595.32", "30")),
        ),
        (
            (
                "slot get_availabl: id  3 | task -1 | selected slot by LCP similarity, f_sim_best = 0.500 "
                "(> 0.100 thold), f_keep = 0.009"
            ),
            EngineLine(What.SELECTED, 3, -1),
        ),
        (
            "slot   operator(): id  1 | task 1 | new prompt, n_ctx_slot = 512, n_keep = 17, task.n_tokens = 112",
            EngineLine(What.PROMPT_SIZE, 1, 1, ("512", "112")),
        ),
        (
            "slot   operator(): id  1 | task 1 | cached n_tokens = 96, memory_seq_rm [96, end)",
            EngineLine(What.CACHED, 1, 1, ("96",)),
        ),
        (
            "slot   operator(): id  1 | task 1 | slot context shift, n_keep = 17, n_left = 494, n_discard = 247",
            EngineLine(What.SHIFTED, 1, 1, ("247",)),
        ),
        (
            SLOT + "draft acceptance = 0.95620 (  131 accepted /   137 generated), mean len =  8.28",
            EngineLine(What.DRAFTED, 1, 916, ("131", "137")),
        ),
        ("srv  update_slots: all slots are idle", EngineLine(What.ALL_IDLE)),
        (
            "srv    load_model: initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'true'",
            EngineLine(What.STARTED, values=("4", "8192", "true")),
        ),
        ("srv    operator(): operator(): cleaning up before exit...", EngineLine(What.ENDED)),
        (
            "srv    send_error: task id = 4, error: Context size has been exceeded.",
            EngineLine(What.CONTEXT_EXCEEDED, None, 4),
        ),
        (
            (
                "srv    send_error: task id = 923, error: request (1006 tokens) exceeds the available context size "
                "(512 tokens), try increasing it"
            ),
            EngineLine(What.TOO_LARGE, None, 923, ("1006", "512")),
        ),
        ("srv send_error: task id = 13, error: Failed to initialize", EngineLine(What.TASK_FAILED, None, 13)),
        ("srv          stop: cancel task, id_task = 450", EngineLine(What.CANCELLED, None, 450)),
        (
            "srv  process_sing: failed to launch slot with task, id_task = 13",
            EngineLine(What.NOT_LAUNCHED, None, 13),
        ),
        (
            "srv  process_sing: no slot is available, defer task, id_task = 7",
            EngineLine(What.DEFERRED, None, 7),
        ),
        ("srv  log_server_r: done request: POST /v1/x 127.0.0.1 200", EngineLine(What.HTTP, values=("200",))),
    ],
)
def test_every_wording_is_read(line: str, expected: EngineLine) -> None:
    assert engine.read(line) == expected
    assert engine.read(line + " ") == expected
    assert engine.begins(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "slot print_timing: id  2 | task 6 | ",
        "slot launch_slot_: id  0 | task 1 | processing task quickly",
        "slot launch_slot_: id  512 | task 1 | processing task",
        "  slot launch_slot_: id  0 | task 1 | processing task",
        "> slot launch_slot_: id  0 | task 1 | processing task",
        "slot launch_slot_: id  0 | task 1 | processing task\nx",
        "slot process_token: id  0 | task 0 | n_decoded = 1, n_remaining = -1, next token: 42 'tg'",
        "Prompt cache restore: cached_tokens=6 uncached_tokens=7",
        "slot launch_slot_: id  0 | task 1 | processing task" + " " * 600,
    ],
)
def test_any_other_wording_is_not(line: str) -> None:
    assert engine.read(line) is None


@pytest.mark.parametrize("line", [LAUNCH, PROMPT, DECODE, RELEASE])
def test_digits_no_engine_writes_make_it_another_line(line: str) -> None:
    for digit in "0123456789":
        if digit in line:
            assert engine.read(line.replace(digit, chr(0x660 + int(digit)))) is None


WORDS = ("launch_slot_: id", "release:", "eval time", "prompt processing", "n_gen", "all slots", "send_error")


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_line_about_a_launch_a_release_a_prompt_or_a_rate_is_read(name: str) -> None:
    lines = [line for _, line in recording(name).lines if any(word in line for word in WORDS)]
    assert lines
    unread = [line for line in lines if engine.read(line) is None and line[:1].isdigit()]
    assert [line for line in unread if "sampler" not in line and "got exception" not in line] == []


@given(st.sampled_from([LAUNCH, PROMPT, DECODE, "0.05.247.527 I " + RELEASE]), st.integers(0, 100))
def test_every_beginning_of_a_line_may_begin_one(line: str, length: int) -> None:
    assert engine.may_begin(line[:length])


@pytest.mark.parametrize("text", ["k 6 | processing", "47.636.12 I slot", "x", " | task", "AMX is not ready"])
def test_the_rest_of_a_line_does_not_begin_one(text: str) -> None:
    assert not engine.begins(text)
