import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from daemonpulse import healthcheck as module
from daemonpulse.healthcheck import healthcheck


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Serve one status at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def no_process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_words_of_process_1", list)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (421, 0), (500, 1), (503, 1)])
def test_any_answer_below_500_is_alive(status: int, code: int) -> None:
    with answering(status) as port:
        ran = CliRunner().invoke(healthcheck, env={"DAEMONPULSE_LISTEN": f"127.0.0.1:{port}"})
    assert ran.exit_code == code, ran.output


def test_a_listener_on_every_address_is_asked_on_loopback() -> None:
    with answering(200) as port:
        ran = CliRunner().invoke(healthcheck, env={"DAEMONPULSE_LISTEN": f":{port}"})
    assert ran.exit_code == 0, ran.output


def test_silence_is_one_line_and_exit_code_1() -> None:
    ran = CliRunner().invoke(healthcheck, env={"DAEMONPULSE_LISTEN": f"127.0.0.1:{free_port()}"})
    assert ran.exit_code == 1
    assert "does not answer" in ran.output
    assert len(ran.output.splitlines()) == 1


def test_flags_of_process_1_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200) as port:
        monkeypatch.setattr(
            module, "_words_of_process_1", lambda: ["actions", "serve", "--listen", f"127.0.0.1:{port}"]
        )
        ran = CliRunner().invoke(healthcheck, env={"DAEMONPULSE_ACTIONS_LISTEN": f"127.0.0.1:{free_port()}"})
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize(
    ("cmdline", "words"),
    [
        (b"/opt/daemonpulse/bin/python\0/opt/daemonpulse/bin/daemonpulse\0exporter\0--listen\0:9810\0", 3),
        (b"daemonpulse\0actions\0serve\0", 2),
        (b"/sbin/init\0", 0),
        (b"", 0),
    ],
)
def test_the_words_of_process_1_are_read_from_proc(
    cmdline: bytes, words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (tmp_path / "cmdline").write_bytes(cmdline)
    assert len(module._words_of_process_1(tmp_path / "cmdline")) == words
    assert module._words_of_process_1(tmp_path / "missing") == ()


def test_a_tap_is_asked_where_its_reports_are() -> None:
    with answering(200) as port:
        env = {"DAEMONPULSE_TAP_REPORTS_LISTEN": f"127.0.0.1:{port}"}
        ran = CliRunner().invoke(healthcheck, ["tap"], env=env)
    assert ran.exit_code == 0, ran.output
