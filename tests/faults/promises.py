"""What must be true of a scrape whatever has happened, and of token sums after it. Knows no fault."""

from exporter.catalogue import CATALOGUE, Kind
from exporter.catalogue import log_stream as m
from tests.faults.relay import Delivered
from tests.system.conftest import Scraped, Scraper
from tests.system.test_bad_days import ALWAYS, is_up
from tests.system.test_pulse import total

LIMIT_S = 60.0
"""Only a guard, for a host that has other things to do; what heals does so in seconds."""

KEPT = {row.name for row in CATALOGUE if row.kind is Kind.COUNTER} | {
    row.name + suffix
    for row in CATALOGUE
    if row.kind is Kind.HISTOGRAM
    for suffix in ("_bucket", "_count", "_sum")
}
"""What we counted ourselves: it stays, whatever the daemon does."""


HOST = {"llmster_host_memory_total_bytes", "llmster_host_memory_available_bytes"}
"""The host is there whether its daemon is or not."""


def assert_truthful(scraped: Scraped) -> None:
    """Nothing stale, nothing hung, no collector broken but of a host that did not answer in time, one state."""
    assert scraped.took_s < LIMIT_S
    broken = {
        labels["collector"]
        for name, labels, value in scraped.samples
        if name == "daemonpulse_collector_success" and not value
    }
    assert broken <= {"gpu", "host"}
    state = scraped.state("box")
    if is_up(scraped):
        assert state == "running"
        assert scraped.value("llmster_build_info", daemon="box") == 1
    else:
        assert scraped.names(daemon="box") - KEPT - HOST == ALWAYS


def sums(scraped: Scraped) -> tuple[float, float, float]:
    """Predictions, prompt tokens and generated tokens counted."""
    requests, prompt, generated = (
        total(scraped, row.name) for row in (m.REQUESTS, m.PROMPT_TOKENS, m.GENERATION_TOKENS)
    )
    return requests, prompt, generated


def sums_of(delivered: Delivered) -> tuple[float, float, float]:
    return delivered.predictions, delivered.prompt_tokens, delivered.generated_tokens


async def assert_exact(exporter: Scraper, delivered: Delivered) -> Scraped:
    """All that was delivered gets counted, and not one token more."""
    scraped = await exporter.until(
        lambda scraped: sums(scraped)[0] >= delivered.predictions, within_s=LIMIT_S
    )
    assert sums(scraped) == sums_of(delivered)
    assert_truthful(scraped)
    return scraped


async def healed(exporter: Scraper) -> Scraped:
    """Wait until the daemon is read again, log stream and all."""
    scraped = await exporter.until(
        lambda scraped: is_up(scraped) and scraped.value("llmster_log_stream_up") == 1, within_s=LIMIT_S
    )
    assert_truthful(scraped)
    return scraped
