"""The daemon's process dies, freezes or is replaced, for real: told at once, nothing stale, nothing counted twice."""

import asyncio
import random

import pytest

from tests.faults.conftest import StartDaemon, StartExporter
from tests.faults.promises import LIMIT_S, assert_exact, assert_truthful, healed, sums
from tests.faults.relay import Relay
from tests.system.test_bad_days import is_up


@pytest.mark.parametrize(
    ("politely", "version"), [(False, "0.4.24"), (True, "0.4.25")], ids=["killed", "upgraded"]
)
async def test_a_daemon_that_ends_under_traffic_is_down_at_once_and_every_token_it_told_of_is_counted(
    run_daemon: StartDaemon, run_exporter: StartExporter, *, politely: bool, version: str
) -> None:
    daemon = await run_daemon("--scenario", "steady+agent", "--speed", "20")
    async with Relay(daemon.url) as relay:
        exporter = await run_exporter(relay.url)
        await healed(exporter)
        await exporter.until(lambda scraped: sums(scraped)[0] > 0, within_s=LIMIT_S)
        await asyncio.sleep(random.Random(version).uniform(0, 1))  # any moment will do
        await (daemon.program.terminate() if politely else daemon.program.kill())
        down = await exporter.until(lambda scraped: not is_up(scraped), within_s=LIMIT_S)
        assert_truthful(down)
        assert down.state("box") == "down"
        await assert_exact(exporter, relay.delivered)

        await daemon.start("--version-string", version)
        back = await healed(exporter)
        assert back.value("llmster_build_info", version=version) == 1, "and no other version is left"
        assert back.value("llmster_restarts_total") == 1
        assert back.value("llmster_log_stream_disconnects_total") == 1
        assert (back.value("llmster_log_stream_gap_seconds_total") or 0) > 0
        await daemon.program.kill()
        await assert_exact(exporter, relay.delivered)


async def test_a_frozen_daemon_is_stalled_never_hangs_a_scrape_and_is_back_when_it_thaws(
    run_daemon: StartDaemon, run_exporter: StartExporter
) -> None:
    daemon = await run_daemon("--scenario", "idle")
    exporter = await run_exporter(daemon.url)
    await healed(exporter)
    daemon.program.freeze()
    hurried = await exporter.scrape(timeout_s=1)
    assert_truthful(hurried)
    assert not is_up(hurried)
    stalled = await exporter.until(lambda scraped: scraped.state("box") == "stalled", within_s=LIMIT_S)
    assert_truthful(stalled)
    daemon.program.thaw()
    back = await healed(exporter)
    assert back.value("llmster_restarts_total") == 0
    assert back.value("llmster_instance_info", instance_id="qwen/qwen3-8b") == 1
