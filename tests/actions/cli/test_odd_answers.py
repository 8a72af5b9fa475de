"""Whatever answers in place of the API, a verb ends with one line that names it, and never with a traceback."""

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from actions.cli import connection
from actions.cli.commands import actions
from actions.cli.connection import UNREACHABLE

VERBS = (
    ("ps",),
    ("models",),
    ("operations",),
    ("desired",),
    ("load", "m"),
    ("eject", "m"),
    ("eject-all",),
    ("preflight", "m"),
    ("fit", "m"),
    ("probe", "m"),
    ("download", "m"),
    ("download", "m", "--cancel"),
    ("pin", "m"),
    ("unpin", "m"),
    ("cancel", "x"),
    ("engines", "list"),
    ("engines", "select", "e", "--engine-version", "1"),
    ("engines", "update", "e", "--engine-version", "1"),
    ("audit", "list"),
    ("mcp", "list"),
    ("mcp", "approvals"),
    ("mcp", "approve", "x"),
    ("mcp", "adopt"),
)
PAGE = b"<!DOCTYPE html><title>502 Bad Gateway</title>"
KEYS = (  # noqa: SIM905 - a list of words
    "daemons daemon site instances models operations entries approvals servers engines id state finished_ms problem"
    " result verdict reasons gpus holders fits now wanted memory detail parts type progress phase created_ms"
).split()


class Stand(BaseHTTPRequestHandler):
    """Answers everything with what a test set."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    encoding: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        if self.encoding:
            self.send_header("Content-Encoding", self.encoding)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, *_args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stand) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def ended(url: str, verb: tuple[str, ...]) -> tuple[int, str]:
    result = CliRunner().invoke(actions, [*verb, "--url", url], env={"DAEMONPULSE_ACTIONS_TOKEN": "dp_x"})
    assert result.exception is None or isinstance(result.exception, SystemExit), (verb, result.exc_info)
    return result.exit_code, result.stderr


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, PAGE, ""), "an HTML page"),
        ((502, PAGE, ""), "HTTP 502 with an HTML page"),
        ((200, b"", ""), "an empty body"),
        ((204, b"", ""), "an empty body"),
        ((200, b"{", ""), "not JSON"),
        ((200, b"[" * 100_000, ""), "not JSON"),
        ((200, b"[]", ""), "a JSON list"),
        ((200, b"null", ""), "a JSON NoneType"),
        ((200, b"{}", ""), "cannot read (no "),
        ((200, b"{}", "gzip"), "cannot read (no "),
        ((503, b"{}", ""), "without a reason"),
        ((302, b'{"detail": 5}', ""), "without a reason"),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_one_line_that_names_it(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
    answer: tuple[int, bytes, str],
    words: str,
) -> None:
    status, body, encoding = answer
    monkeypatch.setattr(Stand, "status", status)
    monkeypatch.setattr(Stand, "body", body)
    monkeypatch.setattr(Stand, "encoding", encoding)
    code, said = ended(url, verb)
    assert code == UNREACHABLE, said
    assert said.count("\n") == 1
    assert said.startswith(f"daemonpulse: --url={url}: answered ")
    assert f"HTTP {status}" in said
    assert words in said
    assert "a JSON object of the actions API was expected" in said


@pytest.mark.parametrize("seed", range(12))
def test_answers_of_wrong_shapes_never_end_in_a_traceback(
    url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    choices = random.Random(seed)
    for verb in VERBS:
        monkeypatch.setattr(Stand, "status", choices.choice([200, 200, 202, 404, 409, 503]))
        monkeypatch.setattr(Stand, "body", json.dumps(shape(choices, 0)).encode())
        code, said = ended(url, verb)
        assert code in {0, 1, 2, UNREACHABLE}
        assert not said or said.splitlines()[-1].startswith(("daemonpulse: ", "operation "))


def shape(choices: random.Random, depth: int) -> Any:
    """Make an object with names that the verbs look for and values of any kind."""
    plain: list[Any] = [None, True, 0, -1, 1e300, 2**70, "", "m", "\ud800\x1b[2J", [], {}]

    def value() -> Any:
        kind = choices.randrange(4 if depth < 3 else 1)
        if kind == 0:
            return choices.choice(plain)
        return [shape(choices, depth + 1)] if kind == 1 else shape(choices, depth + 1)

    return {key: value() for key in choices.sample(KEYS, choices.randrange(len(KEYS) // (depth + 1)))}


def test_an_answer_without_an_end_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(Stand, "body", b" " * (2 * 1024 * 1024))
    code, said = ended(url, ("ps",))
    assert (code, "more than 1 MiB" in said) == (UNREACHABLE, True), said


def test_an_answer_that_dribbles_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER_S", -1.0)
    monkeypatch.setattr(Stand, "body", b"{}")
    code, said = ended(url, ("ps",))
    assert (code, "not done after" in said) == (UNREACHABLE, True), said


def test_where_nobody_answers_is_said_with_an_exit_code_of_its_own() -> None:
    code, said = ended("http://127.0.0.1:9", ("load", "m"))
    assert code == UNREACHABLE
    assert "start the service with `daemonpulse actions serve`" in said
