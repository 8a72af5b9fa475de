"""The OTLP receiver is away, slow, overloaded or picky: scrapes and sums do not notice, and no loss goes uncounted."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from llmster_sim.server import SimConfig, Simulator
from tests.faults.conftest import prediction
from tests.faults.promises import LIMIT_S, assert_truthful, healed, sums
from tests.otlp_sink import Received, otlp_sink
from tests.system.conftest import RunningExporter, Scraped, StartExporter, daemon

SPANS = "daemonpulse_otlp_spans_{}_total"
SPANS_EACH = 3
"""Request, prefill and answer: what becomes of a prediction that does not reason."""


def spans(scraped: Scraped, word: str) -> float:
    return scraped.value(SPANS.format(word)) or 0


@asynccontextmanager
async def watched(start_exporter: StartExporter) -> AsyncIterator[tuple[Simulator, RunningExporter]]:
    """Give a daemon whose time stands still, and an exporter that reads it well."""
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await healed(exporter)
        yield sim, exporter


async def say(exporter: RunningExporter, sim: Simulator, times: int) -> Scraped:
    """Let the daemon finish so many predictions more, and see them counted whatever the receiver does."""
    before = sums(await exporter.scrape())[0]
    for number in range(times):
        sim.faults.send_raw(prediction(int(before) + number))
    counted = await exporter.until(lambda scraped: sums(scraped)[0] == before + times, within_s=LIMIT_S)
    assert_truthful(counted)
    return counted


async def settled(exporter: RunningExporter, predictions: int) -> Scraped:
    """Wait until every span is accounted for."""
    return await exporter.until(
        lambda scraped: (
            sum(spans(scraped, word) for word in ("exported", "failed", "dropped"))
            == SPANS_EACH * predictions
        ),
        within_s=LIMIT_S,
    )


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """Run a receiver that we wait for two seconds at most."""
    with otlp_sink() as sink:
        for name, value in sink.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        yield sink


async def test_a_receiver_that_is_overloaded_is_given_the_time_it_asks_for_and_gets_all(
    start_exporter: StartExporter, received: Received
) -> None:
    async with watched(start_exporter) as (sim, exporter):
        received.status, received.headers = 429, {"Retry-After": "1"}
        await say(exporter, sim, 5)
        await exporter.until(lambda _: any(b"chat" in body for body in received.bodies), within_s=LIMIT_S)
        received.status, received.headers = 200, {}
        await say(exporter, sim, 5)
        last = await settled(exporter, 10)
    assert spans(last, "exported") == len(received.spans) == 10 * SPANS_EACH


async def test_a_receiver_that_wants_longer_than_we_wait_costs_what_it_refused_and_nothing_later(
    start_exporter: StartExporter, received: Received
) -> None:
    async with watched(start_exporter) as (sim, exporter):
        received.status, received.headers = 429, {"Retry-After": "3600"}
        await say(exporter, sim, 5)
        refused = await settled(exporter, 5)
        assert spans(refused, "failed") == 5 * SPANS_EACH
        received.status, received.headers = 200, {}
        await say(exporter, sim, 5)
        last = await settled(exporter, 10)
    assert spans(last, "exported") == len(received.spans) == 5 * SPANS_EACH


async def test_what_a_receiver_takes_and_then_rejects_counts_as_failed(
    start_exporter: StartExporter, received: Received
) -> None:
    async with watched(start_exporter) as (sim, exporter):
        received.rejected = 2
        await say(exporter, sim, 1)
        partial = await settled(exporter, 1)
        assert spans(partial, "failed") == 2
        assert spans(partial, "exported") == SPANS_EACH - 2
        received.rejected = 0
        await say(exporter, sim, 1)
        last = await settled(exporter, 2)
    assert spans(last, "failed") == 2
    assert last.value("daemonpulse_otlp_logs_dropped_total") == 0


async def test_a_receiver_that_leaves_us_waiting_holds_up_no_scrape_and_no_count(
    start_exporter: StartExporter, received: Received
) -> None:
    async with watched(start_exporter) as (sim, exporter):
        received.answers.clear()
        await say(exporter, sim, 200)
        await exporter.until(lambda scraped: spans(scraped, "failed") > 0, within_s=LIMIT_S)
        received.answers.set()
        await say(exporter, sim, 5)
        last = await settled(exporter, 205)
    assert spans(last, "exported") >= 5 * SPANS_EACH
    assert spans(last, "dropped") == 0


async def test_a_receiver_that_is_not_there_costs_its_spans_until_it_is(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{unused_tcp_port}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with watched(start_exporter) as (sim, exporter):
        await say(exporter, sim, 5)
        lost = await settled(exporter, 5)
        assert spans(lost, "failed") == 5 * SPANS_EACH
        with otlp_sink(port=unused_tcp_port) as received:
            await say(exporter, sim, 5)
            last = await settled(exporter, 10)
            assert spans(last, "exported") == len(received.spans) == 5 * SPANS_EACH
