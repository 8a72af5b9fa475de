"""`python -m tests.compose.fresh_root venv|deb|image`: from nothing to an exporter that a Prometheus scrapes.

venv and deb make a Debian by debootstrap in a folder, install DaemonPulse there the way docs/INSTALL.md says, and start
a simulated daemon and an exporter in it by hand; image builds the image and starts both in containers. A Prometheus
outside then stores what they say. Debian needs root, debootstrap, Debian's mirror, and for the venv way PyPI; the image
needs a Docker engine on this host, and its base (or DAEMONPULSE_TEST_IMAGE, the name of one that was built).
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from daemonpulse.demo import stack
from daemonpulse.demo.programs import free_port, running

ROOT = Path(__file__).parents[2]
RELEASES = {"bookworm": (3, 11), "trixie": (3, 13)}
"""Debian 12 and 13, and the Python of each: a package made with one installs on one of them."""
START_S = 120


@dataclass(frozen=True, slots=True)
class Debian:
    """A Debian in a folder."""

    folder: Path

    def command(self, *words: str | Path, user: str = "root") -> list[str]:
        """Give the command that runs `words` in it, with /proc for as long as it runs."""
        inside = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        group = {"nobody": "nogroup"}.get(user, user)
        as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", inside, str(self.folder)),
            *([] if user == "root" else as_user),
            *map(str, words),
        ]

    def run(
        self, *words: str | Path, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        ran = subprocess.run(
            self.command(*words, user=user),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not check or ran.returncode == 0, f"{words}: {ran.stdout}{ran.stderr}"
        return ran

    @contextlib.contextmanager
    def started(self, *words: str | Path, user: str = "root") -> Iterator[subprocess.Popen[str]]:
        """Run a command in it until the end of the block."""
        process = subprocess.Popen(
            self.command(*words, user=user), env=environment(), text=True, stderr=subprocess.PIPE
        )
        try:
            yield process
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
            assert "Traceback" not in said, said

    def path(self, path: str) -> Path:
        """Say where a path of it is here."""
        return self.folder / path.removeprefix("/")


def environment() -> dict[str, str]:
    """Give what a login would, and what this host tells pip about mirrors and certificates."""
    certificates = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("PIP_") or key.endswith("_proxy") or key in certificates
    }
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": "/root",
    } | kept


def release_of_this_python() -> str | None:
    """Name the Debian on which a package that this Python makes installs."""
    return next((name for name, python in RELEASES.items() if python == sys.version_info[:2]), None)


def bare(folder: Path, release: str) -> Debian:
    """Make a bare Debian; the one that was made first is kept and copied."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daemonpulse-tests" / release
    if not cache.is_dir():
        cache.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache.parent))
        made.chmod(0o755)
        subprocess.run(
            ["debootstrap", "--variant=minbase", release, made], check=True, stdout=subprocess.DEVNULL
        )
        made.rename(cache)
    subprocess.run(["cp", "-a", "--reflink=auto", cache, folder], check=True)
    debian = Debian(folder)
    lend_network(debian)
    debian.path("/usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # nothing is started in it
    debian.path("/usr/sbin/policy-rc.d").chmod(0o755)
    debian.run("apt-get", "-qq", "update")
    return debian


def lend_network(debian: Debian) -> None:
    """Let it reach names, mirrors and PyPI as this host does."""
    for file in map(Path, ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")):
        if file.is_file():
            debian.path(str(file.parent)).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, debian.path(str(file)))


def install_venv(debian: Debian) -> None:
    """Install as docs/INSTALL.md says under "Only the exporter": a wheel of this checkout, by hashes."""
    debian.run("apt-get", "-qq", "install", "--no-install-recommends", "-y", "python3-venv")
    lend_network(debian)  # ca-certificates came with it, and knows only public authorities
    here = debian.path("/root")
    wheel: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        here,
        ROOT,
    ]
    subprocess.run(wheel, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(ROOT / "compose" / "hashes.txt", here)
    [made] = here.glob("*.whl")
    debian.run("python3", "-m", "venv", "/opt/daemonpulse")
    pip = ("/opt/daemonpulse/bin/pip", "install", "-q")
    debian.run(*pip, "--require-hashes", "-r", "/root/hashes.txt")
    debian.run(*pip, "--no-deps", f"/root/{made.name}")


def install_deb(debian: Debian, package: Path) -> None:
    """Install a package with what it depends on."""
    shutil.copy(package, debian.path("/root"))
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    debian.run("apt-get", "-qq", "install", "--no-install-recommends", "-y", *keep, f"/root/{package.name}")


@contextlib.contextmanager
def watched(debian: Debian, *, user: str) -> Iterator[str]:
    """Start a simulated daemon and an exporter by hand, and give the exporter's URL."""
    daemon, port = free_port(), free_port()
    exporter = ["/opt/daemonpulse/bin/daemonpulse", "exporter", "--listen", f"127.0.0.1:{port}"]
    with (
        debian.started("/opt/daemonpulse/bin/llmster-sim", "--port", str(daemon), user=user),
        serving(debian, *exporter, "--daemon-url", f"http://127.0.0.1:{daemon}", user=user, port=port) as url,
    ):
        yield url


@contextlib.contextmanager
def serving(debian: Debian, *words: str, user: str, port: int) -> Iterator[str]:
    """Start a service, wait until it answers, and give its URL."""
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_S
    with debian.started(*words, user=user) as process:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/healthz", trust_env=False).is_success:
                    break
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.2)  # another process starts
        yield url


async def scraped(targets: Sequence[str], query: str) -> list[dict[str, Any]]:
    """Let a Prometheus scrape, and give the first answer to a query that is not empty."""
    with tempfile.TemporaryDirectory() as folder:
        program = stack.prometheus(Path(folder), targets=list(targets), alertmanager=None)
        async with (
            running(program, log_file=Path(folder) / "log") as url,
            asyncio.timeout(START_S),
            httpx.AsyncClient(trust_env=False) as http,
        ):
            while True:
                answer = (await http.get(f"{url}/api/v1/query", params={"query": query})).json()
                found: list[dict[str, Any]] = answer["data"]["result"]
                if found:
                    return found
                await asyncio.sleep(0.5)


def main(way: str, release: str) -> None:
    """Go one way."""
    with contextlib.ExitStack() as stack:
        if way == "image":
            from tests.compose import docker_engine

            url = stack.enter_context(docker_engine.watched(docker_engine.build()))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fresh-root-")))
            debian = bare(folder / "debian", release)
            if way == "deb":
                build = [ROOT / "compose" / "packages" / "build", folder]
                subprocess.run(build, check=True, env=os.environ | {"PYTHON": sys.executable})
                [package] = folder.glob("*.deb")
                install_deb(debian, package)
            else:
                install_venv(debian)
            url = stack.enter_context(watched(debian, user="nobody" if way == "venv" else "daemonpulse"))
        print(json.dumps(asyncio.run(scraped([url], "llmster_up == 1"))))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("way", choices=("venv", "deb", "image"))
    arguments.add_argument(
        "--release", choices=tuple(RELEASES), default=release_of_this_python() or "bookworm"
    )
    chosen = arguments.parse_args()
    main(chosen.way, chosen.release)
