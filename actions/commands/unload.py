"""Unload one instance and make sure that it is gone; used by eject, eject-all and loads that replace."""

from __future__ import annotations

from actions.commands.action import Tools
from actions.commands.recovery import LOST
from actions.domain.errors import from_daemon
from exporter.llmster.errors import CallFailed, LlmsterError
from exporter.llmster.session import GONE_CODES
from exporter.llmster.state import InstanceInfo


async def unload(tools: Tools, target: InstanceInfo) -> None:
    """Tell the daemon once, then look until the instance is not listed any more. Raises Problem when it stays."""
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
