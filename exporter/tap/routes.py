"""The routes of the daemon's API that the tap reads, and the response format of each.

Sources: LM Studio's docs (REST API v0 and v1, OpenAI and Anthropic compatibility); the WebSocket namespaces are those
of lmstudio-js.
"""

from __future__ import annotations

from typing import Final

PREDICTIONS: Final = {
    "/v1/chat/completions": "openai",
    "/api/v0/chat/completions": "openai",
    "/v1/completions": "openai",
    "/api/v0/completions": "openai",
    "/v1/responses": "responses",
    "/v1/messages": "anthropic",
    "/api/v1/chat": "lmstudio",
}
"""Routes on which a model writes, and the format it is delivered in."""

EMBEDDINGS: Final = frozenset({"/v1/embeddings", "/api/v0/embeddings"})
DECISIONS: Final = frozenset({"/v1/decisions"})
"""Source: the base model interface of lmstudio-js. Assumed: answers name model and usage as those of embeddings do."""
OPERATIONS: Final = dict.fromkeys(EMBEDDINGS, "embeddings") | dict.fromkeys(DECISIONS, "decision")
"""Routes that a model answers without text, and what is done there."""

_OTHERS: Final = frozenset(
    {
        "/v1/models",
        "/api/v0/models",
        "/api/v1/models",
        "/api/v1/models/load",
        "/api/v1/models/unload",
        "/api/v1/models/download",
        "/lmstudio-greeting",
        "/lms-status",
    }
)
NAMESPACES: Final = frozenset(
    {"/llm", "/embedding", "/system", "/diagnostics", "/runtime", "/repository", "/files", "/plugins"}
)
"""WebSockets; channels that predict are requests of their own, with the route `PREDICT`."""

PREDICT: Final = "ws predict"
WITH_TEXT: Final = frozenset({*PREDICTIONS, PREDICT})
"""Routes whose answers are text of a model."""
OTHER: Final = "other"


def route_of(target: str) -> str:
    """Give the label for a request's target: a known path, or `other`."""
    path = target.partition("?")[0].rstrip("/") or "/"
    if path in PREDICTIONS or path in OPERATIONS or path in _OTHERS or path in NAMESPACES:
        return path
    return OTHER
