"""Calls that change a daemon, and those before them: load, unload, estimate, configuration, over the WebSocket.

Does not depend on policy: the caller decides what is allowed and what fits. Nothing is retried, because no call is
idempotent on the daemon.

Source: frames 08, 09, 15, 22 and 30 in tests/fixtures/protocol.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from exporter.llmster import calls
from exporter.llmster.client import DaemonClient
from exporter.llmster.domains import BY_NAME, DOMAINS, Domain
from exporter.llmster.errors import LlmsterError
from exporter.llmster.listing import Listing
from exporter.llmster.long_calls import CANCEL_TIMEOUT_S, give_up, messages, until_ended
from exporter.llmster.state import DownloadedModel, Estimate, InstanceInfo, ProcessingState
from exporter.llmster.wire.channel import Channel

Namespace = Literal["llm", "embedding"]
"""Of the domains whose models can be loaded here; domains.py has all of them."""

UNLOAD_TIMEOUT_S: Final = 60.0
"""Assumed: freeing tens of gigabytes takes seconds, not minutes."""
ESTIMATE_TIMEOUT_S: Final = 30.0
"""The daemon reads the model's header for it, from a disk that may sleep."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to load and how. `fields` are load configuration keys as on the wire; what is not named is the daemon's."""

    model_key: str
    namespace: Namespace = "llm"
    identifier: str | None = None
    ttl_ms: int | None = None
    device_identifier: str | None = None
    """An LM Link peer; None is the daemon's own host."""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def stack(self) -> dict[str, Any]:
        """Write the configuration as it goes over the wire."""
        return calls.stack_of(self.fields)


class LoadMessage(msgspec.Struct, frozen=True):
    """A message of a loadModel channel."""

    type: str
    progress: float | None = None
    info: InstanceInfo | None = None
    """Of `success`; that of `resolved` is of a model and not of an instance, and reads as None."""


class DaemonCommands:
    """The commands of one connected daemon. Everything raises LlmsterError."""

    def __init__(self, client: DaemonClient) -> None:
        self.client = client

    async def models(self, *, timeout_s: float = 15.0) -> Listing[DownloadedModel]:
        """List what is on disk now, without the snapshot's minute of caching."""
        system = await self.client.connection("system")
        return await calls.downloaded_models(
            system, timeout_s=timeout_s, unreadable=self.client.counts.unreadable
        )

    async def instances(
        self, *, optional_within_s: float = 0.0, in_part: bool = False
    ) -> Listing[InstanceInfo]:
        """List what is loaded now, in every domain's namespace that the daemon has.

        `optional_within_s` is the time for an optional namespace to open. With `in_part` a namespace that cannot be
        read counts as an instance that cannot, as long as another one can be read.
        """
        told = await asyncio.gather(
            *(self._instances_of(domain, optional_within_s) for domain in DOMAINS), return_exceptions=True
        )
        read = [one for one in told if isinstance(one, Listing)]
        lost = [one for one in told if isinstance(one, BaseException)]
        is_enough = in_part and any(
            isinstance(one, Listing) for domain, one in zip(DOMAINS, told, strict=True) if not domain.optional
        )
        for error in lost:
            if not is_enough or not isinstance(error, LlmsterError):
                raise error
        return Listing(
            tuple(info for listing in read for info in listing.read),
            sum(listing.unreadable for listing in read) + len(lost),
            (*(problem for listing in read for problem in listing.problems), *map(str, lost)),
        )

    async def _instances_of(self, domain: Domain, optional_within_s: float) -> Listing[InstanceInfo]:
        connection = (
            await self.client.optional_connection(domain.name, within_s=optional_within_s)
            if domain.optional
            else await self.client.connection(domain.name)
        )
        if connection is None:
            return Listing((), 0)
        return await calls.loaded_instances(connection, unreadable=self.client.counts.unreadable)

    async def processing(self, instance: InstanceInfo) -> ProcessingState:
        """Ask what an instance is doing. Raises CallFailed when it is gone."""
        connection = await self.client.connection(namespace_of(instance))
        return await calls.processing_state(connection, instance.instance_reference)

    async def load_config(self, instance: InstanceInfo) -> dict[str, Any]:
        """Read every key of an instance's load configuration."""
        connection = await self.client.connection(namespace_of(instance))
        return await calls.config_fields(connection, instance.instance_reference)

    async def estimate(self, request: LoadRequest) -> Estimate:
        """Ask what a load would take. Costly for the daemon: only on demand."""
        connection = await self.client.connection(request.namespace)
        return await calls.estimate(
            connection,
            request.model_key,
            request.fields,
            timeout_s=ESTIMATE_TIMEOUT_S,
            device_identifier=request.device_identifier,
        )

    async def load(
        self,
        request: LoadRequest,
        *,
        on_progress: Callable[[float], None],
        cancel: asyncio.Event,
        timeout_s: float,
        cancel_timeout_s: float = CANCEL_TIMEOUT_S,
    ) -> InstanceInfo | None:
        """Load a model and wait for it; None when `cancel` was set and the daemon gave the load up.

        When the time is up the load is cancelled too, and TimeoutError raised. ConnectionLost says nothing about the
        load itself: the daemon goes on without us. Nor does DaemonStalled, when a cancel is not answered.
        """
        connection = await self.client.connection(request.namespace)
        parameter: dict[str, Any] = {
            "modelKey": request.model_key,
            **calls.device_of(request.device_identifier),
        }
        if request.identifier is not None:
            parameter["identifier"] = request.identifier
        if request.ttl_ms is not None:
            parameter["ttlMs"] = request.ttl_ms
        channel = await connection.open_channel(
            "loadModel", {**parameter, "loadConfigStack": request.stack()}
        )
        following = _read_load(channel, on_progress, self.client.counts.unreadable)
        try:
            async with asyncio.timeout(timeout_s):
                return await until_ended(
                    connection,
                    channel,
                    following,
                    f"{connection.name}.loadModel",
                    cancel=cancel,
                    cancel_timeout_s=cancel_timeout_s,
                )
        except TimeoutError:
            await give_up(connection, channel)
            raise

    async def unload(self, instance: InstanceInfo) -> None:
        """Unload an instance, busy or not. Raises CallFailed when there is none of this identifier."""
        connection = await self.client.connection(namespace_of(instance))
        parameter = {"identifier": instance.identifier, **calls.device_of(instance.device_identifier)}
        await connection.call("unloadModel", parameter, timeout_s=UNLOAD_TIMEOUT_S)


def namespace_of(model: DownloadedModel) -> str:
    """Name the namespace that answers for a model or instance; a type that is not known was listed by /llm."""
    return model.type if model.type in BY_NAME else "llm"


def load_namespace_of(model: DownloadedModel) -> Namespace:
    """Name the namespace that a model is loaded over; whether its domain can be loaded is the caller's question."""
    return "embedding" if model.type == "embedding" else "llm"


async def _read_load(
    channel: Channel, on_progress: Callable[[float], None], odd: Counter[str]
) -> InstanceInfo | None:
    """Follow a loadModel channel to its end; None when it closes without a success that can be read."""
    loaded: InstanceInfo | None = None
    async for message in messages(channel, LoadMessage, "load", odd):
        match message.type:
            case "progress" if message.progress is not None:
                on_progress(min(max(message.progress, 0.0), 1.0))
            case "success":
                loaded = message.info
            case _:
                pass  # "resolved" says what we know; unknown types come with new releases
    return loaded
