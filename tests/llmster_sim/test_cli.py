import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from llmster_sim.cli import main
from llmster_sim.server import Simulator
from llmster_sim.traffic.scenarios import SCENARIOS

_RUN = (sys.executable, "-m", "llmster_sim.cli")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_says_where_it_is_writes_its_url_and_stops_cleanly(number: int, tmp_path: Path) -> None:
    urls = tmp_path / "urls.json"
    options = (
        "--port",
        "0",
        "--scenario",
        "idle",
        "--urls-file",
        str(urls),
        "--home",
        str(tmp_path / "home"),
    )
    process = await asyncio.create_subprocess_exec(*_RUN, *options, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    url = json.loads(urls.read_text())["llmster"]
    assert url in line
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/lmstudio-greeting")).json() == {"lmstudio": True}
    process.send_signal(number)
    assert await process.wait() == 0
    assert (tmp_path / "home" / ".internal" / "http-server.json").exists()


async def test_port_in_use_is_one_line_with_key_value_and_fix(sim: Simulator) -> None:
    process = await asyncio.create_subprocess_exec(
        *_RUN, "--port", str(sim.port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    (line,) = err.decode().splitlines()
    assert f"port={sim.port}" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scenario", "nope"], "scenario must be one of"),
        (["--speed", "0"], "speed must be greater than 0"),
        (["--token", "secret"], "token must look like sk-lm-"),
        (["--port", "99999"], "99999 is not in the range"),
        (["--home", "/dev/null/home"], "home=/dev/null/home cannot be made"),
    ],
)
def test_wrong_option_is_refused_with_what_would_be_right(options: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["--port", "0", *options])
    assert result.exit_code == 2
    assert words in result.stderr
    assert "secret" not in result.stderr


def test_help_explains_every_scenario() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(f"{name} " in text for name in SCENARIOS)
