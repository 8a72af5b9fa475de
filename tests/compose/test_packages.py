"""The OS packages by their recipe: what is made for them, and what their scripts do. Installed: test_fresh_root.py."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from actions.settings import load as load_actions
from daemonpulse.cli import main
from exporter.settings import load as load_exporter
from exporter.tap.settings import load as load_tap

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "compose" / "packages"
RECIPE: dict[str, Any] = yaml.safe_load((PACKAGES / "nfpm.yaml").read_text(encoding="utf-8"))
CONTENTS: dict[str, dict[str, Any]] = {one["dst"]: one for one in RECIPE["contents"]}


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    subprocess.run(
        [sys.executable, PACKAGES / "files.py", folder],
        env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
        check=True,
        timeout=60,
    )
    return folder


def names(command: click.Command, *path: str) -> list[str]:
    below = getattr(command, "commands", {})
    return ["-".join(path), *(name for key, one in below.items() for name in names(one, *path, key))]


def test_every_command_has_a_man_page_that_says_in_one_line_what_it_does(made: Path) -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (made / "man").iterdir()}
    assert pages.keys() == set(names(main, "daemonpulse"))
    for name, page in pages.items():
        [line] = re.findall(r"\.SH NAME\n(.*)", page)
        assert line.replace("\\-", "-").startswith(f"{name} - "), name
        assert not line.endswith("..."), name
        assert "\x08" not in page, name
        assert page.count(".nf\n") == page.count(".fi\n"), name
        assert '"1970-01-01"' in page, "the date is that of the release"
    assert ".nf\nNew here?" in pages["daemonpulse"]


@pytest.mark.parametrize(
    ("service", "load"), [("exporter", load_exporter), ("actions", load_actions), ("tap", load_tap)]
)
def test_a_settings_file_holds_every_setting_as_a_comment_that_may_be_uncommented(
    made: Path, service: str, load: Any
) -> None:
    text = (made / "etc" / f"{service}.env").read_text(encoding="utf-8")
    assert all(line.startswith("#") for line in text.splitlines() if line)
    told = dict(re.findall(r"(?m)^#(DAEMONPULSE_\w+)=(.*)$", text))
    assert len(told) > 8
    load({}, {key: value for key, value in told.items() if value})
    unit = (ROOT / "compose" / "systemd" / f"daemonpulse-{service}.service").read_text(encoding="utf-8")
    assert f"EnvironmentFile=-/etc/daemonpulse/{service}.env" in unit
    assert "/etc/daemonpulse/" in CONTENTS
    assert CONTENTS["/etc/daemonpulse/"]["type"] == "config|noreplace", "an upgrade leaves it as it is"


def test_completion_is_made_for_three_shells(made: Path) -> None:
    for name in ("daemonpulse", "_daemonpulse", "daemonpulse.fish"):
        assert "_DAEMONPULSE_COMPLETE" in (made / "completion" / name).read_text(encoding="utf-8")
        for packager in ("deb", "rpm"):
            [where] = [
                dst
                for dst, one in CONTENTS.items()
                if one.get("src") == f"${{STAGE}}/completion/{name}"
                and one.get("packager", packager) == packager
            ]
            assert where.endswith(f"/{name}")


def test_every_file_of_the_recipe_is_there_and_its_place_is_absolute() -> None:
    for where, one in CONTENTS.items():
        assert where.startswith("/")
        source = one.get("src", "")
        if source and not source.startswith(("$", "/")):
            assert list(ROOT.glob(source)), source
    scripts = {path for kind in RECIPE["overrides"].values() for path in kind["scripts"].values()}
    assert {Path(path).name for path in scripts} == {"postinstall", "preremove", "postremove"}
    for path in scripts:
        subprocess.run(["sh", "-n", ROOT / path], check=True)


def calls(script: str, argument: str, folder: Path, *, user_exists: bool) -> list[str]:
    """Run a package's script on programs that only note how they were called."""
    notes = folder / "notes"
    for name in ("useradd", "userdel", "install", "rm", "systemctl"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{notes}\n')
    (folder / "getent").write_text(f"#!/bin/sh\nexit {0 if user_exists else 2}\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    notes.touch()
    subprocess.run(["/bin/sh", PACKAGES / script, argument], env={"PATH": str(folder)}, check=True)
    return [line for line in notes.read_text().splitlines() if not line.startswith("systemctl")]


@pytest.mark.parametrize("argument", ["configure", "1"], ids=["dpkg", "rpm"])
def test_an_installation_makes_the_user_and_its_folder(tmp_path: Path, argument: str) -> None:
    made = calls("postinstall", argument, tmp_path, user_exists=False)
    assert made[0].startswith("useradd --system --user-group --no-create-home")
    if not Path("/var/lib/daemonpulse").exists():
        assert made[1] == "install -d -o daemonpulse -g daemonpulse -m 0700 /var/lib/daemonpulse"


@pytest.mark.parametrize("argument", ["abort-upgrade", "triggered", "failed-upgrade"])
def test_nothing_is_done_when_nothing_was_installed(tmp_path: Path, argument: str) -> None:
    assert calls("postinstall", argument, tmp_path, user_exists=False) == []


def test_an_upgrade_leaves_the_user(tmp_path: Path) -> None:
    assert not [line for line in calls("postinstall", "2", tmp_path, user_exists=True) if "user" in line]


@pytest.mark.parametrize("argument", ["remove", "upgrade", "0", "1", "abort-install"])
def test_a_removal_leaves_state_and_settings(tmp_path: Path, argument: str) -> None:
    assert calls("preremove", argument, tmp_path, user_exists=True) == []
    assert calls("postremove", argument, tmp_path, user_exists=True) == []


def test_a_purge_removes_state_settings_and_user(tmp_path: Path) -> None:
    assert calls("postremove", "purge", tmp_path, user_exists=True) == [
        "rm -rf /var/lib/daemonpulse /etc/daemonpulse",
        "userdel daemonpulse",
    ]
