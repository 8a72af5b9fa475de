"""Conversations: turns find each other by what was said, whatever a template strips, and no text is kept."""

import pytest

from exporter.llmster.events import (
    LogEvent,
)
from exporter.pipeline import conversations
from exporter.pipeline.predictions import (
    Prediction,
    PredictionBuilder,
)
from tests.exporter.pipeline.predicting import END, USER, given_input, given_output, predict


def chat(*turns: tuple[str, str], between: str = "") -> list[Prediction]:
    """Predict each (prompt, output) in turn; `between` is a stranger's prompt sent after each."""
    events: list[LogEvent] = []
    for number, (prompt, output) in enumerate(turns):
        at = END + 1000 * number
        events += [given_input(prompt, at), given_output(output, at)]
        if between:
            events += [given_input(between, at + 1), given_output("stranger", at + 1)]
    return [p for p in predict(*events, keep_content=True) if p.output != "stranger"]


def test_a_prompt_that_goes_on_after_prompt_and_output_is_the_next_turn() -> None:
    first = USER.format("What is 2 + 2?")
    second = f"{first}4.<|im_end|>\n{USER.format('And 3 + 3?')}"
    third = f"{second}6.<|im_end|>\n{USER.format('Thanks')}"
    one_, two, three = chat((first, "4."), (second, "6."), (third, "!"), between=USER.format("What is"))
    assert one_.conversation_id == two.conversation_id == three.conversation_id
    assert [p.turn for p in (one_, two, three)] == [1, 2, 3]
    assert one_.previous is None
    for before, after in ((one_, two), (two, three)):
        assert after.previous is not None
        assert after.previous.exact
        assert (after.previous.turn.trace_id, after.previous.turn.span_id) == (
            before.trace_id,
            before.span_id,
        )


# Each: what the template adds for the model, the output, how history shows it. Source: the templates named in `tags`.
STRIPPED = {
    "Qwen3": ("", "<think>\nhm\n</think>\n\nParis.", "Paris."),
    "Qwen3 thinking: opened by the prompt": ("<think>\n", "hm\n</think>\n\nParis.", "Paris."),
    "Qwen3 told not to think": ("<think>\n\n</think>\n\n", "Paris.", "Paris."),
    "Qwen3 tool loop: reasoning kept, trimmed": (
        "<think>\n",
        "hm \n\n</think>\nParis.",
        "<think>\nhm\n</think>\n\nParis.",
    ),
    "Gemma 4 told not to think": ("<|channel>thought\n<channel|>", "Paris.", "Paris."),
    "Gemma 4": ("", "<|channel>thought\nhm\n<channel|>Paris.", "Paris."),
    "Seed-OSS": ("", "<seed:think>hm</seed:think>\nParis.", "Paris."),
    "gpt-oss": (
        "<|start|>assistant",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris.<|return|>",
        "<|start|>assistant<|channel|>final<|message|>Paris.",
    ),
    "a call written anew": (
        "",
        '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"a":1}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
    ),
}


@pytest.mark.parametrize(("adds", "output", "history"), STRIPPED.values(), ids=STRIPPED)
def test_templates_that_strip_reasoning_from_history_still_link(adds: str, output: str, history: str) -> None:
    first = USER.format("Capital of France?")
    second = f"{first}{history}<|im_end|>\n{USER.format('And Italy?')}"
    before, after = chat((first + adds, output), (second + adds, "Rome."), between=USER.format("Capital of"))
    assert after.conversation_id == before.conversation_id
    assert after.previous is not None
    assert after.turn == 2


def test_strangers_who_began_alike_are_not_joined() -> None:
    first = USER.format("hi")
    mine = f"{first}Hello Ann!<|im_end|>\n{USER.format('x')}"
    theirs = f"{first}Hello Bob!<|im_end|>\n{USER.format('x')}"
    before, stranger, after = chat((first, "Hello Ann!"), (theirs, "?"), (mine, "!"))
    assert stranger.conversation_id != before.conversation_id
    assert after.conversation_id == before.conversation_id


def test_a_repeated_prompt_is_not_its_own_next_turn() -> None:
    first, again = chat((USER.format("hi"), "a"), (USER.format("hi"), "a"))
    assert again.previous is None
    assert again.conversation_id != first.conversation_id


def test_long_prompts_link_across_any_block_boundary() -> None:
    for length in (1, *range(90, 140), 1000, 4095, 4096):
        first = USER.format("é" * length)
        for answer in ("a", "b" * 500):
            second = f"{first}{answer}<|im_end|>\n{USER.format('next')}"
            _, after = chat((first, answer), (second, "c"))
            assert after.previous is not None, (length, len(answer))
            assert after.previous.exact


def test_conversations_are_bounded_and_the_oldest_is_forgotten_first() -> None:
    builder = PredictionBuilder("local", turns=10)
    firsts = [USER.format(f"question {number}") for number in range(30)]
    for number, prompt in enumerate(firsts):
        builder.add(given_input(prompt, END + number))
        builder.add(given_output("an answer", END + number))
    assert len(builder._conversations) == 10
    assert sum(map(len, builder._conversations._marks.values())) <= 20
    links = []
    for number in (0, 29):
        builder.add(given_input(f"{firsts[number]}an answer<|im_end|>\n{USER.format('more')}", END + 99))
        prediction = builder.add(given_output("x", END + 99))
        assert prediction is not None
        links.append(prediction.previous is not None)
    assert links == [False, True]


def test_no_text_is_kept_between_turns() -> None:
    builder = PredictionBuilder("local")
    builder.add(given_input(USER.format("CANARY-PROMPT " * 20)))
    builder.add(given_output("CANARY-OUTPUT " * 20))
    seen = (
        repr(builder._conversations._marks)
        + repr(builder._conversations._turns)
        + repr(builder._pairing.__dict__)
    )
    assert "CANARY" not in seen


def linked(first: str, output: str, second: str) -> bool | None:
    """Tell whether the second prompt continues the first: exactly, by its answer, or not at all."""
    _, after = chat((first, output), (second, "c"))
    return after.previous.exact if after.previous is not None else None


def test_a_link_says_whether_prompt_and_output_came_back_whole() -> None:
    first = USER.format("Capital of France?")
    assert linked(first, "Paris.", f"{first}Paris.<|im_end|>\nmore") is True
    assert linked(first, "<think>\nhm\n</think>\n\nParis.", f"{first}Paris.<|im_end|>\nmore") is False
    assert linked(first, " \nParis. \n", f"{first} \nParis.<|im_end|>\nmore") is True
    assert linked(first, "Paris.", f"{first}Paris.") is False, "it goes on where the output ended"


def test_half_a_pair_of_surrogates_costs_no_link() -> None:
    first = USER.format("cut \ud83d")
    assert linked(first, "\ud83d so", f"{first}\ud83d so<|im_end|>\nmore") is True
    assert linked(first, "<think>\nx\n</think>\n\n\ud83d so", f"{first}\ud83d so<|im_end|>\nmore") is False


@pytest.mark.parametrize(
    ("prompt", "expected"), [("1234567", None), ("12345678", False), ("123456789", False)]
)
def test_a_very_short_prompt_proves_nothing(prompt: str, expected: bool | None) -> None:  # noqa: FBT001
    assert linked(prompt, "<think>x</think>yes", f"{prompt}yes, and more") is expected


def test_a_tool_call_in_the_history_continues_only_a_turn_that_ended_in_one() -> None:
    first = USER.format("weather?")
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert linked(first, f"<think>\nx\n</think>\n\n{call}", f"{first}{call}<|im_end|>\nmore") is False
    assert linked(first, "<think>\nx\n</think>\n\nSunny.", f"{first}{call}<|im_end|>\nmore") is None


def test_of_many_that_share_a_beginning_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "_BUCKET", 4)  # two turns leave four marks
    firsts = [USER.format(f"question {number}") for number in range(3)]
    turns = [(first, "an answer") for first in firsts]
    nexts = [(f"{first}an answer<|im_end|>\nmore", "x" * 600) for first in firsts]
    first, *_ = chat(*turns, nexts[0])[3:]
    assert first.previous is None
    for number in (1, 2):
        *_, after = chat(*turns, nexts[number])
        assert after.previous is not None, number


def test_marks_that_are_forgotten_leave_nothing_behind() -> None:
    builder = PredictionBuilder("local", turns=3)
    for number in range(30):
        prompt = USER.format(f"{number}" * 400)
        builder.add(given_input(prompt, END + number))
        builder.add(given_output("an answer " * 60, END + number))
    kept = builder._conversations
    assert len(kept._marks) <= 6
    assert all(kept._marks.values())
    assert len(kept) == 3
