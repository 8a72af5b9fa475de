"""Run a simulated daemon on one port: WebSockets and REST, start, stop and restart.

Only wiring: each part is in its own module.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiohttp import web

from llmster_sim.clock import DEFAULT_START_MS, Clock
from llmster_sim.engine.daemon import Daemon, Settings
from llmster_sim.home import write_home
from llmster_sim.host.gpu_specs import specs_of
from llmster_sim.models.catalogue import catalogue_of
from llmster_sim.rest.anthropic import MessagesRoutes
from llmster_sim.rest.chat import ChatRoutes
from llmster_sim.rest.http import Router
from llmster_sim.rest.models import ModelRoutes
from llmster_sim.rest.openai_compat import CompatRoutes
from llmster_sim.rest.responses import ResponsesRoutes
from llmster_sim.traffic import scenarios
from llmster_sim.wire.auth import Authority
from llmster_sim.wire.faults import Faults
from llmster_sim.wire.host_calls import namespaces
from llmster_sim.wire.sockets import Sockets

if TYPE_CHECKING:
    from llmster_sim.traffic.plugins import Plugins


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimConfig:
    """What to simulate. `port` 0 picks a free one, kept over restarts; `pid` None makes one up.

    `mcp_json` names tool servers that are then really called, by agents and for `/api/v1/chat`; without it tools are
    made up. `settings.allow_mcp_json` must be on, as with the daemon. With `manual_clock` time stands still until
    `clock.advance()`; else it runs at `speed` times real time.
    """

    seed: int = 7
    scenario: str = "steady"
    speed: float = 1.0
    token: str | None = None
    home: Path | str | None = None
    mcp_json: Path | str | None = None
    port: int = 0
    host: str = "127.0.0.1"
    manual_clock: bool = False
    gpus: int = 2
    models: int | None = None
    version: str = "0.4.24"
    build: int = 1
    pid: int | None = None
    start_ms: int = DEFAULT_START_MS
    decisions: bool = False
    """Whether it has the namespace of decision models, as a newer daemon may."""
    settings: Settings = dataclasses.field(default_factory=Settings)


class Simulator:
    """A daemon that answers on a real port. Use as an async context manager.

    `daemon` is the pure model (totals, instances, load, unload...), `clock` its time, `faults` its vices,
    `calls` a Counter of (namespace, endpoint) over RPC calls and channels received.
    """

    def __init__(self, config: SimConfig | None = None) -> None:
        self.config = config or SimConfig()
        self.clock = Clock(
            start_ms=self.config.start_ms, speed=self.config.speed, manual=self.config.manual_clock
        )
        self.daemon = Daemon(
            clock=self.clock,
            models=catalogue_of(self.config.models),
            seed=self.config.seed,
            gpus=specs_of(self.config.scenario, self.config.gpus),
            settings=self.config.settings,
            version=self.config.version,
            build=self.config.build,
            pid=self.config.pid,
        )
        self.faults = Faults(clock=self.clock)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.stopped = asyncio.Event()
        self._authority = Authority(token=self.config.token)
        self._port = self.config.port
        self._runner: web.AppRunner | None = None
        self._requests: dict[int, web.Request] = {}
        self._farewell: asyncio.Task[None] | None = None
        self._sockets = Sockets(
            clock=self.clock,
            faults=self.faults,
            authority=self._authority,
            namespaces=namespaces(
                daemon=self.daemon, shut_down=self._shut_down_soon, decisions=self.config.decisions
            ),
            count=self._count,
        )
        self._router = Router(
            daemon=self.daemon, clock=self.clock, faults=self.faults, authority=self._authority
        )
        self._plugins = _plugins(self.config, self.daemon)
        for routes in (ModelRoutes, CompatRoutes, ResponsesRoutes):
            routes(daemon=self.daemon, clock=self.clock).add_to(self._router)
        MessagesRoutes(daemon=self.daemon).add_to(self._router)
        ChatRoutes(daemon=self.daemon, bench=self._plugins).add_to(self._router)
        self.faults.drop_sockets = self._sockets.abort_all
        self.faults.revoke = self._revoke
        self.faults.rotate = self._authority.rotate
        self.faults.broadcast = self._sockets.broadcast
        self.faults.restart = self._restart_soon
        self._scenario = scenarios.build(
            name=self.config.scenario,
            daemon=self.daemon,
            faults=self.faults,
            seed=self.config.seed,
            real_leak=self.config.pid is not None,
            bench=self._plugins,
        )
        scenarios.load_initial(self.daemon)

    @property
    def port(self) -> int:
        """The port it listens on, the same after a restart."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients on this host find it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def connections(self) -> int:
        """WebSockets open right now."""
        return len(self._sockets.connections)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        await self.stop()

    async def start(self) -> None:
        """Listen, and let time and traffic run. Raises OSError when the port is taken."""
        if self._runner is not None:
            raise RuntimeError("already started")
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_dress)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.config.host, self._port, reuse_address=True)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]
        self.stopped.clear()
        self.daemon.serving = True
        self.clock.attach(asyncio.get_running_loop())
        if self.config.home is not None:
            write_home(
                home=Path(self.config.home), port=self._port, host=self.config.host, daemon=self.daemon
            )
        self.daemon.server_line(
            level="info",
            text=f"Success! HTTP server listening on port {self._port} | Just-in-time model loading active.",
        )
        self._scenario.start()

    async def stop(self) -> None:
        """Stop listening and cut all connections; `start()` uses the same port again."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._scenario.stop()
        self.daemon.serving = False
        self.clock.detach()
        for site in list(runner.sites):
            await site.stop()
        self._sockets.abort_all()
        for request in list(self._requests.values()):
            if request.transport is not None:
                request.transport.abort()
        await runner.cleanup()
        if self._plugins is not None:
            await self._plugins.close()
        self.stopped.set()

    async def restart(
        self, *, version: str | None = None, pid: int | None = None, down_s: float = 0.0
    ) -> None:
        """Stop and start as a new process: instances and queues are gone, sockets are cut.

        `down_s` is real time without a listener.
        """
        await self.stop()
        self.daemon.restart(version=version, pid=pid)
        if down_s > 0:
            await asyncio.sleep(down_s)
        await self.start()

    def _count(self, namespace: str, endpoint: str) -> None:
        self.calls[namespace, endpoint] += 1

    def _revoke(self) -> None:
        self._authority.revoke()
        self._sockets.close_all()

    def _shut_down_soon(self) -> None:
        self._farewell = asyncio.get_running_loop().create_task(self.stop())

    def _restart_soon(self, down_s: float) -> None:
        self._farewell = asyncio.get_running_loop().create_task(self.restart(down_s=down_s))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._requests[id(request)] = request
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._sockets.serve(request)
            return await self._router.serve(request)
        finally:
            del self._requests[id(request)]


def _plugins(config: SimConfig, daemon: Daemon) -> Plugins | None:
    """Reach tool servers if an mcp.json says so; only then the MCP client is needed."""
    if config.mcp_json is None:
        return None
    from llmster_sim.traffic.plugins import Plugins  # noqa: PLC0415 - see above

    def say(name: str, line: str) -> None:
        daemon.server_line(level="error", scope=f"Plugin(mcp/{name})", text=line)

    return Plugins(Path(config.mcp_json), say=say)


async def _dress(_request: web.Request, response: web.StreamResponse) -> None:
    """Send the headers Express sends and not those of our own server."""
    response.headers.pop("Server", None)
    if not isinstance(response, web.WebSocketResponse):
        response.headers["X-Powered-By"] = "Express"
