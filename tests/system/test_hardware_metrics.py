"""What a scrape says about the host: its GPUs, who holds their memory, and what the daemon costs the host."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from exporter.catalogue import hardware as m
from exporter.hardware.errors import DriverUnavailable, DriverWedged
from exporter.hardware.gpus import Device, GpuReading, GpuSource, Memory
from llmster_sim.server import SimConfig, Simulator
from tests.external import FindTool
from tests.hosts import DAEMON_PID, GIB, GPUS, Gpus, Host, family
from tests.system.conftest import StartExporter, daemon
from tests.system.test_state_metrics import UPDATE

GOLDEN = Path(__file__).parent.parent / "golden" / "hardware.txt"
QWEN, GPT = "qwen/qwen3-8b", "openai/gpt-oss-20b"
HOST = family(
    "lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf",
    "lmstudio-community/gpt-oss-20b-GGUF/gpt-oss-20b-MXFP4.gguf",
)
NAMES = {9000: "Xorg"}


def host(**gpus: object) -> dict[str, object]:
    return {"gpus": Gpus(**{"reading": GPUS, **gpus}), "host": Host(HOST, NAMES)}  # type: ignore[arg-type]


async def test_every_catalogued_hardware_metric_is_served(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), **host(xids={("GPU-0000", 79): 2}))
        scraped = await exporter.scrape()
    assert {row.name for row in m.ROWS} - scraped.names() == set()


async def test_hardware_scrape_is_the_golden_one(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), **host(xids={("GPU-0000", 79): 2}))
        text = (await exporter.get()).text
    names = "|".join(row.name for row in m.ROWS)
    own = re.compile(rf"(# (HELP|TYPE) )?({names})[ {{]")
    text = "".join(line for line in text.splitlines(keepends=True) if own.match(line))
    if os.environ.get(UPDATE) == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), f"run with {UPDATE}=1 if this change is meant"


async def test_promtool_has_nothing_to_say_about_the_hardware(
    start_exporter: StartExporter, external_tool: FindTool
) -> None:
    promtool = external_tool("promtool")
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), **host(xids={("GPU-0000", 79): 2}))
        text = (await exporter.get()).text
    checked = subprocess.run(  # noqa: ASYNC221 - nothing else has to run meanwhile
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_a_model_split_over_gpus_shows_on_each(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), **host())
        scraped = await exporter.scrape()
    shown = {
        (labels["instance_id"], labels["gpu"]): value
        for name, labels, value in scraped.samples
        if name == "llmster_instance_vram_bytes"
    }
    assert shown == {(QWEN, "0"): 8 * GIB, (QWEN, "1"): 2 * GIB, (GPT, "1"): 5 * GIB}
    assert scraped.value("llmster_vram_unattributed_bytes", daemon="box", gpu="0") == 200_000_000
    assert scraped.value("llmster_vram_unattributed_bytes", daemon="box", gpu="1") == 0
    assert scraped.value("gpu_process_memory_bytes", process="Xorg", pid="9000", instance_id="") == 3 * GIB


async def test_the_daemons_own_pid_is_what_the_host_is_asked_for(start_exporter: StartExporter) -> None:
    host = Host(HOST)
    async with Simulator(SimConfig(scenario="idle", pid=DAEMON_PID)) as sim:
        exporter = await start_exporter(daemon("box", sim.url), host=host)
        await exporter.scrape()
    assert host.asked == [DAEMON_PID]


@pytest.mark.parametrize("problem", [DriverWedged("stuck"), DriverUnavailable("unloaded")])
async def test_a_dead_driver_costs_the_gpus_and_nothing_else(
    start_exporter: StartExporter, problem: Exception
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(
            daemon("box", sim.url), **host(reading=None, problem=problem, xids={("GPU-0000", 79): 1})
        )
        scraped = await exporter.scrape()
    assert scraped.value("gpu_driver_up") == 0
    assert scraped.value("daemonpulse_collector_success", collector="gpu") == 0
    assert scraped.value("daemonpulse_collector_success", collector="host") == 1
    assert scraped.value("llmster_up") == 1
    assert scraped.value("gpu_xid_errors_total", xid="79") == 1
    assert not {name for name in scraped.names() if name.startswith("gpu_memory")}


async def test_a_vendor_that_fails_costs_its_own_gpus_only(start_exporter: StartExporter) -> None:
    amd = Device(0, vendor="amd", name="AMD Radeon RX 7900 XTX", memory=Memory(24 * GIB, GIB, 23 * GIB))
    sources: dict[str, GpuSource] = {
        "nvidia": Gpus(problem=DriverUnavailable("unloaded")),
        "amd": Gpus(GpuReading("6.14.0", None, (amd,))),
    }
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), gpus=sources, host=Host(HOST))
        scraped = await exporter.scrape()
    assert scraped.value("gpu_driver_up", vendor="nvidia") == 0
    assert scraped.value("gpu_driver_up", vendor="amd") == 1
    assert scraped.value("gpu_driver_info", vendor="amd", driver="6.14.0", source="sysfs") == 1
    assert scraped.value("gpu_device_info", vendor="amd", gpu="0", source="sysfs") == 1
    assert scraped.value("gpu_memory_used_bytes", gpu="0") == GIB
    assert scraped.value("daemonpulse_collector_success", collector="gpu") == 1


async def test_a_host_without_a_gpu_is_no_failure(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), gpus=Gpus(), host=Host(HOST))
        scraped = await exporter.scrape()
    assert scraped.value("daemonpulse_collector_success", collector="gpu") == 1
    assert not {name for name in scraped.names() if name.startswith("gpu_")}
    assert scraped.value("llmster_host_memory_total_bytes", daemon="box") == 128 * GIB


async def test_simulated_gpus_say_so(start_exporter: StartExporter) -> None:
    reading = GpuReading(None, None, GPUS.devices, simulated=True)
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), gpus=Gpus(reading), host=Host(HOST))
        scraped = await exporter.scrape()
    assert scraped.value("gpu_driver_info", source="simulated") == 1
    assert scraped.value("gpu_device_info", source="simulated", gpu="0") == 1


async def test_a_probe_of_one_daemon_leaves_the_host_alone(start_exporter: StartExporter) -> None:
    gpus = Gpus(GPUS)
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), gpus=gpus, host=Host(HOST))
        scraped = await exporter.scrape("/probe?daemon=box")
    assert gpus.reads == 0
    assert not {name for name in scraped.names() if name.startswith("gpu_")}


async def test_gpus_are_read_although_the_daemon_is_down(start_exporter: StartExporter) -> None:
    exporter = await start_exporter(daemon("box", "http://127.0.0.1:9"), **host())
    scraped = await exporter.scrape()
    assert scraped.value("llmster_up") == 0
    assert scraped.value("gpu_memory_used_bytes", gpu="0") == 20 * GIB
    assert scraped.value("gpu_process_memory_bytes", gpu="0", process="Xorg") == 3 * GIB


async def test_a_daemon_whose_home_is_here_is_of_this_host_whatever_its_address(
    start_exporter: StartExporter, tmp_path: Path
) -> None:
    host = Host(HOST)
    exporter = await start_exporter(daemon("box", "http://daemon.invalid:1234", home=tmp_path), host=host)
    scraped = await exporter.scrape()
    assert scraped.value("llmster_host_memory_total_bytes", daemon="box") == 128 * GIB


async def test_the_host_of_a_daemon_elsewhere_is_not_ours(start_exporter: StartExporter) -> None:
    host = Host(HOST)
    exporter = await start_exporter(daemon("far", "http://daemon.invalid:1234"), host=host)
    scraped = await exporter.scrape()
    assert not host.asked
    assert "llmster_host_memory_total_bytes" not in scraped.names()
