"""Tokens that may only read take places, turns and threads: each has its share, and the kill switch waits for none."""

import asyncio
import threading
from collections import Counter

import httpx
import pytest

from actions.api import admission
from actions.api.admission import Admission, is_heard
from actions.domain.rate_limit import FairShares
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, forge, loaded, sim, start_forge

__all__ = ["forge", "sim", "start_forge"]


async def test_the_kill_switch_does_not_wait_behind_pages_that_others_read(
    forge: Forge, sim: Simulator
) -> None:
    go_on = threading.Event()
    storage = forge.parts.service.storage
    held = asyncio.create_task(storage.read_page(lambda _db: go_on.wait(60)))
    try:
        asked = [asyncio.create_task(forge.http.get("/v1/audit")) for _ in range(20)]
        await forge.token("read", name="a change, so that tokens are read anew")
        switched = await forge.post("models/eject-all")
        assert (switched.status_code, loaded(sim)) == (200, set())
        assert not any(one.done() for one in asked)
    finally:
        go_on.set()
        await held
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}


async def test_readers_that_hold_requests_leave_others_theirs_and_the_kill_switch_has_its_own(
    start_forge: StartForge, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_AT_ONCE", 12)
    sim.clock.speed = 1e-3
    forge = await start_forge(sim)
    begun = (await forge.post("models/load", wait=None, model=SMALL)).json()["id"]
    path = f"/v1/operations/{begun}"
    tokens = [await forge.token("read", name=name) for name in ("one", "two")]
    places: list[int] = []
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False, timeout=60) as http:

        async def hold(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await http.get(path, params={"wait": 30}, headers=headers)).status_code

        def settled(asked: list[asyncio.Task[int]]) -> int:
            return sum(one.done() for one in asked) + len(forge.parts.authenticator.waits)

        holding = []
        for token in tokens:
            asked = [asyncio.create_task(hold(token)) for _ in range(20)]
            async with asyncio.timeout(20):
                while settled(asked) < 20 + sum(places):  # noqa: ASYNC110 - it happens in the service
                    await asyncio.sleep(0.01)
            places.append(sum(not one.done() for one in asked))
            holding += asked
        assert places == [8, 3], "a token gets twice as many as are left"
        switched = await forge.post("models/eject-all")
        assert switched.status_code == 200
        answers = Counter(await asyncio.gather(*holding))
    assert answers == {200: 11, 429: 29}
    assert (await forge.http.get("/v1/daemons")).status_code == 200, "places are given back"


async def test_a_crowd_of_requests_lets_what_is_heard_have_its_turns_in_between() -> None:
    """Each request works for two turns of the event loop; all of them together would hold it for as many."""
    at_the_door, worked = Admission(), 0

    async def request() -> None:
        nonlocal worked
        await at_the_door.turn()
        for _ in range(2):
            worked += 1
            await asyncio.sleep(0)

    crowd = [asyncio.create_task(request()) for _ in range(300)]
    await asyncio.sleep(0)
    most = 0
    for _ in range(50):
        before = worked
        await asyncio.sleep(0)
        most = max(most, worked - before)
    assert most <= 3
    crowd[-1].cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert worked == 2 * 299
    async with asyncio.timeout(5):
        await at_the_door.turn()


def test_only_what_stops_something_is_always_heard() -> None:
    for path in (
        "/v1/daemons/box/models/eject-all",
        "/v1/models/eject-all",
        "/v1/fleet/eject-all",
        "/v1/mcp/approvals/deny",
        "/v1/mcp/approvals/3f/deny",
        "/v1/mcp/gate",
        "/v1/mcp/servers/s/tools/a/b/gate",
    ):
        assert is_heard("POST", path)
    for method, path in (
        ("GET", "/v1/mcp/gate"),
        ("POST", "/mcp/gate"),
        ("POST", "/v1/models/load"),
        ("POST", "/deny"),
    ):
        assert not is_heard(method, path)


@pytest.mark.parametrize("most", [1, 2, 12, 448])
def test_whoever_comes_late_finds_places_and_none_is_lost(most: int) -> None:
    shares = FairShares(most)
    held: dict[str, int] = {}
    for owner in "abcdef":
        while shares.take(owner):
            held[owner] = held.get(owner, 0) + 1
    assert 1 <= sum(held.values()) <= most
    assert held["a"] <= most * 2 / 3 + 1
    assert most < 448 or all(held.values()), held
    for owner, count in held.items():
        for _ in range(count):
            shares.give_back(owner)
    assert shares.take("z")
