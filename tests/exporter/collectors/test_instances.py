"""Loaded instances: what each does, waits for, and how long it stays; loads and unloads as counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.instances import collect
from exporter.llmster.load_config import LoadConfig
from exporter.llmster.local_files import LocalPosture
from exporter.llmster.state import (
    LinkStatus,
    LoadedInstance,
    ProcessingState,
    Quantization,
    Snapshot,
)
from exporter.pipeline.snapshots import DaemonCounts
from tests.exporter.collectors.values import by, collected, one
from tests.exporter.readings import NOW_S, instance, scrape, snapshot, watched

OWN = {"daemon": "local", "model": "qwen/qwen3-8b", "instance_id": "qwen/qwen3-8b"}


def samples_of(*instances: LoadedInstance) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    return collected(collect, scrape(watched(snapshot(*instances))))


def test_an_instance_at_work_has_all_its_series() -> None:
    samples = samples_of(
        instance(
            processing=ProcessingState("generating", 6),
            config=LoadConfig(parallel=4, gpu_offload_ratio=0.5),
            ttl_ms=3_600_000,
            last_used_time=(NOW_S - 600) * 1000,
            context_length=8192,
            format="gguf",
            architecture="qwen3",
            quantization=Quantization("Q4_K_M"),
        )
    )

    assert {name: one(samples, name)[1] for name in samples if name != "llmster_instance_state"} == {
        "llmster_instance_info": 1,
        "llmster_num_requests_running": 4,
        "llmster_num_requests_waiting": 2,
        "llmster_instance_context_length_tokens": 8192,
        "llmster_instance_parallel": 4,
        "llmster_instance_ttl_seconds": 3600,
        "llmster_instance_ttl_remaining_seconds": 3000,
        "llmster_instance_last_used_timestamp_seconds": NOW_S - 600,
        "llmster_instance_pinned": 0,
        "llmster_instance_gpu_offload_ratio": 0.5,
    }
    described = {"device": "local", "type": "llm", "format": "gguf", "architecture": "qwen3"}
    assert one(samples, "llmster_instance_info")[0] == OWN | described | {"quantization": "Q4_K_M"}
    assert one(samples, "llmster_num_requests_running")[0] == OWN


def test_what_is_not_known_of_an_instance_is_absent() -> None:
    samples = samples_of(instance())

    assert set(samples) == {"llmster_instance_info", "llmster_instance_pinned"}
    assert one(samples, "llmster_instance_pinned")[1] == 1  # it has no TTL, and that is known


@pytest.mark.parametrize(
    ("status", "label"),
    [
        ("idle", "idle"),
        ("processingPrompt", "processing_prompt"),
        ("generating", "generating"),
        ("computingEmbedding", "computing_embedding"),
    ],
)
def test_the_state_is_one_of_four(status: str, label: str) -> None:
    states = by(
        samples_of(instance(processing=ProcessingState(status, 0))), "llmster_instance_state", "state"
    )

    assert len(states) == 4
    assert [name for name, value in states.items() if value] == [label]


def test_a_state_nobody_knows_yet_is_none_of_them() -> None:
    samples = samples_of(instance(processing=ProcessingState("dreaming", 1)))

    assert set(by(samples, "llmster_instance_state", "state").values()) == {0}
    assert one(samples, "llmster_num_requests_running")[1] == 1


def test_an_instance_that_is_shared_by_name_with_a_peer_is_the_daemons_own() -> None:
    theirs = instance("r2", context_length=1, device_identifier="peer")
    ours = instance("r1", context_length=2, device_identifier="own")
    read = snapshot(theirs, ours, link=LinkStatus("own"))

    samples = collected(collect, scrape(watched(read)))

    assert one(samples, "llmster_instance_context_length_tokens")[1] == 2
    assert one(samples, "llmster_instance_info")[0]["device"] == "local"


def test_two_instances_of_a_model_are_two_series() -> None:
    samples = samples_of(instance("a"), instance("b", identifier="qwen/qwen3-8b:2"))

    assert set(by(samples, "llmster_instance_info", "instance_id")) == {"qwen/qwen3-8b", "qwen/qwen3-8b:2"}


def test_loads_and_unloads_stay_while_the_daemon_cannot_be_read() -> None:
    counts = DaemonCounts(loads={"m": 2}, unloads={("m", "ttl"): 1, ("m", "other"): 0})
    daemon = watched(counts=counts)

    samples = collected(collect, scrape(daemon))

    assert set(samples) == {"llmster_model_loads_total", "llmster_model_unloads_total"}
    assert by(samples, "llmster_model_loads_total", "model") == {"m": 2}
    assert by(samples, "llmster_model_unloads_total", "model", "cause") == {"m ttl": 1, "m other": 0}


@pytest.mark.parametrize(
    ("loaded", "default", "below"),
    [
        (instance(ttl_ms=1.0, context_length=2048), 4096, 1),
        (instance(ttl_ms=1.0, context_length=4096), 4096, 0),
        (instance(ttl_ms=1.0, context_length=2048, max_context_length=2048), 4096, 0),
        (instance(ttl_ms=1.0, context_length=2048, max_context_length=8192), "max", 1),
        (instance(ttl_ms=1.0, context_length=2048), None, None),
        (instance(context_length=2048), 4096, None),  # an explicit load may want less
        (instance(context_length=2048, config=LoadConfig(auto_fit=True, context_length=8192)), None, 1),
        (instance(context_length=8192, config=LoadConfig(auto_fit=True, context_length=8192)), None, 0),
        (instance(config=LoadConfig(auto_fit=True, context_length=8192)), None, None),
    ],
)
def test_less_context_than_by_default_is_told_where_the_default_is_known(
    loaded: LoadedInstance, default: int | str | None, below: int | None
) -> None:
    posture = LocalPosture(None, None, None, None, None, default_context=default)
    samples = collected(collect, scrape(watched(snapshot(loaded), posture=posture)))

    name = "llmster_instance_context_below_default"
    assert (one(samples, name)[1] if name in samples else None) == below


TEXTS = st.sampled_from(["", "a", "b"])
INSTANCES = st.builds(
    instance,
    TEXTS,
    model=TEXTS,
    identifier=TEXTS,
    type_=TEXTS,
    processing=st.none()
    | st.builds(ProcessingState, st.sampled_from(["idle", "generating", ""]), st.integers()),
    config=st.none() | st.builds(LoadConfig, st.none() | st.integers(1, 9), st.none() | st.floats(0, 1)),
    ttl_ms=st.none() | st.floats(-1e15, 1e15),
    last_used_time=st.none() | st.floats(-1e15, 1e15),
    device_identifier=st.none() | TEXTS,
)


@given(st.lists(INSTANCES), st.none() | st.builds(LinkStatus, TEXTS))
def test_no_labels_ever_repeat(instances: list[LoadedInstance], link: LinkStatus | None) -> None:
    read: Snapshot = snapshot(*instances, link=link)

    samples = collected(collect, scrape(watched(read, name="x"), watched(read, name="y")))

    names = {(each.info.model_key, each.info.identifier) for each in instances}
    assert len(samples.get("llmster_instance_info", {})) == 2 * len(names)
