"""Send the recorded REST requests to the simulator: status, content type and shape must be as recorded."""

import json
from typing import Any

import httpx
import pytest

from llmster_sim.engine.daemon import Settings
from llmster_sim.server import SimConfig, Simulator
from tests import recorded
from tests.conformance.conftest import SPEED
from tests.conformance.shapes import differences

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
WITH_TOKEN = {"401", "with token"}


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Read a server-sent event stream; runs of the same event are one."""
    events: list[tuple[str, dict[str, Any]]] = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        if not events or events[-1][0] != event[0]:
            events.append(event)
    return events


async def _send(sim: Simulator, request: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": request["authorization"]} if "authorization" in request else {}
    async with httpx.AsyncClient(base_url=sim.url, headers=headers) as client:
        return await client.request(request["method"], request["path"], json=request.get("body"))


@pytest.mark.parametrize("name", recorded.exchanges())
async def test_simulator_answers_a_recorded_request(name: str) -> None:
    exchange = recorded.exchanges()[name]
    expected = exchange["response"]
    config = SimConfig(
        seed=7,
        scenario="idle",
        speed=SPEED,
        port=0,
        token=TOKEN if name in WITH_TOKEN else None,
        settings=Settings(guardrail="off"),
    )
    async with Simulator(config) as sim:
        response = await _send(sim, exchange["request"])
    assert response.status_code == expected["status"]
    assert response.headers["content-type"].split(";")[0] == expected["content_type"].split(";")[0]
    if "body" in expected:
        assert list(differences(expected["body"], response.json())) == []
        return
    recorded_events, events = _events(expected["text"]), _events(response.text)
    assert [event for event, _ in events] == [event for event, _ in recorded_events]
    for (_, recorded_data), (_, data) in zip(recorded_events, events, strict=True):
        assert list(differences(recorded_data, data)) == []
