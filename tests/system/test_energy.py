"""Energy through the whole exporter: from simulated requests and GPUs to metrics and spans that add up."""

import asyncio
import time

import pytest

from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from exporter.pipeline import energy
from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import attributes, otlp_sink
from tests.system.conftest import Scraped, daemon, exporters

METHODS = {"0": "counter", "1": "integrated"}


def total(scraped: Scraped, name: str, **labels: str) -> float:
    return sum(
        value
        for sample, own, value in scraped.samples
        if sample == name and all(own.get(key) == wanted for key, wanted in labels.items())
    )


async def test_models_and_idle_add_up_to_what_each_gpu_used_and_requests_know_their_joules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(energy, "HOLD_S", 0.0)
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        config = SimConfig(scenario="burst", start_ms=round(time.time() * 1000))
        async with Simulator(config) as sim, exporters() as start_exporter:
            loop = asyncio.get_running_loop()
            exporter = await start_exporter(
                daemon("demo", sim.url),
                gpus=simulated_gpus(sim.daemon, loop),
                host=SimulatedHost(sim.daemon, loop),
            )
            before = await exporter.scrape()
            after = await exporter.until(
                lambda scraped: total(scraped, "llmster_request_energy_joules_count") >= 2, within_s=60
            )
            async with asyncio.timeout(30):
                while not received.spans:  # noqa: ASYNC110 - the receiver is a thread that tells nobody
                    await asyncio.sleep(0.05)
    for gpu, method in METHODS.items():
        used, idle, models = (
            total(after, name, gpu=gpu) - total(before, name, gpu=gpu)
            for name in (
                "gpu_energy_joules_total",
                "gpu_energy_idle_joules_total",
                "llmster_energy_joules_total",
            )
        )
        assert after.value("gpu_energy_joules_total", gpu=gpu, method=method)
        assert used > 0
        assert models + idle == pytest.approx(used, rel=0.01)
    assert total(after, "llmster_energy_joules_total") > 0
    spans = [attributes(span.attributes) for span in received.spans]
    known = [joules for one in spans if (joules := one.get("daemonpulse.energy.joules")) is not None]
    assert known
    assert all(isinstance(joules, float) and joules > 0 for joules in known)
