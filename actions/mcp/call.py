"""One call, from decision to outcome: policy, limits, approval, intent on disk, upstream request, outcome, metrics.

Does not depend on MCP methods or result types. A call whose intent cannot be written to the audit is not sent.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar

from mcp.shared.exceptions import MCPError
from opentelemetry.trace import Span, Tracer
from pydantic import ValidationError

from actions.auth.tokens import TokenStore
from actions.domain.actor import Actor
from actions.domain.rate_limit import Buckets, FairShares
from actions.mcp.approval import ApprovalRequest
from actions.mcp.approvals import MAX_SUBJECT, Approvals, TooManyPending
from actions.mcp.look_alikes import visible
from actions.mcp.policy.constraints import measure
from actions.mcp.policy.real_path import real_path
from actions.mcp.policy.rules import Decision, PolicyResult, decide
from actions.mcp.policy.store import PolicyStore
from actions.mcp.proxy_request import Grant, ProxyRequest, Refused, ToolChanged
from actions.mcp.redaction import PREVIEW_CHARS, digest, preview, redact
from actions.mcp.spans import METHODS, client_span, server_span, set_decision, set_outcome
from actions.mcp.upstream.answers import NOT_VALID
from actions.mcp.upstream.connection import ConnectionLost
from actions.mcp.upstream.limits import ROOM_BYTES, Breaker, memory_of
from actions.mcp.upstream.listing import definition
from actions.mcp.upstream.server import LEFT, Upstream, UpstreamDown
from actions.metrics import Metrics
from actions.store.audit import Kind
from actions.store.audit_batch import Journal, Row
from actions.store.call_record import CallRecord
from actions.store.database import StorageFailed
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

_GRACE_S: Final = 5.0
"""Added to the call's timeout: within it the SDK's own timeout sends the cancellation upstream."""

_ON_LOOP_CHARS: Final = 16 * 1024
"""Longer arguments are processed in a thread, to keep the event loop responsive."""

REFUSALS_PER_MINUTE: Final = 300
"""Audit rows for refused calls, per token. Further refusals are counted without a row, to bound the disk use."""


class CallHandler:
    """Handles the calls of every server."""

    def __init__(
        self,
        *,
        policy_store: PolicyStore,
        approvals: Approvals,
        journal: Journal,
        tokens: TokenStore,
        metrics: Metrics,
        capture_arguments: bool,
        tracer: Tracer | None,
    ) -> None:
        self.policy_store = policy_store
        self.approvals = approvals
        self.journal = journal
        self.tokens = tokens
        self.metrics = metrics
        self.capture = capture_arguments
        self.tracer = tracer
        self.digest_key = secrets.token_bytes(32)
        """Never shown: digests of arguments can be compared with each other, within the life of this service."""
        self.room = FairShares(ROOM_BYTES)
        """Memory for large arguments, of the calls of all servers from their beginning to their end."""
        self._refusals = Buckets(REFUSALS_PER_MINUTE, 60 / REFUSALS_PER_MINUTE, time.monotonic)

    async def handle(self, upstream: Upstream, request: ProxyRequest[R], actor: Actor) -> tuple[R, Grant]:
        """Carry out one call. Raises Refused, StorageFailed, and the server's own MCPError."""
        with server_span(self.tracer, request.subject, request.about) as span:
            return await _Call(self, upstream, request, actor, span).run()

    def records_refusal(self, actor: Actor) -> bool:
        """Tell whether the next refusal of this actor gets an audit row."""
        return self._refusals.of(actor.owner).take() == 0


class _Call(Generic[R]):
    """The state of one call."""

    def __init__(
        self, handler: CallHandler, upstream: Upstream, request: ProxyRequest[R], actor: Actor, span: Span
    ) -> None:
        self._handler = handler
        self._upstream = upstream
        self._request = request
        self._subject = request.subject
        self._arguments = request.arguments
        self._actor = actor
        self._span = span
        self._operation = uuid.uuid4().hex
        self._policy_result = PolicyResult(Decision.DENY, "gate")
        self._approval: str | None = None
        self._code: int | None = None
        """Of an error of the tool server."""
        self._digest = ""
        self._is_big = False
        self._record = CallRecord(handler.journal)

    async def run(self) -> tuple[R, Grant]:
        chars, fault, values = measure(self._arguments)
        fault = self._request.fault or fault
        if fault is not None:
            await self._refuse("malformed", fault)
        self._is_big = chars > _ON_LOOP_CHARS
        room, owner, size = self._handler.room, self._actor.owner, memory_of(chars, values)
        if size and not room.take(owner, size):
            await self._refuse("limited", "other calls with large arguments take the memory that is for them")
        try:
            return await self._run()
        finally:
            if size:
                room.give_back(owner, size)

    async def _run(self) -> tuple[R, Grant]:
        handler, upstream, usage = self._handler, self._upstream, self._upstream.usage
        constraints = handler.policy_store.policy.written(self._subject).constraints
        self._arguments = await self._off_loop(constraints.normal, self._arguments)
        self._digest = await self._off_loop(digest, self._arguments, self._handler.digest_key)
        rule = handler.policy_store.policy.winner(self._subject)
        self._policy_result = PolicyResult(rule.decision, rule.name)
        if rule.decision is not Decision.DENY:  # a denied call starts no server
            await self._prepare()
        self._policy_result = await self._decide()
        if self._policy_result.decision is Decision.DENY:
            why = f": {self._policy_result.reason}" if self._policy_result.reason else ""
            await self._refuse("refused", f"denied by rule {self._policy_result.rule!r}{why}")
        limits, owner = upstream.spec.limits, self._actor.owner
        wait_s = usage.rate.of(owner).take()
        if wait_s > 0:
            await self._refuse(
                "limited", f"calls_per_minute is {limits.calls_per_minute:g}; try again in {wait_s:.1f} s"
            )
        if self._policy_result.decision is Decision.ASK:
            await self._get_approval()
        if upstream.is_closed:
            await self._refuse("unavailable", f"the server {LEFT}")
        if not usage.running.take(owner):
            await self._refuse(
                "limited",
                f"concurrent_calls is {limits.concurrent_calls}, and as many are running, or others need the rest",
            )
        try:
            wait_s = usage.breaker.wait_s()
            if wait_s > 0:
                await self._refuse(
                    "unavailable", f"the circuit breaker is open for {wait_s:.1f} s ({upstream.why()})"
                )
            return await self._execute(usage.breaker)
        finally:
            usage.running.give_back(owner)

    async def _off_loop(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `what`, in a thread if the arguments are large."""
        return await asyncio.to_thread(what, *args, **kwargs) if self._is_big else what(*args, **kwargs)

    async def _decide(self) -> PolicyResult:
        """Evaluate the policy, in a thread if it reads the file system."""
        policy = self._handler.policy_store.policy
        judge = functools.partial(
            decide,
            policy,
            self._subject,
            self._arguments,
            changed=self._is_changed(),
            resolve=real_path,
            declared=self._request.declared(),
        )
        if policy.written(self._subject).constraints.reads_files:
            return await asyncio.to_thread(judge)
        return await self._off_loop(judge)

    async def _prepare(self) -> None:
        """Look up the tool, starting the server if needed, and listing its tools after a change notification."""
        try:
            fault = await self._request.prepare()
        except (UpstreamDown, ConnectionLost) as error:
            await self._refuse("unavailable", str(error))
        except TimeoutError:
            await self._refuse("unavailable", "tools/list timed out")
        except MCPError as error:
            await self._refuse("unavailable", f"tools/list failed: {error.message[:200]}")
        except ValidationError:
            await self._refuse("malformed", "the tools/list response is not valid MCP")
        else:
            if fault is not None:
                await self._refuse("unknown", fault)

    async def _execute(self, breaker: Breaker) -> tuple[R, Grant]:
        timeout_s = self._upstream.spec.limits.call_timeout_s
        outcome, capped = "failed", False
        self._record.begin(self._row("intent", self._detail()))
        try:
            result, outcome, capped = await self._send(timeout_s)
            breaker.succeeded()
        except (asyncio.CancelledError, StorageFailed):  # the latter of the intent
            outcome = "cancelled"
            breaker.abandoned()
            raise
        except TimeoutError:
            outcome = "timeout"
            breaker.failed()
            raise self._failed(outcome, f"no response within {timeout_s:g} s") from None
        except UpstreamDown as error:
            outcome = "unavailable"
            breaker.failed()
            raise self._failed(outcome, str(error)) from error
        except ValidationError as error:
            outcome = "malformed"
            breaker.failed()
            raise self._failed(outcome, NOT_VALID) from error
        except ConnectionLost as error:
            outcome = "malformed" if error.is_malformed else "unavailable"
            breaker.failed()
            why = str(error) if error.is_malformed else f"the connection ended during the call: {error}"
            raise self._failed(outcome, why) from error
        except ToolChanged as error:
            outcome = "refused"
            breaker.abandoned()
            raise self._failed(outcome, "the tool changed before the call was sent") from error
        except MCPError:  # the server's own answer, whatever its code
            outcome = "error"
            breaker.succeeded()
            raise
        except Exception:
            breaker.failed()
            log.exception("tool call failed by an internal error", extra={"server": self._subject.server})
            raise
        finally:
            if not self._record.has_failed:  # else nothing was sent
                self._end(outcome, took_s=time.monotonic() - self._record.since, capped=capped)
        return result, Grant(self._policy_result, self._approval)

    async def _send(self, timeout_s: float) -> tuple[R, str, bool]:
        """Send the call upstream; return the limited result, the outcome, and whether the result was cut."""
        with client_span(self._handler.tracer, self._subject, self._upstream) as span:
            try:
                async with asyncio.timeout(timeout_s + self._upstream.spec.limits.start_timeout_s + _GRACE_S):
                    answer = await self._request.invoke(timeout_s, self._arguments, self._record.on_disk)
                    judged = self._request.limit(answer)
            except MCPError as error:
                self._code = error.code
                set_outcome(span, "error", error.code)
                raise
            except BaseException as error:
                set_outcome(span, type(error).__name__)
                raise
            set_outcome(span, judged[1])
            return judged

    async def _get_approval(self) -> None:
        spec, policy_sha256 = self._upstream.spec, self._handler.policy_store.policy_sha256
        mark, defined = self._fingerprint(), self._definition()  # of one listing: it may change from here on
        shown = await self._off_loop(preview, self._arguments, spec.reach.secrets)
        if shown is None:
            await self._refuse(
                "refused",
                f"rule {self._policy_result.rule!r} requires approval, and the arguments exceed the "
                f"{PREVIEW_CHARS} characters that an approval shows",
            )
        asked = ApprovalRequest(
            self._subject,
            self._policy_result.rule,
            self._policy_result.reason,
            shown,
            self._digest,
            spec.limits.approval_timeout_s,
            await asyncio.to_thread(visible, defined) if len(defined) > _ON_LOOP_CHARS else visible(defined),
            mark or "",
            policy_sha256,
        )
        try:
            self._approval, state = await self._handler.approvals.request(asked, self._actor)
        except TooManyPending as error:
            await self._refuse("limited", str(error))
        except asyncio.CancelledError:
            self._end("cancelled", took_s=None)
            raise
        if state == "approved":
            why = await self._why_void(asked)
            if why is not None:
                await self._refuse("refused", f"{why} while the call waited")
        else:
            await self._refuse(*asked.refusal(state, is_closing=self._handler.approvals.is_closing))

    async def _why_void(self, asked: ApprovalRequest) -> str | None:
        """Return what changed after the approval was requested, None if nothing did."""
        if self._actor.token_id is None or not await self._handler.tokens.is_live(self._actor.token_id):
            return "the token was revoked or expired"
        await self._prepare()
        now = await self._decide()
        bound_to = (self._fingerprint() or "", self._handler.policy_store.policy_sha256)
        if now.decision is Decision.DENY or bound_to != asked.bound_to:
            return "the policy or the tool changed"
        return None

    def _fingerprint(self) -> str | None:
        """Return the tool's fingerprint in the last listing."""
        listing = self._upstream.listing if self._subject.kind == "tool" else None
        return listing.fingerprints.get(self._subject.name) if listing is not None else None

    def _definition(self) -> str:
        """Return the tool's definition as text."""
        listing = self._upstream.listing
        tool = listing.tools.get(self._subject.name) if listing is not None else None
        return definition(tool) if tool is not None and self._subject.kind == "tool" else ""

    def _is_changed(self) -> bool:
        subject = self._subject
        return subject.kind == "tool" and self._handler.policy_store.is_changed(
            subject.server, subject.name, self._fingerprint()
        )

    async def _refuse(self, outcome: str, message: str) -> NoReturn:
        """Raise a refusal, with an audit row within the token's limit for refusals."""
        self._count(outcome)
        set_decision(self._span, self._subject, self._policy_result, outcome, self._digest)
        if self._handler.records_refusal(self._actor):
            detail = {**self._detail(), "outcome": outcome, "reason": message}
            await self._handler.journal.write(self._row("denied", detail))
        raise self._failed(outcome, message)

    def _failed(self, outcome: str, message: str) -> Refused:
        name = f"{self._subject.server}/{self._subject.name}"[:200]
        return Refused(outcome, f"{name}: {message}", self._policy_result, self._approval)

    def _end(self, outcome: str, *, took_s: float | None, capped: bool = False) -> None:
        """Queue the outcome for the audit, and count it."""
        labels = (self._subject.server, self._label)
        self._count(outcome)
        if capped:
            self._handler.metrics.count(rows.RESULTS_CAPPED, *labels)
        detail: dict[str, Any] = {"outcome": outcome, "capped": capped}
        if took_s is not None:
            self._handler.metrics.observe(rows.TOOL_CALL_DURATION, took_s, *labels)
            detail["duration_ms"] = round(took_s * 1000, 3)
        set_decision(self._span, self._subject, self._policy_result, outcome, self._digest, code=self._code)
        if took_s is None:  # ended before an intent was written
            self._handler.journal.write_soon(self._row("denied", {**self._detail(), **detail}))
        else:
            self._record.end(self._row("outcome", detail))

    def _count(self, outcome: str) -> None:
        labels = (self._subject.server, self._label, self._policy_result.decision.value, outcome)
        self._handler.metrics.count(rows.TOOL_CALLS, *labels)

    @property
    def _label(self) -> str:
        """The `tool` label: a listed tool's name, `unknown`, or the method of a prompt or resource."""
        if self._subject.kind == "tool":
            listing = self._upstream.listing
            is_known = listing is not None and self._subject.name in listing.tools
            return self._subject.name if is_known else "unknown"
        return METHODS[self._subject.kind]

    def _detail(self) -> dict[str, Any]:
        detail: dict[str, Any] = {
            "kind": self._subject.kind,
            "decision": self._policy_result.decision.value,
            "rule": self._policy_result.rule,
            "arguments_digest": self._digest,
        }
        if self._approval is not None:
            detail["approval"] = self._approval
        if self._handler.capture:
            detail["arguments"] = redact(self._arguments, self._upstream.spec.reach.secrets)
        return detail

    def _row(self, kind: Kind, detail: Mapping[str, Any]) -> Row:
        subject = f"{self._subject.server}/{self._subject.name}"[:MAX_SUBJECT]
        return Row(kind, self._actor, "mcp.call", subject, self._operation, detail)
