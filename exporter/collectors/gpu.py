"""Collects the GPUs of every vendor: each value that they report."""

from __future__ import annotations

from exporter.catalogue import hardware as m
from exporter.collectors.base import Samples, Scrape
from exporter.hardware.gpus import Device


def collect_driver(scrape: Scrape, out: Samples) -> None:
    """Whether each vendor's driver answers, which one it is, and the XIDs reported: known even while GPUs are not."""
    host = scrape.host
    if host is None:
        return
    for (gpu, xid), count in (host.xids or {}).items():
        out.add(m.XID_ERRORS, count, gpu=gpu, xid=str(xid))
    out.add_by(m.LAST_XID, "gpu", host.last_xids)
    for vendor in host.gpus.problems:
        out.add(m.UP, 0, vendor=vendor)
    for vendor, reading in host.gpus.readings.items():
        out.add(m.UP, 1, vendor=vendor)
        out.add(
            m.DRIVER_INFO,
            1,
            vendor=vendor,
            driver=reading.driver_version or "",
            cuda=reading.cuda_version or "",
            source=host.gpus.source_of(vendor),
        )


def collect(scrape: Scrape, out: Samples) -> None:
    """Every GPU that answered. Raises HardwareError when none did although there are drivers."""
    if scrape.host is None:
        return
    gpus = scrape.host.gpus
    if gpus.problems and not gpus.readings:
        raise next(iter(gpus.problems.values()))
    for device in gpus.devices:
        _add_device(out, device, gpus.source_of(device.vendor))


def _add_device(out: Samples, device: Device, source: str) -> None:
    gpu = str(device.index)
    out.add(
        m.DEVICE_INFO,
        1,
        gpu=gpu,
        uuid=device.uuid or "",
        name=device.name or "",
        pci_bus_id=device.pci_bus_id or "",
        vendor=device.vendor,
        memory="" if device.lost else "unified" if device.unified else "dedicated",
        source=source,
    )
    out.add(m.LOST, device.lost, gpu=gpu)
    if device.memory is not None:
        out.add(m.MEMORY_TOTAL, device.memory.total_bytes, gpu=gpu)
        out.add(m.MEMORY_USED, device.memory.used_bytes, gpu=gpu)
        out.add(m.MEMORY_FREE, device.memory.free_bytes, gpu=gpu)
        out.add(m.MEMORY_RESERVED, device.memory.reserved_bytes, gpu=gpu)
    out.add(m.UTILIZATION, device.utilization_ratio, gpu=gpu)
    out.add(m.MEMORY_BUSY, device.memory_busy_ratio, gpu=gpu)
    out.add_by(m.ACTIVITY, "part", device.activity_ratios, gpu=gpu)
    out.add(m.ENCODER, device.encoder_ratio, gpu=gpu)
    out.add(m.DECODER, device.decoder_ratio, gpu=gpu)
    out.add_by(m.TEMPERATURE, "sensor", device.temperatures_celsius, gpu=gpu)
    out.add_by(m.TEMPERATURE_LIMIT, "limit", device.temperature_limits_celsius, gpu=gpu)
    out.add(m.POWER, device.power_watts, gpu=gpu)
    out.add(m.POWER_LIMIT, device.power_limit_watts, gpu=gpu)
    out.add_by(m.CLOCK, "clock", device.clocks_hertz, gpu=gpu)
    out.add_by(m.CLOCK_MAX, "clock", device.clocks_max_hertz, gpu=gpu)
    out.add_by(m.THROTTLE, "reason", device.throttle_reasons or {}, gpu=gpu)
    out.add_by(m.FAN, "fan", device.fan_ratios, gpu=gpu)
    _add_links(out, device, gpu)
    _add_errors(out, device, gpu)
    _add_mig(out, device, gpu)


def _add_links(out: Samples, device: Device, gpu: str) -> None:
    pcie = device.pcie
    out.add(m.PCIE_GENERATION, pcie.generation, gpu=gpu)
    out.add(m.PCIE_GENERATION_MAX, pcie.generation_max, gpu=gpu)
    out.add(m.PCIE_WIDTH, pcie.width, gpu=gpu)
    out.add(m.PCIE_WIDTH_MAX, pcie.width_max, gpu=gpu)
    out.add(m.PCIE_THROUGHPUT, pcie.transmit_bytes_per_second, gpu=gpu, direction="transmit")
    out.add(m.PCIE_THROUGHPUT, pcie.receive_bytes_per_second, gpu=gpu, direction="receive")
    if device.nvlink is not None:
        out.add_by(m.NVLINK_ACTIVE, "link", device.nvlink.active, gpu=gpu)
        out.add_by(m.NVLINK_ERRORS, "kind", device.nvlink.errors, gpu=gpu)
        out.add(m.NVLINK_BYTES, device.nvlink.transmitted_bytes, gpu=gpu, direction="transmit")
        out.add(m.NVLINK_BYTES, device.nvlink.received_bytes, gpu=gpu, direction="receive")


def _add_errors(out: Samples, device: Device, gpu: str) -> None:
    for (kind, location), count in device.ecc_errors.items():
        out.add(m.ECC_ERRORS, count, gpu=gpu, kind=kind, location=location)
    rows = device.remapped_rows
    if rows is not None:
        out.add(m.REMAPPED_ROWS, rows.correctable, gpu=gpu, kind="correctable")
        out.add(m.REMAPPED_ROWS, rows.uncorrectable, gpu=gpu, kind="uncorrectable")
        out.add(m.REMAPPED_ROWS_PENDING, rows.pending, gpu=gpu)
        out.add(m.REMAPPED_ROWS_FAILED, rows.failed, gpu=gpu)


def _add_mig(out: Samples, device: Device, gpu: str) -> None:
    out.add(m.MIG_ENABLED, device.mig_enabled, gpu=gpu)
    for instance in device.mig_instances:
        mig = str(instance.index)
        out.add(
            m.MIG_INFO,
            1,
            gpu=gpu,
            mig=mig,
            uuid=instance.uuid or "",
            name=instance.name or "",
            gpu_instance_id="" if instance.gpu_instance_id is None else str(instance.gpu_instance_id),
            compute_instance_id=""
            if instance.compute_instance_id is None
            else str(instance.compute_instance_id),
        )
        if instance.memory is not None:
            out.add(m.MIG_MEMORY_TOTAL, instance.memory.total_bytes, gpu=gpu, mig=mig)
            out.add(m.MIG_MEMORY_USED, instance.memory.used_bytes, gpu=gpu, mig=mig)
            out.add(m.MIG_MEMORY_FREE, instance.memory.free_bytes, gpu=gpu, mig=mig)
