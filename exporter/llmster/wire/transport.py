"""Opens a raw WebSocket to a daemon; errors separate down, refused and stalled.

Handshake and frames are connection.py's. Addresses are tried as happy eyeballs does (RFC 8305): a first address that
answers nothing does not hide a second one that works.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import aiohappyeyeballs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from exporter.llmster.errors import DaemonStalled, DaemonUnreachable, NotLlmster, TlsFailed, UpgradeRefused
from exporter.shared import urls

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
"""Largest frame accepted. Log outputs are unbounded and 5 MB were seen; the library's default of 1 MiB would turn one
long answer into a lost connection."""
NEXT_ADDRESS_S: Final = 0.25
"""After so long without an answer from one address, the next one is tried beside it. Source: RFC 8305, section 5."""

_CLOSED: Final = "{url} accepted a connection and {reason} without a byte: a proxy with no daemon behind it"


async def open_websocket(
    url: str, *, connect_s: float, upgrade_s: float, accepted: Callable[[], None] = lambda: None
) -> ClientConnection:
    """Connect to `ws(s)://host:port/namespace` without compression, proxies or library pings.

    `accepted` is called when a TCP connection is made. Raises DaemonUnreachable when none is, or none within
    `connect_s`, or it is closed before a byte came (port forwarders accept for a daemon that is gone); DaemonStalled
    when the server does not upgrade within `upgrade_s`; NotLlmster when it does anything else than upgrade.
    """
    tcp = await _connect_tcp(url, connect_s)
    accepted()
    try:
        async with asyncio.timeout(upgrade_s):
            return await connect(
                url,
                sock=tcp,
                ssl=ssl.create_default_context() if url.startswith("wss:") else None,
                compression=None,  # the daemon offers none
                max_size=MAX_FRAME_BYTES,
                open_timeout=None,  # the one above separates the stages
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
        raise UpgradeRefused(
            f"{url} answered the WebSocket upgrade with HTTP {error.response.status_code}"
        ) from None
    except ssl.SSLError as error:  # before ValueError, which a refused certificate is too
        tcp.close()
        raise TlsFailed(f"TLS to {url} failed: {error.reason or error}") from None
    except (WebSocketException, ValueError, EOFError) as error:
        # ValueError: the library refuses to follow a redirect over a socket it was given.
        tcp.close()
        if isinstance(error.__cause__, EOFError):
            raise DaemonUnreachable(_CLOSED.format(url=url, reason="closed it")) from None
        raise NotLlmster(
            f"{url} does not speak WebSocket ({type(error).__name__}); is this LM Studio's port?"
        ) from None
    except OSError as error:
        tcp.close()
        raise DaemonUnreachable(_CLOSED.format(url=url, reason=f"dropped it ({error})")) from None
    except BaseException:
        tcp.close()
        raise


async def _connect_tcp(url: str, limit_s: float) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", urls.port_of(parts)
    place = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit_s):
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            tcp = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
    except TimeoutError:
        raise DaemonUnreachable(f"no TCP connection to {place} within {limit_s:g} s") from None
    except socket.gaierror as error:
        raise DaemonUnreachable(f"the host name in {place} cannot be resolved: {error.strerror}") from None
    except UnicodeError:
        raise DaemonUnreachable(
            f"the host name in {place} is not valid: a part is empty or too long"
        ) from None
    except OSError as error:
        # asyncio's own text repeats the address in place of the reason.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DaemonUnreachable(f"nothing accepts connections at {place}: {reason}") from None
    with contextlib.suppress(OSError):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp
