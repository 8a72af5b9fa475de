"""The daemon's own words: fatal lines, HTTP requests by known routes, and what holds no content; and their stamps."""

import pytest

from exporter.pipeline.log_formats import daemon, stamps
from exporter.pipeline.log_formats.daemon import CrashLine, HttpLine
from exporter.pipeline.log_formats.stamps import NO_STAMP, Stamp

RAN = "The model has crashed without additional information. (Exit code: {})"
BEGAN = "Engine protocol runtime llama-server for {} exited before becoming healthy. exitCode={}"
UNEXPECTED = "Unexpected endpoint or method. ({}). Returning {} anyway"


@pytest.mark.parametrize(
    ("line", "crash"),
    [
        (RAN.format(6), CrashLine(6, was_running=True)),
        (f"Error: {RAN.format(-9)}. Error Data: n/a", CrashLine(-9, was_running=True)),
        (RAN.format("null"), CrashLine(None, was_running=True)),
        (BEGAN.format("abc", 1), CrashLine(1, was_running=False)),
        (BEGAN.format("abc", "null") + ", signal=SIGABRT", CrashLine(None, was_running=False)),
        (f"He said: {RAN.format(6)}", None),
        ("", None),
    ],
)
def test_a_fatal_line_tells_its_code_and_whether_the_engine_had_started(
    line: str, crash: CrashLine | None
) -> None:
    assert daemon.read_crash(line) == crash


@pytest.mark.parametrize(
    ("line", "http"),
    [
        (
            "Received request: POST to /v1/chat/completions with body {",
            HttpLine("POST", "/v1/chat/completions", None),
        ),
        ("Received request: GET to /v1/models/?key=x", HttpLine("GET", "/v1/models", None)),
        ("Received request: GET to /secret/path", HttpLine("GET", "other", None)),
        ("Received request: BREW to /api/v1/chat", HttpLine("other", "/api/v1/chat", None)),
        (
            "Received request: GET to /api/v1/models/download/status/job_1",
            HttpLine("GET", "/api/v1/models/download/status", None),
        ),
        (
            "Received request: GET to /api/v1/models/download/status",
            HttpLine("GET", "/api/v1/models/download/status", None),
        ),
        (UNEXPECTED.format("GET /v1/chat/completions", 200), HttpLine("GET", "/v1/chat/completions", "200")),
        (UNEXPECTED.format("GET /x?key=y", 404), HttpLine("GET", "other", "404")),
        (UNEXPECTED.format("GET /x", 900), None),
        ("Received request: nothing", None),
        ("Unexpected endpoint", None),
        ("He said: Received request: GET to /v1/models", None),
    ],
)
def test_a_request_is_read_by_its_method_route_and_status(line: str, http: HttpLine | None) -> None:
    assert daemon.read_http(line) == http


OF_ENGINES = (
    RAN.format(6),
    f"{RAN.format('null')}.",
    f"{RAN.format(6)}. Error Data: n/a, Additional Data: n/a",
    BEGAN.format("qwen/qwen3-8b@q4:2", 1) + ", signal=null",
    "Prompt cache restore: cached_tokens=6 uncached_tokens=7",
    "Cache reuse summary: 6/13 of prompt (46%), 6 prefix, 0 non-prefix",
)
OF_ALL = (
    "Finished streaming response",
    "Running chat completion on conversation with 3 messages.",
    "Success! HTTP server listening on port 1234 | Just-in-time model loading active.",
)


def test_lines_of_the_daemons_own_words_hold_no_content() -> None:
    for line in OF_ENGINES:
        assert daemon.is_known_to_engines(line), line
        assert daemon.is_known(line), line
    for line in OF_ALL:
        assert daemon.is_known(line), line
        assert not daemon.is_known_to_engines(line), line


@pytest.mark.parametrize("line", [*OF_ENGINES, *OF_ALL])
def test_a_line_with_more_in_it_may_hold_content(line: str) -> None:
    for changed in (f"{line} secret", f"secret {line}", f"{line}\nsecret"):
        assert not daemon.is_known(changed), changed
    assert not daemon.is_known_to_engines(BEGAN.format("a secret text", 1))
    assert not daemon.is_known("")


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        (
            "[2026-08-08 22:40:13][INFO][qwen/qwen3] Said",
            Stamp(40, timed=True, level="INFO", bracket="qwen/qwen3"),
        ),
        ("2026-06-03 11:02:46 [DEBUG]\nslot", Stamp(28, timed=True, level="DEBUG")),
        ("2026-06-03T11:02:46.123456Z [WARN] x", Stamp(35, timed=True, level="WARN")),
        ("[ERROR][LM STUDIO SERVER] x", Stamp(26, level="ERROR", bracket=stamps.SERVER_BRACKET)),
        ("[Plugin(mcp/a)] x", Stamp(16, bracket="Plugin(mcp/a)")),
        ("[2026-08-08 22:40:13] x", NO_STAMP),
        ("[qwen] x", NO_STAMP),
        ("[NOTICE] x", NO_STAMP),
        ("1 x", NO_STAMP),
        ("x [INFO] x", NO_STAMP),
        ("", NO_STAMP),
    ],
)
def test_a_stamp_is_read_to_its_end(text: str, stamp: Stamp) -> None:
    assert stamps.read(text) == stamp
