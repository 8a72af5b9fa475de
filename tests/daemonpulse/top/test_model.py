from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemonpulse.top.model import screen_of
from tests.daemonpulse.top.scrapes import BIG, LIVE, scrape


def test_a_gpu_has_its_values_and_a_lost_one_has_none() -> None:
    first, second = screen_of(scrape()).gpus
    assert (first.index, first.used_bytes, first.total_bytes) == ("0", 12 << 30, 24 << 30)
    assert (first.utilization, first.temperature_c, first.power_w, first.power_limit_w) == (
        0.87,
        71,
        310,
        450,
    )
    assert (first.throttle, first.models) == (("sw_power_cap",), (("qwen/qwen3-8b", 7 << 30),))
    assert (second.index, second.is_lost, second.used_bytes, second.utilization) == ("10", True, None, None)


def test_an_instance_has_its_slots_and_what_was_not_scraped_is_none() -> None:
    small, big = screen_of(scrape()).instances
    assert (small.state, small.running, small.waiting, small.ttl_left_s) == ("generating", 2, 1, 754)
    assert (small.slots, small.slot_count, small.tokens_per_second) == ((None, 0.42), 4, 30.5)
    assert (big.identifier, big.running, big.vram_bytes, big.slot_count) == (f"{BIG}:2", None, None, None)


def test_the_rate_of_a_daemon_is_what_it_wrote_between_two_scrapes() -> None:
    screen = screen_of(scrape(written=1300), before=scrape(written=1000), elapsed_s=2.0)
    assert [(one.name, one.state, one.version, one.tokens_per_second) for one in screen.daemons] == [
        ("forge", "running", "0.4.24", 150.0)
    ]


def test_a_first_scrape_and_a_restarted_exporter_have_no_negative_rate() -> None:
    assert screen_of(scrape()).daemons[0].tokens_per_second is None
    again = screen_of(scrape(written=10), before=scrape(written=1000), elapsed_s=2.0)
    assert again.daemons[0].tokens_per_second == 0


def test_running_requests_come_before_finished_ones() -> None:
    running, finished = screen_of(scrape(), live=LIVE).requests
    assert (running.is_running, running.phase, running.client, running.ttft_s) == (
        True,
        "reasoning",
        "ide",
        None,
    )
    assert (finished.is_running, finished.phase, finished.output_tokens) == (False, "stop", 180)


_KEYS = st.sampled_from(["in_flight", "recent", "model", "output_tokens"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=8,
)


@given(_JSON)
def test_no_answer_of_live_is_an_error(body: Any) -> None:
    screen_of((), live=body if isinstance(body, dict) else {})


@pytest.mark.parametrize("rows", [10_000])
def test_a_huge_answer_gives_a_bounded_table(rows: int) -> None:
    assert len(screen_of((), live={"recent": [LIVE["recent"][0]] * rows}).requests) == 500
