"""The pre-flight: the numbers are right, experience counts, and what is not known is not guessed."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.preflight import (
    Gpu,
    Learned,
    MemoryReading,
    Need,
    SplitPlan,
    Verdict,
    judge,
)

GIB = 1024**3


def memory(
    *free: float, total: float = 24, held: Mapping[str, Mapping[int, int]] | None = None
) -> MemoryReading:
    gpus = tuple(Gpu(index, int(total * GIB), int(size * GIB)) for index, size in enumerate(free))
    return MemoryReading("test", gpus, held_by_instance=held or {})


def need(vram: float, *, passes: bool = True) -> Need:
    return Need(int(vram * GIB), int(vram * GIB), passes)


def verdict(
    vram: float, reading: MemoryReading | str, *, learned_ratio: float | None = None, **split: Any
) -> Verdict:
    learned = Learned(learned_ratio, 3) if learned_ratio is not None else None
    return judge(need(vram), reading, learned=learned, split=SplitPlan(**split)).verdict


@pytest.mark.parametrize(
    ("vram", "free", "split", "expected"),
    [
        (10, (20,), {}, Verdict.FITS),
        (19.5, (20,), {}, Verdict.TIGHT),
        (21, (20,), {}, Verdict.DOES_NOT_FIT),
        (20, (12, 12), {}, Verdict.FITS),
        (20, (20, 4), {}, Verdict.TIGHT),
        (20, (20, 4), {"strategy": "custom", "ratio": (9, 1)}, Verdict.FITS),
        (20, (22, 4), {"strategy": "priorityOrder", "priority": (0,)}, Verdict.FITS),
        (20, (20, 20), {"disabled": (1,)}, Verdict.TIGHT),
        (20, (15, 20), {"disabled": (1,)}, Verdict.DOES_NOT_FIT),
        (20, (24, 24), {"disabled": (0, 1)}, Verdict.DOES_NOT_FIT),
        (0, (0.1,), {}, Verdict.FITS),
    ],
)
def test_verdict_follows_the_split(
    vram: float, free: tuple[float, ...], split: dict[str, Any], expected: Verdict
) -> None:
    assert verdict(vram, memory(*free), **split) is expected


def test_the_learned_ratio_corrects_the_estimate_both_ways() -> None:
    assert verdict(22.92, memory(12), learned_ratio=0.45) is Verdict.FITS
    assert verdict(10, memory(12), learned_ratio=1.45) is Verdict.DOES_NOT_FIT


def test_what_a_replaced_instance_holds_counts_as_free() -> None:
    held = {"old": {0: 8 * GIB}}
    judged = judge(need(10), memory(4, held=held), learned=None, split=SplitPlan(), replace=("old",))
    assert judged.verdict is Verdict.FITS
    assert judged.gpus[0].freed_by_replace_bytes == 8 * GIB
    unknown = judge(need(10), memory(4), learned=None, split=SplitPlan(), replace=("old",))
    assert unknown.verdict is Verdict.DOES_NOT_FIT
    assert any("not known" in reason for reason in unknown.reasons)


def test_what_is_not_known_stays_unknown_with_its_reason() -> None:
    for judged in (
        judge("no estimate", memory(24), learned=None, split=SplitPlan()),
        judge(need(1), "no driver", learned=None, split=SplitPlan()),
        judge(need(1), MemoryReading("test", ()), learned=None, split=SplitPlan()),
    ):
        assert judged.verdict is Verdict.UNKNOWN
        assert judged.reasons


def test_a_load_the_daemons_guardrail_would_refuse_does_not_fit() -> None:
    judged = judge(need(1, passes=False), memory(24), learned=None, split=SplitPlan())
    assert judged.verdict is Verdict.DOES_NOT_FIT


def test_without_cards_the_ram_decides() -> None:
    reading = MemoryReading("test", (), host_available_bytes=8 * GIB)
    assert judge(need(4), reading, learned=None, split=SplitPlan()).verdict is Verdict.FITS
    assert judge(need(9), reading, learned=None, split=SplitPlan()).verdict is Verdict.DOES_NOT_FIT


cards = st.lists(st.floats(0, 80), min_size=1, max_size=8)
strategies = st.sampled_from(["evenly", "priorityOrder", "tensor", "custom"])


@given(vram=st.floats(0, 200), free=cards, strategy=strategies, ratio=st.lists(st.floats(0, 9), max_size=8))
def test_shares_add_up_and_more_free_memory_never_makes_it_worse(
    vram: float, free: list[float], strategy: str, ratio: list[float]
) -> None:
    split = SplitPlan(strategy=strategy, ratio=tuple(ratio))
    order = [Verdict.FITS, Verdict.TIGHT, Verdict.DOES_NOT_FIT]
    judged = judge(need(vram), memory(*free, total=80), learned=None, split=split)
    assert sum(card.needed_bytes for card in judged.gpus) == pytest.approx(judged.needed_bytes, abs=8)
    roomier = judge(need(vram), memory(*(size + 1 for size in free), total=80), learned=None, split=split)
    if strategy == "priorityOrder" and judged.verdict is Verdict.FITS:
        # The room may be on a card that comes earlier, which is then filled to the brim.
        assert roomier.verdict is not Verdict.DOES_NOT_FIT
    else:
        assert order.index(roomier.verdict) <= order.index(judged.verdict)
    json.dumps(judged.to_json(), allow_nan=False)
