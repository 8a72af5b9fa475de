"""GPUs of every kind that the tests need, as trees of files."""

from collections.abc import Mapping
from pathlib import Path

from tests.fake_drm.kernel import metrics_table
from tests.fake_drm.tree import AMD, GIB, INTEL, MIB, NVIDIA, FakeHost, write

RX_7900 = "0000:03:00.0"
MI300X = "0000:05:00.0"
STRIX_HALO = "0000:c5:00.0"
ARC = "0000:03:00.0"
ARC_I915 = "0000:04:00.0"
INTEL_IGPU = "0000:00:02.0"


def add_rx_7900(host: FakeHost, *, number: int = 1) -> Path:
    """A Radeon RX 7900 XTX in a slot of PCIe 4.0 x16, behind the switch on its board."""
    slot = {"current_link_speed": "16.0 GT/s PCIe", "max_link_speed": "16.0 GT/s PCIe"}
    slot |= {"current_link_width": "16", "max_link_width": "16"}
    host.add_pci("0000:00:01.1", {"vendor": "0x1022", "class": "0x060400", **slot})
    host.add_pci("0000:00:01.1/0000:01:00.0", {"vendor": AMD, "class": "0x060400", **slot})
    host.add_pci("0000:00:01.1/0000:01:00.0/0000:02:00.0", {"vendor": AMD, "class": "0x060400"})
    write(
        host.share,
        {"libdrm/amdgpu.ids": "1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT"},
    )
    return add_rx_7900_at(host, f"0000:00:01.1/0000:01:00.0/0000:02:00.0/{RX_7900}", number=number)


def add_rx_7900_at(host: FakeHost, path: str, *, number: int) -> Path:
    """Such a GPU at any place on the bus."""
    return host.add_gpu(
        number,
        path,
        "amdgpu",
        {
            "vendor": AMD,
            "device": "0x744c",
            "revision": "0xc8",
            "unique_id": "3f2a6c1b7d9e0a55",
            "mem_info_vram_total": str(24 * GIB),
            "mem_info_vram_used": str(10 * GIB),
            "mem_info_gtt_total": str(32 * GIB),
            "mem_info_gtt_used": str(64 * MIB),
            "gpu_busy_percent": "97",
            "mem_busy_percent": "61",
            "pp_dpm_sclk": "0: 500Mhz \n1: 2304Mhz *\n2: 2526Mhz ",
            "pp_dpm_mclk": "0: 96Mhz \n1: 1249Mhz *",
            "pp_dpm_vclk": "0: 400Mhz *\n1: 2150Mhz ",
            "current_link_speed": "2.5 GT/s PCIe",
            "current_link_width": "1",
            "gpu_metrics": metrics_table((1, 3), 120, {112: 1 << 0 | 1 << 36}),
        },
        {
            "temp1_label": "edge",
            "temp1_input": "61000",
            "temp1_crit": "100000",
            "temp1_emergency": "105000",
            "temp2_label": "junction",
            "temp2_input": "84000",
            "temp2_crit": "110000",
            "temp3_label": "mem",
            "temp3_input": "78000",
            "temp3_crit": "108000",
            "power1_average": "303000000",
            "power1_cap": "339000000",
            "fan1_input": "1650",
            "fan1_max": "3300",
            "pwm1": "128",
            "freq1_label": "sclk",
            "freq1_input": "2298000000",
            "freq2_label": "mclk",
            "freq2_input": "1249000000",
        },
    )


def add_mi300x(host: FakeHost, *, partitions: int = 8) -> Path:
    """An Instinct MI300X in CPX: one PCI function, one platform device and one ROCm node for each partition."""
    mode = "CPX" if partitions > 1 else "SPX"
    device = host.add_gpu(
        0,
        f"0000:00:03.1/{MI300X}",
        "amdgpu",
        {
            "vendor": AMD,
            "device": "0x74a1",
            "revision": "0x00",
            "unique_id": "9b2c0d4e11aa7700",
            "product_name": "AMD Instinct MI300X OAM",
            "mem_info_vram_total": str(192 * GIB),
            "mem_info_vram_used": str(96 * GIB),
            "gpu_busy_percent": "40",
            "mem_busy_percent": "20",
            "pp_dpm_sclk": "S: 132Mhz *\n0: 500Mhz \n1: 2100Mhz ",
            "current_compute_partition": mode,
            "current_link_speed": "32.0 GT/s PCIe",
            "current_link_width": "16",
            "max_link_speed": "32.0 GT/s PCIe",
            "max_link_width": "16",
            "gpu_metrics": metrics_table((1, 6), 512, {88: 100_000 * 2**16}),
            "ras/umc_err_count": "ue: 1\nce: 7\nde: 0",
            "ras/gfx_err_count": "ue: 0\nce: 0",
        },
        {
            "temp2_label": "junction",
            "temp2_input": "55000",
            "temp2_crit": "100000",
            "temp3_label": "mem",
            "temp3_input": "49000",
            "power1_label": "PPT",
            "power1_input": "410000000",
            "power1_cap": "750000000",
        },
    )
    for partition in range(1, partitions):
        platform = host.sysfs / "devices/platform" / f"amdgpu_xcp_{partition}"
        platform.mkdir(parents=True)
        host.add_node(partition, platform)
    nodes = host.sysfs / "class/kfd/kfd/topology/nodes"
    write(
        nodes / "0",
        {"gpu_id": "0", "properties": "cpu_cores_count 96\nsimd_count 0\nlocation_id 0\ndomain 0"},
    )
    for partition in range(partitions):
        location = 0x05 << 8 | partition << 28
        write(
            nodes / str(partition + 1),
            {
                "gpu_id": str(5000 + partition),
                "properties": f"cpu_cores_count 0\nsimd_count 152\nlocation_id {location}\ndomain 0",
                "mem_banks/0/properties": f"heap_type 1\nsize_in_bytes {192 * GIB // partitions}\nflags 0",
                "mem_banks/0/used_memory": str(96 * GIB // partitions),
            },
        )
    return device


def add_compute_process(host: FakeHost, pid: int, vram_by_gpu_id: Mapping[int, int]) -> None:
    """What amdkfd tells any user of a process that computes."""
    write(
        host.sysfs / f"class/kfd/kfd/proc/{pid}",
        {f"vram_{gpu_id}": str(size) for gpu_id, size in vram_by_gpu_id.items()},
    )


def add_strix_halo(host: FakeHost) -> Path:
    """A Ryzen AI Max: 512 MiB set aside, and up to 96 GiB of the host's memory to map."""
    return host.add_gpu(
        0,
        f"0000:00:08.1/{STRIX_HALO}",
        "amdgpu",
        {
            "vendor": AMD,
            "device": "0x1586",
            "revision": "0xc1",
            "mem_info_vram_total": str(512 * MIB),
            "mem_info_vram_used": str(256 * MIB),
            "mem_info_gtt_total": str(96 * GIB),
            "mem_info_gtt_used": str(40 * GIB),
            "gpu_busy_percent": "88",
            "current_link_speed": "16.0 GT/s PCIe",
            "current_link_width": "16",
            "pp_dpm_sclk": "0: 600Mhz \n1: 1100Mhz *\n2: 2900Mhz ",
        },
        {
            "temp1_label": "edge",
            "temp1_input": "71000",
            "in0_label": "vddgfx",
            "in1_label": "vddnb",
            "power1_average": "85012000",
            "freq1_label": "sclk",
            "freq1_input": "2870000000",
        },
    )


def add_arc(host: FakeHost, *, number: int = 1) -> Path:
    """An Arc A770 that xe drives, with a GT for media."""
    slot = {"current_link_speed": "16.0 GT/s PCIe", "max_link_speed": "16.0 GT/s PCIe"}
    slot |= {"current_link_width": "8", "max_link_width": "16"}
    host.add_pci("0000:00:01.0", {"vendor": INTEL, "class": "0x060400"})
    host.add_pci("0000:00:01.0/0000:01:00.0", {"vendor": INTEL, "class": "0x060400", **slot})
    host.add_pci("0000:00:01.0/0000:01:00.0/0000:02:01.0", {"vendor": INTEL, "class": "0x060400"})
    write(
        host.share,
        {
            "hwdata/pci.ids": "# list\n1002  AMD\n\t56a0  not this one\n"
            "8086  Intel\n\t56a0  DG2 [Arc A770]\n\t\t8086 1020  board"
        },
    )
    reasons = dict.fromkeys(
        ("pl1", "pl2", "pl4", "thermal", "prochot", "ratl", "vr_thermalert", "vr_tdc"), "0"
    )
    return host.add_gpu(
        number,
        f"0000:00:01.0/0000:01:00.0/0000:02:01.0/{ARC}",
        "xe",
        {
            "vendor": INTEL,
            "device": "0x56a0",
            "revision": "0x08",
            "current_link_speed": "2.5 GT/s PCIe",
            "current_link_width": "1",
            "tile0/gt0/freq0/act_freq": "2400",
            "tile0/gt0/freq0/rp0_freq": "2450",
            "tile0/gt0/gtidle/idle_residency_ms": "100000",
            **{f"tile0/gt0/freq0/throttle/reason_{name}": flag for name, flag in reasons.items()},
            "tile0/gt0/freq0/throttle/reason_pl1": "1",
            "tile0/gt1/freq0/act_freq": "0",
            "tile0/gt1/gtidle/idle_residency_ms": "200000",
        },
        {
            "temp2_label": "pkg",
            "temp2_input": "58000",
            "temp3_label": "vram",
            "temp3_input": "60000",
            "power1_max": "190000000",
            "energy1_input": "5000000000",
            "fan1_input": "1800",
        },
    )


def add_arc_i915(host: FakeHost, *, number: int = 1) -> Path:
    """An Arc A380 that i915 drives."""
    return host.add_gpu(
        number,
        f"0000:00:06.0/{ARC_I915}",
        "i915",
        {"vendor": INTEL, "device": "0x56a5", "revision": "0x05"},
        {"power1_max": "0", "energy1_input": "1000000", "in0_input": "700"},
        node_files={
            "gt/gt0/rps_act_freq_mhz": "1550",
            "gt/gt0/rps_RP0_freq_mhz": "2450",
            "gt/gt0/rc6_residency_ms": "5000",
            "gt/gt0/throttle_reason_pl1": "0",
            "gt/gt0/throttle_reason_thermal": "1",
        },
    )


def add_intel_igpu(host: FakeHost, *, number: int = 0) -> Path:
    """The integrated GPU of an Intel processor, driven by xe."""
    return host.add_gpu(
        number,
        INTEL_IGPU,
        "xe",
        {"vendor": INTEL, "device": "0x7d55", "revision": "0x08", "tile0/gt0/freq0/act_freq": "800"},
        {},
    )


def add_nvidia(host: FakeHost, *, number: int = 0) -> Path:
    """An NVIDIA GPU whose open module has registered a DRM node."""
    return host.add_gpu(
        number,
        "0000:00:02.1/0000:81:00.0",
        "nvidia",
        {"vendor": NVIDIA, "device": "0x2684", "revision": "0xa1"},
        {},
    )
