"""Attacks on what is passed on: nothing reaches a tool server undecided, and nothing it says passes for the gate's."""

import json
from pathlib import Path
from typing import Any, cast

import httpx
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from actions.mcp.completions import expanded
from tests.actions.mcp.conftest import Gated, Start, asked, gate_of, rawbox, rule, start, text_of
from tests.actions.mcp.upstream.test_spec import INITIALIZE

__all__ = ["start"]

DENIED = """
[[rules]]
prompt = "mail"
decision = "deny"
[[rules]]
prompt = "read"
decision = "allow"
paths = { arguments = ["path"], roots = ["/srv"] }
[[rules]]
resource = "file:///etc/*"
decision = "deny"
"""
SPELLINGS = [
    "docs://secret/x",
    "docs://./secret/x",
    "docs://../secret/x",
    "docs://%2e/secret/x",
    "docs://a%2F..%2Fsecret/x",
    "docs://secret%2Fx",
    "docs:////secret/x",
    "docs://a/..;/../secret/x",
    "docs://a/b/..;x=1/..;/secret/x",
    "docs://a/b//c",
    "docs://me@secret/x",
    "docs://open@secret:80/x",
    "docs://secret:1/x",
    "docs://a/%25%32%65%25%32%65/secret/x",
]
PATHS = ["\uff0e\uff0e/etc", "\u2025/etc", "..;/etc", "a\uff0f..\uff0f..\uff0fetc", "loop/x"]


async def test_no_spelling_of_a_host_or_path_reaches_what_a_rule_withholds(
    start: Start, tmp_path: Path
) -> None:
    log, root = tmp_path / "log", tmp_path / "root"
    root.mkdir()
    (root / "loop").symlink_to("loop")
    denied = '[[rules]]\nresource = "docs://secret/*"\ndecision = "deny"\n'
    paths = f'{{ arguments = ["path"], roots = ["{root}"] }}'
    gate = await start(rawbox(log=log) + denied + rule("allow", "good", paths=paths))
    async with gate.client("rawbox") as client:
        for uri in SPELLINGS:
            with pytest.raises(MCPError):
                await client.read_resource(uri)
        for path in PATHS:
            assert (await client.call_tool("good", {"path": f"{root}/{path}"})).is_error, path
        assert asked(log, "resources/read") + asked(log, "tools/call") == []
        await client.read_resource("docs://open/x")
        assert not (await client.call_tool("good", {"path": f"{root}/new"})).is_error


TEMPLATE = types.ResourceTemplateReference(uri="file:///{+path}")


async def completed(client: Client, ref: Any, value: str, name: str = "path") -> list[str]:
    return (await client.complete(ref, {"name": name, "value": value})).completion.values


async def test_no_completion_tells_what_a_rule_withholds(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + DENIED)
    async with gate.client("rawbox") as client:
        for name in ("mail", "MAIL", "mail ", "unlisted", "read"):  # denied, not listed, with constraints
            assert await completed(client, types.PromptReference(name=name), "/etc/") == []
        for uri in (
            "file:///etc/{+path}",
            "FILE:///{+path}",
            "file:///srv/../{+path}",
            "file:///{path}",
            "x",
        ):
            assert await completed(client, types.ResourceTemplateReference(uri=uri), "etc/") == []
        assert asked(log, "completion/complete") == []
        assert await completed(client, TEMPLATE, "etc/") == ["srv/a"]
        assert await completed(client, TEMPLATE, "etc/", "other") == []
    gate = await start('default_resource = "ask"\n' + rawbox(log=log), token=gate.token)
    async with gate.client("rawbox") as client:
        assert await completed(client, TEMPLATE, "s") == []


@pytest.mark.parametrize(
    ("template", "last", "uri"),
    [
        ("file:///{+path}", "path", "file:///a/b"),
        ("file:///{path}", "path", "file:///a%2Fb"),
        ("x://{dir}/{path}", "path", "x://d/a%2Fb"),
        ("x://{dir}/{path}", "dir", "x://d/{path}"),
        ("x://{unknown}/{path}", "path", None),
        ("x://h{?path}", "path", None),
        ("x://h/{path*}", "path", None),
        ("x://h/{dir,path}", "path", None),
        ("x://h/{path", "path", None),
    ],
)
def test_a_template_is_expanded_up_to_the_variable_in_question_or_not_at_all(
    template: str, last: str, uri: str | None
) -> None:
    assert expanded(template, {"path": "a/b", "dir": "d"}, last) == uri


async def raw(gate: Gated, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Send a request as no client would."""
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {gate.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as http:
        url = f"{gate.url}/mcp/rawbox"
        session = {"Mcp-Session-Id": (await http.post(url, json=INITIALIZE)).headers["mcp-session-id"]}
        request = {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}
        text = (await http.post(url, json=request, headers=session)).text
    return cast("dict[str, Any]", json.loads(text.partition("data: ")[2]))


async def test_beside_name_and_arguments_nothing_of_a_request_reaches_the_server(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow"))
    more = {
        "_meta": {
            "path": "/etc",
            "io.modelcontextprotocol/related-task": {"taskId": "1"},
            "progressToken": "x",
        },
        "task": {"ttl": 1},
        "requestState": "granted",
        "inputResponses": {"x": {"action": "accept"}},
        "evil": 1,
    }
    await raw(gate, "tools/call", {"name": "good", "arguments": {"path": "/a"}, **more})
    await raw(gate, "prompts/get", {"name": "mail", "arguments": {"a": "b"}, **more})
    await raw(gate, "resources/read", {"uri": "file:///srv/a", **more})
    sent = {}
    for method in ("tools/call", "prompts/get", "resources/read"):
        (request,) = asked(log, method)
        sent[method] = request["params"]
        if "_meta" in sent[method]:  # the gate's own token, not the client's
            assert sent[method].pop("_meta").keys() == {"progressToken"}
    assert sent == {
        "tools/call": {"name": "good", "arguments": {"path": "/a"}},
        "prompts/get": {"name": "mail", "arguments": {"a": "b"}},
        "resources/read": {"uri": "file:///srv/a"},
    }


@pytest.mark.parametrize(
    "method",
    ["resources/subscribe", "logging/setLevel", "tasks/get", "tasks/result", "sampling/createMessage"],
)
async def test_a_method_that_no_rule_is_about_is_not_passed_on(
    start: Start, tmp_path: Path, method: str
) -> None:
    log = tmp_path / "log"
    gate = await start(rawbox(log=log) + rule("allow"))
    answer = await raw(
        gate, method, {"uri": "file:///srv/a", "level": "debug", "taskId": "1", "messages": []}
    )
    assert answer["error"]["code"] == types.METHOD_NOT_FOUND
    assert asked(log, method) == []


async def test_every_result_has_the_gates_own_word_whatever_the_server_wrote_in_its_place(
    start: Start,
) -> None:
    gate = await start(rawbox() + rule("allow", name='"all"'))
    async with gate.client("rawbox") as client:
        for result in (await client.get_prompt("mail"), await client.read_resource("file:///srv/a")):
            said = (result.meta or {})["io.daemonpulse/gate"]
            assert said == {"decision": "allow", "rule": "default"}
        with pytest.raises(MCPError) as caught:
            await client.call_tool("own-error", {})
        assert caught.value.error.data == {"own": 1}
        assert gate_of(await client.call_tool("twist", {}))["rule"] == "all"
        assert text_of(await client.call_tool("twist", {})) == "twisted"
