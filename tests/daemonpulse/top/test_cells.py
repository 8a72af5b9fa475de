import pytest

from daemonpulse.top import cells
from daemonpulse.top.model import Gpu, Instance, screen_of
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
