"""Select or update an inference engine. What is loaded keeps its engine; loads from then on use the new one."""

from __future__ import annotations

from typing import Final

from actions.commands.action import Action, Result
from actions.commands.daemon_session import Cancelled, DaemonSession, require_all_read
from actions.commands.recovery import LOST
from actions.domain.command import SelectEngine, UpdateEngine
from actions.domain.errors import Param, Problem, from_daemon, invalid, not_found
from actions.domain.evidence import knows_less, refuses
from actions.domain.policy import Facts
from actions.store.operations import Operation
from exporter.llmster import transfers
from exporter.llmster.errors import LlmsterError
from exporter.llmster.listing import Listing
from exporter.llmster.state import Engine
from exporter.llmster.transfers import EngineExtension, Progress

SELECTED: Final = ("json", "json.name", "json.version")


EVIDENCE: Final = (
    knows_less("listEngines", "name", "version", "supportedModelFormatNames"),
    refuses("daemon-unreadable", "getEngineSelections", *SELECTED),
    refuses("daemon-unreadable", "searchRuntimeExtensions", "extensions"),
    knows_less(
        "searchRuntimeExtensions", "extensions.name", "extensions.version", "extensions.localVersions"
    ),
)
"""Of the list of engines."""


class SelectEngineAction(Action[SelectEngine]):
    """Selects an engine and verifies it."""

    COMMAND = SelectEngine
    EVIDENCE = (
        refuses("daemon-unreadable", "listEngines", "name", "version"),
        refuses("invalid-parameter", "listEngines", "supportedModelFormatNames"),
        refuses("daemon-unreadable", "getEngineSelections", *SELECTED),
    )

    async def facts(self, command: SelectEngine) -> Facts:
        """Refuse an engine that is not installed, or that does not support the format."""
        installed = await installed_engines(self.daemon)
        wanted = (command.engine, command.version)
        found = [one for one in installed.read if (one.name, one.version) == wanted]
        if not found:
            question = f"whether {command.engine} {command.version} is installed"
            require_all_read(installed, question, daemon=command.daemon)
            known = tuple(f"{one.name} {one.version}" for one in installed.read)
            raise not_found("engine", f"{command.engine} {command.version}", known)
        formats = found[0].supported_model_format_names
        if command.model_format not in formats:
            raise invalid("model_format", command.model_format, f"it supports {', '.join(formats)}")
        await selected_engines(self.daemon)  # what could not be verified is not begun
        return Facts()

    async def run(self, operation: Operation, command: SelectEngine, _facts: Facts) -> Result:
        """Select it once, then verify."""
        operation.phase = "selecting"
        async with self.daemon.turn(operation.cancel):
            await self.tools.operations.start(operation, {})
            try:
                await transfers.select_engine(
                    self.daemon.client,
                    name=command.engine,
                    version=command.version,
                    model_format=command.model_format,
                )
            except LOST:
                pass  # looked up below
            except LlmsterError as error:
                raise from_daemon(error, daemon=self.daemon.name) from error
            return await self._look(command)

    async def recover(self, operation: Operation, command: SelectEngine) -> Result:
        """Look which one is selected."""
        await self.tools.recovery.until_readable(operation)
        return await self._look(command)

    async def _look(self, command: SelectEngine) -> Result:
        selected = await selected_engines(self.daemon)
        name, version = selected.get(command.model_format, ("none", ""))
        if (name, version) != (command.engine, command.version):
            raise Problem("not-verified", f"{command.model_format}: {name} {version} is selected".rstrip())
        return {"engine": name, "version": version, "model_format": command.model_format}


class UpdateEngineAction(Action[UpdateEngine]):
    """Downloads an engine with progress; can be cancelled."""

    COMMAND = UpdateEngine
    EVIDENCE = (
        refuses(
            "daemon-unreadable",
            "searchRuntimeExtensions",
            *("extensions", "extensions.name", "extensions.version"),
        ),
        refuses("not-verified", "listEngines", "name", "version"),
        refuses("daemon-unreadable", "getEngineSelections", *SELECTED),
    )

    async def facts(self, command: UpdateEngine) -> Facts:
        """Refuse a version that the daemon does not offer."""
        offered = await offered_engines(self.daemon, command.engine)
        versions = tuple(one.version for one in offered.read if one.name == command.engine)
        if command.version not in versions:
            question = f"whether it offers {command.engine} {command.version}"
            require_all_read(offered, question, daemon=command.daemon)
            raise not_found("engine version", f"{command.engine} {command.version}", versions)
        await selected_engines(self.daemon)  # what could not be verified is not begun
        return Facts()

    async def run(self, operation: Operation, command: UpdateEngine, _facts: Facts) -> Result:
        """Download it and verify that it is installed."""
        await self.tools.operations.start(operation, {})
        operation.phase, operation.progress = "downloading", 0.0

        def progressed(update: Progress) -> None:
            operation.progress = update.share

        try:
            done = await transfers.download_engine(
                self.daemon.client,
                name=command.engine,
                version=command.version,
                on_progress=progressed,
                cancel=operation.cancel,
                cancel_timeout_s=self.tools.timeouts.cancel_s,
            )
        except LOST:
            await self.tools.recovery.until_readable(operation)
            done = True
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        if not done and not _has(await installed_engines(self.daemon), command):  # a cancel can come too late
            raise Cancelled
        return await self._look(command)

    async def recover(self, operation: Operation, command: UpdateEngine) -> Result:
        """Look whether it is installed."""
        await self.tools.recovery.until_readable(operation)
        return await self._look(command)

    async def _look(self, command: UpdateEngine) -> Result:
        installed = await installed_engines(self.daemon)
        if not _has(installed, command):
            is_known = "is not installed" if installed.is_complete else "may be installed, or not"
            problems = "".join(f"; {one}" for one in installed.problems)
            raise Problem(
                "not-verified",
                f"{command.engine} {command.version} {is_known}{problems}; ask again with ",
                Param("version"),
            )
        selected = await selected_engines(self.daemon)
        formats = [name for name, one in selected.items() if one == (command.engine, command.version)]
        return {"engine": command.engine, "version": command.version, "selected_for": sorted(formats)}


def _has(installed: Listing[Engine], command: SelectEngine | UpdateEngine) -> bool:
    wanted = (command.engine, command.version)
    return any((one.name, one.version) == wanted for one in installed.read)


async def installed_engines(daemon: DaemonSession) -> Listing[Engine]:
    """List the installed engines. Raises Problem."""
    await daemon.settled()
    with daemon.translated():
        return await transfers.engines(daemon.client)


async def offered_engines(daemon: DaemonSession, query: str) -> Listing[EngineExtension]:
    """Search the engines that can be downloaded. Raises Problem."""
    await daemon.settled()
    with daemon.translated():
        return await transfers.search_engines(daemon.client, query)


async def selected_engines(daemon: DaemonSession) -> dict[str, tuple[str, str]]:
    """Tell the selected engine, name and version by model format. Raises Problem."""
    await daemon.settled()
    with daemon.translated():
        return dict(await transfers.engine_selections(daemon.client))
