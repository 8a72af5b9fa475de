"""A tool server sends as much as a message may hold: what is looked at one by one has a number."""

import asyncio
from typing import Any

import mcp_types as types
import pytest
from mcp_types import methods

from actions.mcp.completions import MAX_VALUES, Completions
from actions.mcp.policy.rules import Policy
from actions.mcp.sdk_server import MAX_UNDER_WAY, Progress
from actions.mcp.upstream.lenient import MAX_ITEMS, repaired

GOOD = {"name": "good", "inputSchema": {"type": "object"}}
ITEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "tools/list": ("tools", GOOD),
    "prompts/list": ("prompts", {"name": "p"}),
    "resources/list": ("resources", {"name": "r", "uri": "x:y"}),
    "resources/templates/list": ("resourceTemplates", {"name": "t", "uriTemplate": "x:{y}"}),
}


@pytest.mark.parametrize("method", ITEMS)
@pytest.mark.parametrize("bad", [[], [3]])
def test_a_page_of_a_list_has_a_length_and_the_rest_is_counted(method: str, bad: list[Any]) -> None:
    key, item = ITEMS[method]
    result, dropped = repaired(method, "2025-11-25", {key: [*bad, *[item] * 100_000]})
    assert len(result[key]) == MAX_ITEMS - len(bad)
    assert dropped == 100_000 - MAX_ITEMS + 2 * len(bad)


def test_what_else_is_in_a_list_is_not_looked_at_once_per_item(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    validate = methods.validate_server_result

    def noting(method: str, version: str, value: dict[str, Any]) -> Any:
        seen.append(len(str(value.get("_meta", ""))))
        return validate(method, version, value)

    monkeypatch.setattr(methods, "validate_server_result", noting)
    result, dropped = repaired(
        "tools/list", "2025-11-25", {"tools": [3, *[GOOD] * 100], "_meta": {"x": "y" * 1_000}}
    )
    assert (len(result["tools"]), dropped) == (100, 1)
    assert result["_meta"] == {"x": "y" * 1_000}
    assert sum(size > 0 for size in seen) <= 2


async def test_values_of_a_completion_are_judged_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    async def may(*_: object) -> bool:
        return True

    def shows(_self: object, _params: object, value: str) -> bool:
        judged.append(value)
        return value.endswith("7")

    monkeypatch.setattr(Completions, "_may_ask", may)
    monkeypatch.setattr(Completions, "_may_show", shows)

    async def ask(_request: object) -> types.CompleteResult:
        values = [str(number) for number in range(100_000)]
        return types.CompleteResult(completion=types.Completion.model_construct(values=values))

    upstream: Any = None
    completions = Completions(upstream, Policy(), "me")
    params = types.CompleteRequestParams(
        ref=types.ResourceTemplateReference(uri="x:{y}"),
        argument=types.CompletionArgument(name="y", value=""),
    )
    result = await completions.complete(params, ask)
    assert len(judged) == 10 * MAX_VALUES
    assert len(result.completion.values) == MAX_VALUES


async def test_progress_that_a_client_does_not_take_is_dropped_beyond_a_number() -> None:
    taken = asyncio.Event()
    sent: list[float] = []

    class Session:
        async def report_progress(self, progress: float, _total: float | None, _message: str | None) -> None:
            sent.append(progress)
            await taken.wait()

    session: Any = Session()
    progress = Progress(session)
    async with asyncio.TaskGroup() as group:
        for number in range(10 * MAX_UNDER_WAY):
            group.create_task(progress(number, None, None))
        await asyncio.sleep(0)
        assert len(sent) == MAX_UNDER_WAY
        taken.set()
    await progress(1, None, None)
    assert len(sent) == MAX_UNDER_WAY + 1, "one that is taken makes room"
