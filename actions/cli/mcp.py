"""`daemonpulse actions mcp`: the MCP gate from a terminal: adopt mcp.json, list tools, approve or deny calls.

Uses only the API.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from actions.cli.client import client_flags
from actions.cli.connection import Api
from actions.cli.output import show
from exporter.shared.terminal import say, say_json


@click.group()
def mcp() -> None:
    """Gate the tools that the daemon's models call.

    \b
    Begin:   daemonpulse actions mcp adopt --dry-run    what would change in mcp.json
             daemonpulse actions mcp adopt              route it through the gate
    Answer:  daemonpulse actions mcp approvals          pending calls
             daemonpulse actions mcp approve ID
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are


@mcp.command()
@click.option("--dry-run", is_flag=True, help="Show the change, change nothing.")
@client_flags
def adopt(*, api: Api, as_json: bool, dry_run: bool) -> None:
    """Route every server of mcp.json through the gate. Keeps a backup; `undo` takes it back.

    \b
    Example:  daemonpulse actions mcp adopt --dry-run
    """  # noqa: D301 - click wants a real backspace
    _adopt(api, as_json=as_json, dry_run=dry_run, undo=False)


@mcp.command()
@click.option("--dry-run", is_flag=True, help="Show the change, change nothing.")
@client_flags
def undo(*, api: Api, as_json: bool, dry_run: bool) -> None:
    """Give mcp.json its servers back.

    \b
    Example:  daemonpulse actions mcp undo
    """  # noqa: D301 - click wants a real backspace
    _adopt(api, as_json=as_json, dry_run=dry_run, undo=True)


@mcp.command("list")
@click.argument("server", required=False)
@click.argument("tool", required=False)
@client_flags
def list_(*, api: Api, as_json: bool, server: str | None, tool: str | None) -> None:
    """List servers, tools of SERVER, or the definition of TOOL.

    \b
    Example:  daemonpulse actions mcp list toolbox
    """  # noqa: D301 - click wants a real backspace
    path = "/v1/mcp/servers" if server is None else f"/v1/mcp/servers/{quote(server, safe='')}/tools"
    answer = api.ask("GET", path, {"tool": tool} if tool is not None else {})
    if as_json:
        say_json(answer)
    elif server is None:
        _print_servers(answer)
    else:
        for one in answer["tools"]:
            changed = "  changed since it was approved" if one["changed"] else ""
            say(f"{one['decision']:<6} {one['tool']:<40} by {one['rule']}{changed}")
            if tool is not None:
                say(f"    definition: {one['definition']}")
                say(f"    definition_sha256: {one['definition_sha256']}")


@mcp.command()
@click.option("--all", "everything", is_flag=True, help="Settled ones too.")
@client_flags
def approvals(*, api: Api, as_json: bool, everything: bool) -> None:
    """List the pending calls.

    \b
    Example:  daemonpulse actions mcp approvals
    """  # noqa: D301 - click wants a real backspace
    answer = api.ask("GET", "/v1/mcp/approvals", {} if everything else {"state": "pending"})
    if as_json:
        say_json(answer)
        return
    if not answer["approvals"]:
        say("nothing waits")
    for one in answer["approvals"]:
        left = f", {one['expires_in_seconds']:.0f} s left" if one["state"] == "pending" else ""
        say(f"{one['id']}  {one['state']}  {one['server']}/{one['tool']}  for {one['token']}{left}")
        for label in ("arguments", "definition", "reason"):
            if one[label]:
                say(f"    {label}: {one[label]}")
    if answer["more"]:
        say("there are more; answer these first")


@mcp.command()
@click.argument("approval_id", metavar="ID")
@click.option("--always", is_flag=True, help="And every later call of this tool. Needs an admin token.")
@client_flags
def approve(*, api: Api, as_json: bool, approval_id: str, always: bool) -> None:
    """Let the waiting call ID through.

    \b
    Example:  daemonpulse actions mcp approve 3f2a9c0d1b
    """  # noqa: D301 - click wants a real backspace
    _settle("approve", api, as_json=as_json, approval_id=approval_id, always=always)


@mcp.command()
@click.argument("approval_id", metavar="ID")
@click.option("--always", is_flag=True, help="And every later call of this tool. Needs an admin token.")
@client_flags
def deny(*, api: Api, as_json: bool, approval_id: str, always: bool) -> None:
    """Refuse the waiting call ID.

    \b
    Example:  daemonpulse actions mcp deny 3f2a9c0d1b
    """  # noqa: D301 - click wants a real backspace
    _settle("deny", api, as_json=as_json, approval_id=approval_id, always=always)


@mcp.command()
@click.argument("server")
@click.argument("tool")
@click.argument("decision", type=click.Choice(["allow", "deny", "ask", "policy"]))
@click.option(
    "--definition-sha256",
    metavar="SHA256",
    help="Of the definition that you saw; needed for a tool that changed since it was approved.",
)
@client_flags
def gate(
    *, api: Api, as_json: bool, server: str, tool: str, decision: str, definition_sha256: str | None
) -> None:
    """Override the policy for TOOL of SERVER.

    A tool that changed since it was first seen or last approved is refused: see `list SERVER TOOL`, then name what
    you saw.

    DECISION `policy` removes the override: then mcp.toml decides, as for every other tool.

    \b
    Example:  daemonpulse actions mcp gate toolbox write_file ask
    """  # noqa: D301 - click wants a real backspace
    path = f"/v1/mcp/servers/{quote(server, safe='')}/tools/{quote(tool, safe='')}/gate"
    seen = {"definition_sha256": definition_sha256} if definition_sha256 is not None else {}
    answer = api.ask("POST", path, {"decision": decision, **seen})
    words = f"{answer['server']}/{answer['tool']}: {answer['decision']}"
    if decision == "policy":
        words += f", by {answer['rule']}"
    show(answer, words, as_json=as_json)


def _adopt(api: Api, *, as_json: bool, dry_run: bool, undo: bool) -> None:
    answer = api.ask("POST", "/v1/mcp/adopt", {"dry_run": str(dry_run).lower(), "undo": str(undo).lower()})
    if as_json:
        say_json(answer)
        return
    for line in answer["diff"].split("\n") if answer["diff"] else ():
        say(line)
    for name, why in answer["skipped"].items():
        say(f"left as it is: {name}: {why}")
    if answer["warning"]:
        say(f"warning: {answer['warning']}")
    names = ", ".join(answer["servers"])
    if not answer["servers"]:
        say("nothing to do")
    elif not answer["done"]:
        say(f"would change: {names}; nothing was changed")
    else:
        say(f"changed: {names}" + (f"; backup: {answer['backup']}" if answer["backup"] else ""))


def _settle(verb: str, api: Api, *, as_json: bool, approval_id: str, always: bool) -> None:
    path = f"/v1/mcp/approvals/{quote(approval_id, safe='')}/{verb}"
    answer = api.ask("POST", path, {"always": str(always).lower()})
    words = f"{answer['id']} {answer['state']}: {answer['server']}/{answer['tool']}"
    show(answer, words, as_json=as_json)


def _print_servers(answer: Any) -> None:
    if not answer["servers"]:
        say("no tool server yet; put one into mcp.toml, or see: daemonpulse actions mcp adopt --dry-run")
    for one in answer["servers"]:
        how = " ".join(one["command"]) if "command" in one else one["url"]
        tools = f"{one['tools']} tools" if one["tools"] is not None else "not listed yet"
        say(f"{one['server']:<20} {one['state']:<9} {tools:<15} {how}")
        if one["problem"]:
            say(f"    {one['problem']}")
    if answer["policy"]["problem"]:
        say(f"an older policy is in force: {answer['policy']['problem']}")
    bypassing = answer["drift"]["bypassing"]
    if bypassing:
        say(f"bypassing the gate in {answer['drift']['mcp_json']}: {', '.join(bypassing)}")
