"""Canaries in every cage, at once: the real programs, every door, and none of them sings outside."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from actions.mcp.mcp_json.adopt import McpJson, plan_adoption
from actions.mcp.policy.file import load as load_policy
from actions.mcp.upstream.spec import Http, Stdio
from exporter import settings
from exporter.catalogue import log_stream as m
from exporter.llmster.client import DaemonClient
from exporter.shared import logs, web_config
from exporter.shared.api_token import Secret
from llmster_sim.server import SimConfig, Simulator
from tests.actions.mcp.conftest import TOOLBOX
from tests.otlp_sink import Received, otlp_sink
from tests.security.conftest import Program, Start, run
from tests.system.test_pulse import CANARY, canary_events

DAEMON_TOKEN = "sk-lm-Ab3dE6gH:DAEMONTOKENSECRET123"
PASSWORD = "password-canary-91"
SERVER_SECRET = "server-canary-73xyz"
RECEIVER_SECRET = "receiver-canary-55"
WRONG = "dp_aaaaaaaa_" + "W" * 43
ARGUMENT = "argument-canary-17"


def toolbox_policy() -> str:
    return (
        f'[servers.toolbox]\ncommand = "{sys.executable}"\nargs = ["{TOOLBOX}", "--token", "{SERVER_SECRET}"]\n'
        f'env = {{ API_KEY = "{SERVER_SECRET}" }}\n'
        f'[servers.web]\nurl = "http://u:{SERVER_SECRET}@127.0.0.1:9/mcp?key={SERVER_SECRET}"\n'
        f'headers = {{ Authorization = "Bearer {SERVER_SECRET}" }}\n'
        '[servers.gone]\ncommand = "/nowhere/tool"\n'
        '[[rules]]\nserver = "toolbox"\ntool = "*"\ndecision = "allow"\n'
    )


async def exporter_doors(url: str) -> list[str]:
    """Everything the exporter answers, refusals included."""
    doors = []
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        right = ("prometheus", PASSWORD)
        for path in (
            "/metrics",
            "/",
            "/sd",
            "/readyz",
            "/healthz",
            "/probe?daemon=box",
            "/probe?daemon=x",
            "/live",
            "/live/text?daemon=box&request=0-1",
            "/x",
        ):
            doors += [await http.get(path, auth=right), await http.get(path, auth=("prometheus", "no"))]
        openmetrics = {"Accept": "application/openmetrics-text;version=1.0.0"}
        doors += [await http.get("/metrics", auth=right, headers=openmetrics)]
        doors += [
            await http.post("/metrics", auth=right),
            await http.get("/", headers={"Host": "x"}, auth=right),
        ]
    return [f"{door.headers}\n{door.text}" for door in doors]


async def actions_doors(url: str, admin: str) -> list[str]:
    """Everything the actions API answers, refusals included; also calls a tool with a canary in its arguments."""
    headers = {"Authorization": f"Bearer {admin}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as carrier:
        transport = streamable_http_client(f"{url}/mcp/toolbox", http_client=carrier, max_sse_event_size=None)
        async with Client(transport, cache=None) as client:
            for tool in ("echo", "fails"):
                await client.call_tool(tool, {"text": ARGUMENT, "password": ARGUMENT})
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        document = (await http.get("/openapi.json")).json()
        values = {
            "daemon": "box",
            "server": "toolbox",
            "tool": "echo",
            "operation_id": "x",
            "approval_id": "x",
        }
        doors = [await http.get("/"), await http.get("/docs"), await http.get("/openapi.json")]
        for path, methods in document["paths"].items():
            for method in methods:
                where = path.replace(":path", "").format(**values)
                for who in (headers, {"Authorization": f"Bearer {WRONG}"}, {}):
                    doors += [await http.request(method, where, headers=who)]
        for server in ("web", "gone", "toolbox", "nowhere"):
            doors += [await http.get(f"/v1/mcp/servers/{server}/tools", headers=headers)]
        body = {"model": "qwen/qwen3-0.6b", "wait": "20", "reason": "none"}
        doors += [await http.post("/v1/daemons/box/models/load", params=body, headers=headers)]
        doors += [await http.post("/v1/daemons/box/probe", params={"model": "x"}, headers=headers)]
        doors += [await http.get("/v1/audit?limit=1000", headers=headers)]
        doors += [await http.get("/v1/operations?limit=1000", headers=headers)]
        doors += [await http.get("/metrics"), await http.get("/v1/x", headers=headers)]
    return [f"{door.headers}\n{door.text}" for door in doors]


async def log_content(sim: Simulator, url: str) -> None:
    """Let the daemon log prompts and answers, and wait until the exporter has counted them."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, auth=("prometheus", PASSWORD)) as http:

        async def until(line: str) -> None:
            async with asyncio.timeout(60):
                while line not in (await http.get("/metrics")).text:  # noqa: ASYNC110 - seen by scraping only
                    await asyncio.sleep(0.05)  # what is awaited happens in another process

        await until('llmster_log_stream_up{daemon="box"} 1.0')
        for event in canary_events():
            frame = {"type": "channelSend", "channelId": 0, "message": {"type": "log", "log": event}}
            sim.faults.send_raw(json.dumps(frame))
        sim.faults.send_raw('{"type":"communicationWarning","warning":"' + CANARY + '"}')
        sim.faults.send_raw("{" + CANARY)
        await until(m.REQUESTS.name + "{")


async def test_no_secret_and_no_content_leaves_by_any_door(start: Start, tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "home"
    for folder in (state, home):
        folder.mkdir(mode=0o700)
    (state / "mcp.toml").write_text(toolbox_policy())
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}")
    (tmp_path / "token").write_text(DAEMON_TOKEN)
    with otlp_sink() as received:
        async with Simulator(SimConfig(scenario="idle", speed=100, token=DAEMON_TOKEN, home=home)) as sim:
            common = received.environment() | {
                "DAEMONPULSE_DAEMON_URL": sim.url,
                "DAEMONPULSE_DAEMON_NAME": "box",
                "DAEMONPULSE_DAEMON_TOKEN_FILE": str(tmp_path / "token"),
                "DAEMONPULSE_LOG_LEVEL": "debug",
                "DAEMONPULSE_ACTIONS_STATE": str(state),
                "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={RECEIVER_SECRET}",
                "HOME": str(home),
            }
            _, admin = await run(
                "actions", "token", "new", "--scope", "admin", "--name", "root", environment=common
            )
            admin = admin.split()[-1]  # it says first that it made a database
            web = ("--web-config", str(tmp_path / "web.yml"))
            exporter = await start("exporter", "--listen", "127.0.0.1:0", *web, environment=common)
            actions = await start("actions", "serve", "--listen", "127.0.0.1:0", environment=common)
            await log_content(sim, exporter.url)
            doors = await exporter_doors(exporter.url)
            doors += await actions_doors(actions.url, admin)
            commands = [
                await run("actions", "token", "list", environment=common),
                await run("actions", "audit", "verify", environment=common),
                await run("check", environment=common),
            ]
            assert [await exporter.stop(), await actions.stop()] == [0, 0]
    doors += [printed for _, printed in commands]
    doors += outside(exporter, actions, received)
    doors += [file.read_bytes().decode("latin-1") for file in state.iterdir() if file.name != "mcp.toml"]
    assert received.spans, "the receiver was told something"
    assert any('"entries":[{' in door for door in doors)
    secrets = [
        CANARY,
        ARGUMENT,
        DAEMON_TOKEN.partition(":")[2],
        PASSWORD,
        hashed,
        SERVER_SECRET,
        RECEIVER_SECRET,
        admin.split("_", 2)[2],
        WRONG,
    ]
    for secret in secrets:
        for door in doors:
            at = door.find(secret)
            assert at < 0, f"{secret} in: {door[max(0, at - 300) : at + 100]}"


def outside(exporter: Program, actions: Program, received: Received) -> list[str]:
    """What both printed, and what left by OTLP without its own headers, which are meant for the receiver."""
    bodies = [body.partition(b"\n\n")[2].decode("latin-1") for body in received.bodies]
    return [exporter.printed.decode(), actions.printed.decode(), *bodies]


def test_nothing_that_holds_a_secret_shows_it_in_a_repr(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}")
    (tmp_path / "mcp.toml").write_text(toolbox_policy())
    chosen = settings.load({}, {"DAEMONPULSE_DAEMON_TOKEN": DAEMON_TOKEN})
    web = web_config.load(tmp_path / "web.yml")
    client = DaemonClient(name="box", url="http://127.0.0.1:1", token=DAEMON_TOKEN)
    document = {"mcpServers": {"files": {"command": "x", "env": {"KEY": SERVER_SECRET}}}}
    file = McpJson(tmp_path / "mcp.json", json.dumps(document), document, 0o600, (0, 0))
    holders: list[Any] = [
        chosen,
        Secret(DAEMON_TOKEN),
        web,
        web_config.BasicAuth(web.users),
        client,
        client._identity,
        load_policy(tmp_path / "mcp.toml"),
        Stdio("x", (SERVER_SECRET,), {"KEY": SERVER_SECRET}),
        Http(f"http://u:{SERVER_SECRET}@h/", {"Authorization": SERVER_SECRET}),
        file,
        plan_adoption(file, gate_url="http://127.0.0.1:9811", token=WRONG),
    ]
    for holder in holders:
        for shown in (repr(holder), str(holder), f"{holder}"):
            for secret in (DAEMON_TOKEN.partition(":")[2], PASSWORD, hashed, SERVER_SECRET, WRONG):
                assert secret not in shown, type(holder)


@pytest.mark.parametrize("formatter", [logs.LogfmtFormatter(), logs.JsonFormatter()])
def test_a_traceback_in_the_log_shows_lines_of_code_and_no_values(
    formatter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(secret: str) -> None:
        raise LookupError(len(secret))

    try:
        fails(DAEMON_TOKEN)
    except LookupError:
        logging.getLogger("exporter").exception("failed")
    line = formatter.format(caplog.records[-1])
    assert "fails(DAEMON_TOKEN)" in line
    assert "DAEMONTOKENSECRET" not in line
