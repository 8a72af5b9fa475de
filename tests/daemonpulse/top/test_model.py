from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemonpulse.top.model import Gpu, Instance, Request, screen_of
from exporter.catalogue import daemon as d
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s
from tests.daemonpulse.top.scrapes import BIG, LIVE, sample, scrape


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


def test_a_screen_is_made_of_every_value_of_the_scrape() -> None:
    screen = screen_of(scrape(), live=LIVE)
    assert screen.log_messages == {"error": 3}
    first, lost = screen.gpus
    assert first == Gpu(
        "0",
        "RTX 4090",
        12 << 30,
        24 << 30,
        (("qwen/qwen3-8b", 7 << 30),),
        0.87,
        71,
        310,
        450,
        ("sw_power_cap",),
    )
    assert lost == Gpu("10", "MI300X", is_lost=True)
    small, big = screen.instances
    assert small == Instance(
        "forge", "qwen/qwen3-8b", "qwen/qwen3-8b", "generating", 2, 1, (None, 0.42), 4, 30.5, 32768, 754,
        vram_bytes=7 << 30,
    )  # fmt: skip
    assert big == Instance("forge", f"{BIG}:2", BIG)
    model = "qwen/qwen3-8b"
    assert screen.requests == (
        Request("forge", model, "ide", "reasoning", True, 3.2, None, None, None, None, None),
        Request("forge", model, None, "stop", False, 4.5, 0.31, 42.5, 900, 180, 0.6),
    )


def test_samples_without_a_label_and_rows_without_a_value_are_shown_empty() -> None:
    screen = screen_of(
        [
            (d.UP.name, {"daemon": "bare"}, 1.0),
            (d.INSTANCE_INFO.name, {}, 1.0),
            (h.DEVICE_INFO.name, {"gpu": "0"}, 1.0),
            (h.UTILIZATION.name, {}, 0.5),
            (s.SLOT_BUSY.name, {"slot": "0"}, 1.0),
            (s.SLOT_PROMPT_PROGRESS.name, {"slot": "0"}, 0.3),
            (d.INSTANCE_STATE.name, {"state": "idle"}, 1.0),
            (d.PINNED.name, {}, 1.0),
        ],
        live={"in_flight": [{"model": 5, "elapsed_seconds": True, "output_tokens": "9"}]},
    )
    (daemon,) = screen.daemons
    assert (daemon.name, daemon.state, daemon.version, daemon.tokens_per_second) == (
        "bare",
        "unknown",
        None,
        None,
    )
    assert screen.gpus == (Gpu("0", ""),)
    assert screen.instances == (Instance("", "", "", "idle", slots=(0.3,), is_pinned=True),)
    assert screen.requests == (Request("", "", None, "", True, *[None] * 6),)


def test_a_rate_needs_a_count_of_both_scrapes_and_time_between_them() -> None:
    def rate(before: list[Any], elapsed_s: float) -> float | None:
        return (
            screen_of(scrape(written=1300), before=before, elapsed_s=elapsed_s).daemons[0].tokens_per_second
        )

    assert rate(scrape(written=1000), 0.0) is None
    assert rate(scrape(written=1000), 0.5) == 600
    assert rate([], 2.0) is None
    silent = [one for one in scrape() if one[0] != s.GENERATION_TOKENS.name]
    assert screen_of(silent, before=scrape(), elapsed_s=2.0).daemons[0].tokens_per_second is None


def test_gpus_are_in_the_order_of_their_numbers_and_models_of_their_size() -> None:
    gpus = [sample(h.DEVICE_INFO, 1, gpu=gpu) for gpu in ("10", "b", "9", "GPU-a", chr(0x661))]
    held = [
        sample(h.INSTANCE_VRAM, size, gpu="9", model=model, instance_id=f"{model}{size}")
        for model, size in (("a", 2), ("b", 5), ("a", 1), ("c", 4))
    ]
    idle = [sample(h.THROTTLE, 1, gpu="9", reason=reason) for reason in ("z", "gpu_idle", "a")]
    found = screen_of([*gpus, *held, *idle]).gpus
    assert [gpu.index for gpu in found] == ["9", "10", "GPU-a", "b", chr(0x661)]
    assert found[0].models == (("b", 5), ("c", 4), ("a", 3))
    assert found[0].throttle == ("a", "z")
