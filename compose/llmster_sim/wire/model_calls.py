"""Serve what /llm and /embedding share: listing, states, configurations, loading and unloading.

Calls and channels of only one of the two namespaces are elsewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.engine.instances import instance_info, model_info
from llmster_sim.engine.jobs import Ask, Failed, Finished, JobEvent
from llmster_sim.engine.loading import Evicting, Loaded, LoadEvent, LoadFailed, Progress, Resolved
from llmster_sim.models.generation import Generation, tokenize
from llmster_sim.models.load_config import overrides_of
from llmster_sim.wire.envelopes import Call, Channel, Rpc, Stream
from llmster_sim.wire.schema import (
    ABSENT,
    CONFIG_STACK,
    SPECIFIER,
    boolean,
    integer,
    nothing,
    optional,
    record,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.instances import Instance
    from llmster_sim.engine.loading import Load

# Components of a made-up embedding; nomic-embed-text-v1.5 has this many.
_DIMENSIONS = 768


def answering(handle: Callable[[Any], Any]) -> Callable[[Call], None]:
    """Turn a function of the parameter into an endpoint that answers at once."""

    def run(call: Call) -> None:
        try:
            result = handle(call.parameter)
        except errors.DaemonError as error:
            call.fail(error)
        else:
            call.resolve(result)

    return run


def vector(text: str) -> list[float]:
    """Give a unit vector that depends on the text alone."""
    start = sum(ord(character) * (index + 1) for index, character in enumerate(text)) % 997
    raw = [math.sin(start + index) for index in range(_DIMENSIONS)]
    length = math.sqrt(sum(value * value for value in raw))
    return [round(value / length, 9) for value in raw]


class ModelEndpoints:
    """The endpoints of one model namespace (`llm` or `embedding`)."""

    def __init__(self, *, daemon: Daemon, domain: str) -> None:
        self._daemon = daemon
        self._domain = domain

    def rpcs(self) -> dict[str, Rpc]:
        """Endpoints that answer once."""
        by_specifier = {"specifier": SPECIFIER}
        text = record({"specifier": SPECIFIER, "inputString": string})
        return {
            "listLoaded": Rpc(handle=answering(self._list), check=nothing("undefined")),
            "getModelInfo": Rpc(
                handle=answering(self._info), check=record({**by_specifier, "throwIfNotFound": boolean})
            ),
            "getInstanceProcessingState": Rpc(
                handle=answering(self._state), check=record({**by_specifier, "throwIfNotFound": boolean})
            ),
            "getLoadConfig": Rpc(handle=answering(self._config), check=record(by_specifier)),
            "getBasePredictionConfig": Rpc(
                handle=answering(self._base_config),
                check=record({**by_specifier, "ignoreServerSessionConfig": optional(boolean)}),
            ),
            "estimateModelUsage": Rpc(
                handle=answering(self._estimate),
                check=record(
                    {
                        "modelKey": string,
                        "loadConfigStack": CONFIG_STACK,
                        "deviceIdentifier": optional(string, nullable=True),
                    }
                ),
            ),
            "unloadModel": Rpc(
                handle=answering(self._unload),
                check=record({"identifier": string, "deviceIdentifier": optional(string, nullable=True)}),
            ),
            "tokenize": Rpc(handle=answering(self._tokenize), check=text),
            "countTokens": Rpc(handle=answering(self._count), check=text),
        }

    def streams(self) -> dict[str, Stream]:
        """Endpoints that are channels."""
        device = {"deviceIdentifier": optional(string, nullable=True)}
        return {
            "loadModel": Stream(
                handle=self._load,
                check=record(
                    {
                        "modelKey": string,
                        "identifier": optional(string),
                        **device,
                        "ttlMs": optional(integer(least=1)),
                        "loadConfigStack": CONFIG_STACK,
                    }
                ),
                messages=("cancel",),
            ),
            "getOrLoad": Stream(
                handle=self._get_or_load,
                check=record(
                    {
                        "identifier": string,
                        **device,
                        "loadTtlMs": optional(integer(least=1)),
                        "loadConfigStack": CONFIG_STACK,
                    }
                ),
                messages=("cancel",),
            ),
        }

    def find(self, specifier: Mapping[str, Any]) -> Instance | None:
        """Give the instance a specifier means, or None."""
        loaded = [i for i in self._daemon.loaded if i.model.type == self._domain]
        if specifier["type"] == "instanceReference":
            return next((i for i in loaded if i.reference == specifier["instanceReference"]), None)
        query = specifier["query"]
        return next(
            (i for i in loaded if all(query[key] == value for key, value in _facts(i) if key in query)), None
        )

    def require(self, specifier: Mapping[str, Any]) -> Instance:
        """Give the instance a specifier means, or the daemon's error."""
        instance = self.find(specifier)
        if instance is not None:
            return instance
        if specifier["type"] == "instanceReference":
            raise errors.already_unloaded()
        raise errors.no_match(query=specifier["query"], loaded=[i.identifier for i in self._daemon.loaded])

    def _list(self, _parameter: Any) -> list[dict[str, Any]]:
        return [instance_info(i) for i in self._daemon.loaded if i.model.type == self._domain]

    def _info(self, parameter: dict[str, Any]) -> Any:
        if parameter["throwIfNotFound"]:
            return instance_info(self.require(parameter["specifier"]))
        instance = self.find(parameter["specifier"])
        return ABSENT if instance is None else instance_info(instance)

    def _state(self, parameter: dict[str, Any]) -> dict[str, Any]:
        # Observed: the schema gives no other answer than a state, so a missing instance is always an error.
        queue = self.require(parameter["specifier"]).queue
        return {"status": queue.status, "queued": queue.queued}

    def _config(self, parameter: dict[str, Any]) -> dict[str, Any]:
        return config_fields(self.require(parameter["specifier"]))

    def _base_config(self, parameter: dict[str, Any]) -> dict[str, Any]:
        self.require(parameter["specifier"])
        return {"fields": []}

    def _estimate(self, parameter: dict[str, Any]) -> dict[str, Any]:
        self._on_device(parameter["modelKey"], parameter)
        return self._daemon.estimate(
            key=parameter["modelKey"],
            overrides=overrides_of(parameter["loadConfigStack"]),
            domain=self._domain,
        )

    def _unload(self, parameter: dict[str, Any]) -> Any:
        identifier = parameter["identifier"]
        instance = self._daemon.instance(identifier, domain=self._domain)
        # Assumed: a device that does not hold it is the same mistake as a wrong identifier.
        if (
            parameter.get("deviceIdentifier", instance.model.device_identifier)
            != instance.model.device_identifier
        ):
            loaded = [i.identifier for i in self._daemon.loaded]
            raise errors.identifier_not_found(identifier=identifier, loaded=loaded)
        self._daemon.unload(identifier, domain=self._domain)
        return ABSENT

    def _on_device(self, key: str, parameter: dict[str, Any]) -> None:
        """Refuse a model that is not on the device asked for; without one any device will do."""
        model = self._daemon.model(key, domain=self._domain)
        if parameter.get("deviceIdentifier", model.device_identifier) != model.device_identifier:
            raise errors.path_not_found(key=key, known=[model.key for model in self._daemon.models])

    def _tokenize(self, parameter: dict[str, Any]) -> dict[str, Any]:
        self.require(parameter["specifier"])
        return {"tokens": [sum(map(ord, token)) % 150_000 for token in tokenize(parameter["inputString"])]}

    def _count(self, parameter: dict[str, Any]) -> dict[str, Any]:
        self.require(parameter["specifier"])
        return {"tokenCount": len(tokenize(parameter["inputString"]))}

    def _load(self, channel: Channel) -> None:
        parameter = channel.parameter

        def tell(event: LoadEvent) -> None:
            match event:
                case Resolved(model=model):
                    channel.send({"type": "resolved", "info": model_info(model)})
                case Progress(share=share):
                    channel.send({"type": "progress", "progress": share})
                case Loaded(instance=instance):
                    channel.send({"type": "success", "info": instance_info(instance)})
                    channel.close()
                case LoadFailed(error=error):
                    channel.fail(error)
                case Evicting():
                    pass

        try:
            self._on_device(parameter["modelKey"], parameter)
            load = self._daemon.load(
                parameter["modelKey"],
                identifier=parameter.get("identifier"),
                ttl_ms=parameter.get("ttlMs"),
                overrides=overrides_of(parameter["loadConfigStack"]),
                domain=self._domain,
                notify=tell,
            )
        except errors.DaemonError as error:
            channel.fail(error)
            return
        self._make_cancellable(channel, load)

    def _get_or_load(self, channel: Channel) -> None:
        parameter = channel.parameter
        state = {"loading": False}

        def tell(event: LoadEvent) -> None:
            match event:
                case Evicting(instance=instance):
                    channel.send({"type": "unloadingOtherJITModel", "info": instance_info(instance)})
                case Resolved(model=model):
                    state["loading"] = True
                    # Assumed: the identifier it will have; a JIT load never meets an instance of its model.
                    info = model_info(model)
                    channel.send({"type": "startLoading", "identifier": model.key, "info": info})
                case Progress(share=share):
                    channel.send({"type": "loadProgress", "progress": share})
                case Loaded(instance=instance):
                    kind = "loadSuccess" if state["loading"] else "alreadyLoaded"
                    channel.send({"type": kind, "info": instance_info(instance)})
                    channel.close()
                case LoadFailed(error=error):
                    channel.fail(error)

        try:
            load = self._daemon.get_or_load(
                parameter["identifier"],
                domain=self._domain,
                ttl_ms=parameter.get("loadTtlMs"),
                overrides=overrides_of(parameter["loadConfigStack"]),
                notify=tell,
            )
        except errors.DaemonError as error:
            channel.fail(error)
            return
        self._make_cancellable(channel, load)

    def _make_cancellable(self, channel: Channel, load: Load | None) -> None:
        def cancel(_message: dict[str, Any]) -> None:
            if load is not None:
                self._daemon.loader.abort(load)
            # Assumed: a cancelled load closes its channel without an error.
            channel.close()

        channel.on_message = cancel
        # A client that goes away does not stop the load: others may wait for it.
        channel.on_gone = lambda: None


def _facts(instance: Instance) -> tuple[tuple[str, object], ...]:
    """List what a `ModelQuery` can ask of an instance."""
    model = instance.model
    return (
        ("identifier", instance.identifier),
        ("path", model.path),
        ("vision", model.vision),
        ("deviceIdentifier", model.device_identifier),
        ("domain", model.type),
    )


def config_fields(instance: Instance) -> dict[str, Any]:
    """`kvConfigSchema` of an instance's load configuration."""
    return {"fields": [{"key": key, "value": value} for key, value in instance.config.fields]}


def embed(*, daemon: Daemon, endpoints: ModelEndpoints) -> Rpc:
    """Give the `embedString` endpoint: it takes a slot and time like any other work."""

    def handle(call: Call) -> None:
        text = call.parameter["inputString"]

        def tell(event: JobEvent) -> None:
            if isinstance(event, Finished):
                call.resolve({"embedding": vector(text)})
            elif isinstance(event, Failed):
                call.fail(event.error)

        try:
            instance = endpoints.require(call.parameter["modelSpecifier"])
        except errors.DaemonError as error:
            call.fail(error)
            return
        daemon.submit(instance, ask=embedding_ask(text, route=None), notify=tell)

    return Rpc(handle=handle, check=record({"modelSpecifier": SPECIFIER, "inputString": string}))


def embedding_ask(text: str, *, route: str | None) -> Ask:
    """Give the ask for one vector."""
    return Ask(
        prompt=text,
        generation=Generation(segments=()),
        prompt_tokens=len(tokenize(text)),
        route=route,
        embedding=True,
    )
