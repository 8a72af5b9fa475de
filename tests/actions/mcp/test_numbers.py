"""Arguments that are no JSON: what MCP's own reader lets through must not stop the gate's records."""

import httpx

from tests.actions.mcp.conftest import Start, rule, toolbox

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"raw","version":"1"}}}'
)
CALL = (
    '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":'
    '{"text":"x","more":[NaN,-Infinity]}}}'
)


async def test_a_call_with_not_a_number_is_on_record_and_so_is_the_next(start: Start) -> None:
    gate = await start("capture_arguments = true\n" + toolbox() + rule("allow"))
    headers = HEADERS | {"Authorization": f"Bearer {gate.token}"}
    async with httpx.AsyncClient(base_url=gate.url, headers=headers, timeout=20, trust_env=False) as http:
        hello = await http.post("/mcp/toolbox", content=HELLO)
        assert hello.status_code == 200, hello.text
        session = hello.headers.get("mcp-session-id")
        if session is not None:
            http.headers["mcp-session-id"] = session
        for _ in range(2):
            assert (await http.post("/mcp/toolbox", content=CALL)).status_code == 200
    outcomes = await gate.outcomes(2)
    intents = await gate.audit("intent")
    assert len(outcomes) == 2
    assert [intent["detail"]["arguments"]["more"] for intent in intents] == [["nan", "-inf"]] * 2
