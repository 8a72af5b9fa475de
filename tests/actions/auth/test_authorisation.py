"""Who may do what: tokens, scopes, hosts, and that every refusal is on record."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from actions import app
from actions.store.database import Storage
from exporter.shared.settings_table import SettingsError
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, daemon, loaded, make_token, settings

READS = (
    "daemons",
    "daemons/box/models",
    "daemons/box/instances",
    "daemons/box/desired",
    "operations",
    "audit",
)
COMMANDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("daemons/box/models/load", {"model": SMALL}),
    ("daemons/box/models/eject", {"instance_id": "qwen/qwen3-8b"}),
    ("daemons/box/models/eject-all", {}),
    ("daemons/box/models/download", {"model": "new/model"}),
    ("daemons/box/probe", {"model": "qwen/qwen3-8b"}),
    ("daemons/box/desired", {"model": SMALL}),
)
CHANGES = {("llm", "loadModel"), ("llm", "unloadModel"), ("embedding", "unloadModel")}


async def test_without_any_token_loopback_may_look_and_not_touch(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope=None)
    before = loaded(sim)
    for path in READS:
        assert (await forge.http.get(f"/v1/{path}")).status_code == 200, path
    assert (await forge.post("preflight", wait=None, model=SMALL)).status_code == 200
    for path, query in COMMANDS:
        response = await forge.http.post(f"/v1/{path}", params=query)
        assert (response.status_code, response.json()["type"]) == (403, "urn:daemonpulse:problem:forbidden")
        assert response.headers["content-type"] == "application/problem+json"
    assert len(await forge.audit("denied")) == len(COMMANDS)
    assert await forge.audit("intent") == []
    assert loaded(sim) == before
    assert not CHANGES & sim.calls.keys()


async def test_a_read_token_may_look_and_not_touch(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, scope="read")
    for path in READS:
        assert (await forge.http.get(f"/v1/{path}")).status_code == 200, path
    for path, query in COMMANDS:
        assert (await forge.http.post(f"/v1/{path}", params=query)).status_code == 403
    assert not CHANGES & sim.calls.keys()
    denied = await forge.audit("denied")
    assert {entry["actor"] for entry in denied} == {"token:ops"}
    assert all(entry["token_id"] for entry in denied)
    assert await forge.metric("daemonpulse_auth_failures_total", reason="scope") == len(COMMANDS)


async def test_once_a_token_exists_nobody_is_heard_without_one(forge: Forge) -> None:
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False) as stranger:
        for path in READS:
            response = await stranger.get(f"/v1/{path}")
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
        for path, query in COMMANDS:
            assert (await stranger.post(f"/v1/{path}", params=query)).status_code == 401
        for path in ("/healthz", "/metrics", "/openapi.json", "/docs"):
            assert (await stranger.get(path)).status_code == 200, path
        first = await stranger.get("/")
        assert (first.status_code, first.headers["location"]) == (307, "/docs")
    assert await forge.metric("daemonpulse_auth_failures_total", reason="missing") == len(READS) + len(
        COMMANDS
    )


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer dp_aaaaaaaa_" + "A" * 43,
        "Bearer nonsense",
        "Bearer",
        "Basic b3BzOm9wcw==",
        "Bearer " + "x" * 4000,
        "\u00fc",
    ],
)
async def test_a_wrong_token_is_turned_away(forge: Forge, authorization: str) -> None:
    reasons = ("missing", "wrong", "scope", "limited", "too_fast")
    before = [await forge.metric("daemonpulse_auth_failures_total", reason=reason) for reason in reasons]
    assert before == [0.0] * len(reasons)
    response = await forge.http.get("/v1/daemons", headers={b"Authorization": authorization.encode()})
    assert response.status_code == 401
    counted = "wrong" if authorization.startswith("Bearer") else "missing"
    assert await forge.metric("daemonpulse_auth_failures_total", reason=counted) == 1
    assert "dp_aaaaaaaa" not in response.text


async def test_an_expired_and_a_revoked_token_are_turned_away_and_the_reason_is_on_record(
    forge: Forge,
) -> None:
    expired = await forge.token("admin", name="old", expires_ms=1)
    response = await forge.http.get("/v1/daemons", headers={"Authorization": f"Bearer {expired}"})
    assert response.status_code == 401
    revoked = await forge.token("admin", name="gone")
    tokens = forge.parts.tokens
    await forge.parts.service.storage.write(lambda db: tokens.revoke(db, "gone"))
    response = await forge.http.get("/v1/daemons", headers={"Authorization": f"Bearer {revoked}"})
    assert response.status_code == 401
    reasons = [entry["detail"]["reason"] for entry in await forge.audit("denied")]
    assert reasons == ["it has expired", "it was revoked"]
    assert revoked not in str(await forge.audit())


async def test_wrong_tokens_are_limited_and_do_not_lock_out_the_right_one(forge: Forge) -> None:
    wrong = {"Authorization": "Bearer dp_aaaaaaaa_" + "A" * 43}
    answers = [(await forge.http.get("/v1/daemons", headers=wrong)) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await forge.http.get("/v1/daemons")).status_code == 200
    assert len(await forge.audit("denied")) == 5
    assert await forge.metric("daemonpulse_auth_failures_total", reason="limited") == 3


async def test_the_person_grafana_names_is_on_record_and_grants_nothing(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope="read")
    person = {"X-Grafana-User": "alice"}
    assert (await forge.load(headers=person)).status_code == 403
    operator = {**person, "Authorization": f"Bearer {await forge.token('operate')}"}
    assert (await forge.load(headers=operator)).status_code == 200
    entries = [entry for entry in await forge.audit() if entry["action"] == "load"]
    assert [(entry["kind"], entry["person"]) for entry in entries] == [
        ("denied", "alice"),
        ("intent", "alice"),
        ("outcome", "alice"),
    ]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9811", "127.0.0.1.evil.example", "", "[::2]"])
async def test_a_foreign_host_header_is_turned_away_on_loopback(forge: Forge, host: str) -> None:
    response = await forge.http.get("/healthz", headers={"Host": host})
    assert response.status_code in {400, 421}
    assert response.status_code == 421 or host == ""


async def test_our_own_names_are_taken(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, allowed_hosts=("forge.lan",))
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:9811", "forge.lan"):
        assert (await forge.http.get("/healthz", headers={"Host": host})).status_code == 200, host


async def test_a_browser_of_another_origin_gets_no_leave(forge: Forge) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = await forge.http.options(forge.path("models/load"), headers=origin)
    assert preflight.status_code == 403
    read = await forge.http.get("/v1/daemons", headers=origin)
    assert not [name for name in (*preflight.headers, *read.headers) if name.startswith("access-control")]


async def test_a_body_that_is_too_large_is_not_read(forge: Forge) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    big = await forge.http.post(forge.path("models/load"), content=b" " * 100_000)
    chunked = await forge.http.post(
        forge.path("models/load"), content=endless(), headers={"Content-Type": "application/json"}
    )
    assert (big.status_code, chunked.status_code) == (413, 413)


async def test_beyond_loopback_it_does_not_start_without_a_token(tmp_path: Path, sim: Simulator) -> None:
    chosen = settings(tmp_path, daemon(sim.url), listen_host="0.0.0.0")  # noqa: S104 - what is refused
    with pytest.raises(SettingsError, match="token new"):
        await app.serve(chosen)


async def test_beyond_loopback_it_starts_with_a_token_and_hears_nobody_without(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, listen_host="0.0.0.0")  # noqa: S104
    url = forge.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    assert (await forge.http.get(f"{url}/v1/daemons", headers={"Host": "any.name"})).status_code == 200
    async with httpx.AsyncClient(trust_env=False) as stranger:
        assert (await stranger.get(f"{url}/v1/daemons")).status_code == 401


async def test_an_expired_last_token_does_not_open_the_door_again(
    start_forge: StartForge, sim: Simulator, tmp_path: Path
) -> None:
    storage = await Storage.open(tmp_path / "state")
    await make_token(storage, "operate", expires_ms=1)
    await storage.close()
    forge = await start_forge(sim, scope=None)
    assert (await forge.http.get("/v1/daemons")).status_code == 401


async def test_the_state_is_for_its_owner_only(forge: Forge, tmp_path: Path) -> None:
    await forge.load()
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
