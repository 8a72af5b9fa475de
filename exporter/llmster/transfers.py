"""Downloads of a daemon over the WebSocket: models (/repository) and engines (/runtime), with cancel.

Does not depend on policy. Nothing is retried.

Source: `createRepositoryBackendInterface` and `createRuntimeBackendInterface` of the official SDK 2.0.0. Not verified
against a released llmster.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from exporter.llmster import calls
from exporter.llmster.client import DaemonClient
from exporter.llmster.errors import CallFailed
from exporter.llmster.listing import Listing, T, read_each
from exporter.llmster.long_calls import CANCEL_TIMEOUT_S, messages, until_ended
from exporter.llmster.state import Engine
from exporter.llmster.wire.channel import Channel
from exporter.llmster.wire.connection import Connection, decode, expected

SEARCH_TIMEOUT_S: Final = 30.0
"""The daemon asks a hub on the internet."""
SEARCH_LIMIT: Final = 25
"""Most results of a search, by the schema."""


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """Source: `update` of a download's progress message."""

    downloaded_bytes: float = 0
    total_bytes: float = 0

    @property
    def share(self) -> float | None:
        """Share done, 0 to 1, None while the size is not known."""
        return min(1.0, max(0.0, self.downloaded_bytes / self.total_bytes)) if self.total_bytes > 0 else None


class DownloadMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message of a downloadModel or downloadRuntimeExtension channel."""

    type: str
    update: Progress | None = None
    default_identifier: str | None = None


class _Identifier(msgspec.Struct, frozen=True):
    type: str
    identifier: str


class FoundModel(msgspec.Struct, frozen=True):
    """One model of a search. Source: repository.searchModels."""

    name: str
    identifier: _Identifier
    exact: bool | None = None


class FoundModels(msgspec.Struct, frozen=True):
    """Source: repository.searchModels."""

    results: tuple[FoundModel, ...]


class DownloadOption(msgspec.Struct, frozen=True, rename="camel"):
    """One file set of a model. Source: repository.getModelDownloadOptions."""

    name: str
    size_bytes: int
    download_identifier: str
    quantization: str | None = None
    recommended: bool | None = None


class DownloadOptions(msgspec.Struct, frozen=True):
    """Source: repository.getModelDownloadOptions."""

    results: tuple[DownloadOption, ...]


class EngineExtension(msgspec.Struct, frozen=True, rename="camel"):
    """An engine that can be downloaded. Source: runtime.searchRuntimeExtensions."""

    name: str
    version: str
    type: str | None = None
    local_versions: tuple[str, ...] | None = None
    """Those that are installed; None where it does not say."""


class FoundEngines(msgspec.Struct, frozen=True):
    """Source: runtime.searchRuntimeExtensions."""

    extensions: tuple[EngineExtension, ...]


class _Specifier(msgspec.Struct, frozen=True):
    name: str
    version: str


class Selections(msgspec.Struct, frozen=True):
    """Source: runtime.getEngineSelections. Written by superjson: a map travels as pairs, with a `meta` beside it."""

    json: tuple[tuple[str, _Specifier], ...]


async def find_options(client: DaemonClient, model: str) -> Listing[DownloadOption]:
    """List the downloads of exactly this model; empty when the search does not find it.

    Raises LlmsterError.
    """
    repository = await client.connection("repository")
    opts = {"opts": {"searchTerm": model, "limit": SEARCH_LIMIT}}
    raw = await repository.call("searchModels", opts, timeout_s=SEARCH_TIMEOUT_S)
    what, odd = "repository.searchModels", client.counts.unreadable
    for found in _each(raw, "results", FoundModel, what, odd).read:
        if model in {found.name, found.identifier.identifier}:
            identifier = {"type": found.identifier.type, "identifier": found.identifier.identifier}
            parameter = {"modelSearchResultIdentifier": identifier}
            raw = await repository.call("getModelDownloadOptions", parameter, timeout_s=SEARCH_TIMEOUT_S)
            return _each(raw, "results", DownloadOption, "repository.getModelDownloadOptions", odd)
    return Listing((), 0)


async def download_model(
    client: DaemonClient,
    identifier: str,
    *,
    on_progress: Callable[[Progress], None],
    cancel: asyncio.Event,
    cancel_timeout_s: float = CANCEL_TIMEOUT_S,
) -> str | None:
    """Download a model; return its key, or None when `cancel` was set and the daemon gave it up.

    Raises LlmsterError.
    """
    connection = await client.connection("repository")
    done = await _until_done(
        client,
        connection,
        "downloadModel",
        {"downloadIdentifier": identifier},
        on_progress,
        cancel=cancel,
        cancel_timeout_s=cancel_timeout_s,
    )
    return (done.default_identifier or "") if done is not None else None


async def engines(client: DaemonClient) -> Listing[Engine]:
    """List the installed engines; an entry that cannot be read is left out, and counted. Raises LlmsterError."""
    runtime = await client.connection("runtime")
    return await calls.engines(runtime, unreadable=client.counts.unreadable)


async def engine_selections(client: DaemonClient) -> Mapping[str, tuple[str, str]]:
    """Tell which engine is selected, name and version by model format. Raises LlmsterError."""
    runtime = await client.connection("runtime")
    raw = await runtime.call("getEngineSelections")
    pairs = decode(raw, Selections, "runtime.getEngineSelections").json
    return {model_format: (one.name, one.version) for model_format, one in pairs}


async def select_engine(client: DaemonClient, *, name: str, version: str, model_format: str) -> None:
    """Select an engine for a model format. Raises LlmsterError."""
    runtime = await client.connection("runtime")
    engine = {"name": name, "version": version}
    await runtime.call("selectEngine", {"engine": engine, "modelFormatName": model_format})


async def search_engines(client: DaemonClient, query: str) -> Listing[EngineExtension]:
    """Search the engines that fit this host. Raises LlmsterError."""
    runtime = await client.connection("runtime")
    parameter = {"query": query, "includeIncompatible": False}
    raw = await runtime.call("searchRuntimeExtensions", parameter, timeout_s=SEARCH_TIMEOUT_S)
    odd = client.counts.unreadable
    return _each(raw, "extensions", EngineExtension, "runtime.searchRuntimeExtensions", odd)


async def download_engine(
    client: DaemonClient,
    *,
    name: str,
    version: str,
    on_progress: Callable[[Progress], None],
    cancel: asyncio.Event,
    cancel_timeout_s: float = CANCEL_TIMEOUT_S,
) -> bool:
    """Download an engine and select it where another version of it is selected; False when it was cancelled.

    Raises LlmsterError.
    """
    connection = await client.connection("runtime")
    done = await _until_done(
        client,
        connection,
        "downloadRuntimeExtension",
        {"name": name, "version": version, "updateSelections": True},
        on_progress,
        cancel=cancel,
        cancel_timeout_s=cancel_timeout_s,
    )
    return done is not None


def _each(raw: msgspec.Raw | None, key: str, shape: type[T], what: str, odd: Counter[str]) -> Listing[T]:
    """Read the list that is a member of an answer. Raises ProtocolViolation when there is none."""
    with expected(what):
        members = msgspec.json.decode(raw if raw is not None else b"null", type=dict[str, msgspec.Raw])
        return read_each(members.get(key), shape, what.rpartition(".")[2], odd)


async def _until_done(
    client: DaemonClient,
    connection: Connection,
    endpoint: str,
    parameter: Mapping[str, Any],
    on_progress: Callable[[Progress], None],
    *,
    cancel: asyncio.Event,
    cancel_timeout_s: float,
) -> DownloadMessage | None:
    """Start a download and follow it to its end; None when it was cancelled. An error after a cancel confirms it."""
    channel = await connection.open_channel(endpoint, parameter)
    following = _read(channel, on_progress, client.counts.unreadable)
    what = f"{connection.name}.{endpoint}"
    try:
        return await until_ended(
            connection, channel, following, what, cancel=cancel, cancel_timeout_s=cancel_timeout_s
        )
    except CallFailed:
        if cancel.is_set():
            return None
        raise


async def _read(
    channel: Channel, on_progress: Callable[[Progress], None], odd: Counter[str]
) -> DownloadMessage | None:
    """Follow a download to its end; None when its channel closes without a success that can be read."""
    done: DownloadMessage | None = None
    async for message in messages(channel, DownloadMessage, "download", odd):
        if message.type == "downloadProgress" and message.update is not None:
            on_progress(message.update)
        elif message.type == "success":
            done = message
    return done
