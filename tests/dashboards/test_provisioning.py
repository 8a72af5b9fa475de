"""The boards fit the Grafana of the stack: every datasource they name is provisioned, every button is let through."""

import configparser
import fnmatch
import json
import re
from typing import Any

import pytest
import yaml

from dashboards.kit.targets import ACTIONS_TYPE, LIVE, RESOURCES
from dashboards.kit.variables import FIXED_UIDS, SOURCE_TYPES
from tests.dashboards.asked import NAMES, ROOT, board, panels

GRAFANA = ROOT / "compose" / "grafana"
PLUGIN = GRAFANA / "plugins" / ACTIONS_TYPE


def provisioned(kind: str) -> list[dict[str, Any]]:
    """Read all provisioned datasources, or all providers of boards."""
    files = sorted((GRAFANA / "provisioning" / kind).glob("*.yaml"))
    key = {"datasources": "datasources", "dashboards": "providers"}[kind]
    return [one for file in files for one in yaml.safe_load(file.read_text(encoding="utf-8"))[key]]


def test_every_datasource_of_the_boards_is_provisioned_under_its_uid_and_type() -> None:
    found = {one["uid"]: one["type"] for one in provisioned("datasources")}
    wanted = {uid: SOURCE_TYPES[name] for name, uid in FIXED_UIDS.items()}
    assert wanted.items() <= found.items()


def test_datasources_that_lead_to_one_another_exist() -> None:
    uids = {one["uid"] for one in provisioned("datasources")}
    text = json.dumps(provisioned("datasources"))
    led_to = set(re.findall(r'"datasourceUid": "([^"]+)"', text))
    assert led_to
    assert led_to <= uids


def test_boards_are_provisioned_from_files_that_nobody_edits_in_grafana() -> None:
    for provider in provisioned("dashboards"):
        assert provider["type"] == "file"
        assert provider["allowUiUpdates"] is False
        assert provider["options"]["path"]


@pytest.mark.parametrize("name", NAMES)
def test_every_button_of_a_board_is_let_through_by_grafana(name: str) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(GRAFANA / "grafana.ini", encoding="utf-8")
    globs = settings["security"]["actions_allow_post_url"].split()
    urls = [
        url.replace("${actions}", FIXED_UIDS["actions"])
        for url in re.findall(r"/api/datasources/proxy/uid/[^']+", str(panels(board(name))))
    ]
    for url in urls:
        # Grafana's globs match within one part of a path only where they have one *; ** is any number of parts.
        assert any(fnmatch.fnmatchcase(url, glob) for glob in globs), url
    if name in {"forge", "toolchain"}:
        assert urls


def test_no_other_datasource_may_be_posted_to() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(GRAFANA / "grafana.ini", encoding="utf-8")
    for glob in settings["security"]["actions_allow_post_url"].split():
        assert glob.startswith(f"/api/datasources/proxy/uid/{FIXED_UIDS['actions']}/v1/")


def test_the_plugin_gives_what_boards_show_while_it_runs() -> None:
    source = (PLUGIN / "module.js").read_text(encoding="utf-8")
    columns = re.search(r"const LIVE_COLUMNS = \{(.*?)\};", source, re.DOTALL)
    assert columns is not None
    assert set(LIVE["live"]) <= set(re.findall(r"(\w+): \w+,", columns[1]))
    assert set(LIVE["think"]) <= set(re.findall(r"name: '(\w+)', type: ", source))


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_plugin_gives_the_lists_and_columns_that_boards_ask_for(resource: str) -> None:
    source = (PLUGIN / "module.js").read_text(encoding="utf-8")
    listed = re.search(rf"^    {resource}: \{{\n.*?columns: \{{(.*?)\}}", source, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert set(RESOURCES[resource]) <= set(re.findall(r"(\w+): \w+,", listed[1]))
