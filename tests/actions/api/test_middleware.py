"""What an outsider may send: pages of other places, packed, deep and huge bodies, and too much of anything."""

import gzip
from html import escape

import pytest

from exporter.shared.settings_table import SettingsError
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, loaded

FOREIGN = ("https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example")
JSON = {"Content-Type": "application/json"}


async def test_a_page_of_another_place_changes_nothing_and_calls_no_tool(
    forge: Forge, sim: Simulator
) -> None:
    before = loaded(sim)
    admin = {"Authorization": f"Bearer {await forge.token('admin')}"}
    answers = []
    for origin in FOREIGN:
        headers = {"Origin": origin}
        answers += [
            await forge.post("models/eject-all", headers=headers),
            await forge.http.put(forge.path("desired"), json={"instances": []}, headers=headers),
            await forge.http.post("/v1/mcp/adopt", headers=admin | headers),
            await forge.http.post("/mcp/files", headers=admin | headers, json={}),
            await forge.http.get("/mcp/files", headers=admin | headers),
        ]
        assert (await forge.http.get("/v1/daemons", headers=headers)).status_code == 200, "a look is harmless"
    for answer in answers:
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:daemonpulse:problem:foreign-origin"
    assert loaded(sim) == before
    assert await forge.audit() == []


async def test_a_second_origin_header_does_not_hide_the_first(forge: Forge) -> None:
    headers = [("Origin", "https://evil.example"), ("Origin", forge.url)]
    answer = await forge.http.post(forge.path("models/eject-all"), headers=headers)
    assert answer.status_code == 403


async def test_our_own_page_and_allowed_ones_may(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, allowed_hosts=("forge.lan",))
    for origin in (forge.url, "https://forge.lan"):
        answer = await forge.post("models/eject-all", headers={"Origin": origin})
        assert answer.status_code == 200, answer.text


BODIES = {
    "gzip": gzip.compress(b'{"model": "x"}'),
    "deep": b"[" * 60_000,
    "deep objects": b'{"model":' * 6_000,
    "digits": b'{"model": "x", "context_length": 1' + b"0" * 60_000 + b"}",
    "overflow": b'{"model": "x", "context_length": 1e999}',
    "NaN": b'{"model": "x", "ttl_seconds": NaN}',
    "infinite": b'{"model": "x", "wait": Infinity}',
    "surrogate": b'{"model": "\\ud800"}',
    "NUL": b'{"model": "x\\u0000"}',
    "no text": b"\xff\xfe",
    "open end": b'"' + b"x" * 60_000,
    "wrong type": b'{"__proto__": {}, "model": 1}',
}


async def test_a_body_that_means_nothing_is_the_senders_fault(forge: Forge, sim: Simulator) -> None:
    for name, body in BODIES.items():
        headers = JSON | ({"Content-Encoding": "gzip"} if name == "gzip" else {})
        for method, path in (("POST", "models/load"), ("POST", "preflight"), ("PUT", "desired")):
            answer = await forge.http.request(method, forge.path(path), content=body, headers=headers)
            assert answer.status_code in {400, 404, 422}, (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 4_000
    assert ("llm", "loadModel") not in sim.calls


async def test_a_packed_body_is_not_unpacked(forge: Forge) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 64 * 1024
    answer = await forge.http.post(
        forge.path("models/load"), content=bomb, headers=JSON | {"Content-Encoding": "gzip"}
    )
    assert answer.status_code in {400, 422}


async def test_the_page_at_docs_loads_nothing_from_anywhere(forge: Forge) -> None:
    answer = await forge.http.get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for word in ("<script", "http://", "https://", "@import", "url("):
        assert word not in answer.text
    document = (await forge.http.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        assert f" {path}</code>" in answer.text
        for method, operation in methods.items():
            assert operation.get("description", "").endswith("."), f"{method} {path} says what it does"
            assert f"<p>{escape(operation['description'])}</p>" in answer.text


# How fast ------------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_too_fast_waits_and_its_kill_switch_does_not(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, commands_per_minute=2)
    answers = [await forge.post("preflight", wait=None, model=SMALL) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[2].json()["type"] == "urn:daemonpulse:problem:too-fast"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert (await forge.load()).status_code == 429
    assert (await forge.post("models/eject-all")).status_code == 200
    assert loaded(sim) == set()
    assert (await forge.http.get("/v1/daemons")).status_code == 200
    other = {"Authorization": f"Bearer {await forge.token('operate', name='other')}"}
    assert (await forge.post("preflight", wait=None, headers=other, model=SMALL)).status_code == 200
    assert await forge.metric("daemonpulse_auth_failures_total", reason="too_fast") == 3


async def test_denials_do_not_fill_the_audit(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, scope="read", commands_per_minute=3)
    statuses = [(await forge.post("models/eject-all")).status_code for _ in range(2)]
    statuses += [(await forge.post("desired", wait=None, model=SMALL)).status_code for _ in range(4)]
    assert statuses == [403] * 3 + [429] * 3
    assert len(await forge.audit("denied")) == 3


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "100000"])
def test_a_pace_that_is_no_number_is_refused(value: str) -> None:
    from actions import settings

    with pytest.raises(SettingsError, match="whole number"):
        settings.load({"commands_per_minute": value}, {})


async def test_nobody_without_a_token_is_as_fast_as_he_likes(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, scope=None, commands_per_minute=2)
    statuses = [(await forge.post("models/eject-all")).status_code for _ in range(4)]
    assert statuses == [403, 403, 429, 429]
