"""The cases of the alerts about GPUs."""

from tests.dashboards.alerts.case import BOX, GIB, GPU, HERE, MIB, ON_GPU, ONE, PLACE, Case

CASES: dict[str, Case] = {
    "GpuMemoryNearlyFull": Case(
        fires={f"gpu_memory_free_bytes{{{GPU}}}": "2x40", f"gpu_memory_total_bytes{{{GPU}}}": "100x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has 2% of its VRAM left: the next load or long context fails.",
        quiet={f"gpu_memory_free_bytes{{{GPU}}}": "6x40", f"gpu_memory_total_bytes{{{GPU}}}": "100x40"},
    ),
    "GpuForeignProcess": Case(
        fires={
            f'gpu_process_memory_bytes{{process="llama-server",instance_id="qwen",{GPU}}}': f"{8 * GIB}x40",
            f'gpu_process_memory_bytes{{process="game",instance_id="",{GPU}}}': f"{2 * GIB}x40",
            f'llmster_instance_vram_bytes{{gpu="0",{ONE}}}': f"{8 * GIB}x40",
            f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': "0x40",
        },
        labels=ON_GPU,
        summary="GPU 0 of box:9810: foreign processes hold 2GiB of VRAM beside loaded models.",
        quiet={
            # As much memory, but the daemon's own.
            f'gpu_process_memory_bytes{{process="llama-server",instance_id="qwen",{GPU}}}': f"{8 * GIB}x40",
            f'gpu_process_memory_bytes{{process="llmster",instance_id="",{GPU}}}': f"{2 * GIB}x40",
            f'llmster_instance_vram_bytes{{gpu="0",{ONE}}}': f"{8 * GIB}x40",
            f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{2 * GIB}x40",
        },
    ),
    "GpuMemoryLeak": Case(
        fires={f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{GIB}+{8 * MIB}x200"},
        labels={"daemon": "box", "gpu": "0", **PLACE},
        summary="Daemon box holds 480MiB more on GPU 0 than an hour ago, and no loaded model explains it.",
        quiet={f'llmster_vram_unattributed_bytes{{gpu="0",{BOX}}}': f"{GIB}x79 {3 * GIB}x100"},
        at="130m",
    ),
    "GpuHot": Case(
        fires={
            f'gpu_temperature_celsius{{sensor="gpu",{GPU}}}': "90x40",
            f'gpu_temperature_limit_celsius{{limit="slowdown",{GPU}}}': "93x40",
        },
        labels=ON_GPU,
        summary="GPU 0 of box:9810 is at 90 °C, within 5 °C of its slowdown limit.",
        quiet={
            f'gpu_temperature_celsius{{sensor="gpu",{GPU}}}': "80x40",
            f'gpu_temperature_celsius{{sensor="memory",{GPU}}}': "95x40",
            f'gpu_temperature_limit_celsius{{limit="slowdown",{GPU}}}': "93x40",
        },
    ),
    "GpuThrottled": Case(
        fires={f'gpu_throttle_active{{reason="hw_thermal_slowdown",{GPU}}}': "1x40"},
        labels={**ON_GPU, "reason": "hw_thermal_slowdown"},
        summary="GPU 0 of box:9810 is throttled: hw_thermal_slowdown.",
        quiet={
            f'gpu_throttle_active{{reason="gpu_idle",{GPU}}}': "1x40",
            f'gpu_throttle_active{{reason="sw_power_cap",{GPU}}}': "1x40",
        },
    ),
    "GpuXidError": Case(
        fires={f'gpu_xid_errors_total{{xid="79",{GPU}}}': "_x25 1x15"},
        labels={"gpu": "0", "xid": "79", **PLACE},
        summary="The driver reported XID 79 for GPU 0 of box:9810.",
        quiet={f'gpu_xid_errors_total{{xid="79",{GPU}}}': "1x40"},
    ),
    "GpuEccUncorrected": Case(
        fires={f'gpu_ecc_errors_total{{kind="uncorrected",location="dram",{GPU}}}': "4x20 5x20"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 had uncorrected ECC errors: answers may be wrong and processes may die.",
        quiet={
            f'gpu_ecc_errors_total{{kind="uncorrected",location="dram",{GPU}}}': "4x40",
            f'gpu_ecc_errors_total{{kind="corrected",location="dram",{GPU}}}': "0+1x40",
        },
    ),
    "GpuToBeReplaced": Case(
        fires={f"gpu_remapped_rows_failed{{{GPU}}}": "1x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 failed to remap memory rows: replace the GPU.",
        quiet={
            f"gpu_remapped_rows_failed{{{GPU}}}": "0x40",
            f"gpu_remapped_rows_pending{{{GPU}}}": "1x40",
        },
    ),
    "GpuLost": Case(
        fires={f"gpu_device_lost{{{GPU}}}": "1x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has fallen off the bus.",
        quiet={f"gpu_device_lost{{{GPU}}}": "0x40"},
    ),
    "GpuDriverSilent": Case(
        fires={
            f'gpu_driver_up{{{HERE},vendor="nvidia"}}': "0x40",
            f'gpu_driver_up{{{HERE},vendor="amd"}}': "1x40",
        },
        labels={"instance": "box:9810", "vendor": "nvidia"},
        summary="The nvidia GPU driver of box:9810 does not answer.",
        quiet={f'gpu_driver_up{{{HERE},vendor="nvidia"}}': "0x24 1 0x10"},
        at="28m",
    ),
    "GpuPcieDowngraded": Case(
        fires={f"gpu_pcie_link_width{{{GPU}}}": "8x40", f"gpu_pcie_link_width_max{{{GPU}}}": "16x40"},
        labels=ON_GPU,
        summary="GPU 0 of box:9810 has a degraded PCIe link: "
        "fewer lanes, or a lower PCIe generation under load.",
        quiet={
            # A lower generation at rest is power saving.
            f"gpu_pcie_link_generation{{{GPU}}}": "1x40",
            f"gpu_pcie_link_generation_max{{{GPU}}}": "4x40",
            f"gpu_utilization_ratio{{{GPU}}}": "0.1x40",
        },
    ),
}
