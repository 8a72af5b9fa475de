"""Energy through the whole exporter: from simulated requests and GPUs to metrics and spans that add up."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from exporter.pipeline import energy
from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import attributes, otlp_sink
from tests.system.conftest import Scraped, daemon, exporters

METHODS = {"0": "counter", "1": "integrated"}
REQUESTS = 7
"""More than one instance runs at a time, so that some wait."""


def total(scraped: Scraped, name: str, **labels: str) -> float:
    return sum(
        value
        for sample, own, value in scraped.samples
        if sample == name and all(own.get(key) == wanted for key, wanted in labels.items())
    )


async def ask(url: str) -> None:
    """Have the simulated model answer several requests at once."""
    body = {
        "model": "qwen/qwen3-8b",
        "messages": [{"role": "user", "content": "Say something long."}],
        "max_tokens": 80,
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answers = await asyncio.gather(
            *(http.post(f"{url}/v1/chat/completions", json=body) for _ in range(REQUESTS))
        )
    assert [answer.status_code for answer in answers] == [200] * REQUESTS


def used(before: Scraped, after: Scraped, gpu: str) -> Any:
    """What a GPU used between two scrapes, within 1 %."""
    name = "gpu_energy_joules_total"
    return pytest.approx(total(after, name, gpu=gpu) - total(before, name, gpu=gpu), rel=0.01)


def parts(before: Scraped, after: Scraped, gpu: str) -> float:
    """What of it models and idling have."""
    names = ("gpu_energy_idle_joules_total", "llmster_energy_joules_total")
    return sum(total(after, name, gpu=gpu) - total(before, name, gpu=gpu) for name in names)


async def test_requests_and_idle_add_up_to_what_each_gpu_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "HOLD_S", 0.0)
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        config = SimConfig(scenario="idle", start_ms=round(time.time() * 1000))
        async with Simulator(config) as sim, exporters() as start_exporter:
            loop = asyncio.get_running_loop()
            exporter = await start_exporter(
                daemon("demo", sim.url),
                gpus=simulated_gpus(sim.daemon, loop),
                host=SimulatedHost(sim.daemon, loop),
            )
            before = await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)
            await ask(sim.url)
            after = await exporter.until(
                lambda scraped: (
                    total(scraped, "llmster_request_energy_joules_count") == REQUESTS
                    # What a GPU has just used is shared out at the reading after it.
                    and all(parts(before, scraped, gpu) == used(before, scraped, gpu) for gpu in METHODS)
                ),
                within_s=60,
            )
            async with asyncio.timeout(30):
                while len(received.spans) < REQUESTS:  # noqa: ASYNC110 - the receiver is a thread
                    await asyncio.sleep(0.05)
    for gpu, method in METHODS.items():
        assert after.value("gpu_energy_joules_total", gpu=gpu, method=method)
        assert total(after, "gpu_energy_joules_total", gpu=gpu) > total(
            before, "gpu_energy_joules_total", gpu=gpu
        )
        assert parts(before, after, gpu) == used(before, after, gpu)
    requests = total(after, "llmster_request_energy_joules_sum")
    assert requests > 0
    # Lines of an engine have no time of their own. On a busy host they come late, and a model counts as running for
    # longer than its requests.
    assert requests == pytest.approx(total(after, "llmster_energy_joules_total"), rel=0.15)
    spans = [attributes(span.attributes) for span in received.spans]
    joules = [
        float(str(one["daemonpulse.energy.joules"])) for one in spans if "daemonpulse.energy.joules" in one
    ]
    assert sum(joules) == pytest.approx(requests)
