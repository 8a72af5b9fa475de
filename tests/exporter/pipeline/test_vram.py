"""Daemons, their processes and the GPUs' processes brought together."""

from exporter.hardware.gpus import Device, GpuProcess
from exporter.hardware.host import HostProcess, HostReading, ProcessRole
from exporter.llmster.client import DaemonState, Health
from exporter.llmster.state import DaemonProcess, DaemonVersion, InstanceInfo, LoadedInstance, Snapshot
from exporter.pipeline.engine_pids import EnginePids
from exporter.pipeline.snapshots import DaemonReading
from exporter.pipeline.vram import share_out


def instance(name: str, *, path: str | None = None, device: str | None = None) -> LoadedInstance:
    info = InstanceInfo(
        model_key=f"model/{name}",
        type="llm",
        path=path,
        device_identifier=device,
        identifier=name,
        instance_reference=f"ref-{name}",
    )
    return LoadedInstance(info, None, None)


def reading(name: str, *instances: LoadedInstance) -> DaemonReading:
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
    return DaemonReading(name, Health(DaemonState.RUNNING, None), snapshot, 0.0, None)


def host(daemon_pid: int, *engines: int) -> HostReading:
    return HostReading(
        processes=(
            HostProcess(daemon_pid, ProcessRole.DAEMON, "llmster"),
            *(HostProcess(pid, ProcessRole.ENGINE, "llama-server") for pid in engines),
        ),
        parents=tuple((pid, daemon_pid) for pid in engines),
    )


def gpus(*processes: GpuProcess) -> tuple[Device, ...]:
    return (Device(0, processes=processes), Device(1))


def test_the_processes_of_two_daemons_are_not_mixed() -> None:
    vram = share_out(
        gpus(GpuProcess(11, 100), GpuProcess(21, 200), GpuProcess(99, 300)),
        [reading("a", instance("qwen")), reading("b", instance("gemma"))],
        {"a": host(10, 11), "b": host(20, 21)},
        {},
        names={99: "blender"},
    )
    first, second = vram.daemons
    assert [(model, share.memory_bytes) for model, share in first.instances] == [("model/qwen", 100)]
    assert [(model, share.memory_bytes) for model, share in second.instances] == [("model/gemma", 200)]
    assert [(share.pid, share.name, share.memory_bytes) for share in vram.foreign] == [(99, "blender", 300)]


def test_two_names_for_one_daemon_do_not_count_it_twice() -> None:
    both = {"a": host(10, 11), "b": host(10, 11)}
    daemons = [reading("a", instance("qwen")), reading("b", instance("qwen"))]
    vram = share_out(gpus(GpuProcess(11, 100)), daemons, both, {}, names={})
    assert [len(daemon.instances) for daemon in vram.daemons] == [1, 0]
    assert vram.foreign == ()


def test_an_instance_on_another_host_takes_no_part() -> None:
    vram = share_out(
        gpus(GpuProcess(11, 100)),
        [reading("a", instance("here"), instance("there", device="peer"))],
        {"a": host(10, 11)},
        {},
        names={},
    )
    assert [share.instance_id for _, share in vram.daemons[0].instances] == ["here"]


def test_the_log_streams_pid_ties_an_engine_to_its_instance() -> None:
    engines = EnginePids()
    engines._pids = {"ref-b": 11, "ref-a": 12}
    vram = share_out(
        gpus(GpuProcess(11, 100), GpuProcess(12, 200)),
        [reading("d", instance("a"), instance("b"))],
        {"d": host(10, 11, 12)},
        {"d": engines},
        names={},
    )
    assert {share.instance_id: share.memory_bytes for _, share in vram.daemons[0].instances} == {
        "a": 200,
        "b": 100,
    }


def test_a_daemon_whose_processes_are_hidden_has_no_shares_and_no_zeros() -> None:
    vram = share_out(
        gpus(GpuProcess(11, 100)), [reading("a", instance("qwen"))], {"a": HostReading()}, {}, names={}
    )
    assert vram.daemons == ()
    assert [share.pid for share in vram.foreign] == [11]


def test_only_gpus_that_list_their_processes_can_be_settled() -> None:
    vram = share_out(
        gpus(GpuProcess(11, 100)), [reading("a", instance("qwen"))], {"a": host(10, 11)}, {}, names={}
    )
    assert vram.daemons[0].unattributed == {0: 0}


def test_a_source_that_knows_a_processes_name_is_believed() -> None:
    vram = share_out(gpus(GpuProcess(99, 1, name="simulated game")), [], {}, {}, names={99: "python3"})
    assert [share.name for share in vram.foreign] == ["simulated game"]


def test_nothing_is_shared_out_of_gpus_that_could_not_be_read() -> None:
    (nothing,) = share_out((), [reading("a", instance("qwen"))], {"a": host(10, 11)}, {}, names={}).daemons
    assert (nothing.instances, nothing.unattributed) == ((), {})


def test_what_a_daemon_holds_is_not_called_nothing_where_its_processes_could_not_be_looked_into() -> None:
    hidden = (Device(0, vendor="amd", processes=(), hidden_pids=frozenset({11})), Device(1, processes=()))
    (found,) = share_out(hidden, [reading("a", instance("qwen"))], {"a": host(10, 11)}, {}, names={}).daemons
    assert found.unattributed == {1: 0}


def test_what_no_instance_can_be_named_for_is_summed_by_gpu_and_listed() -> None:
    devices = (
        Device(0, processes=(GpuProcess(11, 100), GpuProcess(12, 30))),
        Device(1, processes=(GpuProcess(12, 7),)),
    )
    vram = share_out(
        devices,
        [reading("hidden"), reading("d", instance("a"), instance("b"))],
        {"d": host(10, 11, 12)},
        {},
        names={},
    )
    (found,) = vram.daemons
    assert found.daemon == "d"
    assert found.unattributed == {0: 130, 1: 7}
    assert sorted((share.pid, share.gpu, share.memory_bytes) for share in found.unattributed_processes) == [
        (11, 0, 100),
        (12, 0, 30),
        (12, 1, 7),
    ]


def test_a_models_path_on_a_command_line_ties_an_engine_to_its_instance() -> None:
    engines = tuple(
        HostProcess(pid, ProcessRole.ENGINE, "llama-server", model_path=f"/models/{path}")
        for pid, path in ((11, "a/a.gguf"), (12, "b/b.gguf"))
    )
    seen = HostReading(
        processes=(HostProcess(10, ProcessRole.DAEMON, "llmster"), *engines), parents=((11, 10), (12, 10))
    )
    vram = share_out(
        gpus(GpuProcess(11, 100), GpuProcess(12, 200)),
        [reading("d", instance("b", path="b/b.gguf"), instance("a", path="a/a.gguf"))],
        {"d": seen},
        {},
        names={},
    )
    assert {share.instance_id: share.memory_bytes for _, share in vram.daemons[0].instances} == {
        "a": 100,
        "b": 200,
    }
