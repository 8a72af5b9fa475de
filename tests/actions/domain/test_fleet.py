"""The planner of a group: every state of up to four daemons, every goal and every wave."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from actions.domain.errors import Problem
from actions.domain.fleet import FleetPlan, Goal, Has, Member, Step, plan, selected

STATES = (
    {"is_up": False},
    {"has": Has.NONE},
    {"has": Has.NONE, "failed_lately": True},
    {"has": Has.NONE, "is_suspended": True},
    {"has": Has.LOADING},
    {"has": Has.WANTED},
    {"has": Has.WANTED, "is_busy": True},
    {"has": Has.OTHER},
    {"has": Has.OTHER, "is_busy": True},
    {"has": Has.OTHER, "failed_lately": True},
)
SITES = ("east", "west", "east", "west")


EVERY_STATE = pytest.mark.parametrize("most", [2, pytest.param(4, marks=pytest.mark.slow)])
"""Daemons of a group at most: with two the fast tests have a look, and the mutants one that they can afford."""


def every_state(most: int) -> Iterator[tuple[Member, ...]]:
    for count in range(most + 1):
        for kinds in itertools.product(STATES, repeat=count):
            yield tuple(
                Member(f"box-{number}", SITES[number], **kind)  # type: ignore[arg-type]
                for number, kind in enumerate(kinds)
            )


def loading(members: tuple[Member, ...]) -> int:
    return sum(one.is_up and one.has is Has.LOADING for one in members)


def begun(members: tuple[Member, ...], planned: FleetPlan) -> tuple[Member, ...]:
    chosen = {step.daemon for step in planned.steps}
    return tuple(
        dataclasses.replace(one, has=Has.LOADING, is_busy=False) if one.name in chosen else one
        for one in members
    )


@EVERY_STATE
def test_in_every_state_no_request_is_ended_the_wave_holds_and_enough_go_on_serving(most: int) -> None:
    for members in every_state(most):
        by_name = {one.name: one for one in members}
        serving, under_way = sum(one.serves for one in members), loading(members)
        for at_least, wave in itertools.product(range(5), (1, 2, 4)):
            planned = plan(Goal(at_least, wave), members)
            boxes = [(by_name[step.daemon], step.replaces) for step in planned.steps]
            assert len({box.name for box, _ in boxes}) == len(boxes)
            assert under_way + len(boxes) <= max(wave, under_way)
            for box, replaces in boxes:
                assert box.is_up
                assert not any((box.failed_lately, box.is_suspended, box.is_busy))
                assert box.has is (Has.OTHER if replaces else Has.NONE)
            replaced = sum(replaces for _, replaces in boxes)
            assert planned.serving == serving
            assert planned.missing == max(0, at_least - serving - under_way)
            assert len(boxes) - replaced <= planned.missing
            assert not replaced or serving - replaced >= at_least - wave
            assert not (replaced and any(one.failed_lately for one in members))
            assert planned.waiting.keys().isdisjoint(box.name for box, _ in boxes)


@EVERY_STATE
def test_every_state_comes_to_its_goal_when_loads_succeed_and_requests_end(most: int) -> None:
    for members in every_state(most):
        for at_least, wave in ((0, 1), (2, 1), (4, 2)):
            now = members
            for _ in range(2 * len(members) + 1):
                now = begun(now, plan(Goal(at_least, wave), now))
                now = tuple(
                    dataclasses.replace(
                        one,
                        has=Has.WANTED if one.has is Has.LOADING else one.has,
                        is_busy=False,
                        failed_lately=False,
                    )
                    for one in now
                )
            can = [one for one in now if one.is_up and not (one.is_suspended and one.has is Has.NONE)]
            ended = plan(Goal(at_least, wave), now)
            assert ended.steps == ()
            assert ended.serving >= min(at_least, len(can))
            old = [one for one in now if one.is_up and one.has is Has.OTHER and not one.is_suspended]
            assert not old or ended.missing, "what serves stays while too few can be read"


def test_every_reachable_state_of_a_group_that_fails_and_dies_keeps_the_wave() -> None:
    goal = Goal(at_least=2, wave=1)
    start = tuple(Member(f"box-{number}", SITES[number]) for number in range(3))
    seen, todo = {start}, [start]
    while todo:
        now = todo.pop()
        after = begun(now, plan(goal, now))
        assert sum(one.has is Has.LOADING and one.is_up for one in after) <= goal.wave
        for number, one in enumerate(after):
            for change in _changes(one):
                following = (*after[:number], change, *after[number + 1 :])
                if following not in seen and sum(each.has is Has.LOADING for each in following) <= goal.wave:
                    seen.add(following)
                    todo.append(following)
    assert len(seen) > 100


def _changes(one: Member) -> Iterator[Member]:
    """What may happen to a daemon from one look to the next."""
    yield dataclasses.replace(one, is_up=False, has=Has.NONE, is_busy=False)
    yield dataclasses.replace(one, is_up=True)
    yield dataclasses.replace(one, failed_lately=False)
    if one.has is Has.LOADING:
        yield dataclasses.replace(one, has=Has.WANTED)
        yield dataclasses.replace(one, has=Has.NONE, failed_lately=True)
    if one.has is Has.WANTED:
        yield dataclasses.replace(one, is_busy=not one.is_busy)
        yield dataclasses.replace(one, has=Has.OTHER)


def test_loads_are_spread_over_sites_and_then_to_where_least_is_loaded() -> None:
    members = (
        Member("a", "east", has=Has.WANTED),
        Member("b", "east"),
        Member("c", "west", loaded=3),
        Member("d", "west", loaded=1),
        Member("e", "north", loaded=2),
    )
    planned = plan(Goal(at_least=4, wave=9), members)
    assert [step.daemon for step in planned.steps] == ["d", "e", "b"]
    assert planned.waiting == {}
    assert plan(Goal(at_least=5, wave=3), members).waiting == {"c": "waits for its wave"}


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ({"is_up": False}, "cannot be read"),
        ({"is_up": False, "is_suspended": True, "failed_lately": True}, "cannot be read"),
        (
            {"is_suspended": True, "failed_lately": True},
            "ejected by a person; set the group again to load here",
        ),
        ({"failed_lately": True}, "a load failed here and is tried again later"),
        ({"is_busy": True}, "waits for its wave"),
        (
            {"has": Has.OTHER, "is_busy": True},
            "has requests in flight, with another configuration",
        ),
        ({"has": Has.OTHER}, "waits until enough serve"),
        ({"has": Has.LOADING}, None),
        ({"has": Has.WANTED}, None),
    ],
)
def test_what_is_left_alone_says_why(member: dict[str, Any], reason: str | None) -> None:
    # The first load takes the wave, so that everyone else waits.
    planned = plan(
        Goal(at_least=9, wave=1 + (member.get("has") is Has.LOADING)),
        (Member("a"), Member("b", **member, loaded=1)),
    )
    assert planned.steps == (Step("a"),)
    assert planned.waiting == ({} if reason is None else {"b": reason})


def test_old_configurations_follow_in_waves_once_enough_serve() -> None:
    old = tuple(Member(name, has=Has.OTHER) for name in "abc")
    planned = plan(Goal(at_least=3, wave=2), old)
    assert planned.steps == (Step("a", replaces=True), Step("b", replaces=True))
    assert planned.waiting == {"c": "waits for its wave"}
    assert planned.to_json() == {
        "steps": [{"daemon": "a", "replaces": True}, {"daemon": "b", "replaces": True}],
        "serving": 3,
        "missing": 0,
        "waiting": {"c": "waits for its wave"},
    }
    failed = plan(Goal(at_least=3, wave=2), (*old, Member("d", failed_lately=True)))
    assert failed.steps == ()
    assert failed.waiting == dict.fromkeys("abc", "waits for its wave")
    loading = plan(Goal(at_least=3, wave=2), (*old, Member("d", has=Has.LOADING)))
    assert loading.steps == (Step("a", replaces=True),)
    away = plan(Goal(at_least=2, wave=9), (Member("a", is_up=False, has=Has.LOADING), Member("b")))
    assert (away.steps, away.missing) == ((Step("b"),), 2)


def test_each_load_counts_for_its_site_when_the_next_is_chosen() -> None:
    free = (Member("a", "east"), Member("b", "east"), Member("c", "west"))

    def chosen(east: int, west: int) -> list[str]:
        serving = [Member(f"e{n}", "east", has=Has.WANTED) for n in range(east)]
        serving += [Member(f"w{n}", "west", has=Has.WANTED) for n in range(west)]
        planned = plan(Goal(at_least=east + west + 2, wave=2), (*free, *serving))
        return [step.daemon for step in planned.steps]

    assert chosen(2, 2) == ["a", "c"]
    assert chosen(0, 1) == ["a", "b"]
    assert chosen(1, 0) == ["c", "a"]


def test_a_site_that_loads_already_is_served_last() -> None:
    members = (Member("a", "east"), Member("b", "west", loaded=5), Member("c", "east", has=Has.LOADING))
    assert plan(Goal(at_least=2, wave=2), members).steps == (Step("b"),)
    gone = (*members[:2], Member("c", "east", is_up=False, has=Has.LOADING))
    assert plan(Goal(at_least=1, wave=2), gone).steps == (Step("a"),)


@pytest.mark.parametrize(
    ("daemons", "site", "found"),
    [
        ((), "east", ("a", "c")),
        (("b", "a", "b"), None, ("b", "a")),
        (("a", "b"), "east", ("a",)),
    ],
)
def test_daemons_are_selected_by_name_and_site(
    daemons: tuple[str, ...], site: str | None, found: tuple[str, ...]
) -> None:
    assert selected({"a": "east", "b": "west", "c": "east"}, daemons=daemons, site=site) == found


@pytest.mark.parametrize(
    ("daemons", "site", "slug", "detail", "extra"),
    [
        (
            (),
            None,
            "invalid-parameter",
            "site: say which daemons, with site or daemon",
            {"parameter": "site"},
        ),
        (
            ("a", "x"),
            None,
            "not-found",
            "daemon x is not known; there is a, b",
            {"kind": "daemon", "name": "x"},
        ),
        (("b",), "east", "not-found", "no such daemon is of site east", {"kind": "site"}),
        ((), "s" * 90, "not-found", f"no such daemon is of site {'s' * 80}", {"kind": "site"}),
    ],
)
def test_a_selection_of_nothing_is_refused(
    daemons: tuple[str, ...], site: str | None, slug: str, detail: str, extra: dict[str, str]
) -> None:
    with pytest.raises(Problem) as caught:
        selected({"a": "east", "b": "west"}, daemons=daemons, site=site)
    assert (caught.value.slug, caught.value.detail, caught.value.extra) == (slug, detail, extra)
