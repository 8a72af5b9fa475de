"""What every board must be: the rules of Grafana's dashboard-linter, the grid, the look, buttons, links."""

import re
from typing import Any

import pytest

from dashboards.build import BOARDS
from dashboards.kit.board import COLUMNS, NARROWEST, row
from dashboards.kit.panels import stat
from dashboards.kit.promql import Selector
from dashboards.kit.targets import Query
from exporter.catalogue import daemon as d
from tests.dashboards.asked import FOLD, NAMES, Json, board, panels, queries_of, variables

ALL = [(name, panel) for name in NAMES for panel in panels(board(name))]
IDS = [f"{name}/{panel['title']}" for name, panel in ALL]

every_board = pytest.mark.parametrize("name", NAMES)
every_panel = pytest.mark.parametrize(("name", "panel"), ALL, ids=IDS)


# dashboard-linter ----------------------------------------------------------------------------------------------------
@every_panel
def test_panel_has_title_description_unit_and_a_word_for_no_data(name: str, panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"], name
    assert len(panel["title"]) <= 40
    assert panel["description"].endswith(("?", "."))
    assert len(panel["description"]) <= 120
    assert defaults["unit"] or (panel["type"] == "table" and panel["datasource"]["type"] == "tempo")


@every_panel
def test_panel_asks_something_of_a_datasource_the_reader_chooses(name: str, panel: Json) -> None:
    known = variables(board(name))
    assert panel["targets"]
    for target in (panel, *panel["targets"]):
        source = target["datasource"]
        variable = known[source["uid"].removeprefix("${").removesuffix("}")]
        assert variable["type"] == "datasource"
        assert variable["query"] == source["type"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters))


@every_panel
def test_rates_use_the_rate_interval_or_the_whole_range(name: str, panel: Json) -> None:
    for target in queries_of(panel):
        # What ends with the range is the same at every point, and is read once.
        windows = set(re.findall(r"\[([^\]]+)\](?!\+| @ end)", target["expr"]))
        fixed = {"1m", "5m", "15m"}
        assert windows <= {"$__rate_interval", "$__range"} | fixed, name
        if not target["instant"]:
            assert windows <= {"$__rate_interval"} | fixed, f"a whole range at every point: {target['expr']}"


@every_panel
def test_counters_are_only_read_as_growth(name: str, panel: Json) -> None:
    for target in queries_of(panel):
        for match in re.finditer(r"\b\w+_(total|bucket|sum|count)\b(?=[{\[])", target["expr"]):
            before = target["expr"][: match.start()]
            assert before.endswith(("rate(", "increase(")), f"{name}: {match[0]}"


@every_panel
def test_legends_name_only_labels_the_result_has(name: str, panel: Json) -> None:
    for target in queries_of(panel):
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert all(label in target["expr"] or label in {"instance", "job", "host"} for label in used), name


@every_board
def test_board_is_not_editable_shares_its_crosshair_and_refreshes_no_faster_than_scrapes(name: str) -> None:
    data = board(name)
    assert data["editable"] is False
    assert data["graphTooltip"] == 1
    assert data["refresh"] == "30s"
    assert data["uid"] == f"daemonpulse-{name}"
    assert data["description"].endswith("?")


def test_board_titles_and_uids_are_unique() -> None:
    boards = [board(name) for name in NAMES]
    assert len({data["uid"] for data in boards}) == len({data["title"] for data in boards}) == 8


@every_board
def test_queries_use_every_variable_of_the_board(name: str) -> None:
    data = board(name)
    text = (
        str(data["panels"]) + str(data["annotations"]) + str([v["query"] for v in variables(data).values()])
    )
    for variable in variables(data):
        assert re.search(rf"\$\{{?{variable}\b", text), f"${variable} changes nothing"


@every_board
def test_boards_know_which_daemon_and_annotate_what_happened_there(name: str) -> None:
    data = board(name)
    assert "daemon" in variables(data)
    names = [note["name"] for note in data["annotations"]["list"]]
    assert names == ["Critical alerts", "Warnings", "Model loads", "Model unloads", "Restarts", "Versions"]


# The grid ------------------------------------------------------------------------------------------------------------
@every_board
def test_panels_do_not_overlap_and_fill_every_row(name: str) -> None:
    data = board(name)
    for part in (data["panels"], *(one["panels"] for one in data["panels"] if one.get("panels"))):
        assert_filled([one["gridPos"] for one in part])


def assert_filled(places: list[Json]) -> None:
    top = min(place["y"] for place in places)
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)), "two panels overlap"
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == COLUMNS * (bottom - top), "a row has a gap"
    assert all(place["w"] >= NARROWEST for place in places)


@pytest.mark.parametrize("one", BOARDS, ids=lambda one: one.name)
def test_the_answer_is_above_the_fold(one: Any) -> None:
    shown = {panel["title"]: panel["gridPos"] for panel in reversed(panels(board(one.name.lower())))}
    assert one.answer
    for title in one.answer:
        place = shown[title]
        assert place["y"] + place["h"] <= FOLD, f"{title} ends at {place['y'] + place['h']}"


@every_board
def test_panel_ids_are_unique(name: str) -> None:
    ids = [one["id"] for heading in board(name)["panels"] for one in (heading, *heading.get("panels", []))]
    assert len(ids) == len(set(ids))


def test_a_row_with_a_gap_or_a_sliver_is_refused() -> None:
    viz = stat("Up", "Is it up?", Query(Selector().now(d.UP), "now"))
    with pytest.raises(ValueError, match="must add up to 24"):
        row(4, (12, viz), (8, viz))
    with pytest.raises(ValueError, match="at least 3"):
        row(4, (22, viz), (2, viz))


def test_a_panel_without_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match="question or a sentence"):
        stat("Up", "up", Query(Selector().now(d.UP), "now"))


# Buttons and links ---------------------------------------------------------------------------------------------------
def buttons_of(panel: Json) -> list[Json]:
    return [
        action
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "actions"
        for action in entry["value"]
    ]


BUTTONS = [(name, panel, button) for name, panel in ALL for button in buttons_of(panel)]


@pytest.mark.parametrize(
    ("name", "panel", "button"), BUTTONS, ids=[f"{name}/{button['title']}" for name, _, button in BUTTONS]
)
def test_button_names_target_and_consequence_and_carries_values_as_parameters(
    name: str, panel: Json, button: Json
) -> None:
    fetch = button["fetch"]
    columns = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    used = set(re.findall(r"\$\{__data\.fields\.(\w+)\}", str(button)))
    assert used, name
    assert used <= columns, "a button can only use what its row shows"
    assert fetch["method"] == "POST"
    assert fetch["url"].startswith("/api/datasources/proxy/uid/${actions}/v1/")
    assert "${__data." not in fetch["url"], "Grafana does not encode a path: a label could name another route"
    assert fetch["headers"] == []
    assert "body" not in fetch
    assert "${__data.fields." in button["confirmation"]
    assert "? " in button["confirmation"], "a question, then the consequence"
    assert " " in button["title"], "verb and object"


def test_the_buttons_that_the_boards_promise_are_there() -> None:
    titles = {(name, button["title"]) for name, _, button in BUTTONS}
    assert titles == {
        ("forge", "Load model"),
        ("forge", "Eject instance"),
        ("forge", "Eject all"),
        ("forge", "Probe model"),
        ("forge", "Cancel operation"),
        ("toolchain", "Approve call"),
        ("toolchain", "Deny call"),
        ("toolchain", "Allow tool"),
        ("toolchain", "Ask tool"),
        ("toolchain", "Deny tool"),
        ("toolchain", "Reset tool"),
    }


@every_board
def test_no_board_holds_a_token_or_an_address(name: str) -> None:
    text = str(board(name))
    for secret in ("Bearer", "Authorization", "sk-lm-", "http://", "https://", "127.0.0.1", "password"):
        assert secret not in text


@every_board
def test_drill_down_links_lead_to_boards_and_variables_that_exist(name: str) -> None:
    for panel in panels(board(name)):
        for board_name, parameter in re.findall(r"/d/daemonpulse-(\w+)\?var-(\w+)=", str(panel)):
            assert parameter in variables(board(board_name))


@every_board
def test_exemplars_are_asked_for_only_where_histograms_are(name: str) -> None:
    for panel in panels(board(name)):
        for target in queries_of(panel):
            if target["exemplar"]:
                assert "_bucket" in target["expr"]
