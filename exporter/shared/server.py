"""Serves an ASGI application on its own port until a signal; the exporter, the actions API and the tap use it.

Fails before anything else starts when the port is taken, and ends with exit code 0 on a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from exporter.shared.http_timeouts import MAX_HEAD_BYTES, PatientProtocol
from exporter.shared.settings_table import SettingsError
from exporter.shared.tls_handshake import TlsHandshake

SHUTDOWN_S: Final = 3
"""Seconds a request in progress has left after a signal."""
CANCELLED_S: Final = 1.0
"""The same where the owner of the server cancels it."""


def listen(host: str, port: int, *, key: str = "listen") -> socket.socket:
    """Bind the port. Raises SettingsError naming `key`, when the address is not here or the port is taken."""
    value = f"{host}:{port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
    except (OSError, ValueError) as error:  # ValueError: a name with an empty part, or one that is too long
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise SettingsError(key=key, value=value, fix=f"no such address here ({reason})") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        fix = f"cannot listen there ({error.strerror}); stop what uses it, or choose another port"
        raise SettingsError(key=key, value=value, fix=fix) from None
    return listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """Give the URL of a bound port."""
    host, port = listener.getsockname()[:2]
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """uvicorn over a bound port; a signal ends it cleanly, where uvicorn itself would raise it again at the end."""

    def __init__(
        self, application: Any, *, tls: ssl.SSLContext | None, stopping: Callable[[], None] | None = None
    ) -> None:
        """Prepare. `stopping` is called before open connections are waited for, to end what would hold them open."""
        config = uvicorn.Config(
            application,
            http=PatientProtocol if tls is None else functools.partial(TlsHandshake, tls),  # type: ignore[arg-type]
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        config.load()
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections and wait for open ones, at most SHUTDOWN_S."""
        if self._stopping is not None:
            self._stopping()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone; serve_until_signal() handles them."""
        yield

    async def serve_until_signal(self, listener: socket.socket, *, ready: Callable[[], None]) -> None:
        """Serve until SIGTERM, SIGINT or cancellation.

        `ready` is called when a signal would already be understood; connections wait at the bound port until then.
        """
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        # Outside the main thread there are no signal handlers: there the caller cancels instead.
        with contextlib.suppress(RuntimeError, ValueError):
            for number in signals:
                loop.add_signal_handler(number, self._stop)
        try:
            ready()
            await self.serve(sockets=[listener])
        finally:
            for number in signals:
                with contextlib.suppress(RuntimeError, ValueError):
                    loop.remove_signal_handler(number)
            # A cancelled uvicorn leaves its listeners in the event loop: a later one with the same descriptor gets no
            # events.
            for server in getattr(self, "servers", ()):
                server.close()
            listener.close()
            await self._end_requests()

    async def _end_requests(self) -> None:
        """Let requests in progress end, then end them: cancelled, uvicorn leaves them with the event loop, too."""
        if self._stopping is not None:
            self._stopping()
        tasks = tuple(self.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CANCELLED_S)
            for task in late:
                task.cancel()

    def _stop(self) -> None:
        self.should_exit = True
