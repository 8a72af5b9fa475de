"""The network between us and a daemon fails in ways a daemon's end does not: no FIN comes, or bytes only dribble."""

import asyncio
import time
from collections.abc import Callable

import pytest

from exporter.llmster import client as client_module
from exporter.llmster.wire.connection import Timeouts
from exporter.pipeline import snapshots
from llmster_sim.server import SimConfig, Simulator
from tests.faults.conftest import prediction
from tests.faults.promises import LIMIT_S, assert_exact, assert_truthful, healed
from tests.faults.relay import Relay
from tests.system.conftest import Scraped, StartExporter, daemon
from tests.system.test_bad_days import is_up

STALLED_AFTER_S = 0.3


async def told(relay: Relay, predictions: int) -> None:
    """Wait until so many predictions went through."""
    async with asyncio.timeout(LIMIT_S):
        while relay.delivered.predictions < predictions:  # noqa: ASYNC110 - it happens in the relay
            await asyncio.sleep(0.01)


def ended_times(times: int) -> Callable[[Scraped], bool]:
    """Tell whether the log stream has ended so many times."""
    return lambda scraped: scraped.value("llmster_log_stream_disconnects_total") == times


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up what falls silent after one second instead of twenty."""
    quick = Timeouts(keep_alive_every_s=0.3, dead_after_s=1.0, close_s=0.2)
    monkeypatch.setattr(client_module, "Timeouts", lambda: quick)
    for backoff in ("BACKOFF_FIRST_S", "BACKOFF_MOST_S"):
        monkeypatch.setattr(client_module, backoff, 0.05)
    for module in (client_module, snapshots):
        monkeypatch.setattr(module, "STALLED_AFTER_S", STALLED_AFTER_S)


@pytest.mark.usefixtures("_impatient")
async def test_a_peer_that_vanished_without_a_word_is_given_up_and_its_silence_is_counted_as_gap(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, Relay(sim.url) as relay:
        exporter = await start_exporter(daemon("box", relay.url))
        await healed(exporter)
        for number in range(50):
            sim.faults.send_raw(prediction(number))
        await told(relay, 50)
        await assert_exact(exporter, relay.delivered)

        relay.vanish()
        vanished_at = time.monotonic()
        for number in range(50):
            sim.faults.send_raw(prediction(100 + number))  # never arrives
        stalled = await exporter.until(lambda scraped: not is_up(scraped), within_s=LIMIT_S)
        assert_truthful(stalled)
        down = await exporter.until(
            lambda scraped: scraped.state("box") == "down" and scraped.value("llmster_log_stream_up") == 0,
            within_s=LIMIT_S,
        )
        assert_truthful(down)

        silent_s = time.monotonic() - vanished_at
        await relay.come_back()
        back = await healed(exporter)
        assert (back.value("llmster_log_stream_gap_seconds_total") or 0) >= silent_s
        assert back.value("llmster_restarts_total") == 0
        sim.faults.send_raw(prediction(200))
        await told(relay, 51)
        await assert_exact(exporter, relay.delivered)


async def test_a_line_that_only_dribbles_slows_readings_and_loses_nothing(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, Relay(sim.url) as relay:
        relay.bytes_per_s = 20_000
        exporter = await start_exporter(daemon("box", relay.url))
        await healed(exporter)
        relay.bytes_per_s = 2_000
        for number in range(20):
            sim.faults.send_raw(prediction(number))
        hurried = await asyncio.gather(*(exporter.scrape(timeout_s=1) for _ in range(5)))
        for scraped in hurried:
            assert_truthful(scraped)
        relay.bytes_per_s = None
        await told(relay, 20)
        await assert_exact(exporter, relay.delivered)
        back = await healed(exporter)
    assert back.value("daemonpulse_connection_failures_total", reason="lost") is None
    assert back.value("llmster_log_stream_disconnects_total") == 0


async def test_reset_sockets_are_opened_again_and_what_is_said_then_is_counted_once(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim, Relay(sim.url) as relay:
        exporter = await start_exporter(daemon("box", relay.url))
        await healed(exporter)
        for number in range(3):
            sim.faults.send_raw(prediction(number))
            await told(relay, number + 1)
            await assert_exact(exporter, relay.delivered)
            assert relay.cut() > 0
            await exporter.until(ended_times(number + 1), within_s=LIMIT_S)
            back = await healed(exporter)
            assert back.value("llmster_restarts_total") == 0
