"""The connection of the client verbs to the API: sends requests, follows operations, writes refusals in flags.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from actions.cli import credentials
from exporter.shared import urls
from exporter.shared.terminal import fail

if TYPE_CHECKING:
    import httpx

DEFAULT_URL: Final = "http://127.0.0.1:9811"
POLL_S: Final = 0.5
_ASKED_WRONGLY: Final = frozenset({400, 401, 403, 404, 405, 413, 421, 422})


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


CONNECT_S: Final = 2.0
"""For each address of the service's host; they are tried one after another."""


class Api:
    """A connection to the API that ends the program with one line when something is wrong."""

    def __init__(self, url: str, token_file: Path | None, *, timeout_s: float = 30) -> None:
        import httpx

        if not urls.is_base(url):
            fail(f"--url={url}: write http://host:port, such as {DEFAULT_URL}")
        token = credentials.token(token_file)
        self._has_token = token is not None
        self._url = url.rstrip("/")
        self._http: httpx.Client = httpx.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def daemon(self, name: str | None) -> str:
        """Name the daemon that is meant."""
        if name is not None:
            return name
        names = self._names()
        if len(names) != 1:
            fail(f"--daemon: there are {len(names)}, say which: {', '.join(names)}")
        return names[0]

    def daemons(self, name: str | None) -> list[str]:
        """Name the daemons that are meant: this one, or all."""
        return [name] if name is not None else self._names()

    def _names(self) -> list[str]:
        return [str(one["daemon"]) for one in self.ask("GET", "/v1/daemons", {})["daemons"]]

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
                f"--url={self._url}: nothing answers there ({type(error).__name__}); start the service with "
                "`daemonpulse actions serve`, or name its address"
            )
        try:
            body = response.json()
        except ValueError:
            fail(f"--url={self._url}: this is not the actions API (HTTP {response.status_code})")
        if response.status_code == HTTPStatus.UNAUTHORIZED and not self._has_token:
            fail(credentials.missing())
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
