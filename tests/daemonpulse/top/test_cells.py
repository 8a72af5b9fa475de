import pytest

from daemonpulse.top import cells
from daemonpulse.top.model import Daemon, Gpu, Instance, Request, Screen, screen_of
from tests.daemonpulse.top.scrapes import LIVE, scrape


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.42, "0.42s"), (7.13, "7.1s"), (754, "13m"), (3 * 3600 + 300, "3h05m")]
)
def test_durations_are_short(value: float | None, text: str) -> None:
    assert cells.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0, "0"), (30.5, "30.5"), (1234.5, "1234")])
def test_numbers_have_few_digits(value: float | None, text: str) -> None:
    assert cells.number(value) == text


@pytest.mark.parametrize(("count", "text"), [(None, "-"), (2048, "2048"), (32768, "32k"), (131072, "128k")])
def test_token_counts_are_short(count: float | None, text: str) -> None:
    assert cells.tokens(count) == text


def test_a_bar_is_as_wide_as_it_is_told_for_any_share() -> None:
    for share in (None, 0.0, 0.01, 0.5, 0.999, 1.0, 7.0, -1.0):
        assert len(cells.bar(share, 10)) == 10
    assert cells.bar(0.5, 4) == "██░░"


def test_slots_show_prefill_in_tenths_decoding_and_free_ones() -> None:
    assert cells.slot_text(Instance("d", "i", "m", slots=(None, 0.42, 1.0), slot_count=4)) == "#4#."
    assert cells.slot_text(Instance("d", "i", "m")) == "-"


def test_a_gpu_without_values_shows_dashes_and_never_zero() -> None:
    assert cells.gpu_cells(Gpu("0", "x"))[2:7] == ("-", "-/-", "-", "-", "-")


def test_the_plain_screen_fits_eighty_columns() -> None:
    text = cells.plain(screen_of(scrape(), live=LIVE), width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "forge running 0.4.24" in lines[0]
    assert any(line.startswith("0   █████░░░░░ 50%") and "sw_power_cap" in line for line in lines)
    assert any(line.startswith("10  lost") for line in lines)
    assert any("decode" in line and "#4.." in line for line in lines)
    assert lines[-1] == "log lines: error 3"


SCREEN = """\
forge running 0.4.24

GPU VRAM           GiB       util temp power    throttle     models
0   █████░░░░░ 50% 12.0/24.0 87%  71°C 310/450W sw_power_cap qwen3-8b 7.0
10  lost           -         -    -    -

instance                   state  run wait slots tok/s ctx TTL VRAM daemon
qwen/qwen3-8b              decode 2   1    #4..  30.5  32k 13m 7.0  forge
qwen/qwen3-c…nstruct-mlx:2 -      -   -    -     -     -   -   -    forge

model         client phase     TTFT  tok/s in  out reason time
qwen/qwen3-8b ide    reasoning -     -     -   -   -      3.2s
qwen/qwen3-8b -      stop      0.31s 42.5  900 180 60%    4.5s

log lines: error 3"""


def test_the_plain_screen_is_laid_out_in_columns_and_long_tables_are_counted() -> None:
    screen = screen_of(scrape(), live=LIVE)
    assert cells.plain(screen) == SCREEN
    assert cells.plain(screen, rows=1).count("… 1 more") == 3
    assert cells.plain(Screen(), width=8) == "no daemo\n\nlog line"


@pytest.mark.parametrize(
    ("value", "text"),
    [(99.96, "100.0"), (100.4, "100"), (-99.5, "-99.5"), (-100.4, "-100"), (5.0, "5"), (0.5, "0.5")],
)
def test_a_number_below_a_hundred_has_one_place_unless_it_is_whole(value: float, text: str) -> None:
    assert cells.number(value) == text
    assert cells.number(value, "W") == f"{text}W"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.999, "1.00s"), (1, "1.0s"), (59.9, "59.9s"), (60, "1m"), (3599, "60m"), (3600, "1h00m")],
)
def test_a_duration_changes_its_unit_at_a_second_a_minute_and_an_hour(value: float, text: str) -> None:
    assert cells.seconds(value) == text


def test_token_counts_and_shares_at_their_bounds() -> None:
    assert (cells.tokens(8191), cells.tokens(8192)) == ("8191", "8k")
    assert (cells.percent(None), cells.percent(0.126)) == ("-", "13%")
    assert (cells.gib(None), cells.gib(3 << 29)) == ("-", "1.5")


def test_a_bar_is_drawn_in_eighths() -> None:
    drawn = [cells.bar(eighth / 16, 2) for eighth in range(17)]
    assert drawn == [
        "░░", "▏░", "▎░", "▍░", "▌░", "▋░", "▊░", "▉░", "█░", "█▏", "█▎", "█▍", "█▌", "█▋", "█▊", "█▉", "██",
    ]  # fmt: skip
    assert (cells.bar(None, 3), cells.bar(2.0, 3), cells.bar(-1.0, 3)) == ("   ", "███", "░░░")


def test_a_name_is_cut_in_its_middle() -> None:
    assert [cells.short("abcdefghij", width) for width in (10, 9, 8, 3)] == [
        "abcdefghij",
        "abcd…ghij",
        "abc…ghij",
        "a…j",
    ]


def test_every_cell_of_a_gpu_is_in_its_column() -> None:
    gpu = Gpu(
        "1", "x", used_bytes=1 << 30, total_bytes=4 << 30, models=(("a/b", 1 << 29), ("c", 1 << 30)), utilization=0.5,
        temperature_c=60.0, power_w=99.5, throttle=("heat", "power"),
    )  # fmt: skip
    assert cells.gpu_cells(gpu) == (
        "1", "██▌░░░░░░░", "25%", "1.0/4.0", "50%", "60°C", "99.5", "heat power", "b 0.5, c 1.0",
    )  # fmt: skip
    assert cells.gpu_cells(Gpu("1", "x", is_lost=True)) == ("1", "lost", "", "-", "-", "-", "-", "", "")
    empty = Gpu("1", "x", used_bytes=0, total_bytes=0, power_w=5, power_limit_w=9)
    assert cells.gpu_cells(empty) == ("1", " " * 10, "-", "0.0/0.0", "-", "-", "5/9W", "none", "-")


def test_every_cell_of_an_instance_is_in_its_column() -> None:
    one = Instance(
        "d", "i" * 30, "m", state="generating", running=1, waiting=2, slots=(0.99, 0.05), slot_count=40
    )
    assert cells.instance_cells(one)[:5] == ("i" * 12 + "…" + "i" * 13, "decode", "1", "2", "90" + "." * 14)
    states = ("processing_prompt", "computing_embedding", "idle", "of a newer daemon", None)
    assert [cells.instance_cells(Instance("d", "i", "m", state=state))[1] for state in states] == [
        "prefill", "embed", "idle", "of a newer daemon", "-",
    ]  # fmt: skip
    pinned = Instance("d", "i", "m", is_pinned=True, ttl_left_s=5, vram_bytes=1 << 30, context_length=8192)
    assert cells.instance_cells(pinned)[6:] == ("8k", "pinned", "1.0", "d")
    assert cells.slot_text(Instance("d", "i", "m", slots=(None,))) == "#"


def test_a_request_without_a_client_or_a_phase_shows_dashes() -> None:
    nothing = Request("d", "m", None, "", True, None, None, None, None, None, None)
    assert cells.request_cells(nothing) == ("m", *["-"] * 8)


def test_four_daemons_are_named_and_the_others_counted() -> None:
    one = Daemon("a", "running", "1.2", 30.5)
    assert cells.daemon_line([one]) == "a running 1.2 30.5 tok/s"
    assert cells.daemon_line([Daemon(name, "down") for name in "abcd"]) == "a down · b down · c down · d down"
    assert cells.daemon_line([Daemon(name, "down") for name in "abcdef"]).endswith("d down · 2 more")
    assert cells.daemon_line([]) == "no daemon"


def test_log_lines_are_told_by_their_weight() -> None:
    told = Screen(log_messages={"debug": 4, "warn": 2, "error": 1, "info": 3, "odd": 5})
    assert cells.log_line(told) == "log lines: error 1, warn 2, info 3, debug 4"
    assert cells.log_line(Screen()) == "log lines: -"


def test_the_first_column_gives_way_first_and_keeps_eight_characters() -> None:
    rows = [["abcdefghijkl", "xx"], ["a", "y"]]
    assert cells.table(("first", "b"), rows, width=15) == [
        "first        b",
        "abcdefghijkl xx",
        "a            y",
    ]
    assert cells.table(("first", "b"), rows, width=13) == ["first      b", "abcd…hijkl xx", "a          y"]
    assert cells.table(("first", "b"), rows, width=5) == ["first", "abc…i", "a"]
