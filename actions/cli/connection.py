"""The connection of the client verbs to the API: sends requests, follows operations, writes refusals in flags.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the API does not answer, or answers something else, 4 done on
some of several daemons.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote

import click

from actions.cli import credentials
from exporter.shared import urls
from exporter.shared.terminal import fail, say

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:9811"
POLL_S: Final = 0.5
GROUP_WAIT_S: Final = 20
"""How long the API waits for all of a group before each is followed by itself."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""The longest answer that is read; a page of the audit or of operations has 512 KiB."""
MAX_ANSWER_S: Final = 120.0
"""The total time of one response."""
_AT_ONCE: Final = 16
"""Daemons that are asked about at the same time."""
UNREACHABLE: Final = 3
PARTLY: Final = 4
_ASKED_WRONGLY: Final = frozenset({400, 401, 403, 404, 405, 413, 421, 422})
_UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer raises that has not the shape that this version expects."""


class Refused(Exception):
    """The API refused, or the operation failed. `status` is None for the latter."""

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
    """A connection to the API, and the daemons that are meant; ends the program with one line on any trouble."""

    def __init__(
        self,
        url: str,
        token_file: Path | None,
        *,
        daemons: tuple[str, ...] = (),
        site: str | None = None,
        timeout_s: float = 30,
    ) -> None:
        import httpx

        if not urls.is_base(url):
            fail(f"--url={url}: write http://host:port, such as {DEFAULT_URL}")
        token = credentials.token(token_file)
        self._has_token = token is not None
        self._url = url.rstrip("/")
        self._daemons = tuple(dict.fromkeys(daemons))
        self._site = site
        self._latest = ""
        self._http: httpx.Client = httpx.Client(
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._http.close()
        if isinstance(error, _UNREADABLE) and self._latest:
            what = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
            self._odd(f"that this version cannot read ({what[:200]})")

    # Which daemons ----------------------------------------------------------------------------------------------------

    @property
    def is_group(self) -> bool:
        """Whether several daemons are meant, by name or by site, so that a command is one for a group."""
        return self._site is not None or len(self._daemons) > 1

    @property
    def is_chosen(self) -> bool:
        """Whether --daemon or --site says which."""
        return bool(self._daemons) or self._site is not None

    @property
    def selection(self) -> dict[str, Any]:
        """The daemons that are meant, as parameters."""
        return {"daemon": self._daemons, "site": self._site}

    def daemon(self) -> str:
        """Name the one daemon that is meant."""
        names = self.daemons()
        if len(names) != 1:
            fail(f"--daemon: required, as there are {len(names)}: {', '.join(names)}")
        return names[0]

    def daemons(self) -> list[str]:
        """Name the daemons that are meant: those of --daemon and --site, else all."""
        if self._daemons and self._site is None:
            return list(self._daemons)
        listed = self.ask("GET", "/v1/daemons", {})["daemons"]
        named = [
            str(one["daemon"])
            for one in listed
            if self._site in {None, one["site"]} and (not self._daemons or one["daemon"] in self._daemons)
        ]
        if not named and listed:
            sites = sorted({str(one["site"]) for one in listed if one["site"]})
            fail(f"--site {self._site}: no daemon of it; there is {', '.join(sites) or 'no site'}")
        return named

    def each(self, look: Callable[[str], T]) -> list[T]:
        """Ask about every daemon that is meant, several at a time; the answers in their order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(look, self.daemons()))

    def path(self, rest: str, *, daemon: str | None = None) -> str:
        """Write the path of something of a daemon, of the one that is meant if it is not named."""
        return f"/v1/daemons/{quote(daemon or self.daemon(), safe='')}/{rest}"

    # Questions --------------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, parameters: Mapping[str, Any]) -> Any:
        """Send a request and return its answer; a refusal ends the program with its words and an exit code."""
        try:
            return self.try_ask(method, path, parameters)
        except Refused as refusal:
            fail(refusal.words(), refusal.exit_code)

    def try_ask(self, method: str, path: str, parameters: Mapping[str, Any]) -> Any:
        """Send a request and return its answer, a JSON object. Raises Refused."""
        status, content = self._exchange(method, path, parameters)
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            self._odd("with an empty body" if not content else f"with {_kind(content)}")
        if not isinstance(body, dict):
            self._odd(f"with a JSON {type(body).__name__}, not an object")
        if status == HTTPStatus.UNAUTHORIZED and not self._has_token:
            fail(credentials.missing())
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return body
        if not isinstance(body.get("detail"), str):
            self._odd("without a reason")
        raise Refused(status, body)

    def _exchange(self, method: str, path: str, parameters: Mapping[str, Any]) -> tuple[int, bytes]:
        """Send a request and read the whole answer, which has an end: in bytes and in time."""
        import httpx

        given = {name: value for name, value in parameters.items() if value not in {None, ()}}
        body = bytearray()
        until = time.monotonic() + MAX_ANSWER_S
        try:
            with self._http.stream(method, f"{self._url}{path}", params=given) as response:
                self._latest = f"{method} {path} with HTTP {response.status_code}"
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        self._odd(f"with more than {MAX_BYTES // 1024**2} MiB")
                    if time.monotonic() > until:
                        self._odd(f"and was not done after {MAX_ANSWER_S:g} s")
                return response.status_code, bytes(body)
        except httpx.HTTPError as error:
            fail(
                f"--url={self._url}: nothing answers there ({type(error).__name__}); start the service with "
                "`daemonpulse actions serve`, or name its address",
                UNREACHABLE,
            )

    def _odd(self, what: str) -> NoReturn:
        fail(
            f"--url={self._url}: answered {self._latest} {what}; a JSON object of the actions API was expected: is "
            "it one, of this version, without a proxy that answers for it?",
            UNREACHABLE,
        )

    # Commands ---------------------------------------------------------------------------------------------------------

    def command(self, rest: str, parameters: Mapping[str, Any], *, bar: bool = False) -> Any:
        """Begin a command, follow it to its end, and return the finished operation."""
        try:
            return self.try_command(rest, parameters, bar=bar)
        except Refused as refusal:
            fail(refusal.words(), refusal.exit_code)

    def run(self, verb: str, parameters: Mapping[str, Any]) -> Any:
        """Begin a command on every daemon that is meant, follow each to its end, and return the group's answer."""
        answer = self.ask("POST", f"/v1/fleet/{verb}", {**parameters, **self.selection, "wait": GROUP_WAIT_S})
        for result in answer["results"]:
            operation = result["operation"]
            if operation is not None and operation["finished_ms"] is None:
                result["operation"] = operation = self.follow(operation["id"], bar=False)
                result["problem"] = operation["problem"]
        good = sum(self.is_done(one) for one in answer["results"])
        return {**answer, "done": good, "failed": len(answer["results"]) - good, "running": 0}

    @staticmethod
    def is_done(result: Mapping[str, Any]) -> bool:
        """Whether a daemon's part of a group's command came to a good end."""
        return result["operation"] is not None and result["operation"]["state"] == "done"

    def try_command(self, rest: str, parameters: Mapping[str, Any], *, bar: bool = False) -> Any:
        """Do as `command` does. Raises Refused when it is denied, or does not come to a good end."""
        operation = self.try_ask("POST", self.path(rest), parameters)
        if operation["finished_ms"] is None:
            operation = self.follow(operation["id"], bar=bar)
        if operation["state"] != "done":
            raise Refused(None, operation["problem"] or {"detail": operation["state"]})
        return operation

    def follow(self, operation_id: str, *, bar: bool) -> Any:
        """Wait for the end of an operation. One that this program leaves goes on, and that is said."""
        path = f"/v1/operations/{quote(operation_id, safe='')}"
        shown = click.progressbar(length=100, label="waiting", hidden=not (bar and sys.stdout.isatty()))
        done = 0
        try:
            with shown:
                while True:
                    operation = self.ask("GET", path, {"wait": POLL_S})
                    now = round(100 * (operation["progress"] or 0))
                    shown.label = operation["phase"] or operation["state"]
                    shown.update(max(0, now - done))
                    shown.render_progress()  # update() shows no new phase without a new percent
                    done = max(done, now)
                    if operation["finished_ms"] is not None:
                        return operation
        except (KeyboardInterrupt, SystemExit):
            say(
                f"operation {operation_id} goes on; stop it with: daemonpulse actions cancel {operation_id}",
                err=True,
            )
            raise


def _kind(content: bytes) -> str:
    start = content[:512].lstrip().lower()
    return "an HTML page" if start.startswith((b"<!doctype html", b"<html")) else "something that is not JSON"
