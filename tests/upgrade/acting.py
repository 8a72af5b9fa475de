"""What each action does on a simulated daemon whose answers are as ever, and as ever but for one field.

Runs the whole actions API; knows nothing of what the actions declare.
"""

import asyncio
import copy
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx

from actions.commands.download import OVER_REST, OVER_WEBSOCKET
from actions.commands.reconciler import Reconciler
from actions.domain.errors import Problem
from llmster_sim.models import catalogue
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.wire.transfer_calls import HUB_MODEL, NEW_ENGINE
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import QUICK, SMALL, Forge, forges, loaded
from tests.upgrade.fields import Change, changed

LOADED, TOO_BIG = "qwen/qwen3-8b", "openai/gpt-oss-20b"
CHANNELS: Final = ("loadModel", "downloadModel", "downloadRuntimeExtension")
CALLS: Final = (
    "version", "info", "listDownloadedModels", "listLoaded", "getInstanceProcessingState", "getLoadConfig",
    "estimateModelUsage", "lmLinkStatus", "listEngines", "getEngineSelections", "searchRuntimeExtensions",
    "searchModels", "getModelDownloadOptions", *CHANNELS,
    "GET /api/v1/models", "GET /api/v0/models", "POST /api/v1/chat", "POST /api/v1/models/download",
    "GET /api/v1/models/download/status/",
)  # fmt: skip
"""Everything that an action asks a daemon and reads the answer of; a path that ends in / has one more part."""

TIMEOUTS: Final = dataclasses.replace(QUICK, load_s=20, verify_s=2, probe_silence_s=10, probe_s=20)
LONG_S: Final = 60
"""What takes longer than this on a busy host has no end."""
UNHEARD: Final = {"daemon-unreachable", "timeout"}
"""Refusals of a daemon that was not heard in time: a busy host's, and no field's."""
TRIES: Final = 3
"""A scene whose daemon was not heard is played so many times."""
VOLATILE: Final = {
    "took_seconds", "started_ms", "marks_seconds", "total_seconds", "time_to_first_token_seconds",
    "reasoning_seconds", "load_seconds", "instance_reference", "memory_age_seconds", "daemon_stats", "age_seconds",
}  # fmt: skip
"""Members whose values differ in every run: of them only what they are made of is compared."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an action said: a refusal by its slug, or its answer."""

    refusal: str = ""
    answer: Any = None
    detail: str = ""
    """The words of a refusal, which are not compared."""

    @classmethod
    def no(cls, problem: Mapping[str, Any]) -> Self:
        """Tell a refusal."""
        return cls(str(problem["type"]).rpartition(":")[2], detail=problem["detail"])


Act = Callable[[Forge, Simulator], Awaitable[Told]]
Holds = Callable[[Simulator, Any], bool]
"""Looks at the daemon and at the answer, which is None after a refusal."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One action in one situation."""

    action: str
    act: Act
    is_done: Holds | None = None
    """Whether the daemon has done what a success of the action says; None where there is nothing to do."""
    when: str = ""
    """The situation, as it is declared."""
    before: Callable[[Simulator], object] = lambda _sim: None
    refusal: str = ""
    """What it is refused with as ever; "" where it is done."""


def _post(path: str, **query: Any) -> Act:
    async def act(forge: Forge, _sim: Simulator) -> Told:
        return await _told(forge, await forge.http.post(forge.path(path), params=query | {"wait": 10}))

    return act


def _ask(method: str, path: str, **query: Any) -> Act:
    async def act(forge: Forge, _sim: Simulator) -> Told:
        return await _told(forge, await forge.http.request(method, forge.path(path), params=query))

    return act


async def _told(forge: Forge, response: httpx.Response) -> Told:
    body = response.json()
    if response.status_code == 202:
        body = await forge.operation(body["id"])
        if body["problem"]:
            return Told.no(body["problem"])
        if body["finished_ms"] is None:
            await forge.http.post(f"/v1/operations/{body['id']}/cancel")
            return Told("goes on")
    if not response.is_success:
        return Told.no(body)
    return Told(answer=body.get("result", body))


async def _reconciled(forge: Forge, reconciler: Reconciler) -> Told:
    """Let the reconciler look twice; tell what became of its last command."""
    for _ in range(2):
        await _tick(reconciler)
        async with asyncio.timeout(LONG_S):
            while forge.parts.service.operations.live:  # noqa: ASYNC110 - seen only by looking
                await asyncio.sleep(0.01)
    ended = await forge.audit("outcome", "denied")
    if not ended:
        return Told("waits")
    detail = ended[-1]["detail"]
    if ended[-1]["kind"] == "denied":
        return Told(str(detail["rule"]))
    problem = detail["problem"]
    return Told.no(problem) if problem else Told(answer=detail["result"])


async def _tick(reconciler: Reconciler) -> None:
    """Let it look once; where the daemon was not heard, again."""
    for _ in range(TRIES):
        try:
            await reconciler.tick()
        except Problem as problem:  # it says so in the log
            if problem.slug in UNHEARD:
                continue
        return


async def _pin(forge: Forge, _sim: Simulator) -> Told:
    response = await forge.http.post(forge.path("desired"), params={"model": SMALL, "instance_id": "mine"})
    assert response.is_success, response.text
    return await _reconciled(forge, forge.parts.reconcilers[0])


async def _reap(forge: Forge, _sim: Simulator) -> Told:
    response = await forge.http.post(forge.path("desired"), params={"reap_idle_seconds": 60})
    assert response.is_success, response.text
    now = [0.0]
    service = forge.parts.service
    reconciler = Reconciler(service.daemons[forge.name], service, TIMEOUTS, clock=lambda: now[0])
    await _tick(reconciler)
    now[0] += 61
    return await _reconciled(forge, reconciler)


async def _notice(forge: Forge, sim: Simulator) -> Told:
    """Unload behind its back, and tell what is on record."""
    for _ in range(2):
        await _tick(forge.parts.reconcilers[0])
        if LOADED in loaded(sim):
            sim.daemon.unload(LOADED)
    events = [(entry["action"], entry["subject"], entry["detail"]) for entry in await forge.audit("event")]
    return Told(answer=events) if events else Told("waits")


def _busy(sim: Simulator) -> None:
    sim.daemon.request(LOADED, ask=_long_ask(sim))
    sim.daemon.stall(LOADED)


def _has(name: str) -> Holds:
    return lambda sim, _answer: name in loaded(sim)


def _lacks(name: str) -> Holds:
    return lambda sim, _answer: name not in loaded(sim)


def _arrived(_sim: Simulator, answer: Any) -> bool:
    return answer is not None and answer["status"] == "completed"


def _measured(_sim: Simulator, answer: Any) -> bool:
    return answer is not None and answer["time_to_first_token_seconds"] is not None


def _called(endpoint: str) -> Holds:
    return lambda sim, _answer: sim.calls["runtime", endpoint] > 0


_ENGINE: Final = {"engine": catalogue.LLAMA_OLDER.name, "version": catalogue.LLAMA_OLDER.version}
SCENES: Final = (
    Scene("load", _post("models/load", model=SMALL, context_length=2048, ttl_seconds=600), _has(SMALL)),
    Scene(
        "load", _post("models/load", model=SMALL, replace=LOADED, ttl_seconds=600), _has(SMALL), "it replaces"
    ),
    Scene(
        "load",
        _post("models/load", model=LOADED, context_length=8192, batch_size=512),
        is_done=None,
        when="the model is loaded",
    ),
    Scene("preflight", _ask("POST", "preflight", model=SMALL)),
    Scene("fit", _ask("POST", "fit", model=TOO_BIG, context_length=16384)),
    Scene("eject", _post("models/eject", instance_id=LOADED), _lacks(LOADED)),
    Scene(
        "eject",
        _post("models/eject", instance_id=LOADED),
        _lacks(LOADED),
        before=_busy,
        refusal="instance-busy",
    ),
    Scene("eject_all", _post("models/eject-all"), lambda sim, _answer: not loaded(sim)),
    Scene(
        "eject_all",
        _post("models/eject-all"),
        lambda sim, _answer: not loaded(sim),
        "requests are in flight",
        before=_busy,
    ),
    Scene("download", _post("models/download", model=HUB_MODEL), _arrived, OVER_WEBSOCKET),
    Scene("download", _post("models/download", model="new/model"), _arrived, OVER_REST),
    Scene("probe", _post("probe", model=LOADED), _measured),
    Scene("probe", _post("probe", model=SMALL), _measured, "the model is not loaded"),
    Scene("select_engine", _post("engines/select", model_format="GGUF", **_ENGINE), _called("selectEngine")),
    Scene(
        "update_engine",
        _post("engines/update", engine=NEW_ENGINE.name, version=NEW_ENGINE.version),
        _called("downloadRuntimeExtension"),
    ),
    Scene("engines", _ask("GET", "engines", search="llama.cpp")),
    Scene("reconciler", _pin, _has("mine"), "an instance is desired"),
    Scene("reconciler", _reap, _lacks(LOADED), "an instance idles"),
    Scene("reconciler", _notice),
)


async def play(
    scene: Scene, alter: Mapping[str, Callable[[Any], Any]], home: Path, *, tries: int = TRIES
) -> tuple[Told, bool | None]:
    """Play a scene with the answers of some calls altered; also tell whether the daemon has done it, if it is to."""
    told, is_done = await _play(scene, alter, home / str(tries))
    if told.refusal in UNHEARD and tries > 1:
        return await play(scene, alter, home, tries=tries - 1)
    return told, is_done


async def _play(
    scene: Scene, alter: Mapping[str, Callable[[Any], Any]], home: Path
) -> tuple[Told, bool | None]:
    async with Simulator(SimConfig(scenario="idle", speed=1000.0)) as sim, forges(home) as start:
        scene.before(sim)
        for call, change in alter.items():
            sim.faults.alter(_target(call), change)
        forge = await start(sim, scope="admin", timeouts=TIMEOUTS)
        async with asyncio.timeout(LONG_S):  # a busy host may take longer than a request waits
            await forge.parts.service.daemons[forge.name].client.connected()
        told = await scene.act(forge, sim)
        return told, scene.is_done(sim, told.answer) if scene.is_done is not None else None


def _target(call: str) -> str:
    if " " not in call:
        return f"*.{call}"
    return f"{call}*" if call.endswith("/") else call


async def rehearse(scene: Scene, home: Path) -> tuple[Told, dict[str, list[Any]]]:
    """Play a scene as ever; also give what the daemon answered, by call."""
    answers: dict[str, list[Any]] = {call: [] for call in CALLS}

    def recording(call: str) -> Callable[[Any], Any]:
        def record(answer: Any) -> Any:
            answers[call].append(copy.deepcopy(answer) if isinstance(answer, list | dict) else answer)
            return answer

        return record

    told, _ = await play(scene, {call: recording(call) for call in CALLS}, home)
    return told, answers


async def with_changes(
    scene: Scene, call: str, paths: Iterable[str], change: Change, home: Path
) -> tuple[Told, bool | None]:
    """Play a scene with fields of one call changed."""

    def alter(answer: Any) -> Any:
        for path in sorted(paths, key=lambda path: -path.count(".")):
            answer = changed(answer, path, change)
        return answer

    return await play(scene, {call: alter}, home)


def evidence(answer: Any) -> Any:
    """Take from an answer what is the same in every run."""
    if isinstance(answer, list | tuple):
        return [evidence(one) for one in answer]
    if isinstance(answer, dict):
        return {
            key: (sorted(value) if isinstance(value, dict) else value is not None)
            if key in VOLATILE
            else evidence(value)
            for key, value in answer.items()
        }
    return answer
