import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NODE = ROOT / "tests" / "conformance" / "node"


def _show_command(folder: Path, readme: str) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return subprocess.run(
        [folder / ".ci" / "run", "--show-command"], capture_output=True, text=True, check=False, cwd="/"
    )


def test_ci_takes_its_test_command_from_a_fenced_line_of_the_readme(tmp_path: Path) -> None:
    readme = "Prose with -m tests.gate in it.\n\n```sh\npython3 -m venv v && v/bin/python -m tests.gate\nother\n```\n"
    result = _show_command(tmp_path, readme)
    assert result.returncode == 0
    assert result.stdout == "python3 -m venv v && v/bin/python -m tests.gate\n"


@pytest.mark.parametrize(
    ("readme", "complaint"),
    [
        ("v/bin/python -m tests.gate\n", "no fenced code line"),
        ("```\na -m tests.gate\nb -m tests.gate --only lint\n```\n", "more than one test command"),
    ],
    ids=["no fence", "two commands"],
)
def test_ci_refuses_a_readme_without_exactly_one_test_command(
    tmp_path: Path, readme: str, complaint: str
) -> None:
    result = _show_command(tmp_path, readme)
    assert result.returncode == 1
    assert complaint in result.stderr


def test_readme_shows_one_test_command_that_builds_its_own_environment() -> None:
    result = subprocess.run(
        [ROOT / ".ci" / "run", "--show-command"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("python3 -m venv .venv && ")


@pytest.mark.parametrize("project", [NODE, ROOT / "tests" / "dashboards" / "node"], ids=["sdk", "grafana"])
def test_node_lock_file_names_no_download_address_and_pins_every_package(project: Path) -> None:
    lock = json.loads((project / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert "registry" not in (project / "package.json").read_text(encoding="utf-8")


def test_node_lock_file_holds_the_judges_at_the_versions_the_design_names() -> None:
    lock = json.loads((NODE / "package-lock.json").read_text(encoding="utf-8"))
    packages = lock["packages"]
    assert packages["node_modules/@lmstudio/sdk"]["version"] == "2.0.0"
    assert packages["node_modules/@lmstudio/lms-isomorphic"]["version"] == "0.4.6"
