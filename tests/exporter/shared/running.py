"""A server of the products over a small application, in this process."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from exporter.shared import server


@contextlib.asynccontextmanager
async def running(app: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve meanwhile; gives the port."""
    listener = server.listen("127.0.0.1", 0)
    ready = asyncio.Event()
    task = asyncio.create_task(server.Server(app, tls=tls).serve_until_signal(listener, ready=ready.set))
    await ready.wait()
    yield listener.getsockname()[1]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
