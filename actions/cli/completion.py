"""Shell completion of daemons, models and instances, from the API. Any error completes nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

_MOST: Final = 200


def daemons(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a daemon."""
    return _found(ctx, incomplete, lambda _api, names: names)


def sites(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a site."""
    return _found(ctx, incomplete, lambda api, _names: [one["site"] for one in _listed(api) if one["site"]])


def models(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the key of a model on disk."""
    return _found(ctx, incomplete, lambda api, names: _each(api, names, "models", "model"))


def instances(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a loaded instance."""
    return _found(ctx, incomplete, lambda api, names: _each(api, names, "instances", "instance_id"))


def _each(api: Any, names: list[str], kind: str, key: str) -> list[str]:
    return [one[key] for name in names for one in api.try_ask("GET", api.path(kind, daemon=name), {})[kind]]


def _listed(api: Any) -> list[Any]:
    return list(api.try_ask("GET", "/v1/daemons", {})["daemons"])


def _found(
    ctx: click.Context, incomplete: str, look: Callable[[Any, list[str]], list[str]]
) -> list[CompletionItem]:
    from actions.cli.connection import DEFAULT_URL, Api, Refused

    token_file = ctx.params.get("token_file")
    url = ctx.params.get("url") or DEFAULT_URL
    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            Api(url, Path(token_file) if token_file else None, timeout_s=2.0) as api,
        ):
            given = list(ctx.params.get("daemon") or ())
            found = [str(name) for name in look(api, given or [one["daemon"] for one in _listed(api)])]
    except (Refused, SystemExit):
        return []
    return [CompletionItem(name) for name in dict.fromkeys(found) if name.startswith(incomplete)][:_MOST]
