"""Every prediction of a simulated daemon as metrics, traces and logs: whole, exact, bounded and private."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from exporter.catalogue import log_stream as m
from llmster_sim.server import SimConfig, Simulator
from tests.otlp_sink import Received, attributes, otlp_sink
from tests.system.conftest import RunningExporter, Scraped, Scraper, StartExporter, daemon

CANARY = "KANARIENVOGEL"


def total(scraped: Scraped, name: str, **labels: str) -> float:
    return sum(
        value for sample, own, value in scraped.samples if sample == name and labels.items() <= own.items()
    )


async def stream_open(exporter: Scraper) -> None:
    """Wait until the log stream is read: what was logged before is never seen."""
    await exporter.until(lambda scraped: scraped.value("llmster_log_stream_up") == 1)


async def all_seen(exporter: RunningExporter, sim: Simulator, *, within_s: float = 30) -> Scraped:
    """Wait until every prediction the simulator logged was counted."""
    expected = sim.daemon.totals.logged_predictions
    return await exporter.until(
        lambda scraped: total(scraped, m.REQUESTS.name) >= expected, within_s=within_s
    )


async def play(sim: Simulator, seconds: float) -> None:
    """Let simulated time pass, in steps that leave room for the sockets."""
    for _ in range(round(seconds)):
        sim.clock.advance(1)
        await asyncio.sleep(0)


@pytest.mark.parametrize("scenario", ["steady", "agent", "burst"])
async def test_token_sums_are_exactly_those_the_simulator_logged(
    start_exporter: StartExporter, scenario: str
) -> None:
    async with Simulator(SimConfig(scenario=scenario, manual_clock=True, seed=11)) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        before = sim.daemon.totals.logged_predictions
        assert before == 0
        await play(sim, 600)
        scraped = await all_seen(exporter, sim)
        totals = sim.daemon.totals
    assert totals.logged_predictions > 10
    assert total(scraped, m.REQUESTS.name) == totals.logged_predictions
    assert total(scraped, m.PROMPT_TOKENS.name) == totals.logged_prompt_tokens
    assert total(scraped, m.GENERATION_TOKENS.name) == totals.logged_generated_tokens
    assert total(scraped, m.E2E.name + "_count") <= totals.logged_with_stats


async def test_every_engine_that_dies_is_counted_once(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="crash", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        await play(sim, 400)
        died = sim.daemon.totals.crashes
        scraped = await exporter.until(
            lambda scraped: total(scraped, m.ENGINE_CRASHES.name, when="running") >= died
        )
    assert died >= 2
    assert total(scraped, m.ENGINE_CRASHES.name, when="running") == died


async def test_a_burst_of_ten_thousand_predictions_loses_none(start_exporter: StartExporter) -> None:
    config = SimConfig(scenario="idle", manual_clock=True)
    async with Simulator(config) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        for number in range(10_000):
            stats = {
                "stopReason": "eosFound",
                "tokensPerSecond": 50,
                "timeToFirstTokenSec": 0.1,
                "promptTokensCount": 7,
                "predictedTokensCount": 5,
                "totalTokensCount": 12,
            }
            data = {
                "type": "llm.prediction.output",
                "output": "x" * 100,
                "stats": stats,
                "modelIdentifier": "qwen/qwen3-8b",
            }
            log = {"timestamp": 1_790_000_000_000 + number, "data": data}
            frame = {"type": "channelSend", "channelId": 0, "message": {"type": "log", "log": log}}
            sim.faults.send_raw(json.dumps(frame))
        scraped = await exporter.until(lambda scraped: total(scraped, m.REQUESTS.name) >= 10_000, within_s=60)
    assert total(scraped, m.REQUESTS.name) == 10_000
    assert total(scraped, m.PROMPT_TOKENS.name) == 70_000
    assert total(scraped, m.GENERATION_TOKENS.name) == 50_000


def output_frame(output: str, number: int = 0) -> str:
    """A log frame of one finished prediction."""
    stats = {
        "stopReason": "eosFound",
        "tokensPerSecond": 50,
        "timeToFirstTokenSec": 0.1,
        "promptTokensCount": 7,
    }
    data = {
        "type": "llm.prediction.output",
        "output": output,
        "stats": stats | {"predictedTokensCount": 100},
        "modelIdentifier": "qwen/qwen3-8b",
    }
    log = {"timestamp": 1_790_000_000_000 + number, "data": data}
    return json.dumps({"type": "channelSend", "channelId": 0, "message": {"type": "log", "log": log}})


async def test_outputs_of_five_megabytes_are_counted_like_any_other(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        for number in range(4):
            sim.faults.send_raw(
                output_frame("<think>" + "why? " * 500_000 + "</think>" + "so. " * 600_000, number)
            )
        scraped = await exporter.until(lambda scraped: total(scraped, m.REQUESTS.name) == 4)
        assert scraped.value("llmster_up") == 1
    reasoning = total(scraped, m.REASONING_TOKENS.name)
    assert reasoning == 4 * round(100 * 2_500_000 / 4_900_000)


async def test_tags_of_a_model_we_do_not_know_count_as_reasoning_by_setting(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url), reasoning_tags=(("<mull>", "</mull>"),))
        await stream_open(exporter)
        sim.faults.send_raw(output_frame("<mull>12345</mull>12345"))
        scraped = await exporter.until(lambda scraped: total(scraped, m.REQUESTS.name) == 1)
    assert total(scraped, m.REASONING_TOKENS.name) == 50


async def test_an_agent_run_arrives_whole_at_an_otlp_receiver(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        async with Simulator(SimConfig(scenario="agent", manual_clock=True, seed=3)) as sim:
            exporter = await start_exporter(daemon("box", sim.url))
            await stream_open(exporter)
            await play(sim, 400)
            scraped = await all_seen(exporter, sim)
            await exporter.until(lambda s: spans_settled(s, received))
            totals = sim.daemon.totals
    roots = [span for span in received.spans if not span.parent_span_id]
    assert len(roots) == totals.logged_predictions == total(scraped, m.REQUESTS.name)
    ids = {span.span_id for span in received.spans}
    assert len(ids) == len(received.spans), "every span has an id of its own"
    for span in received.spans:
        assert span.end_time_unix_nano >= span.start_time_unix_nano
        if span.parent_span_id:
            assert span.parent_span_id in ids
            root = next(root for root in roots if root.trace_id == span.trace_id)
            assert root.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= root.end_time_unix_nano
    names = Counter(span.name.split()[0] for span in received.spans)
    assert names["prefill"] > 0
    assert names["reasoning"] > 0
    assert names["tool_call"] > 0
    conversations = Counter(str(attributes(root.attributes).get("gen_ai.conversation.id")) for root in roots)
    assert max(conversations.values()) >= 3, "turns of an agent run share a conversation"
    linked = [root for root in roots if root.links]
    assert linked
    assert all(link.span_id in ids for root in linked for link in root.links)
    usage = sum(int(str(attributes(root.attributes).get("gen_ai.usage.output_tokens", 0))) for root in roots)
    assert usage == totals.logged_generated_tokens
    assert {resource["service.name"] for resource in received.resources} == {"llmster"}
    assert received.records, "the console arrives too"
    documented = (Path(__file__).parent.parent.parent / "docs" / "TRACES.md").read_text(encoding="utf-8")
    sent = {pair.key for span in received.spans for pair in span.attributes}
    sent |= {pair.key for record in received.records for pair in record.attributes}
    undocumented = {name for name in sent if f"`{name}" not in documented}
    assert not undocumented


def spans_settled(scraped: Scraped, received: Received) -> bool:
    """All spans of all counted predictions went out, and were received."""
    exported = scraped.value("daemonpulse_otlp_spans_exported_total")
    roots = sum(1 for span in received.spans if not span.parent_span_id)
    return roots == total(scraped, m.REQUESTS.name) and exported == len(received.spans)


async def test_no_content_and_no_token_leaves_by_any_door_with_capture_off(
    start_exporter: StartExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    token = "sk-lm-Ab3dE6gH:KANARIENVOGELSECRET1"
    with otlp_sink() as received:
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        async with Simulator(
            SimConfig(scenario="idle", manual_clock=True, token=token, home=tmp_path)
        ) as sim:
            exporter = await start_exporter(daemon("box", sim.url, token=token, home=tmp_path))
            await stream_open(exporter)
            for event in canary_events():
                frame = {"type": "channelSend", "channelId": 0, "message": {"type": "log", "log": event}}
                sim.faults.send_raw(json.dumps(frame))
            sim.faults.send_raw('{"type":"communicationWarning","warning":"' + CANARY + '"}')
            sim.faults.send_raw("{" + CANARY)
            await exporter.until(lambda scraped: total(scraped, m.EVENTS.name) >= len(canary_events()))
            await exporter.until(lambda scraped: spans_settled(scraped, received))
            doors = [
                (await exporter.get(path)).text
                for path in ("/metrics", "/", "/sd", "/readyz", "/probe?daemon=box")
            ]
            doors.append((await exporter.get(accept="application/openmetrics-text;version=1.0.0")).text)
    assert received.spans
    assert len(received.records) >= 3
    doors += [caplog.text, b"".join(received.bodies).decode("latin-1")]
    for door in doors:
        assert CANARY not in door
        assert "Ab3dE6gH:" not in door


def canary_events() -> list[dict[str, object]]:
    """Log events with the canary wherever a daemon puts content."""
    stats = {
        "stopReason": "eosFound",
        "tokensPerSecond": 50,
        "timeToFirstTokenSec": 0.1,
        "promptTokensCount": 7,
        "predictedTokensCount": 5,
    }
    call = '<tool_call>\n{"name": "search", "arguments": {"q": "' + CANARY + '"}}\n</tool_call>'
    runtime = {"engineName": "llama.cpp", "engineVersion": "2", "engineType": "llama.cpp"}
    data: list[dict[str, object]] = [
        {
            "type": "llm.prediction.input",
            "input": f"user: {CANARY}",
            "modelPath": "p",
            "modelIdentifier": "m",
        },
        {
            "type": "llm.prediction.output",
            "output": f"<think>{CANARY}</think>{CANARY} {call}",
            "stats": stats,
            "modelIdentifier": "m",
        },
        {
            "type": "server.log",
            "level": "debug",
            "content": "[2026-08-08 22:40:13][DEBUG] Received request: POST to "
            '/v1/chat/completions with body {\n "prompt": "' + CANARY + '"}',
        },
        {
            "type": "server.log",
            "level": "info",
            "content": f"[2026-08-08 22:40:13][INFO][m] Generated prediction: {CANARY}",
        },
        {
            "type": "server.log",
            "level": "error",
            "content": f"[2026-08-08 22:40:13][ERROR][Plugin(mcp/x)] stderr: {CANARY}",
        },
        {"type": "runtime.log", "level": "debug", "message": f'request: "{CANARY}"', **runtime},
    ]
    return [{"timestamp": 1_790_000_000_000 + number, "data": one} for number, one in enumerate(data)]


async def test_a_dead_receiver_is_noticed_by_nobody_but_the_count_of_losses(
    start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_sink() as received:
        received.status = 400  # refused for good, so that the SDK does not try again for seconds
        for name, value in received.environment().items():
            monkeypatch.setenv(name, value)
        async with Simulator(SimConfig(scenario="steady", manual_clock=True)) as sim:
            exporter = await start_exporter(daemon("box", sim.url))
            await stream_open(exporter)
            await play(sim, 300)
            scraped = await all_seen(exporter, sim)
            assert total(scraped, m.REQUESTS.name) == sim.daemon.totals.logged_predictions
            lost = await exporter.until(
                lambda scraped: (scraped.value("daemonpulse_otlp_spans_failed_total") or 0) > 0
            )
            assert lost.value("daemonpulse_otlp_spans_exported_total") == 0
            received.status = 200
            await play(sim, 120)
            await exporter.until(
                lambda scraped: (scraped.value("daemonpulse_otlp_spans_exported_total") or 0) > 0
            )


async def test_a_dropped_stream_is_opened_again_and_its_gap_is_counted(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        await sim.restart()
        scraped = await exporter.until(
            lambda scraped: (
                scraped.value("llmster_log_stream_up") == 1
                and scraped.value("llmster_log_stream_disconnects_total") == 1
            )
        )
    gap_s = scraped.value("llmster_log_stream_gap_seconds_total")
    assert gap_s is not None
    assert gap_s > 0


async def test_slots_of_the_engine_show_while_they_work(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)
        request = {
            "model": "qwen/qwen3-8b",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 400,
        }
        asking = asyncio.create_task(exporter.http.post(sim.url + "/v1/chat/completions", json=request))

        def some_time_later(scraped: Scraped) -> bool:
            sim.clock.advance(0.1)
            return total(scraped, m.SLOT_BUSY.name) == 1

        scraped = await exporter.until(some_time_later)
        assert scraped.value("llmster_slots", instance_id="qwen/qwen3-8b") is not None

        def all_idle(scraped: Scraped) -> bool:
            sim.clock.advance(1)
            return total(scraped, m.SLOT_BUSY.name) == 0

        scraped = await exporter.until(all_idle)
        assert (await asking).status_code == 200
    assert scraped.value("llmster_slot_tokens_per_second") is None, "an idle slot has no rate"
    assert scraped.value("llmster_log_last_progress_timestamp_seconds") is not None


async def test_an_output_without_reasoning_counts_as_0_where_the_daemon_says_that_the_model_reasons(
    start_exporter: StartExporter,
) -> None:
    reasons, does_not = "qwen/qwen3-8b", "google/gemma-3-12b"

    def says(key: str) -> None:
        data = {
            "type": "llm.prediction.output",
            "modelIdentifier": key,
            "output": "Forty-two.",
            "stats": {"stopReason": "eosFound", "predictedTokensCount": 4, "tokensPerSecond": 10},
        }
        sim.daemon.log({"timestamp": sim.clock.now_ms, "data": data})

    async with Simulator(SimConfig(scenario="idle")) as sim:
        sim.daemon.load(does_not, instant=True)
        exporter = await start_exporter(daemon("box", sim.url))
        await stream_open(exporter)

        def known(scraped: Scraped) -> bool:
            says(reasons)  # the daemon is asked in the background
            return scraped.value(m.REASONING_TOKENS.name, model=reasons) == 0

        await exporter.until(known)
        says(does_not)
        scraped = await exporter.until(
            lambda scraped: scraped.value(m.GENERATION_TOKENS.name, model=does_not) == 4
        )
    assert scraped.value(m.REASONING_TOKENS.name, model=does_not) is None
