"""What a scrape says when the daemon is not well: never a crash, never a hung scrape, never a stale value."""

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from exporter.catalogue import CATALOGUE, Kind
from exporter.llmster import shared_snapshot
from exporter.llmster.session import Session
from exporter.llmster.state import Snapshot
from exporter.llmster.wire.sockets import Sockets
from exporter.pipeline import snapshots
from llmster_sim.errors import DaemonError
from llmster_sim.server import SimConfig, Simulator
from tests.system.conftest import Scraped, StartExporter, daemon

ALWAYS = {"llmster_up", "llmster_daemon_state", "llmster_log_stream_up"}
COUNTED = {row.name for row in CATALOGUE if row.kind is Kind.COUNTER}


def is_up(scraped: Scraped) -> bool:
    return scraped.value("llmster_up") == 1


def assert_unreadable(scraped: Scraped, state: str) -> None:
    """Up is 0, the state is told, and of the daemon's own series only what we counted is left."""
    assert scraped.value("llmster_up") == 0
    assert scraped.state("box") == state
    assert scraped.names(daemon="box") - COUNTED == ALWAYS


async def test_scrape_of_a_daemon_that_was_never_there_answers_within_a_second(
    start_exporter: StartExporter,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        exporter = await start_exporter(daemon("box", f"http://127.0.0.1:{taken.getsockname()[1]}"))
        scraped = await exporter.scrape()
    assert_unreadable(scraped, "down")
    assert scraped.took_s < 1


async def test_scrape_reports_down_at_once_when_the_daemon_was_killed(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        assert is_up(await exporter.scrape())
        await sim.stop()
        scraped = await exporter.scrape()
    assert_unreadable(scraped, "down")
    assert scraped.took_s < 1


async def test_up_is_right_through_ten_kills_and_the_daemon_is_back_within_five_seconds(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        for _ in range(10):
            await exporter.until(is_up, within_s=5)
            hammering = [asyncio.create_task(exporter.scrape()) for _ in range(5)]
            await sim.stop()
            for scraped in await asyncio.gather(*hammering):
                assert scraped.value("llmster_up") in {0, 1}
            assert_unreadable(await exporter.scrape(), "down")
            sim.daemon.restart()
            await sim.start()
        last = await exporter.until(is_up, within_s=5)
    assert last.value("llmster_restarts_total") == 10
    assert last.value("daemonpulse_connection_failures_total", reason="lost") == 10


async def test_a_frozen_daemon_is_stalled_and_not_down(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "STALLED_AFTER_S", 1.0)
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        assert is_up(await exporter.scrape())
        sim.faults.freeze()
        assert_unreadable(await exporter.scrape(), "stalled")
        sim.faults.thaw()
        assert (await exporter.until(is_up)).state("box") == "running"


async def test_a_scraper_in_a_hurry_is_answered_within_its_timeout(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        assert is_up(await exporter.scrape())
        sim.faults.hang("llm.listLoaded")
        scraped = await exporter.scrape(timeout_s=1)
    assert scraped.took_s < 1
    assert_unreadable(scraped, "running")


async def test_fifty_scrapes_of_a_slow_daemon_share_one_reading(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await exporter.scrape()
        sim.calls.clear()
        sim.faults.delay("*.listLoaded", 2.0, times=2)  # long enough for all to arrive
        scrapes = await asyncio.gather(*(exporter.scrape() for _ in range(50)))
    assert all(map(is_up, scrapes))
    assert sim.calls["llm", "listLoaded"] == 1


Breakage = Callable[[Simulator], None]
BREAKAGES: dict[str, Breakage] = {
    "an rpcError": lambda sim: sim.faults.fail("llm.listLoaded", times=1),
    "malformed JSON": lambda sim: sim.faults.malformed_json("llm.listLoaded", times=1),
    "wrong types": lambda sim: sim.faults.wrong_types("llm.listLoaded", times=1),
    "an unknown enum": lambda sim: sim.faults.unknown_enum(
        "llm.getInstanceProcessingState", key="status", times=2
    ),
    "a 5 MB frame": lambda sim: sim.faults.big_frame("llm.listLoaded", times=1),
    "a warning instead of an answer": lambda sim: sim.faults.warn("llm.listLoaded", times=1),
    "a closed socket mid-call": lambda sim: sim.faults.close_mid_call("llm.listLoaded", times=1),
    "no answer": lambda sim: sim.faults.hang("llm.listLoaded", times=1),
    "null": lambda sim: sim.faults.raw(
        "llm.listLoaded", '{"type":"rpcResult","callId":{id},"result":null}', times=1
    ),
    "no result": lambda sim: sim.faults.raw("llm.listLoaded", '{"type":"rpcResult","callId":{id}}', times=1),
    "a list of nonsense": lambda sim: sim.faults.raw(
        "llm.listLoaded", '{"type":"rpcResult","callId":{id},"result":[1,"x",null,{}]}', times=1
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_one_odd_answer_never_crashes_or_hangs_a_scrape_and_is_over_with_the_next(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, breakage: str
) -> None:
    monkeypatch.setattr(snapshots, "STALLED_AFTER_S", 1.0)
    monkeypatch.setattr(shared_snapshot, "FETCH_LIMIT_S", 1.5)
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        assert is_up(await exporter.scrape())
        BREAKAGES[breakage](sim)
        odd = await exporter.scrape()
        assert odd.took_s < 5
        assert all(value == 1 for name, _, value in odd.samples if name == "daemonpulse_collector_success")
        if not is_up(odd):
            assert odd.names(daemon="box") - COUNTED == ALWAYS
        await exporter.until(
            lambda scraped: (
                is_up(scraped) and scraped.value("llmster_instance_info", instance_id="qwen/qwen3-8b") == 1
            )
        )


async def test_odd_messages_are_counted_by_kind(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await exporter.scrape()
        sim.faults.raw("llm.listLoaded", '{"type":"rpcResult","callId":{id},"result":[{}]}', times=1)
        await exporter.scrape()
        sim.faults.warn("embedding.listLoaded", times=1)
        await exporter.scrape(timeout_s=1)
        scraped = await exporter.scrape(timeout_s=1)
    assert scraped.value("daemonpulse_unreadable_messages_total", kind="instance") == 1
    assert sum(v for n, _, v in scraped.samples if n == "daemonpulse_protocol_warnings_total") == 1


async def test_an_instance_that_goes_away_while_it_is_read_is_simply_not_there(
    start_exporter: StartExporter,
) -> None:
    gone = DaemonError(
        "This model has already been unloaded.", display={"code": "generic.specificModelUnloaded"}
    )
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        sim.faults.fail("embedding.getInstanceProcessingState", error=gone, times=1)
        scraped = await exporter.scrape()
    assert is_up(scraped)
    assert scraped.value("llmster_instance_info", type="embedding") is None
    assert scraped.value("llmster_instance_info", instance_id="qwen/qwen3-8b") == 1


async def test_an_instance_that_will_not_say_what_it_does_is_there_without_a_state(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        sim.faults.fail("embedding.getInstanceProcessingState", times=1)
        scraped = await exporter.scrape()
    identifier = "text-embedding-nomic-embed-text-v1.5"
    assert is_up(scraped)
    assert scraped.value("llmster_instance_info", instance_id=identifier) == 1
    assert scraped.value("llmster_num_requests_running", instance_id=identifier) is None
    assert "llmster_instance_state" not in scraped.names(instance_id=identifier)


@pytest.mark.parametrize(
    ("configured", "given", "up"),
    [
        ("sk-lm-Ab3dE6gH:0123456789abcdefghij", "sk-lm-Ab3dE6gH:0123456789abcdefghij", 1),
        ("sk-lm-Ab3dE6gH:0123456789abcdefghij", "sk-lm-Ab3dE6gH:zzzzzzzzzzzzzzzzzzzz", 0),
        ("sk-lm-Ab3dE6gH:0123456789abcdefghij", None, 0),
    ],
    ids=["right", "wrong", "missing"],
)
async def test_a_daemon_that_requires_a_token_refuses_without_the_right_one(
    start_exporter: StartExporter,
    caplog: pytest.LogCaptureFixture,
    configured: str,
    given: str | None,
    up: int,
) -> None:
    async with Simulator(SimConfig(scenario="idle", token=configured)) as sim:
        exporter = await start_exporter(daemon("box", sim.url, token=given))
        scraped = await exporter.scrape()
        page = (await exporter.get("/")).text
    assert scraped.value("llmster_up") == up
    assert scraped.state("box") == ("running" if up else "refused")
    assert scraped.value("llmster_config_auth_required") == (1 if up else None)
    assert scraped.value("daemonpulse_connection_failures_total", reason="auth") is None if up else True
    everything = page + caplog.text + repr(scraped.samples)
    for secret in (configured, given):
        if secret is not None:
            assert secret.partition(":")[2] not in everything


async def test_a_revoked_token_shows_as_a_daemon_that_refuses(start_exporter: StartExporter) -> None:
    token = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
    async with Simulator(SimConfig(scenario="idle", token=token)) as sim:
        exporter = await start_exporter(daemon("box", sim.url, token=token))
        assert is_up(await exporter.scrape())
        sim.faults.revoke()
        await exporter.until(
            lambda scraped: scraped.value("daemonpulse_connection_failures_total", reason="auth") is not None
        )
        scraped = await exporter.scrape()  # that one may have been under way when the token was refused
    assert_unreadable(scraped, "refused")


async def test_a_server_that_is_not_lm_studio_refuses_and_the_page_says_why(
    start_exporter: StartExporter,
) -> None:
    async def answer_html(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer_html, "127.0.0.1", 0) as server:
        exporter = await start_exporter(
            daemon("box", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        )
        scraped = await exporter.scrape()
        page = (await exporter.get("/")).text
    assert_unreadable(scraped, "refused")
    assert scraped.value("daemonpulse_connection_failures_total", reason="upgrade_refused") is not None
    assert "HTTP 200" in page


async def test_one_dead_daemon_does_not_hide_or_delay_the_others(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), daemon("gone", "http://127.0.0.1:9"))
        started = time.monotonic()
        scraped = await exporter.scrape()
    assert time.monotonic() - started < 1
    assert scraped.value("llmster_up", daemon="box") == 1
    assert scraped.value("llmster_up", daemon="gone") == 0
    assert scraped.state("gone") == "down"


async def test_a_bug_of_ours_in_reading_one_daemon_costs_that_reading_only(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(_self: Session) -> Snapshot:
        raise RuntimeError("a bug")

    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        with monkeypatch.context() as broken:
            broken.setattr(Session, "snapshot", bug)
            assert_unreadable(await exporter.scrape(), "running")
            broken.undo()
            broken.setattr(Sockets, "over", bug)
            sim.faults.drop_connections()
            await exporter.until(lambda scraped: scraped.value("llmster_up") == 0)
        assert is_up(await exporter.until(is_up))
