"""Compares listed tools with their pins: pins new tools, reports changed ones.

A tool whose definition differs from its pin requires approval until an override is set for it.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final

from actions.mcp.look_alikes import visible
from actions.mcp.policy.rules import Decision, Policy, PolicyResult, Subject
from actions.mcp.policy.store import PolicyStore
from actions.mcp.upstream.listing import definition
from actions.mcp.upstream.server import Upstream
from actions.metrics import Metrics
from exporter.catalogue import mcp as rows

log = logging.getLogger(__name__)

DESCRIPTION_CHARS: Final = 500
"""Of a tool's description in a list of tools."""


class ToolPins:
    """The pins of the tools of all servers."""

    def __init__(self, policy_store: PolicyStore, metrics: Metrics) -> None:
        self._policy_store = policy_store
        self._metrics = metrics
        self._told: dict[str, dict[str, str | None]] = {}
        """By server and tool with a series: the changed fingerprint that was logged last, None for unchanged tools."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy_store.policy

    async def listed(self, upstream: Upstream) -> None:
        """Process a new listing: pin new tools and compare the others. Raises StorageFailed."""
        if upstream.listing is not None:
            await self._policy_store.pin_new(upstream.spec.name, upstream.listing.fingerprints)
        self.compare(upstream)

    def compare(self, upstream: Upstream) -> None:
        """Set the metric of every listed tool, remove it for others, and log each change once."""
        listing = upstream.listing
        if listing is None or upstream.is_closed:
            return
        name = upstream.spec.name
        told = self._told.setdefault(name, {})
        for tool in told.keys() - listing.tools.keys():
            del told[tool]
            self._metrics.set(rows.TOOL_CHANGED, None, name, tool)
        for tool, mark in listing.fingerprints.items():
            changed = self.is_changed(upstream, tool)
            self._metrics.set(rows.TOOL_CHANGED, 1 if changed else 0, name, tool)
            if not changed:
                told.setdefault(tool, None)
            elif told.get(tool) != mark:
                told[tool] = mark
                log.warning(
                    "tool definition changed, approval required",
                    extra={"server": name, "tool": tool},
                )

    def forget(self, name: str) -> None:
        """Remove the tools of a server that was removed."""
        for tool in self._told.pop(name, {}):
            self._metrics.set(rows.TOOL_CHANGED, None, name, tool)

    def is_changed(self, upstream: Upstream, tool: str) -> bool:
        """Tell whether a listed tool differs from its pin."""
        listing = upstream.listing
        mark = listing.fingerprints.get(tool) if listing is not None else None
        return mark is not None and self._policy_store.is_changed(upstream.spec.name, tool, mark)

    def effective(self, subject: Subject, upstream: Upstream | None) -> PolicyResult:
        """Return the decision for a tool before its arguments are known: a changed tool asks where its rule allows."""
        rule = self.policy.winner(subject)
        changed = upstream is not None and self.is_changed(upstream, subject.name)
        asks = changed and rule.decision is Decision.ALLOW
        return PolicyResult(Decision.ASK if asks else rule.decision, rule.name)

    def seen_by_default(self, upstream: Upstream, tool: str) -> str | None:
        """Return the fingerprint of a tool that a person has seen who names none: as first seen or last approved."""
        return self._policy_store.pin(upstream.spec.name, tool)

    def describe(self, upstream: Upstream, token: str, only: str | None = None) -> list[dict[str, Any]]:
        """Describe every tool with its decision for this token; or one, with its whole definition."""
        listing = upstream.listing
        found = []
        for tool in listing.tools.values() if listing is not None else ():
            if only not in {None, tool.name}:
                continue
            effective = self.effective(Subject(upstream.spec.name, "tool", tool.name, token), upstream)
            override = self._policy_store.override(upstream.spec.name, tool.name)
            found.append(
                {
                    "tool": tool.name,
                    "description": _shown((tool.description or "")[:DESCRIPTION_CHARS]),
                    "definition": visible(definition(tool)) if only is not None else None,
                    "definition_sha256": listing.fingerprints[tool.name] if listing is not None else "",
                    "decision": effective.decision.value,
                    "rule": effective.rule,
                    "changed": self.is_changed(upstream, tool.name),
                    "set_by": override.actor if override is not None else None,
                }
            )
        return found


@functools.lru_cache(maxsize=2_048)
def _shown(description: str) -> str:
    """Show the beginning of a description; remembered, because every list of tools has them all."""
    return visible(description)
