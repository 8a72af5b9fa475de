"""The official Python SDK through the tap: every test of tests/conformance, with the tap's port as the daemon's."""

from tests.conformance import test_python_sdk
from tests.exporter.tap.conftest import TappedSimulator

_nothing_but_silence = test_python_sdk._nothing_but_silence
globals().update({name: value for name, value in vars(test_python_sdk).items() if name.startswith("test_")})


async def test_a_prediction_of_the_sdk_is_read_with_its_phases_and_counts(sim: TappedSimulator) -> None:
    await test_python_sdk.test_python_sdk_streams_a_response_with_reasoning_and_stats(sim)  # type: ignore[arg-type]
    await sim.tap.idle()
    (report,) = sim.tap.predictions()
    totals = sim.daemon.totals
    assert report.route == "ws predict"
    assert [phase.kind for phase in report.phases] == ["reasoning", "answer"]
    assert (report.usage.input, report.usage.output) == (totals.prompt_tokens, totals.generated_tokens)
    assert report.phases[0].tokens == totals.reasoning_tokens
    assert report.finish == "eosFound"


async def test_a_prediction_that_the_sdk_cancels_is_noted_as_cancelled(sim: TappedSimulator) -> None:
    await test_python_sdk.test_python_sdk_cancels_a_prediction(sim)  # type: ignore[arg-type]
    await sim.tap.idle()
    assert [(report.cancelled, report.finish) for report in sim.tap.predictions()] == [(True, "userStopped")]
