"""Payloads into values: the recorded ones exactly, odd ones at the price of the odd part only."""

import dataclasses
import json
from collections import Counter
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster.errors import ProtocolViolation
from exporter.llmster.listing import read_each
from exporter.llmster.load_config import PARALLEL, LoadConfig
from exporter.llmster.state import (
    PROCESSING_STATES,
    DaemonProcess,
    DaemonVersion,
    DownloadedModel,
    InstanceInfo,
    LinkPeer,
    LinkStatus,
    LoadedInstance,
    ProcessingState,
    Quantization,
    Snapshot,
)
from exporter.llmster.wire.connection import decode
from tests.exporter.strategies import JSON
from tests.recorded import frames, protocol_files


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def results(endpoint: str) -> list[tuple[str, Any]]:
    """Return every recorded result of an endpoint, with the recording it is from."""
    found = []
    for name in protocol_files():
        asked: set[tuple[int, int]] = set()
        for frame in frames(name):
            if frame.op != "text":
                continue
            try:
                body = frame.json
            except ValueError:
                continue
            if body.get("endpoint") == endpoint and "callId" in body:
                asked.add((frame.conn, body["callId"]))
            if body.get("type") == "rpcResult" and (frame.conn, body["callId"]) in asked:
                found.append((name, body.get("result")))
    assert found, endpoint
    return found


T = TypeVar("T", bound=msgspec.Struct)


def read_all(entries: msgspec.Raw, shape: type[T]) -> tuple[T, ...]:
    """Read a list in which nothing may be odd."""
    odd: Counter[str] = Counter()
    listing = read_each(entries, shape, "entry", odd)
    assert not odd
    return listing.read


def test_every_recorded_instance_is_read() -> None:
    for name, result in results("listLoaded"):
        read = read_all(raw(result), InstanceInfo)
        assert [info.identifier for info in read] == [entry["identifier"] for entry in result], name
        for info, entry in zip(read, result, strict=True):
            assert info.instance_reference == entry["instanceReference"]
            assert info.ttl_ms == entry["ttlMs"]
            assert info.last_used_time == entry["lastUsedTime"]
            assert info.context_length == entry["contextLength"]
            assert info.device_identifier == entry["deviceIdentifier"]


def test_every_recorded_model_is_read() -> None:
    for name, result in results("listDownloadedModels"):
        read = read_all(raw(result), DownloadedModel)
        assert len(read) == len(result), name
        for model, entry in zip(read, result, strict=True):
            assert model.model_key == entry["modelKey"]
            assert model.size_bytes == entry["sizeBytes"]
            assert model.params_string == entry.get("paramsString")
            assert model.trained_for_tool_use == entry.get("trainedForToolUse")
            assert (model.quantization.name if model.quantization else None) == entry.get(
                "quantization", {}
            ).get("name")


def test_every_recorded_processing_state_is_known() -> None:
    for _, result in results("getInstanceProcessingState"):
        state = decode(raw(result), ProcessingState, "getInstanceProcessingState")
        assert (state.status, state.queued) == (result["status"], result["queued"])
        assert state.status in PROCESSING_STATES


def test_every_recorded_version_process_and_link_is_read() -> None:
    for _, result in results("version"):
        assert decode(raw(result), DaemonVersion, "v") == DaemonVersion(result["version"], result["build"])
    for _, result in results("info"):
        assert decode(raw(result), DaemonProcess, "i") == DaemonProcess(result["pid"], result["isDaemon"])
    for _, result in results("lmLinkStatus"):
        link = decode(raw(result), LinkStatus, "l")
        assert [(peer.device_identifier, peer.device_name, peer.status) for peer in link.peers] == [
            (peer["deviceIdentifier"], peer["deviceName"], peer["status"]) for peer in result["peers"]
        ]


def test_one_odd_entry_costs_only_itself() -> None:
    odd: Counter[str] = Counter()
    good = {"modelKey": "m", "type": "llm"}
    entries = [good, 5, {"modelKey": 7, "type": "llm"}, None, {"type": "llm"}, {**good, "modelKey": "n"}]

    listing = read_each(raw(entries), DownloadedModel, "model", odd)

    assert [model.model_key for model in listing.read] == ["m", "n"]
    assert (listing.unreadable, listing.is_complete) == (4, False)
    assert odd == {"model": 4}


def test_an_odd_optional_field_costs_only_itself() -> None:
    odd: Counter[str] = Counter()
    entry = {
        "modelKey": "m",
        "type": "llm",
        "identifier": "m",
        "instanceReference": "r",
        "ttlMs": "an hour",
        "contextLength": 4096,
        "quantization": {"name": 4},
    }

    listing = read_each(raw([entry]), InstanceInfo, "instance", odd)

    [info] = listing.read
    assert (info.identifier, info.context_length) == ("m", 4096)
    assert (info.ttl_ms, info.quantization) == (None, Quantization(name=None))
    assert listing.is_complete
    assert odd == {"instance_field": 1}


@pytest.mark.parametrize("value", [None, {}, "models", 5])
def test_a_list_that_is_no_list_is_refused(value: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_each(raw(value), DownloadedModel, "model", Counter())


def test_a_void_result_is_no_list_either() -> None:
    with pytest.raises(msgspec.DecodeError):
        read_each(None, DownloadedModel, "model", Counter())


@given(st.lists(JSON, max_size=6))
def test_every_entry_of_an_arbitrary_list_is_read_or_counted(entries: list[object]) -> None:
    odd: Counter[str] = Counter()

    listing = read_each(raw(entries), InstanceInfo, "instance", odd)

    assert len(listing.read) + odd["instance"] == len(entries)
    assert listing.unreadable == odd["instance"]


@pytest.mark.parametrize(
    "entry", [b'{"modelKey":"\xff","type":"llm"}', b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_an_undecodable_entry_costs_only_itself(entry: bytes) -> None:
    odd: Counter[str] = Counter()
    body = b'[{"modelKey":"m","type":"llm"},' + entry + b"]"

    listing = read_each(msgspec.Raw(body), DownloadedModel, "model", odd)

    assert len(listing.read) + odd["model"] == 2
    assert listing.read[0].model_key == "m"


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_result_of_any_shape_is_a_value_or_a_violation_that_names_it(body: bytes) -> None:
    try:
        version = decode(msgspec.Raw(body), DaemonVersion, "system.version")
    except ProtocolViolation as error:
        assert "system.version" in str(error)  # noqa: PT017 - both ways out are right
    else:
        assert isinstance(version.version, str)


# Instances -----------------------------------------------------------------------------------------------------------


def instance(
    *, status: str | None = "generating", queued: int = 0, parallel: int | None = None, **info: Any
) -> LoadedInstance:
    return LoadedInstance(
        info=InstanceInfo(model_key="m", type="llm", identifier="m", instance_reference="r", **info),
        processing=None if status is None else ProcessingState(status, queued),
        config=LoadConfig(parallel=parallel),
    )


@pytest.mark.parametrize(
    ("config", "slots", "parallel"),
    [
        (LoadConfig(parallel=4, fields={PARALLEL: 4}), 8, 4),
        (LoadConfig(parallel=4), 8, 8),
        (LoadConfig(parallel=4), None, 4),
        (LoadConfig(), 2, 2),
        (None, 2, 2),
        (LoadConfig(), None, None),
        (None, None, None),
    ],
)
def test_sessions_are_those_configured_else_the_engines_slots_else_the_default(
    config: LoadConfig | None, slots: int | None, parallel: int | None
) -> None:
    loaded = dataclasses.replace(instance(queued=3), config=config, engine_slots=slots)
    assert loaded.parallel == parallel
    assert loaded.running == (None if parallel is None else min(3, parallel))


@pytest.mark.parametrize(
    ("loaded", "running", "waiting"),
    [
        (instance(queued=6, parallel=4), 4, 2),
        (instance(queued=3, parallel=4), 3, 0),
        (instance(queued=3, parallel=None), None, None),
        (instance(queued=1, parallel=None), 1, 0),
        (instance(queued=0, parallel=4), 0, 0),
        (instance(status="idle", queued=2), 0, 2),
        (instance(status="something new", queued=1), 1, 0),
        (instance(status=None), None, None),
    ],
)
def test_queued_requests_are_running_or_waiting_where_it_is_known_how_many_can_run(
    loaded: LoadedInstance, running: int | None, waiting: int | None
) -> None:
    assert (loaded.running, loaded.waiting) == (running, waiting)


@pytest.mark.parametrize(
    ("ttl_ms", "last_used", "now", "left"),
    [
        (None, 5.0, 10.0, None),
        (60.0, None, 10.0, 60.0),
        (60.0, 100.0, 110.0, 50.0),
        (60.0, 100.0, 170.0, 0.0),
        (60.0, 100.0, 40.0, 60.0),  # the daemon's clock is ahead of ours
    ],
)
def test_the_ttl_counts_down_from_the_last_use_and_stays_in_its_bounds(
    ttl_ms: float | None, last_used: float | None, now: float, left: float | None
) -> None:
    assert instance(ttl_ms=ttl_ms, last_used_time=last_used).ttl_remaining_ms(now) == left


# Devices -------------------------------------------------------------------------------------------------------------


def snapshot(link: LinkStatus | None) -> Snapshot:
    return Snapshot(0.0, 0.0, 0.0, DaemonVersion("0"), DaemonProcess(1, is_daemon=True), (), None, link, None)


def test_devices_are_named_for_people() -> None:
    seen = snapshot(LinkStatus("own", "workstation", (LinkPeer("p1", "rack"), LinkPeer("p2", None))))

    names = [seen.device_name(each) for each in (None, "own", "p1", "p2", "p3")]
    assert names == ["local", "local", "rack", "p2", "p3"]


def test_without_lm_link_only_no_device_is_local() -> None:
    assert [snapshot(None).device_name(each) for each in (None, "own")] == ["local", "own"]
