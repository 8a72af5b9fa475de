"""Our log lines: one event, one line, whatever is in it."""

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.shared import logs
from exporter.shared.logs import JsonFormatter, LogfmtFormatter

PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_.]*)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')
ODD = [
    "",
    " ",
    "a b",
    'quote " inside',
    "back\\slash",
    "line\nbreak",
    "\r\n\x1b[31m\x85\u2028",
    "=",
    "ünï",
    "a=b",
]


def record(message: str = "msg", **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "exporter.test", "levelname": "WARNING", "levelno": 30, "msg": message, "created": 0.5}
    )
    made.__dict__.update(extra)
    return made


def fail(message: str) -> NoReturn:
    raise ZeroDivisionError(message)


def parsed(line: str) -> dict[str, str]:
    """Read a logfmt line strictly: nothing but pairs, separated by one space."""
    found, at = {}, 0
    while at < len(line):
        match = PAIR.match(line, at)
        assert match is not None, line[at:]
        key, value = match[1], match[2]
        assert key not in found
        found[key] = json.loads(value) if value.startswith('"') else value
        at = match.end()
    return found


def test_a_line_says_when_how_bad_who_and_what() -> None:
    line = LogfmtFormatter().format(record("daemon not readable", daemon="local", tries=3))

    assert line == (
        "ts=1970-01-01T00:00:00.500Z level=warning logger=exporter.test "
        'msg="daemon not readable" daemon=local tries=3'
    )


@pytest.mark.parametrize("value", ODD)
def test_no_value_breaks_its_line_in_either_format(value: str) -> None:
    for formatter, read in ((LogfmtFormatter(), parsed), (JsonFormatter(), json.loads)):
        line = formatter.format(record(value, problem=value))

        assert len(line.splitlines()) == 1
        assert line.isascii()
        assert line.isprintable()
        fields = read(line)
        assert (fields["msg"], fields["problem"]) == (value, value)
        assert list(fields) == ["ts", "level", "logger", "msg", "problem"]


@given(st.text(), st.text(), st.text())
def test_no_text_forges_a_line_or_a_field(message: str, problem: str, name: str) -> None:
    made = record(message, problem=problem)
    made.name = name

    line = LogfmtFormatter().format(made)
    fields = parsed(line)
    body = json.loads(JsonFormatter().format(made))

    assert len(line.splitlines()) == 1
    assert list(fields) == ["ts", "level", "logger", "msg", "problem"]
    assert (fields["msg"], fields["problem"], fields["logger"]) == (message, problem, name)
    assert (body["msg"], body["problem"], body["logger"]) == (message, problem, name)


@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()])
def test_an_exception_stays_on_the_line_and_leaves_out_its_message(formatter: logging.Formatter) -> None:
    made = record()
    with pytest.raises(ZeroDivisionError) as caught:
        fail(FORGED)
    made.exc_info = (caught.type, caught.value, caught.tb)

    line = formatter.format(made)

    assert len(line.splitlines()) == 1
    fields = json.loads(line) if line.startswith("{") else parsed(line)
    assert fields["level"] == "warning"
    assert fields["error"] == "ZeroDivisionError"
    assert "test_logs.py" in fields["trace"]
    assert "forged" not in line


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    assert json.loads(JsonFormatter().format(record(problem=ValueError("x"))))["problem"] == "x"


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """Put logging back as it was; pytest's own handlers would be closed by basicConfig(force=True)."""
    root = logging.getLogger()
    names = ("exporter", "actions", "daemonpulse")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    hooks = sys.excepthook, threading.excepthook
    root.handlers = []
    yield
    sys.excepthook, threading.excepthook = hooks
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


FORGED = "first\nlevel=critical msg=forged"
SECRET = "hunter2"


def refused(secret: str) -> NoReturn:
    try:
        int(secret)
    except ValueError as cause:
        raise ExceptionGroup(f"{secret} failed", [KeyError(secret), OSError(secret)]) from cause
    raise AssertionError


@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()])
def test_causes_and_members_are_named_without_their_messages(formatter: logging.Formatter) -> None:
    made = record()
    with pytest.raises(ExceptionGroup) as caught:
        refused(SECRET)
    made.exc_info = (caught.type, caught.value, caught.tb)

    line = formatter.format(made)

    assert SECRET not in line
    for named in ("ExceptionGroup", "ValueError", "KeyError", "OSError", "int(secret)"):
        assert named in line


@pytest.mark.usefixtures("_logging_as_before")
def test_an_unhandled_exception_is_a_log_line_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", format_="logfmt")
    try:
        refused(SECRET)
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=refused, args=(SECRET,))
    thread.start()
    thread.join()

    lines = capsys.readouterr().err.splitlines()

    assert [parsed(line)["msg"] for line in lines] == ["unhandled exception"] * 2
    assert SECRET not in "".join(lines)


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_configured_logging_writes_to_stderr_from_its_level_on(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    logs.configure(level="info", format_=format_)

    logging.getLogger("exporter.test").debug("too little")
    logging.getLogger("exporter.test").info("enough", extra={"daemon": "d"})
    logging.getLogger("websockets.client").info("chatter")
    logging.getLogger("uvicorn.error").warning("worth it")

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert [(json.loads(line) if format_ == "json" else parsed(line))["msg"] for line in lines] == [
        "enough",
        "worth it",
    ]


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.usefixtures("_logging_as_before")
def test_configured_logging_writes_to_the_stream_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure(level="info", format_="logfmt", stream=stream)
    logging.getLogger("exporter").info("ours")
    logging.getLogger("httpx").info("a request a second")
    assert "msg=ours" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_logging_as_before")
def test_records_kept_in_a_file_end_with_it_and_what_is_unhandled_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = sys.excepthook
    with logs.kept_in(tmp_path / "log"):
        logging.getLogger("exporter").info("ours")
        assert sys.excepthook is hook
    logging.getLogger("exporter").warning("too late")
    assert "msg=ours" in (tmp_path / "log").read_text()
    assert "late" not in (tmp_path / "log").read_text()
    assert capsys.readouterr().err == ""


def test_at_error_the_chatty_ones_say_no_more_than_we_do(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="error", format_="logfmt")

    logging.getLogger("uvicorn.error").warning("not now")

    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize(
    "library", ["mcp.client", "httpx", "httpx2", "urllib3", "websockets", "asyncio", "x"]
)
def test_at_debug_libraries_tell_nothing_of_what_passes_through_them(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    logs.configure(level="debug", format_="logfmt")

    logging.getLogger(library).info("POST /?key=hunter2")
    logging.getLogger(f"{library}.part").debug("hunter2")
    logging.getLogger("actions.mcp").debug("ours")

    assert [parsed(line)["msg"] for line in capsys.readouterr().err.splitlines()] == ["ours"]


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_a_library_that_quotes_content_when_it_complains_is_heard_without_it(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    logs.configure(level="info", format_=format_)

    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("mcp.client.x").exception("not read: %s", SECRET)

    line = capsys.readouterr().err
    assert "a library reports a problem" in line
    assert "ValueError" in line
    assert SECRET not in line
