"""The pre-flight as a pure function: the numbers are right, experience counts, and nothing is guessed."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.domain.preflight import (
    Gpu,
    GpuPlan,
    Holder,
    Learned,
    MemoryReading,
    Need,
    Preflight,
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


def test_without_gpus_the_ram_decides() -> None:
    reading = MemoryReading("test", (), host_available_bytes=8 * GIB)
    assert judge(need(4), reading, learned=None, split=SplitPlan()).verdict is Verdict.FITS
    assert judge(need(9), reading, learned=None, split=SplitPlan()).verdict is Verdict.DOES_NOT_FIT


def plan(vram: float, reading: MemoryReading, *, replace: tuple[str, ...] = (), **split: Any) -> Preflight:
    return judge(need(vram), reading, learned=Learned(1.0, 3), split=SplitPlan(**split), replace=replace)


def needed(preflight: Preflight) -> list[float]:
    return [gpu.needed_bytes / GIB for gpu in preflight.gpus]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({}, [8, 8, 8]),
        ({"strategy": "tensor"}, [8, 8, 8]),
        ({"disabled": (1,)}, [12, 0, 12]),
        ({"strategy": "custom", "ratio": (2, 1, 1)}, [12, 6, 6]),
        ({"strategy": "custom", "ratio": (3, 1)}, [18, 6, 0]),
        ({"strategy": "custom", "ratio": (0, 0, 0)}, [8, 8, 8]),
        ({"strategy": "custom"}, [8, 8, 8]),
        ({"strategy": "evenly", "ratio": (2, 1, 1)}, [8, 8, 8]),
        ({"strategy": "custom", "ratio": (2, 1, 1), "disabled": (0,)}, [0, 12, 12]),
        ({"strategy": "priorityOrder"}, [10, 12, 2]),
        ({"strategy": "priorityOrder", "priority": (2, 0)}, [4, 0, 20]),
        ({"strategy": "priorityOrder", "priority": (2,)}, [4, 0, 20]),
        ({"strategy": "priorityOrder", "disabled": (1, 2)}, [24, 0, 0]),
        ({"disabled": (0, 1, 2)}, [0, 0, 0]),
    ],
)
def test_shares_follow_the_strategy(split: dict[str, Any], expected: list[float]) -> None:
    assert needed(plan(24, memory(10, 12, 20), **split)) == expected


def test_priority_order_counts_what_a_replaced_instance_frees_and_never_a_gpu_that_is_overfull() -> None:
    held = {"old": {0: 6 * GIB}}
    assert needed(plan(12, memory(4, 12, held=held), replace=("old",), strategy="priorityOrder")) == [10, 2]
    assert needed(plan(12, memory(-3, 12), strategy="priorityOrder")) == [0, 12]


def test_every_number_of_a_gpu_is_told() -> None:
    held = {"old": {0: 3 * GIB}, "older": {0: GIB, 1: 2 * GIB}, "kept": {0: 5 * GIB}}
    gpus = (Gpu(0, 24 * GIB, 8 * GIB, "A"), Gpu(1, 48 * GIB, 40 * GIB, "B"))
    holders = (Holder(0, 9 * GIB, 77, "llama-server", "old"),)
    reading = MemoryReading("nvml", gpus, holders, held, age_s=1.5)
    judged = plan(10, reading, replace=("old", "older"))
    assert judged.gpus == (
        GpuPlan(0, "A", 24 * GIB, 8 * GIB, 4 * GIB, 5 * GIB, 7 * GIB),
        GpuPlan(1, "B", 48 * GIB, 40 * GIB, 2 * GIB, 5 * GIB, 37 * GIB),
    )
    assert (judged.holders, judged.eject_would_free, judged.memory_source) == (holders, held, "nvml")
    assert judged.memory_age_seconds == 1.5
    assert (judged.estimate, judged.learned, judged.needed_bytes) == (need(10), Learned(1.0, 3), 10 * GIB)
    body = judged.to_json()
    assert body["verdict"] == "fits"
    assert body["eject_would_free"] == [
        {"instance_id": "kept", "bytes": 5 * GIB, "by_gpu": {"0": 5 * GIB}},
        {"instance_id": "old", "bytes": 3 * GIB, "by_gpu": {"0": 3 * GIB}},
        {"instance_id": "older", "bytes": 3 * GIB, "by_gpu": {"0": GIB, "1": 2 * GIB}},
    ]


def test_without_a_reading_there_are_no_gpus_and_no_holders() -> None:
    judged = judge(need(1), "no driver", learned=None, split=SplitPlan())
    assert (judged.gpus, judged.holders, judged.eject_would_free, judged.memory_source) == ((), (), {}, None)
    assert judged.memory_age_seconds is None


@pytest.mark.parametrize(("ratio", "expected"), [(0.1, 2.5), (0.25, 2.5), (2, 20), (4, 40), (9, 40)])
def test_a_learned_ratio_beyond_all_experience_is_cut(ratio: float, expected: float) -> None:
    judged = judge(need(10), memory(80), learned=Learned(ratio, 1), split=SplitPlan())
    assert judged.needed_bytes == expected * GIB


NOT_MEASURED = "no load of this model was measured yet; the daemon's estimate is taken as it is"


@pytest.mark.parametrize(
    ("judging", "expected", "reasons"),
    [
        (
            lambda: judge("no estimate", memory(9), learned=None, split=SplitPlan()),
            Verdict.UNKNOWN,
            ("no estimate",),
        ),
        (
            lambda: judge(need(1), "no driver", learned=None, split=SplitPlan()),
            Verdict.UNKNOWN,
            ("no driver", NOT_MEASURED),
        ),
        (
            lambda: plan(1, MemoryReading("x", ())),
            Verdict.UNKNOWN,
            ("there is no GPU, and the free RAM is not known",),
        ),
        (
            lambda: plan(4, MemoryReading("x", (), host_available_bytes=4 * GIB)),
            Verdict.TIGHT,
            ("there is no GPU; of 4.00 GiB of free RAM 0.00 GiB would be left",),
        ),
        (
            lambda: plan(3.5, MemoryReading("x", (), host_available_bytes=4 * GIB)),
            Verdict.FITS,
            ("there is no GPU; of 4.00 GiB of free RAM 0.50 GiB would be left",),
        ),
        (lambda: plan(0, memory(9, 9), disabled=(0, 1)), Verdict.FITS, ("nothing of it goes to a GPU",)),
        (lambda: plan(1, memory(9), disabled=(0,)), Verdict.DOES_NOT_FIT, ("every GPU is disabled",)),
        (
            lambda: plan(30, memory(9, 9, 9), disabled=(1,)),
            Verdict.DOES_NOT_FIT,
            ("it needs 30.00 GiB, and 18.00 GiB are free on GPU 0, 2: 12.00 GiB lack",),
        ),
        (
            lambda: plan(18, memory(3, 9, 9, 2)),
            Verdict.TIGHT,
            ("it fits in sum, but the share of GPU 0, 3 under split evenly does not fit there",),
        ),
        (lambda: plan(18, memory(9, 9)), Verdict.TIGHT, ("it leaves less than 1.20 GiB free on GPU 0, 1",)),
        (lambda: plan(9, memory(10, total=20)), Verdict.FITS, ()),
        (
            lambda: plan(9, memory(9.25, total=5)),
            Verdict.TIGHT,
            ("it leaves less than 0.50 GiB free on GPU 0",),
        ),
        (lambda: plan(9, memory(9.5, total=5)), Verdict.FITS, ()),
        (lambda: plan(9, memory(10, 0), strategy="custom", ratio=(1,)), Verdict.TIGHT, None),
        (lambda: plan(9, memory(20, 0), strategy="custom", ratio=(1,)), Verdict.FITS, ()),
        (
            lambda: plan(9, memory(20, held={"a": {}}), replace=("b", "a", "c")),
            Verdict.FITS,
            ("what ejecting b, c frees is not known and counted as nothing",),
        ),
        (
            lambda: judge(need(1, passes=False), memory(9), learned=Learned(1, 1), split=SplitPlan()),
            Verdict.DOES_NOT_FIT,
            ("the daemon's own guardrail would refuse it (modelLoadingGuardrails in its settings)",),
        ),
    ],
)
def test_every_verdict_has_its_reason(
    judging: Callable[[], Preflight], expected: Verdict, reasons: tuple[str, ...] | None
) -> None:
    judged = judging()
    assert judged.verdict is expected
    assert reasons is None or judged.reasons == reasons


def test_in_ram_all_of_the_model_counts_and_on_gpus_only_what_goes_there() -> None:
    half = Need(2 * GIB, 6 * GIB, passes_guardrails=True)
    ram = MemoryReading("x", (), host_available_bytes=5 * GIB)
    assert judge(half, ram, learned=None, split=SplitPlan()).verdict is Verdict.DOES_NOT_FIT
    assert judge(half, ram, learned=Learned(0.5, 1), split=SplitPlan()).verdict is Verdict.FITS
    assert judge(half, memory(5), learned=None, split=SplitPlan()).verdict is Verdict.FITS


gpus = st.lists(st.floats(0, 80), min_size=1, max_size=8)
strategies = st.sampled_from(["evenly", "priorityOrder", "tensor", "custom"])


@given(vram=st.floats(0, 200), free=gpus, strategy=strategies, ratio=st.lists(st.floats(0, 9), max_size=8))
def test_shares_add_up_and_more_free_memory_never_makes_it_worse(
    vram: float, free: list[float], strategy: str, ratio: list[float]
) -> None:
    split = SplitPlan(strategy=strategy, ratio=tuple(ratio))
    order = [Verdict.FITS, Verdict.TIGHT, Verdict.DOES_NOT_FIT]
    judged = judge(need(vram), memory(*free, total=80), learned=None, split=split)
    assert sum(gpu.needed_bytes for gpu in judged.gpus) == pytest.approx(judged.needed_bytes, abs=8)
    roomier = judge(need(vram), memory(*(size + 1 for size in free), total=80), learned=None, split=split)
    if strategy == "priorityOrder" and judged.verdict is Verdict.FITS:
        # The room may be on a GPU that comes earlier, which is then filled to the brim.
        assert roomier.verdict is not Verdict.DOES_NOT_FIT
    else:
        assert order.index(roomier.verdict) <= order.index(judged.verdict)
    json.dumps(judged.to_json(), allow_nan=False)
