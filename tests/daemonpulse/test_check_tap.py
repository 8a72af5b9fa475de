"""What `daemonpulse check` finds out about a tap: there, before this daemon, known to the exporter."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daemonpulse import check_tap
from daemonpulse.finding import Finding
from exporter import settings as exporter_settings
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.tap import app, settings
from llmster_sim.server import SimConfig, Simulator
from tests.daemonpulse.test_check import answering
from tests.system.conftest import StartExporter, start_exporter

__all__ = ["start_exporter"]


@asynccontextmanager
async def tap(upstream: str) -> AsyncIterator[tuple[str, str]]:
    """Run one; gives its URLs for clients and for reports."""
    chosen = settings.load(
        {"upstream": upstream, "listen": "127.0.0.1:0", "reports_listen": "127.0.0.1:0"}, environ={}
    )
    urls: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    task = asyncio.create_task(app.serve(chosen, ready=lambda *found: urls.put_nowait(found)))
    try:
        yield await asyncio.wait_for(urls.get(), 10)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def at(port: int) -> ExporterSettings:
    return dataclasses.replace(exporter_settings.load({}, environ={}), listen_port=port)


async def found(url: str, tap_url: str | None, *, exporter_port: int = 1) -> dict[str, Finding]:
    daemon = DaemonSettings(name="box", url=url, token=None, home=None, tap_url=tap_url)
    findings = check_tap.check_tap(daemon, at(exporter_port), within_s=5)
    return {finding.what: finding async for finding in findings}


async def test_a_tap_that_is_right_and_known_is_three_times_right(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, tap(sim.url) as (url, reports):
        watched = DaemonSettings(name="box", url=sim.url, token=None, home=None, tap_url=reports)
        exporter = await start_exporter(watched)
        await exporter.until(lambda seen: seen.value("daemonpulse_tap_up") == 1)
        findings = await found(sim.url, reports, exporter_port=int(exporter.url.rpartition(":")[2]))
    assert [(what, one.works) for what, one in findings.items()] == [
        ("tap answers", True),
        ("tap before it", True),
        ("tap known", True),
    ]
    assert findings["tap before it"].seen == f"{url} leads to 127.0.0.1:{sim.port}"


async def test_an_exporter_that_was_not_told_of_it_is_named(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, tap(sim.url) as (_, reports):
        exporter = await start_exporter(DaemonSettings(name="box", url=sim.url, token=None, home=None))
        findings = await found(sim.url, reports, exporter_port=int(exporter.url.rpartition(":")[2]))
    assert not findings["tap known"].works
    assert f"DAEMONPULSE_DAEMON_TAP_URL={reports}" in findings["tap known"].fix


async def test_a_tap_before_another_daemon_is_told_with_both_addresses() -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, tap(sim.url) as (_, reports):
        findings = await found("http://127.0.0.1:9", reports)
    wrong = findings["tap before it"]
    assert not wrong.works
    assert (
        wrong.seen == f"the tap passes on to 127.0.0.1:{sim.port}, and this daemon is at http://127.0.0.1:9"
    )
    assert wrong.fix == "start the tap with --upstream http://127.0.0.1:9"


async def test_a_tap_whose_daemon_is_gone_does_not_lead_anywhere() -> None:
    async with tap("http://127.0.0.1:9") as (_, reports):
        findings = await found("http://127.0.0.1:9", reports)
    assert [one.works for one in findings.values()] == [True, False]


@pytest.mark.parametrize("body", [b"ok\n", b"[]", b'{"status": "ok"}', b"[" * 100_000])
async def test_another_program_is_no_tap(body: bytes) -> None:
    with answering(200, body) as port:
        findings = await found("http://127.0.0.1:9", f"http://127.0.0.1:{port}")
    assert [(one.what, one.works) for one in findings.values()] == [("tap answers", False)]


async def test_nobody_there_is_no_tap_and_without_one_configured_no_finding() -> None:
    assert not (await found("http://127.0.0.1:9", "http://127.0.0.1:1"))["tap answers"].works
    assert await found("http://127.0.0.1:9", None) == {}


async def test_a_tap_that_nobody_configured_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, tap(sim.url) as (_, reports):
        monkeypatch.setattr(check_tap, "DEFAULT_URL", reports)
        finding: Any = (await found(sim.url, None))["tap known"]
        assert not finding.works
        assert f"DAEMONPULSE_DAEMON_TAP_URL={reports}" in finding.fix
        assert await found("http://127.0.0.1:9", None) == {}, "another daemon's tap is none of this one's"
