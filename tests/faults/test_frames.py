"""Frames of 5 and 50 MB and bursts of thousands, against the real exporter: counted, and its memory stays bounded."""

import random

import pytest

from exporter.llmster.wire import transport
from llmster_sim.server import SimConfig, Simulator
from tests.faults.conftest import StartExporter, prediction
from tests.faults.promises import LIMIT_S, assert_exact, assert_truthful, healed, sums
from tests.faults.relay import Relay
from tests.system import conftest as system
from tests.system.test_bad_days import is_up

MB = 1_000_000


@pytest.mark.parametrize(("size_mb", "times", "most_mb"), [(5, 12, 100), (50, 2, 400)])
async def test_huge_outputs_are_counted_and_their_memory_does_not_add_up(
    run_exporter: StartExporter, size_mb: int, times: int, most_mb: int
) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await run_exporter(sim.url)
        await healed(exporter)
        memory = [exporter.program.memory("VmRSS")]
        half = "x" * (size_mb * MB // 2)
        for number in range(times):
            sim.faults.send_raw(prediction(number, output=f"<think>{half}</think>{half}"))
            await exporter.until(
                lambda scraped, wanted=number + 1: sums(scraped)[0] == wanted,  # type: ignore[misc]
                within_s=LIMIT_S,
            )
            memory.append(exporter.program.memory("VmRSS"))
        peak = exporter.program.memory("VmHWM") - memory[0]
        print(
            f"{times} x {size_mb} MB: peak +{peak / MB:.0f} MB, then +{(memory[-1] - memory[0]) / MB:.0f} MB"
        )
        assert peak < most_mb * MB
        kept_all = (times - 1) * size_mb * MB
        most = max(kept_all / 2, 2 * size_mb * MB)
        assert memory[-1] - memory[1] < most, "what one output took is used again for the next"
        back = await healed(exporter)
    assert sums(back) == (times, 7 * times, 5 * times)
    assert back.value("llmster_log_stream_disconnects_total") == 0


async def test_a_huge_answer_is_read_like_any_other(run_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await run_exporter(sim.url)
        await healed(exporter)
        sim.faults.big_frame("llm.listLoaded", size_bytes=25 * MB, times=1)  # in each of two entries
        big = await exporter.scrape()
        assert_truthful(big)
        back = await healed(exporter)
    assert back.value("llmster_instance_info", instance_id="qwen/qwen3-8b") == 1
    assert back.value("llmster_model_unloads_total", model="qwen/qwen3-8b", cause="other") == 0


async def test_a_frame_beyond_the_limit_costs_its_socket_which_is_opened_anew(
    start_exporter: system.StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert transport.MAX_FRAME_BYTES >= 200 * MB
    monkeypatch.setattr(transport, "MAX_FRAME_BYTES", MB)
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(system.daemon("box", sim.url))
        await healed(exporter)
        sim.faults.send_raw(prediction(0))
        sim.faults.send_raw(prediction(1, output="x" * 2 * MB))
        await exporter.until(
            lambda scraped: scraped.value("llmster_log_stream_disconnects_total") == 1, within_s=LIMIT_S
        )
        await healed(exporter)
        sim.faults.send_raw(prediction(2))
        last = await exporter.until(lambda scraped: sums(scraped)[0] == 2, within_s=LIMIT_S)
    assert_truthful(last)
    assert (last.value("llmster_log_stream_gap_seconds_total") or 0) > 0


async def test_a_burst_of_ten_thousand_from_a_daemon_that_dies_of_it_is_counted_to_the_last(
    run_exporter: StartExporter,
) -> None:
    rng = random.Random(7)
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim, Relay(sim.url) as relay:
        exporter = await run_exporter(relay.url)
        await healed(exporter)
        for number in range(10_000):
            sim.faults.send_raw(
                prediction(number, prompt_tokens=rng.randrange(9000), tokens=rng.randrange(900))
            )
        await exporter.until(lambda _: relay.delivered.predictions == 10_000, within_s=LIMIT_S)
        await sim.stop()
        down = await exporter.until(lambda scraped: not is_up(scraped), within_s=LIMIT_S)
        assert_truthful(down)
        last = await assert_exact(exporter, relay.delivered)
    assert sums(last)[0] == 10_000
