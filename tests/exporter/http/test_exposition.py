"""The exposition: both formats parse back, name[] filters, gzip only for who takes it."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import daemon as m
from exporter.collectors.base import Samples
from exporter.http.exposition import expose
from exporter.shared.labels import MAX_CHARS

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def parse_text(body: str) -> list[Family]:
    return list(text_string_to_metric_families(body))


def parse_openmetrics(body: str) -> list[Family]:
    return list(openmetrics.text_string_to_metric_families(body))  # type: ignore[no-untyped-call]


def some_samples() -> Samples:
    samples = Samples()
    samples.add(m.UP, 1, daemon="d")
    samples.add(m.RESTARTS, 3, daemon="d")
    samples.add(m.STATE, 1, daemon="d", state="running")
    samples.add(m.STATE, 0, daemon="d", state="down")
    samples.add(m.SNAPSHOT_DURATION, 0.25, daemon="d")
    return samples


def told(families: list[Family]) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


EVERYTHING = {
    "llmster_up d": 1,
    "llmster_restarts_total d": 3,
    "llmster_daemon_state d running": 1,
    "llmster_daemon_state d down": 0,
    "llmster_snapshot_duration_seconds d": 0.25,
}


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=0.0.4", "text/html"])
def test_the_text_format_parses_back_to_what_went_in(accept: str) -> None:
    exposition = expose(some_samples(), accept=accept, accept_encoding="")
    families = parse_text(exposition.body.decode())

    assert told(families) == EVERYTHING
    assert exposition.content_type.startswith("text/plain; version=0.0.4")
    assert exposition.content_encoding is None
    assert {family.name: family.type for family in families}["llmster_restarts"] == "counter"
    assert {family.documentation for family in families} >= {m.UP.help, m.STATE.help}


def test_openmetrics_parses_back_to_what_went_in() -> None:
    exposition = expose(some_samples(), accept=f"{OPENMETRICS},text/plain;q=0.5", accept_encoding="")

    assert told(parse_openmetrics(exposition.body.decode())) == EVERYTHING
    assert exposition.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert exposition.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["llmster_up"], {"llmster_up d"}),
        (["llmster_up", "llmster_restarts_total"], {"llmster_up d", "llmster_restarts_total d"}),
        (["llmster_daemon_state"], {"llmster_daemon_state d running", "llmster_daemon_state d down"}),
        (["nothing_of_the_kind"], set()),
        ([], set(EVERYTHING)),
    ],
)
def test_names_keep_only_their_samples(accept: str, names: list[str], kept: set[str]) -> None:
    body = expose(some_samples(), accept=accept, accept_encoding="", names=names).body.decode()

    parse = parse_openmetrics if accept else parse_text
    assert set(told(parse(body))) == kept


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("gzip, *;q=0", True),
        ("gzipped", False),
    ],
)
def test_only_who_takes_gzip_gets_it(accept_encoding: str, compressed: bool) -> None:  # noqa: FBT001 - pytest fills it
    plain = expose(some_samples(), accept="", accept_encoding="")
    exposition = expose(some_samples(), accept="", accept_encoding=accept_encoding)

    assert exposition.content_encoding == ("gzip" if compressed else None)
    assert (gzip.decompress(exposition.body) if compressed else exposition.body) == plain.body


@given(st.text(st.characters(codec="utf-8"), max_size=MAX_CHARS), st.floats(allow_nan=False))
def test_any_label_and_any_number_come_through(label: str, value: float) -> None:
    samples = Samples()
    samples.add(m.UP, value, daemon=label)

    body = expose(samples, accept=OPENMETRICS, accept_encoding="").body.decode()

    [family] = parse_openmetrics(body)
    [sample] = family.samples
    assert (sample.labels, sample.value) == ({"daemon": label}, value)


def test_an_empty_scrape_is_an_empty_body() -> None:
    assert expose(Samples(), accept="", accept_encoding="").body == b""
