"""What the rules name is what was done: faults of the simulator, scraped by the real exporter, judged by promtool.

`python -m tests.causes` plays 300 faults and 27 healthy days.
"""

import asyncio
from pathlib import Path

import pytest

from tests.causes.faults import FAULTS, HEALTHY, drawn
from tests.causes.judge import confusion, judged, play, play_and_judge
from tests.external import FindTool

pytestmark = [pytest.mark.first, pytest.mark.timeout(600)]

SAMPLE = 40
"""Of the kinds of faults, more than three in four."""


@pytest.mark.external("promtool")
def test_nineteen_of_twenty_faults_are_named_right_and_first(external_tool: FindTool) -> None:
    faults = [*drawn(SAMPLE, seed=11)]
    assert sum(fault.is_double for fault in faults) >= SAMPLE // 4
    verdicts = play_and_judge(external_tool("promtool"), faults, seed=11)
    assert sum(one.right for one in verdicts) >= 0.95 * SAMPLE, confusion(verdicts)


@pytest.mark.external("promtool")
def test_a_healthy_day_has_no_cause(external_tool: FindTool) -> None:
    verdicts = play_and_judge(external_tool("promtool"), HEALTHY, seed=12)
    assert all(one.right for one in verdicts), confusion(verdicts)


@pytest.mark.external("promtool")
async def test_a_wrong_label_is_seen(external_tool: FindTool, tmp_path: Path) -> None:
    fault = next(one for one in FAULTS if one.label == "GPU lost")
    other = next(one for one in FAULTS if one.label == "XID error" and one.alert == fault.alert)
    world = await play(fault, "box", 3, tmp_path)
    right, wrong = await asyncio.to_thread(
        judged, external_tool("promtool"), [(fault, world), (other, world)]
    )
    assert right.right
    assert right.first == "GPU lost"
    assert not wrong.right
