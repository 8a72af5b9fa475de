"""The newcomer's command: runs a while, checks itself, writes its URLs, leaves nothing behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from daemonpulse.demo import status_output, verification
from daemonpulse.top.model import Sample
from llmster_sim.traffic.scenarios import SCENARIOS
from tests.daemonpulse.test_cli import COMMAND, clean_environment, daemonpulse, started


def until(process: subprocess.Popen[str] | subprocess.Popen[bytes], so: Callable[[], bool]) -> None:
    """Wait until something is so that another process does, as long as that lives."""
    deadline = time.monotonic() + 60
    while not so():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.external("prometheus")
def test_demo_checks_itself_and_ends_with_zero(tmp_path: Path) -> None:
    urls_file = tmp_path / "urls.json"
    ended = daemonpulse("demo", "--seconds", "12", "--urls-file", str(urls_file), TMPDIR=str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "state metrics served, and stored by Prometheus" in ended.stdout
    assert {"llmster", "exporter", "actions", "prometheus"} <= json.loads(urls_file.read_text()).keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["urls.json"], "the demo cleans up after itself"


def test_demo_without_prometheus_says_what_it_would_add(tmp_path: Path) -> None:
    environment = clean_environment() | {"PATH": str(Path(COMMAND).parent), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [COMMAND, "demo", "--seconds", "2", "--scenario", "demo+leak"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "prometheus is not on PATH" in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scenario", "unknown"), [("sunday", "sunday"), ("stuck+sunday", "sunday"), ("demo+", "")]
)
def test_demo_refuses_an_unknown_scenario_by_name(scenario: str, unknown: str) -> None:
    ended = daemonpulse("demo", "--scenario", scenario)
    assert ended.returncode == 2
    assert f"--scenario={scenario}: there is no {unknown!r}; choose of idle, steady" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_demo_does_not_start_when_it_could_not_write_its_urls() -> None:
    ended = daemonpulse("demo", "--urls-file", "/no/such/urls.json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--urls-file=/no/such/urls.json: its folder does not exist" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    urls_file = tmp_path / "urls.json"
    with started(COMMAND, "demo", "--urls-file", str(urls_file)) as process:
        until(process, urls_file.exists)
        urls = json.loads(urls_file.read_text())
        assert httpx.get(urls["llmster"] + "/lmstudio-greeting", trust_env=False).json() == {"lmstudio": True}
        os.kill(process.pid, number)
        _, complaints = process.communicate(timeout=20)
        assert (process.returncode, complaints) == (0, "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(urls["exporter"] + "/healthz", trust_env=False)


def test_a_signal_while_the_demo_starts_ends_it(tmp_path: Path) -> None:
    # A program of the stack that never serves: the demo waits for it after its own servers have started.
    never = tmp_path / "prometheus"
    never.write_text('#!/bin/sh\ntouch "$(dirname "$0")/began"\nexec sleep 600\n')
    never.chmod(0o755)
    environment = clean_environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    with subprocess.Popen([COMMAND, "demo"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        until(process, (tmp_path / "began").exists)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
        assert (process.returncode, complaints) == (0, "")
    assert {entry.name for entry in tmp_path.iterdir()} == {"prometheus", "began"}


async def test_a_host_too_busy_to_answer_does_not_end_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asyncio.get_running_loop().create_future()
    asked = 0

    async def late(_http: httpx.AsyncClient, url: str) -> list[Sample]:
        nonlocal asked
        asked += 1
        if asked == 2:
            told.set_result(None)
        raise httpx.ReadTimeout("late", request=httpx.Request("GET", f"{url}/metrics"))

    monkeypatch.setattr(status_output, "samples", late)
    monkeypatch.setattr(verification, "samples", late)
    await status_output.show_status("http://127.0.0.1:9", {told}, None)
    assert capsys.readouterr().out == "no answer from the exporter (ReadTimeout)\n"
    assert await verification.verify({"exporter": "http://127.0.0.1:9"}) == 1
    assert capsys.readouterr().err == "daemonpulse: http://127.0.0.1:9/metrics does not answer: ReadTimeout\n"


def test_the_demos_agents_call_their_tools_through_the_gate(tmp_path: Path) -> None:
    urls_file = tmp_path / "urls.json"
    with started(COMMAND, "demo", "--scenario", "agent", "--urls-file", str(urls_file)) as process:
        until(process, urls_file.exists)
        actions = json.loads(urls_file.read_text())["actions"]

        def seen(pattern: str) -> bool:
            text = httpx.get(f"{actions}/metrics", trust_env=False).text
            return re.search(pattern, text, re.MULTILINE) is not None

        until(process, lambda: seen(r'^daemonpulse_mcp_tool_calls_total{.*server="notes".*} [1-9]'))
        until(process, lambda: seen(r"^daemonpulse_mcp_config_drift 0"))
        os.kill(process.pid, signal.SIGTERM)
        _, complaints = process.communicate(timeout=20)
        assert (process.returncode, complaints) == (0, "")


def test_help_names_every_scenario() -> None:
    words = daemonpulse("demo", "--help").stdout.replace(",", " ").replace(".", " ").split()
    assert set(SCENARIOS) <= set(words)
