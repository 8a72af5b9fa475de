"""Download a model: start it, follow it to its end, also after a restart of the service."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from actions.commands.action import Action, Result
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S, Cancelled
from actions.commands.recovery import LOST
from actions.domain.command import Download
from actions.domain.errors import Param, Problem, from_daemon, not_found
from actions.domain.evidence import knows_less, refuses
from actions.domain.policy import Facts
from actions.domain.timeouts import sleep_unless
from actions.store.operations import Operation
from actions.store.sizes import mark
from exporter.llmster import rest_commands, transfers
from exporter.llmster.errors import (
    CallFailed,
    DaemonStalled,
    LlmsterError,
    NotLlmster,
    ProtocolViolation,
)
from exporter.llmster.listing import Listing
from exporter.llmster.state import DownloadedModel
from exporter.llmster.transfers import DownloadOption, Progress

_GIB: Final = 1024**3


START: Final = "POST /api/v1/models/download"
STATUS: Final = "GET /api/v1/models/download/status/"
FOUND: Final = ("results", "results.name", "results.identifier.type", "results.identifier.identifier")
OPTION: Final = ("results", "results.name", "results.sizeBytes", "results.downloadIdentifier")
OVER_WEBSOCKET: Final = "the daemon's search finds it"
OVER_REST: Final = "the daemon's search does not find it"
FREE_AFTER_BYTES: Final = 1024**3
"""What a download must leave free on the disk."""


class DownloadAction(Action[Download]):
    """Downloads over the WebSocket, which can be cancelled; over REST where the daemon's search finds nothing."""

    COMMAND = Download
    EVIDENCE = (
        knows_less("searchModels", *FOUND, when=OVER_WEBSOCKET),
        knows_less("getModelDownloadOptions", *OPTION, when=OVER_WEBSOCKET),
        knows_less("downloadModel", "defaultIdentifier", when=OVER_WEBSOCKET),
        refuses("interrupted", START, "job_id", "status", when=OVER_REST),
        refuses("interrupted", STATUS, "status", when=OVER_REST),
        knows_less(STATUS, "total_size_bytes", when=OVER_REST),
    )

    async def facts(self, command: Download) -> Facts:
        """Say at once when the daemon is down, or its disk has too little room."""
        option = await self._option(command)
        free = self.daemon.free_disk()
        if option is not None and free is not None and free < option.size_bytes + FREE_AFTER_BYTES:
            raise Problem(
                "disk-full",
                f"{command.model} is a download of {option.size_bytes / _GIB:.2f} GiB, and {free / _GIB:.2f} GiB are "
                "free on the disk of the models; delete something, or choose a smaller ",
                Param("quantization"),
                size_bytes=option.size_bytes,
                free_bytes=free,
            )
        return Facts(download=option)

    def cancel_refusal(self, operation: Operation) -> str | None:
        """Say that only a download over the WebSocket can be cancelled, and only by the service that began it."""
        if "download" in operation.before and not operation.before.get("recovered"):
            return None
        return "the daemon's API has no way to stop this download"

    async def run(self, operation: Operation, command: Download, facts: Facts) -> Result:
        """Start a download and follow it."""
        if command.quantization is None and await self._is_on_disk(command.model):
            return {"model": command.model, "status": "already_downloaded"}
        if isinstance(facts.download, DownloadOption):
            return await self._over_websocket(operation, command, facts.download)
        await self.tools.operations.start(operation, {})
        try:
            job = await rest_commands.start_download(
                self.daemon.client.url,
                token=await self.daemon.client.current_token(),
                model=command.model,
                quantization=command.quantization,
            )
        except ProtocolViolation as error:
            return await self._on_disk(
                command, f"whether the daemon began the download is not known ({error})"
            )
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        if job.status == "already_downloaded":
            return {"model": command.model, "status": job.status}
        if job.job_id is None:
            return await self._on_disk(command, f"the daemon says {job.status:.50}, and no job to follow")
        await self.tools.operations.start(operation, {"job_id": job.job_id})
        return await self._follow(operation, command)

    async def recover(self, operation: Operation, command: Download) -> Result:
        """Follow on: by the job of a REST download, else by what is on the disk."""
        operation.before = {**operation.before, "recovered": True}
        await self.tools.recovery.until_readable(operation)
        if "download" in operation.before:
            return await self._watch_disk(operation, command)
        return await self._follow(operation, command)

    async def _option(self, command: Download) -> DownloadOption | None:
        """Find what to download; None when the daemon's search does not find the model. Raises Problem."""
        await self.daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        try:
            found = await transfers.find_options(self.daemon.client, command.model)
        except (CallFailed, DaemonStalled, ProtocolViolation):
            return None  # a release without the search, or a hub that does not answer
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        options = found.read
        if command.quantization is None:
            recommended = [one for one in options if one.recommended]
            # One that cannot be read may be what is recommended: over REST the daemon chooses.
            return next(iter(recommended or (options if found.is_complete else ())), None)
        wanted = command.quantization.casefold()
        chosen = [one for one in options if (one.quantization or "").casefold() == wanted]
        if options and not chosen and found.is_complete:
            known = tuple(one.quantization or one.name for one in options)
            raise not_found("quantization", command.quantization, known)
        return chosen[0] if chosen else None

    async def _over_websocket(
        self, operation: Operation, command: Download, option: DownloadOption
    ) -> Result:
        listed = await self._models()
        before = {
            "download": option.download_identifier,
            "size_bytes": option.size_bytes,
            "pid": self.daemon.process_id(),
            "models": sorted(mark(model.model_key) for model in listed.read),
            "all_models_read": listed.is_complete,
        }
        await self.tools.operations.start(operation, before)
        operation.phase, operation.progress = "downloading", 0.0

        def progressed(update: Progress) -> None:
            operation.progress = update.share

        try:
            key = await transfers.download_model(
                self.daemon.client,
                option.download_identifier,
                on_progress=progressed,
                cancel=operation.cancel,
                cancel_timeout_s=self.tools.timeouts.cancel_s,
            )
        except LOST:
            operation.progress = None
            return await self._watch_disk(operation, command)
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        if key is None:
            # The cancel may have come too late; where not all was read before, the daemon's word counts.
            is_told = operation.before.get("all_models_read", True)
            arrived = await self._arrived(operation, command) if is_told else None
            if arrived is None:
                raise Cancelled
            return arrived
        return {"model": key or command.model, "status": "completed", "size_bytes": option.size_bytes}

    async def _watch_disk(self, operation: Operation, command: Download) -> Result:
        """Wait until a new model is listed; the daemon continues without its client.

        Assumed: a download ends with the daemon's process.
        """
        if not operation.before.get("all_models_read", True):
            raise Problem(
                "interrupted",
                f"the connection was lost while {command.model} was downloading, and what was on the disk before could "
                "not all be read, so the list of models does not show whether it arrived",
            )
        while True:
            with contextlib.suppress(Problem):
                arrived = await self._arrived(operation, command)
                if arrived is not None:
                    return arrived
            snapshot = await self.tools.recovery.until_readable(operation)
            if snapshot.process.pid != operation.before.get("pid"):
                raise Problem("interrupted", f"the daemon restarted while {command.model} was downloading")
            operation.phase = "downloading, progress is not known since the connection was lost"
            await sleep_unless(operation.cancel, self.tools.timeouts.download_poll_s)

    async def _arrived(self, operation: Operation, command: Download) -> Result | None:
        """Look for a model that was not on the disk before. Raises Problem."""
        known = set(operation.before.get("models", ()))
        new = [model.model_key for model in (await self._models()).read if mark(model.model_key) not in known]
        named = [key for key in new if command.model.rpartition("/")[2].casefold() in key.casefold()]
        if not named:
            return None
        return {"model": named[0], "status": "completed", "size_bytes": operation.before.get("size_bytes")}

    async def _models(self) -> Listing[DownloadedModel]:
        with self.daemon.translated():
            return await self.daemon.commands.models()

    async def _is_on_disk(self, name: str) -> bool | None:
        """Tell whether a model is listed; None where it may be an entry that cannot be read. Raises Problem."""
        listed = await self._models()
        if any(name == model.model_key for model in listed.read):
            return True
        return False if listed.is_complete else None

    async def _follow(self, operation: Operation, command: Download) -> Result:
        """Look at a download until it ends, also one that a former process began."""
        job_id = operation.before.get("job_id")
        if job_id is None:
            return await self._on_disk(command, "whether the daemon began the download was not recorded")
        while True:
            try:
                job = await rest_commands.download_status(
                    self.daemon.client.url, token=await self.daemon.client.current_token(), job_id=job_id
                )
            except ProtocolViolation as error:
                return await self._on_disk(command, f"how download {job_id} is doing is not known ({error})")
            except (*LOST, NotLlmster):  # one HTTP 500 with a web page was seen while a load began
                operation.phase = "waiting for the daemon"
            except CallFailed:
                return await self._on_disk(command, f"the daemon no longer lists download {job_id}")
            except LlmsterError as error:
                raise from_daemon(error, daemon=self.daemon.name) from error
            else:
                operation.phase, operation.progress = job.status, job.progress
                if job.status in {"completed", "already_downloaded"}:
                    return {
                        "model": command.model,
                        "status": job.status,
                        "size_bytes": job.total_size_bytes,
                    }
                if job.status == "failed":
                    raise Problem("daemon-refused", f"the download of {command.model} failed")
            await asyncio.sleep(self.tools.timeouts.download_poll_s)

    async def _on_disk(self, command: Download, because: str) -> Result:
        """Decide by the listed models, where the name identifies one."""
        name = command.model
        if command.quantization is not None or "@" in name or "://" in name:  # a list of keys
            raise Problem(
                "interrupted", f"{because}; the daemon's list of models does not show whether it arrived"
            )
        is_there = await self._is_on_disk(name)
        if is_there:
            return {"model": name, "status": "completed", "size_bytes": None}
        told = "is not" if is_there is False else "may be, or not be,"
        raise Problem("interrupted", f"{because}, and {name} {told} on its disk")
