"""Loads and unloads: what two readings tell apart, and why an instance went."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pipeline.load_events import TTL_SLACK_MS, Changes
from tests.exporter.readings import NOW_S, instance, model, snapshot


def test_the_first_reading_counts_nothing_but_starts_every_counter() -> None:
    changes = Changes()

    changes.observe(snapshot(instance("a", model="m"), models=(model("on disk"), model("m"))))

    assert changes.loads == {"m": 0, "on disk": 0}
    assert changes.unloads == {("m", "ttl"): 0, ("m", "restart"): 0, ("m", "other"): 0}


def test_instances_are_told_apart_by_their_reference_not_by_their_name() -> None:
    changes = Changes()
    changes.observe(snapshot(instance("a", model="m")))
    changes.observe(snapshot(instance("b", model="m")))

    assert changes.loads == {"m": 1}
    assert +changes.unloads == {("m", "other"): 1}


def test_a_second_instance_of_a_model_is_one_load() -> None:
    changes = Changes()
    changes.observe(snapshot(instance("a", model="m")))
    changes.observe(snapshot(instance("a", model="m"), instance("b", model="m", identifier="m:2")))

    assert changes.loads == {"m": 1}
    assert changes.unloads.total() == 0


def test_an_unchanged_reading_changes_nothing() -> None:
    changes = Changes()
    for _ in range(3):
        changes.observe(snapshot(instance("a"), models=(model(),)))

    assert changes.loads.total() == 0
    assert changes.unloads.total() == 0


@pytest.mark.parametrize(
    ("last_used_s_ago", "ttl_s", "passed_s", "cause"),
    [
        (58.0, 60.0, 5.0, "ttl"),
        (10.0, 60.0, 5.0, "other"),
        (10.0, None, 5.0, "other"),
        (53.0, 60.0, 5.0, "ttl"),  # 7 s were left, 5 s passed: within the slack
        (52.9, 60.0, 5.0, "other"),
        (None, 3.0, 5.0, "ttl"),
        (None, 60.0, 5.0, "other"),
    ],
)
def test_an_instance_that_went_at_the_end_of_its_ttl_went_by_it(
    last_used_s_ago: float | None, ttl_s: float | None, passed_s: float, cause: str
) -> None:
    assert TTL_SLACK_MS == 2000
    gone = instance(
        "a",
        model="m",
        ttl_ms=None if ttl_s is None else ttl_s * 1000,
        last_used_time=None if last_used_s_ago is None else (NOW_S - last_used_s_ago) * 1000,
    )
    changes = Changes()
    changes.observe(snapshot(gone))
    changes.observe(snapshot(taken_at_s=NOW_S + passed_s))

    assert +changes.unloads == {("m", cause): 1}


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
@pytest.mark.parametrize(("ttl_s", "cause"), [(60.0, "other"), (4.0, "ttl")])
def test_a_wall_clock_that_jumps_does_not_change_why_an_instance_went(
    jump_s: float, ttl_s: float, cause: str
) -> None:
    changes = Changes()
    changes.observe(snapshot(instance("a", model="m", ttl_ms=ttl_s * 1000), monotonic_s=100.0))
    changes.observe(snapshot(taken_at_s=NOW_S + 5.0 + jump_s, monotonic_s=105.0))

    assert +changes.unloads == {("m", cause): 1}


def test_after_a_restart_everything_that_is_gone_went_with_it() -> None:
    expired = instance("a", model="m", ttl_ms=1.0, last_used_time=0.0)
    changes = Changes()
    changes.observe(snapshot(expired, instance("b", model="n"), pid=1))
    changes.observe(snapshot(instance("c", model="n"), pid=2))

    assert +changes.unloads == {("m", "restart"): 1, ("n", "restart"): 1}
    assert +changes.loads == {"n": 1}


def test_an_upgrade_that_keeps_the_pid_is_a_restart() -> None:
    changes = Changes()
    changes.observe(snapshot(instance("a", model="m"), pid=1))
    changes.observe(snapshot(pid=1, version="0.4.25"))

    assert +changes.unloads == {("m", "restart"): 1}


def test_what_could_not_be_read_is_neither_unloaded_nor_loaded_anew() -> None:
    changes = Changes()
    changes.observe(snapshot(instance("a", model="m"), instance("b", model="n")))
    changes.observe(snapshot(instance("b", model="n"), unreadable_instances=1))
    changes.observe(snapshot(instance("a", model="m"), instance("b", model="n")))
    assert changes.loads.total() == changes.unloads.total() == 0

    changes.observe(snapshot(unreadable_instances=1))
    changes.observe(snapshot(instance("c", model="m")))
    assert +changes.loads == {"m": 1}
    assert +changes.unloads == {("m", "other"): 1, ("n", "other"): 1}


REFERENCES = st.frozensets(st.sampled_from("abcdef"))


@given(st.lists(REFERENCES, min_size=1, max_size=8))
def test_loads_less_unloads_is_how_many_more_there_are(history: list[frozenset[str]]) -> None:
    changes = Changes()
    for references in history:
        changes.observe(snapshot(*(instance(each, model=each) for each in sorted(references))))

    unloaded: Counter[str] = Counter()
    for (key, _), count in changes.unloads.items():
        unloaded[key] += count
    for key in "abcdef":
        assert changes.loads[key] - unloaded[key] == (key in history[-1]) - (key in history[0])
