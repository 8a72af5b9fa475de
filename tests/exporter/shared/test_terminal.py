"""No name, reason or argument steers the terminal it is shown on."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from daemonpulse.cli import main
from daemonpulse.demo import run
from daemonpulse.demo.alert_sink import Alert, alert_sink
from exporter.shared.terminal import plain, say, say_json

EVIL = "m\x1b[2J\x1b]0;owned\x07\r\n2026-01-01 forged line\0\x7f\x9b1m\u2028\u202e\ud800\u0085end"
HIDDEN = (
    "m\\x1b[2J\\x1b]0;owned\\x07\\r\\n2026-01-01 forged line\\x00\\x7f\\x9b1m\\u2028\\u202e\\ud800\\x85end"
)
TOOL = {"tool": EVIL, "decision": "ask", "rule": EVIL, "changed": True}
ANSWERS: dict[str, Any] = {
    "/v1/daemons": {"daemons": [{"daemon": "box", "site": EVIL}]},
    "/v1/operations": {
        "operations": [
            {
                "created_ms": 0,
                "id": EVIL,
                "state": EVIL,
                "daemon": EVIL,
                "action": EVIL,
                "subject": EVIL,
                "actor": EVIL,
                "person": EVIL,
                "problem": {"detail": EVIL},
            }
        ]
    },
    "/v1/mcp/servers/files/tools": {"server": "files", "tools": [TOOL]},
    "/v1/mcp/approvals": {
        "approvals": [
            {
                "id": EVIL,
                "state": "denied",
                "server": EVIL,
                "tool": EVIL,
                "token": EVIL,
                "arguments": EVIL,
                "reason": EVIL,
            }
        ]
    },
}


@pytest.fixture
def url() -> Iterator[str]:
    """An actions API, or whoever took its place, that means no good."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = ANSWERS[self.path.partition("?")[0]]
            self.answer(200, found)

        def do_POST(self) -> None:
            self.answer(409, {"type": "x", "detail": EVIL})

        def answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "command",
    [
        ["operations"],
        ["load", "m"],
        ["eject", "m"],
        ["mcp", "list", "files"],
        ["mcp", "approvals", "--all"],
        ["mcp", "approve", "1"],
    ],
    ids=" ".join,
)
def test_what_an_answer_says_is_shown_and_not_obeyed(url: str, command: list[str]) -> None:
    shown = CliRunner().invoke(main, ["actions", *command, "--url", url]).output

    assert shown.count("\n") <= 3
    assert all(char.isprintable() for char in shown.replace("\n", ""))
    assert "\\x1b[2J" in shown
    assert not any(line.startswith("2026-01-01") for line in shown.splitlines())


@pytest.mark.parametrize("command", [["operations"], ["mcp", "approvals", "--all"]], ids=" ".join)
def test_as_json_it_is_all_there_and_in_ascii(url: str, command: list[str]) -> None:
    shown = CliRunner().invoke(main, ["actions", *command, "--json", "--url", url]).output

    assert all(char.isprintable() for char in shown.replace("\n", ""))
    assert json.loads(shown) == ANSWERS[f"/v1/{'/'.join(command[:2]).removesuffix('/--all')}"]


def test_only_what_is_printable_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(EVIL) == HIDDEN
    assert plain("Grüße, 世界 …") == "Grüße, 世界 …"
    say("one\ntwo\x1b[2J\rthree")
    say_json({"a": "\x7f\x1b"})
    out = capsys.readouterr().out
    assert out == 'one\\ntwo\\x1b[2J\\rthree\n{\n  "a": "\\u007f\\u001b"\n}\n'


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--scenario", EVIL],
        ["actions", "audit", "verify", "--head", EVIL],
        ["exporter", "--listen", EVIL],
    ],
    ids=lambda command: command[0],
)
def test_a_complaint_about_what_was_asked_is_one_line(command: list[str]) -> None:
    ended = CliRunner().invoke(main, command)

    assert ended.exit_code == 2
    assert ended.stderr.count("\n") == 1
    assert all(char.isprintable() for char in ended.stderr.replace("\n", ""))
    assert "\\x1b[2J" in ended.stderr


def test_an_alert_that_anybody_sends_to_the_demo_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run.tell(Alert(EVIL, EVIL, EVIL, {}))

    shown = capsys.readouterr().out
    assert shown.count("\n") == 2
    assert all(char.isprintable() for char in shown.replace("\n", ""))


def test_what_is_no_message_of_alertmanagers_is_refused_and_the_next_is_heard() -> None:
    heard: list[Alert] = []
    good = {"alerts": [{"status": "firing", "labels": {"alertname": "A"}, "annotations": {}}]}
    with alert_sink(heard.append) as url, httpx.Client(trust_env=False) as http:
        for body in (b"", b"[" * 100_000, b"[]", b"{}", b'{"alerts": [1]}', b"\xff"):
            assert http.post(url, content=body).status_code == 400, body[:20]
        assert http.post(url, content=b" " * 2_000_000).status_code == 413
        assert http.post(url, json=good).status_code == 204
    assert [alert.name for alert in heard] == ["A"]
