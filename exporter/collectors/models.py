"""Collects the models on disk: name, size, and device of the LM Link network."""

from __future__ import annotations

from collections import Counter

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples, Scrape
from exporter.llmster.state import DownloadedModel, Snapshot


def collect(scrape: Scrape, out: Samples) -> None:
    """One info and one size per model and device; a key listed twice on one device counts once."""
    for daemon in scrape.daemons:
        name, snapshot = daemon.name, daemon.reading.snapshot
        if snapshot is None or snapshot.models is None:
            continue
        models = _by_key_and_device(snapshot, snapshot.models)
        for (key, device), model in models.items():
            out.add(
                m.MODEL_INFO,
                1,
                daemon=name,
                model=key,
                type=model.type,
                format=model.format or "",
                architecture=model.architecture or "",
                quantization=(model.quantization.name if model.quantization else None) or "",
                params=model.params_string or "",
                vision=_flag(model.vision),
                tools=_flag(model.trained_for_tool_use),
                device=device,
            )
            out.add(m.MODEL_SIZE, model.size_bytes, daemon=name, model=key, device=device)
        out.add_by(m.MODELS, "type", Counter(model.type for model in models.values()), daemon=name)


def _by_key_and_device(
    snapshot: Snapshot, models: tuple[DownloadedModel, ...]
) -> dict[tuple[str, str], DownloadedModel]:
    found: dict[tuple[str, str], DownloadedModel] = {}
    for model in models:
        found.setdefault((model.model_key, snapshot.device_name(model.device_identifier)), model)
    return found


def _flag(value: bool | None) -> str:  # noqa: FBT001 - a field's value, not a switch
    return "" if value is None else str(value).lower()
