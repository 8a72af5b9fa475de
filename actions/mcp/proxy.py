"""The MCP proxy of one upstream server: the SDK's server, with handlers that apply the policy and forward requests.

Does not depend on a transport. Sampling, elicitation, roots, logging, resource subscriptions and the upstream server's
`instructions` are not offered, because they let a tool server reach the model without a policy decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from actions.mcp.call import CallHandler
from actions.mcp.completions import Completions
from actions.mcp.identifiers import MAX_NAME, name_fault, normal_template, normal_uri
from actions.mcp.looks import look, unrecordable
from actions.mcp.pinning import ToolPins
from actions.mcp.policy.rules import Kind, Subject
from actions.mcp.proxy_request import ProxyRequest, Refused, ResultLimit, ToolChanged
from actions.mcp.results import SizeLimit, ToolResultLimit, marked, refusal, refusal_error
from actions.mcp.sdk_server import (
    NOTIFY_S,
    Context,
    Progress,
    SdkServer,
    actor_of,
    span_attributes,
    token_of,
    wants_progress,
)
from actions.mcp.session_limits import MAX_SESSIONS
from actions.mcp.spans import remote_parent
from actions.mcp.upstream.server import Upstream
from actions.store.database import StorageFailed
from exporter.catalogue import mcp as rows

R = TypeVar("R", bound=types.Result)
T = TypeVar("T")
Ready = Callable[[], Awaitable[None]]

SERVER_METHODS: Final = frozenset(
    {
        "initialize", "server/discover", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get",
        "resources/list", "resources/templates/list", "resources/read", "completion/complete",
    }
)  # fmt: skip
"""Methods used as label values; the others are counted as `other`. Listening streams are open-ended and left out."""

_EVENTS: Final[Mapping[str, tuple[ServerEvent, types.ServerNotification]]] = {
    "tools": (ToolsListChanged(), types.ToolListChangedNotification()),
    "prompts": (PromptsListChanged(), types.PromptListChangedNotification()),
    "resources": (ResourcesListChanged(), types.ResourceListChangedNotification()),
}


class ServerProxy:
    """The proxy of one upstream server. http_server.py serves `server` over HTTP."""

    def __init__(self, upstream: Upstream, tools: ToolPins, call_handler: CallHandler) -> None:
        self.upstream = upstream
        self.name = upstream.spec.name
        self._tools = tools
        self._call_handler = call_handler
        self._bus = InMemorySubscriptionBus()
        self._sessions: OrderedDict[str, ServerSession] = OrderedDict()
        self.server = SdkServer(
            f"daemonpulse-gate/{self.name}",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_completion=self._complete,
            on_subscriptions_listen=ListenHandler(self._bus),
            get_tool_input_schema=self._schema,
        )
        # Instead of the SDK's own, which makes a span of every message and quotes errors in it.
        self.server.middleware[:] = [self._watch]

    async def changed(self, what: str) -> None:
        """Notify every client that a list changed: `tools`, `prompts` or `resources`."""
        event, notification = _EVENTS[what]
        await self._bus.publish(event)
        await asyncio.gather(*(self._notify(session, notification) for session in self._sessions.values()))

    @staticmethod
    async def _notify(session: ServerSession, notification: types.ServerNotification) -> None:
        with contextlib.suppress(TimeoutError, MCPError):
            async with asyncio.timeout(NOTIFY_S):
                await session.send_notification(notification)

    def forget(self, session_id: str) -> None:
        """Remove the session of a client that uses `initialize`."""
        self._sessions.pop(session_id, None)

    async def _watch(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Measure every operation; remember the sessions of clients that get change notifications one by one."""
        if ctx.method == "notifications/initialized" and ctx.request is not None:
            session_id = ctx.request.headers.get("mcp-session-id")
            if session_id:
                self._sessions[session_id] = ctx.session
                while len(self._sessions) > MAX_SESSIONS:
                    self._sessions.popitem(last=False)
        if ctx.request_id is None:
            return await call_next(ctx)
        started, error_type = time.monotonic(), "error"
        try:
            with remote_parent(ctx.meta):
                result = await call_next(ctx)
            match result:
                case types.CallToolResult(is_error=True) | {"isError": True}:
                    error_type = "tool_error"
                case _:
                    error_type = ""
            return result
        finally:
            method = ctx.method if ctx.method in SERVER_METHODS else "other"
            took_s = time.monotonic() - started
            self._call_handler.metrics.observe(
                rows.SERVER_OPERATION_DURATION, took_s, self.name, method, error_type
            )

    # Tools ------------------------------------------------------------------------------------------------------------

    async def _list_tools(
        self, context: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """List the tools that are not denied, in one page, read from the server now."""
        listing = await self._look(context, self.upstream.list_tools, is_shared=True)
        token = token_of(context)
        return types.ListToolsResult(
            tools=[tool for name, tool in listing.tools.items() if self._shows("tool", name, token)]
        )

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        name, decided_fingerprint = params.name, ""

        async def prepare() -> str | None:
            nonlocal decided_fingerprint
            listing = await self.upstream.known_tools()
            if name not in listing.tools:
                listing = await self.upstream.list_tools()
            decided_fingerprint = listing.fingerprints.get(name, "")
            return None if decided_fingerprint else "the server has no such tool"

        def invoke(
            timeout_s: float, decided: Mapping[str, Any], recorded: Ready
        ) -> Awaitable[types.CallToolResult]:
            async def ready() -> None:
                await recorded()
                listing = self.upstream.listing
                if listing is None or listing.fingerprints.get(name) != decided_fingerprint:
                    raise ToolChanged

            request = types.CallToolRequest(
                params=types.CallToolRequestParams(name=name, arguments=dict(decided))
            )
            return self._request(context, request, types.CallToolResult, timeout_s, ready=ready)

        proxied = ProxyRequest(
            Subject(self.name, "tool", name, token_of(context)),
            params.arguments or {},
            prepare=prepare,
            invoke=invoke,
            limit=ToolResultLimit(self.upstream.spec.limits.output_cap_bytes),
            about=span_attributes(context),
            fault=name_fault(name),
            declared=lambda: self._properties(name),
        )
        try:
            result, passed = await self._call_handler.handle(self.upstream, proxied, actor_of(context))
        except Refused as refused:
            return refusal(refused)
        except StorageFailed as error:
            raise unrecordable(error) from error
        return marked(result, passed)

    def _schema(self, name: str) -> Mapping[str, Any] | None:
        """Return a tool's input schema from the last listing, for the SDK's check of headers that repeat arguments."""
        listing = self.upstream.listing
        tool = listing.tools.get(name) if listing is not None else None
        return tool.input_schema if tool is not None else None

    def _properties(self, name: str) -> Mapping[str, Any]:
        """Return the properties of a tool's input schema."""
        properties = (self._schema(name) or {}).get("properties")
        return properties if isinstance(properties, Mapping) else {}

    # Prompts, resources, completions ----------------------------------------------------------------------------------

    async def _list_prompts(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        result = await self._list(
            context, "prompts", types.ListPromptsRequest(params=_page(params)), types.ListPromptsResult
        )
        if result is None:
            return types.ListPromptsResult(prompts=[])
        token = token_of(context)
        kept = [one for one in result.prompts if self._shows("prompt", one.name, token)]
        return result.model_copy(update={"prompts": kept})

    async def _get_prompt(
        self, context: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        def request(decided: Mapping[str, Any]) -> types.GetPromptRequest:
            return types.GetPromptRequest(
                params=types.GetPromptRequestParams(name=params.name, arguments=dict(decided))
            )

        return await self._fetch(
            context,
            ("prompt", params.name),
            params.arguments or {},
            (request, types.GetPromptResult),
            fault=name_fault(params.name),
            prepare=lambda: self._find_prompt(params.name),
        )

    async def _find_prompt(self, name: str) -> str | None:
        """Return why a prompt cannot be got: a lenient server may read another spelling as a denied name."""
        return None if await self.upstream.has_prompt(name) else "the server has no such prompt"

    async def _list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        result = await self._list(
            context, "resources", types.ListResourcesRequest(params=_page(params)), types.ListResourcesResult
        )
        if result is None:
            return types.ListResourcesResult(resources=[])
        token = token_of(context)
        kept = [one for one in result.resources if self._shows("resource", one.uri, token)]
        return result.model_copy(update={"resources": kept})

    async def _list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        request = types.ListResourceTemplatesRequest(params=_page(params))
        result = await self._list(context, "resources", request, types.ListResourceTemplatesResult)
        if result is None:
            return types.ListResourceTemplatesResult(resource_templates=[])
        token = token_of(context)
        kept = [one for one in result.resource_templates if self._shows("resource", one.uri_template, token)]
        return result.model_copy(update={"resource_templates": kept})

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Read a resource. The decision and the upstream request use the normalised URI."""
        uri = normal_uri(params.uri)

        def request(_decided: Mapping[str, Any]) -> types.ReadResourceRequest:
            return types.ReadResourceRequest(params=types.ReadResourceRequestParams(uri=uri or ""))

        shown = uri if uri is not None else params.uri[:MAX_NAME]
        return await self._fetch(
            context,
            ("resource", shown),
            {"uri": shown},
            (request, types.ReadResourceResult),
            fault="the URI has no normal form (RFC 3986)" if uri is None else None,
            prepare=_no_preparation,
        )

    async def _complete(self, context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Forward a completion request, if what it is about is listed and allowed."""

        def ask(request: types.CompleteRequest) -> Awaitable[types.CompleteResult]:
            timeout_s = self.upstream.spec.limits.start_timeout_s
            return self._request(context, request, types.CompleteResult, timeout_s)

        completions = Completions(self.upstream, self._tools.policy, token_of(context))
        return await self._look(context, lambda: completions.complete(params, ask))

    async def _fetch(
        self,
        context: Context,
        what: tuple[Kind, str],
        arguments: Mapping[str, Any],
        how: tuple[Callable[[Mapping[str, Any]], types.Request[Any, Any]], type[R]],
        *,
        fault: str | None,
        prepare: Callable[[], Awaitable[str | None]],
    ) -> R:
        """Forward a request for a prompt or a resource."""
        limit: ResultLimit[R] = SizeLimit(self.upstream.spec.limits.output_cap_bytes)
        make, result_type = how
        proxied = ProxyRequest(
            Subject(self.name, *what, token_of(context)),
            arguments,
            prepare=prepare,
            invoke=lambda timeout_s, decided, recorded: self._request(
                context, make(decided), result_type, timeout_s, ready=recorded
            ),
            limit=limit,
            about=span_attributes(context),
            fault=fault,
        )
        try:
            result, passed = await self._call_handler.handle(self.upstream, proxied, actor_of(context))
        except Refused as refused:
            raise refusal_error(refused) from refused
        except StorageFailed as error:
            raise unrecordable(error) from error
        return marked(result, passed)

    async def _list(
        self, context: Context, capability: str, request: types.Request[Any, Any], result_type: type[R]
    ) -> R | None:
        """Request a list; None when the server lacks the capability."""

        async def ask() -> R | None:
            async with self.upstream.lease() as connection:
                if not connection.offers(capability):
                    return None
            return await self._request(
                context, request, result_type, self.upstream.spec.limits.start_timeout_s
            )

        return await self._look(context, ask)

    async def _request(
        self,
        context: Context,
        request: types.Request[Any, Any],
        result_type: type[R],
        timeout_s: float,
        *,
        ready: Ready | None = None,
    ) -> R:
        """Send a request upstream and forward its progress. On cancellation the SDK notifies the server."""
        progress = Progress(context.session) if wants_progress(context) else None
        result = await self.upstream.request(
            request, result_type, timeout_s=timeout_s, progress=progress, ready=ready
        )
        if progress is not None:
            await progress.flush()
        return result

    def _look(
        self, context: Context, ask: Callable[[], Awaitable[T]], *, is_shared: bool = False
    ) -> Awaitable[T]:
        return look(self.upstream, actor_of(context).owner, ask, is_shared=is_shared)

    def _shows(self, kind: Kind, name: str, token: str) -> bool:
        """Tell whether an item is listed: its name has a normal form and is not denied."""
        by_name = name if name_fault(name) is None else None
        normal = normal_template(name) if kind == "resource" else by_name
        return normal is not None and not self._tools.policy.hides(Subject(self.name, kind, normal, token))


def _page(params: types.PaginatedRequestParams | None) -> types.PaginatedRequestParams:
    """Return the page that is asked for without `_meta`, which belongs to the client's connection."""
    return types.PaginatedRequestParams(cursor=params.cursor if params is not None else None)


async def _no_preparation() -> None:
    return None
