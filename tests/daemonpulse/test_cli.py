"""The command as a person or an init system meets it: exit codes, one-line errors, clean stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from daemonpulse.cli import main

COMMAND = str(Path(sys.executable).parent / "daemonpulse")
SIMULATOR = str(Path(sys.executable).parent / "llmster-sim")


def clean_environment() -> dict[str, str]:
    """Give the environment without settings of ours, so that a developer's own do not matter."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("DAEMONPULSE_", "LM_API"))}


def daemonpulse(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@contextmanager
def started(*command: str, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=clean_environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def simulator(*flags: str) -> Iterator[str]:
    """Run llmster-sim and give its URL."""
    with started(SIMULATOR, "--port", "0", "--scenario", "idle", *flags) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://")).rstrip(",.;")
        yield url


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def exporter_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if 'msg="exporter started"' in line:
            return next(word.removeprefix("url=") for word in line.split() if word.startswith("url="))
    raise AssertionError("the exporter ended before it started")


def test_help_names_every_subcommand_and_every_setting() -> None:
    top = daemonpulse("--help")
    assert top.returncode == 0
    for subcommand in ("exporter", "check", "demo"):
        assert subcommand in top.stdout
        assert daemonpulse(subcommand, "--help").returncode == 0
    assert "DAEMONPULSE_DAEMON_TOKEN_FILE" in daemonpulse("exporter", "--help").stdout


def groups(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Give the words of every command that has subcommands."""
    if isinstance(command, click.Group):
        yield path
        for name, below in command.commands.items():
            yield from groups(below, *path, name)


def test_no_help_page_cuts_what_a_subcommand_does() -> None:
    found = list(groups(main))
    assert ("actions", "mcp") in found
    for path in found:
        page = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).output
        assert "..." not in page.partition("Commands:")[2], path


def test_an_interrupt_during_the_first_imports_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    ended = subprocess.run(
        [sys.executable, "-m", "daemonpulse", "--help"],
        env=clean_environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_version_is_printed() -> None:
    assert daemonpulse("--version").stdout.startswith("daemonpulse, version ")


@pytest.mark.parametrize(
    ("variables", "key", "fix"),
    [
        (
            {"DAEMONPULSE_DEAMON_URL": "http://x:1"},
            "DAEMONPULSE_DEAMON_URL",
            "did you mean DAEMONPULSE_DAEMON_URL?",
        ),
        ({"DAEMONPULSE_DAEMON_URL": "box:1234"}, "DAEMONPULSE_DAEMON_URL=box:1234", "write http://host:port"),
        ({"DAEMONPULSE_DAEMON_TOKEN": "sk-lm-oops"}, "DAEMONPULSE_DAEMON_TOKEN", "an API token looks like"),
        (
            {"DAEMONPULSE_DAEMON_TOKEN_FILE": "/no/such"},
            "DAEMONPULSE_DAEMON_TOKEN_FILE=/no/such",
            "cannot be read",
        ),
        ({"DAEMONPULSE_LISTEN": "9810"}, "DAEMONPULSE_LISTEN=9810", "write host:port"),
        ({"DAEMONPULSE_CONFIG": "/no/such.toml"}, "/no/such.toml", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_line_with_key_value_and_fix(
    variables: dict[str, str], key: str, fix: str
) -> None:
    ended = daemonpulse("exporter", **variables)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert key in ended.stderr
    assert fix in ended.stderr
    assert "sk-lm-oops" not in ended.stderr


def test_a_port_in_use_is_one_line_with_the_fix() -> None:
    with taken_port() as port:
        ended = daemonpulse("exporter", "--listen", f"127.0.0.1:{port}", "--log-level", "error")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}: cannot listen there" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exporter_serves_until_a_signal_and_ends_with_zero(number: signal.Signals) -> None:
    with started(
        COMMAND, "exporter", "--listen", "127.0.0.1:0", "--daemon-url", "http://127.0.0.1:9"
    ) as process:
        url = exporter_url(process)
        assert httpx.get(url + "/healthz", trust_env=False).text == "ok\n"
        assert 'llmster_up{daemon="local"} 0.0' in httpx.get(url + "/metrics", trust_env=False).text
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_a_replay_from_a_quiet_pipe_keeps_neither_scrapes_nor_the_end_waiting() -> None:
    line = json.dumps(
        {"timestamp": 1, "data": {"type": "server.log", "content": "[INFO] hi", "level": "info"}}
    )
    reading, writing = os.pipe()
    with (
        started(COMMAND, "exporter", "--listen", "127.0.0.1:0", "--replay", "-", stdin=reading) as process,
        os.fdopen(writing, "w") as pipe,
    ):
        os.close(reading)
        url = exporter_url(process)
        pipe.write(line + "\n" + line[:20])
        pipe.flush()
        deadline = time.monotonic() + 20
        seen = ""
        while 'type="server.log"' not in seen and time.monotonic() < deadline:
            seen = httpx.get(url + "/metrics", trust_env=False).text
        assert 'llmster_log_events_total{daemon="local",type="server.log"} 1.0' in seen
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_the_recording_that_is_shipped_shows_requests() -> None:
    sample = Path(__file__).parents[2] / "docs" / "examples" / "log-stream.jsonl"
    predictions = sample.read_text(encoding="utf-8").count('"type":"llm.prediction.output"')
    assert predictions > 20
    with started(COMMAND, "exporter", "--listen", "127.0.0.1:0", "--replay", str(sample)) as process:
        url = exporter_url(process)
        deadline = time.monotonic() + 20
        seen = 0.0
        while seen != predictions and time.monotonic() < deadline:
            text = httpx.get(url + "/metrics", trust_env=False).text
            lines = [line for line in text.splitlines() if line.startswith("llmster_request_success_total{")]
            seen = sum(float(line.rpartition(" ")[2]) for line in lines)
    assert seen == predictions


def test_a_recording_without_the_log_stream_is_refused() -> None:
    ended = daemonpulse("exporter", "--replay", os.devnull, "--log-stream", "off", "--listen", "127.0.0.1:0")
    assert ended.returncode == 2
    assert ended.stderr == "daemonpulse: log_stream=off: a recording is a log stream; leave it on\n"


def test_simulate_sees_its_daemon_wherever_that_listens() -> None:
    where = ("--daemon-host", "127.0.0.2", "--daemon-port", "0")
    with started(COMMAND, "simulate", *where, "--listen", "127.0.0.1:0", "--scenario", "idle") as process:
        url = exporter_url(process)
        deadline = time.monotonic() + 20
        while 'llmster_up{daemon="local"} 1.0' not in httpx.get(url + "/metrics", trust_env=False).text:
            assert time.monotonic() < deadline


def test_check_finds_everything_working_on_a_healthy_daemon() -> None:
    with simulator() as url:
        ended = daemonpulse("check", "--daemon-url", url, "--listen", "127.0.0.1:0", "--json")
    findings = {finding["what"]: finding for finding in json.loads(ended.stdout)}
    assert ended.returncode == 0, ended.stdout
    assert [what for what, finding in findings.items() if not finding["works"]] == []
    assert {"daemon found", "token accepted", "state readable", "log stream open"} <= findings.keys()


def test_check_names_the_fix_when_nothing_is_there(tmp_path: Path) -> None:
    ended = daemonpulse("check", "--daemon-url", "http://127.0.0.1:9", HOME=str(tmp_path))
    assert ended.returncode == 1
    assert "FAILS  daemon found" in ended.stdout
    assert "fix: start it: lms daemon up" in ended.stdout


def test_check_names_the_fix_when_a_token_is_missing_and_never_shows_one() -> None:
    token = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
    with simulator("--token", token) as url:
        missing = daemonpulse("check", "--daemon-url", url)
        wrong = daemonpulse("check", "--daemon-url", url, LM_API_TOKEN="sk-lm-Ab3dE6gH:zzzzzzzzzzzzzzzzzzzz")
        right = daemonpulse("check", "--daemon-url", url, LM_API_TOKEN=token)
    assert (missing.returncode, wrong.returncode, right.returncode) == (1, 1, 0)
    assert "FAILS  token accepted" in missing.stdout
    assert "create a token" in missing.stdout
    assert "replace it" in wrong.stdout
    for ended in (missing, wrong, right):
        assert "0123456789" not in ended.stdout + ended.stderr
        assert "zzzz" not in ended.stdout + ended.stderr


def test_check_tells_another_server_from_lm_studio() -> None:
    with started(sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1") as process:
        assert process.stdout is not None
        port = process.stdout.readline().split(" port ")[1].split()[0]
        ended = daemonpulse("check", "--daemon-url", f"http://127.0.0.1:{port}")
    assert ended.returncode == 1
    assert "is not LM Studio" in ended.stdout
