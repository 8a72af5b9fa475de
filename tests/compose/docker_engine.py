"""Runs the services of compose.yaml with plain `docker run`: the same command, variables and limits, no other part.

Knows of Compose only the keys that our own services use; a key that it does not know is an error.
"""

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from daemonpulse.demo.programs import free_port
from tests.compose.test_compose_file import COMPOSE, SERVICES, VARIANTS
from tests.compose.test_containers import with_defaults

IMAGE: Final = os.environ.get("DAEMONPULSE_TEST_IMAGE", "")
"""An image that was built before, where the base image cannot be pulled."""
BASE: Final = "python:3.11-slim-bookworm"
START_S: Final = 90
_LEFT_OUT: Final = {
    "image",
    "build",
    "networks",
    "depends_on",
    "extra_hosts",
    "secrets",
    "restart",
    "logging",
    "volumes",
}
"""What is Compose's own, or belongs to the parts that do not run here."""


def docker(*words: str, check: bool = True) -> str:
    """Run the client; give what it prints."""
    ran = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert not check or ran.returncode == 0, f"docker {' '.join(words)}: {ran.stderr}"
    return ran.stdout.strip()


def build() -> str:
    """Build the image, or skip where its base is not to be had."""
    if IMAGE:
        docker("image", "inspect", IMAGE)
        return IMAGE
    if not docker("image", "ls", "--quiet", BASE):
        pulled = subprocess.run(["docker", "pull", BASE], capture_output=True, text=True, check=False)
        if pulled.returncode:
            pytest.skip(
                f"needs the image {BASE}, which cannot be pulled here; DAEMONPULSE_TEST_IMAGE names a built one"
            )
    docker("build", "--file", str(COMPOSE / "Dockerfile"), "--tag", "daemonpulse:test", str(COMPOSE.parent))
    return "daemonpulse:test"


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was started."""

    name: str

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in it."""
        return docker("exec", self.name, *words, check=check)

    def get(self, url: str, **headers: str) -> str:
        """Ask a URL from inside, where nothing is published."""
        program = (
            "import sys, json, urllib.request as u\n"
            "request = u.Request(sys.argv[1], headers=json.loads(sys.argv[2]))\n"
            "print(u.urlopen(request, timeout=20).read().decode())"
        )
        return self.run("python3", "-c", program, url, json.dumps(headers))

    def state(self) -> Any:
        """Tell what the engine knows of it."""
        return json.loads(docker("inspect", self.name))[0]

    def logs(self) -> str:
        """Give what it printed."""
        ran = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return ran.stdout + ran.stderr

    def healthy(self) -> None:
        """Wait until its health check passes."""
        deadline = time.monotonic() + START_S
        while (state := self.state()["State"])["Health"]["Status"] != "healthy":
            assert state["Running"], self.logs()
            assert time.monotonic() < deadline, state["Health"]
            time.sleep(0.5)  # the engine checks


def service(name: str) -> dict[str, Any]:
    """Give a service; `simulator` is the exporter of the demo."""
    if name == "simulator":
        return {**SERVICES["exporter"], **VARIANTS["demo.yaml"]["exporter"]}
    return dict(SERVICES[name])


_FLAGS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "cap_drop": lambda value: [f"--cap-drop={one}" for one in value],
    "deploy": lambda value: [
        f"--cpus={value['resources']['limits']['cpus']}",
        f"--memory={value['resources']['limits']['memory'].lower()}",
        f"--pids-limit={value['resources']['limits']['pids']}",
    ],
    "entrypoint": lambda value: [f"--entrypoint={value[0]}"],
    "healthcheck": lambda _: ["--no-healthcheck"],
    "network_mode": lambda value: [f"--network={value}"],
    "read_only": lambda _: ["--read-only"],
    "security_opt": lambda value: [f"--security-opt={one}" for one in value],
    "tmpfs": lambda value: [f"--tmpfs={one}" for one in value],
}


def words_of(name: str, changes: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Translate a service to flags of `docker run`, and its command."""
    keys = service(name)
    variables = {key: with_defaults(value) for key, value in keys.pop("environment", {}).items()}
    # No receivers: they do not run here.
    told = {key: value for key, value in variables.items() if not key.startswith("OTEL_")} | dict(changes)
    words = [*keys.get("entrypoint", ())[1:], *keys.pop("command", ())]
    flags = [f"--env={key}={value}" for key, value in told.items()]
    for key, value in keys.items():
        if key not in _LEFT_OUT:
            flags += _FLAGS[key](value)
    return flags, [with_defaults(word).replace("$$", "$") for word in words]


@contextlib.contextmanager
def running(
    image: str,
    name: str,
    *,
    volumes: Mapping[str, str] | None = None,
    network: str = "none",
    more: Sequence[str] = (),
    **changes: str,
) -> Iterator[Container]:
    """Run a service, with `more` flags of `docker run`; it is removed at the end."""
    flags, command = words_of(name, changes)
    if not any(flag.startswith("--network=") for flag in flags):
        flags.append(f"--network={network}")
    flags += [f"--volume={volume}:{place}" for volume, place in (volumes or {}).items()]
    container = Container(docker("run", "--detach", *flags, *more, image, *command)[:12])
    try:
        yield container
    finally:
        docker("rm", "--force", container.name)


@contextlib.contextmanager
def watched(image: str) -> Iterator[str]:
    """Run a simulated daemon and an exporter beside it, and give the exporter's URL on the host of the engine."""
    network, port = f"daemonpulse-test-{uuid.uuid4().hex[:8]}", free_port()
    docker("network", "create", network)
    try:
        with (
            running(image, "simulator", network=network, more=["--network-alias=simulator"]),
            running(
                image,
                "exporter",
                network=network,
                more=[f"--publish=127.0.0.1:{port}:9810"],
                DAEMONPULSE_DAEMON_URL="http://simulator:1234",
            ),
        ):
            yield f"http://127.0.0.1:{port}"
    finally:
        docker("network", "rm", network)


def once(image: str, name: str, volumes: Mapping[str, str], **changes: str) -> int:
    """Run a service to its end; give its exit code."""
    with running(image, name, volumes=volumes, **changes) as container:
        return int(docker("wait", container.name))
