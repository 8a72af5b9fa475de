"""LogQL and TraceQL: no server of theirs runs here, so their shape is parsed and their fields matched to what we send.

Loki writes attribute names with _ for every dot; Tempo keeps them.
"""

import re
from pathlib import Path

import pytest

from tests.dashboards.asked import NAMES, ROOT, board, chosen, panels, queries_of, substituted
from tests.exporter.telemetry.test_spans import STATS, predictions, spans_of

TELEMETRY = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "exporter" / "telemetry").glob("*.py")
)
SENT = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)+)"', TELEMETRY))
"""Attribute names that the telemetry code writes."""

LOKIS_OWN = {"severity_text", "service_name"}
"""What Loki's OTLP endpoint makes of severity and of the resource attribute service.name."""

# {label="value"} | label=~"value" ... |= `text`, and sum by (label) (count_over_time(... [window]))
_MATCHER = r'[a-z_]+(?:=~|!~|!=|=)"[^"]*"'
_STREAM = rf"\{{{_MATCHER}(?:, {_MATCHER})*\}}"
_LINES = rf"{_STREAM}(?: \| {_MATCHER}| \|= `[^`]*`)*"
_SHOWN = r"(?: \| line_format `[^`{}]*\{\{\.[a-z_]+\}\}[^`{}]*\{\{__line__\}\}`)?"
LOGQL = re.compile(rf"(?:{_LINES}{_SHOWN}|sum by \([a-z_]+\) \(count_over_time\({_LINES} \[\w+\]\)\))")

# { field op "value" && ... } | select(field, ...)
_FIELD = r"(?:resource|span)\.[a-z_.]+|name|duration|status"
_CONDITION = rf'(?:{_FIELD}) ?(?:=~|!=|>=|=|>|<) ?(?:"[^"]*"|[\w.]+)'
TRACEQL = re.compile(
    rf"\{{{_CONDITION}(?: && {_CONDITION})*\}}(?: \| select\((?:{_FIELD})(?:, (?:{_FIELD}))*\))?"
    r"(?: with \(most_recent=true\))?"
)

LOGS = [
    (f"{name}/{panel['title']}", substituted(target["expr"], chosen(board(name))))
    for name in NAMES
    for panel in panels(board(name))
    for target in queries_of(panel, "loki")
]
TRACES = [
    (f"{name}/{panel['title']}", substituted(target["query"], chosen(board(name))))
    for name in NAMES
    for panel in panels(board(name))
    for target in queries_of(panel, "tempo")
]


def test_the_boards_ask_for_logs_and_traces() -> None:
    assert len(LOGS) >= 3
    assert len(TRACES) >= 2


@pytest.mark.parametrize(("where", "logql"), LOGS, ids=[where for where, _ in LOGS])
def test_logql_is_well_formed_and_names_only_what_is_sent(where: str, logql: str) -> None:
    assert LOGQL.fullmatch(logql), f"{where}: {logql}"
    named = set(re.findall(r'\b([a-z_]+)(?:=~|!~|!=|=)"|by \((\w+)\)|\{\{\.(\w+)', logql))
    named = {name for found in named for name in found if name}
    assert named - LOKIS_OWN <= {name.replace(".", "_") for name in SENT}


@pytest.mark.parametrize(("where", "traceql"), TRACES, ids=[where for where, _ in TRACES])
def test_traceql_is_well_formed_and_names_only_what_is_sent(where: str, traceql: str) -> None:
    assert TRACEQL.fullmatch(traceql), f"{where}: {traceql}"
    named = set(re.findall(r"\b(?:resource|span)\.([a-z_.]+)", traceql))
    assert named
    assert named <= SENT


@pytest.mark.parametrize(("where", "traceql"), TRACES, ids=[where for where, _ in TRACES])
def test_numbers_are_compared_as_the_type_that_is_sent(where: str, traceql: str) -> None:
    """Tempo finds no double by a whole number: `> 0` is never true of 3.5 s, `> 0.0` is."""
    [made] = predictions(("<|im_start|>user\nhi", "<think>\nabcdefghij\n</think>\n\nabcdefghij", STATS))
    sent = spans_of(made)[0].attributes or {}
    for name, literal in re.findall(r"\bspan\.([a-z_.]+) ?[!<>=]+ ?([\d.]+)\b", traceql):
        assert isinstance(sent[name], float if "." in literal else int), f"{where}: {name} {literal}"


def test_a_whole_number_for_seconds_would_be_found() -> None:
    assert [traceql for _, traceql in TRACES if "seconds_estimated > 0.0" in traceql]
    with pytest.raises(AssertionError, match="seconds_estimated"):
        test_numbers_are_compared_as_the_type_that_is_sent(
            "here", "{span.daemonpulse.reasoning.seconds_estimated > 0}"
        )


@pytest.mark.parametrize("kind", ["server", "runtime", "prediction"])
def test_the_kinds_of_log_lines_the_console_shows_are_those_that_are_sent(kind: str) -> None:
    assert any(f'llmster_log="{kind}"' in logql for _, logql in LOGS)
    assert f'"{kind}"' in Path(ROOT / "exporter" / "telemetry" / "log_sink.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong", ['{service_name="a" | x="y"', "{service_name=a}", "{} |= `x`", 'sum by (x) ({a="b"})']
)
def test_the_grammar_refuses_malformed_logql(wrong: str) -> None:
    assert not LOGQL.fullmatch(wrong)


@pytest.mark.parametrize("wrong", ['{name="a" and name="b"}', '{foo.bar="x"}', '{name="a"} | pick(name)'])
def test_the_grammar_refuses_malformed_traceql(wrong: str) -> None:
    assert not TRACEQL.fullmatch(wrong)
