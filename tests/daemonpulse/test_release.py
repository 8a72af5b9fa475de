"""What a release consists of: a wheel and an sdist that work outside the checkout."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACK = ("alertmanager", "grafana", "loki", "prometheus", "tempo")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds both, the wheel from the sdist, without a network; returns their folder."""
    folder = tmp_path_factory.mktemp("release")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs the wheel into a new environment; the packages it needs are lent by ours, so that none is fetched."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    [wheel] = release.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    [site] = folder.glob("lib/python3*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=installed,
        env={"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_wheel_holds_every_file_of_the_stack_and_no_test(release: Path) -> None:
    [wheel] = release.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in STACK:
        for file in (ROOT / "compose" / part).rglob("*"):
            if file.is_file():
                assert f"daemonpulse/stack/{file.relative_to(ROOT / 'compose')}" in names
    for made in ("dashboards/generated", "dashboards/generated/rules", "dashboards/runbooks"):
        assert {f"{made}/{file.name}" for file in (ROOT / made).iterdir() if file.is_file()} <= names
    tops = {name.partition("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert tops - info == {"exporter", "actions", "dashboards", "daemonpulse", "llmster_sim"}


def test_the_sdist_holds_the_tests_and_nothing_of_a_host(release: Path) -> None:
    [sdist] = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "tests/gate.py", "compose/compose.yaml", "docs/DESIGN.md"} <= names
    assert not [
        name for name in names if re.search(r"node_modules|judges/bin|\.venv|__pycache__|\.git/|\.env$", name)
    ]


def test_the_installed_command_knows_its_version(installed: Path) -> None:
    told = run(installed, "daemonpulse", "--version")
    assert told.stdout.strip().endswith(metadata.version("daemonpulse")), told.stderr
    where = run(installed, "python", "-c", "import daemonpulse; print(daemonpulse.__file__)")
    assert where.stdout.startswith(str(installed)), "it is the wheel that runs, not the checkout"


@pytest.mark.external("prometheus", "prometheus-alertmanager")
def test_the_installed_command_runs_the_demo_with_the_stacks_files(installed: Path) -> None:
    ended = run(installed, "daemonpulse", "demo", "--seconds", "5")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "and stored by Prometheus" in ended.stdout
    assert "alertmanager" in ended.stdout


def test_the_version_is_the_same_wherever_it_stands() -> None:
    version = metadata.version("daemonpulse")
    compose = (ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert f"image: daemonpulse:{version}\n" in compose
    assert f"image: daemonpulse:{version}\n" in (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
    plugin = ROOT / "compose" / "grafana" / "plugins" / "daemonpulse-actions-datasource" / "plugin.json"
    assert json.loads(plugin.read_text(encoding="utf-8"))["info"]["version"] == version
