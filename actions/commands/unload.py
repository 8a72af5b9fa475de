"""Unloads one instance and verifies that it is gone; used by eject, eject-all and loads that replace."""

from __future__ import annotations

from actions.commands.action import Tools
from actions.commands.recovery import LOST
from actions.domain.errors import from_daemon
from exporter.llmster.errors import CallFailed, LlmsterError
from exporter.llmster.session import GONE_CODES
from exporter.llmster.state import InstanceInfo


async def unload(tools: Tools, target: InstanceInfo) -> None:
    """Unload once, then wait until the instance is no longer listed. Raises Problem when it stays listed."""
    lost: LlmsterError | None = None
    try:
        await tools.daemon.commands.unload(target)
    except CallFailed as error:
        if error.code not in GONE_CODES:
            raise from_daemon(error, daemon=tools.daemon.name) from error
    except LOST as error:
        lost = error
    except LlmsterError as error:
        raise from_daemon(error, daemon=tools.daemon.name) from error
    await tools.recovery.gone(target.instance_reference, target.identifier, cause=lost)
