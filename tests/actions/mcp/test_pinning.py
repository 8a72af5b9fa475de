"""Tools that come and go: the metric has those that are listed, and the log tells of each change once."""

import logging
from collections.abc import Iterable
from typing import Any, cast

import mcp_types as types
import pytest

from actions.mcp.identifiers import MAX_NAME
from actions.mcp.pinning import ToolPins
from actions.mcp.policy.rules import Policy
from actions.mcp.policy.store import PolicyStore
from actions.mcp.upstream.listing import Listing
from actions.mcp.upstream.server import Upstream
from actions.mcp.upstream.spec import ServerSpec, Stdio
from actions.metrics import Metrics


def tool(name: str, description: str = "") -> types.Tool:
    return types.Tool(name=name, description=description, input_schema={"type": "object"})


class Pinned(PolicyStore):
    """Has approved every tool as it looks without a description."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), Policy())

    def is_changed(self, _server: str, name: str, mark: str | None) -> bool:
        return mark != Listing([tool(name)]).fingerprints[name]


def shown(metrics: Metrics) -> list[str]:
    lines = metrics.expose("")[0].decode().splitlines()
    return [line for line in lines if line.startswith("daemonpulse_mcp_tool_changed{")]


def test_tools_that_are_listed_no_more_leave_the_metric_and_changes_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, none = Metrics(), cast("Any", None)
    tools = ToolPins(Pinned(), metrics)
    upstream = Upstream(ServerSpec("s", Stdio("x")), group=none, metrics=metrics, list_changed=none)

    def listed(now: Iterable[types.Tool]) -> list[str]:
        upstream.listing = Listing(now)
        tools.compare(upstream)
        return shown(metrics)

    one = 'daemonpulse_mcp_tool_changed{server="s",tool="one"}'
    with caplog.at_level(logging.WARNING):
        assert len(listed([tool("one", "new"), tool("two")])) == 2
        assert listed([tool("one", "new")]) == [f"{one} 1.0"]
        assert listed([tool("one")]) == [f"{one} 0.0"]
        assert listed([tool("one", "new")]) == [f"{one} 1.0"]
    assert len(caplog.records) == 1
    assert listed([]) == []
    tools.forget("s")
    assert tools._told == {}


def test_a_name_that_is_too_long_for_a_label_is_no_tool() -> None:
    listing = Listing([tool("x" * MAX_NAME), tool("x" * (MAX_NAME + 1))])
    assert (list(listing.tools), listing.dropped) == (["x" * MAX_NAME], 1)
