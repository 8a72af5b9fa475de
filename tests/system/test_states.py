"""Fault by fault: `up` and `state` are right in the first scrape after it, and only what was broken is missing."""

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.llmster import client, session
from exporter.llmster.load_config import DEFAULT_PARALLEL, PARALLEL
from exporter.llmster.wire import sockets
from exporter.pipeline import snapshots
from llmster_sim.engine import log_events
from llmster_sim.server import SimConfig, Simulator
from tests.system.conftest import RunningExporter, Scraped, StartExporter, daemon
from tests.system.test_bad_days import assert_unreadable, is_up

LLM = "qwen/qwen3-8b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "STALLED_AFTER_S", 1.5)
    monkeypatch.setattr(client, "STALLED_AFTER_S", 1.5)
    monkeypatch.setattr(session, "LIST_LIMIT_S", 1.5)
    monkeypatch.setattr(session, "PART_GRACE_S", 1.0)
    monkeypatch.setattr(sockets, "OPEN_GRACE_S", 1.0)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(scenario="idle")) as simulator:
        yield simulator


@pytest.fixture
async def exporter(sim: Simulator, start_exporter: StartExporter) -> RunningExporter:
    started = await start_exporter(daemon("box", sim.url))
    assert is_up(await started.scrape())
    return started


def instances(scraped: Scraped) -> set[str]:
    return {labels["instance_id"] for name, labels, _ in scraped.samples if name == "llmster_instance_info"}


async def test_dropped_connections_are_open_again_in_the_next_scrape(
    sim: Simulator, exporter: RunningExporter
) -> None:
    for _ in range(3):
        sim.faults.drop_connections()
        scraped = await exporter.scrape()
        assert is_up(scraped)
        assert scraped.state("box") == "running"


async def test_dropped_connections_that_are_slow_to_reopen_are_waited_for(
    sim: Simulator, exporter: RunningExporter
) -> None:
    sim.faults.handshake_delay_s = 0.8  # longer than a scrape waits for what nobody accepts
    sim.faults.drop_connections()
    scraped = await exporter.scrape()
    assert is_up(scraped)
    assert scraped.state("box") == "running"


@pytest.mark.parametrize("status", [403, 502, 503])
async def test_refused_upgrades_are_a_daemon_that_refuses(
    sim: Simulator, exporter: RunningExporter, status: int
) -> None:
    sim.faults.refuse_upgrades, sim.faults.upgrade_status = True, status
    sim.faults.drop_connections()
    assert_unreadable(await exporter.scrape(), "refused")
    sim.faults.clear()
    assert is_up(await exporter.scrape())


async def test_a_silent_handshake_is_a_stalled_daemon(sim: Simulator, exporter: RunningExporter) -> None:
    sim.faults.handshake_delay_s = None
    sim.faults.drop_connections()
    assert_unreadable(await exporter.scrape(), "stalled")


async def test_a_frozen_daemon_is_stalled_also_when_it_was_frozen_while_connecting(
    sim: Simulator, exporter: RunningExporter
) -> None:
    sim.faults.freeze()
    assert_unreadable(await exporter.scrape(), "stalled")
    sim.faults.drop_connections()
    assert_unreadable(await exporter.scrape(), "stalled")
    sim.faults.thaw()
    assert is_up(await exporter.until(is_up))


async def test_a_daemon_that_stops_and_starts_is_down_and_up_at_once(
    sim: Simulator, exporter: RunningExporter
) -> None:
    await sim.stop()
    assert_unreadable(await exporter.scrape(), "down")
    await sim.start()
    scraped = await exporter.scrape()
    assert is_up(scraped)
    assert scraped.state("box") == "running"


async def test_a_revoked_token_is_a_daemon_that_refuses(start_exporter: StartExporter) -> None:
    token = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
    async with Simulator(SimConfig(scenario="idle", token=token)) as sim:
        exporter = await start_exporter(daemon("box", sim.url, token=token))
        assert is_up(await exporter.scrape())
        sim.faults.revoke_token()
        # The daemon closes the connections; a scrape may be answered before that.
        scraped = await exporter.until(lambda scraped: not is_up(scraped))
    assert_unreadable(scraped, "refused")


async def test_https_against_http_is_a_daemon_that_refuses(
    sim: Simulator, start_exporter: StartExporter
) -> None:
    exporter = await start_exporter(daemon("box", sim.url.replace("http:", "https:")))
    scraped = await exporter.scrape()
    assert_unreadable(scraped, "refused")
    assert scraped.value("daemonpulse_connection_failures_total", reason="tls") is not None


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Give the URL of a listener whose backlog is full: it answers no SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_an_address_that_answers_nothing_is_down(start_exporter: StartExporter) -> None:
    with black_hole() as url:
        exporter = await start_exporter(daemon("box", url))
        for _ in range(2):
            scraped = await exporter.scrape()
            assert_unreadable(scraped, "down")
            assert scraped.took_s < 1.5


Break = Callable[[Simulator, str], None]
BREAKS: dict[str, Break] = {
    "hangs": lambda sim, target: sim.faults.hang(target),
    "warns": lambda sim, target: sim.faults.warn(target),
    "fails": lambda sim, target: sim.faults.fail(target),
    "is half a frame": lambda sim, target: sim.faults.malformed_json(target),
    "has other types": lambda sim, target: sim.faults.wrong_types(target),
    "is null": lambda sim, target: sim.faults.raw(target, '{"type":"rpcResult","callId":{id},"result":null}'),
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("system.version", "llmster_no_series"),
        ("system.info", "llmster_no_series"),
        ("system.listDownloadedModels", "llmster_model_info"),
        ("repository.lmLinkStatus", "llmster_link_state"),
        ("runtime.listEngines", "llmster_engine_info"),
        ("llm.listLoaded", LLM),
        ("embedding.listLoaded", EMBEDDING),
        ("llm.getInstanceProcessingState", "llmster_no_series"),
        ("llm.getLoadConfig", "llmster_instance_parallel"),
        ("llm.estimateModelUsage", "llmster_instance_vram_estimate_bytes"),
    ],
)
async def test_one_call_that_is_broken_costs_its_own_series_only(
    sim: Simulator, start_exporter: StartExporter, how: str, target: str, missing: str
) -> None:
    BREAKS[how](sim, target)
    exporter = await start_exporter(daemon("box", sim.url))
    scraped = await exporter.scrape()

    assert is_up(scraped)
    assert scraped.state("box") == "running"
    assert scraped.took_s < 5
    present = {LLM, EMBEDDING, "llmster_model_info", "llmster_link_state", "llmster_engine_info"} - {missing}
    # Facts are read in the background: one that took longer serves the next scrape.
    scraped = await exporter.until(lambda scraped: present <= instances(scraped) | scraped.names())
    assert missing not in instances(scraped) | scraped.names()


@pytest.mark.parametrize("how", ["hangs", "warns"])
async def test_a_daemon_that_answers_no_list_is_stalled(
    sim: Simulator, exporter: RunningExporter, how: str
) -> None:
    BREAKS[how](sim, "*.listLoaded")
    assert_unreadable(await exporter.scrape(), "stalled")
    sim.faults.clear()
    assert is_up(await exporter.scrape())


async def test_a_daemon_that_answers_calls_and_no_keep_alive_is_running(
    sim: Simulator, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.llmster.client.STALLED_AFTER_S", 0.3)
    monkeypatch.setattr("exporter.llmster.wire.messages.KEEP_ALIVE_FRAME", '{"type":"ignored"}')
    exporter = await start_exporter(daemon("box", sim.url))
    for _ in range(4):
        assert is_up(await exporter.scrape())
        await asyncio.sleep(0.05)


async def test_a_rotated_token_is_read_again_without_a_restart(
    start_exporter: StartExporter, tmp_path: Path
) -> None:
    old, new = "sk-lm-Ab3dE6gH:0123456789abcdefghij", "sk-lm-Ab3dE6gH:zzzzzzzzzzzzzzzzzzzz"
    file = tmp_path / "token"
    file.write_text(old)
    async with Simulator(SimConfig(scenario="idle", token=new)) as sim:
        box = dataclasses.replace(daemon("box", sim.url, token=old), token_file=file)
        exporter = await start_exporter(box)
        assert_unreadable(await exporter.scrape(), "refused")
        file.write_text(new)
        assert is_up(await exporter.until(is_up))


async def test_the_engines_own_slots_say_how_many_requests_can_run_where_the_config_does_not(
    sim: Simulator, start_exporter: StartExporter
) -> None:
    def without_parallel(config: dict[str, Any]) -> dict[str, Any]:
        return {"fields": [one for one in config["fields"] if one["key"] != PARALLEL]}

    sim.faults.alter("llm.getLoadConfig", without_parallel)
    exporter = await start_exporter(daemon("box", sim.url))
    await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)
    (loaded, *_) = (one for one in sim.daemon.loaded if one.model.type == "llm")
    name = "llmster_instance_parallel"
    assert (await exporter.scrape()).value(name, instance_id=loaded.identifier) == DEFAULT_PARALLEL
    started = "srv    load_model: initializing, n_slots = 7, n_ctx_slot = 4096, kv_unified = 'false'"
    sim.daemon.log(
        log_events.runtime(
            at_ms=sim.clock.now_ms,
            level="info",
            text=started,
            engine=loaded.model.engine,
            identifier=loaded.identifier,
            reference=loaded.reference,
            pid=loaded.pid,
        )
    )
    await exporter.until(lambda scraped: scraped.value(name, instance_id=loaded.identifier) == 7)
