"""Wires the MCP gate into the actions API: builds its parts, mounts its routes, runs its tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI
from starlette import types as asgi

from actions.api.mcp_routes import routes
from actions.auth.authenticator import Authenticator
from actions.auth.tokens import TokenStore
from actions.mcp.http_server import McpApp
from actions.mcp.mcp_json.adoption import Adoption
from actions.mcp.policy.file import McpConfig, PolicyError, PolicyFile
from actions.mcp.policy.file_watch import PolicyWatch
from actions.mcp.server_pool import ServerPool
from actions.mcp.server_registry import RegistryBroken
from actions.mcp.upstream.spec import PATH_PREFIX
from actions.metrics import Metrics
from actions.settings import STATE_KEY
from actions.store.audit import Audit
from actions.store.database import Storage
from exporter.llmster.local_files import default_home
from exporter.shared.settings_table import SettingsError


class McpGate:
    """The gate as a part of the actions API."""

    def __init__(
        self,
        *,
        folder: Path,
        storage: Storage,
        audit: Audit,
        metrics: Metrics,
        tokens: TokenStore,
        gate_url: Callable[[], str],
        home: Path | None = None,
    ) -> None:
        """Read the adopted servers from the state folder. Raises SettingsError.

        `home` is the LM Studio home with mcp.json, unless the policy sets `mcp_json`; None for this user's.
        """
        self._home = home
        try:
            self.pool = ServerPool(
                folder=folder, storage=storage, audit=audit, tokens=tokens, metrics=metrics
            )
        except RegistryBroken as error:
            raise SettingsError(key=STATE_KEY, value=str(folder), fix=str(error)) from error
        self.policy = PolicyWatch(ServerPool.policy_path(folder), metrics)
        self.adoption = Adoption(
            self._mcp_json(self.pool.config),
            pool=self.pool,
            storage=storage,
            audit=audit,
            tokens=tokens,
            gate_url=lambda: _reachable(gate_url()),
        )

    def mount(self, app: FastAPI, authenticator: Authenticator) -> asgi.ASGIApp:
        """Add `/v1/mcp/*` to `app`; return an application that serves `/mcp/{server}` and passes the rest to `app`."""
        app.router.routes += routes(self.pool, authenticator, self.adoption, self.policy)
        mcp_app = McpApp(authenticator.actor, self.pool.endpoint)

        async def served(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
            is_mcp = scope["path"].startswith(PATH_PREFIX)
            await (mcp_app if is_mcp else app)(scope, receive, send)

        return served

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve. mcp.json is watched while servers are adopted or `mcp_json` is set. Raises SettingsError."""
        await self._begin()
        async with self.pool.run():
            drift = self.adoption.drift.run(
                lambda: self.pool.config.mcp_json is not None or bool(self.pool.registry.adopted)
            )
            watchers = [
                asyncio.create_task(drift, name="mcp.json watcher"),
                asyncio.create_task(self.policy.run(self.take), name="policy watcher"),
            ]
            try:
                yield
            finally:
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)

    async def _begin(self) -> None:
        """Apply the policy at the start: the file's, else the last one that was in force."""
        await self.pool.policy_store.load()
        try:
            found = self.policy.first(await self.pool.policy_store.kept_policy())
        except PolicyError as error:
            raise SettingsError(key=STATE_KEY, value=str(self.policy.path.parent), fix=str(error)) from error
        await self.pool.begin_with(found)
        self.adoption.move(self._mcp_json(found.config))

    async def take(self, found: PolicyFile) -> None:
        """Apply a changed policy file. Raises StorageFailed."""
        await self.pool.take_config(found)
        self.adoption.move(self._mcp_json(found.config))

    def stop_asking(self) -> None:
        """End every call that waits for approval, at shutdown; the caller gets the outcome `interrupted`."""
        self.pool.approvals.close()

    def _mcp_json(self, config: McpConfig) -> Path:
        return config.mcp_json or (self._home or default_home(Path.home())) / "mcp.json"


def _reachable(url: str) -> str:
    """Return the URL at which a program on this host reaches the service, which may listen on every address."""
    return url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
