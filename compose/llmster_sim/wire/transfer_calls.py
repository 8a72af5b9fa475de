"""Serve what fetches from outside: models of /repository and engines of /runtime, over channels with progress.

Downloaded models are made up and do not appear on the disk by themselves.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.models import catalogue
from llmster_sim.wire.envelopes import Channel, Rpc, Stream
from llmster_sim.wire.model_calls import answering
from llmster_sim.wire.schema import (
    ABSENT,
    array,
    boolean,
    integer,
    nothing,
    one_of,
    optional,
    record,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.engine.daemon import Daemon

_VOID = nothing("void")
_STEPS = 20
_BYTES_PER_S = 38_000_000
# Assumed: what the hub offers; names and sizes are made up.
HUB_MODEL, HUB_KEY = "publisher/fresh-7b", "fresh-7b"
HUB_SIZES = {"Q4_K_M": 4_680_000_000, "Q8_0": 8_100_000_000}
NEW_ENGINE = dataclasses.replace(catalogue.LLAMA_SERVER, version="2.42.0")
ENGINE_BYTES = 420_000_000


def transfer(channel: Channel, daemon: Daemon, *, size: int, done: Callable[[], dict[str, Any]]) -> None:
    """Send progress as time passes and `done` at the end; a client may cancel.

    Assumed: a cancelled download closes its channel, and one whose client went away goes on.
    """
    state = {"cancelled": False}

    def step(number: int) -> None:
        if state["cancelled"]:
            return
        update = {
            "downloadedBytes": size * number // _STEPS,
            "totalBytes": size,
            "speedBytesPerSecond": _BYTES_PER_S,
        }
        channel.send({"type": "downloadProgress", "update": update})
        if number < _STEPS:
            daemon.clock.call_later(size / _BYTES_PER_S / _STEPS, lambda: step(number + 1))
            return
        channel.send({"type": "startFinalizing"})
        channel.send(done())
        channel.close()

    def cancel(_message: dict[str, Any]) -> None:
        state["cancelled"] = True
        channel.close()

    channel.on_message = cancel
    step(0)


def repository(daemon: Daemon) -> tuple[dict[str, Rpc], dict[str, Stream]]:
    """Serve what /repository has about models of the hub."""

    def search(parameter: dict[str, Any]) -> dict[str, Any]:
        term = parameter["opts"].get("searchTerm", "")
        found = [HUB_MODEL] if term and term in HUB_MODEL else []
        identifiers = [{"type": "hf", "identifier": name} for name in found]
        return {
            "results": [
                {"name": one["identifier"], "identifier": one, "exact": one["identifier"] == term}
                for one in identifiers
            ]
        }

    def options(_parameter: dict[str, Any]) -> dict[str, Any]:
        return {
            "results": [
                {
                    "quantization": name,
                    "name": f"fresh-7b-{name}.gguf",
                    "sizeBytes": size,
                    "fitEstimation": "fullGPUOffload",
                    "recommended": name == "Q4_K_M",
                    "downloadIdentifier": f"hf:{HUB_MODEL}:{name}",
                    "indexedModelIdentifier": f"{HUB_MODEL}/fresh-7b-{name}.gguf",
                    "compatibilityType": "gguf",
                }
                for name, size in HUB_SIZES.items()
            ]
        }

    def download(channel: Channel) -> None:
        identifier = channel.parameter["downloadIdentifier"]
        size = HUB_SIZES.get(identifier.rpartition(":")[2])
        if size is None or HUB_MODEL not in identifier:
            channel.fail(errors.path_not_found(key=identifier, known=[HUB_MODEL]))
            return

        def done() -> dict[str, Any]:
            if all(model.key != HUB_KEY for model in daemon.models):
                daemon.models = (*daemon.models, dataclasses.replace(catalogue.QWEN3_8B, key=HUB_KEY))
            return {"type": "success", "defaultIdentifier": HUB_KEY}

        transfer(channel, daemon, size=size, done=done)

    identifier = one_of("type", {"catalog": _identifier(), "hf": _identifier()})
    opts = {
        "searchTerm": optional(string),
        "limit": optional(integer(least=1)),
        "compatibilityTypes": optional(array(string)),
    }
    return (
        {
            "searchModels": Rpc(handle=answering(search), check=record({"opts": record(opts)})),
            "getModelDownloadOptions": Rpc(
                handle=answering(options), check=record({"modelSearchResultIdentifier": identifier})
            ),
        },
        {
            "downloadModel": Stream(
                handle=download, check=record({"downloadIdentifier": string}), messages=("cancel",)
            )
        },
    )


def _identifier() -> Any:
    return record({"type": string, "identifier": string})


class RuntimeEndpoints:
    """The endpoints of /runtime about engines: installed, selected, and to be had."""

    def __init__(self, daemon: Daemon, describe: Callable[[catalogue.Engine], dict[str, Any]]) -> None:
        self._daemon = daemon
        self._describe = describe
        self._engines = list(catalogue.ENGINES)
        self._selected = {engine.model_format: engine for engine in (catalogue.LLAMA_SERVER, catalogue.MLX)}

    def rpcs(self) -> dict[str, Rpc]:
        """Endpoints that answer once."""
        engine = record({"name": string, "version": string})
        query = {"query": string, "channelOverride": optional(string), "includeIncompatible": boolean}
        return {
            "listEngines": Rpc(
                handle=answering(lambda _: [self._describe(one) for one in self._engines]), check=_VOID
            ),
            "getEngineSelections": Rpc(handle=answering(self._selections)),
            "selectEngine": Rpc(
                handle=answering(self._select), check=record({"engine": engine, "modelFormatName": string})
            ),
            "searchRuntimeExtensions": Rpc(handle=answering(self._search), check=record(query)),
        }

    def streams(self) -> dict[str, Stream]:
        """Endpoints that are channels."""
        wanted = {"name": string, "version": string, "updateSelections": boolean}
        return {
            "downloadRuntimeExtension": Stream(handle=self._fetch, check=record(wanted), messages=("cancel",))
        }

    def _selections(self, _parameter: Any) -> dict[str, Any]:
        # This endpoint alone is serialized with superjson: a Map travels as pairs with a `meta` beside it.
        pairs = [[name, {"name": one.name, "version": one.version}] for name, one in self._selected.items()]
        return {"json": pairs, "meta": {"values": ["map"]}}

    def _select(self, parameter: dict[str, Any]) -> Any:
        wanted, model_format = parameter["engine"], parameter["modelFormatName"]
        for engine in self._engines:
            if (engine.name, engine.version) == (wanted["name"], wanted["version"]):
                if engine.model_format != model_format:
                    # Assumed: the wording.
                    raise errors.DaemonError(f"{engine.name} does not support {model_format}")
                self._selected[engine.model_format] = engine
                return ABSENT
        known = [f"{engine.name}@{engine.version}" for engine in self._engines]
        raise errors.path_not_found(key=f"{wanted['name']}@{wanted['version']}", known=known)

    def _search(self, parameter: dict[str, Any]) -> dict[str, Any]:
        if parameter["query"] not in NEW_ENGINE.name:
            return {"extensions": []}
        local = [engine.version for engine in self._engines if engine.name == NEW_ENGINE.name]
        described = {**self._describe(NEW_ENGINE), "type": "engine", "package": NEW_ENGINE.name}
        described.pop("engine")
        return {"extensions": [{**described, "localVersions": local}]}

    def _fetch(self, channel: Channel) -> None:
        wanted = channel.parameter
        if (wanted["name"], wanted["version"]) != (NEW_ENGINE.name, NEW_ENGINE.version):
            channel.fail(errors.path_not_found(key=wanted["name"], known=[NEW_ENGINE.name]))
            return

        def done() -> dict[str, Any]:
            if NEW_ENGINE not in self._engines:
                self._engines.append(NEW_ENGINE)
            if wanted["updateSelections"]:
                self._selected[NEW_ENGINE.model_format] = NEW_ENGINE
            return {"type": "success"}

        transfer(channel, self._daemon, size=ENGINE_BYTES, done=done)
