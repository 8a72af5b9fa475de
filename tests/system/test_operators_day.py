"""A whole day of an operator at a terminal, without curl: the real command against a service over the simulator."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmster_sim.server import Simulator
from llmster_sim.wire.transfer_calls import HUB_MODEL
from tests.actions.cli.test_commands import Ended, run
from tests.actions.conftest import SMALL, Forge, StartForge, loaded, make_token, sim, start_forge
from tests.actions.mcp.conftest import Gated, eventually, rule, text_of, toolbox

__all__ = ["sim", "start_forge"]

LOADED = "qwen/qwen3-8b"


@dataclass(slots=True)
class Terminal:
    """A terminal whose environment says where the service is and where the user's files are."""

    environment: dict[str, str]
    state: Path

    async def do(self, *arguments: str, code: int = 0) -> Ended:
        """Run a command that must end with this exit code."""
        ended = await run(*arguments, **self.environment)
        assert ended.code == code, (arguments, ended.out, ended.err)
        return ended

    async def asked(self, *arguments: str) -> Any:
        """Run a command with --json."""
        return json.loads((await self.do(*arguments, "--json")).out)


async def test_a_day_of_an_operator(start_forge: StartForge, sim: Simulator, tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "home"
    state.mkdir(mode=0o700)
    (state / "mcp.toml").write_text(toolbox() + rule("ask", "echo"), encoding="utf-8")
    terminal = Terminal({"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}, state)
    own = await make_a_token(terminal, home)
    service = await start_forge(sim, scope=None, state=state)
    terminal.environment["DAEMONPULSE_ACTIONS_URL"] = service.url
    sim.clock.speed = 2  # so that a TTL of an hour outlives a day of a test
    await look(terminal)
    await load_watch_and_pin(terminal)
    await approve_a_tool_call(terminal, service)
    await unpin_and_eject(terminal, sim)
    await cancel_a_download(terminal, sim)
    await read_the_audit(terminal)
    await revoke_the_token(terminal, own)


async def make_a_token(terminal: Terminal, home: Path) -> Path:
    """Make one, and keep it in the file where every command finds it."""
    state = str(terminal.state)
    made = await terminal.do("token", "new", "--name", "me", "--scope", "operate", "--state", state)
    own = home / ".config" / "daemonpulse" / "actions-token"
    own.parent.mkdir(parents=True)
    own.write_text(made.out)
    own.chmod(0o600)
    return own


async def look(terminal: Terminal) -> None:
    """See what is loaded, who holds the memory, what is on the disk, what fits."""
    seen = (await terminal.do("ps")).out
    assert seen.startswith("INSTANCE")
    assert re.search(rf"{LOADED} +box +idle +0 +0 +\d+ +\d+ ", seen), seen
    assert re.search(
        r"box GPU 1: \d+\.\d\d of \d+\.\d\d GiB free; blender \(simulated\) \(pid 2211\)", seen
    ), seen
    assert re.search(rf"{SMALL} +box +llm ", (await terminal.do("models")).out)
    assert (await terminal.asked("fit", SMALL))["fits"]
    assert (await terminal.do("preflight", SMALL)).out.startswith("fits")


async def load_watch_and_pin(terminal: Terminal) -> None:
    """Load with a TTL, see it, and have it kept."""
    done = await terminal.do("load", SMALL, "--ttl", "1h", "--context-length", "2048")
    assert "loaded in" in done.out
    instances = (await terminal.asked("ps"))["daemons"][0]["instances"]
    (seen,) = [one for one in instances if one["instance_id"] == SMALL]
    assert (seen["context_length"], seen["ttl_seconds"]) == (2048, 3600)
    assert re.search(rf"{SMALL} .* 2048 +\d+ +\d+[hm]\d\d[ms] ", (await terminal.do("ps")).out)
    assert "pinned" in (await terminal.do("pin", SMALL, "--context-length", "2048")).out
    (kept,) = (await terminal.asked("desired"))["daemons"][0]["instances"]
    assert kept["instance_id"] == SMALL
    assert "1800 s of idle time" in (await terminal.do("desired", "--reap-idle", "30m")).out


async def approve_a_tool_call(terminal: Terminal, service: Forge) -> None:
    """Let a call through that a model waits for."""
    caller = await make_token(service.parts.service.storage, "read", name="llmster")
    gated = Gated(service.url, service.parts, service.http, caller, service.task)
    async with gated.client() as client:
        call = asyncio.create_task(client.call_tool("echo", {"text": "approved"}))

        async def waits() -> bool:
            return bool((await terminal.asked("mcp", "approvals"))["approvals"])

        await eventually(waits)
        (waiting,) = (await terminal.asked("mcp", "approvals"))["approvals"]
        assert "approved: toolbox/echo" in (await terminal.do("mcp", "approve", waiting["id"])).out
        assert text_of(await call) == "approved"


async def unpin_and_eject(terminal: Terminal, sim: Simulator) -> None:
    """Let it go."""
    await terminal.do("unpin", SMALL)
    assert (await terminal.do("eject", SMALL)).out == f"{SMALL} ejected\n"
    assert SMALL not in loaded(sim)


async def cancel_a_download(terminal: Terminal, sim: Simulator) -> None:
    """Cancel one that is under way; the command that began it says so."""
    sim.clock.speed = 0.01
    download = asyncio.create_task(run("download", HUB_MODEL, **terminal.environment))

    async def newest() -> Any:
        return (await terminal.asked("operations", "--limit", "1"))["operations"][0]

    async def runs() -> bool:
        found = await newest()
        return bool(found["action"] == "download" and found["phase"] == "downloading")

    await eventually(runs)
    await terminal.do("cancel", (await newest())["id"])
    ended = await download
    assert (ended.code, "cancelled" in ended.err) == (1, True), ended.err


async def read_the_audit(terminal: Terminal) -> None:
    """See all of the day in it, and have it verified."""
    told = (await terminal.do("audit", "list", "--limit", "100")).out
    assert re.search(rf"outcome +load +{SMALL} +by token:me", told), told
    for action in ("mcp.approve", "desired", "eject", "download"):
        assert action in told
    verified = await terminal.do("audit", "verify", "--state", str(terminal.state))
    assert verified.out.startswith("unbroken up to row ")


async def revoke_the_token(terminal: Terminal, own: Path) -> None:
    """From then on nothing answers to it, and the error of a missing token names every place for one."""
    assert "(me)" in (await terminal.do("token", "revoke", "me", "--state", str(terminal.state))).out
    assert "revoked" in (await terminal.do("ps", code=2)).err
    own.unlink()  # noqa: ASYNC240 - a moment
    without = (await terminal.do("ps", code=2)).err
    assert without.count("\n") == 1
    places = ("--token-file", "DAEMONPULSE_ACTIONS_TOKEN", "DAEMONPULSE_ACTIONS_TOKEN_FILE", str(own))
    for place in places:
        assert place in without
