"""Every route with every kind of token, out of the OpenAPI document: a route that is added is in here by itself."""

from typing import Any, Final

import httpx
import pytest

from actions.domain.actor import Scope
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, StartForge, sim, start_forge

__all__ = ["sim", "start_forge"]

OPEN: Final = {"/healthz", "/metrics", "/sd"}
"""Numbers without names of prompts, and addresses to scrape; docs/SECURITY.md says so."""

LOOKS: Final = {"/v1/daemons/{daemon}/preflight", "/v1/daemons/{daemon}/fit"}
"""Posts that change nothing."""

ADMIN: Final = {
    "/v1/mcp/servers/{server}/tools/{tool}/gate", "/v1/mcp/gate", "/v1/mcp/adopt",
    "/v1/daemons/{daemon}/engines/select", "/v1/daemons/{daemon}/engines/update",
}  # fmt: skip
"""What stands after it was done."""

QUERIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/fleet/desired": {"name": "none", "at_least": 0},
    "/v1/fleet/eject-all": {"daemon": "box"},
    "/v1/fleet/eject": {"daemon": "box", "instance_id": "none"},
    "/v1/fleet/load": {"daemon": "box", "model": "no/such"},
    "/v1/fleet/download": {"daemon": "box", "model": "no/such"},
    "/v1/fleet/probe": {"daemon": "box", "model": "no/such"},
    "/v1/fleet/pin": {"daemon": "box", "instance_id": "none", "pinned": False},
    "load": {"model": "no/such"},
    "preflight": {"model": SMALL},
    "fit": {"model": SMALL},
    "eject": {"instance_id": "none"},
    "download": {"model": "no/such"},
    "probe": {"model": "no/such"},
    "desired": {"instance_id": "none", "pinned": False},
    "gate": {"decision": "ask"},
    "select": {"engine": "none", "version": "1.0.0", "model_format": "gguf"},
    "update": {"engine": "none", "version": "1.0.0"},
    "/v1/operations/cancel": {"id": "none"},
    "/v1/mcp/gate": {"server": "none", "tool": "none", "decision": "ask"},
    "/v1/mcp/approvals/approve": {"id": "none"},
    "/v1/mcp/approvals/deny": {"id": "none"},
    "adopt": {"dry_run": True},
    "/v1/live/text": {"daemon": "none", "request": "none"},
}


def needed(path: str, method: str) -> Scope | None:
    """The scope that docs/ACTIONS.md and docs/MCP.md promise; whatever changes something needs operate at least."""
    if path in OPEN:
        return None
    if path == "/v1/live/text":
        return Scope.TEXT
    if method == "get" or path in LOOKS:
        return Scope.READ
    return Scope.ADMIN if path in ADMIN else Scope.OPERATE


async def ask(http: httpx.AsyncClient, path: str, method: str, token: str | None, operation: str) -> int:
    where = path.format(daemon="box", server="none", tool="none", operation_id=operation, approval_id="none")
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    body: dict[str, Any] | None = {"instances": []} if method == "put" else None
    query = QUERIES.get(path, QUERIES.get(path.rpartition("/")[2], {})) if method == "post" else {}
    if path.startswith(("/v1/models/", "/v1/probe")):
        query = {**query, "daemon": "box"}
    answer = await http.request(method, where, params=query, json=body, headers=headers)
    return answer.status_code


async def routes(forge: Forge) -> list[tuple[str, str]]:
    document = (await forge.http.get("/openapi.json")).json()
    return [(path, method) for path, methods in document["paths"].items() for method in methods]


async def test_every_route_takes_its_scope_and_no_lower_one(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim)
    operation = (await forge.load()).json()["id"]
    tokens = {scope: await forge.token(scope.value, name=scope.value) for scope in Scope}
    wrong: dict[str, str | None] = {
        "none": None,
        "unknown": "dp_aaaaaaaa_" + "A" * 43,
        "expired": await forge.token("admin", name="old", expires_ms=1),
        "revoked": await forge.token("admin", name="gone"),
        "form": "admin",
    }
    await forge.parts.service.storage.write(lambda db: forge.parts.tokens.revoke(db, "gone"))
    found = await routes(forge)
    assert len(found) > 20
    assert {"/v1/audit", "/v1/mcp/adopt", "/v1/mcp/approvals/{approval_id}/approve"} < {
        path for path, _ in found
    }
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False, timeout=30) as http:
        for path, method in found:
            needs = needed(path, method)
            for name, token in wrong.items():
                status = await ask(http, path, method, token, operation)
                expected = {401, 429} if needs is not None else {200}
                assert status in expected, (path, method, name, status)
            for scope, token in tokens.items():
                status = await ask(http, path, method, token, operation)
                if needs is None or scope.includes(needs):
                    assert status not in {401, 403}, (path, method, scope, status)
                    assert status < 500 or status == 503, (path, method, scope, status)
                else:
                    assert status == 403, (path, method, scope, status)


@pytest.mark.parametrize("scope", [None, *Scope])
async def test_a_tool_is_called_with_a_token_only(
    start_forge: StartForge, sim: Simulator, scope: Scope | None
) -> None:
    forge = await start_forge(sim, scope=scope.value if scope else None)
    for path in ("/mcp/none", "/mcp/", "/mcp/a/b", "/mcp/%2e%2e", "/mcp/..%2fv1%2faudit"):
        for method in ("GET", "POST", "DELETE"):
            answer = await forge.http.request(method, path)
            assert answer.status_code == (404 if scope else 401), (path, method)


async def test_what_is_always_approved_needs_admin_and_a_person_in_a_header_needs_a_token_like_all(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope="operate")
    for verb in ("approve", "deny"):
        answer = await forge.http.post(f"/v1/mcp/approvals/none/{verb}", params={"always": True})
        assert answer.status_code == 403
    spoofed = {
        "X-Grafana-User": "admin",
        "X-Grafana-Id": "eyJ",
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-Ip": "::1",
    }
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False, headers=spoofed) as http:
        for path in ("/v1/daemons", "/v1/audit"):
            assert (await http.get(path)).status_code == 401
        assert (await http.post(forge.path("models/eject-all"))).status_code == 401


PATHS: Final = (
    "/v1/../v1/audit",
    "/v1//audit",
    "//v1/audit",
    "/v1/audit/",
    "/V1/audit",
    "/v1/audit%00",
    "/v1/audit;x",
    "/v1%2faudit",
    "/metrics/../v1/audit",
    "/metrics/..%2fv1/audit",
    "/healthz/v1/audit",
    "/openapi.json/../v1/audit",
    "/static/../../../../etc/passwd",
    "/v1/daemons/..%2f..%2f..%2fetc%2fpasswd/models",
    "/v1/mcp/servers/..%2f..%2fetc/tools",
)


async def test_no_way_of_writing_a_path_leads_around_the_token(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim)
    async with httpx.AsyncClient(base_url=forge.url, trust_env=False) as http:
        for path in PATHS:
            request = http.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = await http.send(request)
            assert answer.status_code in {307, 400, 401, 404, 422}, path
            assert b"entries" not in answer.content
            assert b"root:" not in answer.content


async def test_a_scope_that_is_too_low_is_told_before_any_parameter_is_explained(
    start_forge: StartForge, sim: Simulator
) -> None:
    forge = await start_forge(sim, scope="read")
    for path, method in await routes(forge):
        needs = needed(path, method)
        if method == "get" or needs in {None, Scope.READ}:
            continue
        where = path.format(daemon="box", server="none", tool="none", operation_id="none", approval_id="none")
        answer = await forge.http.request(method, where, params={"no-such-parameter": "1"})
        assert answer.status_code == 403, (path, method, answer.text)
        assert answer.json()["has"] == "read", (path, method)
