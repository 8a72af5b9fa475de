"""Our own health: what failed between us and each daemon, and what this process costs."""

import platform
from importlib import metadata

from exporter.collectors.self_metrics import collect
from exporter.pipeline.snapshots import DaemonCounts
from exporter.shared import process
from tests.exporter.collectors.values import by, collected, one
from tests.exporter.readings import scrape, watched


def test_failures_and_odd_messages_are_counted_per_daemon() -> None:
    failed = DaemonCounts(failures={"unreachable": 2, "auth": 1}, warnings={"rpcEndpointUnknown": 1})
    first = watched(name="a", counts=failed)
    second = watched(name="b", counts=DaemonCounts(unreadable={"malformed": 4}))

    samples = collected(collect, scrape(first, second))

    failures = by(samples, "daemonpulse_connection_failures_total", "daemon", "reason")
    assert failures == {"a unreachable": 2, "a auth": 1}
    assert by(samples, "daemonpulse_protocol_warnings_total", "daemon", "kind") == {"a rpcEndpointUnknown": 1}
    assert by(samples, "daemonpulse_unreadable_messages_total", "daemon", "kind") == {"b malformed": 4}


def test_the_build_is_the_installed_one() -> None:
    labels, value = one(collected(collect, scrape()), "daemonpulse_build_info")

    assert value == 1
    assert labels["version"] == metadata.version("daemonpulse")
    assert labels["python"] == platform.python_version()


def test_this_process_is_measured() -> None:
    samples = collected(collect, scrape(own=process.read()))

    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert one(samples, name)[1] > 0


def test_collecting_reads_nothing_by_itself() -> None:
    assert not [name for name in collected(collect, scrape()) if name.startswith("process_")]
