"""Collects the energy of the GPUs, of models, of clients, and per request."""

from __future__ import annotations

from exporter.catalogue import energy as m
from exporter.collectors.base import Samples, Scrape
from exporter.collectors.energy_metrics import Energy


def collect(scrape: Scrape, out: Samples) -> None:
    """Add nothing where GPUs report neither energy nor power."""
    energy, host = scrape.energy, scrape.host
    if energy is None or host is None:
        return
    for device in host.gpus.devices:
        total = energy.watch.total(device)
        if total is not None:
            out.add(m.GPU, total.joules, gpu=str(device.index), method=total.method.value)
    out.add_by(m.IDLE, "gpu", energy.watch.idle_joules())
    _add_models(energy, out)
    for metric, family in energy.metrics.collect():
        out.adopt(metric, family)


def _add_models(energy: Energy, out: Samples) -> None:
    for (gpu, (daemon, model)), joules in energy.watch.joules().items():
        out.add(m.MODEL, joules, daemon=daemon, model=model, gpu=str(gpu))
