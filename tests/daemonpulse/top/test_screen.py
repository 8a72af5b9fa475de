"""The screen by textual's pilot: what it shows at two sizes, and what its keys do."""

import os
from pathlib import Path

import pytest

from daemonpulse.top.commands import Commands, Pending, Refused
from daemonpulse.top.model import Screen, screen_of
from daemonpulse.top.screen import Confirm, Top
from daemonpulse.top.source import Unreadable
from tests.daemonpulse.top.scrapes import BIG, LIVE, scrape

GOLDEN = Path(__file__).parents[2] / "golden"


class Readings:
    """Gives the same screen until told to fail."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.reads = 0

    async def screen(self) -> Screen:
        self.reads += 1
        if self.problem is not None:
            raise Unreadable(self.problem)
        return screen_of(scrape(), live=LIVE)


class Noted(Commands):
    """Notes what it is told instead of doing it."""

    def __init__(self, *, refuses: bool = False) -> None:
        super().__init__(None, None)
        self.done: list[tuple[str, ...]] = []
        self._refuses = refuses

    async def _run(self, *words: str) -> str:
        if self._refuses:
            raise Refused("daemonpulse: busy")
        self.done.append(words)
        return '{"approvals": [{"id": "ap_1", "server": "s", "tool": "t", "token": "k", "arguments": "{}"}]}'


def text_of(top: Top) -> str:
    """Give what the terminal shows."""
    strips = top.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def screen(commands: Commands | None = None, readings: Readings | None = None) -> Top:
    return Top(readings or Readings(), interval_s=3600, commands=commands)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_it_looks_as_it_did(size: tuple[int, int]) -> None:
    top = screen()
    async with top.run_test(size=size) as pilot:
        await pilot.pause()
        await top.workers.wait_for_complete()
        await pilot.pause()
        shown = text_of(top)
    golden = GOLDEN / f"top-{size[0]}x{size[1]}.txt"
    if os.environ.get("DAEMONPULSE_TEST_UPDATE"):
        golden.write_text(shown + "\n", encoding="utf-8")
    assert shown + "\n" == golden.read_text(encoding="utf-8")


async def test_a_reading_that_fails_leaves_the_last_one_and_says_so() -> None:
    readings = Readings()
    top = screen(readings=readings)
    async with top.run_test(size=(100, 30)) as pilot:
        await top.workers.wait_for_complete()
        readings.problem = "http://x/metrics: HTTP 500"
        await top.refresh_screen().wait()
        await pilot.pause()
        shown = text_of(top)
    assert "HTTP 500; showing the last reading" in shown
    assert "qwen/qwen3-8b" in shown


async def test_pause_stops_reading() -> None:
    readings = Readings()
    top = screen(readings=readings)
    async with top.run_test() as pilot:
        await top.workers.wait_for_complete()
        await pilot.press("p")
        before = readings.reads
        await top.refresh_screen().wait()
        assert readings.reads == before
        await pilot.press("p")
        await top.refresh_screen().wait()
        assert readings.reads == before + 1


async def test_filter_keeps_rows_that_contain_the_text() -> None:
    top = screen()
    async with top.run_test(size=(120, 40)) as pilot:
        await top.workers.wait_for_complete()
        await pilot.press("slash", *"coder", "enter")
        await pilot.pause()
        assert top._table("instances").row_count == 1
        assert BIG[:9] in str(top._table("instances").get_row_at(0)[0])


async def test_eject_asks_with_target_and_consequence_and_no_changes_nothing() -> None:
    commands = Noted()
    top = screen(commands)
    async with top.run_test(size=(120, 40)) as pilot:
        await top.workers.wait_for_complete()
        top._table("instances").focus()
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(top.screen, Confirm)
        assert "Eject qwen/qwen3-8b from forge? 3 requests in flight end." in " ".join(text_of(top).split())
        await pilot.press("n")
        await top.workers.wait_for_complete()
        assert commands.done == []
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("y")
        await top.workers.wait_for_complete()
    assert commands.done == [("eject", "qwen/qwen3-8b", "--daemon", "forge", "--force")]


async def test_without_a_token_the_keys_say_what_is_missing() -> None:
    top = screen()
    async with top.run_test(size=(120, 40)) as pilot:
        await top.workers.wait_for_complete()
        await pilot.press("a")
        await top.workers.wait_for_complete()
        assert [note.message for note in top._notifications] == [
            "read-only: start with --token-file, or set DAEMONPULSE_ACTIONS_TOKEN_FILE"
        ]


async def test_a_pending_call_is_shown_before_it_is_approved() -> None:
    commands = Noted()
    top = screen(commands)
    async with top.run_test(size=(120, 40)) as pilot:
        await top.workers.wait_for_complete()
        await pilot.press("a")
        await pilot.pause()
        assert "Approve s/t for k?" in text_of(top)
        await pilot.press("y")
        await top.workers.wait_for_complete()
    assert commands.done == [("mcp", "approvals", "--json"), ("mcp", "approve", "ap_1")]


async def test_a_refused_command_says_why() -> None:
    top = screen(Noted(refuses=True))
    async with top.run_test(size=(120, 40)) as pilot:
        await top.workers.wait_for_complete()
        await pilot.press("a")
        await top.workers.wait_for_complete()
        assert [note.message for note in top._notifications] == ["daemonpulse: busy"]


async def test_pending_calls_are_read_from_the_command_line() -> None:
    assert await Noted().pending() == [Pending("ap_1", "s/t for k", "{}")]
