"""Writes a Problem as an HTTP response, for ASGI code that runs outside FastAPI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from actions.domain.errors import MEDIA_TYPE, Problem

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def send_problem(send: Send, problem: Problem) -> None:
    """Send the status, headers and JSON body of a problem (RFC 9457)."""
    body = json.dumps(problem.body()).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
