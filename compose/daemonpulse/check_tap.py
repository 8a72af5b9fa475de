"""The checks of a tap: it answers, relays to this daemon, and the exporter is configured for it.

Asks the tap's port for reports and, through the tap, the daemon's greeting; changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from daemonpulse.finding import Finding
from exporter.catalogue import tap as m
from exporter.llmster import http_body, rest
from exporter.llmster.errors import LlmsterError
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared import host_header

DEFAULT_URL: Final = "http://127.0.0.1:9812"
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what a tap says of where it listens


async def check_tap(
    daemon: DaemonSettings, settings: ExporterSettings, *, within_s: float
) -> AsyncIterator[Finding]:
    """Look at the tap of a daemon; without one that is configured, say so only where one runs on this host."""
    url = daemon.tap_url or DEFAULT_URL
    health = await _health(url, within_s=within_s)
    if daemon.tap_url is None:
        if health is not None and await _is_same(health["upstream"], daemon):
            fix = f"set DAEMONPULSE_DAEMON_TAP_URL={url} for the exporter, so that it knows who asks"
            yield Finding(daemon.name, "tap known", False, f"a tap at {url} is before this daemon", fix)
        return
    if health is None:
        fix = "start it (daemonpulse tap), or remove daemon_tap_url; clients that use it cannot reach the daemon"
        yield Finding(daemon.name, "tap answers", False, f"{url} does not answer as a tap", fix)
        return
    yield Finding(daemon.name, "tap answers", True, url)
    upstream = health["upstream"]
    if not await _is_same(upstream, daemon):
        seen = f"the tap passes on to {upstream}, and this daemon is at {daemon.url}"
        yield Finding(
            daemon.name, "tap before it", False, seen, f"start the tap with --upstream {daemon.url}"
        )
        return
    place = _place(health["listen"], url)
    try:
        greets = await rest.greets(place, timeout_s=within_s)
        seen = f"{place} leads to {upstream}" if greets else f"{place} answers, and not as LM Studio"
    except LlmsterError as error:
        greets, seen = False, str(error)
    yield Finding(
        daemon.name, "tap before it", greets, seen, f"clients cannot use {place}; look at the tap's log"
    )
    known = await _known_to_exporter(daemon.name, settings, within_s=within_s)
    if known is not None:
        seen = "the exporter fetches its reports" if known else "the exporter does not get its reports"
        fix = f"restart the exporter with DAEMONPULSE_DAEMON_TAP_URL={url}, and see its log"
        yield Finding(daemon.name, "tap known", known, seen, "" if known else fix)


async def _health(url: str, *, within_s: float) -> dict[str, str] | None:
    """Ask a tap who it is; None for whatever is no tap."""
    answer = await _get(f"{url}/healthz", within_s=within_s)
    try:
        found: Any = msgspec.json.decode(answer or b"")
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    told = {key: value for key, value in found.items() if isinstance(value, str)}
    return told if {"listen", "upstream"} <= told.keys() else None


async def _known_to_exporter(daemon: str, settings: ExporterSettings, *, within_s: float) -> bool | None:
    """Ask the exporter that serves at `listen`, if one does and lets this host look; None where it cannot be told."""
    host = settings.listen_host
    host = "127.0.0.1" if host in _ANY else f"[{host}]" if ":" in host else host
    url = f"http://{host}:{settings.listen_port}/metrics?name[]={m.UP.name}"
    text = await _get(url, within_s=within_s)
    if text is None or settings.web_config is not None:
        return None
    try:
        return any(
            sample.name == m.UP.name and sample.labels.get("daemon") == daemon and sample.value == 1
            for family in text_string_to_metric_families(text.decode("utf-8", "replace"))
            for sample in family.samples
        )
    except ValueError:  # another program
        return None


async def _get(url: str, *, within_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(within_s), httpx.AsyncClient(trust_env=False) as http:
            answer = await http_body.ask(http, "GET", url)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        return None
    return answer.body if answer.is_success else None


async def _is_same(upstream: str, daemon: DaemonSettings) -> bool:
    """Tell whether HOST:PORT is where the daemon is, by name or by address."""
    host, _, port = upstream.rpartition(":")
    own = urlsplit(daemon.url).hostname or ""
    if port != str(daemon.port):
        return False
    if host == own or (host_header.is_loopback(host) and host_header.is_loopback(own)):
        return True
    theirs, own_addresses = await _addresses(host), await _addresses(own)
    return bool(theirs & own_addresses)


async def _addresses(host: str) -> frozenset[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[0]) for *_, address in found)


def _place(listen: str, url: str) -> str:
    """Give the URL for clients: where the tap listens, on the host where it answered."""
    host, _, port = listen.rpartition(":")
    if host in _ANY or host_header.is_loopback(host):
        host = urlsplit(url).hostname or host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
