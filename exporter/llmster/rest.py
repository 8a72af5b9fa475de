"""The daemon's REST endpoints without a WebSocket equivalent: greeting, status, models, and the token check.

HTTP 200 proves nothing here: unknown routes answer 200 with an `error` body, so bodies are checked.

Source: published captures and the official docs; shapes in tests/fixtures.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

import httpx
import msgspec

from exporter.llmster import http_body
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    DaemonStalled,
    DaemonUnreachable,
    NotLlmster,
    ProtocolViolation,
)
from exporter.llmster.lenient import UNDECODABLE

_T = TypeVar("_T")

MODEL_STATES: Final = ("loaded", "not-loaded", "loading")
"""Values of `state` in GET /api/v0/models that were seen."""


class ServerStatus(msgspec.Struct, frozen=True):
    """Source: GET /lms-status."""

    package: str
    version: str


class RestInstance(msgspec.Struct, frozen=True):
    """An entry of `loaded_instances`. Source: GET /api/v1/models."""

    id: str
    config: Any = None
    """A map from an option's REST name to its value."""


class RestModel(msgspec.Struct, frozen=True):
    """Source: GET /api/v1/models."""

    key: str
    loaded_instances: tuple[RestInstance, ...] = ()
    capabilities: Any = None

    @property
    def reasons(self) -> bool:
        """Whether the daemon says that the model can reason, be it turned off by default.

        Source: `capabilities.reasoning`, `{"allowed_options":["off","on"],"default":"on"}`.
        """
        found = self.capabilities.get("reasoning") if isinstance(self.capabilities, dict) else None
        options = found.get("allowed_options") if isinstance(found, dict) else None
        return isinstance(options, list) and any(option != "off" for option in options)


class _RestModels(msgspec.Struct, frozen=True):
    models: tuple[RestModel, ...]


class RestModelState(msgspec.Struct, frozen=True):
    """Source: GET /api/v0/models; the only place where `loading` shows."""

    id: str
    state: str

    @property
    def is_loading(self) -> bool | None:
        """Whether it is being loaded; None for a word that is not known."""
        return self.state == "loading" if self.state in MODEL_STATES else None


class RestModelStates(msgspec.Struct, frozen=True):
    """Source: GET /api/v0/models."""

    data: tuple[RestModelState, ...]


async def greets(base_url: str, *, timeout_s: float) -> bool:
    """Ask GET /lmstudio-greeting whether this is LM Studio. Raises DaemonUnreachable or DaemonStalled."""
    try:
        body = await _get(base_url, "/lmstudio-greeting", token=None, timeout_s=timeout_s)
    except (CallFailed, NotLlmster, AuthenticationRefused):
        return False
    return isinstance(body, dict) and body.get("lmstudio") is True


async def status(base_url: str, *, timeout_s: float) -> ServerStatus:
    """Call GET /lms-status."""
    return shape_of(await _get(base_url, "/lms-status", token=None, timeout_s=timeout_s), ServerStatus)


async def models(base_url: str, *, token: str | None, timeout_s: float) -> tuple[RestModel, ...]:
    """Call GET /api/v1/models."""
    body = await _get(base_url, "/api/v1/models", token=token, timeout_s=timeout_s)
    return shape_of(body, _RestModels).models


async def model_states(base_url: str, *, token: str | None, timeout_s: float) -> tuple[RestModelState, ...]:
    """Call GET /api/v0/models. One HTTP 500 with HTML was seen there just as a load started."""
    body = await _get(base_url, "/api/v0/models", token=token, timeout_s=timeout_s)
    return shape_of(body, RestModelStates).data


async def requires_token(base_url: str, *, timeout_s: float) -> bool:
    """Ask GET /api/v1/models without a token: True when the daemon answers 401."""
    try:
        await models(base_url, token=None, timeout_s=timeout_s)
    except AuthenticationRefused:
        return True
    return False


async def _get(base_url: str, path: str, *, token: str | None, timeout_s: float) -> Any:
    return await request(base_url, "GET", path, token=token, timeout_s=timeout_s)


async def request(
    base_url: str, method: str, path: str, *, token: str | None, timeout_s: float, json: Any = None
) -> Any:
    """Ask once and return the body of the answer, read and checked. Raises LlmsterError."""
    what = f"{method} {path}"
    try:
        # httpx's timeout is per read: one byte now and then would go on for ever. To connect it gets a little less,
        # so that an unreachable host (ConnectTimeout) differs from one that does not answer.
        limits = httpx.Timeout(timeout_s, connect=0.9 * timeout_s)
        async with httpx.AsyncClient(timeout=limits, trust_env=False) as http, asyncio.timeout(timeout_s):
            url = f"{base_url.rstrip('/')}{path}"
            response = await http_body.ask(http, method, url, json=json, headers=headers(token))
    except (httpx.TimeoutException, TimeoutError) as error:
        if isinstance(error, httpx.ConnectTimeout):
            raise DaemonUnreachable(f"no connection to {base_url} within {timeout_s:g} s") from None
        raise DaemonStalled(f"{what} did not answer within {timeout_s:g} s") from None
    except httpx.RemoteProtocolError as error:
        raise NotLlmster(f"{base_url} sent an invalid HTTP response: {error}") from None
    except httpx.HTTPError as error:
        raise DaemonUnreachable(f"{method} {base_url}{path} failed: {error}") from None
    return body_of(response, what)


def headers(token: str | None) -> dict[str, str]:
    """Give the headers that show a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def body_of(response: http_body.Answer, what: str) -> Any:
    """Read the body of an answer; `what` was asked. Raises LlmsterError when it is a refusal, or no JSON."""
    try:
        body = msgspec.json.decode(response.body)
    except UNDECODABLE:
        raise NotLlmster(f"{what} answered HTTP {response.status} and no JSON") from None
    error = body.get("error") if isinstance(body, dict) else None
    if error is None and response.is_success:
        return body
    # `error` is a string on unknown routes and an object elsewhere.
    message = error.get("message") if isinstance(error, dict) else error
    code = (error.get("code") or error.get("type")) if isinstance(error, dict) else None
    text = message if isinstance(message, str) else f"HTTP {response.status}"
    if response.status == httpx.codes.UNAUTHORIZED:
        raise AuthenticationRefused(text)
    raise CallFailed(text, code=code if isinstance(code, str) else None)


def shape_of(body: Any, shape: type[_T]) -> _T:
    """Read a body as what it should be. Raises ProtocolViolation."""
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(f"the daemon answered something unexpected: {error}") from None
