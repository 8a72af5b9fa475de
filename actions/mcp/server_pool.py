"""The upstream servers and their endpoints, and the operations of the API on them.

Does not depend on HTTP paths or mcp.json. `run` owns every task; on exit calls end first and the audit last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from actions.auth.tokens import TokenStore
from actions.domain.actor import RECOVERY, Actor, internal
from actions.domain.errors import Param, Problem, not_found
from actions.mcp.approval import Approval
from actions.mcp.approvals import Approvals
from actions.mcp.call import CallHandler
from actions.mcp.http_server import Endpoint
from actions.mcp.pinning import ToolPins
from actions.mcp.policy.file import FILE_NAME, McpConfig, PolicyFile
from actions.mcp.policy.rules import Decision, Subject
from actions.mcp.policy.store import PolicyStore
from actions.mcp.proxy import ServerProxy
from actions.mcp.redaction import digest
from actions.mcp.server_registry import ServerRegistry
from actions.mcp.upstream.change_notices import ChangeNotices
from actions.mcp.upstream.connection import ConnectionLost
from actions.mcp.upstream.server import Upstream, UpstreamDown
from actions.mcp.upstream.spec import ServerSpec
from actions.metrics import Metrics
from actions.store.audit import Audit
from actions.store.audit_batch import Journal, Row
from actions.store.database import Storage, StorageFailed
from exporter.telemetry import otel_env

if TYPE_CHECKING:
    from actions.mcp.tracing import Tracing

log = logging.getLogger(__name__)

POLICY_FILE = internal("policy file")

LEFT_OUT: Final = (
    f"{FILE_NAME} is missing or invalid, and the kept policy has no secrets, which this server needs; "
    "restore the file"
)


class ServerPool:
    """The servers behind the gate, with their policy, approvals and audit."""

    def __init__(
        self, *, folder: Path, storage: Storage, audit: Audit, tokens: TokenStore, metrics: Metrics
    ) -> None:
        """Build the parts; `begin_with` sets the policy. Raises RegistryBroken."""
        self.config = config = McpConfig()
        self.registry = ServerRegistry(folder, config)
        self.metrics = metrics
        self._storage = storage
        self._audit = audit
        self.policy_store = PolicyStore(storage, config.policy)
        self.approvals = Approvals(
            storage, audit, self.policy_store, metrics, keep_preview=config.capture_arguments
        )
        self._journal = Journal(storage, audit)
        self._tracing = _open_tracing()
        self.tools = ToolPins(self.policy_store, metrics)
        self.call_handler = CallHandler(
            policy_store=self.policy_store,
            approvals=self.approvals,
            journal=self._journal,
            tokens=tokens,
            metrics=metrics,
            capture_arguments=config.capture_arguments,
            tracer=self._tracing.tracer if self._tracing is not None else None,
        )
        self._endpoints: dict[str, Endpoint] = {}
        self._left_out: tuple[str, ...] = ()
        self._leaving: set[asyncio.Task[None]] = set()
        """Servers removed from the policy that are still stopping; `run` waits for them."""
        self._group: asyncio.TaskGroup | None = None

    @classmethod
    def policy_path(cls, folder: Path) -> Path:
        """Return the path of the policy file."""
        return folder / FILE_NAME

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve while inside. Raises StorageFailed."""
        await self.approvals.start()
        await self._resolve_intents()
        journal = asyncio.create_task(self._journal.run(), name="mcp journal")
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.sync()
                try:
                    yield
                finally:
                    self.approvals.close()
                    endpoints = list(self._endpoints.values())
                    for endpoint in endpoints:
                        endpoint.stop()
                    await asyncio.gather(
                        *(endpoint.proxy.upstream.close() for endpoint in endpoints),
                        *self._leaving,
                        return_exceptions=True,
                    )
                    self._endpoints.clear()
                    self._group = None
        finally:
            journal.cancel()
            await asyncio.gather(journal, return_exceptions=True)
            if self._tracing is not None:
                await asyncio.to_thread(self._tracing.close)

    def endpoint(self, name: str) -> Endpoint | None:
        """Return a server's endpoint. Raises Problem for a server that the kept policy leaves out."""
        if name in self._left_out:
            raise Problem("mcp-server-unreachable", f"{name}: {LEFT_OUT}")
        return self._endpoints.get(name)

    def sync(self) -> None:
        """Open endpoints for new servers; close those of servers that were removed or redefined."""
        if self._group is None:
            return
        wanted = self.registry.servers
        for name, endpoint in list(self._endpoints.items()):
            if wanted.get(name) != endpoint.proxy.upstream.spec:
                del self._endpoints[name]
                endpoint.stop()
                leaving = self._group.create_task(self._close(endpoint), name=f"closing {name}")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
        for name, spec in wanted.items():
            if name not in self._endpoints:
                self._endpoints[name] = self._open(spec, self._group)

    def _open(self, spec: ServerSpec, group: asyncio.TaskGroup) -> Endpoint:
        notices = ChangeNotices(lambda what: self._relay_change(endpoint, what))
        upstream = Upstream(
            spec,
            group=group,
            metrics=self.metrics,
            list_changed=notices.notify,
            listed=self.tools.listed,
        )
        reach = digest(repr((spec.reach, getattr(spec.reach, "args", ""), getattr(spec.reach, "url", ""))))
        upstream.uses_initialize = self.policy_store.uses_initialize(spec.name, reach)
        upstream.protocol_known = lambda _: self._save_uses_initialize(group, upstream, reach)
        endpoint = Endpoint(ServerProxy(upstream, self.tools, self.call_handler))
        group.create_task(endpoint.run(notices.run), name=f"mcp endpoint {spec.name}")
        return endpoint

    def _save_uses_initialize(self, group: asyncio.TaskGroup, upstream: Upstream, reach: str) -> None:
        uses_initialize = upstream.uses_initialize is True

        async def keep() -> None:
            with contextlib.suppress(StorageFailed):  # then it is detected again after a restart
                await self.policy_store.save_uses_initialize(
                    upstream.spec.name, reach, uses_initialize=uses_initialize
                )

        group.create_task(keep(), name=f"save protocol of {upstream.spec.name}")

    async def _close(self, endpoint: Endpoint) -> None:
        await endpoint.proxy.upstream.close()
        if endpoint.proxy.name not in self._endpoints:
            self.tools.forget(endpoint.proxy.name)

    async def _relay_change(self, endpoint: Endpoint, what: str) -> None:
        """Read a list that a server reports as changed, and notify clients."""
        try:
            if what == "tools":
                await endpoint.proxy.upstream.known_tools()
            await endpoint.proxy.changed(what)
        except Exception as error:  # noqa: BLE001 - a tool server must not end the gate
            problem = f"{type(error).__name__}: {str(error)[:200]}"
            log.warning("changed list not read", extra={"server": endpoint.proxy.name, "problem": problem})

    @staticmethod
    async def _announce(endpoint: Endpoint) -> None:
        """Notify clients that every list may have changed."""
        try:
            for what in ("tools", "prompts", "resources"):
                await endpoint.proxy.changed(what)
        except Exception as error:  # noqa: BLE001 - a client must not end the gate
            log.warning("list change notification failed", extra={"problem": type(error).__name__})

    # Operations of the API -------------------------------------------------------------------------------------------

    def servers(self) -> list[dict[str, Any]]:
        """Describe every server, without secrets."""
        return [self._described(endpoint) for _, endpoint in sorted(self._endpoints.items())]

    def _described(self, endpoint: Endpoint) -> dict[str, Any]:
        upstream = endpoint.proxy.upstream
        spec = upstream.spec
        return {
            "server": spec.name,
            "state": upstream.state,
            "problem": upstream.last_fault,
            "circuit_open": upstream.usage.breaker.is_open,
            "adopted": spec.adopted,
            "tokens": list(spec.tokens) if spec.tokens is not None else None,
            "tools": len(upstream.listing.tools) if upstream.listing is not None else None,
            **spec.reach.shown(),
        }

    async def server_tools(self, name: str, actor: Actor, only: str | None = None) -> list[dict[str, Any]]:
        """List a server's tools with their decisions, starting the server if it was never listed. Raises Problem."""
        upstream = self._require(name).proxy.upstream
        if upstream.listing is None:
            await self._list(upstream)
        found = self.tools.describe(upstream, actor.token_name, only)
        if only is not None and not found:
            raise not_found(
                "tool", only, tuple(upstream.listing.tools) if upstream.listing is not None else ()
            )
        return found

    async def set_override(
        self, name: str, tool: str, decision: Decision, actor: Actor, *, seen: str | None = None
    ) -> dict[str, Any]:
        """Set a tool's override, and pin the tool that was seen. Raises Problem, StorageFailed.

        `seen` is the digest of the definition that the person saw; None for the one first seen or last approved. A
        tool that differs from it is not allowed, and not asked about; it can be denied.
        """
        upstream = self._require(name).proxy.upstream
        if upstream.listing is None and decision is not Decision.DENY:
            await self._list(upstream)
        mark = upstream.listing.fingerprints.get(tool) if upstream.listing is not None else None
        if mark is None and decision is not Decision.DENY:
            raise not_found(
                "tool", tool, tuple(upstream.listing.tools) if upstream.listing is not None else ()
            )

        if mark != (seen or self.tools.seen_by_default(upstream, tool)):
            if decision is not Decision.DENY:
                raise Problem(
                    "tool-changed",
                    f"{name}/{tool} changed after it was {'listed' if seen else 'first seen or last approved'}; look "
                    "at it, and name what you saw: ",
                    Param("definition_sha256", mark),
                    definition_sha256=mark,
                )
            mark = None  # an unseen definition is not pinned

        def write(db: Any) -> tuple[Any, Callable[[], None]]:
            detail = {"decision": decision.value, "definition_sha256": mark}
            entry = self._audit.append(
                db, "event", actor=actor, action="mcp.gate", subject=f"{name}/{tool}", detail=detail
            )
            return entry, self.policy_store.write_override(db, actor, (name, tool, decision), mark)

        entry, committed = await self._storage.write(write)
        committed()
        self._audit.published(entry)
        await self._overrides_changed(name)
        return {"server": name, "tool": tool, "decision": decision.value, "rule": f"override:{name}/{tool}"}

    async def remove_override(self, name: str, tool: str, actor: Actor) -> dict[str, Any]:
        """Remove a tool's override. A tool that changed still requires approval. Raises Problem, StorageFailed."""
        was = self.policy_store.override(name, tool)
        if was is None:  # then the tool must exist; an override may outlive its tool and server
            listing = self._require(name).proxy.upstream.listing
            if listing is None or tool not in listing.tools:
                raise not_found("override", f"{name}/{tool}")

        def write(db: Any) -> tuple[Any, Callable[[], None]]:
            detail = {"decision": "policy", "was": was.decision.value if was is not None else None}
            entry = self._audit.append(
                db, "event", actor=actor, action="mcp.gate", subject=f"{name}/{tool}", detail=detail
            )
            return entry, self.policy_store.remove_override(db, name, tool)

        entry, committed = await self._storage.write(write)
        committed()
        self._audit.published(entry)
        await self._overrides_changed(name)
        now = self.tools.effective(Subject(name, "tool", tool, actor.token_name), self._upstream(name))
        return {"server": name, "tool": tool, "decision": now.decision.value, "rule": now.rule}

    async def begin_with(self, found: PolicyFile) -> None:
        """Apply and keep the policy at the start. Raises StorageFailed."""
        if found.kept and (found.kept, found.sha256) != await self.policy_store.kept_policy():
            await self._keep(found)
        self._apply(found)

    async def take_config(self, found: PolicyFile) -> None:
        """Apply a changed policy file, after its audit row is written. Raises StorageFailed, and then nothing changes.

        Rules and servers change without an await in between, so that every call sees both old or both new.
        """
        await self._keep(found)
        self._apply(found)
        self.sync()
        for endpoint in self._endpoints.values():
            self.tools.compare(endpoint.proxy.upstream)
            if self._group is not None:
                self._group.create_task(self._announce(endpoint), name=f"announce {endpoint.proxy.name}")

    async def _keep(self, found: PolicyFile) -> None:
        """Keep a policy for the next start, with its audit row. Raises StorageFailed."""

        def write(db: Any) -> Any:
            self.policy_store.keep_policy(db, found.kept, found.sha256)
            detail = {"sha256": found.sha256}
            return self._audit.append(
                db, "event", actor=POLICY_FILE, action="mcp.policy", subject=FILE_NAME, detail=detail
            )

        self._audit.published(await self._storage.write(write))

    def _apply(self, found: PolicyFile) -> None:
        self.config = found.config
        self._left_out = found.left_out
        self.call_handler.capture = self.approvals.keep_preview = found.config.capture_arguments
        self.policy_store.take_policy(found.config.policy, found.sha256)
        self.registry.take_config(found.config)

    async def settle(self, approval_id: str, *, approve: bool, always: bool, actor: Actor) -> dict[str, Any]:
        """Approve or deny a pending call. Raises Problem, StorageFailed."""
        approval: Approval = await self.approvals.get(approval_id)
        upstream = self._upstream(approval.server)
        listing = upstream.listing if upstream is not None and approval.kind == "tool" else None
        mark = listing.fingerprints.get(approval.name, "") if listing is not None else ""
        settled = await self.approvals.decide(
            approval, approve=approve, always=always, actor=actor, now=(mark, self.policy_store.policy_sha256)
        )
        if always:
            await self._overrides_changed(approval.server)
        return self.approvals.shown(settled)

    async def _overrides_changed(self, name: str) -> None:
        endpoint = self._endpoints.get(name)
        if endpoint is not None:
            self.tools.compare(endpoint.proxy.upstream)
            await endpoint.proxy.changed("tools")

    def _upstream(self, name: str) -> Upstream | None:
        endpoint = self._endpoints.get(name)
        return endpoint.proxy.upstream if endpoint is not None else None

    def _require(self, name: str) -> Endpoint:
        endpoint = self.endpoint(name)
        if endpoint is None:
            raise not_found("MCP server", name, tuple(self._endpoints))
        return endpoint

    async def _list(self, upstream: Upstream) -> None:
        try:
            await upstream.list_tools()
        except (UpstreamDown, ConnectionLost) as error:
            raise Problem("mcp-server-unreachable", str(error)) from error
        except (MCPError, ValidationError, TimeoutError) as error:
            what = f"{upstream.spec.name}: tools/list failed ({type(error).__name__})"
            raise Problem("mcp-server-unreachable", what) from error

    async def _resolve_intents(self) -> None:
        """Write the outcome `interrupted` for calls that a former process left open. Raises StorageFailed."""
        open_calls: list[Mapping[str, Any]] = await self._storage.read(
            lambda db: db.execute(
                "SELECT operation, subject FROM audit AS begun WHERE kind = 'intent' AND action = 'mcp.call'"
                " AND NOT EXISTS (SELECT 1 FROM audit WHERE operation = begun.operation AND kind = 'outcome')"
            ).fetchall()
        )
        for row in open_calls:
            outcome = Row(
                "outcome", RECOVERY, "mcp.call", row["subject"], row["operation"], {"outcome": "interrupted"}
            )
            self._journal.write_soon(outcome)


def _open_tracing() -> Tracing | None:
    """Open the span exporter if a receiver is configured. The OTel SDK is imported only then, to save memory."""
    if not otel_env.wanted("TRACES")[0]:
        return None
    from actions.mcp.tracing import Tracing  # noqa: PLC0415 - see above

    return Tracing.from_environment()
