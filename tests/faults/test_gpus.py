"""The driver loses a GPU, leaves a question unanswered, is reloaded: the real exporter says so and goes on."""

from pathlib import Path

import pytest

from llmster_sim.server import SimConfig, Simulator
from tests import fake_nvml
from tests.fake_nvml import FakeHost
from tests.faults.conftest import StartExporter
from tests.faults.promises import LIMIT_S, assert_truthful, healed
from tests.system.conftest import Scraped
from tests.system.test_bad_days import is_up


def gpus(scraped: Scraped) -> set[str]:
    """Numbers of the GPUs whose memory is known."""
    return {labels["gpu"] for name, labels, _ in scraped.samples if name == "gpu_memory_total_bytes"}


@pytest.mark.external("gcc")
async def test_a_lost_a_silent_and_a_reloaded_driver_cost_the_gpus_and_only_while_it_lasts(
    run_exporter: StartExporter, nvml_library: Path, tmp_path: Path
) -> None:
    host = FakeHost(nvml_library, tmp_path)
    host.describe("count 2", "driver 580.1", "epoch 1")
    variables = {
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        fake_nvml.SCENARIO_VARIABLE: str(host.scenario),
    }
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await run_exporter(sim.url, **variables)
        assert gpus(await healed(exporter)) == {"0", "1"}

        host.add("gpu 1 everything error:15")
        lost = await exporter.until(
            lambda scraped: scraped.value("gpu_device_lost", gpu="1") == 1, within_s=LIMIT_S
        )
        assert_truthful(lost)
        assert gpus(lost) == {"0"}
        assert lost.value("gpu_driver_up") == 1

        host.describe("count 2", "driver 580.1", "epoch 1", "wedge nvmlDeviceGetPowerUsage")
        silent = await exporter.scrape(timeout_s=2)
        assert_truthful(silent)
        assert is_up(silent), "the daemon is read all the same"
        assert silent.value("gpu_driver_up") == 0
        assert gpus(silent) == set()

        host.describe("count 2", "driver 610.2", "epoch 2")
        back = await exporter.until(lambda scraped: gpus(scraped) == {"0", "1"}, within_s=LIMIT_S)
        assert_truthful(back)
        assert back.value("gpu_driver_info", driver="610.2") == 1

        host.add("wedge nvmlDeviceGetPowerUsage")
        assert (await exporter.scrape(timeout_s=2)).value("gpu_driver_up") == 0
        assert await exporter.program.terminate() == 0, "a silent driver keeps nobody from ending"
