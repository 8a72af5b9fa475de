"""Write the files a daemon keeps in its home directory, as far as an observer reads them.

Writes from settings and a port; contains no prompts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from llmster_sim.engine.daemon import Daemon

_CUSTOM_THRESHOLD_BYTES = 4_294_967_296
_DEFAULT_CONTEXT = 4096


def write_home(*, home: Path, port: int, host: str, daemon: Daemon) -> None:
    """Write `.internal/` and `settings.json` under `home`, replacing former ones; an mcp.json that is there stays."""
    settings = daemon.settings
    internal = home / ".internal"
    history = internal / "api-prediction-history"
    history.mkdir(parents=True, exist_ok=True)
    _write(internal / "http-server.json", {"port": port})
    _write(
        internal / "http-server-config.json",
        {
            "autoStartOnLaunch": True,
            "port": port,
            "cors": False,
            "logSensitiveData": False,
            "logIncomingTokens": False,
            "networkInterface": host,
            "justInTimeModelLoading": settings.jit_loading,
            "fileLoggingMode": "succinct",
        },
    )
    # Observed: public copies of this file keep the guardrails on top and the JIT settings under `developer`.
    _write(
        home / "settings.json",
        {
            "modelLoadingGuardrails": {
                "mode": settings.guardrail,
                "customThresholdBytes": _CUSTOM_THRESHOLD_BYTES,
                "alwaysAllowLoadAnyway": False,
            },
            "defaultContextLength": {"type": "custom", "value": _DEFAULT_CONTEXT},
            "developer": {
                "unloadPreviousJITModelOnLoad": settings.jit_evicts,
                "jitModelTTL": {"enabled": True, "ttlSeconds": settings.jit_ttl_s},
            },
        },
    )
    if not (home / "mcp.json").exists():
        _write(home / "mcp.json", {"mcpServers": {}})
    for number in range(3):
        # Assumed: the names. The real files hold prompts; these hold none, and readers must not open them.
        _write(history / f"{1_795_351_872_000 + number}.json", {"note": "simulated, without content"})


def _write(path: Path, value: Any) -> None:
    """Replace a file at once, so that a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
