"""Target: GPU memory shared out among daemons, instances and strangers.

Knows no GPU. A byte that some process holds must turn up exactly once, whatever the evidence says.
"""

from collections import Counter

from exporter.hardware.attribution import ProcessShare
from exporter.hardware.gpus import Device, GpuProcess
from exporter.hardware.host import HostProcess, HostReading, ProcessRole
from exporter.llmster.client import DaemonState, Health
from exporter.llmster.events import RuntimeLog
from exporter.llmster.state import DaemonProcess, DaemonVersion, InstanceInfo, LoadedInstance, Snapshot
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.snapshots import DaemonReading
from exporter.pipeline.vram import share_out
from tests.fuzz.choices import Choices

_PATHS = (None, "", "a/b/m.gguf", "a/b", "A/B/M.GGUF", "/models/a/b/m.gguf", "x")
_DAEMONS = ("one", "two", "three")


def _instances(choices: Choices, daemon: str) -> tuple[LoadedInstance, ...]:
    return tuple(
        LoadedInstance(
            InstanceInfo(
                model_key=f"key {number}",
                type="llm",
                path=choices.pick(_PATHS),
                device_identifier=choices.pick((None, None, "peer")),
                identifier=f"{daemon} {number}",
                instance_reference=f"{daemon} ref {number}",
            ),
            None,
            None,
        )
        for number in range(choices.upto(4))
    )


def _reading(choices: Choices, daemon: str, instances: tuple[LoadedInstance, ...]) -> DaemonReading:
    snapshot = Snapshot(
        taken_at_s=0,
        monotonic_s=0,
        duration_s=0,
        version=DaemonVersion("0.4.24"),
        process=DaemonProcess(1, is_daemon=True),
        instances=instances,
        models=None,
        link=None,
        auth_required=None,
    )
    return DaemonReading(
        daemon, Health(DaemonState.RUNNING, None), None if choices.rarely() else snapshot, 0.0, None
    )


def _host(choices: Choices) -> HostReading:
    """Make a daemon's processes, with trees that fork, loop and end nowhere."""
    daemon_pid = 1 + choices.upto(4)
    engines = {10 + choices.upto(12): choices.pick(_PATHS) for _ in range(choices.upto(5))}
    parents = {pid: choices.pick((daemon_pid, None, 10 + choices.upto(12))) for pid in engines}
    parents |= {
        10 + choices.upto(12): choices.pick((daemon_pid, 10 + choices.upto(12)))
        for _ in range(choices.upto(3))
    }
    return HostReading(
        processes=(
            HostProcess(daemon_pid, ProcessRole.DAEMON, "llmster"),
            *(
                HostProcess(pid, ProcessRole.ENGINE, "llama-server", model_path=path)
                for pid, path in engines.items()
            ),
        ),
        parents=tuple(parents.items()),
    )


def attribution(choices: Choices) -> None:  # noqa: C901 - one account, drawn up and balanced
    """Bytes of instances, unattributed and foreign are exactly the bytes held, per GPU, whatever else is known."""
    held: Counter[int] = Counter()
    devices = []
    for index in range(1 + choices.upto(2)):
        processes = tuple(
            GpuProcess(
                choices.pick((1 + choices.upto(4), 10 + choices.upto(12), 90 + choices.upto(9))),
                choices.pick((None, 0, 1, 1000, 2**40)),
            )
            for _ in range(choices.upto(8))
        )
        listed = None if choices.rarely() else processes
        held[index] = sum(process.memory_bytes or 0 for process in listed or ())
        devices.append(Device(index, processes=listed))
    names = _DAEMONS[: 1 + choices.upto(2)]
    loaded = {name: _instances(choices, name) for name in names}
    readings = [_reading(choices, name, loaded[name]) for name in names]
    hosts = {name: _host(choices) for name in names if not choices.rarely()}
    engines = {name: EnginePids() for name in names}
    for name in names:
        for one in loaded[name]:
            if choices.flag():
                pid = 10 + choices.upto(12)
                engines[name].take_log(
                    RuntimeLog(1, "info", "", "e", "v", "t", one.info.identifier, None, pid)
                )
    found = share_out(devices, readings, hosts, engines, names={})
    given: Counter[int] = Counter()
    seen: Counter[tuple[int, int]] = Counter()

    def take(share: ProcessShare) -> None:
        given[share.gpu] += share.memory_bytes
        if share.pid is not None:
            seen[share.gpu, share.pid] += 1

    for daemon in found.daemons:
        owners: dict[int | None, str] = {}
        identifiers = {
            one.info.identifier for one in loaded[daemon.daemon] if one.info.device_identifier is None
        }
        for _, instance in daemon.instances:
            assert instance.instance_id in identifiers, (
                f"{instance} is not an instance of {daemon.daemon} here"
            )
            for process in instance.processes:
                take(process)
                owner = owners.setdefault(process.pid, instance.instance_id)
                assert owner == instance.instance_id, f"process {process.pid} has two owners"
        for process in daemon.unattributed_processes:
            take(process)
        loose = Counter(
            {
                gpu: sum(one.memory_bytes for one in daemon.unattributed_processes if one.gpu == gpu)
                for gpu in daemon.unattributed
            }
        )
        assert loose == Counter(daemon.unattributed), (loose, daemon.unattributed)
    for process in found.foreign:
        take(process)
    assert {gpu: given[gpu] for gpu in held} == dict(held), f"held {dict(held)}, shared out {dict(given)}"
    twice = [key for key, times in seen.items() if times > 1]
    assert not twice, f"counted twice: {twice}"
