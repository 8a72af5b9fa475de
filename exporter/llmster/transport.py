"""Opens a raw WebSocket to a daemon, telling apart "nothing there", "not LM Studio" and "says nothing".

Knows nothing of handshakes and frames: that is connection.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from exporter.llmster.errors import DaemonStalled, DaemonUnreachable, NotLlmster

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
"""Largest frame we accept. Log outputs are unbounded and 5 MB were seen; the library's default of 1 MiB would
turn one long answer into a lost connection."""


async def open_websocket(url: str, *, connect_s: float, upgrade_s: float) -> ClientConnection:
    """Connect to `ws(s)://host:port/namespace` without compression, proxies or library pings.

    Raises DaemonUnreachable when TCP (or TLS) fails or takes longer than `connect_s`, DaemonStalled when the server
    accepts and does not upgrade within `upgrade_s`, NotLlmster when it answers anything else.
    """
    tcp = await _connect_tcp(url, connect_s)
    try:
        async with asyncio.timeout(upgrade_s):
            return await connect(
                url,
                sock=tcp,
                ssl=ssl.create_default_context() if url.startswith("wss:") else None,
                compression=None,  # the daemon offers none
                max_size=MAX_FRAME_BYTES,
                open_timeout=None,  # ours, above, tells the stages apart
                ping_interval=None,  # keepAlive asks the daemon itself, not its WebSocket library
                proxy=None,
                user_agent_header="daemonpulse",
            )
    except TimeoutError:
        tcp.close()
        raise DaemonStalled(
            f"{url} accepted a connection and did not answer the upgrade in {upgrade_s:g} s"
        ) from None
    except InvalidStatus as error:
        tcp.close()
        raise NotLlmster(
            f"{url} answered the WebSocket upgrade with HTTP {error.response.status_code}"
        ) from None
    except ssl.SSLError as error:  # before ValueError, which a refused certificate is as well
        tcp.close()
        raise DaemonUnreachable(f"TLS to {url} failed: {error.reason or error}") from None
    except (WebSocketException, ValueError, EOFError) as error:
        # ValueError: the library refuses to follow a redirect over a socket it was given.
        tcp.close()
        raise NotLlmster(
            f"{url} does not speak WebSocket ({type(error).__name__}); is this LM Studio's port?"
        ) from None
    except OSError as error:
        tcp.close()
        raise DaemonUnreachable(f"{url} dropped the connection: {error}") from None
    except BaseException:
        tcp.close()
        raise


async def _connect_tcp(url: str, limit_s: float) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    place = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        async with asyncio.timeout(limit_s):
            for family, kind, proto, _, address in await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            ):
                tcp = socket.socket(family, kind, proto)
                tcp.setblocking(False)
                try:
                    await loop.sock_connect(tcp, address)
                except OSError as error:
                    failure = error
                    tcp.close()
                except BaseException:
                    tcp.close()
                    raise
                else:
                    with contextlib.suppress(OSError):
                        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return tcp
    except TimeoutError:
        raise DaemonUnreachable(f"no TCP connection to {place} within {limit_s:g} s") from None
    except socket.gaierror as error:
        raise DaemonUnreachable(f"the host name in {place} cannot be resolved: {error.strerror}") from None
    except UnicodeError:
        raise DaemonUnreachable(f"the host name in {place} is not one: a part is empty or too long") from None
    # asyncio's own text repeats the address in place of the reason.
    reason = os.strerror(failure.errno) if failure is not None and failure.errno else str(failure)
    raise DaemonUnreachable(f"nothing accepts connections at {place}: {reason}") from None
