"""What an action does without a field of the daemon's answers is what it declares.

A sample of it; `python -m tests.upgrade` plays all.
"""

from random import Random

import pytest

from daemonpulse import upgrade
from tests.upgrade.acting import SCENES, Scene
from tests.upgrade.fields import CHANGES
from tests.upgrade.judging import ANY_VALUE, Rehearsed

SINGLES = 3
"""Fields tried by themselves in each scene."""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.action} {scene.when}".strip())
async def test_an_action_does_without_a_field_what_it_declares(scene: Scene) -> None:
    rehearsed = await Rehearsed.of(scene)
    random = Random(f"{scene.action} {scene.when}")
    needed = [field for field in rehearsed.needed() if field not in ANY_VALUE]
    for call, path in random.sample(needed, min(SINGLES, len(needed))):
        change = random.choice(list(CHANGES))
        fault = await rehearsed.fault(call, [path], change, rehearsed.expected(call, path))
        assert fault is None, fault


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.action} {scene.when}".strip())
async def test_what_an_action_does_not_declare_may_all_be_gone_at_once(scene: Scene) -> None:
    rehearsed = await Rehearsed.of(scene)
    others = rehearsed.others()
    most = max(others, key=lambda call: len(others[call]))
    for call in {most, Random(scene.action).choice(sorted(others))}:
        fault = await rehearsed.fault(call, others[call], "deleted", "")
        assert fault is None, fault


def test_every_scene_is_of_an_action_and_every_situation_has_one() -> None:
    played = {(scene.action, scene.when) for scene in SCENES}
    declared = {(action, lack.when) for action, lacks in upgrade.EVIDENCE.items() for lack in lacks}
    assert declared <= played
    assert {action for action, _ in played} == upgrade.EVIDENCE.keys()
