"""`daemonpulse actions` from a terminal: the real program against a real service over the simulator."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from actions.domain.actor import LOOPBACK
from actions.store.audit import Audit
from actions.store.database import FILE_NAME, Storage
from llmster_sim.server import Simulator
from tests.actions.commands.test_load_eject import _long_ask
from tests.actions.conftest import BIG, SMALL, Forge, StartForge, loaded, sim, start_forge

__all__ = ["sim", "start_forge"]

COMMAND = str(Path(sys.executable).with_name("daemonpulse"))


class Ended:
    def __init__(self, code: int | None, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()


async def run(*arguments: str, **environment: str) -> Ended:
    """Run the program without blocking the service, which lives in this event loop."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAEMONPULSE_")}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "actions",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=kept | environment,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ended(process.returncode, out, err)


@pytest.fixture
async def forge(start_forge: StartForge, sim: Simulator) -> Forge:
    return await start_forge(sim)


@pytest.fixture
async def here(forge: Forge) -> dict[str, str]:
    return {
        "DAEMONPULSE_ACTIONS_URL": forge.url,
        "DAEMONPULSE_ACTIONS_TOKEN": await forge.token("operate", name="cli"),
    }


async def test_load_preflight_operations_and_eject(here: dict[str, str], sim: Simulator) -> None:
    assert (await run("operations", **here)).out == "no operation yet\n"
    judged = await run("preflight", SMALL, "--context-length", "2048", **here)
    assert (judged.code, judged.err) == (0, "")
    assert judged.out.startswith("fits")
    assert "blender (simulated), pid 2211 holds 2.10 GiB" in judged.out
    done = await run("load", SMALL, "--ttl", "1h", "--context-length", "2048", **here)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(rf"{SMALL} loaded in \d+\.\d s\n", done.out)
    assert sim.daemon.instance(SMALL).ttl_ms == 3_600_000
    again = await run("load", SMALL, **here)
    assert again.out == f"{SMALL} was loaded already\n"
    gone = await run("eject", SMALL, "--drain", "1", **here)
    assert gone.out == f"{SMALL} ejected\n"
    listed = await run("operations", "--json", **here)
    actions = [one["action"] for one in json.loads(listed.out)["operations"]]
    assert actions == ["eject", "load", "load"]
    everything = await run("eject-all", "--reason", "fire", **here)
    assert everything.code == 0
    assert loaded(sim) == set()
    assert "fire" not in everything.err


async def test_what_is_refused_is_one_line_and_exit_code_one(here: dict[str, str]) -> None:
    for verb in ("load", "preflight"):
        refused = await run(verb, BIG, **here)
        assert refused.code == 1
        assert "lack" in refused.out + refused.err
    assert (await run("load", BIG, **here)).err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("load", "nobody/nothing"), "not known"),
        (("eject", "nothing"), "not known"),
        (("load", SMALL, "--force"), "--reason: required by --force"),
        (("load", SMALL, "--gpu-offload", "2"), "--gpu-offload"),
        (("load", SMALL, "--split", "custom"), "--gpu-ratio: needs a share"),
        (("load", SMALL, "--daemon", "other"), "other"),
        (("load", SMALL, "--token-file", "/nowhere"), "cannot be read"),
        (("load", SMALL, "--url", "nonsense"), "write http://host:port, such as http://127.0.0.1:9811"),
    ],
)
async def test_what_is_asked_wrongly_is_one_line_and_exit_code_two(
    here: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    ended = await run(*arguments, **here)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.startswith("daemonpulse: ")
    assert ended.err.count("\n") == 1
    assert ended.out == ""


async def test_refusals_speak_of_flags_and_eject_asks_before_it_ends_requests(
    here: dict[str, str], sim: Simulator
) -> None:
    await run("load", SMALL, "--context-length", "2048", **here)
    other = await run("load", SMALL, "--context-length", "4096", **here)
    assert other.code == 1
    assert f"with another --context-length; use --replace {SMALL} to load it anew" in other.err
    name = "qwen/qwen3-8b"
    sim.daemon.request(name, ask=_long_ask(sim))
    sim.daemon.stall(name)
    busy = await run("eject", name, **here)
    assert busy.code == 1
    assert busy.err.endswith("1 request in flight, which an eject ends; wait, use --drain, or use --force\n")
    assert name in loaded(sim)
    forced = await run("eject", name, "--force", **here)
    assert forced.out == f"{name} ejected; 1 request in flight ended\n"


async def test_a_download_is_cancelled_from_a_terminal(
    forge: Forge, here: dict[str, str], sim: Simulator
) -> None:
    sim.clock.speed = 0.1
    begun = (await forge.post("models/download", wait=None, model="publisher/fresh-7b")).json()
    live = forge.parts.service.operations.live[begun["id"]]
    async with asyncio.timeout(10):
        while live.phase != "downloading":  # noqa: ASYNC110 - seen only by looking
            await asyncio.sleep(0.01)
    cancelled = await run("download", "publisher/fresh-7b", "--cancel", **here)
    assert (cancelled.code, cancelled.err) == (0, "")
    assert (await forge.operation(begun["id"]))["state"] == "cancelled"


async def test_fit_says_what_fits_and_what_would_have_to_go(here: dict[str, str]) -> None:
    fits = await run("fit", SMALL, "--parallel", "2", "--kv", "q8", **here)
    assert (fits.code, fits.err) == (0, "")
    assert re.match(r"fits now: a context of \d+ tokens \(\d+ for each of 2 requests\)\n  needs ", fits.out)
    assert fits.out.endswith("estimates, corrected by no measured load, with a margin\n")
    crowded = await run("fit", "openai/gpt-oss-20b", "--context-length", "16384", **here)
    assert (crowded.code, crowded.err) == (1, "")
    assert "  would have to go: qwen/qwen3-8b\n" in crowded.out


async def test_engines_are_listed_selected_and_updated(forge: Forge) -> None:
    name = "llama.cpp-linux-x86_64-nvidia-cuda12-avx2"
    env = {
        "DAEMONPULSE_ACTIONS_URL": forge.url,
        "DAEMONPULSE_ACTIONS_TOKEN": await forge.token("admin", name="root"),
    }
    listed = await run("engines", "list", "--search", "llama.cpp", **env)
    assert re.search(rf"^{name} +2\.41\.0 +box +GGUF +GGUF$", listed.out, re.MULTILINE), listed.err
    assert listed.out.endswith("2.42.0 available\n")
    chosen = await run("engines", "select", name, "--engine-version", "1.52.0", **env)
    assert chosen.out == f"{name} 1.52.0 selected for GGUF\n", chosen.err
    updated = await run("engines", "update", name, "--engine-version", "2.42.0", **env)
    assert updated.out == f"{name} 2.42.0 installed, selected for GGUF\n", updated.err
    wrong = await run("engines", "select", name, "--engine-version", "9", **env)
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


async def test_download_and_probe(here: dict[str, str]) -> None:
    done = await run("download", "new/model", **here)
    assert (done.code, done.out) == (0, "new/model: completed\n"), done.err
    none = await run("download", "new/model", "--cancel", **here)
    assert (none.code, none.err) == (1, "daemonpulse: new/model: no download of it is under way\n")
    probed = await run("probe", "qwen/qwen3-8b", **here)
    assert re.fullmatch(r"qwen/qwen3-8b: TTFT \d+\.\d{3} s, total \d+\.\d{3} s\n", probed.out), probed.err


async def test_a_token_that_is_missing_or_too_weak_is_said(forge: Forge) -> None:
    missing = await run("load", SMALL, "--url", forge.url)
    assert (missing.code, "token" in missing.err) == (2, True)
    weak = await run("load", SMALL, "--url", forge.url, DAEMONPULSE_ACTIONS_TOKEN=await forge.token("read"))
    assert (weak.code, "scope operate" in weak.err) == (2, True)


async def test_tokens_are_made_listed_and_revoked_and_all_of_it_is_on_record(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    missing = await run("token", "list", *state)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "daemonpulse actions token new" in missing.err
    made = await run("token", "new", "--name", "grafana", "--scope", "operate", "--expires", "90d", *state)
    assert re.fullmatch(r"dp_[a-z2-7]{8}_[A-Za-z0-9_-]{43}\n", made.out)
    listed = await run("token", "list", *state)
    assert listed.err == ""
    assert re.search(r"operate +grafana +made \d{4}-\d\d-\d\d, expires \d{4}", listed.out)
    assert made.out.split("_", 2)[2].strip() not in listed.out
    revoked = await run("token", "revoke", "grafana", *state)
    assert revoked.out.startswith("revoked ")
    assert "revoked" in (await run("token", "list", *state)).out
    again = await run("token", "revoke", "grafana", *state)
    assert (again.code, again.err.count("\n")) == (2, 1)
    verified = await run("audit", "verify", *state)
    assert verified.out.startswith("unbroken up to row 2; head 2:")


async def test_audit_verify_finds_tampering_and_what_was_cut_off(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path))
    for name in ("a", "b"):
        await run("token", "new", "--name", name, *state)
    head = (await run("audit", "verify", *state)).out.strip().rpartition(" ")[2]
    assert (await run("audit", "verify", "--head", head, *state)).code == 0
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("DROP TRIGGER audit_rows_stay")
        db.execute("DELETE FROM audit WHERE seq = 2")
        db.execute("DELETE FROM tokens WHERE name = 'b'")
    db.close()
    assert (await run("audit", "verify", *state)).code == 0
    cut = await run("audit", "verify", "--head", head, *state)
    assert (cut.code, "cut off" in cut.err) == (1, True)
    assert (await run("audit", "verify", "--head", "nonsense", *state)).code == 2


async def test_audit_archive_moves_old_rows_into_a_file_and_verify_takes_both(tmp_path: Path) -> None:
    state, file = ("--state", str(tmp_path / "state")), tmp_path / "old.jsonl"
    storage = await Storage.open(tmp_path / "state")
    long_ago = Audit(storage, clock_ms=lambda: 1_000)
    await long_ago.record("event", actor=LOOPBACK, action="look", subject="x")
    await storage.close()
    await run("token", "new", "--name", "a", *state)
    old = await run("audit", "archive", "--older-than", "1h", "--to", str(file), *state)
    assert (old.code, old.out) == (0, f"1 rows moved to {file}; the audit begins after 1\n"), old.err
    young = await run("audit", "archive", "--older-than", "1h", "--to", str(tmp_path / "more"), *state)
    assert (young.code, young.out) == (0, "nothing is old enough\n")
    both = await run("audit", "verify", "--archive", str(file), *state)
    assert both.code == 0
    assert f"{file}: unbroken, rows 1 to 1" in both.out
    file.write_text("")
    assert (await run("audit", "verify", "--archive", str(file), *state)).code == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("--listen", "0.0.0.0:0"), {}, "token new"),
        (("--listen", "nonsense"), {}, "host:port"),
        (("--daemon-url", "nonsense"), {}, "--daemon-url"),
        ((), {"DAEMONPULSE_ACTIONS_LISTN": "x"}, "no such setting"),
        (("--prometheus-selector", "a{}"), {}, "matchers"),
        (("--prometheus-url", "ftp://x"), {}, "http://host:port"),
        (("--web-config", "/nowhere"), {}, "/nowhere"),
        (("--state", "/proc/nowhere"), {}, "/proc/nowhere"),
    ],
)
async def test_serve_refuses_wrong_settings_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    default = () if "--state" in arguments else ("--state", str(tmp_path))
    ended = await run("serve", *default, *arguments, **environment)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert words in ended.err


async def test_serve_answers_and_ends_cleanly_on_sigterm(tmp_path: Path, sim: Simulator) -> None:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "actions",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--state",
        str(tmp_path),
        "--daemon-url",
        sim.url,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(30):
        while b"actions API started" not in (line := await process.stderr.readline()):
            lines.append(line)
            assert line, lines
        process.terminate()
        _, rest = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in rest
