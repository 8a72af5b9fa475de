"""Every verb of the API has a command, every command an example, and every wrong use one line."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest
from click.shell_completion import ShellComplete

from actions.cli.commands import actions
from llmster_sim.server import Simulator
from tests.actions.cli.test_commands import forge, here, run
from tests.actions.conftest import SMALL, Forge, loaded, sim, start_forge

__all__ = ["forge", "here", "sim", "start_forge"]

COMMANDS_OF = {
    "GET /v1/daemons": "ps",
    "GET /v1/daemons/{daemon}/models": "models",
    "GET /v1/daemons/{daemon}/instances": "ps",
    "GET /v1/daemons/{daemon}/memory": "ps",
    "POST /v1/daemons/{daemon}/preflight": "preflight",
    "POST /v1/daemons/{daemon}/fit": "fit",
    "POST /v1/daemons/{daemon}/models/load": "load",
    "POST /v1/daemons/{daemon}/models/eject": "eject",
    "POST /v1/daemons/{daemon}/models/eject-all": "eject-all",
    "POST /v1/daemons/{daemon}/models/download": "download",
    "POST /v1/daemons/{daemon}/probe": "probe",
    "GET /v1/daemons/{daemon}/desired": "desired",
    "POST /v1/daemons/{daemon}/desired": "pin",
    "POST /v1/fleet/eject-all": "eject-all",
    "POST /v1/fleet/eject": "eject",
    "POST /v1/fleet/load": "load",
    "POST /v1/fleet/download": "download",
    "POST /v1/fleet/probe": "probe",
    "POST /v1/fleet/pin": "pin",
    "GET /v1/fleet/desired": "fleet",
    "POST /v1/fleet/desired": "fleet",
    "GET /v1/operations": "operations",
    "POST /v1/operations/{operation_id}/cancel": "cancel",
    "GET /v1/audit": "audit",
}
WITHOUT = {
    "PUT /v1/daemons/{daemon}/desired": "the whole desired state at once is for programs",
    "GET /v1/operations/{operation_id}": "the command that began an operation follows it",
    "GET /v1/live": "`daemonpulse top` reads what runs from the exporter",
    "POST /v1/live/text": "Grafana's panel shows text, on record",
}
BUTTONS = {"/v1/models/", "/v1/probe", "/v1/operations/cancel"}
"""The same commands with every value in a query parameter, as Grafana's buttons need them."""


def walk(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, *names, name)
        else:
            yield " ".join((*names, name)), command


VERBS = dict(walk(actions))


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_every_verb_has_an_example(name: str) -> None:
    assert re.search(rf"Example:  daemonpulse actions {name}\b", VERBS[name].help or ""), name


async def test_every_verb_of_the_api_has_a_command(forge: Forge) -> None:
    paths = (await forge.http.get("/openapi.json")).json()["paths"]
    there = {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if "/v1/" in path
    }
    ours = {one for one in there if "/v1/mcp/" not in one}
    missing = ours - COMMANDS_OF.keys() - WITHOUT.keys()
    missing = {one for one in missing if not one.partition(" ")[2].startswith(tuple(BUTTONS))}
    assert not {one for one in missing if "engines" not in one}, missing
    assert set(COMMANDS_OF.values()) <= set(actions.commands)


@pytest.mark.parametrize(
    "verb",
    [
        "ps",
        "models",
        "desired",
        "operations",
        "audit list",
        "engines list",
        "fleet list",
    ],
)
async def test_every_listing_is_json_on_demand(here: dict[str, str], verb: str) -> None:
    ended = await run(*verb.split(), "--json", **here)
    assert ended.code == 0, ended.err
    assert isinstance(json.loads(ended.out), dict)


async def test_a_pinned_model_is_desired_until_it_is_unpinned(here: dict[str, str]) -> None:
    assert (await run("desired", **here)).out.splitlines()[1:] == []
    pinned = await run("pin", SMALL, "--ttl", "1h", **here)
    assert re.search(rf"{SMALL} +box +{SMALL} +3600 s +pinned", pinned.out), pinned.out
    assert "60 s of idle time" in (await run("desired", "--reap-idle", "1m", **here)).out
    assert "idle time" not in (await run("desired", "--no-reap", **here)).out
    assert SMALL not in (await run("unpin", SMALL, **here)).out
    again = await run("unpin", SMALL, **here)
    assert (again.code, again.err) == (1, f"daemonpulse: {SMALL}: not pinned; pinned: nothing\n")


async def test_what_is_cancelled_too_late_is_said(here: dict[str, str], sim: Simulator) -> None:
    await run("load", SMALL, **here)
    (done,) = json.loads((await run("operations", "--limit", "1", "--json", **here)).out)["operations"]
    late = await run("cancel", done["id"], **here)
    assert (late.code, "is done already" in late.err) == (1, True)
    assert SMALL in loaded(sim)


async def test_a_daemon_that_is_down_is_said_and_is_no_failure_of_the_listing(
    here: dict[str, str], sim: Simulator
) -> None:
    await sim.stop()
    ended = await run("ps", **here)
    assert ended.code == 0, ended.err
    assert re.search(r"^box: daemon box", ended.out, re.MULTILINE), ended.out


@pytest.mark.parametrize("with_variable", [True, False])
async def test_the_token_is_found_in_the_users_own_file_which_must_be_private(
    forge: Forge, tmp_path: Path, *, with_variable: bool
) -> None:
    own = tmp_path / "config" / "daemonpulse" / "actions-token"
    own.parent.mkdir(parents=True)
    own.write_text(await forge.token("read"))
    where = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "DAEMONPULSE_ACTIONS_URL": forge.url}
    own.chmod(0o644)
    open_to_all = await run("ps", **where)
    assert (open_to_all.code, "chmod 600" in open_to_all.err) == (2, True)
    own.chmod(0o600)
    if with_variable:
        where["DAEMONPULSE_ACTIONS_TOKEN"] = "dp_aaaaaaaa_" + "A" * 43
        assert (await run("ps", **where)).code == 2, "the variable goes first"
    else:
        assert (await run("ps", **where)).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "verify", "--state", "/nowhere/typo"),
        ("audit", "archive", "--older-than", "1d", "--to", "x", "--state", "/nowhere/typo"),
        ("token", "list", "--state", "/nowhere/typo"),
        ("token", "revoke", "x", "--state", "/nowhere/typo"),
        ("token", "list", "--config", "/nowhere/typo.toml"),
        ("ps", "--daemon", "nobody"),
        ("desired", "--reap-idle", "1h", "--no-reap"),
        ("operations", "--before", "nothing"),
        ("cancel", "nothing"),
        ("pin", "nobody/nothing", "--gpu-offload", "7"),
        ("audit", "list", "--token-file", "/nowhere"),
    ],
    ids=" ".join,
)
async def test_wrong_use_is_one_line_and_exit_code_two(
    here: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = await run(*arguments, **here)
    assert (ended.code, ended.err.count("\n"), ended.out) == (2, 1, ""), ended.err
    assert "Traceback" not in ended.err


def completed(here: dict[str, str], *arguments: str) -> list[str]:
    """What a shell is offered for the last argument."""
    *before, last = arguments
    complete = ShellComplete(actions, {}, "actions", "_X")
    given = [*before, "--url", here["DAEMONPULSE_ACTIONS_URL"]]
    return [item.value for item in complete.get_completions(given, last)]


async def test_a_shell_completes_models_instances_and_daemons(
    here: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMONPULSE_ACTIONS_TOKEN", here["DAEMONPULSE_ACTIONS_TOKEN"])
    assert SMALL in await asyncio.to_thread(completed, here, "load", "qwen")
    assert await asyncio.to_thread(completed, here, "eject", "qwen/qwen3-8") == ["qwen/qwen3-8b"]
    assert await asyncio.to_thread(completed, here, "ps", "--daemon", "") == []
    complete = ShellComplete(actions, {}, "actions", "_X")
    monkeypatch.setenv("DAEMONPULSE_ACTIONS_URL", here["DAEMONPULSE_ACTIONS_URL"])
    found = await asyncio.to_thread(complete.get_completions, ["ps", "--daemon"], "")
    assert [item.value for item in found] == ["box"]


async def test_a_shell_is_offered_nothing_and_told_nothing_when_nobody_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nowhere = {"DAEMONPULSE_ACTIONS_URL": "http://127.0.0.1:9"}
    assert await asyncio.to_thread(completed, nowhere, "load", "") == []
    assert capsys.readouterr() == ("", "")


async def test_json_of_ps_holds_memory_by_gpu(forge: Forge, here: dict[str, str]) -> None:
    seen = json.loads((await run("ps", "--json", **here)).out)["daemons"][0]
    answer: httpx.Response = await forge.http.get(forge.path("memory"))
    assert answer.status_code == 200
    assert {gpu["index"] for gpu in seen["memory"]["gpus"]} == {0, 1}
    held = seen["memory"]["instances"]
    assert held
    assert all(size > 0 for by_gpu in held.values() for size in by_gpu.values())
