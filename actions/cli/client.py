"""The client verbs of `daemonpulse actions`: load, eject, eject-all, preflight and operations, over HTTP.

Knows the API's paths and answers, and nothing of how it works. Exit codes: 0 done, 1 refused or failed, 2 asked
wrongly.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from exporter.shared.durations import Duration
from exporter.shared.terminal import fail, say, say_json

if TYPE_CHECKING:
    import httpx

DEFAULT_URL: Final = "http://127.0.0.1:9811"
POLL_S: Final = 0.5
_ASKED_WRONGLY: Final = frozenset({400, 401, 403, 404, 405, 413, 421, 422})
_GIB: Final = 1024**3


def client_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every client of the API has."""
    for option in reversed(
        (
            click.option(
                "--url",
                envvar="DAEMONPULSE_ACTIONS_URL",
                default=DEFAULT_URL,
                show_default=True,
                help="Where the actions API is.  [env: DAEMONPULSE_ACTIONS_URL]",
            ),
            click.option(
                "--token-file",
                envvar="DAEMONPULSE_ACTIONS_TOKEN_FILE",
                type=click.Path(path_type=Path),
                help="File with the token; DAEMONPULSE_ACTIONS_TOKEN is read too.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
        )
    ):
        command = option(command)
    return command


def _verb_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every verb has."""
    return click.option("--daemon", help="Which daemon. Default: the only one there is.")(
        client_flags(command)
    )


def _plan_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say how to load."""
    for option in reversed(
        (
            click.option("--instance-id", help="Name of the instance. Default: the model key."),
            click.option("--context-length", type=click.IntRange(min=1), help="Tokens."),
            click.option(
                "--ttl", "ttl_seconds", type=Duration(), help="Idle time, such as 1h. Default: never."
            ),
            click.option("--gpu-offload", help='Share of the layers on GPUs, 0 to 1, or "max" or "off".'),
            click.option("--split", type=click.Choice(["evenly", "priorityOrder", "tensor", "custom"])),
            click.option("--disabled-gpus", help="Indices, such as 0,1."),
            click.option("--gpu-priority", help="With --split priorityOrder: indices, first one first."),
            click.option("--gpu-ratio", help="With --split custom: shares, such as 2,1."),
            click.option("--parallel", type=click.IntRange(min=1), help="Requests worked on at once."),
            click.option("--flash-attention/--no-flash-attention", default=None),
            click.option("--replace", multiple=True, help="Instance to eject first; may be given again."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("model")
@_plan_flags
@click.option("--force", is_flag=True, help="Load although it does not fit. Needs --reason.")
@click.option("--reason", help="Goes into the audit.")
@_verb_flags
def load(*, url: str, token_file: Path | None, daemon: str | None, as_json: bool, **parameters: Any) -> None:
    """Load MODEL and wait for it. Nothing happens if it is loaded just so already."""
    with Api(url, token_file) as api:
        operation = api.command(daemon, "models/load", parameters, bar=not as_json)
    result = operation["result"]
    _print(
        operation,
        as_json,
        f"{result['instance_id']} "
        + ("was loaded already" if result["already_loaded"] else f"loaded in {result['took_seconds']:.1f} s"),
    )


@click.command()
@click.argument("instance_id")
@click.option("--drain", "drain_seconds", type=float, default=0.0, help="Wait so many seconds for its queue.")
@click.option("--reason", help="Goes into the audit.")
@_verb_flags
def eject(*, url: str, token_file: Path | None, daemon: str | None, as_json: bool, **parameters: Any) -> None:
    """Eject INSTANCE_ID and make sure that it is gone."""
    with Api(url, token_file) as api:
        operation = api.command(daemon, "models/eject", parameters)
    _print(operation, as_json, f"{parameters['instance_id']} ejected")


@click.command("eject-all")
@click.option("--reason", help="Goes into the audit.")
@_verb_flags
def eject_all(
    *, url: str, token_file: Path | None, daemon: str | None, as_json: bool, **parameters: Any
) -> None:
    """Eject everything, busy or not: the kill switch."""
    with Api(url, token_file) as api:
        operation = api.command(daemon, "models/eject-all", parameters)
    names = operation["result"]["ejected"]
    _print(operation, as_json, f"ejected: {', '.join(names) or 'nothing was loaded'}")


@click.command()
@click.argument("model")
@_plan_flags
@_verb_flags
def preflight(
    *, url: str, token_file: Path | None, daemon: str | None, as_json: bool, **parameters: Any
) -> None:
    """Tell whether MODEL would fit, and who holds the memory. Exits 1 if it does not fit."""
    with Api(url, token_file) as api:
        answer = api.ask("POST", f"/v1/daemons/{api.daemon(daemon)}/preflight", parameters)
    if as_json:
        say_json(answer)
    else:
        _print_preflight(answer)
    sys.exit(1 if answer["verdict"] == "does_not_fit" else 0)


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_verb_flags
def operations(*, url: str, token_file: Path | None, daemon: str | None, as_json: bool, limit: int) -> None:
    """List the latest operations."""
    with Api(url, token_file) as api:
        answer = api.ask("GET", "/v1/operations", {"daemon": daemon, "limit": limit})
    if as_json:
        say_json(answer)
        return
    if not answer["operations"]:
        say("no operation yet")
    for one in answer["operations"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["created_ms"] / 1000))
        why = f"  {one['problem']['detail']}" if one["problem"] else ""
        who = one["person"] or one["actor"]
        say(f"{at}  {one['id']}  {one['state']:<9} {one['action']:<9} {one['subject']}  by {who}{why}")


CLIENT_COMMANDS: Final = (load, eject, eject_all, preflight, operations)


class Api:
    """A connection to the API that ends the program with one line when something is wrong."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        import httpx

        token = _token(token_file)
        self._url = url.rstrip("/")
        self._http: httpx.Client = httpx.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=30, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def daemon(self, name: str | None) -> str:
        """Name the daemon that is meant."""
        if name is not None:
            return name
        names = [one["daemon"] for one in self.ask("GET", "/v1/daemons", {})["daemons"]]
        if len(names) != 1:
            fail(f"--daemon: there are {len(names)}, say which: {', '.join(names)}")
        return str(names[0])

    def ask(self, method: str, path: str, parameters: Mapping[str, Any]) -> Any:
        """Send a request and return its answer."""
        import httpx

        given = {name: value for name, value in parameters.items() if value not in {None, ()}}
        try:
            response = self._http.request(method, f"{self._url}{path}", params=given)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(
                f"--url={self._url}: nobody answers there ({type(error).__name__}); start it with "
                "`daemonpulse actions serve`, or say where it is"
            )
        try:
            body = response.json()
        except ValueError:
            fail(f"--url={self._url}: this is not the actions API (HTTP {response.status_code})")
        if response.is_error:
            wrongly = response.status_code in _ASKED_WRONGLY
            fail(str(body.get("detail", f"HTTP {response.status_code}")), 2 if wrongly else 1)
        return body

    def command(
        self, daemon: str | None, rest: str, parameters: Mapping[str, Any], *, bar: bool = False
    ) -> Any:
        """Begin a command, follow it to its end, and return the finished operation."""
        operation = self.ask("POST", f"/v1/daemons/{self.daemon(daemon)}/{rest}", parameters)
        if operation["finished_ms"] is None:
            operation = self._follow(operation["id"], bar=bar)
        if operation["state"] != "done":
            problem = operation["problem"] or {}
            fail(str(problem.get("detail", operation["state"])), 1)
        return operation

    def _follow(self, operation_id: str, *, bar: bool) -> Any:
        path = f"/v1/operations/{operation_id}"
        shown = click.progressbar(length=100, label="loading", hidden=not (bar and sys.stdout.isatty()))
        done = 0
        with shown:
            while True:
                operation = self.ask("GET", path, {"wait": POLL_S})
                now = round(100 * (operation["progress"] or 0))
                shown.label = operation["phase"] or operation["state"]
                shown.update(max(0, now - done))
                done = max(done, now)
                if operation["finished_ms"] is not None:
                    return operation


def _token(token_file: Path | None) -> str | None:
    if token_file is None:
        return os.environ.get("DAEMONPULSE_ACTIONS_TOKEN") or None
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        fail(f"--token-file={token_file}: cannot be read")


def _print(operation: Any, as_json: bool, words: str) -> None:  # noqa: FBT001 - a click flag
    say_json(operation) if as_json else say(words)


def _print_preflight(answer: Any) -> None:
    say(f"{answer['verdict'].replace('_', ' ')}: {'; '.join(answer['reasons']) or 'with room to spare'}")
    if answer["estimate"] is not None:
        learned = answer["learned"]
        ratio = f" x {learned['ratio']:.2f} learned from {learned['samples']} loads" if learned else ""
        estimate = answer["estimate"]["vram_bytes"] / _GIB
        say(f"  needs {answer['needed_bytes'] / _GIB:.2f} GiB ({estimate:.2f} GiB estimated{ratio})")
    for gpu in answer["gpus"]:
        say(
            f"  GPU {gpu['index']}: {gpu['free_bytes'] / _GIB:.2f} of {gpu['total_bytes'] / _GIB:.2f} GiB free, "
            f"{gpu['needed_bytes'] / _GIB:.2f} needed"
        )
    for holder in answer["holders"]:
        who = holder["instance_id"] or holder["process"] or "unknown"
        pid = f", pid {holder['pid']}" if holder["pid"] is not None else ""
        say(f"    GPU {holder['gpu']}: {who}{pid} holds {holder['memory_bytes'] / _GIB:.2f} GiB")
