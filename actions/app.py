"""Composes the actions API from its settings, and serves it until a signal.

Only wiring: each part is in its own module.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from actions.api import docs_page
from actions.api.authentication import require_scope
from actions.api.middleware import RequestGuard
from actions.api.requests import explain
from actions.api.responses import ProblemResponse
from actions.api.routes import Api
from actions.auth.authenticator import Authenticator
from actions.auth.grafana_identity import GrafanaId
from actions.auth.tokens import TokenStore
from actions.capacity.from_prometheus import PrometheusMemory
from actions.capacity.load_history import LoadHistory
from actions.capacity.local import FirstThatAnswers, LocalMemory, MemorySource, NoMemory
from actions.commands.daemon_session import DaemonSession
from actions.commands.fleet import Fleet
from actions.commands.reconciler import Reconciler
from actions.commands.service import Service
from actions.domain.errors import MEDIA_TYPE, Problem, unrecordable
from actions.domain.timeouts import Timeouts
from actions.live.feeds import Feeds
from actions.live.source import LiveSource
from actions.mcp_gate import McpGate
from actions.metrics import Metrics
from actions.settings import STATE_KEY, ActionsSettings
from actions.store import service_lock
from actions.store.audit import Audit
from actions.store.audit_rotation import Rotation
from actions.store.database import Storage, StorageFailed
from actions.store.desired_state import DesiredStore
from actions.store.fleet_state import FleetStore
from exporter.hardware.host import HostSource, LocalHost
from exporter.hardware.vendors import Sources, local_sources
from exporter.llmster.client import DaemonClient
from exporter.settings import DaemonSettings
from exporter.shared import host_header, process, web_config
from exporter.shared import server as serving
from exporter.shared.settings_table import SettingsError
from exporter.telemetry import otel_env

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from actions.telemetry import Telemetry
    from exporter.telemetry.metric_push import MetricPush

log = logging.getLogger(__name__)

_BY_STATUS: Final = {400: "bad-request", 404: "not-found", 405: "method-not-allowed"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running service consists of, for those who run it inside another process."""

    service: Service
    authenticator: Authenticator
    tokens: TokenStore
    reconcilers: tuple[Reconciler, ...]
    fleet: Fleet
    mcp: McpGate
    telemetry: Telemetry | None


def run(settings: ActionsSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError before anything is started."""
    process.raise_gc_threshold()
    asyncio.run(serve(settings))


async def serve(
    settings: ActionsSettings,
    *,
    ready: Callable[[str, Parts], None] | None = None,
    gpus: Sources | None = None,
    host: HostSource | None = None,
    timeouts: Timeouts | None = None,
) -> None:
    """Control the daemons and answer requests until SIGTERM, SIGINT or cancellation.

    `ready` is called with the URL and the parts once the port answers. `gpus` and `host` replace this host's sources.
    Raises SettingsError.
    """
    timeouts = timeouts or Timeouts()
    otel_env.check()
    tls = _tls(settings)
    async with _own(settings) as storage, contextlib.AsyncExitStack() as stack:
        await _require_token(settings, storage)
        listener = stack.enter_context(serving.listen(settings.listen_host, settings.listen_port))
        url = serving.url_of(listener, tls=tls is not None)
        audit, metrics, history = Audit(storage), Metrics(), LoadHistory(storage)
        tokens = TokenStore(storage)
        daemons = {
            daemon.name: _controlled(daemon, settings, history, gpus=gpus, host=host)
            for daemon in settings.daemons
        }
        service = Service(
            storage=storage,
            audit=audit,
            daemons=daemons,
            desired=DesiredStore(storage, audit),
            fleet=FleetStore(storage, audit),
            metrics=metrics,
            timeouts=timeouts,
        )
        telemetry = _open_telemetry()
        if telemetry is not None:
            audit.sinks.append(telemetry.take_entry)
            service.sinks.append(telemetry.take_operation)
            metrics.deliveries.update(telemetry.deliveries)
        await service.prepare()
        authenticator = Authenticator(
            tokens,
            audit,
            metrics,
            is_loopback=settings.is_loopback,
            commands_per_minute=settings.commands_per_minute,
            grafana=GrafanaId(settings.grafana_url) if settings.grafana_url is not None else None,
        )
        fleet = Fleet(service, timeouts)
        mcp = McpGate(
            folder=settings.state,
            storage=storage,
            audit=audit,
            metrics=metrics,
            tokens=tokens,
            gate_url=lambda: url,
            home=next((daemon.home for daemon in settings.daemons if daemon.home is not None), None),
        )
        feeds = _feeds(settings, stack)
        app = application(
            Api(service, authenticator, history, fleet, feeds, exporter_url=settings.exporter_url)
        )
        door = RequestGuard(
            mcp.mount(app, authenticator),
            hosts=host_header.accepted(settings.listen_host, settings.allowed_hosts),
            origins=frozenset(settings.allowed_hosts),
        )
        reconcilers = tuple(Reconciler(daemon, service, timeouts) for daemon in daemons.values())
        server = serving.Server(door, tls=tls, stopping=functools.partial(_stop_waiting, mcp, feeds))
        async with mcp.run(), asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run(), name=f"control {one.name}") for one in daemons.values()]
            tasks.append(group.create_task(service.run(), name="operations"))
            tasks += [
                group.create_task(run(), name="upkeep")
                for run in (
                    _rotation(settings, storage, audit).run,
                    fleet.run,
                    *(push.run for push in _metric_push(service)),
                )
            ]
            await asyncio.sleep(0)  # so that it owns operations before the first request
            tasks += [group.create_task(one.run(), name="reconciler") for one in reconcilers]

            def announce() -> None:
                log.info("actions API started", extra={"url": url, "daemons": ",".join(daemons)})
                if ready is not None:
                    ready(url, Parts(service, authenticator, tokens, reconcilers, fleet, mcp, telemetry))

            try:
                await server.serve_until_signal(listener, ready=announce)
            finally:
                for task in tasks:
                    task.cancel()
                for daemon in daemons.values():
                    await daemon.close()
                if telemetry is not None:
                    await asyncio.to_thread(telemetry.close)
    log.info("actions API stopped")


def _stop_waiting(mcp: McpGate, feeds: Feeds | None) -> None:
    """End what would hold connections open when the service stops."""
    mcp.stop_asking()
    if feeds is not None:
        feeds.end()


def _feeds(settings: ActionsSettings, stack: contextlib.AsyncExitStack) -> Feeds | None:
    """Open the live view, if an exporter is named; it ends with `stack`."""
    if settings.exporter_url is None:
        return None
    feeds = Feeds(LiveSource(settings.exporter_url, settings.live_token))
    stack.push_async_callback(feeds.close)
    return feeds


def _rotation(settings: ActionsSettings, storage: Storage, audit: Audit) -> Rotation:
    days = settings.audit_max_days
    return Rotation(storage, audit, max_bytes=settings.audit_max_mb * 1_000_000, max_days=days)


def _open_telemetry() -> Telemetry | None:
    """Open the way out if there is a receiver; else the SDK's memory is not paid for."""
    if not otel_env.are_configured():
        return None
    from actions import telemetry  # noqa: PLC0415 - see above

    return telemetry.from_environment()


def _metric_push(service: Service) -> Iterable[MetricPush]:
    """Make the push of metrics by OTLP; nothing without a receiver, and then the SDK is not imported."""
    if not otel_env.metrics_wanted()[0]:
        return
    from exporter.telemetry import metric_push  # noqa: PLC0415 - the SDK costs memory

    async def collect() -> Iterable[Family]:
        return (await service.measured()).collect()

    push = metric_push.from_environment(collect, service="daemonpulse-actions")
    if push is not None:
        service.metrics.deliveries["metrics"] = push.counts
        yield push


class _Application(FastAPI):
    """Describes problems, too."""

    def openapi(self) -> dict[str, Any]:
        """Give the OpenAPI document."""
        document = super().openapi()
        schemas = document["components"]["schemas"]
        schemas.setdefault(ProblemResponse.__name__, ProblemResponse.model_json_schema(mode="serialization"))
        return document


def application(api: Api) -> FastAPI:
    """Make the ASGI application; also what schemathesis and docs/ACTIONS.md read the OpenAPI document from."""
    app = _Application(
        title="DaemonPulse actions",
        version=metadata.version("daemonpulse"),
        description="Load, eject and pre-flight for LM Studio's headless daemon, through an API that can be trusted.",
        docs_url=None,
        redoc_url=None,
    )
    # Not include_router(): FastAPI searches an included router again per level, at every request.
    app.router.routes += api.routes()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        headers = {"content-security-policy": docs_page.CONTENT_SECURITY_POLICY}
        return HTMLResponse(docs_page.page(app.openapi()), headers=headers)

    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(StorageFailed, _on_storage)
    app.add_exception_handler(Exception, _on_bug)
    return app


def _answer(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.body(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


async def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    return _answer(error if isinstance(error, Problem) else Problem("internal", "the service's log has it"))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    try:
        await require_scope(request)
    except Problem as problem:
        return _answer(problem)
    return _answer(explain(error.errors() if isinstance(error, RequestValidationError) else []))


async def _on_storage(_request: Request, error: Exception) -> JSONResponse:
    return _answer(unrecordable(error))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error.__cause__, Problem):  # raised while FastAPI read the body, which it hides
        return _answer(error.__cause__)
    status = error.status_code if isinstance(error, HTTPException) else 500
    where = f"{request.method} {request.url.path[:200]}"
    problem = Problem(_BY_STATUS.get(status, "bad-request"), f"{where}: see /docs for what there is")
    if isinstance(error, HTTPException) and error.headers:
        problem.headers |= error.headers
    return _answer(problem)


async def _on_bug(_request: Request, _error: Exception) -> JSONResponse:
    return _answer(Problem("internal", "the service's log has it"))


def _controlled(
    daemon: DaemonSettings,
    settings: ActionsSettings,
    history: LoadHistory,
    *,
    gpus: Sources | None,
    host: HostSource | None,
) -> DaemonSession:
    sources: list[MemorySource] = []
    if daemon.is_loopback:
        sources.append(
            LocalMemory(daemon.name, gpus if gpus is not None else local_sources(), host or LocalHost())
        )
    if settings.prometheus_url is not None:
        sources.append(
            PrometheusMemory(
                settings.prometheus_url,
                selector=daemon.prometheus_selector or settings.prometheus_selector,
                daemon=daemon.name,
            )
        )
    elif not daemon.is_loopback:
        sources.append(NoMemory(f"daemon {daemon.name} is on another host and prometheus_url is not set"))
    client = DaemonClient(name=daemon.name, url=daemon.url, token=daemon.current_token, estimates=False)
    return DaemonSession(
        client,
        memory=FirstThatAnswers(sources),
        history=history,
        home=daemon.home,
        site=daemon.site,
    )


@contextlib.asynccontextmanager
async def _own(settings: ActionsSettings) -> AsyncIterator[Storage]:
    """Open the database of a state folder that no other service has. Raises SettingsError."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            storage = await Storage.open(settings.state)
            stack.push_async_callback(storage.close)
            stack.enter_context(service_lock.taken(settings.state))
        except (StorageFailed, service_lock.FolderTaken, OSError) as error:
            raise SettingsError(key=STATE_KEY, value=str(settings.state), fix=str(error)) from error
        yield storage


async def _require_token(settings: ActionsSettings, storage: Storage) -> None:
    if not settings.is_loopback and await TokenStore(storage).is_empty():
        raise SettingsError(
            key="listen",
            value=f"{settings.listen_host}:{settings.listen_port}",
            fix="beyond loopback a token must exist; make one: daemonpulse actions token new --scope operate",
        )


def _tls(settings: ActionsSettings) -> Any:
    if settings.web_config is None:
        return None
    web = web_config.load(settings.web_config)
    if web.users:
        raise SettingsError(
            key="web_config basic_auth_users",
            value="",
            fix="the actions API authenticates by tokens; remove it from the file given to actions",
        )
    return web.tls
