"""`daemonpulse check`: checks each configured daemon as the exporter uses it, and prints the fix of each problem.

Every finding contains the fix. Changes nothing and starts no daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import httpx

from daemonpulse.check_tap import check_tap
from daemonpulse.finding import Finding
from exporter.llmster import local_files, rest
from exporter.llmster.client import DaemonClient
from exporter.llmster.errors import AuthenticationRefused, DaemonStalled, LlmsterError
from exporter.llmster.wire.connection import Timeouts
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared.server import listen
from exporter.shared.settings_table import SettingsError
from exporter.shared.terminal import plain, say_json
from exporter.telemetry import otel_env

ANSWER_S: Final = 5.0
FROZEN: Final = (
    "it accepts connections and does not answer: restart the daemon (lms daemon down && lms daemon up)"
)
INTERNAL_PORTS: Final = (41343, 52993, 16141, 39414, 22931)
"""Ports the internal API tries in turn. Source: lmstudio-js; see docs of the client's discovery."""


def run(settings: ExporterSettings, *, as_json: bool) -> int:
    """Check everything, print the findings, return the exit code."""
    findings = asyncio.run(_check_all(settings))
    if as_json:
        say_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return 0 if all(finding.works for finding in findings) else 1


async def _check_all(settings: ExporterSettings) -> list[Finding]:
    findings: list[Finding] = []
    for daemon in settings.daemons:
        findings += [finding async for finding in _check(daemon)]
        findings += [finding async for finding in check_tap(daemon, settings, within_s=ANSWER_S)]
    findings += check_otlp(os.environ)
    findings.append(check_listen(settings))
    return findings


async def _check(daemon: DaemonSettings) -> AsyncIterator[Finding]:
    name = daemon.name
    try:
        greets = await rest.greets(daemon.url, timeout_s=ANSWER_S)
    except DaemonStalled as error:
        seen = f"{error}: it accepts connections and does not answer"
        yield Finding(name, "daemon found", False, seen, FROZEN)
        return
    except LlmsterError as error:
        yield Finding(name, "daemon found", False, str(error), await _how_to_reach(daemon))
        return
    if not greets:
        fix = "this is another server; point --daemon-url at LM Studio's port"
        yield Finding(name, "daemon found", False, f"{daemon.url} answers, but is not LM Studio", fix)
        return
    seen = daemon.url
    with contextlib.suppress(LlmsterError):
        status = await rest.status(daemon.url, timeout_s=ANSWER_S)
        seen = f"{status.package} {status.version} at {daemon.url}"
    yield Finding(name, "daemon found", True, seen)
    for finding in check_home(daemon):
        yield finding
    client = DaemonClient(
        name=name,
        url=daemon.url,
        token=daemon.current_token,
        timeouts=Timeouts(call_s=ANSWER_S),
    )
    running = asyncio.create_task(client.run())
    try:
        async for finding in _check_session(client, has_token=daemon.token is not None):
            yield finding
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _check_session(client: DaemonClient, *, has_token: bool) -> AsyncIterator[Finding]:
    name = client.name
    await client.settled(within_s=2 * ANSWER_S)
    problem = client.health().problem
    if isinstance(problem, AuthenticationRefused):
        yield Finding(
            name,
            "token accepted",
            False,
            str(problem),
            "create a token in LM Studio (Developer > API tokens) and put it in the file "
            "DAEMONPULSE_DAEMON_TOKEN_FILE names"
            if not has_token
            else "the daemon rejects this token; create a new one and replace it",
        )
        return
    if problem is not None:
        fix = (
            FROZEN
            if isinstance(problem, DaemonStalled)
            else "does a proxy between here and the daemon refuse it?"
        )
        yield Finding(name, "session opened", False, str(problem), fix)
        return
    yield Finding(name, "token accepted", True, "with the token" if has_token else "no token needed")
    try:
        snapshot = await client.snapshot()
    except LlmsterError as error:
        yield Finding(name, "state readable", False, str(error), FROZEN)
        return
    if has_token and snapshot.auth_required is False:
        seen = "no: the daemon lets in clients without a token; turn on authentication, or remove the token"
        yield Finding(name, "token needed", True, seen)
    for domain in snapshot.unread_domains:
        yield Finding(name, "state readable", False, f"the list of loaded {domain} models", FROZEN)
    loaded = ", ".join(instance.info.identifier for instance in snapshot.instances) or "nothing loaded"
    yield Finding(name, "state readable", True, f"{loaded} ({snapshot.duration_s * 1000:.0f} ms)")
    try:
        async with client.log_channel(), asyncio.timeout(ANSWER_S):
            # The stream has no greeting: that the daemon still answers after the subscription is the proof.
            await client.snapshot()
    except (LlmsterError, TimeoutError) as error:
        fix = "log events will be missing; does this version have `lms log stream`?"
        yield Finding(name, "log stream open", False, str(error) or "no answer", fix)
        return
    warned = ", ".join(client.counts.warnings)
    yield Finding(
        name,
        "log stream open",
        not warned,
        f"the daemon objected: {warned}" if warned else "subscribed",
        "report this: the daemon's protocol differs from the known one" if warned else "",
    )


async def _how_to_reach(daemon: DaemonSettings) -> str:
    """Say what to do about a daemon that cannot be reached, by why."""
    other = "http" if daemon.url.startswith("https:") else "https"
    url = f"{other}:{daemon.url.partition(':')[2]}"
    with contextlib.suppress(LlmsterError):
        if await rest.greets(url, timeout_s=ANSWER_S):
            return f"LM Studio answers at {url}: set DAEMONPULSE_DAEMON_URL={url}"
    host = urlsplit(daemon.url).hostname or ""
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return f"the host name {host} is not known here: correct --daemon-url, or the name service"
    return await how_to_find(daemon)


def check_home(daemon: DaemonSettings) -> list[Finding]:
    """Look for what makes every load of a local daemon fail.

    Source: llmster 0.0.25 does not make `.internal/temp` when it is installed, and ends every load with ENOENT.
    """
    with contextlib.suppress(RuntimeError, OSError):  # a user id without a name, and no HOME
        home = daemon.home or local_files.default_home(Path.home())
        internal = home / ".internal"
        is_its_home = daemon.home is not None or (
            daemon.is_loopback and daemon.port in local_files.ports(home)
        )
        if is_its_home and internal.is_dir() and not (internal / "temp").is_dir():
            seen = f"{internal / 'temp'} is missing: loads will fail with ENOENT"
            return [Finding(daemon.name, "loads possible", False, seen, f"mkdir {internal / 'temp'}")]
    return []


def check_otlp(environ: Mapping[str, str]) -> list[Finding]:
    """Try to connect to the OTLP receivers that the environment names."""

    def finding(seen: str, fix: str = "") -> Finding:
        return Finding("(exporter)", "OTLP receiver", not fix, seen, fix)

    try:
        otel_env.check(environ)
    except SettingsError as error:
        return [finding(str(error), f"correct {error.key}; the exporter does not start with it")]
    findings: list[Finding] = []
    for key, host, port in otel_env.receivers(environ):
        try:
            socket.create_connection((host, port), timeout=ANSWER_S).close()
        except (OSError, ValueError) as error:
            findings.append(finding(f"{host}:{port}: {error}", f"correct {key}, or start the receiver"))
        else:
            findings.append(finding(f"{host}:{port} accepts"))
    return findings


async def how_to_find(daemon: DaemonSettings) -> str:
    """Look for the daemon at other addresses; return how to reach or start it."""
    if not daemon.is_loopback and daemon.home is None:
        return "start it there (lms daemon up, lms server start), let it listen on the network, check the firewall"
    known = set(INTERNAL_PORTS)
    with contextlib.suppress(RuntimeError):  # a user id without a name, and no HOME
        known |= local_files.ports(daemon.home or local_files.default_home(Path.home()))
    for port in sorted(known):
        url = f"http://127.0.0.1:{port}"
        with contextlib.suppress(LlmsterError):
            if await rest.greets(url, timeout_s=1.0):
                return f"LM Studio answers at {url}: set DAEMONPULSE_DAEMON_URL={url}"
    return "start it: lms daemon up && lms server start --port " + str(daemon.port)


def check_listen(settings: ExporterSettings) -> Finding:
    """Try what the exporter would do first; if that cannot be, look whether an exporter has done it already."""
    host, port = settings.listen_host, settings.listen_port
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def finding(works: bool, seen: str, fix: str = "") -> Finding:  # noqa: FBT001 - as in a Finding
        return Finding("(exporter)", "metrics port", works, seen, fix)

    try:
        listen(host, port).close()
    except SettingsError as error:
        refused = error
    else:
        return finding(True, f"{place} is free; start: daemonpulse exporter")
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, place.rpartition(":")[0])  # noqa: S104 - from, not to
    guarded = settings.web_config is not None
    try:
        answer = httpx.get(f"http://{local}:{port}/healthz", timeout=ANSWER_S, trust_env=False)
        if answer.text == "ok\n":
            return finding(True, f"an exporter already serves http://{place}/metrics")
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL):
        guarded = False
    except httpx.HTTPError:
        pass  # an exporter with TLS answers so, too
    if guarded:
        return finding(
            True, f"{place} is in use; behind the TLS or password of web_config it cannot be told by what"
        )
    return finding(False, str(refused), "say where with DAEMONPULSE_LISTEN")


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.daemon) for finding in findings)
    for finding in findings:
        mark = click.style("works", fg="blue") if finding.works else click.style("FAILS", fg="red", bold=True)
        click.echo(f"{finding.daemon:<{width}}  {mark}  {finding.what:<15}  {plain(finding.seen)}")
        if finding.fix and not finding.works:
            click.echo(f"{'':<{width}}  {'':5}  {'':15}  fix: {plain(finding.fix)}")
