"""The HTTP side: paths, parameters, answers. Every command becomes a call of the service.

Knows no daemon. Answers are JSON; whatever goes wrong is application/problem+json. Annotations are evaluated here,
not postponed: FastAPI reads them, and could not find the local names in them by text.
"""

import asyncio
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.routing import BaseRoute

from actions.api import views
from actions.api.authentication import Bearer
from actions.api.requests import (
    MAX_WAIT_S,
    DesiredChange,
    DesiredSet,
    DownloadParameters,
    EjectAllParameters,
    EjectParameters,
    LoadParameters,
    Name,
    PreflightParameters,
    ProbeParameters,
    load_command,
    merged,
    required,
)
from actions.api.responses import OperationDocument, PreflightDocument, errors
from actions.auth.authenticator import Authenticator
from actions.capacity.load_history import Experience
from actions.commands.daemon_session import SNAPSHOT_MAX_AGE_S
from actions.commands.service import Service
from actions.domain.actor import Actor, Scope
from actions.domain.command import Command, Download, Eject, EjectAll, Probe
from actions.domain.errors import Problem
from actions.store.database import StorageFailed
from actions.store.operations import Operation
from exporter.catalogue import actions as rows

_ERRORS: Final = errors(
    {
        403: "The token's scope is too low, or a page of another place asks",
        404: "No such thing",
        409: "It does not fit, is busy, exists already, or the daemon refused; the numbers are inside",
        503: "The daemon cannot be reached, or nothing can be recorded",
        504: "The daemon does not answer",
    }
)
_OPERATION: Final[dict[int | str, dict[str, Any]]] = {
    **_ERRORS,
    200: {"model": OperationDocument, "description": "Done"},
    202: {"model": OperationDocument, "description": "Begun; Location leads to the operation"},
}

Daemon = Annotated[str, Path(description="Name of a configured daemon.", min_length=1, max_length=64)]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$"),
]
Handler = TypeVar("Handler", bound=Callable[..., Any])
Limit = Annotated[int, Query(ge=1, le=1000)]


class Api:
    """The routes over one service."""

    def __init__(self, service: Service, authenticator: Authenticator, experience: Experience) -> None:
        self._service = service
        self._gatekeeper = authenticator
        self._experience = experience

    def routes(self) -> list[BaseRoute]:
        """Make the routes. Handlers are closures, so that FastAPI sees plain functions."""
        who = Bearer(self._gatekeeper)
        guarded = APIRouter(prefix="/v1", responses=_ERRORS)
        self._add_reads(guarded, who)
        self._add_commands(guarded, who)
        self._add_desired(guarded, who)
        unguarded = APIRouter()
        self._add_open(unguarded)
        return [*guarded.routes, *unguarded.routes]

    def _add_open(self, router: APIRouter) -> None:
        """Add what needs no token: it tells numbers, never names or contents of prompts."""

        @router.get("/healthz", tags=["service"], response_class=PlainTextResponse)
        async def healthz() -> Response:
            """Tell whether the service runs."""
            return PlainTextResponse("ok\n")

        @router.get(
            "/metrics",
            tags=["service"],
            response_class=PlainTextResponse,
            responses={200: {"content": {"application/openmetrics-text": {}}}},
        )
        async def metrics(request: Request) -> Response:
            """Give numbers about the service, for Prometheus."""
            writable = await self._service.storage.check_writable()
            self._service.metrics.set(rows.AUDIT_WRITABLE, writable)
            body, content_type = self._service.metrics.expose(request.headers.get("accept", ""))
            return Response(body, headers={"content-type": content_type})

        version = metadata.version("daemonpulse")  # once: it reads every folder Python imports from

        @router.get("/", include_in_schema=False)
        async def landing() -> Response:
            return JSONResponse(
                {"service": "daemonpulse actions", "version": version, "docs": "/docs", "metrics": "/metrics"}
            )

    def _add_reads(self, router: APIRouter, who: Bearer) -> None:
        service = self._service
        actor_of = Annotated[Actor, Depends(who)]

        @router.get("/daemons", tags=["read"])
        async def daemons(_actor: actor_of) -> Response:
            """List the daemons, how each is, and what it holds."""
            found = await asyncio.gather(*(self._describe(name) for name in service.daemons))
            return JSONResponse({"daemons": found})

        @router.get("/daemons/{daemon}/models", tags=["read"])
        async def models(_actor: actor_of, daemon: Daemon) -> Response:
            """List the models on disk, and what loads of each really took."""
            snapshot = await service.daemon(daemon).snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
            learned = await self._experience.learned(daemon)
            found = [views.model(one, snapshot, learned) for one in snapshot.models or ()]
            return JSONResponse({"daemon": daemon, "models": found})

        @router.get("/daemons/{daemon}/instances", tags=["read"])
        async def instances(_actor: actor_of, daemon: Daemon) -> Response:
            """List what is loaded."""
            snapshot = await service.daemon(daemon).snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
            found = [views.instance(one, snapshot) for one in snapshot.instances]
            return JSONResponse({"daemon": daemon, "instances": found})

        @router.post(
            "/daemons/{daemon}/preflight",
            tags=["read"],
            responses={200: {"model": PreflightDocument, "description": "The verdict"}},
        )
        async def preflight(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[PreflightParameters, Query()],
            body: Annotated[PreflightParameters | None, Body()] = None,
        ) -> Response:
            """Tell whether a load would fit, and who holds the memory."""
            self._gatekeeper.slow_down(actor)  # each one asks the daemon
            given = merged(query, body)
            command = load_command(daemon, given, replace=given.replace)
            return JSONResponse((await service.preflight(command)).to_json())

        @router.get("/operations", tags=["operations"])
        async def operations(
            _actor: actor_of, daemon: Annotated[Name | None, Query()] = None, limit: Limit = 100
        ) -> Response:
            """List what was asked for, and what came of it."""
            found = await service.operations.recent(daemon=daemon, limit=limit)
            return JSONResponse({"operations": [operation.to_json() for operation in found]})

        @router.get("/operations/{operation_id}", tags=["operations"], responses={200: _OPERATION[200]})
        async def operation(
            _actor: actor_of,
            operation_id: Name,
            wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
        ) -> Response:
            """Tell how an operation stands; with `wait` when it has ended."""
            found = await service.operations.get(operation_id)
            await _wait(found, wait)
            return JSONResponse(found.to_json())

        @router.get("/audit", tags=["read"])
        async def audit(
            _actor: actor_of,
            since: Annotated[
                int | None,
                Query(ge=0, le=2**62, description="The rows right after this `seq`, oldest first."),
            ] = None,
            limit: Limit = 100,
        ) -> Response:
            """Tell who did what, newest first; with `since` all of it, page by page."""
            entries = await service.audit.read(since=since, limit=limit)
            return JSONResponse({"entries": [views.audit_entry(entry) for entry in entries]})

    def _add_commands(self, router: APIRouter, who: Bearer) -> None:
        service = self._service
        actor_of = Annotated[Actor, Depends(who)]

        def post(path: str) -> Callable[[Handler], Handler]:
            return router.post(path, tags=["commands"], responses=_OPERATION)

        @post("/daemons/{daemon}/models/load")
        async def load(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[LoadParameters, Query()],
            body: Annotated[LoadParameters | None, Body()] = None,
            key: Key = None,
        ) -> Response:
            """Load a model, if it fits."""
            given = merged(query, body)
            command = load_command(
                daemon, given, replace=given.replace, force=given.force, reason=given.reason
            )
            return await self._submit(actor, command, key, given.wait)

        @post("/daemons/{daemon}/models/eject")
        async def eject(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[EjectParameters, Query()],
            body: Annotated[EjectParameters | None, Body()] = None,
            key: Key = None,
        ) -> Response:
            """Eject one instance and make sure that it is gone."""
            given = merged(query, body)
            command = Eject(
                daemon=daemon,
                reason=given.reason,
                instance_id=required(given, "instance_id"),
                drain_seconds=given.drain_seconds,
            )
            return await self._submit(actor, command, key, given.wait)

        @post("/daemons/{daemon}/models/eject-all")
        async def eject_all(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[EjectAllParameters, Query()],
            body: Annotated[EjectAllParameters | None, Body()] = None,
            key: Key = None,
        ) -> Response:
            """Eject everything, busy or not: the kill switch."""
            given = merged(query, body)
            return await self._submit(actor, EjectAll(daemon=daemon, reason=given.reason), key, given.wait)

        @post("/daemons/{daemon}/models/download")
        async def download(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[DownloadParameters, Query()],
            body: Annotated[DownloadParameters | None, Body()] = None,
            key: Key = None,
        ) -> Response:
            """Download a model."""
            given = merged(query, body)
            command = Download(
                daemon=daemon,
                reason=given.reason,
                model=required(given, "model"),
                quantization=given.quantization,
            )
            return await self._submit(actor, command, key, given.wait)

        @post("/daemons/{daemon}/probe")
        async def probe(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[ProbeParameters, Query()],
            body: Annotated[ProbeParameters | None, Body()] = None,
            key: Key = None,
        ) -> Response:
            """Send one short chat and time it."""
            given = merged(query, body)
            command = Probe(
                daemon=daemon, reason=given.reason, model=required(given, "model"), force=given.force
            )
            return await self._submit(actor, command, key, given.wait)

        @router.post("/operations/{operation_id}/cancel", tags=["operations"], responses=_OPERATION)
        async def cancel(actor: actor_of, operation_id: Name) -> Response:
            """Give up an operation that has not ended."""
            found = await service.operations.get(operation_id)
            await self._gatekeeper.require(actor, Scope.OPERATE, action="cancel", subject=operation_id)
            await service.cancel(actor, found)
            await _wait(found, 1.0)
            return JSONResponse(found.to_json(), 200 if found.is_finished else 202)

    def _add_desired(self, router: APIRouter, who: Bearer) -> None:
        service = self._service
        actor_of = Annotated[Actor, Depends(who)]
        path = "/daemons/{daemon}/desired"

        @router.get(path, tags=["desired"])
        async def get_desired(_actor: actor_of, daemon: Daemon) -> Response:
            """Tell what shall stay loaded."""
            service.daemon(daemon)
            return _desired(daemon, await service.desired.get(daemon))

        @router.put(path, tags=["desired"])
        async def put_desired(actor: actor_of, daemon: Daemon, body: DesiredSet) -> Response:
            """Say all that shall stay loaded."""
            service.daemon(daemon)
            await self._gatekeeper.require(actor, Scope.OPERATE, action="desired", subject=daemon)
            loads = [load_command(daemon, one) for one in body.instances]
            try:
                state = await service.desired.replace(
                    actor, daemon, loads, reap_idle_seconds=body.reap_idle_seconds
                )
            except StorageFailed as error:
                raise service.unrecordable(error) from error
            return _desired(daemon, state)

        @router.post(path, tags=["desired"])
        async def change_desired(
            actor: actor_of,
            daemon: Daemon,
            query: Annotated[DesiredChange, Query()],
            body: Annotated[DesiredChange | None, Body()] = None,
        ) -> Response:
            """Say whether one instance shall stay loaded."""
            service.daemon(daemon)
            await self._gatekeeper.require(actor, Scope.OPERATE, action="desired", subject=daemon)
            given = merged(query, body)
            named = given.instance_id or given.model
            if named is None and given.reap_idle_seconds is None:
                required(given, "model")
            add = load_command(daemon, given) if given.pinned and given.model is not None else None
            if given.pinned and named is not None and add is None:
                required(given, "model")
            try:
                state = await service.desired.change(
                    actor,
                    daemon,
                    add=add,
                    remove=named if not given.pinned else None,
                    reap_idle_seconds=given.reap_idle_seconds,
                )
            except StorageFailed as error:
                raise service.unrecordable(error) from error
            return _desired(daemon, state)

    async def _submit(self, actor: Actor, command: Command, key: str | None, wait_s: float) -> Response:
        is_kill_switch = isinstance(command, EjectAll) and actor.scope.includes(command.NEEDS)
        if not is_kill_switch:
            self._gatekeeper.slow_down(actor)
        operation = await self._service.submit(actor, command, key=key)
        await _wait(operation, wait_s)
        location = {"Location": f"/v1/operations/{operation.id}"}
        if operation.problem is not None:
            problem = Problem.from_body(operation.problem)
            problem.headers |= location
            problem.extra["operation"] = operation.to_json()
            raise problem
        return JSONResponse(operation.to_json(), 200 if operation.is_finished else 202, headers=location)

    async def _describe(self, name: str) -> dict[str, Any]:
        daemon = self._service.daemons[name]
        try:
            snapshot = await daemon.snapshot(max_age_s=SNAPSHOT_MAX_AGE_S)
        except Problem:
            snapshot = None
        return views.daemon(name, daemon.client.url, daemon.client.health(), snapshot)


async def _wait(operation: Operation, seconds: float) -> None:
    """Wait for the end of an operation, at most so long."""
    if seconds <= 0 or operation.is_finished:
        return
    try:
        async with asyncio.timeout(seconds):
            await operation.done.wait()
    except TimeoutError:
        return


def _desired(daemon: str, state: Any) -> Response:
    return JSONResponse(
        {
            "daemon": daemon,
            "instances": [one.to_json() for one in state.instances],
            "reap_idle_seconds": state.reap_idle_seconds,
        }
    )
