"""Our /metrics: every catalogued row is served, every served one is catalogued, and promtool finds no fault."""

import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from actions.metrics import Metrics
from exporter.catalogue import actions as rows
from tests.actions.conftest import BIG, SMALL, Forge
from tests.external import FindTool


async def exercised(forge: Forge) -> bytes:
    """Do one of everything, so that every series has a reason to be there."""
    await forge.load()
    await forge.load(BIG)
    await forge.post("probe", model=SMALL)
    await forge.post("probe", model="qwen/qwen3-8b")
    await forge.post("models/eject", instance_id=SMALL)
    await forge.post("probe", model=SMALL)
    return (await forge.http.get("/metrics")).content


async def test_every_catalogued_metric_is_served_and_no_other(forge: Forge) -> None:
    await exercised(forge)
    await forge.post("desired", wait=None, model=SMALL)
    group: dict[str, str | int] = {"name": "chat", "model": SMALL, "at_least": 1, "daemon": forge.name}
    assert (await forge.http.post("/v1/fleet/desired", params=group)).status_code == 200
    await forge.parts.reconcilers[0].tick()
    await forge.parts.fleet.tick()
    served = {family.name for family in text((await forge.http.get("/metrics")).text)}
    ours = {name for name in served if "_mcp_" not in name}
    assert ours == {row.name.removesuffix("_total") for row in rows.ROWS if "_mcp_" not in row.name}


async def test_both_formats_can_be_read(forge: Forge) -> None:
    response = await forge.http.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert list(openmetrics(response.text))  # type: ignore[no-untyped-call]


async def test_outcomes_are_counted_once_each(forge: Forge) -> None:
    await exercised(forge)
    counted = {
        (action, outcome): await forge.metric("daemonpulse_actions_total", action=action, outcome=outcome)
        for action, outcome in (("load", "done"), ("load", "denied"), ("probe", "done"), ("eject", "done"))
    }
    assert counted == {("load", "done"): 1, ("load", "denied"): 1, ("probe", "done"): 3, ("eject", "done"): 1}
    intents = await forge.metric("daemonpulse_audit_entries_total", kind="intent")
    assert intents == await forge.metric("daemonpulse_audit_entries_total", kind="outcome") == 5


@pytest.mark.external("promtool")
async def test_promtool_finds_no_fault(forge: Forge, external_tool: FindTool) -> None:
    body = await exercised(forge)
    ran = subprocess.run(  # noqa: ASYNC221 - a moment
        [external_tool("promtool"), "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, b"")


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        Metrics().count(rows.ACTIONS, "load")
