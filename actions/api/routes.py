"""All routes of the API: those that require a token, and those that do not.

Each resource has its own module. Responses are JSON; errors are application/problem+json.
"""

from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.routing import BaseRoute

from actions.api import audit_log, daemons, desired, engines, fleet, live, models, operations
from actions.api.shared import ERRORS
from actions.auth.authenticator import Authenticator
from actions.capacity.load_history import LoadHistory
from actions.commands.fleet import Fleet
from actions.commands.service import Service
from actions.live.feeds import Feeds
from exporter.shared import host_header, urls


class Api:
    """The routes over one service."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        history: LoadHistory,
        fleet: Fleet,
        feeds: Feeds | None = None,
        *,
        exporter_url: str | None = None,
    ) -> None:
        """Prepare. `feeds` is the live view of the exporter at `exporter_url`; both are None where none is named."""
        self._fleet = fleet
        self._service = service
        self._authenticator = authenticator
        self._history = history
        self._feeds = feeds
        self._exporter_url = exporter_url

    def routes(self) -> list[BaseRoute]:
        """Make the routes. Handlers are closures, so that FastAPI sees plain functions."""
        service, authenticator = self._service, self._authenticator
        guarded = APIRouter(prefix="/v1", responses=ERRORS)
        # Not include_router(): FastAPI searches an included router again at every request.
        daemons.add_routes(guarded, service, authenticator, self._history)
        operations.add_routes(guarded, service, authenticator)
        models.add_routes(guarded, service, authenticator)
        engines.add_routes(guarded, service, authenticator)
        audit_log.add_routes(guarded, service, authenticator)
        desired.add_routes(guarded, service, authenticator)
        live.add_routes(guarded, service, authenticator, self._feeds)
        fleet.add_routes(guarded, self._fleet, authenticator)
        return [*guarded.routes, *_open(service, self._exporter_url).routes]


def targets(here: str, scheme: str, exporter_url: str | None) -> list[dict[str, Any]]:
    """List what there is to scrape: this service, as it was asked (`here` is host:port), and its exporter.

    An exporter on loopback is listed under the name of this host, because there Prometheus looks for it.
    """
    found = [(here, scheme)]
    if exporter_url is not None:
        there = urlsplit(exporter_url)
        host = there.hostname or ""
        name = f"[{host}]" if ":" in host else host
        if host_header.is_loopback(host):
            name = host_header.name_of(here) or name
        found.append((f"{name}:{urls.port_of(there)}", there.scheme))
    return [
        {"targets": [place], "labels": {"__scheme__": how, "__metrics_path__": "/metrics"}}
        for place, how in found
    ]


def _open(service: Service, exporter_url: str | None) -> APIRouter:
    """Make the routes that require no token: they return numbers and addresses to scrape, never prompt content."""
    router = APIRouter()

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
        current = await service.measured()
        body, content_type = current.expose(", ".join(request.headers.getlist("accept")))
        return Response(body, headers={"content-type": content_type})

    @router.get("/sd", tags=["service"])
    async def service_discovery(request: Request) -> list[dict[str, Any]]:
        """List what there is to scrape, for Prometheus' http_sd_configs."""
        return targets(request.headers.get("host", ""), request.url.scheme, exporter_url)

    @router.get("/", include_in_schema=False)
    async def landing() -> Response:
        return RedirectResponse("/docs")

    return router
