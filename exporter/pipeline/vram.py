"""Combines daemons, their processes and the GPUs' processes into VRAM by instance and GPU. Pure.

exporter.hardware.attribution decides, one daemon at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.hardware.attribution import (
    Instance,
    InstanceShare,
    ProcessShare,
    ProcessTree,
    attribute,
)
from exporter.hardware.evidence import names_of, tree_of, uses_of
from exporter.hardware.gpus import Device
from exporter.hardware.host import HostReading
from exporter.llmster.state import LoadedInstance
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.snapshots import DaemonReading


@dataclass(frozen=True, slots=True)
class DaemonVram:
    """What one daemon on this host holds."""

    daemon: str
    instances: tuple[tuple[str, InstanceShare], ...]
    """With the model key of each."""
    unattributed: Mapping[int, int]
    """Bytes by GPU that its processes hold and no single instance can be named for; 0 where all is settled."""
    unattributed_processes: tuple[ProcessShare, ...]


@dataclass(frozen=True, slots=True)
class Vram:
    """Who holds the memory of the GPUs."""

    daemons: tuple[DaemonVram, ...] = ()
    """Only daemons whose processes can be seen."""
    foreign: tuple[ProcessShare, ...] = ()


def share_out(
    gpus: Sequence[Device],
    daemons: Sequence[DaemonReading],
    hosts: Mapping[str, HostReading],
    engines: Mapping[str, EnginePids],
    *,
    names: Mapping[int, str],
) -> Vram:
    """Attribute the memory of the GPUs' processes; what belongs to no visible daemon is foreign."""
    listed = [device for device in gpus if device.processes is not None]
    uses = uses_of(listed)
    names = {**names, **names_of(listed)}
    found: list[DaemonVram] = []
    for daemon in daemons:
        host = hosts.get(daemon.name)
        tree = tree_of(host, names) if host is not None else None
        if tree is None or daemon.snapshot is None:
            continue
        pids = engines.get(daemon.name) or EnginePids()
        local = [
            one
            for one in daemon.snapshot.instances
            if daemon.snapshot.device_name(one.info.device_identifier) == "local"
        ]
        attribution = attribute(
            [use for use in uses if use.pid in tree], [_instance(one, pids) for one in local], tree
        )
        uses = [use for use in uses if use.pid not in tree]
        models = {one.info.identifier: one.info.model_key for one in local}
        loose = {
            device.index: 0
            for device in listed
            if not any(pid in tree for pid in device.hidden_pids)  # else what they hold is not known
        }
        for share in attribution.unattributed:
            loose[share.gpu] = loose.get(share.gpu, 0) + share.memory_bytes
        found.append(
            DaemonVram(
                daemon.name,
                tuple((models[share.instance_id], share) for share in attribution.instances),
                loose,
                attribution.unattributed,
            )
        )
    return Vram(tuple(found), attribute(uses, [], ProcessTree(names=names)).foreign)


def _instance(one: LoadedInstance, pids: EnginePids) -> Instance:
    return Instance(one.info.identifier, model_path=one.info.path, engine_pid=pids.pid_of(one.info))
