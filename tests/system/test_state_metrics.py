"""What a scrape says about a daemon that is well: every state metric, the golden scrape, the polling budget."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from exporter.catalogue import CATALOGUE
from exporter.catalogue import daemon as state_metrics
from llmster_sim.server import SimConfig, Simulator
from tests.external import FindTool
from tests.system.conftest import StartExporter, daemon

GOLDEN = Path(__file__).parent.parent / "golden" / "metrics.txt"
UPDATE = "DAEMONPULSE_TEST_UPDATE"
_VOLATILE = re.compile(
    r"^((?:process_|llmster_snapshot_|daemonpulse_collector_duration_|daemonpulse_build_info|llmster_prompt_history_bytes)"
    r"[a-z_]*(?:\{.*\})?|llmster_instance_(?:last_used_timestamp|ttl_remaining)_seconds\{.*\}) .*$",
    re.MULTILINE,
)
_VERSIONS = re.compile(r'(daemonpulse_build_info)\{python="[^"]*",version="[^"]*"\}')


def masked(exposition: str) -> str:
    """Replace what differs from run to run by a word."""
    return _VERSIONS.sub(r'\1{python="P",version="V"}', _VOLATILE.sub(r"\1 VARIES", exposition))


def _by_hand(config: Any) -> Any:
    """Make a load configuration one that was set by hand: only then an offload ratio is in force."""
    return {"fields": [one for one in config["fields"] if "autoFit" not in one["key"]]}


async def test_every_catalogued_state_metric_is_served(tmp_path: Path, start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)) as sim:
        sim.faults.alter("llm.getLoadConfig", _by_hand)
        exporter = await start_exporter(daemon("box", sim.url, home=tmp_path, site="attic"))
        scraped = await exporter.scrape()
    missing = {row.name for row in state_metrics.ROWS} - scraped.names()
    assert not missing


async def test_every_served_metric_is_catalogued_with_its_labels(
    tmp_path: Path, start_exporter: StartExporter
) -> None:
    rows = {row.name: set(row.labels) for row in CATALOGUE}
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)) as sim:
        exporter = await start_exporter(daemon("box", sim.url, home=tmp_path))
        scraped = await exporter.scrape()
    assert scraped.samples
    for name, labels, _ in scraped.samples:
        assert set(labels) == rows[name], name


async def test_scrape_is_the_golden_one(tmp_path: Path, start_exporter: StartExporter) -> None:
    config = SimConfig(scenario="idle", home=tmp_path, manual_clock=True, seed=7)
    async with Simulator(config) as sim:
        exporter = await start_exporter(daemon("box", sim.url, home=tmp_path))
        text = masked((await exporter.get()).text)
    if os.environ.get(UPDATE) == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), f"run with {UPDATE}=1 if this change is meant"


async def test_promtool_has_nothing_to_say_about_a_scrape(
    tmp_path: Path, start_exporter: StartExporter, external_tool: FindTool
) -> None:
    promtool = external_tool("promtool")
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)) as sim:
        exporter = await start_exporter(daemon("box", sim.url, home=tmp_path))
        text = (await exporter.get()).text
    checked = subprocess.run(  # noqa: ASYNC221 - nothing else has to run meanwhile
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_openmetrics_is_served_to_who_asks_for_it(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        response = await exporter.get(accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in openmetrics_families(response.text)}  # type: ignore[no-untyped-call]
    assert {"llmster_up", "llmster_restarts"} <= families


async def test_values_are_those_of_the_simulated_daemon(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        scraped = await exporter.scrape()
    assert scraped.value("llmster_up", daemon="box") == 1
    assert scraped.state("box") == "running"
    assert scraped.value("llmster_build_info", version="0.4.24", kind="daemon") == 1
    assert scraped.value("llmster_instance_context_length_tokens", instance_id="qwen/qwen3-8b") == 8192
    assert scraped.value("llmster_instance_pinned", instance_id="qwen/qwen3-8b") == 1
    assert scraped.value("llmster_instance_pinned", instance_id="openai/gpt-oss-20b") == 0
    assert scraped.value("llmster_instance_ttl_seconds", instance_id="openai/gpt-oss-20b") == 3600
    assert scraped.value("llmster_instance_ttl_seconds", instance_id="qwen/qwen3-8b") is None
    assert scraped.value("llmster_instance_state", instance_id="qwen/qwen3-8b", state="idle") == 1
    assert scraped.value("llmster_instance_parallel", instance_id="qwen/qwen3-8b") == 4
    assert scraped.value("llmster_model_info", model="qwen/qwen3-32b", device="studio-mac") == 1
    assert scraped.value("llmster_link_peer_up", peer="studio-mac") == 1
    assert scraped.value("llmster_config_auth_required", daemon="box") == 0


async def test_a_scrape_costs_two_calls_and_one_per_instance_and_none_within_the_maximum_age(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url), max_age_s=30)
        await exporter.scrape()
        before = Counter(sim.calls)
        for _ in range(5):
            await exporter.scrape()
        assert Counter(sim.calls) == before
        fresh = await start_exporter(daemon("box", sim.url), max_age_s=0)
        await fresh.scrape()
        before = Counter(sim.calls)
        await fresh.scrape()
        spent = Counter(sim.calls) - before
    assert spent == {
        ("llm", "listLoaded"): 1,
        ("embedding", "listLoaded"): 1,
        ("llm", "getInstanceProcessingState"): 2,
        ("embedding", "getInstanceProcessingState"): 1,
    }


async def test_a_gzipped_scrape_is_the_same_scrape(start_exporter: StartExporter) -> None:
    async with Simulator(SimConfig(scenario="idle", manual_clock=True)) as sim:
        exporter = await start_exporter(daemon("box", sim.url), max_age_s=30)
        plain = await exporter.get(accept_encoding="identity")
        packed = await exporter.get(accept_encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert masked(packed.text) == masked(plain.text)


async def test_probe_serves_one_of_several_daemons_and_sd_leads_to_each(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as one, Simulator(SimConfig(scenario="idle")) as two:
        exporter = await start_exporter(daemon("one", one.url), daemon("two", two.url))
        everything = await exporter.scrape()
        only_two = await exporter.scrape("/probe?daemon=two")
        targets = (await exporter.get("/sd")).json()
        for target in targets:
            path = target["labels"]["__metrics_path__"] + "?daemon=" + target["labels"]["__param_daemon"]
            url = f"{target['labels']['__scheme__']}://{target['targets'][0]}{path}"
            assert (await exporter.http.get(url)).status_code == 200
        unknown = await exporter.get("/probe?daemon=three")
    assert everything.value("llmster_up", daemon="one") == everything.value("llmster_up", daemon="two") == 1
    assert only_two.value("llmster_up", daemon="two") == 1
    assert only_two.value("llmster_up", daemon="one") is None
    assert len(targets) == 2
    assert unknown.status_code == 400
    assert "one, two" in unknown.text


async def test_loads_and_unloads_are_counted_with_their_cause(start_exporter: StartExporter) -> None:
    config = SimConfig(scenario="idle", manual_clock=True)
    async with Simulator(config) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        first = await exporter.scrape()
        identifier = "qwen/qwen3-8b"
        sim.daemon.unload(identifier)
        second = await exporter.scrape()
    assert first.value("llmster_model_unloads_total", model=identifier, cause="other") == 0
    assert second.value("llmster_model_unloads_total", model=identifier, cause="other") == 1
    assert second.value("llmster_model_unloads_total", model=identifier, cause="ttl") == 0
    assert second.value("llmster_instance_info", instance_id=identifier) is None


async def test_the_daemons_estimate_is_asked_once_per_load_and_shown_beside_the_instance(
    start_exporter: StartExporter,
) -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        exporter = await start_exporter(daemon("box", sim.url))
        scraped = await exporter.scrape()
        await exporter.scrape()
        asked = sim.calls["llm", "estimateModelUsage"]
    loaded = {
        labels["instance_id"] for name, labels, _ in scraped.samples if name == "llmster_instance_parallel"
    }
    assert asked == len(loaded) == 2
    for instance_id in loaded:
        estimate = scraped.value("llmster_instance_vram_estimate_bytes", instance_id=instance_id)
        assert estimate is not None
        assert estimate > 1e9
