"""Whatever we write is for its owner only, with the loosest umask there is."""

import json
import stat
import sys
from pathlib import Path

import httpx

from tests.actions.mcp.conftest import TOOLBOX
from tests.security.conftest import Start, run


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
    }


async def test_what_we_write_is_for_its_owner_only_whatever_the_umask(start: Start, tmp_path: Path) -> None:
    home, state = tmp_path / "home", tmp_path / "somewhere" / "state"
    config = home / ".lmstudio" / "mcp.json"
    config.parent.mkdir(parents=True)
    config.write_text(
        json.dumps(
            {"mcpServers": {"box": {"command": sys.executable, "args": [str(TOOLBOX)], "env": {"K": "s"}}}}
        )
    )
    config.chmod(0o600)
    environment = {"DAEMONPULSE_ACTIONS_STATE": str(state), "HOME": str(home)}
    code, token = await run(
        "actions", "token", "new", "--scope", "admin", "--name", "me", environment=environment, umask=0
    )
    assert code == 0, token
    service = await start("actions", "serve", "--listen", "127.0.0.1:0", environment=environment, umask=0)
    headers = {"Authorization": f"Bearer {token.split()[-1]}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False, timeout=60) as http:
        answer = await http.post("/v1/mcp/adopt")
    assert answer.status_code == 200, answer.text
    assert answer.json()["done"]
    written = modes(state)
    assert {"actions.sqlite3", "mcp-servers.json"} <= written.keys()
    assert any(name.startswith("mcp-backups/") for name in written)
    assert set(written.values()) == {0o700, 0o600}
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    assert modes(config.parent)["mcp.json"] == 0o600


async def test_a_link_in_place_of_the_database_leads_nobody_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "actions.sqlite3").symlink_to(target)
    code, printed = await run(
        "actions", "token", "new", "--name", "me", environment={"DAEMONPULSE_ACTIONS_STATE": str(state)}
    )
    assert code == 2
    assert "Traceback" not in printed
    assert target.read_text() == "precious"
