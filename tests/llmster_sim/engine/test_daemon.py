import dataclasses
import json

import pytest

from llmster_sim.clock import Clock
from llmster_sim.engine.daemon import Daemon, Settings
from llmster_sim.engine.instances import instance_info
from llmster_sim.engine.jobs import Failed, JobEvent
from llmster_sim.engine.loading import Evicting, Loaded, LoadEvent, LoadFailed, Progress, Resolved
from llmster_sim.engine.log_events import Event
from llmster_sim.errors import DaemonError
from llmster_sim.models.catalogue import CATALOGUE, PEER_DEVICE_IDENTIFIER
from llmster_sim.models.load_config import CONTEXT, OFFLOAD, PARALLEL, SPLIT
from llmster_sim.traffic.scenarios import load_initial
from tests.llmster_sim.conftest import MakeAsk, MakeDaemon

QWEN = "qwen/qwen3-8b"
OSS = "openai/gpt-oss-20b"
GEMMA = "google/gemma-3-12b"
SMALL = "qwen/qwen3-0.6b"


def _names(daemon: Daemon) -> list[str]:
    return [instance.identifier for instance in daemon.loaded]


def test_load_resolves_reports_progress_and_succeeds_in_that_order(clock: Clock, daemon: Daemon) -> None:
    said: list[LoadEvent] = []
    daemon.load(QWEN, notify=said.append)
    clock.advance(60)
    assert isinstance(said[0], Resolved)
    assert [event.share for event in said if isinstance(event, Progress)] == [n / 10 for n in range(11)]
    assert isinstance(said[-1], Loaded)
    assert said[-1].load_s > 1


def test_instance_is_not_listed_while_it_loads(clock: Clock, daemon: Daemon) -> None:
    daemon.load(QWEN)
    clock.advance(1)
    assert _names(daemon) == []
    clock.advance(60)
    assert _names(daemon) == [QWEN]


def test_aborted_load_leaves_neither_instance_nor_memory(clock: Clock, daemon: Daemon) -> None:
    before = daemon.gpus.read(0)
    load = daemon.load(QWEN)
    assert load is not None
    clock.advance(1)
    daemon.loader.abort(load)
    clock.advance(60)
    assert daemon.instances == []
    assert [gpu.used_bytes for gpu in daemon.gpus.read(0)] == [gpu.used_bytes for gpu in before]


def test_duplicates_of_an_identifier_get_numbers(daemon: Daemon) -> None:
    for _ in range(3):
        daemon.load(SMALL, instant=True)
    assert _names(daemon) == [SMALL, f"{SMALL}:2", f"{SMALL}:3"]


def test_identifier_asked_for_and_in_use_is_refused(daemon: Daemon) -> None:
    daemon.load(SMALL, identifier="mine", instant=True)
    with pytest.raises(DaemonError, match='"mine" because it is already in use'):
        daemon.load(SMALL, identifier="mine")


def test_each_load_gets_its_own_instance_reference(daemon: Daemon) -> None:
    daemon.load(SMALL, instant=True)
    daemon.load(SMALL, instant=True)
    references = {instance.reference for instance in daemon.loaded}
    assert len(references) == 2


def test_unknown_model_is_named_with_a_sample_of_the_known_ones(daemon: Daemon) -> None:
    with pytest.raises(DaemonError, match='Cannot find a model with path "nope/nope"') as caught:
        daemon.load("nope/nope")
    assert caught.value.display is not None
    assert caught.value.display["code"] == "generic.pathNotFound"
    assert caught.value.display["totalModels"] == len(daemon.models)


def test_unload_of_something_not_loaded_is_refused(daemon: Daemon) -> None:
    with pytest.raises(DaemonError, match='Cannot find a model with identifier "nope"'):
        daemon.unload("nope")


def test_embedding_model_is_no_llm(daemon: Daemon) -> None:
    with pytest.raises(DaemonError, match="Model has wrong domain"):
        daemon.load("text-embedding-nomic-embed-text-v1.5", domain="llm")


def test_model_of_a_peer_takes_no_memory_here_and_says_whose_it_is(daemon: Daemon) -> None:
    before = [gpu.used_bytes for gpu in daemon.gpus.all]
    daemon.load("qwen/qwen3-32b", instant=True)
    assert [gpu.used_bytes for gpu in daemon.gpus.all] == before
    assert instance_info(daemon.loaded[0])["deviceIdentifier"] == PEER_DEVICE_IDENTIFIER


# Time to live


def test_explicit_load_without_ttl_never_expires(clock: Clock, daemon: Daemon) -> None:
    daemon.load(QWEN, instant=True)
    clock.advance(10 * 24 * 3600)
    assert _names(daemon) == [QWEN]


def test_instance_is_unloaded_when_its_idle_time_is_over_and_not_before(clock: Clock, daemon: Daemon) -> None:
    daemon.load(QWEN, ttl_ms=60_000, instant=True)
    clock.advance(59.9)
    assert _names(daemon) == [QWEN]
    clock.advance(0.2)
    assert _names(daemon) == []
    assert daemon.totals.ttl_unloads == 1


def test_use_starts_the_idle_time_over(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    daemon.load(QWEN, ttl_ms=60_000, instant=True)
    (instance,) = daemon.loaded
    clock.advance(50)
    daemon.submit(instance, ask=make_ask(words=1))
    clock.advance(59)
    assert _names(daemon) == [QWEN]
    clock.advance(10)
    assert _names(daemon) == []


def test_busy_instance_is_never_unloaded_by_its_ttl(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    daemon.load(QWEN, ttl_ms=1_000, instant=True)
    (instance,) = daemon.loaded
    daemon.submit(instance, ask=make_ask(words=900))
    clock.advance(5)
    assert instance.busy
    assert _names(daemon) == [QWEN]
    clock.advance(60)
    assert _names(daemon) == []
    assert daemon.totals.predictions == 1


def test_ttl_can_be_ignored_as_operators_saw_it(clock: Clock, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings=Settings(ttl_ignored=True))
    daemon.load(QWEN, ttl_ms=60_000, instant=True)
    clock.advance(3600)
    (instance,) = daemon.loaded
    assert instance.remaining_ttl_ms(clock.now_ms) == 60_000 - 3_600_000


def test_remaining_ttl_counts_down_from_the_last_use(clock: Clock, daemon: Daemon) -> None:
    daemon.load(QWEN, ttl_ms=60_000, instant=True)
    (instance,) = daemon.loaded
    clock.advance(20)
    assert instance.remaining_ttl_ms(clock.now_ms) == 40_000


# Just in time


def test_request_for_a_model_on_disk_loads_it_with_an_hour_to_live(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.request(QWEN, ask=lambda _instance: make_ask())
    clock.advance(60)
    (instance,) = daemon.loaded
    assert (instance.jit, instance.ttl_ms) == (True, 3_600_000)
    assert daemon.totals.predictions == 1


def test_requests_that_meet_a_load_share_it(clock: Clock, daemon: Daemon, make_ask: MakeAsk) -> None:
    for _ in range(3):
        daemon.request(QWEN, ask=lambda _instance: make_ask())
    clock.advance(60)
    assert _names(daemon) == [QWEN]
    assert (daemon.totals.loads, daemon.totals.predictions) == (1, 3)


def test_jit_load_evicts_the_former_jit_instance_only_when_that_is_set(
    clock: Clock, make_daemon: MakeDaemon
) -> None:
    for evicts, left in ((False, [QWEN, SMALL, GEMMA]), (True, [QWEN, GEMMA])):
        daemon = make_daemon(settings=Settings(jit_evicts=evicts))
        daemon.load(QWEN, instant=True)
        daemon.load(SMALL, jit=True, instant=True)
        said: list[LoadEvent] = []
        daemon.get_or_load(GEMMA, notify=said.append)
        clock.advance(60)
        assert _names(daemon) == left
        assert any(isinstance(event, Evicting) for event in said) is evicts


# Memory


def test_guardrail_refuses_a_load_that_cannot_fit_and_tells_how_much_it_needs(
    make_daemon: MakeDaemon,
) -> None:
    daemon = make_daemon(settings=Settings(guardrail="high"))
    said: list[LoadEvent] = []
    daemon.load("google/gemma-4-26b-a4b", overrides={CONTEXT: 262_144}, notify=said.append)
    assert isinstance(said[-1], LoadFailed)
    assert said[-1].error.title == "Model loading was stopped due to insufficient system resources."
    assert "requires approximately 35.89 GB of memory" in str(said[-1].error.cause)
    assert daemon.totals.failed_loads == 1


def test_guardrail_does_not_see_a_foreign_process_and_the_load_then_fails(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings=Settings(guardrail="low"))
    daemon.load(GEMMA, instant=True)
    daemon.load(OSS, instant=True)
    for gpu in daemon.gpus.all:
        daemon.gpus.add_foreign(pid=999, index=gpu.index, size_bytes=gpu.free_bytes - 1_000_000_000)
    assert daemon.estimate(key=QWEN, overrides={})["passesGuardrails"]
    said: list[LoadEvent] = []
    daemon.load(QWEN, notify=said.append)
    assert isinstance(said[-1], LoadFailed)
    assert said[-1].error.cause == "CUDA error: out of memory"


def test_guardrail_turned_off_lets_everything_pass(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(settings=Settings(guardrail="off"))
    huge = daemon.estimate(key="google/gemma-4-26b-a4b", overrides={CONTEXT: 262_144})
    assert huge["passesGuardrails"]


def test_estimate_is_less_than_what_the_engine_takes(daemon: Daemon) -> None:
    needs = daemon.estimate(key=QWEN, overrides={})["memory"]
    daemon.load(QWEN, instant=True)
    (instance,) = daemon.loaded
    assert instance.vram_bytes == needs["totalVramBytes"] + instance.model.overhead_bytes


def test_half_offloaded_model_needs_half_the_weights_on_the_gpus(daemon: Daemon) -> None:
    whole = daemon.estimate(key=OSS, overrides={})["memory"]
    half = daemon.estimate(key=OSS, overrides={OFFLOAD: 0.5})["memory"]
    assert half["modelVramBytes"] == whole["modelVramBytes"] // 2
    assert half["modelBytes"] == whole["modelBytes"]


def test_unload_gives_the_memory_back(daemon: Daemon) -> None:
    before = [gpu.used_bytes for gpu in daemon.gpus.all]
    daemon.load(QWEN, instant=True)
    assert [gpu.used_bytes for gpu in daemon.gpus.all] != before
    daemon.unload(QWEN)
    assert [gpu.used_bytes for gpu in daemon.gpus.all] == before


def test_split_configuration_decides_where_an_instance_lies(daemon: Daemon) -> None:
    split = {"strategy": "priorityOrder", "disabledGpus": [], "priority": [1], "customRatio": []}
    daemon.load(SMALL, overrides={SPLIT: split}, instant=True)
    (instance,) = daemon.loaded
    assert instance.pid not in daemon.gpus.all[0].processes
    assert daemon.gpus.all[1].processes[instance.pid or 0] == instance.vram_bytes


def test_host_without_gpus_loads_into_main_memory_and_runs_slower(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(gpus=0)
    daemon.load(QWEN, instant=True)
    (instance,) = daemon.loaded
    assert instance.vram_bytes == 0
    assert instance.speed < 0.2


def test_context_longer_than_the_model_allows_is_cut_to_its_maximum(daemon: Daemon) -> None:
    daemon.load(SMALL, overrides={CONTEXT: 10_000_000, PARALLEL: 2}, instant=True)
    info = instance_info(daemon.loaded[0])
    assert info["contextLength"] == info["maxContextLength"] == 40_960
    assert daemon.loaded[0].config.parallel == 2


# Life and death


def test_crash_takes_the_instance_and_its_jobs_and_says_so(
    clock: Clock,
    daemon: Daemon,
    make_ask: MakeAsk,
    events: list[Event],
) -> None:
    daemon.load(QWEN, instant=True)
    daemon.submit(daemon.loaded[0], ask=make_ask())
    clock.advance(0.5)
    daemon.crash(QWEN, exit_code=139)
    assert daemon.instances == []
    assert (daemon.totals.crashes, daemon.totals.failed) == (1, 1)
    assert daemon.totals.by_stop_reason == {"failed": 1}
    texts = [event["data"].get("message", "") for event in events]
    assert "The model has crashed without additional information. (Exit code: 139)" in texts


@pytest.mark.parametrize(
    ("key", "domain", "failed"), [(QWEN, "llm", 1), ("text-embedding-nomic-embed-text-v1.5", "embedding", 0)]
)
def test_a_request_whose_load_fails_counts_as_a_failed_prediction_if_it_wanted_one(
    daemon: Daemon, make_ask: MakeAsk, key: str, domain: str, failed: int
) -> None:
    said: list[JobEvent] = []
    daemon.next_load_failure = DaemonError("no")
    daemon.request(key, ask=lambda _: make_ask(), domain=domain, notify=said.append)
    assert isinstance(said[-1], Failed)
    assert (daemon.totals.failed, daemon.totals.failed_loads) == (failed, 1)


def test_restart_forgets_instances_and_keeps_the_totals(
    clock: Clock, daemon: Daemon, make_ask: MakeAsk
) -> None:
    daemon.load(QWEN, instant=True)
    daemon.submit(daemon.loaded[0], ask=make_ask())
    clock.advance(60)
    pid = daemon.pid
    daemon.restart(version="0.4.25")
    assert (daemon.instances, daemon.version) == ([], "0.4.25")
    assert daemon.pid != pid
    assert daemon.totals.predictions == 1


def test_daemon_starts_with_a_pinned_a_jit_and_an_embedding_instance(daemon: Daemon) -> None:
    load_initial(daemon)
    shown = [(i.model.type, i.ttl_ms, i.jit) for i in daemon.loaded]
    assert shown == [("llm", None, False), ("llm", 3_600_000, True), ("embedding", None, False)]


def test_same_seed_and_calls_give_the_same_events_to_the_byte() -> None:
    def play() -> str:
        clock = Clock(manual=True)
        daemon = Daemon(clock=clock, models=CATALOGUE, seed=3)
        seen: list[Event] = []
        daemon.watch(seen.append)
        load_initial(daemon)
        daemon.crash(OSS)
        clock.advance(100)
        return json.dumps([seen, dataclasses.asdict(daemon.totals)])

    assert play() == play()
