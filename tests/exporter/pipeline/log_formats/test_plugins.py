"""Lines of the daemon's log about its MCP plugins: harmless ones told from errors, spoofed ones ignored."""

import pytest

from exporter.llmster.events import ServerLog
from exporter.pipeline.log_formats import plugins, stamps
from exporter.pipeline.log_stream import MAX_PLUGINS, EventFlow
from exporter.pipeline.predictions import PredictionBuilder

STAMP = "[2026-08-08 22:40:13][ERROR][Plugin(mcp/filesystem)] "


def read(text: str, level: str = "error") -> list[tuple[str, bool]]:
    return [(line.server, line.is_error) for line in plugins.read(text, level)]


@pytest.mark.parametrize(
    ("text", "is_error"),
    [
        ("stderr: env: node: No such file or directory", True),
        ("stderr: Error: Cannot find module 'x'", True),
        ("stderr: spawn npx ENOENT", True),
        ("stderr: npm ERR! code E404", True),
        ("stderr: Traceback (most recent call last):", True),
        ("stderr: ModuleNotFoundError: No module named 'x'", True),
        ("stderr: a.b.SomeException: bad", True),
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
    assert read(STAMP + text) == [("filesystem", is_error)]


@pytest.mark.parametrize(("level", "is_error"), [("error", True), ("info", False)])
def test_a_line_without_a_level_has_that_of_its_event(level: str, is_error: bool) -> None:  # noqa: FBT001
    assert read("[Plugin(mcp/a)] no harm", level) == [("a", is_error)]


def test_lines_without_a_stamp_and_several_in_one_event_are_read() -> None:
    text = f"[Plugin(mcp/a)] stderr: ready\n{STAMP}stderr: fatal: no\n  a second line of it"
    assert read(text) == [("a", False), ("filesystem", True)]


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
def test_what_only_quotes_such_a_line_is_ignored(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize("before", ["\n", "x\n", "\n\n", "no\nplugin\n"])
def test_a_line_is_found_behind_others_of_any_length(before: str) -> None:
    assert read(f"{before}{STAMP}stderr: ready\n{STAMP}stderr: fatal") == [
        ("filesystem", False),
        ("filesystem", True),
    ]


def test_of_a_dump_the_first_lines_are_read_and_of_each_its_beginning() -> None:
    dump = "\n".join(f"[Plugin(mcp/s{number})] x" for number in range(plugins.MAX_LINES + 1))
    assert [server for server, _ in read(dump)] == [f"s{number}" for number in range(plugins.MAX_LINES)]
    for size, is_error in ((486, True), (487, False)):
        assert read(f"{STAMP}stderr: {'x' * size} fatal") == [("filesystem", is_error)]


@pytest.mark.parametrize("unit", ["\n", " ", "[Plugin(mcp/", "[Plugin(mcp/a)]\n", "[Plugin(mcp/a)] x", "a."])
def test_twice_the_text_is_at_most_twice_the_work(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """Work is the characters handed to regular expressions, each of which looks at a bounded number of them."""
    work = 0
    read_stamp = stamps.read

    def counting(text: str) -> stamps.Stamp:
        nonlocal work
        work += len(text)
        return read_stamp(text)

    monkeypatch.setattr(stamps, "read", counting)
    spent = []
    for size in (20_000, 40_000):
        work = 0
        read("[Plugin(mcp/a)]" + unit * (size // len(unit)) + "[Plugin(mcp/a)]")
        spent.append(work)
    assert spent[1] <= 2 * spent[0] + 400
    assert spent[1] <= 400 * plugins.MAX_LINES


def test_messages_are_counted_by_kind_and_names_from_outside_are_bounded() -> None:
    flow = EventFlow(PredictionBuilder("d"), [])
    for number in range(MAX_PLUGINS + 20):
        flow.take(ServerLog(1, "error", f"[Plugin(mcp/s{number})] stderr: fatal: x"))
        flow.take(ServerLog(1, "error", "nothing of interest"))
    flow.take(ServerLog(1, "error", "[Plugin(mcp/s0)] stderr: ready"))
    counted = flow.counts.plugins
    assert len(counted) == (MAX_PLUGINS + 1) * 2
    assert counted["other", "error"] == 20
    assert (counted["s0", "error"], counted["s0", "notice"], counted["s1", "notice"]) == (1, 1, 0)
