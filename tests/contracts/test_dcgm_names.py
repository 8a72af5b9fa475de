"""The rules that publish our GPU metrics under DCGM's names: valid, catalogued, and right in unit and labels."""

import re
import subprocess
from pathlib import Path

import yaml

from exporter.catalogue import CATALOGUE

RULES = Path(__file__).parents[2] / "dashboards" / "generated" / "rules" / "dcgm-names.yaml"
OWN = re.compile(r"\b(?:gpu|llmster|daemonpulse)_[a-z_]+\b")

SERIES = {
    'gpu_device_info{gpu="0",uuid="GPU-1",name="NVIDIA H200",pci_bus_id="00000000:01:00.0",vendor="nvidia",JI}': 1,
    'gpu_memory_used_bytes{gpu="0",JI}': 3 * 2**30,
    'gpu_utilization_ratio{gpu="0",JI}': 0.25,
    'gpu_clock_hertz{gpu="0",clock="sm",JI}': 1.98e9,
    'gpu_clock_hertz{gpu="0",clock="memory",JI}': 2.6e9,
    'gpu_energy_joules_total{gpu="0",method="counter",JI}': 12.5,
    'gpu_last_xid{gpu="0",JI}': 79,
    'gpu_pcie_throughput_bytes_per_second{gpu="0",direction="transmit",JI}': 2e6,
    'gpu_activity_ratio{gpu="0",part="graphics",JI}': 0.75,
    'gpu_activity_ratio{gpu="0",part="tensor",JI}': 0.5,
    'gpu_nvlink_errors_total{gpu="0",kind="replay",JI}': 4,
    'gpu_ecc_errors_total{gpu="0",kind="corrected",location="dram",JI}': 2,
    'gpu_ecc_errors_total{gpu="0",kind="corrected",location="sram",JI}': 3,
}
EXPECTED = {
    "DCGM_FI_DEV_FB_USED": 3072,
    "DCGM_FI_DEV_GPU_UTIL": 25,
    "DCGM_FI_DEV_SM_CLOCK": 1980,
    "DCGM_FI_DEV_MEM_CLOCK": 2600,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 12500,
    "DCGM_FI_DEV_XID_ERRORS": 79,
    "DCGM_FI_DEV_PCIE_TX_THROUGHPUT": 2000,
    "DCGM_FI_PROF_PCIE_TX_BYTES": 2_000_000,
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.75,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.5,
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": 4,
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": 5,
}
LABELS = (
    'gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H200",Hostname="box",pci_bus_id="00000000:01:00.0",'
    'job="daemonpulse",instance="box:9810"'
)


def test_the_rules_name_only_catalogued_metrics() -> None:
    text = "\n".join(line for line in RULES.read_text(encoding="utf-8").splitlines() if "#" not in line)
    named = set(OWN.findall(text.replace("gpu:gpu_device_info:dcgm", "")))
    assert named
    assert named <= {row.name for row in CATALOGUE}


def test_the_rules_are_valid(promtool: Path) -> None:
    ran = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_rules_give_dcgms_units_and_labels(promtool: Path, tmp_path: Path) -> None:
    where = 'job="daemonpulse",instance="box:9810"'
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series.replace("JI", where), "values": f"{value}x3"}
                    for series, value in SERIES.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": name,
                        "eval_time": "2m",
                        "exp_samples": [{"labels": f"{name}{{{LABELS}}}", "value": value}],
                    }
                    for name, value in EXPECTED.items()
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
