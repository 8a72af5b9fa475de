"""The status page: what there is and what it does now, each table with an end, nothing from outside as markup."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.hardware.gpus import Device, Memory
from exporter.http import landing
from exporter.llmster.state import ProcessingState
from tests.exporter import readings


def request(**changes: Any) -> dict[str, Any]:
    told = {
        "daemon": "local",
        "client": "ci",
        "model": "qwen/qwen3-8b",
        "phase": "reasoning",
        "output_tokens": 41,
        "tokens_per_second": None,
        "elapsed_seconds": 3.4,
    }
    return told | changes


def test_the_status_page_shows_instances_gpus_and_requests() -> None:
    loaded = readings.instance(
        processing=ProcessingState("generating", 3), ttl_ms=600_000, last_used_time=readings.NOW_S * 1000
    )
    reading = readings.watched(readings.snapshot(loaded)).reading
    gpu = Device(0, name="NVIDIA <X>", memory=Memory(24 << 30, 12 << 30, 12 << 30), utilization_ratio=0.5)
    page = landing.page(
        [reading],
        version="1",
        gpus=[gpu, Device(1, lost=True)],
        in_flight=[request()],
        now_s=readings.NOW_S + 60,
    )
    text = re.sub(r"<[^>]+>", " ", page)
    shown = (
        "generating",
        "9 min left",
        "NVIDIA &lt;X&gt;",
        "12.0 / 24.0 GiB",
        "50%",
        "lost",
        "ci",
        "41",
        "3 s",
    )
    assert [part for part in shown if part not in text] == []
    assert "<script" not in page


def test_a_table_has_an_end_and_says_how_much_there_is_beyond() -> None:
    page = landing.page([], version="1", in_flight=[request()] * (landing.MAX_ROWS + 7))
    assert "and 7 more" in page
    assert page.count("<tr>") == 1 + landing.MAX_ROWS
    assert "GPUs" not in page


@given(st.text(), st.text())
def test_names_from_outside_become_no_markup(client: str, model: str) -> None:
    def page(one: str, two: str) -> str:
        return landing.page([], version="1", in_flight=[request(client=one, model=two)])

    assert page(f"<b>{client}", f'">{model}').count("<") == page("", "").count("<")
