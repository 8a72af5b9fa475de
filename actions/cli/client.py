"""What the client verbs of `daemonpulse actions` share: flags, the connection to the API, how refusals are written.

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


def verb_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that every verb has."""
    return click.option("--daemon", help="Which daemon. Default: the only one there is.")(
        client_flags(command)
    )


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@verb_flags
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


CLIENT_COMMANDS: Final = (operations,)


class Refused(Exception):
    """The API says no, or what was begun did not come to a good end. `status` is None for the latter."""

    def __init__(self, status: int | None, body: Mapping[str, Any]) -> None:
        self.status = status
        self.body = body
        super().__init__(str(body.get("detail", "")))

    @property
    def slug(self) -> str:
        """The stable word of the problem."""
        return str(self.body.get("type", "")).rpartition(":")[2]

    @property
    def exit_code(self) -> int:
        """2 when it was asked wrongly, 1 when it did not work out."""
        return 2 if self.status in _ASKED_WRONGLY else 1

    def words(self) -> str:
        """Write the detail with the flags of the command that runs in place of the API's parameters."""
        parts = self.body.get("parts")
        if not isinstance(parts, list):
            return str(self.body.get("detail", f"HTTP {self.status}"))
        flags = _flags()
        return "".join(part if isinstance(part, str) else _flag(part, flags) for part in parts)


def _flags() -> Mapping[str, str]:
    """Map the parameters of the command that runs to what a person writes for them."""
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    return {
        str(param.name): param.opts[0] if isinstance(param, click.Option) else param.make_metavar(context)
        for param in context.command.params
    }


def _flag(part: Mapping[str, Any], flags: Mapping[str, str]) -> str:
    name, value = str(part.get("parameter")), part.get("value")
    flag = flags.get(name, "--" + name.replace("_", "-"))
    return flag if value is None or value is True else f"{flag} {value}"


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
        """Send a request and return its answer; a refusal ends the program with its words and an exit code."""
        try:
            return self.try_ask(method, path, parameters)
        except Refused as refusal:
            fail(refusal.words(), refusal.exit_code)

    def try_ask(self, method: str, path: str, parameters: Mapping[str, Any]) -> Any:
        """Send a request and return its answer. Raises Refused."""
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
            raise Refused(response.status_code, body)
        return body

    def command(
        self, daemon: str | None, rest: str, parameters: Mapping[str, Any], *, bar: bool = False
    ) -> Any:
        """Begin a command, follow it to its end, and return the finished operation."""
        try:
            return self.try_command(daemon, rest, parameters, bar=bar)
        except Refused as refusal:
            fail(refusal.words(), refusal.exit_code)

    def try_command(
        self, daemon: str | None, rest: str, parameters: Mapping[str, Any], *, bar: bool = False
    ) -> Any:
        """Do as `command` does. Raises Refused when it is denied, or does not come to a good end."""
        operation = self.try_ask("POST", f"/v1/daemons/{self.daemon(daemon)}/{rest}", parameters)
        if operation["finished_ms"] is None:
            operation = self._follow(operation["id"], bar=bar)
        if operation["state"] != "done":
            raise Refused(None, operation["problem"] or {"detail": operation["state"]})
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
