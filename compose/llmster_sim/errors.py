"""Name the refusals a daemon gives, in the words its own errors use.

Does not depend on the transport: the WebSocket and REST layers each convert these to their own shape.
"""

from __future__ import annotations

from typing import Any


class DaemonError(Exception):
    """A refused or failed request: `title`, optional cause and suggestion, optional display data.

    Source: serializedLMSExtendedErrorSchema of the official SDK; `display` carries a documented code.
    """

    def __init__(
        self,
        title: str,
        *,
        cause: str | None = None,
        suggestion: str | None = None,
        display: dict[str, Any] | None = None,
        kind: str = "failed",
    ) -> None:
        super().__init__(title)
        self.title = title
        self.cause = cause
        self.suggestion = suggestion
        self.display = display
        self.kind = kind


def identifier_not_found(*, identifier: str, loaded: list[str]) -> DaemonError:
    """Make the error for an unload of something that is not loaded (recorded)."""
    return DaemonError(
        f'Cannot find a model with identifier "{identifier}"',
        display={
            "code": "generic.identifierNotFound",
            "identifier": identifier,
            "loadedModelsSample": loaded[:5],
            "totalLoadedModels": len(loaded),
        },
        kind="instance_not_found",
    )


def path_not_found(*, key: str, known: list[str]) -> DaemonError:
    """Make the error for a load or estimate of a model that is not on disk (recorded)."""
    return DaemonError(
        f'Cannot find a model with path "{key}"',
        display={
            "code": "generic.pathNotFound",
            "path": key,
            "availablePathsSample": known[:5],
            "totalModels": len(known),
        },
        kind="model_not_found",
    )


def wrong_domain(*, key: str, actual: str, expected: str) -> DaemonError:
    """Make the error for an embedding model asked for on /llm or the reverse (recorded)."""
    return DaemonError(
        "Model has wrong domain",
        display={
            "code": "generic.domainMismatch",
            "path": key,
            "actualDomain": actual,
            "expectedDomain": expected,
        },
    )


def already_unloaded() -> DaemonError:
    """Make the error for a call through an instanceReference whose instance is gone (recorded)."""
    return DaemonError(
        "This model has already been unloaded.",
        display={"code": "generic.specificModelUnloaded"},
        kind="instance_not_found",
    )


def no_match(*, query: dict[str, Any], loaded: list[str]) -> DaemonError:
    """Make the error for a query no loaded instance answers. Assumed: the title; the display data is official."""
    return DaemonError(
        "No loaded model satisfies all requirements specified in the query.",
        display={
            "code": "generic.noModelMatchingQuery",
            "query": query,
            "loadedModelsSample": loaded[:5],
            "totalLoadedModels": len(loaded),
        },
        kind="model_not_found",
    )


def does_not_fit(*, total_bytes: float) -> DaemonError:
    """Make the guardrail's refusal; the texts are the ones operators published."""
    return DaemonError(
        "Model loading was stopped due to insufficient system resources.",
        cause=(
            f"Under the current settings, this model requires approximately {total_bytes / 1e9:.2f} GB of memory,"
            " and continuing to load it would likely overload your system and cause it to freeze. If you think"
            " this is incorrect, you can adjust the model loading guardrails in settings."
        ),
        kind="guardrail",
    )


def identifier_taken(*, identifier: str) -> DaemonError:
    """Make the refusal of an explicit identifier in use: documented. Assumed: the words."""
    return DaemonError(f'Cannot load a model with identifier "{identifier}" because it is already in use.')


def out_of_memory() -> DaemonError:
    """Make the error for a load that passed the guardrail and then met the real free VRAM (recorded)."""
    return DaemonError("Failed to load the model", cause="CUDA error: out of memory", kind="load_failed")
