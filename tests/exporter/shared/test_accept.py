"""Content negotiation: one of two formats, whatever the header says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.shared.accept import OPENMETRICS, TEXT, choose, encoder

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        ("text/plain", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        (
            "application/openmetrics-text; version=2.0.0, application/openmetrics-text; version=1.0.0",
            OPENMETRICS,
        ),
        ("application/openmetrics-text; version=latest", TEXT),
        ("application/openmetrics-text; version=0.0.1", TEXT),
        ("application/openmetrics-text; version=1.0.0; q=0", TEXT),
        ("application/openmetrics-text; q=0.2, text/plain; q=0.8", TEXT),
        ("application/openmetrics-text; q=0.8, text/plain; q=0.2", OPENMETRICS),
        ("application/openmetrics-text; q=0.5, */*; q=0.9", TEXT),
        ("text/plain, application/openmetrics-text", TEXT),
        ("application/openmetrics-text, text/plain", OPENMETRICS),
        ("application/openmetrics-text; q=much", TEXT),
        ("application/openmetrics-text; q=nan", TEXT),
        ('application/openmetrics-text; x="a,b;c"; version=1.0.0', OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0', OPENMETRICS),
        (",,;;,=", TEXT),
        ("*/*;q=0", TEXT),
        ("text/plain;q=0, */*", OPENMETRICS),
        ("text/plain;q=0, application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0, */*", TEXT),
        ("application/*, text/*;q=0.9", OPENMETRICS),
        ("application/*, text/*", TEXT),
        ("application/openmetrics-text, */*", OPENMETRICS),
        ("application/openmetrics-text;q=0.4, text/*;q=0.5, */*;q=0.1", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8;q=0.5,text/plain;q=0.3", OPENMETRICS),
        ("text/plain;version=1.0.0;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4", TEXT),
        ("\xff\xfe, application/openmetrics-text", OPENMETRICS),
    ],
)
def test_the_format_is_the_one_the_client_prefers(accept: str, chosen: str) -> None:
    assert choose(accept) == chosen


@given(st.text() | st.text(alphabet='aqv=;,"*/. 01'))
def test_any_header_gets_one_of_the_formats_that_are_written(accept: str) -> None:
    assert choose(accept) in {TEXT, OPENMETRICS}


@pytest.mark.parametrize("accept", ["a" * 100_000, "," * 100_000, '"' * 100_000, "text/plain;q=0.1," * 6_000])
def test_the_work_follows_the_length(accept: str) -> None:
    assert choose(accept) == TEXT


def test_the_writer_is_that_of_the_format() -> None:
    assert encoder("application/openmetrics-text") == (generate_openmetrics, OPENMETRICS)
    assert encoder("text/html") == (generate_latest, TEXT)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("application/openmetrics-text;q=5, text/plain", OPENMETRICS),
        ("application/openmetrics-text, text/plain;q=1.5", OPENMETRICS),
        ("application/openmetrics-text;q=inf, text/plain;q=0.1", TEXT),
        ("text/plain;q=0.5, text/plain;q=0.9, application/openmetrics-text;q=0.9", TEXT),
        ("application/openmetrics-text; version=1.0.0=2", TEXT),
        ("*/*, application/*", TEXT),
    ],
)
def test_odd_qualities_and_ranges_of_one_weight_are_settled(accept: str, chosen: str) -> None:
    assert choose(accept) == chosen
