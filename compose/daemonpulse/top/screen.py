"""The terminal screen of `daemonpulse top`: tables that refresh, sort, filter and pause. Textual draws them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Final

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Label, Static

from daemonpulse.top import cells
from daemonpulse.top.commands import Commands, Refused
from daemonpulse.top.model import Instance, Screen
from daemonpulse.top.source import Source, Unreadable
from daemonpulse.top.terminal import TerminalDriver
from exporter.shared.terminal import plain as plain_text

TABLES: Final = (
    ("gpus", cells.GPU_COLUMNS),
    ("instances", cells.INSTANCE_COLUMNS),
    ("requests", cells.REQUEST_COLUMNS),
)
MAX_ROWS: Final = 200


class Confirm(ModalScreen[bool]):
    """Asks before something changes: names target and consequence."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]
    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm Label { width: auto; max-width: 90%; padding: 1 2; border: heavy $accent; background: $surface; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Show the question."""
        yield Label(f"{self._question}\n\n[b]y[/b] yes   [b]n[/b] no")

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 - called by a binding
        """Close with the answer."""
        self.dismiss(answer)


class Top(App[None]):
    """One screen over an exporter."""

    TITLE = "daemonpulse top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #daemons { height: 1; background: $boost; }
    #problem { height: auto; color: $text-warning; display: none; }
    #gpus { height: auto; max-height: 30%; }
    #instances { height: auto; max-height: 40%; }
    #requests { height: 1fr; }
    #log { height: 1; background: $boost; }
    #filter { display: none; dock: bottom; }
    DataTable { overflow-x: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("p", "pause", "Pause"),
        Binding("s", "sort", "Sort"),
        Binding("slash", "filter", "Filter"),
        Binding("e", "eject", "Eject"),
        Binding("l", "load", "Load"),
        Binding("a", "approve", "Approve"),
    ]

    def __init__(self, source: Source, *, interval_s: float, commands: Commands | None = None) -> None:
        """Prepare. Without `commands` (no token) the keys that change something print the reason."""
        super().__init__(driver_class=TerminalDriver)
        self._source = source
        self._interval_s = interval_s
        self._commands = commands
        self._paused = False
        self._sorted_by: dict[str, int] = {}
        self._wanted = ""
        self.shown = Screen()
        if os.environ.get("NO_COLOR"):
            self.theme = "ansi-dark" if "ansi-dark" in self.available_themes else self.theme

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="daemons", markup=False)
        yield Static(id="problem", markup=False)
        with Vertical():
            for name, _ in TABLES:
                yield DataTable[str](id=name, cursor_type="row", zebra_stripes=False)
        yield Static(id="log", markup=False)
        yield Input(id="filter", placeholder="part of a name; empty shows all", disabled=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to refresh."""
        for name, columns in TABLES:
            self._table(name).add_columns(*columns)
        self._table("instances").focus()
        self.set_interval(self._interval_s, self.refresh_screen)
        self.refresh_screen()

    @work(exclusive=True)
    async def refresh_screen(self) -> None:
        """Read once and draw; a reading that fails keeps the last one and shows the error."""
        if self._paused:
            return
        problem = self.query_one("#problem", Static)
        try:
            self.shown = await self._source.screen()
        except Unreadable as error:
            problem.update(plain_text(f"{error}; showing the last reading"))
            problem.display = True
            return
        problem.display = False
        self._draw()

    def _draw(self) -> None:
        shown = self.shown
        self.query_one("#daemons", Static).update(plain_text(cells.daemon_line(shown.daemons)))
        self.query_one("#log", Static).update(plain_text(cells.log_line(shown)))
        self._fill("gpus", [(gpu.name, cells.gpu_cells(gpu)) for gpu in shown.gpus])
        self._fill("instances", [(one.identifier, cells.instance_cells(one)) for one in shown.instances])
        self._fill("requests", [(one.model, cells.request_cells(one)) for one in shown.requests])

    def _fill(self, name: str, rows: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        """Draw a table from full names, which a filter matches, and cells."""
        table = self._table(name)
        wanted = [row for full, row in rows if self._wanted in " ".join((full, *row)).lower()]
        if (column := self._sorted_by.get(name)) is not None:
            wanted.sort(key=lambda row: row[column])
        place = table.cursor_row
        table.clear()
        for row in wanted[:MAX_ROWS]:
            table.add_row(*_plain(row))
        table.display = bool(rows)
        table.move_cursor(row=min(place, max(0, len(wanted) - 1)))

    def _table(self, name: str) -> DataTable[str]:
        return self.query_one(f"#{name}", DataTable)

    def action_pause(self) -> None:
        """Stop or resume refreshing."""
        self._paused = not self._paused
        self.notify("paused" if self._paused else "resumed", timeout=2)

    def action_sort(self) -> None:
        """Sort the focused table by its next column."""
        table = self.focused if isinstance(self.focused, DataTable) else self._table("instances")
        name = str(table.id)
        count = len(dict(TABLES)[name])
        column = self._sorted_by.get(name, -1) + 1
        if column >= count:
            self._sorted_by.pop(name, None)
        else:
            self._sorted_by[name] = column
        self._draw()

    def action_filter(self) -> None:
        """Show the field that filters rows by a part of their text."""
        field = self.query_one("#filter", Input)
        field.disabled = False
        field.display = True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filter by what was typed."""
        self._wanted = event.value.strip().lower()
        event.input.display = False
        event.input.disabled = True
        self._table("instances").focus()
        self._draw()

    def _chosen(self) -> Instance | None:
        table = self._table("instances")
        if not table.row_count:
            return None
        row = tuple(table.get_row_at(table.cursor_row))
        return next((one for one in self.shown.instances if _plain(cells.instance_cells(one)) == row), None)

    @work(exclusive=True, group="command")
    async def action_eject(self) -> None:
        """Eject the instance under the cursor, after a confirmation."""
        chosen = self._chosen()
        if chosen is None:
            self.notify("no instance is selected", severity="warning")
            return
        busy = int((chosen.running or 0) + (chosen.waiting or 0))
        ends = f" {busy} requests in flight end." if busy else " No request is in flight."
        await self._confirmed(
            f"Eject {chosen.identifier} from {chosen.daemon}?{ends}",
            lambda commands: commands.eject(chosen.daemon, chosen.identifier, force=busy > 0),
        )

    @work(exclusive=True, group="command")
    async def action_load(self) -> None:
        """Load the model of the instance under the cursor once more, after a confirmation."""
        chosen = self._chosen()
        if chosen is None:
            self.notify("no instance is selected", severity="warning")
            return
        await self._confirmed(
            f"Load another instance of {chosen.model} on {chosen.daemon}? It takes about "
            f"{cells.gib(chosen.vram_bytes)} GiB of VRAM.",
            lambda commands: commands.load(chosen.daemon, chosen.model),
        )

    @work(exclusive=True, group="command")
    async def action_approve(self) -> None:
        """Approve the oldest pending tool call, after a confirmation that shows it."""
        if self._commands is None:
            self.notify(_READ_ONLY, severity="warning")
            return
        try:
            pending = await self._commands.pending()
        except Refused as error:
            self.notify(plain_text(str(error)), severity="error", markup=False)
            return
        if not pending:
            self.notify("no tool call is pending")
            return
        first = pending[0]
        await self._confirmed(
            f"Approve {first.title}?\n{first.arguments}", lambda commands: commands.approve(first.id)
        )

    async def _confirmed(self, question: str, act: Callable[[Commands], Awaitable[str]]) -> None:
        if self._commands is None:
            self.notify(_READ_ONLY, severity="warning")
            return
        if not await self.push_screen_wait(Confirm(plain_text(question))):
            return
        try:
            done = await act(self._commands)
        except Refused as error:
            self.notify(plain_text(str(error)), severity="error", markup=False)
        else:
            self.notify(plain_text(done), markup=False)


def _plain(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(plain_text(cell) for cell in row)


_READ_ONLY: Final = "read-only: start with --token-file, or set DAEMONPULSE_ACTIONS_TOKEN_FILE"
