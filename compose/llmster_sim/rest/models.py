"""Serve the HTTP routes about models: listing, loading, unloading and downloads, in all three API families.

Chats are served elsewhere.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.engine.loading import Loaded, LoadEvent, LoadFailed
from llmster_sim.models.load_config import BATCH, CONTEXT, EMBEDDING_CONTEXT, EXPERTS, FLASH, KV_ON_GPU
from llmster_sim.rest.http import RestError, body_of, invalid, json_response, received

if TYPE_CHECKING:
    from aiohttp import web

    from llmster_sim.clock import Clock
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.engine.instances import Instance
    from llmster_sim.models.catalogue import Model
    from llmster_sim.rest.http import Router

_LOAD_KEYS = {
    "context_length": CONTEXT,
    "eval_batch_size": BATCH,
    "flash_attention": FLASH,
    "num_experts": EXPERTS,
    "offload_kv_cache_to_gpu": KV_ON_GPU,
}
# Assumed: how big a made-up download is and how fast the line.
_DOWNLOAD_BYTES = 2_279_145_003
_DOWNLOAD_BYTES_PER_S = 38_000_000


def closed(body: dict[str, Any], *, allowed: set[str]) -> None:
    """Refuse keys the schema does not list, in the published words."""
    unknown = [f"'{key}'" for key in body if key not in allowed]
    if unknown:
        raise invalid(f"Unrecognized key(s) in object: {', '.join(unknown)}", code="unrecognized_keys")


def required(body: dict[str, Any], name: str) -> str:
    """Give a text that must be there (recorded)."""
    value = body.get(name)
    if value is None:
        raise invalid(f'"{name}" is required', code="missing_required_parameter", param=name)
    if not isinstance(value, str):
        raise invalid(f'"{name}" must be a string', code="invalid_type", param=name)
    return value


def refusal(error: errors.DaemonError, *, key: str) -> RestError:
    """Give a daemon error as the REST API words it."""
    if error.kind in {"model_not_found", "instance_not_found"}:
        return RestError(
            status=404,
            error={
                "type": "model_not_found",
                "code": "model_not_found",
                "message": f"Model {key} not found",  # Assumed: the wording; the code is published.
                "param": "model",
            },
        )
    cause = f" {error.cause}" if error.cause else ""
    # Published for the guardrail; Assumed: other load failures look the same.
    return RestError(
        status=400 if error.kind == "guardrail" else 500,
        error={
            "message": f'Failed to load model "{key}". Error: {error.title}{cause}',
            "type": "invalid_request_error",
            "param": "model",
            "code": None,
        },
    )


class ModelRoutes:
    """Routes about models."""

    def __init__(self, *, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock
        self._downloads: dict[str, float] = {}

    def add_to(self, router: Router) -> None:
        """Take over the routes."""
        router.exact |= {
            ("GET", "/lmstudio-greeting"): self._greeting,
            ("GET", "/lms-status"): self._status,
            ("GET", "/api/v1/models"): self._list_v1,
            ("POST", "/api/v1/models/load"): self._load,
            ("POST", "/api/v1/models/unload"): self._unload,
            ("POST", "/api/v1/models/download"): self._download,
            ("GET", "/api/v0/models"): self._list_v0,
            ("GET", "/v1/models"): self._list_openai,
        }
        router.prefixes |= {
            ("GET", "/api/v1/models/download/status/"): self._download_status,
            ("GET", "/api/v0/models/"): self._one_v0,
        }

    async def _greeting(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"lmstudio": True})

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        return json_response(
            {"package": "llmster", "version": f"{self._daemon.version}+{self._daemon.build}"}
        )

    async def _list_v1(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"models": [self._v1(model) for model in self._daemon.models]})

    async def _list_v0(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"data": [self._v0(model) for model in self._daemon.models], "object": "list"})

    async def _one_v0(self, request: web.Request) -> web.StreamResponse:
        key = request.path.removeprefix("/api/v0/models/")
        try:
            return json_response(self._v0(self._daemon.model(key)))
        except errors.DaemonError as error:
            raise refusal(error, key=key) from error

    async def _list_openai(self, _request: web.Request) -> web.StreamResponse:
        data = [
            {"id": m.key, "object": "model", "owned_by": "organization_owner"} for m in self._daemon.models
        ]
        return json_response({"data": data, "object": "list"})

    def _instances(self, model: Model) -> list[Instance]:
        return [instance for instance in self._daemon.loaded if instance.model is model]

    def _v1(self, model: Model) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "type": model.type,
            "publisher": model.publisher,
            "key": model.key,
            "display_name": model.display_name,
        }
        if model.type == "llm":
            entry["architecture"] = model.architecture
        entry |= {
            "quantization": {"name": model.quantization[0], "bits_per_weight": model.quantization[1]},
            "size_bytes": model.size_bytes,
            "params_string": model.params,
            "loaded_instances": [self._v1_instance(instance) for instance in self._instances(model)],
            "max_context_length": model.max_context_length,
            "format": "gguf" if model.format == "gguf" else "mlx",
        }
        if model.type == "embedding":
            return entry
        capabilities: dict[str, Any] = {"vision": model.vision, "trained_for_tool_use": model.tools}
        if model.reasoning_options:
            capabilities["reasoning"] = {
                "allowed_options": list(model.reasoning_options),
                "default": model.reasoning_default,
            }
        entry["capabilities"] = capabilities
        entry["description"] = None
        if model.variants:
            entry["variants"] = list(model.variants)
            entry["selected_variant"] = model.variants[0]
        return entry

    def _v1_instance(self, instance: Instance) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": instance.identifier, "config": v1_config(instance)}
        left_ms = instance.remaining_ttl_ms(self._clock.wall_ms)
        if left_ms is not None:
            # Observed: undocumented, seen on 0.4.24.
            entry["remaining_ttl_seconds"] = max(0, left_ms // 1000)
        return entry

    def _v0(self, model: Model) -> dict[str, Any]:
        instances = self._instances(model)
        loading = any(load.instance.model is model for load in self._daemon.loader.loads)
        kind = "embeddings" if model.type == "embedding" else "vlm" if model.vision else "llm"
        entry: dict[str, Any] = {
            "id": model.key,
            "object": "model",
            "type": kind,
            "publisher": model.publisher,
            "arch": model.architecture,
            "compatibility_type": "gguf" if model.format == "gguf" else "mlx",
            "quantization": model.quantization[0],
            "state": "loaded" if instances else "loading" if loading else "not-loaded",
            "max_context_length": model.max_context_length,
        }
        if instances:
            entry["loaded_context_length"] = instances[0].config.context_length
        if model.tools:
            entry["capabilities"] = ["tool_use"]
        return entry

    async def _load(self, request: web.Request) -> web.StreamResponse:
        body = await received(self._daemon, request)
        closed(body, allowed={"model", "echo_load_config", *_LOAD_KEYS})
        key = required(body, "model")
        done: asyncio.Future[LoadEvent] = asyncio.get_running_loop().create_future()

        def tell(event: LoadEvent) -> None:
            if isinstance(event, Loaded | LoadFailed) and not done.done():
                done.set_result(event)

        overrides = {field: body[name] for name, field in _LOAD_KEYS.items() if body.get(name) is not None}
        try:
            if self._daemon.model(key).type == "embedding" and CONTEXT in overrides:
                overrides[EMBEDDING_CONTEXT] = overrides.pop(CONTEXT)
            self._daemon.load(key, overrides=overrides, notify=tell)
        except errors.DaemonError as error:
            raise refusal(error, key=key) from error
        event = await done
        if isinstance(event, LoadFailed):
            raise refusal(event.error, key=key)
        assert isinstance(event, Loaded)  # noqa: S101 - nothing else is ever set
        instance = event.instance
        answer: dict[str, Any] = {
            "type": instance.model.type,
            "instance_id": instance.identifier,
            "load_time_seconds": event.load_s,
            "status": "loaded",
        }
        if body.get("echo_load_config"):
            answer["load_config"] = {
                name: value
                for name, value in v1_config(instance).items()
                if name in {"context_length", "eval_batch_size", "flash_attention", "num_experts"}
                or name == "offload_kv_cache_to_gpu"
            }
        return json_response(answer)

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request)
        closed(body, allowed={"instance_id"})
        identifier = required(body, "instance_id")
        try:
            self._daemon.unload(identifier)
        except errors.DaemonError as error:
            raise RestError(
                status=404,
                error={
                    "type": "model_not_found",
                    "message": f"Model instance not found: {identifier}",
                    "param": "instance_id",
                },
            ) from error
        return json_response({"instance_id": identifier})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request)
        closed(body, allowed={"model", "quantization"})
        key = required(body, "model")
        if any(model.key == key for model in self._daemon.models):
            return json_response({"status": "already_downloaded"})
        job_id = f"job_{self._daemon.rng.getrandbits(40):010x}"
        self._downloads[job_id] = self._clock.now_s
        return json_response(
            {
                "job_id": job_id,
                "status": "downloading",
                "total_size_bytes": _DOWNLOAD_BYTES,
                "started_at": self._iso(self._clock.now_s),
            }
        )

    async def _download_status(self, request: web.Request) -> web.StreamResponse:
        job_id = request.path.rpartition("/")[2]
        started_s = self._downloads.get(job_id)
        if started_s is None:
            # Assumed: the message; `job_not_found` is a documented error type.
            raise RestError(
                status=404, error={"type": "job_not_found", "message": f"Job not found: {job_id}"}
            )
        takes_s = _DOWNLOAD_BYTES / _DOWNLOAD_BYTES_PER_S
        done_bytes = min(_DOWNLOAD_BYTES, int((self._clock.now_s - started_s) * _DOWNLOAD_BYTES_PER_S))
        answer: dict[str, Any] = {
            "job_id": job_id,
            "status": "completed" if done_bytes == _DOWNLOAD_BYTES else "downloading",
            "total_size_bytes": _DOWNLOAD_BYTES,
            "downloaded_bytes": done_bytes,
            "started_at": self._iso(started_s),
        }
        finished_at = self._iso(started_s + takes_s)
        if answer["status"] == "completed":
            answer["completed_at"] = finished_at
        else:
            answer |= {"bytes_per_second": _DOWNLOAD_BYTES_PER_S, "estimated_completion": finished_at}
        return json_response(answer)

    def _iso(self, at_s: float) -> str:
        at = dt.datetime.fromtimestamp(self._clock.start_ms / 1000 + at_s, tz=dt.UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def v1_config(instance: Instance) -> dict[str, Any]:
    """`config` of a loaded instance; MLX knows two of its fields, an embedding one (published samples)."""
    config, model = instance.config, instance.model
    shown: dict[str, Any] = {"context_length": config.context_length}
    if model.type == "embedding":
        return shown
    if model.engine.model_format == "MLX":
        return {**shown, "parallel": config.parallel}
    shown |= {
        "eval_batch_size": config.eval_batch_size,
        "parallel": config.parallel,
        "flash_attention": config.flash_attention,
    }
    if config.num_experts is not None:
        shown["num_experts"] = config.num_experts
    return {**shown, "offload_kv_cache_to_gpu": config.kv_on_gpu}
