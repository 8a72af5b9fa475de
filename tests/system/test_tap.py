"""The exporter, a tap and a simulated daemon together: who asked, counted once, in the caller's trace."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import lmstudio
import pytest

from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import attributes, otlp_sink
from tests.system.conftest import RunningExporter, Scraped, StartExporter, daemon
from tests.system.running_tap import running_tap

MODELS = ("qwen/qwen3-8b", "openai/gpt-oss-20b")
BURST = int(os.environ.get("DAEMONPULSE_TEST_TAP_BURST", "120"))
SPEED = 50.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@dataclass
class Together:
    simulator: Simulator
    url: str
    """Of the tap, for clients."""
    reports_url: str
    exporter: RunningExporter

    async def settled(self, **claims: int) -> Scraped:
        """Wait until as many predictions have been claimed as said, by outcome."""

        def holds(seen: Scraped) -> bool:
            return all(
                seen.value("daemonpulse_tap_claims_total", outcome=outcome) == count
                for outcome, count in claims.items()
            )

        return await self.exporter.until(holds, within_s=60 + BURST / 20)


@asynccontextmanager
async def together(start: StartExporter, **config: Any) -> AsyncIterator[Together]:
    async with (
        Simulator(SimConfig(**{"seed": 7, "scenario": "idle", "speed": SPEED, **config})) as simulator,
        running_tap(simulator) as (url, reports_url),
    ):
        watched = replace(daemon("local", simulator.url), tap_url=reports_url)
        exporter = await start(watched)
        await exporter.until(
            lambda seen: seen.value("daemonpulse_tap_up") == 1 and seen.value("llmster_log_stream_up") == 1
        )
        yield Together(simulator, url, reports_url, exporter)


def total(seen: Scraped, name: str, **labels: str) -> float:
    return sum(
        value for sample, own, value in seen.samples if sample == name and labels.items() <= own.items()
    )


async def ask(http: httpx.AsyncClient, number: int) -> str:
    """Send one of many kinds of request; return the client it counts for."""
    client = ("ci", "chat")[number % 2]
    headers = {"authorization": f"Bearer key-{client}"}
    model = MODELS[number % 3 == 0]
    stream = number % 5 < 3
    body: dict[str, Any] = {"model": model, "stream": stream, "max_tokens": 20 + number % 50}
    if number % 7 == 0:
        path, body = "/api/v1/chat", {"model": model, "stream": stream, "input": f"Question {number}"}
    elif number % 7 == 2:
        path, body = "/v1/responses", {"model": model, "stream": stream, "input": f"Question {number}"}
    elif number % 7 == 3:
        path, body["messages"] = "/v1/messages", [{"role": "user", "content": f"Question {number}"}]
    elif number % 7 == 1:
        path, body["prompt"] = "/v1/completions", f"Once {number}"
    else:
        path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": f"Question {number}"}]
    response = await http.post(path, json=body, headers=headers)
    assert response.status_code == 200
    return client


@pytest.mark.timeout(180 + BURST // 10)
async def test_a_burst_is_counted_once_and_its_tokens_by_client_are_the_daemons(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with together(start_exporter) as all_of:
        # Of an output that the daemon logs without counts, a stream without usage does not tell them either.
        monkeypatch.setattr(all_of.simulator.daemon, "keeps_stats", lambda _task: True)
        limit = asyncio.Semaphore(16)

        async def one(number: int) -> str:
            async with limit:
                return await ask(http, number)

        async with httpx.AsyncClient(base_url=all_of.url, timeout=120, trust_env=False) as http:
            asked = Counter(await asyncio.gather(*map(one, range(BURST))))
        totals = all_of.simulator.daemon.totals
        seen = await all_of.settled(matched=BURST, log_only=0, unmatched=0, tap_only=0)

        assert totals.predictions == BURST
        assert total(seen, "llmster_request_success_total") == BURST
        assert total(seen, "llmster_generation_tokens_total") == totals.generated_tokens
        assert total(seen, "daemonpulse_tap_tokens_total", type="input") == totals.prompt_tokens
        assert total(seen, "daemonpulse_tap_tokens_total", type="output") == totals.generated_tokens
        for client, requests in asked.items():
            assert total(seen, "daemonpulse_tap_requests_total", client=client) == requests
        assert total(seen, "daemonpulse_tap_reasoning_estimate_error_ratio_count") > 0
        assert total(seen, "daemonpulse_tap_unread_total") == 0


async def test_what_goes_past_the_tap_counts_as_well_and_has_no_client(start_exporter: StartExporter) -> None:
    async with together(start_exporter) as all_of:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            body = {"model": MODELS[0], "prompt": "Once", "max_tokens": 5}
            await http.post(f"{all_of.simulator.url}/v1/completions", json=body)
        seen = await all_of.settled(log_only=1, matched=0)
    assert total(seen, "llmster_request_success_total") == 1
    assert seen.value("daemonpulse_tap_tokens_total", type="output") is None


async def test_a_prediction_of_the_sdk_is_one_trace_with_exact_phases_below_the_callers_span(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with together(start_exporter) as all_of:
            async with httpx.AsyncClient(base_url=all_of.url, timeout=60, trust_env=False) as http:
                body = {"model": MODELS[0], "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
                headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "authorization": "Bearer key-ci"}
                await http.post("/v1/chat/completions", json=body, headers=headers)
            await all_of.settled(matched=1)
            async with lmstudio.AsyncClient(all_of.url.removeprefix("http://")) as client:
                model = await client.llm.model(MODELS[0])
                await model.respond("Say something.")
            await all_of.settled(matched=2)
            await all_of.exporter.until(
                lambda _: sum(s.name.startswith("chat ") for s in received.spans) == 2
            )
        spans = list(received.spans)
    roots = [span for span in spans if span.name.startswith("chat ")]
    assert len(roots) == 2
    joined = next(span for span in roots if span.trace_id.hex() == TRACE)
    assert joined.parent_span_id.hex() == PARENT
    assert attributes(joined.attributes)["daemonpulse.client"] == "ci"
    assert attributes(joined.attributes)["daemonpulse.timing"] == "exact"
    parts = [span for span in spans if span.parent_span_id == joined.span_id]
    # A busy host may pass it on late, which shows as a queue.
    assert [span.name for span in parts if span.name != "queue"] == ["prefill", "reasoning", "answer"]
    assert {span.trace_id.hex() for span in parts} == {TRACE}
    starts = [joined.start_time_unix_nano, *(span.start_time_unix_nano for span in parts)]
    assert starts == sorted(starts)
    assert parts[-1].end_time_unix_nano <= joined.end_time_unix_nano
    other = next(span for span in roots if span is not joined)
    assert other.parent_span_id == b""


async def test_embeddings_are_spans_of_their_own(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        async with together(start_exporter) as all_of, httpx.AsyncClient(timeout=60, trust_env=False) as http:
            body = {"model": "text-embedding-nomic-embed-text-v1.5", "input": ["a b c", "d"]}
            headers = {"authorization": "Bearer key-ci", "traceparent": f"00-{TRACE}-{PARENT}-01"}
            answer = await http.post(f"{all_of.url}/v1/embeddings", json=body, headers=headers)
            tokens = answer.json()["usage"]["prompt_tokens"]
            await all_of.exporter.until(lambda _: bool(received.spans))
            server = urlsplit(all_of.simulator.url)
        (span,) = received.spans
    told = attributes(span.attributes)
    assert span.name == f"embeddings {body['model']}"
    assert (told["gen_ai.operation.name"], told["gen_ai.usage.input_tokens"]) == ("embeddings", tokens)
    assert (told["server.address"], told["server.port"]) == (server.hostname, server.port)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


async def test_a_tap_that_is_away_costs_what_only_it_knows(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(seed=7, scenario="idle", speed=SPEED)) as simulator:
        watched = replace(daemon("local", simulator.url), tap_url="http://127.0.0.1:9")
        exporter = await start_exporter(watched)
        await exporter.until(lambda seen: seen.value("llmster_log_stream_up") == 1)
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            body = {"model": MODELS[0], "prompt": "Once", "max_tokens": 5}
            await http.post(f"{simulator.url}/v1/completions", json=body)
        seen = await exporter.until(lambda seen: total(seen, "llmster_request_success_total") == 1)
    assert seen.value("daemonpulse_tap_up") == 0
    assert seen.value("daemonpulse_tap_connections") is None
    assert seen.value("daemonpulse_tap_claims_total", outcome="log_only") == 1


async def test_reports_are_given_to_no_page_of_another_name_and_hold_no_content(
    start_exporter: StartExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with together(start_exporter) as all_of, httpx.AsyncClient(trust_env=False) as http:
        body = {"model": MODELS[0], "prompt": "CANARY", "max_tokens": 5}
        await http.post(f"{all_of.url}/v1/completions", json=body, headers={"authorization": "Bearer key-ci"})
        batch = (await http.get(f"{all_of.reports_url}/reports")).json()
        again = (await http.get(f"{all_of.reports_url}/reports", params={"boot": batch["boot"]})).text
        seen = await all_of.settled(matched=1)
        doors = [again, repr(seen.samples), caplog.text]
        doors += [(await all_of.exporter.get(path)).text for path in ("/", "/live", "/sd", "/readyz")]
        assert '"client":"ci"' in again
        assert [door for door in doors if "CANARY" in door or "key-ci" in door] == []
        stranger = await http.get(f"{all_of.reports_url}/reports", headers={"host": "evil.example"})
        assert stranger.status_code == 421
        assert (await http.get(f"{all_of.reports_url}/healthz")).json()["status"] == "ok"
        assert (await http.get(f"{all_of.reports_url}/else")).status_code == 404
        assert (await http.post(f"{all_of.reports_url}/reports")).status_code == 405
        assert (await http.get(f"{all_of.reports_url}/reports?after=x")).status_code == 400
