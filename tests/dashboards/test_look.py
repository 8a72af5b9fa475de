"""How boards look: colours that every eye can tell apart, titles in the field's words, nothing wider than a screen."""

import itertools
import re
from collections.abc import Iterator

import pytest

from dashboards.build import BOARDS
from dashboards.kit import theme
from dashboards.kit.panels import stat
from dashboards.kit.promql import QueryError, Selector
from dashboards.kit.tables import Column, table
from dashboards.kit.targets import RESOURCES, ApiQuery, Query
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from tests.dashboards import color
from tests.dashboards.asked import FOLD, NAMES, Json, board, panels

ALL = [(name, panel) for name in NAMES for panel in panels(board(name))]
IDS = [f"{name}/{panel['title']}" for name, panel in ALL]
every_panel = pytest.mark.parametrize(("name", "panel"), ALL, ids=IDS)
THEMES = {"dark": "#181b1f", "light": "#ffffff"}
"""What Grafana draws panels on."""
PALETTE = {
    name: getattr(theme, name)
    for name in ("INDIGO", "SLATE", "DIM", "VIOLET", "SKY", "TEAL", "STEEL", "SAND", "AMBER", "RED")
}
"""Lines, areas, bars and digits."""
BACKGROUNDS = {theme.AMBER_BACK: "#000000", theme.RED_BACK: "#ffffff"}
"""Backgrounds of cells, and the colour of the text that Grafana puts on each."""
GROUPS = {
    name: getattr(theme, name) for name in ("OUTCOMES", "PHASES", "PERCENTILES", "LEVELS", "TOKENS", "CALLS")
}
"""Colours that share a panel, and so must differ for every eye."""
MOST_ON_FOLD = 12
"""Panels that are shown before the first row that can be opened."""


# Colours -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PALETTE)
@pytest.mark.parametrize("background", THEMES)
def test_every_colour_is_seen_on_both_themes(name: str, background: str) -> None:
    assert color.contrast(PALETTE[name], THEMES[background]) >= 3  # WCAG 1.4.11, graphics


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_text_is_readable_on_the_backgrounds_of_cells(background: str) -> None:
    assert color.contrast(BACKGROUNDS[background], background) >= 4.5


@pytest.mark.parametrize("background", [theme.BUTTON, theme.BUTTON_DANGER])
def test_buttons_are_readable(background: str) -> None:
    assert color.contrast("#ffffff", background) >= 4.5


@pytest.mark.parametrize("blindness", ["", *color.BLINDNESS])
@pytest.mark.parametrize("group", GROUPS)
def test_colours_that_share_a_panel_differ_for_every_eye(group: str, blindness: str) -> None:
    for one, other in itertools.combinations(GROUPS[group].values(), 2):
        assert color.distance(one, other, blindness) >= 10, (one, other)


def test_contrast_is_wcags_and_distance_is_labs() -> None:
    assert color.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert color.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert color.distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert color.distance("#6470EA", "#6470EA", "protanopia") == 0


def test_red_and_green_are_seen_to_merge_for_the_colour_blind() -> None:
    assert color.distance("#d02020", "#808000") > 2 * color.distance("#d02020", "#808000", "protanopia")


def test_one_word_has_one_colour_on_every_panel() -> None:
    for word, own in {**theme.OUTCOMES, **theme.PERCENTILES}.items():
        found = {
            entry["value"]["fixedColor"]
            for _, panel in ALL
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["options"] == word
            for entry in override["properties"]
            if entry["id"] == "color"
        }
        assert found <= {own}, word


@every_panel
def test_colours_come_from_the_palette(name: str, panel: Json) -> None:
    allowed = {*PALETTE.values(), *BACKGROUNDS, theme.BUTTON, theme.BUTTON_DANGER}
    assert set(re.findall(r"#[0-9a-fA-F]{6}", str(panel))) <= allowed, name


@every_panel
def test_series_take_no_colour_of_grafanas_own_palette(name: str, panel: Json) -> None:
    assert panel["fieldConfig"]["defaults"].get("color", {}).get("mode") != "palette-classic", name


# States --------------------------------------------------------------------------------------------------------------
def mappings_of(panel: Json) -> Iterator[Json]:
    yield from panel["fieldConfig"]["defaults"].get("mappings", [])
    for override in panel["fieldConfig"]["overrides"]:
        for entry in override["properties"]:
            if entry["id"] == "mappings":
                yield from entry["value"]


@every_panel
def test_no_state_is_told_by_colour_alone(name: str, panel: Json) -> None:
    for mapping in mappings_of(panel):
        if mapping["type"] == "value":
            words = [result["text"] for result in mapping["options"].values()]
            assert all(words), name
            assert len(set(words)) == len(words)


TIMELINES = [(name, panel) for name, panel in ALL if panel["type"] == "state-timeline"]


@pytest.mark.parametrize(("name", "panel"), TIMELINES, ids=[f"{n}/{p['title']}" for n, p in TIMELINES])
def test_timelines_keep_the_words_of_their_states(name: str, panel: Json) -> None:
    # Colour mode `thresholds` with merged values shows "-∞+" for every state.
    assert panel["fieldConfig"]["defaults"]["color"]["mode"] == "fixed", name
    assert list(mappings_of(panel)), "bands without words"
    assert "noValue" not in panel["fieldConfig"]["defaults"], "it would be a state in the legend"


@pytest.mark.parametrize(("name", "panel"), TIMELINES, ids=[f"{n}/{p['title']}" for n, p in TIMELINES])
def test_the_names_of_a_timelines_rows_do_not_collide_however_many_there_are(name: str, panel: Json) -> None:
    rows = [re.search(r"(?:topk|bottomk)\((\d+), ", target["expr"]) for target in panel["targets"]]
    assert rows[0], f"{name}: bound the rows"
    at_most = sum(int(found[1]) if found else 2 for found in rows)
    assert 16 * at_most <= 38 * panel["gridPos"]["h"] - 102, f"{name}: {at_most} rows"


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (theme.DAEMON_STATES, theme.DAEMON_CELLS),
        (theme.DAEMON_STATES, theme.DAEMON_BANDS),
        (theme.INSTANCE_STATES, theme.INSTANCE_CELLS),
        (theme.INSTANCE_STATES, theme.INSTANCE_BANDS),
    ],
)
def test_every_state_has_a_word_by_its_number(states: tuple[str, ...], words: list[Json]) -> None:
    assert words[0]["options"].keys() - {"0"} == {str(number) for number in range(1, len(states) + 1)}


def test_an_instance_in_a_state_nobody_knows_is_not_shown_as_idle() -> None:
    # None of its states is 1 then, so that the number of its state is 0.
    for words in (theme.INSTANCE_CELLS, theme.INSTANCE_BANDS):
        assert words[0]["options"]["0"]["text"] == "Unknown"
        assert words[0]["options"]["1"]["text"] == "Idle"


# Sizes ---------------------------------------------------------------------------------------------------------------
@every_panel
def test_legends_are_lists(name: str, panel: Json) -> None:
    legend = panel["options"].get("legend", {})
    assert legend.get("displayMode", "list") == "list", name


@every_panel
def test_text_of_numbers_has_a_size_and_sparklines_stay_below_it(name: str, panel: Json) -> None:
    if panel["type"] in {"stat", "gauge", "bargauge"}:
        assert panel["options"]["text"], name
    if panel["type"] == "stat" and panel["options"]["graphMode"] == "area":
        raised = [one["options"]["binary"]["left"] for one in panel.get("transformations", [])]
        scaled = "max" in panel["fieldConfig"]["defaults"] or raised == [panel["targets"][0]["legendFormat"]]
        assert scaled, "the sparkline would run through the number"
        assert panel["targets"][0]["legendFormat"], "without a name the number fills the panel"
        assert panel["gridPos"]["h"] >= 5


def test_a_stat_without_a_subtitle_is_refused() -> None:
    with pytest.raises(ValueError, match="through the number"):
        stat("Up", "Is it up?", Query(Selector().now(d.UP)))


@pytest.mark.parametrize("one", BOARDS, ids=lambda one: one.name)
def test_the_fold_holds_few_panels_and_the_rest_is_closed(one: object) -> None:
    data = board(one.name.lower())  # type: ignore[attr-defined]
    visible = [panel for panel in data["panels"] if panel["type"] != "row" and panel["gridPos"]["y"] < FOLD]
    assert len(visible) <= MOST_ON_FOLD + 1
    for heading in (panel for panel in data["panels"] if panel["type"] == "row"):
        assert heading["collapsed"] is not bool(heading.get("repeat"))


TABLES = [(name, panel) for name, panel in ALL if panel["type"] == "table"]
every_table = pytest.mark.parametrize(("name", "panel"), TABLES, ids=[f"{n}/{p['title']}" for n, p in TABLES])
SIDE_PX = 32
PADDING_PX = 24


def least_px(panel: Json, column: Json) -> int:
    """Give the width of a column, or the least where it takes what is left."""
    told = {entry["id"]: entry["value"] for entry in column["properties"]}
    default = panel["fieldConfig"]["defaults"]["custom"]["minWidth"]
    return int(told.get("custom.width", told.get("custom.minWidth", default)))


@every_table
@pytest.mark.parametrize("screen", [1280, 1600])
def test_no_table_is_wider_than_its_panel(name: str, panel: Json, screen: int) -> None:
    room = (screen - SIDE_PX) * panel["gridPos"]["w"] / 24 - PADDING_PX
    widths = [least_px(panel, one) for one in panel["fieldConfig"]["overrides"]]
    assert sum(widths) <= room, f"{name}: {sum(widths)} of {room:.0f} px"


@every_panel
def test_titles_are_not_cut_off_at_1280(name: str, panel: Json) -> None:
    room = (1280 - SIDE_PX) * panel["gridPos"]["w"] / 24 - 8 - 82  # the gap, and the marks beside a title
    assert 7 * len(panel["title"]) <= room, name


@every_table
def test_titles_of_columns_are_not_cut_off(name: str, panel: Json) -> None:
    for one in panel["fieldConfig"]["overrides"]:
        told = {entry["id"]: entry["value"] for entry in one["properties"]}
        assert least_px(panel, one) >= 8 * len(told["displayName"]) + 12, f"{name}: {told['displayName']}"


@every_table
def test_the_title_of_a_sorted_column_has_room_for_its_arrow(name: str, panel: Json) -> None:
    by = [each["displayName"] for each in panel["options"]["sortBy"]]
    for one in panel["fieldConfig"]["overrides"]:
        told = {entry["id"]: entry["value"] for entry in one["properties"]}
        if told["displayName"] in by:
            assert told.get("custom.width", 999) >= 7.2 * len(told["displayName"]) + 32, (
                f"{name}: {told['displayName']}"
            )


@every_table
def test_counts_are_not_rounded_to_thousands(name: str, panel: Json) -> None:
    for one in panel["fieldConfig"]["overrides"]:
        told = {entry["id"]: entry["value"] for entry in one["properties"]}
        rounded = told.get("unit") == "short" and told.get("decimals") == 0  # 1,514 would be 2 K
        assert not rounded, f"{name}: {told['displayName']}"


LONGEST = {"dateTimeFromNow": "a few seconds ago"}


@every_table
def test_a_unit_in_words_has_room_for_its_longest(name: str, panel: Json) -> None:
    for one in panel["fieldConfig"]["overrides"]:
        told = {entry["id"]: entry["value"] for entry in one["properties"]}
        words = LONGEST.get(told.get("unit", ""), "")
        assert told.get("custom.width", 999) >= 8.2 * len(words) + 12, f"{name}: {told['displayName']}"


@every_table
def test_text_in_tables_is_never_read_as_a_number(name: str, panel: Json) -> None:
    if panel["datasource"]["type"] == "tempo":
        return
    assert panel["fieldConfig"]["defaults"]["unit"] == "string"
    for one in panel["fieldConfig"]["overrides"]:
        column = one["matcher"]["options"]
        units = [entry["value"] for entry in one["properties"] if entry["id"] == "unit"]
        numeric = column.startswith("Value") or column.endswith(
            ("_ms", "_seconds", "progress", "_tokens", "_per_second", "_ratio")
        )
        assert bool(units) <= numeric, f"{name}: {column} is text and has the unit {units}"


@every_table
def test_an_empty_cell_says_nothing(name: str, panel: Json) -> None:
    words = panel["fieldConfig"]["defaults"]["noValue"]
    whole = {
        "Firing alerts": "No firing alerts",
        "Named causes": "No cause named",
        "LM Link peers": "No peers",
    }
    assert words == whole.get(panel["title"], "\u2013"), name


def test_words_for_an_empty_list_of_the_api_are_refused() -> None:
    with pytest.raises(QueryError, match="a cell of the API's lists can be empty"):
        table("Calls", "Which?", ApiQuery("approvals"), columns=[Column("id", "Id")], none="Nothing")


def test_a_number_without_a_unit_and_too_many_columns_are_refused() -> None:
    power = Query(Selector().now(h.POWER))
    with pytest.raises(QueryError, match="a number without a unit"):
        table("Power", "How much?", power, columns=[Column("A", "Power")])
    with pytest.raises(QueryError, match="do not fit"):
        table("Power", "How much?", power, columns=[Column("gpu", str(n)) for n in range(11)])


@every_table
def test_buttons_stand_second(name: str, panel: Json) -> None:
    for place, one in enumerate(panel["fieldConfig"]["overrides"]):
        if any(entry["id"] == "actions" for entry in one["properties"]):
            assert place == 1, name


def test_ids_in_button_urls_are_never_formatted() -> None:
    assert "id" in RESOURCES["approvals"]
    for name, panel in TABLES:
        used = set(re.findall(r"\$\{__data\.fields\.(\w+)\}", str(panel["fieldConfig"])))
        for one in panel["fieldConfig"]["overrides"]:
            if one["matcher"]["options"] in used:
                keys = {entry["id"] for entry in one["properties"]}
                assert not keys & {"unit", "decimals", "mappings"}, f"{name}: {one['matcher']['options']}"


# Words ---------------------------------------------------------------------------------------------------------------
KNOWN = {
    "GPU", "GPUs", "LM", "PCIe", "NVLink", "NVLinks", "ECC", "XID", "MIG", "RAM", "API", "DaemonPulse", "Link",
    "TTFT", "TPOT", "VRAM", "CPU", "OTLP", "HTTP", "SLO", "M",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_titles_are_the_fields_words_in_sentence_case(name: str) -> None:
    for panel in panels(board(name)):
        title = panel["title"]
        first, *rest = re.findall(r"[A-Za-z0-9]+", title)
        assert first[0].isupper()
        assert all(
            word.islower() or word.isdigit() or word in KNOWN or word == "E2E"
            for word in rest
            if word != "1M"
        ), title
        assert len(title.split()) <= 5, f"{title}: a title is the metric's usual name"
        assert "?" not in title
