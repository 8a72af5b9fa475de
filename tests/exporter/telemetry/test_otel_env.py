"""The standard OTEL_* variables: who has a receiver, and what is refused at the start, with its fix and no secret."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.shared.settings_table import SettingsError
from exporter.telemetry import otel_env
from exporter.telemetry.otel_env import CONTENT_VARIABLE

OTLP = "OTEL_EXPORTER_OTLP_"
PARTS = ("", "TRACES_", "LOGS_", "METRICS_")


def fault(environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        otel_env.check(environ)
    return str(refused.value)


@pytest.mark.parametrize(
    ("environ", "traces", "logs"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True, False),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x"}, False, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_LOGS_EXPORTER": "none"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "None"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "otlp"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "false"}, True, True),
    ],
)
def test_the_standard_variables_decide_which_signals_have_a_receiver(
    environ: dict[str, str], *, traces: bool, logs: bool
) -> None:
    assert (otel_env.wanted("TRACES", environ)[0], otel_env.wanted("LOGS", environ)[0]) == (traces, logs)
    assert otel_env.are_configured(environ) == (traces or logs)


def test_the_protocol_of_a_signal_wins_over_the_common_one() -> None:
    assert otel_env.wanted("LOGS", {}) == (False, "http/protobuf")
    common = {f"{OTLP}PROTOCOL": "grpc", f"{OTLP}METRICS_ENDPOINT": "x:4317"}
    assert otel_env.wanted("LOGS", common) == (False, "grpc")
    own = {**common, f"{OTLP}LOGS_PROTOCOL": "http/protobuf", f"{OTLP}LOGS_ENDPOINT": "http://x"}
    assert otel_env.wanted("LOGS", own) == (True, "http/protobuf")
    assert otel_env.metrics_wanted(own) == (True, "grpc")
    assert otel_env.wanted("LOGS", {**own, "OTEL_SDK_DISABLED": "TRUE"}) == (False, "")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({f"{OTLP}ENDPOINT": "http://x"}, False),
        ({f"{OTLP}ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "OTLP"}, True),
        ({f"{OTLP}METRICS_ENDPOINT": "http://x"}, True),
        ({f"{OTLP}METRICS_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, False),
    ],
)
def test_metrics_are_pushed_to_an_endpoint_of_their_own_or_when_asked_for(
    environ: dict[str, str], *, wanted: bool
) -> None:
    assert otel_env.metrics_wanted(environ)[0] is wanted


def test_the_environment_is_that_of_the_process_if_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{OTLP}ENDPOINT", "http://x:4318")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    assert otel_env.are_configured()
    assert otel_env.metrics_wanted()[0]
    monkeypatch.setenv(f"{OTLP}ENDPOINT", "x")
    with pytest.raises(SettingsError):
        otel_env.check()


def test_grpc_without_its_extra_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {f"{OTLP}ENDPOINT": "collector:4317", f"{OTLP}PROTOCOL": "grpc"}
    otel_env.check(chosen)

    def absent(_name: str) -> None:
        raise ModuleNotFoundError

    for find in (lambda _name: None, absent):
        monkeypatch.setattr("importlib.util.find_spec", find)
        assert fault(chosen) == (
            f"{OTLP}PROTOCOL=grpc: needs the extra `grpc` of daemonpulse; http/protobuf, at port 4318, needs nothing"
        )


@pytest.mark.parametrize("part", PARTS)
def test_what_the_sdk_would_misread_is_refused_for_every_signal(part: str) -> None:
    wrong = {
        "PROTOCOL": ("http/json", "=http/json: choose one of http/protobuf, grpc"),
        "ENDPOINT": ("x", "=x: write http://host:4318 (http/protobuf) or http://host:4317 (grpc)"),
        "TIMEOUT": ("10s", "=10s: write a number of seconds, such as 10"),
        "HEADERS": ("key", ": write name=value, and commas between several"),
        "CERTIFICATE": ("/nowhere", "=/nowhere: "),
        "CLIENT_CERTIFICATE": ("/nowhere", "=/nowhere: "),
        "CLIENT_KEY": ("/nowhere", "=/nowhere: "),
    }
    for name, (value, told) in wrong.items():
        key = f"{OTLP}{part}{name}"
        found = fault({key: value})
        assert found.startswith(f"{key}{told}"), found
        otel_env.check({key: value, "OTEL_SDK_DISABLED": "True"})
    key = f"{OTLP}{part}COMPRESSION"
    assert fault({key: "brotli"}).startswith(f"{key}=brotli: ")
    for value in ("none", "gzip", " Deflate "):
        otel_env.check({key: value})


def test_a_password_in_an_address_is_not_shown() -> None:
    found = fault({f"{OTLP}ENDPOINT": "http://me:hunter2@host:4318"})
    assert found == f"{OTLP}ENDPOINT: write http://host:4318 (http/protobuf) or http://host:4317 (grpc)"


def test_over_grpc_an_address_needs_no_scheme_and_only_gzip_is_known() -> None:
    grpc = {f"{OTLP}PROTOCOL": "grpc"}
    for endpoint in ("host:4317", "http://host:4317"):
        otel_env.check({**grpc, f"{OTLP}LOGS_ENDPOINT": endpoint, f"{OTLP}COMPRESSION": "gzip"})
    for endpoint in ("host/x", "me@host", "http://me@host", ""):
        assert not otel_env.is_endpoint(endpoint, "grpc")
    assert not otel_env.is_endpoint("host:4317", "http/protobuf")
    assert "deflate" in fault({**grpc, f"{OTLP}METRICS_COMPRESSION": "deflate"})
    own = {f"{OTLP}LOGS_PROTOCOL": "http/protobuf", f"{OTLP}LOGS_ENDPOINT": "host:4317"}
    assert fault({**grpc, **own}).startswith(f"{OTLP}LOGS_ENDPOINT=host:4317: ")
    otel_env.check({f"{OTLP}LOGS_PROTOCOL": "grpc", f"{OTLP}LOGS_COMPRESSION": "gzip"})
    otel_env.check({f"{OTLP}LOGS_PROTOCOL": "http/protobuf", f"{OTLP}LOGS_COMPRESSION": "deflate", **grpc})


@pytest.mark.parametrize(
    "headers", ["", " ", "a=b", "a=b,c = d e ,", "x-scope-orgid=tenant-7", "a=b=c", "a="]
)
def test_headers_are_names_and_values(headers: str) -> None:
    otel_env.check({f"{OTLP}HEADERS": headers})


@pytest.mark.parametrize("headers", ["hunter2", "a=b,hunter2", "a b=hunter2", "=hunter2", "a=hünter2"])
def test_headers_that_cannot_be_read_are_refused_and_not_shown(headers: str) -> None:
    assert fault({f"{OTLP}HEADERS": headers}) == (
        f"{OTLP}HEADERS: write name=value, and commas between several"
    )


def test_numbers_and_files_that_can_be_used_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("x", encoding="utf-8")
    for timeout in ("10", " 0.5 ", "1.123456789", ""):
        otel_env.check({f"{OTLP}TIMEOUT": timeout, f"{OTLP}CERTIFICATE": str(file)})
    for timeout in ("-1", "1e3", "1.", ".5", "1234567890", "\u0661"):
        assert "write a number of seconds" in fault({f"{OTLP}TIMEOUT": timeout})


@pytest.mark.parametrize("key", ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"])
def test_a_duration_that_is_none_is_refused(key: str) -> None:
    for text in ("", " ", "1", " 60000 "):
        otel_env.check({key: text})
    for text in ("0", "1.5", "60s", str(1 << 31)):
        assert fault({key: text}) == f"{key}={text}: write a number of milliseconds, such as 60000"


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 5), ("0", 5), ("-1", 5), ("x", 5), ("²", 5), ("\u0661", 5), ("1", 1), (" 250 ", 250),
     (str((1 << 31) - 1), (1 << 31) - 1), (str(1 << 31), 5)],
)  # fmt: skip
def test_a_duration_that_is_none_is_read_as_the_default(text: str, value: int) -> None:
    assert otel_env.milliseconds("N", 5, {"N": text}) == value
    assert otel_env.milliseconds("M", 5, {"N": text}) == 5


@pytest.mark.parametrize(
    ("value", "on_spans", "in_records"),
    [
        ("", False, False),
        ("NO_CONTENT", False, False),
        ("false", False, False),
        (" span_only ", True, False),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
        ("true", True, True),
    ],
)
def test_the_standard_variable_says_where_content_may_leave(
    value: str, *, on_spans: bool, in_records: bool
) -> None:
    assert otel_env.content_wanted({CONTENT_VARIABLE: value}) == (on_spans, in_records)
    assert otel_env.content_wanted({}) == (False, False)


def test_a_standard_value_that_there_is_not_is_refused() -> None:
    found = fault({CONTENT_VARIABLE: "everything" * 9})
    assert found == (
        f"{CONTENT_VARIABLE}=EVERYTHINGEVERYTHINGEVERYTHINGEV: "
        "choose one of NO_CONTENT, FALSE, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, TRUE"
    )
