"""Somebody who may only read, or not even that, sends much of everything: nobody else is limited, and nothing grows."""

import asyncio
import json

import httpx
import pytest

from actions.auth.authenticator import MAX_WAITS
from actions.auth.denial_log import UNAUTHENTICATED
from actions.metrics import MAX_SERIES, Metrics
from actions.store.audit import MAX_PAGE_BYTES, Audit
from actions.store.database import Storage
from actions.store.desired_state import MAX_INSTANCES
from actions.store.sizes import MAX_DETAIL_BYTES, MAX_TEXT_CHARS, bounded, text
from exporter.catalogue import actions as rows
from exporter.shared.labels import MAX_CHARS
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, forge, loaded, sim, start_forge, storage
from tests.actions.store.test_audit import ALICE

__all__ = ["forge", "sim", "start_forge", "storage"]


async def test_wrong_secrets_for_a_token_id_do_not_limit_the_right_token_or_its_kill_switch(
    forge: Forge, sim: Simulator
) -> None:
    token_id = str(forge.http.headers["authorization"]).split("_")[1]
    wrong = {"Authorization": f"Bearer dp_{token_id}_{'A' * 43}"}
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False, headers=wrong) as attacker:
        answers = [(await attacker.get("/v1/daemons")).status_code for _ in range(40)]
    assert set(answers) == {401, 429}
    assert (await forge.http.get("/v1/daemons")).status_code == 200
    assert (await forge.post("models/eject-all")).status_code == 200
    assert loaded(sim) == set()


async def test_denials_of_strangers_are_counted_and_a_sample_of_them_is_on_record(forge: Forge) -> None:
    denials = forge.parts.authenticator._denials
    for number in range(200):
        stranger = ALICE.__class__(f"token-id:x{number}", ALICE.scope, address=f"10.0.{number}.1")
        await denials.record(stranger, "authenticate", "/v1", "wrong", is_authenticated=False)
    written = await forge.audit("denied")
    assert len(written) < 40
    assert await forge.metric("daemonpulse_audit_denials_sampled_total") == 200 - len(written)
    assert denials._only_counted[UNAUTHENTICATED] == 200 - len(written)


@pytest.mark.parametrize(
    "detail",
    [
        {"x" * 1_000_000: "y"},
        {"x": "y" * 1_000_000},
        {"x": ["y" * 100] * 10_000},
        {f"key {number}": number for number in range(10_000)},
        {"x": 10**4000},
        {"deep": json.loads("[" * 200 + "]" * 200), "long": "y" * 20_000},
    ],
    ids=["key", "text", "list", "keys", "number", "deep"],
)
async def test_what_is_recorded_has_a_size_whatever_is_sent(
    storage: Storage, detail: dict[str, object]
) -> None:
    audit = Audit(storage)
    entry = await audit.record("denied", actor=ALICE, action="a" * 9999, subject="s" * 999_999, detail=detail)
    assert entry.size_bytes < MAX_DETAIL_BYTES + MAX_TEXT_CHARS + 100
    assert len(entry.subject) == len(entry.action) == MAX_TEXT_CHARS
    (read,) = await audit.read()
    assert read == entry
    assert await audit.verify() is not None


def test_what_is_cut_keeps_its_structure_and_what_fits_is_left_alone() -> None:
    small = {"a": [1, {"b": "c"}]}
    assert bounded(small, 100)[0] == small
    cut, written = bounded({"tool": "write", "arguments": {"path": "/x", "text": "y" * 50_000}}, 1000)
    assert len(written) <= 1000
    assert (cut["tool"], cut["arguments"]["path"]) == ("write", "/x")
    assert cut["arguments"]["text"].startswith("yyy")
    assert text("lone \ud800 surrogate") == "lone \\ud800 surrogate"


async def test_listings_are_paged_by_bytes_and_no_row_is_missed(forge: Forge) -> None:
    audit = forge.parts.service.audit
    for number in range(120):
        await audit.record(
            "event", actor=ALICE, action="look", subject=str(number), detail={"x": "y" * 10_000}
        )
    seen: list[int] = []
    while True:
        answer = await forge.http.get("/v1/audit", params={"since": seen[-1] if seen else 0, "limit": 1000})
        assert len(answer.content) < MAX_PAGE_BYTES * 1.2
        page = [entry["seq"] for entry in answer.json()["entries"]]
        if not page:
            break
        seen += page
    assert seen == list(range(1, len(seen) + 1))
    newest = (await forge.http.get("/v1/audit", params={"limit": 2})).json()["entries"]
    older = (await forge.http.get("/v1/audit", params={"limit": 1, "before": newest[-1]["seq"]})).json()
    assert older["entries"][0]["seq"] == newest[-1]["seq"] - 1


async def test_operations_are_paged_backwards(forge: Forge) -> None:
    for _ in range(3):
        await forge.load()
    first = (await forge.http.get("/v1/operations", params={"limit": 1})).json()["operations"]
    rest = await forge.http.get("/v1/operations", params={"before": first[0]["id"]})
    assert len(rest.json()["operations"]) == 2
    assert (await forge.http.get("/v1/operations", params={"before": "nothing"})).status_code == 404


async def test_the_waits_of_one_token_are_bounded_and_others_wait_all_the_same(
    forge: Forge, sim: Simulator
) -> None:
    sim.clock.speed = 1e-3
    begun = (await forge.post("models/load", wait=None, model=SMALL)).json()["id"]
    path = f"/v1/operations/{begun}"
    waits = forge.parts.authenticator.waits
    waiting = [asyncio.create_task(forge.http.get(path, params={"wait": 30})) for _ in range(MAX_WAITS)]
    async with asyncio.timeout(20):
        while len(waits) < MAX_WAITS:
            await forge.http.get("/healthz")
    at_once = await forge.http.get(path, params={"wait": 30})
    assert at_once.json()["finished_ms"] is None
    assert (await forge.post("models/eject-all", wait=None)).status_code in {200, 202}
    for answer in await asyncio.gather(*waiting):
        assert answer.status_code == 200
    assert len(waits) == 0


def test_series_and_labels_of_actions_are_bounded() -> None:
    metrics = Metrics()
    for number in range(3 * MAX_SERIES):
        metrics.set(rows.PROBE_TIMESTAMP, 1.0, "box", f"model {number}" + "x" * 1000)
        metrics.count(rows.AUTH_FAILURES, f"reason {number}")
    page = metrics.expose("")[0].decode()
    probes = [line for line in page.splitlines() if line.startswith("daemonpulse_probe_timestamp")]
    assert len(probes) == MAX_SERIES
    assert max(map(len, probes)) < MAX_CHARS + 120
    failures = [line for line in page.splitlines() if line.startswith("daemonpulse_auth_failures")]
    assert len(failures) <= MAX_SERIES + 1
    assert any('reason="other"' in line for line in failures)


async def test_the_desired_state_has_its_cap_on_every_path(forge: Forge) -> None:
    most = {"instances": [{"model": SMALL, "instance_id": f"i{number}"} for number in range(MAX_INSTANCES)]}
    assert (await forge.http.put(forge.path("desired"), json=most)).status_code == 200
    added = await forge.post("desired", wait=None, model=SMALL, instance_id="one-more")
    assert (added.status_code, added.json()["parameter"]) == (422, "instances")
    again = await forge.post("desired", wait=None, model=SMALL, instance_id="i0")
    assert again.status_code == 200
    more = {"instances": [*most["instances"], {"model": SMALL, "instance_id": "one-more"}]}
    assert (await forge.http.put(forge.path("desired"), json=more)).status_code == 422
    kept = (await forge.http.get(forge.path("desired"))).json()["instances"]
    assert len(kept) == MAX_INSTANCES


async def test_a_reader_that_asks_for_all_at_once_does_not_hold_up_the_kill_switch(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim)
    audit = forge.parts.service.audit
    for number in range(100):
        await audit.record(
            "event", actor=ALICE, action="look", subject=str(number), detail={"x": "y" * 10_000}
        )
    reader = {"Authorization": f"Bearer {await forge.token('read', name='reader')}"}
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False, headers=reader, timeout=60) as http:
        asked = [asyncio.create_task(http.get("/v1/audit", params={"limit": 1000})) for _ in range(50)]
        switched = await forge.post("models/eject-all")
        assert switched.status_code == 200
        assert loaded(sim) == set()
        for answer in await asyncio.gather(*asked):
            assert len(answer.content) < MAX_PAGE_BYTES * 1.2
