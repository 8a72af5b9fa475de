"""Find the model a REST request means, the way the daemon forgives wrong names, and word what failed.

The caller makes the request to the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmster_sim import errors
from llmster_sim.rest.http import RestError

if TYPE_CHECKING:
    from llmster_sim.engine.daemon import Daemon


def not_found(name: str) -> RestError:
    """404 in the v1 shape. Assumed: the message; code and status are published."""
    return RestError(
        status=404,
        error={
            "type": "model_not_found",
            "code": "model_not_found",
            "message": f"Model '{name}' not found",
            "param": "model",
        },
    )


def target(*, daemon: Daemon, name: str, domain: str) -> str:
    """Give the identifier or key to ask for. Published: with one model loaded, a wrong name means that one."""
    if daemon.find(name, domain=domain) is not None:
        return name
    try:
        key = daemon.model(name, domain=domain).key
    except errors.DaemonError as error:
        loaded = [i for i in daemon.loaded if i.model.type == domain]
        if len(loaded) == 1:
            return loaded[0].identifier
        raise not_found(name) from error
    if not daemon.settings.jit_loading:
        raise not_found(name)
    return key


def work_failed(error: errors.DaemonError, *, key: str) -> dict[str, Any]:
    """Give the `error` member for work that was begun and failed. Assumed: internal_error for anything else."""
    if error.kind == "guardrail":
        return {
            "message": f'Failed to load model "{key}". Error: {error.title} {error.cause or ""}'.rstrip(),
            "type": "invalid_request_error",
            "param": "model",
            "code": None,
        }
    return {"type": "internal_error", "message": error.title}
