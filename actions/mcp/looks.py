"""Lists and completions: asked for within a token's limits, and what fails is an MCP error.

They have no decision, approval or audit row; call.py has those of calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from actions.mcp.upstream.connection import ConnectionLost
from actions.mcp.upstream.server import Upstream, UpstreamDown
from actions.store.database import StorageFailed

T = TypeVar("T")


async def look(
    upstream: Upstream, owner: str, ask: Callable[[], Awaitable[T]], *, is_shared: bool = False
) -> T:
    """Ask, if the token `owner` has asked for less than it may. Raises MCPError.

    What `is_shared` takes no place: all who ask at once get the answer to one request.
    """
    usage = upstream.usage
    wait_s = usage.looks.of(owner).take()
    if wait_s > 0:
        raise _failed(
            f"lists and completions are limited to calls_per_minute, {upstream.spec.limits.calls_per_minute:g}; "
            f"try again in {wait_s:.1f} s"
        )
    if not is_shared and not usage.looking.take(owner):
        raise _failed("too many lists and completions at once, or others need the rest")
    try:
        return await ask()
    except (UpstreamDown, ConnectionLost) as error:
        raise _failed(str(error)) from error
    except TimeoutError as error:
        raise _failed("the tool server did not respond in time") from error
    except ValidationError as error:
        raise _failed("the tool server's response is not valid MCP") from error
    except StorageFailed as error:
        raise unrecordable(error) from error
    finally:
        if not is_shared:
            usage.looking.give_back(owner)


def unrecordable(error: StorageFailed) -> MCPError:
    """Say that nothing was sent, because nothing can be recorded."""
    return _failed(f"the call was not sent, because the audit cannot be written: {error}")


def _failed(why: str) -> MCPError:
    return MCPError(types.INTERNAL_ERROR, f"DaemonPulse gate: {why}")
