"""The demo's MCP gate: a policy for its tool server, and the mcp.json that points the simulated daemon at the gate.

Only writes the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from actions.mcp.mcp_json.adopt import gated_url
from actions.mcp.policy.file import FILE_NAME

SERVER: Final = "notes"

_POLICY: Final = """
mcp_json = {mcp_json}

[servers.{server}]
command = {python}
args = ["-P", "-m", "daemonpulse.demo.tool_server"]
approval_timeout_s = 30

[[rules]]
name = "notes may be searched"
tool = "search_*"
decision = "allow"

[[rules]]
name = "notes may be read, nothing else"
tool = "read_*"
decision = "allow"
paths = {{ arguments = ["path"], roots = ["/notes"] }}

[[rules]]
name = "no shell"
tool = "run_*"
decision = "deny"

[[rules]]
name = "a person looks at what is written"
tool = "write_*"
decision = "ask"
"""


def write_policy(state: Path, mcp_json: Path) -> None:
    """Write the policy file into the state folder of the actions API."""
    # A JSON text is a TOML text too.
    text = _POLICY.format(
        mcp_json=json.dumps(str(mcp_json)), server=SERVER, python=json.dumps(sys.executable)
    )
    (state / FILE_NAME).write_text(text, encoding="utf-8")


def write_mcp_json(path: Path, gate_url: str, token: str) -> None:
    """Point the daemon at the gate, as `daemonpulse actions mcp adopt` does."""
    entry = {"url": gated_url(gate_url, SERVER), "headers": {"Authorization": f"Bearer {token}"}}
    path.touch(mode=0o600)
    path.write_text(json.dumps({"mcpServers": {SERVER: entry}}, indent=2) + "\n", encoding="utf-8")
