"""Each target holds for inputs that hypothesis makes of its own choice, and for those that once broke it.

The same inputs on every run. `python -m tests.fuzz` runs the same targets for as long as one likes.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.faults import FAULTS
from tests.fuzz.target import FOUND, Target
from tests.fuzz.targets import BY_NAME, TARGETS

MORE = 3
"""Inputs made of each one that hypothesis chooses: it is good at choosing, slow at long ones, and shrinks them all."""


def inputs_of(chosen: bytes) -> Iterator[bytes]:
    """Yield an input of hypothesis' choice, then longer ones that begin like it and are as fixed as it is."""
    yield chosen
    source = random.Random(chosen)
    for _ in range(MORE):
        kept = chosen[: source.randrange(len(chosen) + 1)]
        yield kept + source.randbytes(source.choice((16, 64, 200, 400)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_breaks(target: Target) -> None:
    ran = 0

    @settings(
        max_examples=-(-target.inputs // (1 + MORE)),
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=64))
    def check(chosen: bytes) -> None:
        nonlocal ran
        for data in inputs_of(chosen):
            ran += 1
            try:
                target.run(data)
            except Exception as problem:
                problem.add_note(f"{target.name} broke on bytes.fromhex({data.hex()!r})")
                raise

    check()
    assert ran >= target.inputs, "hypothesis gave up early"


def test_together_they_run_many_inputs() -> None:
    assert sum(target.inputs for target in TARGETS) >= 20_000
    assert len(BY_NAME) == len(TARGETS)


@pytest.mark.parametrize("path", sorted(FOUND.glob("*-*")), ids=lambda path: path.name)
def test_what_once_broke_a_target_breaks_it_no_more(path: Path) -> None:
    name, _, _ = path.name.rpartition("-")
    BY_NAME[name].run(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_fault_in_the_product_is_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    target.run(b"")  # so that it is the fault that is noticed
    FAULTS[target.name](monkeypatch)
    source = random.Random(7)
    for _ in range(5000):
        try:
            target.run(source.randbytes(source.choice((16, 48, 120, 300))))
        except Exception:  # noqa: BLE001 - whatever it raises, it noticed
            return
    pytest.fail("the target did not notice")
