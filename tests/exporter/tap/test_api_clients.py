"""OpenAI's and Anthropic's clients through the tap: every test of tests/conformance, with the tap in between."""

from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from exporter.pipeline.output.segments import Kind
from tests.conformance import test_api_clients
from tests.exporter.tap.conftest import TappedSimulator

MODEL = test_api_clients.MODEL
globals().update({name: value for name, value in vars(test_api_clients).items() if name.startswith("test_")})


@pytest.fixture
def simulator(sim: TappedSimulator) -> TappedSimulator:
    return sim


@pytest.fixture
async def openai(sim: TappedSimulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic(sim: TappedSimulator) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=sim.url, api_key="none", max_retries=0) as client:
        yield client


async def test_a_streamed_response_is_read_with_its_phases_and_counts(
    sim: TappedSimulator, openai: AsyncOpenAI
) -> None:
    await test_api_clients.test_a_streamed_response_ends_with_what_its_deltas_said(openai)
    await sim.tap.idle()
    (report,) = sim.tap.predictions()
    totals = sim.daemon.totals
    assert [phase.kind for phase in report.phases] == [Kind.REASONING, Kind.ANSWER]
    assert (report.usage.input, report.usage.output) == (totals.prompt_tokens, totals.generated_tokens)
    assert report.usage.reasoning == totals.reasoning_tokens
    assert (report.route, report.model, report.finish) == ("/v1/responses", MODEL, "completed")


async def test_a_streamed_message_is_read_with_its_phases_and_counts(
    sim: TappedSimulator, anthropic: AsyncAnthropic
) -> None:
    await test_api_clients.test_a_streamed_message_is_put_together_by_the_client(anthropic)
    await sim.tap.idle()
    (report,) = sim.tap.predictions()
    totals = sim.daemon.totals
    assert [phase.kind for phase in report.phases] == [Kind.REASONING, Kind.ANSWER]
    assert (report.usage.input, report.usage.output) == (totals.prompt_tokens, totals.generated_tokens)
    assert (report.route, report.model, report.finish) == ("/v1/messages", MODEL, "end_turn")
