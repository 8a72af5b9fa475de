"""Every query of every board and rule, asked of a real Prometheus that scraped the real exporter: each has an answer.

What cannot have one in this run is listed with its reason. The lists can only shrink: an entry that is answered, or
that excuses nothing, fails.
"""

import asyncio
import dataclasses
import json
import math
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from daemonpulse.demo.programs import Program, running
from daemonpulse.shipped import stack_folder
from dashboards.alerts.groups import ALERTS, CAUSE_RULES
from dashboards.rules.groups import RECORDINGS
from exporter.hardware.gpus import GpuReading
from llmster_sim.server import SimConfig, Simulator
from llmster_sim.traffic import scenarios
from tests.actions.conftest import Forge, StartForge
from tests.dashboards.asked import GENERATED, NAMES, Asked, Json, board_queries, variable_queries
from tests.dashboards.pressing import caller, policy, press, press_forge, press_toolchain
from tests.dashboards.showing import answered, faults
from tests.external import FindTool
from tests.hosts import FULL_GPU, GPUS, Gpus, Host, family
from tests.otlp_sink import otlp_sink
from tests.system.conftest import StartExporter, daemon
from tests.system.running_tap import key_of, running_tap

NOT_SERVED: dict[str, str] = {}
"""Metrics that nothing in this run serves."""

_FAST = "the daemon's clock is four times as fast as the GPUs', so that no request's energy is known"
QUIET: dict[str, str] = {
    "overview / Log stream / E": "no event was dropped",
    "fleet / Clocks of maximum / B": "the GPUs of this run report no memory clock",
    "overview / OTLP throughput / C": "this exporter pushes no metrics",
    "toolchain / Tool servers / D": "the tool server's answers are well-formed",
    **{f"{name} / annotation / Critical alerts": "no critical alert fires in this run" for name in NAMES},
    **{f"economics / Energy per request / {letter}": _FAST for letter in "ABC"},
    **{f"economics / Cost by client / {letter}": _FAST for letter in "BCDE"},
    "economics / Power by client / A": _FAST,
    "forge / Load settings / F": "every load of this run leaves GPU offload to the daemon",
    "overview / Missing instances / A": "every desired instance is loaded",
    "alert DaemonPulseDroppingEvents reads llmster_log_events_dropped_total": "no event was dropped",
}
"""Queries over served metrics that rightly have no answer while all is well, by board / panel / letter."""
SOMETIMES: Final = frozenset(["overview / Named causes / A"])
"""Answered only if an alert that pages happens to have a cause for a moment."""

LIMIT_S = 60.0
"""Only a guard, for a host that has other things to do; what is waited for comes within seconds."""
SETTLED_S = 160.0
"""A guard, too: as a rule all is answered in less than half a minute."""

MOST_PANELS = 100
"""Fewer panels with answers would mean that the rest of this module found what it should not have."""

HOST = family(
    "lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf",
    "lmstudio-community/gpt-oss-20b-GGUF/gpt-oss-20b-MXFP4.gguf",
)


# One GPU slows down for heat, which the others' drivers do not report.
SLOWED = dataclasses.replace(
    FULL_GPU, throttle_reasons={**(FULL_GPU.throttle_reasons or {}), "hw_thermal_slowdown": True}
)
SLOWED_GPUS = dataclasses.replace(GPUS, devices=(SLOWED, *GPUS.devices[1:]))


class Working(Gpus):
    """GPUs that use energy while time goes by."""

    def read(self) -> GpuReading:
        reading = super().read()
        joules = 150 * time.monotonic()
        return dataclasses.replace(
            reading,
            devices=tuple(dataclasses.replace(one, energy_joules=joules) for one in reading.devices),
        )


class Prometheus:
    """A client that knows what an answer is: at least one series with a number."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def get(self, path: str, **parameters: str) -> Any:
        answer = (await self._http.get(f"{self._url}/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def series(self, promql: str) -> list[Json]:
        found: list[Json] = (await self.get("query", query=promql))["result"]
        return found

    async def answers(self, promql: str) -> bool:
        return any(not math.isnan(float(series["value"][1])) for series in await self.series(promql))

    async def still_unanswered(self, asked: list[Asked]) -> list[Asked]:
        return [one for one in asked if not await self.answers(one.promql)]


def program(folder: Path) -> Program:
    configuration = (folder / "prometheus.yml").read_text(encoding="utf-8")
    quicker = re.sub(r"(scrape_interval|scrape_timeout|evaluation_interval): \w+", r"\1: 1s", configuration)
    (folder / "prometheus.yml").write_text(quicker, encoding="utf-8")
    return Program(
        name="prometheus",
        binary="prometheus",
        arguments=lambda port: [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        ready_path="/-/ready",
    )


def excused(one: Asked) -> bool:
    return one.where in QUIET or one.where in SOMETIMES or bool(one.metrics & NOT_SERVED.keys())


async def live_through_everything(sim: Simulator, prometheus: Prometheus) -> None:
    """Load, unload, restart, misbehave, once Prometheus has seen how it was before."""

    async def seen(promql: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not await prometheus.answers(promql):  # noqa: ASYNC110
                await asyncio.sleep(0.2)  # Prometheus scrapes by its own clock

    await seen("count_over_time(llmster_up[1m]) > 2 and llmster_up == 1")
    sim.daemon.load("qwen/qwen3-0.6b", instant=True)
    await seen('llmster_instance_info{model="qwen/qwen3-0.6b"}')
    sim.daemon.unload("qwen/qwen3-0.6b")
    await seen('sum(llmster_model_unloads_total{cause="other"}) > 0')
    await sim.restart()
    scenarios.load_initial(sim.daemon)
    sim.daemon.load("text-embedding-nomic-embed-text-v1.5", instant=True)  # a second copy
    await seen("llmster_restarts_total > 0 and llmster_up == 1")


async def keep_as_desired(forge: Forge) -> None:
    """Desire what is loaded, on the daemon and as a group of one."""
    for path, query in (
        (forge.path("desired"), {}),
        ("/v1/fleet/desired", {"name": "chat", "at_least": "1", "daemon": forge.name}),
    ):
        answer = await forge.http.post(path, params={"model": "qwen/qwen3-8b", **query})
        assert answer.status_code == 200, answer.text
    await forge.parts.reconcilers[0].tick()
    await forge.parts.fleet.tick()


@pytest.fixture
def _otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A receiver that exporter and actions API find in the environment."""
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.external("prometheus")
@pytest.mark.timeout(500)
@pytest.mark.usefixtures("_otlp")
async def test_every_query_of_every_board_and_rule_returns_data(
    tmp_path: Path,
    start_exporter: StartExporter,
    start_forge: StartForge,
    external_tool: FindTool,
) -> None:
    folder = tmp_path / "prometheus"
    shutil.copytree(stack_folder() / "prometheus", folder)
    shutil.copytree(GENERATED / "rules", tmp_path / "prometheus-rules")
    home = tmp_path / "home"
    home.mkdir()
    asked = [one for name in NAMES for one in board_queries(name)]
    asked += [
        Asked(f"rule {one.name}", one.name, frozenset(m.name for m in one.expr.metrics)) for one in RECORDINGS
    ]
    asked += [
        Asked(f"alert {one.name} reads {selector}", selector, frozenset(m.name for m in one.expr.metrics))
        for one in ALERTS
        for selector in one.expr.selectors
    ]
    wanted = [one for one in asked if not excused(one)]
    assert {one.where for one in asked} >= QUIET.keys(), "an entry of QUIET names no query"

    async with (
        Simulator(SimConfig(scenario="crash+agent+burst+malformed", speed=4.0, home=home)) as sim,
        running_tap(sim) as (tap_url, reports_url),
    ):
        exporter = await start_exporter(
            dataclasses.replace(daemon("box", sim.url, home=home), tap_url=reports_url, site="berlin"),
            gpus=Working(SLOWED_GPUS, xids={("GPU-0000", 79): 2}),
            host=Host(HOST, {9000: "Xorg"}),
        )
        policy(tmp_path / "state", tmp_path / "mcp.json")
        forge = await start_forge(sim, scope="admin", state=tmp_path / "state")
        for part, address in (("exporter", exporter.url), ("actions", forge.url)):
            targets = [{"targets": [address.removeprefix("http://")]}]
            (folder / "targets" / f"{part}.json").write_text(json.dumps(targets))
        async with (
            running(program(folder), log_file=tmp_path / "log") as url,
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
        ):
            assert url is not None
            prometheus = Prometheus(http, url)
            await live_through_everything(sim, prometheus)
            await press_forge(forge, sim)
            await keep_as_desired(forge)
            await press_toolchain(forge)
            sim.faults.send_raw('{"type":"communicationWarning","warning":"seeded"}')
            async with caller(forge) as client:

                async def beat() -> None:
                    await client.call_tool("echo", {"text": "long " * 1000})
                    await ask_through(http, tap_url)

                unanswered = await settle(wanted, prometheus, beat=beat)
            assert not unanswered, "\n".join(f"{one.where}: {one.promql}" for one in unanswered)
            await assert_lists_are_true(prometheus, [one for one in asked if excused(one)])
            await assert_variables_have_values(prometheus)
            await assert_rules_are_healthy(prometheus)
            shown = await answered(prometheus.series)
            killed = await press(forge.http, "forge", "Eject all", {"daemon": "box"})
            assert (await forge.done(killed))["state"] == "done"
    # Last, so that a host without Grafana's packages has checked all the rest before it says that it skips this.
    external_tool("@grafana/data")
    found, judged = await faults(external_tool("node"), shown)
    assert not found, "\n".join(found)
    assert judged > MOST_PANELS


async def ask_through(http: httpx.AsyncClient, tap_url: str) -> None:
    """Let two clients chat through the tap, one with a stream, one with a model that there is none of."""
    for client, path, body in (
        ("ci", "responses", {"model": "qwen/qwen3-8b", "stream": True, "input": "Think about it."}),
        ("chat", "responses", {"model": "no/such-model", "input": "Nothing"}),
        ("chat", "there-is-no-such-thing", {}),
    ):
        headers = {"authorization": f"Bearer {key_of(client)}"}
        await http.post(f"{tap_url}/v1/{path}", json=body, headers=headers)


async def settle(
    wanted: list[Asked], prometheus: Prometheus, beat: Callable[[], Awaitable[object]]
) -> list[Asked]:
    """Ask until all is answered or it has been long enough; what was answered once is not asked again.

    `beat` is done between: tools are called again and again.
    """
    clock: Callable[[], float] = asyncio.get_running_loop().time
    deadline = clock() + SETTLED_S
    while wanted and clock() < deadline:
        wanted = await prometheus.still_unanswered(wanted)
        await beat()
        await asyncio.sleep(0.5)  # Prometheus scrapes by its own clock
    return wanted


async def assert_lists_are_true(prometheus: Prometheus, asked: list[Asked]) -> None:
    answered = [one.where for one in asked if one.where in QUIET and await prometheus.answers(one.promql)]
    assert not answered, "these return data now: take them off the list QUIET"
    named = {metric for one in asked for metric in one.metrics}
    served = [name for name in NOT_SERVED if await prometheus.answers(f'{{__name__=~"{name}(_count)?"}}')]
    assert not served, "these are served now: take them off the list NOT_SERVED"
    assert NOT_SERVED.keys() <= named, "these excuse nothing: take them off the list NOT_SERVED"


async def assert_variables_have_values(prometheus: Prometheus) -> None:
    for name in NAMES:
        for where, query, label in variable_queries(name):
            found = (await prometheus.get("query", query=query))["result"]
            assert any(one["metric"].get(label) for one in found), where


async def assert_rules_are_healthy(prometheus: Prometheus) -> None:
    groups = (await prometheus.get("rules"))["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert found.keys() == {one.name for one in (*RECORDINGS, *CAUSE_RULES)} | {one.name for one in ALERTS}
    unwell = {name: rule.get("lastError") for name, rule in found.items() if rule["health"] != "ok"}
    assert not unwell
