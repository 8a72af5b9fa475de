"""The daemon's own series: up and state always, the rest only while it can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.daemon import collect
from exporter.llmster.client import DaemonState
from exporter.llmster.errors import AuthenticationRefused, DaemonStalled, DaemonUnreachable, LlmsterError
from exporter.llmster.state import Engine, LinkPeer, LinkStatus
from exporter.pipeline.snapshots import DaemonCounts
from tests.exporter.collectors.values import by, collected, one
from tests.exporter.readings import scrape, snapshot, watched


def test_a_daemon_that_can_be_read_is_up() -> None:
    samples = collected(collect, scrape(watched(snapshot(), age_s=0.25)))

    assert one(samples, "llmster_up") == ({"daemon": "local"}, 1)
    assert by(samples, "llmster_daemon_state", "state") == {
        "running": 1,
        "stalled": 0,
        "refused": 0,
        "down": 0,
    }
    assert one(samples, "llmster_snapshot_duration_seconds")[1] == 0.012
    assert one(samples, "llmster_snapshot_age_seconds")[1] == 0.25
    assert one(samples, "llmster_restarts_total")[1] == 0
    assert "llmster_link_peer_up" not in samples


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (DaemonState.DOWN, DaemonUnreachable("refused")),
        (DaemonState.STALLED, DaemonStalled("slow")),
        (DaemonState.REFUSED, AuthenticationRefused("no")),
    ],
)
def test_a_daemon_that_cannot_be_read_is_not_up_and_has_no_other_series(
    state: DaemonState, problem: LlmsterError
) -> None:
    samples = collected(collect, scrape(watched(problem, state=state)))

    assert one(samples, "llmster_up")[1] == 0
    states = by(samples, "llmster_daemon_state", "state")
    assert [name for name, value in states.items() if value] == [state.value]
    assert set(samples) == {"llmster_up", "llmster_daemon_state", "llmster_restarts_total"}


@pytest.mark.parametrize(
    ("is_daemon", "build", "labels"),
    [
        (True, 1, {"build": "1", "kind": "daemon"}),
        (False, "7b", {"build": "7b", "kind": "app"}),
        (True, None, {"build": "", "kind": "daemon"}),
    ],
)
def test_the_build_says_what_serves(is_daemon: bool, build: int | str | None, labels: dict[str, str]) -> None:  # noqa: FBT001 - pytest fills it
    samples = collected(collect, scrape(watched(snapshot(is_daemon=is_daemon, build=build))))

    expected = {"daemon": "local", "version": "0.4.24"} | labels
    assert one(samples, "llmster_build_info") == (expected, 1)


def test_restarts_are_the_clients_count() -> None:
    daemon = watched(counts=DaemonCounts(restarts=3))

    assert one(collected(collect, scrape(daemon)), "llmster_restarts_total")[1] == 3


def test_engines_are_told_once_each() -> None:
    engines = (Engine("llama.cpp-cuda", "2.41.0"), Engine("llama.cpp-cuda", "2.41.0"), Engine("mlx", "1"))
    samples = collected(collect, scrape(watched(snapshot(engines=engines))))

    told = by(samples, "llmster_engine_info", "engine", "version")
    assert told == {"llama.cpp-cuda 2.41.0": 1, "mlx 1": 1}


def test_link_state_and_issues_are_told_unknown_ones_as_well() -> None:
    link = LinkStatus(status="offline", issues=("notLoggedIn", "sunspots"))
    samples = collected(collect, scrape(watched(snapshot(link=link))))

    states = by(samples, "llmster_link_state", "state")
    assert [state for state, value in states.items() if value] == ["offline"]
    issues = by(samples, "llmster_link_issue", "issue")
    assert {issue for issue, value in issues.items() if value} == {"notLoggedIn", "sunspots"}
    assert issues["badVersion"] == 0


def test_peers_are_up_when_connected_and_only_then() -> None:
    link = LinkStatus(
        "own", "workstation", (LinkPeer("p1", "rack", "connected"), LinkPeer("p2", None, "new word"))
    )

    samples = collected(collect, scrape(watched(snapshot(link=link))))

    assert by(samples, "llmster_link_peer_up", "peer") == {"rack": 1, "p2": 0}


def test_peers_of_one_name_are_up_when_all_of_them_are() -> None:
    peers = (LinkPeer("p1", "rack", "offline"), LinkPeer("p2", "rack", "connected"))

    samples = collected(collect, scrape(watched(snapshot(link=LinkStatus("own", None, peers)))))

    assert by(samples, "llmster_link_peer_up", "peer") == {"rack": 0}


NAMES = st.sampled_from(["a", "b", ""])


@given(
    st.lists(st.builds(LinkPeer, NAMES, st.none() | NAMES, st.none() | st.just("connected") | st.text())),
    st.integers(1, 3),
)
def test_no_labels_ever_repeat(peers: list[LinkPeer], daemons: int) -> None:
    read = snapshot(link=LinkStatus("own", None, tuple(peers)))

    samples = collected(collect, scrape(*(watched(read, name=f"d{number}") for number in range(daemons))))

    assert len(samples["llmster_up"]) == daemons
