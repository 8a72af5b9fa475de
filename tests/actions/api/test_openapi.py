"""Our own OpenAPI document, fuzzed: no request it allows, and none it forbids, brings the service down.

Runs in three states: nobody has a token yet, an operator asks with one, an administrator does. A tool server is there.
"""

import asyncio
import contextlib
import os
import queue
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from actions import app
from actions.app import Parts
from actions.store.database import Storage
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from llmster_sim.server import SimConfig, Simulator
from tests.actions.conftest import QUICK, SMALL, daemon, make_token
from tests.actions.conftest import settings as service_settings
from tests.actions.mcp.conftest import toolbox

pytestmark = pytest.mark.slow

MAX_QUERY = 60_000
"""A longer request line ends the connection, as the server's limit of 64 KiB says."""
EXAMPLES = int(os.environ.get("DAEMONPULSE_TEST_FUZZ_EXAMPLES", "12"))
"""Per operation; more find more, and CI has minutes, not hours."""


CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)

THINGS = {
    "daemon": ["box", "box", "other"],
    "server": ["toolbox", "toolbox", "other"],
    "tool": ["echo", "echo", "other"],
}
"""What is there, twice as often as what is not."""


class Background:
    """Simulator and service in a thread of their own: schemathesis asks synchronously."""

    def __init__(self, state: Path, *, scope: str | None) -> None:
        self.url = ""
        self.token = ""
        self._state = state
        self._scope = scope
        self._loop = asyncio.new_event_loop()
        self._ready: Any = None
        self._stop: asyncio.Event | None = None
        self._thread = Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._ready = queue.Queue()
        self._thread.start()
        self.url = self._ready.get(timeout=60)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=20)
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        (self._state / "mcp.json").write_text(
            '{"mcpServers": {"adopted": {"command": "true"}}}', encoding="utf-8"
        )
        gate = f'mcp_json = "{self._state / "mcp.json"}"\n' + toolbox()
        (self._state / "mcp.toml").write_text(gate, encoding="utf-8")
        if self._scope is not None:
            storage = await Storage.open(self._state)
            self.token = await make_token(storage, self._scope)
            await storage.close()
        async with Simulator(SimConfig(scenario="idle", speed=500.0)) as sim:
            loop = asyncio.get_running_loop()

            def ready(url: str, _parts: Parts) -> None:
                self._ready.put(url)

            task = asyncio.create_task(
                app.serve(
                    service_settings(self._state, daemon(sim.url)),
                    ready=ready,
                    gpus=simulated_gpus(sim.daemon, loop),
                    host=SimulatedHost(sim.daemon, loop),
                    timeouts=QUICK,
                )
            )
            await self._stop.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture(
    scope="module", params=[None, "operate", "admin"], ids=["nobody has a token", "operator", "administrator"]
)
def background(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Background]:
    with Background(tmp_path_factory.mktemp("state"), scope=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def document(background: Background) -> Any:
    return httpx.get(f"{background.url}/openapi.json", trust_env=False, timeout=30).json()


@pytest.fixture(scope="module")
def api(background: Background, document: Any) -> Any:
    """The schema, pointed at things that exist often enough that fuzzing gets past the 404s."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "wait":
                    parameter["schema"]["maximum"] = 1
                if parameter["in"] == "path" and parameter["name"] in THINGS:
                    parameter["schema"] = {"type": "string", "enum": THINGS[parameter["name"]]}
    names = [SMALL, "qwen/qwen3-8b", "nobody/nothing"]
    for schema in document["components"]["schemas"].values():
        for name in ("model", "instance_id"):
            if name in schema.get("properties", {}):
                schema["properties"][name]["examples"] = names
        if "wait" in schema.get("properties", {}):
            schema["properties"]["wait"]["maximum"] = 1
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=background.url)
    return schema


@pytest.mark.timeout(300)  # hundreds of requests, on a host that may be busy
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"]
)
def test_no_request_brings_it_down(api: Any, background: Background, mode: GenerationMode) -> None:
    headers = {"Authorization": f"Bearer {background.token}"} if background.token else {}
    asked: list[str] = []
    answers: Counter[int] = Counter()
    for found in api.get_all_operations():
        operation = found.ok()

        @seed(7)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            if not background.token and case.headers:
                case.headers.pop(
                    "Authorization", None
                )  # made-up tokens are refused, and nothing behind them is tried
            if len(urlencode(case.query or {}, doseq=True)) > MAX_QUERY:
                return
            response = case.call(headers=headers, timeout=30)
            answers[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        with contextlib.suppress(Unsatisfiable):  # some paths have nothing that could be forbidden
            ask()
            asked.append(operation.label)
    if mode is GenerationMode.NEGATIVE:
        assert len(asked) >= 10, asked
    else:
        paths = api.raw_schema["paths"]
        every = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
        assert set(asked) == every, every - set(asked)
    if mode is GenerationMode.POSITIVE:
        assert {200, 404} <= answers.keys(), "fuzzing that is refused everywhere proves little"
        assert background.token or answers[403]
    else:
        assert answers[422]


PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemResponse"}}}


def test_every_path_that_changes_something_documents_its_refusals(document: Any) -> None:
    problem = document["components"]["schemas"]["ProblemResponse"]
    assert set(problem["required"]) == {"type", "title", "status", "detail"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not path.startswith("/v1"):
                continue
            codes = set(operation["responses"])
            assert {"401", "403", "404", "422", "503"} <= codes, (method, path)
            for code in codes - {"200", "202"}:
                assert operation["responses"][code]["content"] == PROBLEM, (path, code)
            assert operation["security"], path


def test_the_document_names_the_scheme_and_every_parameter_in_the_query(document: Any) -> None:
    assert document["components"]["securitySchemes"]
    load = document["paths"]["/v1/daemons/{daemon}/models/load"]["post"]
    query = {parameter["name"] for parameter in load["parameters"] if parameter["in"] == "query"}
    assert "requestBody" not in load
    assert [one["name"] for one in load["parameters"] if one["in"] == "query" and one["required"]] == [
        "model"
    ]
    assert {"model", "ttl_seconds", "gpu_offload", "split", "disabled_gpus", "parallel", "replace"} <= query
    headers = {parameter["name"].lower() for parameter in load["parameters"] if parameter["in"] == "header"}
    assert headers == {"idempotency-key"}
