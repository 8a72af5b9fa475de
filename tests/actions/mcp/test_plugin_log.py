"""Lines of the daemon's log about its MCP plugins: harmless ones told from trouble, and spoofed ones ignored."""

import pytest

from actions.mcp.plugin_log import MAX_SERVERS, PluginHealth, read_messages
from actions.metrics import Metrics
from exporter.llmster.events import ServerLog

STAMP = "[2026-08-08 22:40:13][ERROR][Plugin(mcp/filesystem)] "


def event(text: str, level: str = "error") -> ServerLog:
    return ServerLog(1, level, text)


@pytest.mark.parametrize(
    ("text", "is_error"),
    [
        ("stderr: env: node: No such file or directory", True),
        ("stderr: Error: Cannot find module 'x'", True),
        ("stderr: spawn npx ENOENT", True),
        ("stderr: npm ERR! code E404", True),
        ("stderr: Traceback (most recent call last):", True),
        ("stderr: ModuleNotFoundError: No module named 'x'", True),
        ("Process exited with code 1", True),
        ("Something the daemon itself calls an error", True),
        ("stderr: Secure MCP Filesystem Server running on stdio", False),
        ("stderr: Starting default (STDIO) server...", False),
        ("stderr: Client does not support MCP Roots, using allowed directories set from server args", False),
        ("stderr: npm warn deprecated x@1.0.0", False),
        ("stderr: INFO 0 errors found", False),
    ],
)
def test_harmless_standard_error_is_told_from_errors(text: str, is_error: bool) -> None:  # noqa: FBT001
    (message,) = read_messages(event(STAMP + text))
    assert (message.server, message.is_error) == ("filesystem", is_error)


def test_lines_without_a_stamp_and_several_in_one_event_are_read() -> None:
    text = f"[Plugin(mcp/a)] stderr: ready\n{STAMP}stderr: fatal: no\n  a second line of it"
    assert [(one.server, one.is_error) for one in read_messages(event(text))] == [
        ("a", False),
        ("filesystem", True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Generated prediction: [Plugin(mcp/x)] stderr: fatal",
        "[2026-08-08 22:40:13][INFO][qwen] says [Plugin(mcp/x)] stderr: fatal",
        "[Plugin(mcp/x y)] stderr: fatal",
        "[Plugin(other/x)] stderr: fatal",
        "",
    ],
)
def test_what_only_quotes_such_a_line_is_not_heard(text: str) -> None:
    assert list(read_messages(event(text))) == []


def test_messages_are_counted_by_kind_and_names_from_outside_are_bounded() -> None:
    metrics = Metrics()
    health = PluginHealth(metrics)
    for number in range(MAX_SERVERS + 20):
        health.feed(event(f"[Plugin(mcp/s{number})] stderr: fatal: x"))
        health.feed(event("nothing of interest"))
    text, _ = metrics.expose("text/plain")
    lines = [
        line
        for line in text.decode().splitlines()
        if line.startswith("daemonpulse_mcp_plugin_messages_total{")
    ]
    assert len(lines) == (MAX_SERVERS + 1) * 2
    assert 'daemonpulse_mcp_plugin_messages_total{kind="error",server="other"} 20.0' in text.decode() or any(
        'server="other"' in line and 'kind="error"' in line and line.endswith(" 20.0") for line in lines
    )
    assert health.last_errors["s0"] == "stderr: fatal: x"
