"""Serve /system, /runtime, /repository and /diagnostics: the daemon and its host.

Model work is served elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmster_sim.engine.instances import model_info
from llmster_sim.host import memory
from llmster_sim.models import catalogue
from llmster_sim.wire.envelopes import Channel, Namespace, Rpc, Stream
from llmster_sim.wire.files import files
from llmster_sim.wire.llm_calls import LlmEndpoints
from llmster_sim.wire.model_calls import ModelEndpoints, answering, embed
from llmster_sim.wire.schema import ABSENT, anything, array, nothing, one_of, optional, record, string
from llmster_sim.wire.transfer_calls import RuntimeEndpoints, repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.log_events import Event

_VOID = nothing("void")
_SCOPE = one_of(
    "type",
    {
        "selected": anything,
        "all": anything,
        "custom": record({"engines": array(record({"name": string, "version": string}))}),
    },
)


def namespaces(
    *, daemon: Daemon, shut_down: Callable[[], None], decisions: bool = False
) -> dict[str, Namespace]:
    """Every socket path the daemon serves, with its endpoints; that of decision models only with `decisions`."""
    llm = ModelEndpoints(daemon=daemon, domain="llm")
    chat = LlmEndpoints(daemon=daemon, shared=llm)
    embedding = ModelEndpoints(daemon=daemon, domain="embedding")
    decision = ModelEndpoints(daemon=daemon, domain="decision")
    # Assumed: the base interface of a model namespace and nothing else, as lmstudio-js' decisionBackendInterface.
    optional = (
        [Namespace(name="decision", rpcs=decision.rpcs(), streams=decision.streams())] if decisions else []
    )
    return {
        space.name: space
        for space in (
            *optional,
            Namespace(
                name="llm", rpcs={**llm.rpcs(), **chat.rpcs()}, streams={**llm.streams(), **chat.streams()}
            ),
            Namespace(
                name="embedding",
                rpcs={**embedding.rpcs(), "embedString": embed(daemon=daemon, endpoints=embedding)},
                streams=embedding.streams(),
            ),
            _system(daemon, shut_down),
            _runtime(daemon),
            _repository(daemon),
            _diagnostics(daemon),
            files(),
            # Accepted so that official clients can connect; nothing of theirs is simulated.
            Namespace(name="plugins", rpcs={}, streams={}),
        )
    }


def _system(daemon: Daemon, shut_down: Callable[[], None]) -> Namespace:
    def variants(parameter: dict[str, Any]) -> list[dict[str, Any]]:
        model = daemon.model(parameter["modelKey"])
        return [{**model_info(model), "modelKey": name, "selectedVariant": name} for name in model.variants]

    def stop(_parameter: Any) -> Any:
        shut_down()
        return ABSENT

    def alive(_channel: Channel) -> None:
        """Stay open as long as the daemon lives."""

    return Namespace(
        name="system",
        rpcs={
            "listDownloadedModels": Rpc(
                handle=answering(lambda _: [model_info(model) for model in daemon.models]), check=_VOID
            ),
            "listDownloadedModelVariants": Rpc(
                handle=answering(variants), check=record({"modelKey": string})
            ),
            "version": Rpc(
                handle=answering(lambda _: {"version": daemon.version, "build": daemon.build}), check=_VOID
            ),
            "info": Rpc(
                handle=answering(
                    lambda _: {
                        "pid": daemon.pid,
                        "isDaemon": True,
                        "version": f"{daemon.version}+{daemon.build}",
                    }
                ),
                check=_VOID,
            ),
            "getExperimentFlags": Rpc(handle=answering(lambda _: []), check=_VOID),
            "notify": Rpc(handle=answering(lambda _: ABSENT), check=record({})),
            "requestShutdown": Rpc(handle=answering(stop), check=_VOID),
        },
        streams={"alive": Stream(handle=alive, check=_VOID)},
    )


def _engine(engine: catalogue.Engine) -> dict[str, Any]:
    cuda = engine.model_format == "GGUF"
    return {
        "name": engine.name,
        "version": engine.version,
        "engine": engine.type,
        "platform": "linux" if cuda else "mac",
        "cpu": {
            "architecture": "x86_64" if cuda else "arm64",
            "instructionSetExtensions": ["AVX2" if cuda else "AdvSIMD"],
        },
        "gpu": {"make": "NVIDIA", "framework": "CUDA"} if cuda else {"make": "Apple", "framework": "Metal"},
        "supportedModelFormatNames": [engine.model_format],
    }


def _survey(daemon: Daemon) -> dict[str, Any]:
    engine = catalogue.LLAMA_SERVER
    gpus = daemon.gpus.all
    found = {"code": "success", "message": ""}
    none = {"code": "noDevicesFound", "message": ""}
    return {
        "status": "ok",
        "engines": [
            {
                "name": engine.name,
                "version": engine.version,
                "engine": engine.type,
                "platform": "linux",
                "compatibility": {"status": "compatible"},
                "supportedModelFormatNames": [engine.model_format],
                "hardwareSurvey": {
                    "gpuSurveyResult": {
                        "result": found if gpus else none,
                        "gpuInfo": [
                            {
                                "name": gpu.spec.name,
                                "deviceId": gpu.index,
                                "totalMemoryCapacityBytes": gpu.spec.total_bytes,
                                "dedicatedMemoryCapacityBytes": gpu.spec.total_bytes,
                                "integrationType": "discrete",
                                "detectionPlatform": "CUDA",
                                "detectionPlatformVersion": "12.8",
                                "otherInfo": {
                                    "driverVersion": "12080",
                                    "computeCapability": gpu.spec.compute,
                                },
                            }
                            for gpu in gpus
                        ],
                    },
                    "cpuSurveyResult": {
                        "result": found,
                        "cpuInfo": {
                            "name": "AMD Ryzen 9 7950X 16-Core Processor",
                            "architecture": "x86_64",
                            "supportedInstructionSetExtensions": ["AVX", "AVX2"],
                        },
                    },
                },
                "memoryInfo": {
                    "ramCapacity": memory.RAM_BYTES,
                    "vramCapacity": sum(gpu.spec.total_bytes for gpu in gpus),
                    "totalMemory": memory.RAM_BYTES + sum(gpu.spec.total_bytes for gpu in gpus),
                },
                "visibleDevicesConfig": {
                    "visibleDevices": [gpu.index for gpu in gpus],
                    "changesOrder": False,
                },
            }
        ],
    }


def _runtime(daemon: Daemon) -> Namespace:
    engines = RuntimeEndpoints(daemon, _engine)
    survey = Rpc(handle=answering(lambda _: _survey(daemon)), check=optional(_SCOPE))
    return Namespace(
        name="runtime", rpcs={"surveyHardware": survey, **engines.rpcs()}, streams=engines.streams()
    )


def _repository(daemon: Daemon) -> Namespace:
    rpcs, streams = repository(daemon)
    status = {
        "status": "online",
        "issues": [],
        "peers": [
            {
                "deviceIdentifier": catalogue.PEER_DEVICE_IDENTIFIER,
                "deviceName": catalogue.PEER_DEVICE_NAME,
                "status": "connected",
            }
        ],
        "deviceIdentifier": catalogue.LOCAL_DEVICE_IDENTIFIER,
        "deviceName": catalogue.LOCAL_DEVICE_NAME,
        "preferredDeviceIdentifier": catalogue.LOCAL_DEVICE_IDENTIFIER,
    }
    return Namespace(
        name="repository",
        rpcs={
            "lmLinkStatus": Rpc(handle=answering(lambda _: status), check=_VOID),
            "isAuthenticated": Rpc(handle=answering(lambda _: {"authenticated": False}), check=_VOID),
            "getAuthenticationStatus": Rpc(
                handle=answering(lambda _: {"authenticationStatus": {"type": "none"}}), check=_VOID
            ),
            **rpcs,
        },
        streams=streams,
    )


def _diagnostics(daemon: Daemon) -> Namespace:
    def stream(channel: Channel) -> None:
        def pass_on(event: Event) -> None:
            channel.send({"type": "log", "log": event})

        stop = daemon.watch(pass_on)

        def end(_message: dict[str, Any]) -> None:
            stop()
            channel.close()

        channel.on_message = end
        channel.on_gone = stop

    return Namespace(
        name="diagnostics",
        rpcs={},
        streams={"streamLogs": Stream(handle=stream, check=_VOID, messages=("stop",))},
    )
