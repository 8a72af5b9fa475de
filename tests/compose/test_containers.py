"""What the containers run, run here: the same commands and variables, with a port and folders of this host."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemonpulse.demo import stack
from daemonpulse.demo.programs import free_port, running
from tests.compose.test_compose_file import COMPOSE, SERVICES, VARIANTS

VARIANT = {**SERVICES, "simulator": VARIANTS["demo.yaml"]["exporter"]}

BIN = Path(sys.executable).parent


def with_defaults(text: str) -> str:
    """Fill in ${NAME:-default} as the compose file does when .env says nothing."""
    return re.sub(r"\$\{\w+:(?:-([^}]*)|\+[^}]*)\}", r"\1", text)


def environment(service: str, folder: Path, **changes: str) -> dict[str, str]:
    """A service's variables with their defaults, its folders moved."""
    own: dict[str, str] = VARIANT[service].get("environment", {})
    told = {key: with_defaults(value) for key, value in own.items()}
    moved = {key: value.replace("/var/lib/daemonpulse", f"{folder}/state") for key, value in told.items()}
    # Nothing that is not in the test's hands: no receivers, and no Prometheus.
    kept = {key: value for key, value in moved.items() if not key.startswith("OTEL_")}
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/nonexistent"} | kept | changes


def make_token(folder: Path, **changes: str) -> str:
    """Run the container that makes Grafana's token; returns what it left for Grafana."""
    shell, script = SERVICES["token"]["entrypoint"], SERVICES["token"]["command"][0]
    script = script.replace("$$", "$").replace("/run/daemonpulse", f"{folder}/run")
    (folder / "run").mkdir(exist_ok=True)
    subprocess.run(
        [*shell, script], env=environment("token", folder, **changes), cwd="/", check=True, timeout=30
    )
    return (folder / "run" / "token").read_text()


@contextmanager
def served(service: str, folder: Path, path: str, **changes: str) -> Iterator[str]:
    """Run a service's command and wait until its health check would pass."""
    entrypoint = VARIANT[service].get("entrypoint", ["daemonpulse"])
    words = [with_defaults(word) for word in VARIANT[service]["command"]]
    command: list[Any] = [BIN / entrypoint[0], *entrypoint[1:], *words]
    if "--daemon-port" in words:  # the containers' own would be in the way of another run on this host
        command += ["--daemon-port", "0"]
    port = free_port()
    told = {
        key: value.replace("PORT", str(port))
        for key, value in environment(service, folder, **changes).items()
    }
    process = subprocess.Popen(command, env=told, cwd="/", stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)  # another process starts
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=20)
        assert "Traceback" not in complaints


def test_grafanas_token_is_made_once_and_the_actions_api_takes_it(tmp_path: Path) -> None:
    token = make_token(tmp_path)
    assert re.fullmatch(r"dp_[a-z2-7]{8}_[\w-]{43}\n", token)
    assert make_token(tmp_path) == token, "a second start leaves it alone"
    with served("actions", tmp_path, "/healthz", DAEMONPULSE_ACTIONS_LISTEN=":PORT") as url:
        bearer = {"Authorization": f"Bearer {token.strip()}"}
        answer = httpx.get(f"{url}/v1/daemons", headers=bearer, trust_env=False)
        assert [daemon["daemon"] for daemon in answer.json()["daemons"]] == ["local"]
        assert httpx.get(f"{url}/v1/daemons", trust_env=False).status_code == 401


def test_the_actions_api_does_not_start_without_a_token_to_guard_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [BIN / "daemonpulse", *SERVICES["actions"]["command"]],
        env=environment("actions", tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "daemonpulse actions token new" in ended.stderr


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_grafanas_token_has_the_scope_that_was_asked_for(tmp_path: Path, scope: str) -> None:
    make_token(tmp_path, SCOPE=scope)
    listed = subprocess.run(
        [BIN / "daemonpulse", "actions", "token", "list", "--state", tmp_path / "state"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f" {scope} " in listed.stdout


def test_the_exporter_starts_with_its_variables_and_says_that_the_daemon_is_not_there(tmp_path: Path) -> None:
    with served("exporter", tmp_path, "/healthz", DAEMONPULSE_LISTEN=":PORT") as url:
        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    assert 'llmster_up{daemon="local"} 0' in metrics


@pytest.mark.external("prometheus")
async def test_the_demo_gives_the_stacks_prometheus_simulated_gpus_and_marks_them(tmp_path: Path) -> None:
    names = {"exporter"}
    [group] = json.loads((COMPOSE / "prometheus" / "targets" / "exporter.json").read_text(encoding="utf-8"))
    with served("simulator", tmp_path, "/healthz", DAEMONPULSE_LISTEN=":PORT") as url:
        scraped = [url for target in group["targets"] if target.partition(":")[0] in names]
        program = stack.prometheus(tmp_path, targets=scraped, alertmanager=None)
        async with running(program, log_file=tmp_path / "log") as prometheus, asyncio.timeout(60):
            assert prometheus is not None
            held = await stored(prometheus, "sum by (model) (llmster_instance_vram_bytes)")
            gpus = await stored(prometheus, "gpu_device_info")
    assert min(float(one["value"][1]) for one in held) > 0
    assert {one["metric"]["source"] for one in gpus} == {"simulated"}
    assert all(one["metric"]["name"].endswith(" (simulated)") for one in gpus)


async def stored(prometheus: str, query: str) -> list[dict[str, Any]]:
    """Ask Prometheus until it has scraped the answer."""
    async with httpx.AsyncClient(base_url=prometheus, trust_env=False) as http:
        while True:
            answer = (await http.get("/api/v1/query", params={"query": query})).json()
            found: list[dict[str, Any]] = answer["data"]["result"]
            if found:
                return found
            await asyncio.sleep(0.2)  # another process scrapes every 5 s
