"""Completions of prompt and template arguments: asked for what is listed and allowed, answered with what may be read.

A completion is a look, not a call: it has no approval and no audit row. Therefore a rule that asks or has constraints
gives none, and of a template's values those are dropped whose resource is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote

import mcp_types as types

from actions.mcp.identifiers import name_fault, normal_template
from actions.mcp.policy.rules import Decision, Kind, Policy, Subject
from actions.mcp.upstream.server import Upstream

MAX_VALUES: Final = 100
"""Of one completion, as the protocol has it."""

_LOOKED_AT: Final = 10 * MAX_VALUES
"""Values of a server that are judged; it should give no more than MAX_VALUES."""

MAX_VALUE: Final = 1_000
"""Characters of a value; longer ones are dropped."""

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_SIMPLE: Final = re.compile(r"(\+?)([A-Za-z0-9_.]+)")
"""Of RFC 6570's expressions those of one variable, encoded or (`+`) as it is. Others are not completed."""

Ask = Callable[[types.CompleteRequest], Awaitable[types.CompleteResult]]


class Completions:
    """Completes for one token."""

    def __init__(self, upstream: Upstream, policy: Policy, token: str) -> None:
        self._upstream = upstream
        self._policy = policy
        self._token = token

    async def complete(self, params: types.CompleteRequestParams, ask: Ask) -> types.CompleteResult:
        """Ask the server, if the policy allows it; what is not allowed is empty. Raises as `Upstream.request`."""
        sent = types.CompleteRequestParams(ref=params.ref, argument=params.argument, context=params.context)
        if not await self._may_ask(params.ref):
            return _answer([])
        values = (await ask(types.CompleteRequest(params=sent))).completion.values
        looked_at = (value for value in values[:_LOOKED_AT] if len(value) <= MAX_VALUE)
        kept = [value for value in looked_at if self._may_show(params, value)]
        return _answer(kept[:MAX_VALUES])

    async def _may_ask(self, ref: types.PromptReference | types.ResourceTemplateReference) -> bool:
        """Tell whether this is allowed, and listed by exactly this name. What is not allowed starts no server."""
        if isinstance(ref, types.PromptReference):
            name = ref.name if name_fault(ref.name) is None else None
            is_allowed = name is not None and self._allows("prompt", name)
        else:
            normal = normal_template(ref.uri)
            is_allowed = normal is not None and self._allows("resource", normal)
        if not is_allowed:
            return False
        async with self._upstream.lease() as connection:
            if not connection.offers("completions"):
                return False
        return (
            await self._upstream.has_prompt(ref.name)
            if isinstance(ref, types.PromptReference)
            else await self._upstream.has_template(ref.uri)
        )

    def _may_show(self, params: types.CompleteRequestParams, value: str) -> bool:
        if isinstance(params.ref, types.PromptReference):
            return True
        known = (params.context.arguments if params.context is not None else None) or {}
        uri = expanded(params.ref.uri, {**known, params.argument.name: value}, params.argument.name)
        normal = normal_template(uri) if uri is not None else None
        return normal is not None and self._allows("resource", normal)

    def _allows(self, kind: Kind, name: str) -> bool:
        subject = Subject(self._upstream.spec.name, kind, name, self._token)
        rule = self._policy.written(subject)
        return rule.decision is Decision.ALLOW and rule.constraints.is_empty


def expanded(template: str, values: Mapping[str, str], last: str) -> str | None:
    """Return a URI template with its variables up to `last` replaced; None if one of them is not known."""
    parts, end = [], 0
    for match in _VARIABLE.finditer(template):
        variable = _SIMPLE.fullmatch(match[1])
        if variable is None or variable[2] not in values:
            return None
        value = values[variable[2]]
        parts += [template[end : match.start()], value if variable[1] else quote(value, safe="")]
        end = match.end()
        if variable[2] == last:
            return "".join(parts) + template[end:]
    return None


def _answer(values: list[str]) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=values))
