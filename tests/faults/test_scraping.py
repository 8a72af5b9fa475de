"""Fifty scrapers at once, some in a hurry, some that leave, while the daemon hangs: each is answered, all is shared."""

import asyncio
from urllib.parse import urlsplit

from exporter.llmster.domains import CORE
from llmster_sim.server import SimConfig, Simulator
from tests.faults.conftest import StartExporter
from tests.faults.promises import assert_truthful, healed
from tests.system.test_bad_days import is_up


async def leave(url: str) -> None:
    """Ask for a scrape and go away without waiting for it."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n")
    await writer.drain()
    writer.transport.abort()


async def test_fifty_scrapers_of_a_hanging_daemon_are_answered_in_their_time_and_cost_one_reading(
    run_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await run_exporter(sim.url)
        await healed(exporter)
        descriptors = (await exporter.scrape()).value("process_open_fds") or 0
        sim.calls.clear()
        sim.faults.hang("*.listLoaded", times=2)  # both domains: one that answers keeps the daemon up
        patient = [exporter.scrape(timeout_s=20) for _ in range(25)]
        hurried = [exporter.scrape(timeout_s=1) for _ in range(25)]
        leaving = [leave(exporter.url) for _ in range(25)]
        answers = await asyncio.gather(*hurried, *patient, *leaving)
        scrapes = [answer for answer in answers if answer is not None]
        assert len(scrapes) == 50
        for scraped in scrapes:
            assert_truthful(scraped)
            assert not is_up(scraped)
        assert {scraped.state("box") for scraped in scrapes[25:]} == {"stalled"}, "those who waited learn why"
        assert [sim.calls[domain, "listLoaded"] for domain in CORE] == [1, 1], "one question for all of them"
        sim.faults.drop_connections()  # or the question would be waited for until it is given up
        back = await healed(exporter)
        assert (back.value("process_open_fds") or 0) < descriptors + 10
