"""A bare Debian becomes a host with an exporter that is scraped: by a virtual environment and by the .deb."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from daemonpulse.demo.programs import free_port
from tests.compose import fresh_root
from tests.compose.fresh_root import ROOT, Debian
from tests.external import FindTool

pytestmark = [
    pytest.mark.external("debootstrap", "prometheus"),
    pytest.mark.timeout(1800),
]
STATE = "/var/lib/daemonpulse"


@pytest.fixture(name="debian")
def _debian(tmp_path: Path) -> Iterator[Debian]:
    """Give a bare Debian that has the Python that runs the tests: a package is made for one version of it."""
    release = fresh_root.release_of_this_python()
    if release is None:
        pytest.skip(f"needs a Python of {', '.join(fresh_root.RELEASES)}")
    yield fresh_root.bare(tmp_path / "debian", release)
    shutil.rmtree(tmp_path / "debian")  # half a gigabyte


@pytest.fixture(scope="module", name="packages")
def _packages(external_tool: FindTool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    external_tool("nfpm")
    folder = tmp_path_factory.mktemp("packages")
    build = [ROOT / "compose" / "packages" / "build", folder]
    subprocess.run(build, check=True, env=os.environ | {"PYTHON": sys.executable})
    return folder


@pytest.mark.parametrize("release", fresh_root.RELEASES)
async def test_a_venv_of_the_checkout_is_scraped(tmp_path: Path, release: str) -> None:
    debian = fresh_root.bare(tmp_path / "debian", release)
    fresh_root.install_venv(debian)
    with fresh_root.watched(debian, user="nobody") as url:
        [up] = await fresh_root.scraped([url], "llmster_up == 1")
    assert up["metric"]["daemon"] == "local"
    shutil.rmtree(tmp_path / "debian")


def test_the_deb_is_installed_scraped_upgraded_removed_and_purged(debian: Debian, packages: Path) -> None:
    [package] = packages.glob("*.deb")
    fresh_root.install_deb(debian, package)

    version = debian.run("daemonpulse", "--version").stdout
    assert f"_{version.split()[-1]}_" in package.name
    assert owner(debian, STATE) == ("daemonpulse", "daemonpulse", "700")
    assert owner(debian, "/etc/daemonpulse/actions.env") == ("root", "root", "640")
    assert installed_files(debian) >= {
        "/usr/lib/systemd/system/daemonpulse-exporter.service",
        "/usr/lib/systemd/system/daemonpulse-actions.service",
        "/usr/share/man/man1/daemonpulse-actions-load.1",
        "/usr/share/bash-completion/completions/daemonpulse",
    }
    assert debian.path("/usr/share/daemonpulse/dashboards").is_symlink()
    assert debian.run("sh", "-c", "ls /usr/share/daemonpulse/dashboards/overview.json").returncode == 0

    token = debian.run(
        *("daemonpulse", "actions", "token", "new", "--name", "me", "--state", STATE), user="daemonpulse"
    ).stdout
    with fresh_root.watched(debian, user="daemonpulse") as exporter, by_hand(debian, "actions") as actions:
        both = asyncio.run(fresh_root.scraped([exporter, actions], "count(up == 1) == 2"))
        [up] = asyncio.run(fresh_root.scraped([exporter], "llmster_up == 1"))
    assert (both[0]["value"][1], up["metric"]["daemon"]) == ("2", "local")

    settings = debian.path("/etc/daemonpulse/exporter.env")
    settings.write_text(mine := settings.read_text() + "DAEMONPULSE_LOG_LEVEL=debug\n")
    fresh_root.install_deb(debian, newer(package, packages))
    assert "0.9.9" in debian.run("dpkg-query", "-W", "daemonpulse").stdout
    assert settings.read_text() == mine
    listed = debian.run("daemonpulse", "actions", "token", "list", "--state", STATE, user="daemonpulse")
    assert token[3:11] in listed.stdout, "the token is known to the new version"

    debian.run("apt-get", "-qq", "remove", "-y", "daemonpulse")
    assert not debian.path("/opt/daemonpulse").exists()
    assert not debian.path("/usr/bin/daemonpulse").is_symlink()
    assert settings.read_text() == mine
    assert debian.path(f"{STATE}/actions.sqlite3").exists()

    debian.run("apt-get", "-qq", "purge", "-y", "daemonpulse")
    assert not debian.path("/etc/daemonpulse").exists()
    assert not debian.path(STATE).exists()
    assert debian.run("getent", "passwd", "daemonpulse", check=False).returncode == 2


@pytest.mark.external("rpm")
def test_the_rpm_holds_the_same_and_needs_what_there_is(
    debian: Debian, packages: Path, external_tool: FindTool
) -> None:
    [deb], [rpm] = packages.glob("*.deb"), packages.glob("*.rpm")
    fresh_root.install_deb(debian, deb)

    def ask(*words: str) -> list[str]:
        told = subprocess.run(
            [external_tool("rpm"), "-qp", *words, rpm], capture_output=True, text=True, check=True
        )
        return told.stdout.splitlines()

    as_fedora = {
        name.replace("/zsh/vendor-completions/", "/zsh/site-functions/")
        for name in files_of(debian, installed_files(debian))
    }
    assert files_of(debian, ask("--list")) == as_fedora
    assert {"/usr/bin/python3.11", "/usr/sbin/useradd"} <= set(ask("--requires"))
    assert {"/etc/daemonpulse/exporter.env", "/etc/daemonpulse/actions.env"} <= set(ask("--configfiles"))
    scripts = "\n".join(ask("--scripts"))
    assert all(part in scripts for part in ("useradd --system", "try-restart", "disable --now"))


@pytest.mark.external("rpm")
def test_the_rpm_is_installed_verified_scraped_upgraded_and_removed(
    debian: Debian, packages: Path, external_tool: FindTool
) -> None:
    """In a Debian, whose packages rpm does not know: what the .rpm needs is there as files."""
    [package] = packages.glob("*.rpm")
    [python] = {needed for needed in requirements(external_tool("rpm"), package) if "/python" in needed}
    debian.run("apt-get", "-qq", "install", "--no-install-recommends", "-y", Path(python).name)
    assert all(debian.path(needed).exists() for needed in requirements(external_tool("rpm"), package))

    def rpm(*words: str | Path, code: int = 0) -> str:
        command = [external_tool("rpm"), "--root", debian.folder, *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    said = rpm("--nodeps", "--install", package)
    assert not re.search("warning|error|scriptlet", said), said
    assert rpm("--verify", "--nodeps", "daemonpulse") == ""
    assert owner(debian, STATE) == ("daemonpulse", "daemonpulse", "700")
    made = ("daemonpulse", "actions", "token", "new", "--name", "me", "--state", STATE)
    token = debian.run(*made, user="daemonpulse").stdout
    with fresh_root.watched(debian, user="daemonpulse") as exporter:
        [up] = asyncio.run(fresh_root.scraped([exporter], "llmster_up == 1"))
    assert up["metric"]["daemon"] == "local"

    settings = debian.path("/etc/daemonpulse/exporter.env")
    settings.write_text(mine := settings.read_text() + "DAEMONPULSE_LOG_LEVEL=debug\n")
    rpm("--nodeps", "--upgrade", "--force", package)
    assert settings.read_text() == mine
    assert "/etc/daemonpulse/exporter.env" in rpm("--verify", "--nodeps", "daemonpulse", code=1)
    listed = debian.run("daemonpulse", "actions", "token", "list", "--state", STATE, user="daemonpulse")
    assert token[3:11] in listed.stdout

    rpm("--erase", "daemonpulse")
    assert not debian.path("/opt/daemonpulse").exists()
    assert not debian.path("/usr/bin/daemonpulse").is_symlink()
    assert settings.with_name("exporter.env.rpmsave").read_text() == mine
    assert debian.path(f"{STATE}/actions.sqlite3").exists()


def requirements(rpm: Path, package: Path) -> list[str]:
    told = subprocess.run([rpm, "-qp", "--requires", package], capture_output=True, text=True, check=True)
    return [line for line in told.stdout.splitlines() if line.startswith("/")]


def files_of(debian: Debian, names: Iterable[str]) -> set[str]:
    """Leave out folders, which only one of the two lists names."""
    return {name for name in names if debian.path(name).is_symlink() or not debian.path(name).is_dir()}


def installed_files(debian: Debian) -> set[str]:
    return set(debian.run("dpkg", "-L", "daemonpulse").stdout.splitlines()) - {"/."}


def owner(debian: Debian, path: str) -> tuple[str, ...]:
    return tuple(debian.run("stat", "-c", "%U %G %a", path).stdout.split())


def by_hand(debian: Debian, service: str) -> AbstractContextManager[str]:
    """Start what a unit starts, as its user and with its variables, on another port."""
    unit = debian.path(f"/usr/lib/systemd/system/daemonpulse-{service}.service").read_text()
    [start] = re.findall(r"(?m)^ExecStart=(.*)$", unit)
    [user] = re.findall(r"(?m)^User=(.*)$", unit)
    variables = [one.replace("%S", "/var/lib") for one in re.findall(r"(?m)^Environment=(.*)$", unit)]
    port = free_port()
    variables.append(f"DAEMONPULSE_ACTIONS_LISTEN=127.0.0.1:{port}")
    return fresh_root.serving(debian, "env", *variables, *start.split(), user=user, port=port)


def newer(package: Path, folder: Path) -> Path:
    """Make the package of a later version, whose settings file has another comment."""
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg-deb", "-R", package, unpacked], check=True)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.9.9", control.read_text()))
    with (unpacked / "etc" / "daemonpulse" / "exporter.env").open("a") as file:
        file.write("# A new setting.\n")
    later = folder / "later" / "daemonpulse_0.9.9.deb"
    later.parent.mkdir()
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--build", unpacked, later], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(unpacked)
    return later
