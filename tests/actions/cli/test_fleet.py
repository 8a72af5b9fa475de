"""Several daemons from a terminal: a site, partial failure, and a group."""

import asyncio
import json

import pytest
from click.shell_completion import ShellComplete

from actions.cli.commands import actions
from llmster_sim.server import Simulator
from tests.actions.cli.test_commands import run
from tests.actions.commands.test_fleet import BUSY, forge, holders, settle, sims
from tests.actions.conftest import SMALL, Forge, loaded, start_forge

__all__ = ["forge", "sims", "start_forge"]


@pytest.fixture
async def here(forge: Forge) -> dict[str, str]:
    return {
        "DAEMONPULSE_ACTIONS_URL": forge.url,
        "DAEMONPULSE_ACTIONS_TOKEN": await forge.token("operate", name="cli"),
    }


async def test_a_site_is_looked_at_and_acted_on_and_what_fails_in_part_is_exit_code_four(
    here: dict[str, str], sims: dict[str, Simulator]
) -> None:
    unsaid = await run("eject-all", **here)
    assert (unsaid.code, "--daemon: required, as there are 3: a, b, c" in unsaid.err) == (2, True)
    seen = json.loads((await run("ps", "--site", "east", "--json", **here)).out)["daemons"]
    assert [one["daemon"] for one in seen] == ["a", "b"]
    nowhere = await run("ps", "--site", "north", **here)
    assert (nowhere.code, "there is east, west" in nowhere.err) == (2, True)

    done = await run("load", SMALL, "--site", "east", **here)
    assert (done.code, done.err) == (0, "")
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == ["a", "b"]
    assert holders(sims, SMALL) == ["a", "b"]

    await sims["b"].stop()
    partly = await run("eject-all", "--site", "east", **here)
    assert partly.code == 4
    first, second = partly.out.splitlines()
    assert first.startswith("a: ejected: ")
    assert second.startswith("b: failed: daemon b")
    assert loaded(sims["a"]) == set()
    none = await run("eject-all", "--daemon", "b", "--site", "east", **here)
    assert none.code == 1


async def test_a_group_is_tried_dry_set_listed_and_removed(
    here: dict[str, str], forge: Forge, sims: dict[str, Simulator]
) -> None:
    arguments = ("fleet", "set", "chat", SMALL, "--at-least", "2", "--site", "east")
    dry = await run(*arguments, "--dry-run", **here)
    assert "chat: next a: load" in dry.out
    assert "chat: b waits for its wave" in dry.out
    assert (await run("fleet", "list", **here)).out.count("\n") == 1
    assert (await run(*arguments, "--wave", "2", **here)).code == 0
    await settle(forge)
    assert holders(sims, SMALL) == ["a", "b"]
    shown = json.loads((await run("fleet", "list", "--json", **here)).out)["groups"]
    assert (shown[0]["plan"]["serving"], shown[0]["plan"]["missing"]) == (2, 0)
    assert (await run("fleet", "remove", "chat", **here)).out == "chat removed\n"
    gone = await run("fleet", "remove", "chat", **here)
    assert (gone.code, gone.err) == (2, "daemonpulse: group chat is not known\n")
    unsaid = await run("fleet", "set", "chat", SMALL, "--at-least", "1", **here)
    assert (unsaid.code, "--site: say which daemons" in unsaid.err) == (2, True)


async def test_probe_and_pin_take_a_site_and_tell_what_each_daemon_said(
    here: dict[str, str], sims: dict[str, Simulator]
) -> None:
    pinned = await run("pin", SMALL, "--site", "east", **here)
    assert (pinned.code, pinned.err) == (0, "")
    assert [line.split()[:2] for line in pinned.out.splitlines()[1:]] == [[SMALL, "a"], [SMALL, "b"]]
    odd = await run("unpin", "no/such", "--site", "east", **here)
    assert (odd.code, odd.err) == (1, f"daemonpulse: no/such: not pinned; pinned: {SMALL}\n")
    assert (await run("unpin", SMALL, "--daemon", "a", "--daemon", "b", **here)).code == 0
    listed = json.loads((await run("desired", "--json", **here)).out)["daemons"]
    assert [one["instances"] for one in listed] == [[], [], []]
    reaped = await run("desired", "--site", "east", "--reap-idle", "1h", "--json", **here)
    assert [one["desired"]["reap_idle_seconds"] for one in json.loads(reaped.out)["results"]] == [3600, 3600]

    await sims["b"].stop()
    probed = await run("probe", BUSY, "--site", "east", **here)
    assert probed.code == 4
    first, second = probed.out.splitlines()
    assert first.startswith(f"a: {BUSY}: TTFT 0.")
    assert second.startswith("b: failed: daemon b")


async def test_a_shell_completes_sites(here: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    complete = ShellComplete(actions, {}, "actions", "_X")
    found = await asyncio.to_thread(complete.get_completions, ["eject-all", "--site"], "")
    assert [item.value for item in found] == ["east", "west"]
