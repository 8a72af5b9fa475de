"""The image in a real Docker engine: what it holds, what a container may do, and what outlives one."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from importlib import metadata

import httpx
import pytest

from tests.compose.docker_engine import BASE, Container, build, docker, once, running, watched
from tests.compose.fresh_root import scraped

pytestmark = [pytest.mark.external("docker engine"), pytest.mark.timeout(900)]
STATE, TOKEN = "/var/lib/daemonpulse", "/run/daemonpulse"
LOOPBACK = {"DAEMONPULSE_ACTIONS_GRAFANA_URL": "", "DAEMONPULSE_ACTIONS_PROMETHEUS_URL": ""}


@pytest.fixture(scope="module", name="image")
def _image() -> str:
    return build()


@pytest.fixture(name="volumes")
def _volumes() -> Iterator[dict[str, str]]:
    names = [f"daemonpulse-test-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        docker("volume", "create", name)
    yield dict(zip(names, (STATE, TOKEN), strict=True))
    docker("volume", "rm", "--force", *names)


def test_the_image_is_small_and_says_what_it_is(image: str) -> None:
    told = json.loads(docker("image", "inspect", image))[0]
    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "DaemonPulse"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert told["Config"]["User"] == "10001:10001"
    base = docker("image", "inspect", "--format", "{{.Size}}", BASE, check=False)
    if base and int(base) < 150_000_000:  # the official one, and not a stand-in
        assert told["Size"] < 200_000_000
    ours = docker("run", "--rm", "--entrypoint=du", image, "-s", "--apparent-size", "-m", "/opt/daemonpulse")
    assert int(ours.split()[0]) < 75


def test_the_image_holds_nothing_that_installs_or_compiles(image: str) -> None:
    found = docker(
        "run", "--rm", "--entrypoint=sh", image, "-c", "command -v pip gcc cc make git strip; true"
    )
    assert found == ""
    told = docker("run", "--rm", image, "--version")
    assert told.endswith(metadata.version("daemonpulse"))
    listed = json.loads(docker("run", "--rm", "--entrypoint=cat", image, "/opt/daemonpulse/sbom.cdx.json"))
    names = {one["name"] for one in listed["components"]}
    assert {"fastapi", "aiohttp"} <= names
    assert not names & {"grpcio", "pytest", "pip"}


def test_every_module_was_compiled_by_content_when_the_image_was_built(image: str) -> None:
    program = (
        "import pathlib, sys\n"
        "root = pathlib.Path('/opt/daemonpulse/lib')\n"
        "made = {p.parent.parent / (p.name.split('.')[0] + '.py') for p in root.rglob('__pycache__/*.pyc')}\n"
        "print([str(p) for p in root.rglob('exporter/**/*.py') if p not in made])\n"
        "print({int.from_bytes(p.read_bytes()[4:8], 'little') for p in root.rglob('*.pyc')})"
    )
    missing, flags = docker("run", "--rm", "--entrypoint=python3", image, "-c", program).splitlines()
    assert missing == "[]"
    assert flags == "{1}", "PEP 552: by hash, and not looked at again"


def test_the_simulator_serves_its_daemon_and_marks_its_gpus(image: str) -> None:
    with running(image, "simulator") as container:
        container.healthy()
        metrics = container.get("http://127.0.0.1:9810/metrics")
    assert re.search(r'^llmster_up\{daemon="local"\} 1\.0$', metrics, re.MULTILINE)
    assert 'source="simulated"' in metrics


def test_a_container_may_do_next_to_nothing(image: str) -> None:
    with running(image, "simulator") as container:
        container.healthy()
        status = dict(
            line.split(":\t", 1)
            for line in container.run("cat", "/proc/1/status").splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert status["NoNewPrivs"] == "1"
        for place in ("/", "/opt/daemonpulse", STATE, "/etc"):
            refused = container.run("sh", "-c", f"touch {place}/x 2>&1; true")
            assert "Read-only file system" in refused, place
        container.run("touch", "/tmp/x")  # noqa: S108 - its own
        host = container.state()["HostConfig"]
        assert (host["PidsLimit"], host["Memory"], host["Privileged"]) == (256, 512 * 2**20, False)


def test_a_stop_ends_each_service_by_itself(image: str, volumes: dict[str, str]) -> None:
    assert once(image, "token", volumes) == 0
    for name in ("exporter", "simulator", "actions"):
        with running(image, name, volumes=volumes, **LOOPBACK) as container:
            container.healthy()
            docker("stop", "--time", "30", container.name)
            assert container.state()["State"]["ExitCode"] == 0, f"{name}: not killed"


def ask(container: Container, token: str, path: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(
        container.get(f"http://127.0.0.1:9811{path}", Authorization=f"Bearer {token}")
    )
    return answer


def token_in(image: str, volumes: dict[str, str]) -> str:
    flags = [f"--volume={volume}:{place}" for volume, place in volumes.items()]
    return docker("run", "--rm", *flags, "--entrypoint=cat", image, f"{TOKEN}/token")


def test_the_token_is_made_once_survives_a_kill_and_a_newer_image(
    image: str, volumes: dict[str, str]
) -> None:
    assert once(image, "token", volumes) == 0
    token = token_in(image, volumes)
    with running(image, "actions", volumes=volumes, **LOOPBACK) as container:
        container.healthy()
        before = ask(container, token, "/v1/audit")
        docker("kill", "--signal=KILL", container.name)
    with running(image, "actions", volumes=volumes, **LOOPBACK) as container:
        container.healthy()
        assert before["entries"]
        verified = container.run("daemonpulse", "actions", "audit", "verify", "--state", STATE)
        assert verified.startswith("unbroken up to row ")
        newer = docker("commit", "--change", "LABEL org.opencontainers.image.version=9.9.9", container.name)
    try:
        assert once(newer, "token", volumes) == 0
        assert token_in(newer, volumes) == token, "Grafana keeps the token that it has"
        with running(newer, "actions", volumes=volumes, **LOOPBACK) as container:
            container.healthy()
            assert ask(container, token, "/v1/daemons")["daemons"]
    finally:
        docker("image", "rm", "--force", newer)


def test_a_lost_database_gives_a_new_token_instead_of_one_that_no_one_knows(
    image: str, volumes: dict[str, str]
) -> None:
    assert once(image, "token", volumes) == 0
    token = token_in(image, volumes)
    state = next(iter(volumes))
    docker("volume", "rm", state)
    docker("volume", "create", state)
    assert once(image, "token", volumes) == 0
    assert token_in(image, volumes) != token


def test_roles_are_those_of_the_token(image: str, volumes: dict[str, str]) -> None:
    assert once(image, "token", volumes, SCOPE="read") == 0
    token = token_in(image, volumes)
    with running(image, "actions", volumes=volumes, **LOOPBACK) as container:
        container.healthy()
        assert ask(container, token, "/v1/daemons")["daemons"]
        program = (
            "import sys, urllib.request as u, urllib.error as e\n"
            "r = u.Request(sys.argv[1], method='POST', headers={'Authorization': 'Bearer ' + sys.argv[2]})\n"
            "try: print(u.urlopen(r).status)\nexcept e.HTTPError as x: print(x.code)"
        )
        url = "http://127.0.0.1:9811/v1/daemons/local/models/eject-all"
        assert container.run("python3", "-c", program, url, token) == "403"


async def reached(url: str) -> bool:
    """Wait until something accepts connections there; the engine does once it has published a port."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(60):
            try:
                await http.get(f"{url}/healthz")
            except httpx.ConnectError:
                await asyncio.sleep(0.5)
                continue
            except httpx.TransportError:  # it is published, and nothing serves it yet
                pass
            return True
    return False


@pytest.mark.external("prometheus")
async def test_an_exporter_in_a_container_is_scraped(image: str) -> None:
    with watched(image) as url:
        if not await reached(url):
            pytest.skip("needs a Docker engine on this host: its published ports are not reached from here")
        [up] = await scraped([url], "llmster_up == 1")
    assert up["metric"]["daemon"] == "local"


def test_bad_settings_end_a_container_with_two_and_one_line(image: str) -> None:
    with running(image, "exporter", DAEMONPULSE_LISTEN="9810") as container:
        deadline = time.monotonic() + 60
        while container.state()["State"]["Running"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)  # the engine runs it
        assert container.state()["State"]["ExitCode"] == 2
        [line] = container.logs().splitlines()
        assert "DAEMONPULSE_LISTEN=9810: write host:port" in line
