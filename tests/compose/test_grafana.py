"""Grafana's provisioning, settings and plugin: every name one file uses is one that another defines."""

import configparser
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemonpulse.demo import stack
from dashboards.kit.variables import FIXED_UIDS
from exporter.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "compose" / "grafana"
BOARDS = sorted((ROOT / "dashboards" / "generated").glob("*.json"))
SOURCES_TEXT = (GRAFANA / "provisioning" / "datasources" / "daemonpulse.yaml").read_text(encoding="utf-8")
SOURCES: dict[str, dict[str, Any]] = {
    source["uid"]: source for source in yaml.safe_load(SOURCES_TEXT)["datasources"]
}
PLUGIN = GRAFANA / "plugins" / "daemonpulse-actions-datasource"
PLUGIN_JSON = json.loads((PLUGIN / "plugin.json").read_text(encoding="utf-8"))
SERVICE = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8"))["services"][
    "grafana"
]

# Looked up in grafana/grafana: docs/sources/datasources/{prometheus,loki,alertmanager} and
# tempo/configure-tempo-data-source/provision.md.
JSON_KEYS = {
    "prometheus": {"httpMethod", "timeInterval", "exemplarTraceIdDestinations"},
    "alertmanager": {"implementation", "handleGrafanaManagedAlerts"},
    "tempo": {"tracesToLogsV2", "tracesToMetrics", "nodeGraph"},
    "loki": {"derivedFields"},
    "daemonpulse-actions-datasource": set[str](),
}


def ini() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(GRAFANA / "grafana.ini", encoding="utf-8")
    return parser


def named_uids(value: Any) -> Iterator[str]:
    """Every datasourceUid anywhere below."""
    if isinstance(value, dict):
        for key, own in value.items():
            if key == "datasourceUid":
                yield own
            yield from named_uids(own)
    elif isinstance(value, list):
        for own in value:
            yield from named_uids(own)


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_datasource_a_board_chooses_is_provisioned_with_its_type(board: Path) -> None:
    variables = json.loads(board.read_text(encoding="utf-8"))["templating"]["list"]
    chosen = [variable for variable in variables if variable["type"] == "datasource"]
    assert chosen
    for variable in chosen:
        assert SOURCES[variable["current"]["value"]]["type"] == variable["query"]


def test_the_fixed_uids_are_those_of_the_boards() -> None:
    assert set(FIXED_UIDS.values()) == SOURCES.keys() - {"daemonpulse-alertmanager"}


def test_links_between_datasources_lead_somewhere() -> None:
    found = list(named_uids(list(SOURCES.values())))
    assert len(found) == 4
    assert set(found) <= SOURCES.keys()


@pytest.mark.parametrize("uid", SOURCES)
def test_a_datasource_is_fixed_and_its_settings_are_documented_ones(uid: str) -> None:
    source = SOURCES[uid]
    assert (source["access"], source["editable"]) == ("proxy", False)
    assert set(source.get("jsonData", {})) == JSON_KEYS[source["type"]]


def test_a_dollar_is_a_variable_of_the_service_or_doubled() -> None:
    plain = re.findall(r"(?<!\$)\$(?!\$|__file\{)(\w+)", "\n".join(_without_comments(SOURCES_TEXT)))
    assert plain
    assert set(plain) <= SERVICE["environment"].keys()
    assert set(plain) == {f"{name.upper()}_URL" for name in stack.GRAFANA_SOURCES}


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("jump", ["tracesToLogsV2", "tracesToMetrics"])
def test_a_jump_from_a_span_looks_around_it(jump: str) -> None:
    """A span may be shorter than the interval between two scrapes: its own range would show an empty graph."""
    told = SOURCES["daemonpulse-tempo"]["jsonData"][jump]
    assert re.fullmatch(r"-\d+m", told["spanStartTimeShift"])
    assert re.fullmatch(r"\d+m", told["spanEndTimeShift"])


def test_the_link_to_metrics_asks_for_one_there_is() -> None:
    queries = SOURCES["daemonpulse-tempo"]["jsonData"]["tracesToMetrics"]["queries"]
    names = {metric.name for metric in CATALOGUE}
    for query in queries:
        [found] = re.findall(r"llmster_\w+", query["query"])
        assert found.removesuffix("_bucket") in names


def test_the_token_is_a_file_the_service_has() -> None:
    for key, name in (("token", "token"), ("textToken", "text-token")):
        token = SOURCES["daemonpulse-actions"]["secureJsonData"][key]
        folder = re.fullmatch(rf"\$__file\{{(.*)/{name}\}}", token)
        assert folder is not None
        assert f"token:{folder[1]}:ro" in SERVICE["volumes"]


def test_buttons_may_post_where_the_boards_do_and_nowhere_else() -> None:
    glob = ini()["security"]["actions_allow_post_url"]
    # Without separators, as Grafana compiles it (pkg/middleware/validate_action_url.go), ** and * match alike.
    pressed = [
        url.replace("${actions}", FIXED_UIDS["actions"])
        for board in BOARDS
        for url in re.findall(r'"url": "(/api/datasources/proxy/[^"]*)"', board.read_text(encoding="utf-8"))
    ]
    assert pressed
    assert all(fnmatchcase(url, glob) for url in pressed)
    for other in ("/api/datasources/proxy/uid/daemonpulse-prometheus/api/v1/query", "/api/admin/users"):
        assert not fnmatchcase(other, glob)


def test_strangers_look_at_most_and_the_audit_learns_who_pressed() -> None:
    settings = ini()
    assert settings["auth.anonymous"]["enabled"] == "false"
    assert settings["auth.anonymous"]["org_role"] == "Viewer"
    assert settings["dataproxy"]["send_user_header"] == "true"
    assert settings["users"]["allow_sign_up"] == "false"


def test_only_our_own_plugin_may_be_unsigned_and_none_is_fetched() -> None:
    plugins = ini()["plugins"]
    assert plugins["allow_loading_unsigned_plugins"] == PLUGIN_JSON["id"] == PLUGIN.name
    # A bundled plugin that Grafana 13 tries to update on a read-only disk is lost: grafana/grafana#132528.
    assert (plugins["preinstall_disabled"], plugins["preinstall_auto_update"]) == ("true", "false")


def test_the_plugins_files_are_there() -> None:
    assert (PLUGIN / "module.js").is_file()
    for logo in PLUGIN_JSON["info"]["logos"].values():
        assert (PLUGIN / logo).is_file()


def test_the_boards_are_read_from_where_they_are_mounted() -> None:
    file = GRAFANA / "provisioning" / "dashboards" / "daemonpulse.yaml"
    providers = yaml.safe_load(file.read_text(encoding="utf-8"))["providers"]
    for provider, made in zip(providers, ("generated", "runbooks"), strict=True):
        assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
        mounted = SERVICE["environment"][provider["options"]["path"].removeprefix("$")]
        assert f"../dashboards/{made}:{mounted}:ro" in SERVICE["volumes"]
    mounted = SERVICE["environment"]["DAEMONPULSE_BOARDS"]
    home = SERVICE["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.removeprefix(mounted + "/") in {board.name for board in BOARDS}


def test_the_demo_gives_grafana_the_same_files_and_its_own_addresses(tmp_path: Path) -> None:
    urls = {"prometheus": "http://127.0.0.1:1", "actions": "http://127.0.0.1:2"}
    program = stack.grafana(tmp_path, urls=urls, token_file=tmp_path / "the-token")
    told = program.environment(3333)
    assert (told["PROMETHEUS_URL"], told["ACTIONS_URL"]) == (urls["prometheus"], urls["actions"])
    assert (told["TEMPO_URL"], told["GF_SERVER_HTTP_ADDR"]) == ("", "127.0.0.1")
    assert Path(told["DAEMONPULSE_BOARDS"]) == ROOT / "dashboards" / "generated"
    assert Path(told["DAEMONPULSE_RUNBOOKS"]) == ROOT / "dashboards" / "runbooks"
    provisioning = Path(told["GF_PATHS_PROVISIONING"])
    written = (provisioning / "datasources" / "daemonpulse.yaml").read_text(encoding="utf-8")
    expected = SOURCES_TEXT.replace("/run/daemonpulse/token", str(tmp_path / "the-token"))
    assert written == expected.replace("/run/daemonpulse/text-token", str(tmp_path / "text-token"))
    assert (Path(told["GF_PATHS_PLUGINS"]) / PLUGIN_JSON["id"] / "module.js").is_file()
