"""The demo's GPUs: VRAM per model that moves as models load and unload, and says that it is simulated."""

import asyncio
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from daemonpulse.demo.simulated_gpus import FOREIGN_NAME
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from llmster_sim.server import SimConfig, Simulator
from tests.system.conftest import RunningExporter, Scraped, StartExporter, daemon

QWEN = "qwen/qwen3-8b"


def shown(scraped: Scraped) -> dict[str, float]:
    """VRAM by instance, over all GPUs."""
    held: Counter[str] = Counter()
    for name, labels, value in scraped.samples:
        if name == "llmster_instance_vram_bytes":
            held[labels["instance_id"]] += round(value)
    return dict(held)


def loose(scraped: Scraped) -> list[float]:
    """What the daemon holds and no instance could be named for, by GPU."""
    return [value for name, _, value in scraped.samples if name == "llmster_vram_unattributed_bytes"]


async def start(start_exporter: StartExporter, sim: Simulator) -> RunningExporter:
    loop = asyncio.get_running_loop()
    return await start_exporter(
        daemon("demo", sim.url), gpus=simulated_gpus(sim.daemon, loop), host=SimulatedHost(sim.daemon, loop)
    )


async def test_vram_per_model_moves_as_models_load_and_unload(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start(start_exporter, sim)
        loaded = await exporter.scrape()
        held = {i.identifier: i.vram_bytes for i in sim.daemon.loaded if i.pid is not None and i.vram_bytes}
        sim.daemon.unload(QWEN)
        after = await exporter.scrape()
    assert shown(loaded) == held
    assert QWEN in held
    assert "llmster_instance_vram_bytes" not in after.names(instance_id=QWEN)


async def test_every_gpu_adds_up_and_shows_the_foreign_process(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start(start_exporter, sim)
        scraped = await exporter.scrape()
    for gpu in ("0", "1"):
        processes = [
            value
            for name, labels, value in scraped.samples
            if name == "gpu_process_memory_bytes" and labels["gpu"] == gpu
        ]
        assert sum(processes) == scraped.value("gpu_memory_used_bytes", gpu=gpu)
    assert scraped.value("gpu_process_memory_bytes", process=FOREIGN_NAME, gpu="1")


async def test_nothing_of_it_looks_real(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start(start_exporter, sim)
        text = (await exporter.get()).text
    named = [
        (sample.name, sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in {"gpu_driver_info", "gpu_device_info", "gpu_process_memory_bytes"}
    ]
    assert named
    for name, labels in named:
        assert labels.get("source") == "simulated" or "(simulated)" in labels["process"], name


async def test_two_copies_of_a_model_are_told_apart_once_their_engines_have_spoken(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        sim.daemon.load(QWEN, instant=True)
        twins = [one for one in sim.daemon.loaded if one.model.key == QWEN]
        exporter = await start(start_exporter, sim)
        before = await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)
        assert len(twins) == 2
        assert {one.identifier for one in twins}.isdisjoint(shown(before))
        assert sum(loose(before)) == sum(one.vram_bytes for one in twins)
        for one in twins:
            sim.daemon.engine_line(instance=one, text="srv  update_slots: all slots are idle")
        after = await exporter.until(lambda scraped: sum(loose(scraped)) == 0)
        assert {one.identifier: one.vram_bytes for one in twins}.items() <= shown(after).items()
