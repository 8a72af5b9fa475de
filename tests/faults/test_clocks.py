"""The wall clock jumps by a day, either way: sums, states and the audit do not care."""

import asyncio
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from actions.store.audit import Audit
from actions.store.database import Storage
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import SMALL
from tests.external import FindTool
from tests.faults.conftest import StartActions, StartExporter, operator, prediction
from tests.faults.promises import LIMIT_S, assert_truthful, healed, sums
from tests.system import conftest as system
from tests.system.test_bad_days import is_up

pytestmark = pytest.mark.timeout(300)  # several processes, one after the other

QWEN = "qwen/qwen3-8b"
DAY_S = 86_400


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_wall_clock_that_jumps_leaves_ttls_in_their_bounds_and_causes_true(
    start_exporter: system.StartExporter, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        sim.daemon.load(SMALL, identifier="short", ttl_ms=3_600_000, instant=True)
        exporter = await start_exporter(system.daemon("box", sim.url))
        await healed(exporter)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        jumped = await exporter.scrape()
        assert_truthful(jumped)
        assert is_up(jumped)
        assert 0 <= (jumped.value("llmster_instance_ttl_remaining_seconds", instance_id="short") or 0) <= 3600
        assert (jumped.value("llmster_snapshot_age_seconds") or 0) >= 0
        sim.daemon.unload("short")
        after = await exporter.scrape()
        assert_truthful(after)
    assert after.value("llmster_log_stream_disconnects_total") == 0
    assert after.value("llmster_restarts_total") == 0


async def believes(http: httpx.AsyncClient, url: str, jump_s: int) -> None:
    """Wait until a process tells the time that was made up for it."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            told = parsedate_to_datetime((await http.get(f"{url}/metrics")).headers["date"]).timestamp()
            if abs(told - time.time() - jump_s) < DAY_S / 2:
                return
            await asyncio.sleep(0.1)


@pytest.mark.external("libfaketime")
async def test_processes_whose_wall_clock_jumps_to_and_fro_count_and_record_as_ever(
    run_exporter: StartExporter, run_actions: StartActions, tmp_path: Path, external_tool: FindTool
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    variables = {
        "LD_PRELOAD": str(external_tool("libfaketime")),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    state = tmp_path / "state"
    token = await operator(state)
    async with Simulator(SimConfig(scenario="idle", speed=50.0)) as sim:
        exporter = await run_exporter(sim.url, **variables)
        service = await run_actions(sim.url, state, token, **variables)
        await healed(exporter)
        for round_, jump_s in enumerate((DAY_S, -DAY_S)):
            offset.write_text(f"{jump_s:+d}")
            for http, url in ((exporter.http, exporter.url), (service.http, service.url)):
                await believes(http, url, jump_s)
            for number in range(10):
                sim.faults.send_raw(prediction(10 * round_ + number))
            counted = await exporter.until(
                lambda scraped, wanted=10 * (round_ + 1): sums(scraped)[0] == wanted,  # type: ignore[misc]
                within_s=LIMIT_S,
            )
            assert_truthful(counted)
            loaded = await service.post("models/load", model=SMALL, instance_id=f"r{round_}", wait=20)
            assert loaded.status_code == 200, loaded.text
        last = await healed(exporter)
        assert last.value("llmster_log_stream_disconnects_total") == 0
        assert await service.program.terminate() == 0
        assert await exporter.program.terminate() == 0
    storage = await Storage.open(state)
    try:
        head = await Audit(storage).verify()
        entries = await Audit(storage).read(since=0)
    finally:
        await storage.close()
    assert head is not None
    intents = [entry for entry in entries if entry.kind == "intent"]
    assert [entry.subject for entry in intents] == ["r0", "r1"]
    assert intents[0].at_ms - intents[1].at_ms > DAY_S * 1000, "the clock did jump"
