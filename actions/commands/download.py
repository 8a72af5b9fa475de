"""Download a model: start it, follow it to its end, also after a restart of the service."""

from __future__ import annotations

import asyncio

from actions.commands.action import Action, Result
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S
from actions.commands.recovery import LOST
from actions.domain.command import Download
from actions.domain.errors import Problem, from_daemon
from actions.domain.policy import Facts
from actions.store.operations import Operation
from exporter.llmster import rest_commands
from exporter.llmster.errors import CallFailed, LlmsterError, NotLlmster


class DownloadAction(Action[Download]):
    """Downloads, through the daemon's REST side."""

    COMMAND = Download

    async def facts(self, _command: Download) -> Facts:
        """Say at once when the daemon is down."""
        await self.daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        return Facts()

    async def run(self, operation: Operation, command: Download, _facts: Facts) -> Result:
        """Start a download and follow it."""
        await self.tools.operations.start(operation, {})
        try:
            job = await rest_commands.start_download(
                self.daemon.client.url,
                token=self.daemon.token,
                model=command.model,
                quantization=command.quantization,
            )
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        if job.job_id is None:
            return {"model": command.model, "status": job.status}
        await self.tools.operations.start(operation, {"job_id": job.job_id})
        return await self._follow(operation, command)

    async def recover(self, operation: Operation, command: Download) -> Result:
        """Follow on."""
        await self.tools.recovery.until_readable(operation)
        return await self._follow(operation, command)

    async def _follow(self, operation: Operation, command: Download) -> Result:
        """Look at a download until it ends, also one that a former process began."""
        job_id = operation.before.get("job_id")
        if job_id is None:
            return await self._on_disk(command, "whether the daemon began the download was not recorded")
        while True:
            try:
                job = await rest_commands.download_status(
                    self.daemon.client.url, token=self.daemon.token, job_id=job_id
                )
            except (*LOST, NotLlmster):  # one HTTP 500 with a web page was seen while a load began
                operation.phase = "waiting for the daemon"
            except CallFailed:
                return await self._on_disk(command, f"the daemon does not know download {job_id} any more")
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
        """Decide by what is there, where the name tells."""
        name = command.model
        if command.quantization is not None or "@" in name or "://" in name:  # a list of keys
            raise Problem(
                "interrupted", f"{because}; the daemon's list of models does not tell whether it is there"
            )
        try:
            models = await self.daemon.commands.models()
        except LlmsterError as error:
            raise from_daemon(error, daemon=self.daemon.name) from error
        if any(name == model.model_key for model in models):
            return {"model": name, "status": "completed", "size_bytes": None}
        raise Problem("interrupted", f"{because}, and {name} is not on its disk")
