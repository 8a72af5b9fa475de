"""Answers that mislead: entries that are none, REST that says 500 in HTML, or 200 with an error."""

from collections.abc import Callable
from typing import Any

import pytest

from llmster_sim.server import SimConfig, Simulator
from tests.actions.commands.test_bad_days import begin_load, until
from tests.actions.conftest import SMALL, StartForge, loaded
from tests.faults.promises import assert_truthful, healed
from tests.system.conftest import StartExporter, daemon
from tests.system.test_bad_days import is_up

QWEN = "qwen/qwen3-8b"
TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"


def only(identifier: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """Change one entry of a list of instances."""
    return lambda listed: [change(one) if one["identifier"] == identifier else one for one in listed]


async def test_an_instance_that_cannot_be_read_is_not_shown_and_not_taken_for_unloaded(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await healed(exporter)
        sim.faults.alter("llm.listLoaded", only(QWEN, lambda _: {"type": "llm", "soul": 1}), times=3)
        for number in range(3):
            odd = await exporter.scrape()
            assert_truthful(odd)
            assert is_up(odd)
            assert odd.value("llmster_instance_info", instance_id=QWEN) is None
            assert odd.value("daemonpulse_unreadable_messages_total", kind="instance") == number + 1
        back = await healed(exporter)
    assert back.value("llmster_instance_info", instance_id=QWEN) == 1
    assert back.value("llmster_model_loads_total", model=QWEN) == 0
    for cause in ("ttl", "restart", "other"):
        assert back.value("llmster_model_unloads_total", model=QWEN, cause=cause) == 0


async def test_an_odd_field_of_an_instance_hides_that_field_and_not_the_instance(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        sim.faults.alter("llm.listLoaded", only(QWEN, lambda one: one | {"contextLength": "much"}))
        odd = await healed(exporter)
        assert odd.value("llmster_instance_info", instance_id=QWEN) == 1
        assert odd.value("llmster_instance_context_length_tokens", instance_id=QWEN) is None
        assert (odd.value("daemonpulse_unreadable_messages_total", kind="instance_field") or 0) > 0
        sim.faults.clear()
        back = await exporter.scrape()
    assert back.value("llmster_instance_context_length_tokens", instance_id=QWEN) is not None


REST: dict[str, Callable[[Simulator], None]] = {
    "HTTP 500 with a page": lambda sim: sim.faults.html("GET /api/*", status=500),
    "HTTP 200 with a page": lambda sim: sim.faults.html("GET /api/*", status=200),
    "HTTP 500 with an error": lambda sim: sim.faults.fail("GET /api/*"),
    "HTTP 200 with an error": lambda sim: sim.faults.raw(
        "GET /api/*", '{"error":"Unexpected endpoint or method. (GET /api/v0/models)"}'
    ),
    "HTTP 200 with half an answer": lambda sim: sim.faults.raw("GET /api/*", '{"data":[{"id":'),
    "a closed connection": lambda sim: sim.faults.close_mid_call("GET /api/*"),
}


@pytest.mark.parametrize("answer", REST)
async def test_whether_a_token_is_needed_is_unknown_and_not_no_when_rest_answers_nonsense(
    start_exporter: StartExporter, answer: str
) -> None:
    async with Simulator(SimConfig(scenario="idle", token=TOKEN)) as sim:
        REST[answer](sim)
        exporter = await start_exporter(daemon("box", sim.url, token=TOKEN))
        scraped = await healed(exporter)
        assert scraped.value("llmster_config_auth_required") is None
        sim.faults.clear()
        sim.faults.drop_connections()  # asked once per session
        await exporter.until(lambda scraped: scraped.value("llmster_config_auth_required") == 1)


@pytest.mark.parametrize("answer", ["HTTP 500 with a page", "HTTP 200 with an error"])
async def test_a_load_whose_socket_broke_is_not_given_up_while_rest_answers_nonsense(
    start_forge: StartForge, answer: str
) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        forge = await start_forge(sim)
        operation_id = await begin_load(forge, sim)
        REST[answer](sim)
        sim.faults.drop_connections()
        finding_out = forge.parts.service.operations.live[operation_id]
        await until(lambda: finding_out.phase == "recovering")
        looks = sim.calls["llm", "listLoaded"]
        await until(lambda: sim.calls["llm", "listLoaded"] >= looks + 4)
        assert not finding_out.is_finished
        sim.clock.advance(60)
        operation = await forge.operation(operation_id)
        assert operation["state"] == "done", operation
        assert SMALL in loaded(sim)
        assert sim.calls["llm", "loadModel"] == 1
        assert len(await forge.audit("outcome")) == len(await forge.audit("intent")) == 1
