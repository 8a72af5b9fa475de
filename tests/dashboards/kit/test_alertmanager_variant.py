"""Buttons in a Grafana without our plugin: the boards, the datasource and the settings of docs/INSTALL.md, together."""

import configparser
import json
import re
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from daemonpulse.cli import main
from dashboards.kit.targets import ACTIONS_TYPE, LIVE, RESOURCES
from dashboards.kit.variables import FIXED_UIDS
from llmster_sim.server import Simulator
from tests.actions.conftest import SMALL, Forge, loaded
from tests.dashboards.asked import NAMES, ROOT, Json, board, panels
from tests.dashboards.grafana_proxy import GrafanaProxy
from tests.dashboards.pressing import pressed

INSTALL = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
ROW = {"daemon": "box", "model": SMALL, "instance_id": SMALL}


def example(language: str, word: str) -> str:
    """Find the one block of docs/INSTALL.md with that word."""
    [found] = [
        text for text in re.findall(rf"```{language}\n(.*?)```", INSTALL, flags=re.DOTALL) if word in text
    ]
    return str(found)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """Run the command of the page; give the boards by name."""
    folder = tmp_path_factory.mktemp("boards")
    words = example("sh", "--buttons").partition("#")[0].replace("--output out", f"--output {folder}").split()
    ran = CliRunner().invoke(main, words[1:])
    assert ran.exit_code == 0, ran.output
    texts = {name: (folder / f"{name}.json").read_text(encoding="utf-8") for name in NAMES}
    return {name: shown(json.loads(text)) for name, text in texts.items()}


def shown(data: Json) -> Json:
    """Put the uid for the variable of the datasource, as Grafana does."""
    text = json.dumps(data).replace("/uid/${actions}/", f"/uid/{FIXED_UIDS['actions']}/")
    found: Json = json.loads(text)
    return found


def grafana(forge: Forge, token: str, *, role: str) -> httpx.AsyncClient:
    """Open a Grafana with the datasource and the settings of the page, as somebody with that role."""
    sources: list[dict[str, Any]] = yaml.safe_load(example("yaml", "httpHeaderName1"))["datasources"]
    sources[0]["url"] = forge.url
    sources[0]["secureJsonData"]["httpHeaderValue1"] = sources[0]["secureJsonData"][
        "httpHeaderValue1"
    ].replace("dp_…", token)
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(example("ini", "actions_allow_post_url"))
    allowed = settings["security"]["actions_allow_post_url"]
    assert settings["dataproxy"]["send_user_header"] == "true"
    return httpx.AsyncClient(
        base_url="http://grafana.example",
        transport=GrafanaProxy(sources, allowed=allowed, user="ada", role=role),
        headers={"X-Grafana-Action": "1"},
    )


async def test_an_editor_loads_and_ejects_and_the_audit_names_her(
    built: dict[str, Json], forge: Forge, sim: Simulator
) -> None:
    async with grafana(forge, await forge.token("operate", name="grafana"), role="Editor") as http:
        for title, holds in (("Load model", True), ("Eject instance", False)):
            answer = await http.send(pressed(http, built["forge"], title, ROW))
            assert answer.status_code in {200, 202}, answer.text
            ended = await forge.done(answer)
            assert (ended["state"], ended["person"]) == ("done", "ada")
            assert (SMALL in loaded(sim)) is holds
        assert (await http.send(pressed(http, built["forge"], "Eject all", ROW))).is_success
    assert {entry["person"] for entry in await forge.audit("intent")} == {"ada"}


async def test_a_viewer_presses_and_nothing_happens(
    built: dict[str, Json], forge: Forge, sim: Simulator
) -> None:
    async with grafana(forge, await forge.token("operate", name="grafana"), role="Viewer") as http:
        answer = await http.send(pressed(http, built["forge"], "Load model", ROW))
    assert answer.status_code == 403
    assert SMALL not in loaded(sim)


async def test_an_action_may_go_nowhere_else(forge: Forge) -> None:
    async with grafana(forge, "dp_nothing", role="Admin") as http:
        for path in (
            "/api/admin/users",
            f"/api/datasources/proxy/uid/{FIXED_UIDS['prometheus']}/api/v1/query",
        ):
            assert (await http.post(path)).status_code == 405, path


def test_the_boards_need_nothing_of_the_plugin_and_differ_in_nothing_else(built: dict[str, Json]) -> None:
    notes = 0
    for name, data in built.items():
        assert ACTIONS_TYPE not in json.dumps(data)
        for shipped, own in zip(panels(shown(board(name))), panels(data), strict=True):
            same = ("id", "title", "description", "gridPos")
            assert [shipped[key] for key in same] == [own[key] for key in same]
            if own["type"] == "text":
                notes += 1
                elsewhere = ("daemonpulse actions", "/v1/audit", "daemonpulse top", "/v1/live/text")
                assert any(words in own["options"]["content"] for words in elsewhere)
            else:
                assert own == shipped
    assert notes == len(RESOURCES) + len(LIVE)


def test_the_checkouts_own_boards_keep_the_plugin() -> None:
    ran = CliRunner().invoke(main, ["dashboards", "build", "--buttons", "alertmanager"])
    assert ran.exit_code == 2
    assert "--buttons=alertmanager: give --output too" in ran.output
