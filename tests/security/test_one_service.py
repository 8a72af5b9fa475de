"""Two services on one state folder: the second one does not start, and harms nothing."""

import asyncio
from pathlib import Path

import pytest

from actions import app
from exporter.shared.settings_table import SettingsError
from tests.actions.conftest import settings
from tests.actions.mcp.conftest import Start, gate_of, rawbox, rule, start

__all__ = ["start"]


async def test_a_second_service_on_the_same_folder_is_refused_and_the_first_one_goes_on(
    start: Start, tmp_path: Path
) -> None:
    gate = await start(rawbox() + rule("ask"))
    async with gate.client("rawbox") as client:
        waiting = asyncio.create_task(client.call_tool("good", {}))
        (approval,) = await gate.pending()
        with pytest.raises(SettingsError, match="in use by another service"):
            await app.serve(settings(tmp_path / "state"))
        answer = await gate.admin.post(f"/v1/mcp/approvals/{approval['id']}/approve")
        assert answer.status_code == 200
        assert gate_of(await waiting)["approval"] == approval["id"]
