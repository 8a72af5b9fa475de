"""docs/INSTALL.md and the systemd units: what a reader copies is what works."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from exporter.catalogue import CATALOGUE
from exporter.settings import load
from tests.compose.test_configurations import leaves
from tests.external import FindTool

ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
KUBERNETES = "1.31"
UNITS = sorted((ROOT / "compose" / "systemd").glob("*.service"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", INSTALL, flags=re.DOTALL)


def block(language: str, word: str) -> str:
    [found] = [one for one in blocks(language) if word in one]
    return found


def manifests() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(block("yaml", "kind: DaemonSet"))}


def test_the_shell_lines_make_a_prometheus_rule_of_the_generated_rules(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["sh", "-euc", block("sh", "PrometheusRule")],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    made = yaml.safe_load((tmp_path / "daemonpulse-rules.yaml").read_text(encoding="utf-8"))
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    generated = [
        group
        for file in sorted((ROOT / "dashboards" / "generated" / "rules").glob("daemonpulse-*.yaml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]
    assert made["spec"]["groups"] == generated


def test_the_kubernetes_objects_find_each_other() -> None:
    kinds = manifests()
    assert kinds.keys() == {"DaemonSet", "Service", "ServiceMonitor"}
    template = kinds["DaemonSet"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert kinds["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    assert (
        kinds["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == kinds["Service"]["metadata"]["labels"]
    )
    [container] = template["spec"]["containers"]
    [port] = container["ports"]
    assert {one["port"] for one in kinds["ServiceMonitor"]["spec"]["endpoints"]} == {port["name"]}
    assert kinds["Service"]["spec"]["ports"] == [{"name": port["name"], "port": port["containerPort"]}]


@pytest.mark.parametrize("kind", ["DaemonSet", "Service"])
def test_kubernetes_own_schema_takes_the_objects_and_refuses_a_wrong_key(kind: str) -> None:
    manifest = manifests()[kind]
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="specs"):
        kubernetes_validate.validate(manifest | {"specs": {}}, KUBERNETES, strict=True)


def test_the_kubernetes_container_is_told_settings_there_are_and_paths_there_are() -> None:
    [container] = manifests()["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert (
        load({}, {key: value for key, value in told.items() if key.startswith("DAEMONPULSE_")}).listen_port
        == 9810
    )
    routes = (ROOT / "exporter" / "http" / "routes.py").read_text(encoding="utf-8")
    for probe in ("livenessProbe", "readinessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}": ' in routes


# Looked up in opentelemetry-collector: receiver/otlpreceiver/README.md, exporter/otlphttpexporter/README.md and, for
# its name, the changelog of 0.144; receiver/prometheusreceiver/README.md of opentelemetry-collector-contrib, which
# takes Prometheus' own configuration below `config`.
COLLECTOR_KEYS = {
    "receivers.otlp.protocols.http.endpoint",
    "receivers.prometheus.config",
    "exporters.otlp_http.endpoint",
    "service.pipelines.traces.receivers",
    "service.pipelines.traces.exporters",
    "service.pipelines.logs.receivers",
    "service.pipelines.logs.exporters",
    "service.pipelines.metrics.receivers",
    "service.pipelines.metrics.exporters",
}


@pytest.mark.external("promtool")
def test_the_collector_example_has_documented_keys_and_uses_what_it_defines(
    tmp_path: Path, external_tool: FindTool
) -> None:
    example = yaml.safe_load(block("yaml", "otlp_http"))
    asked = example["receivers"]["prometheus"]["config"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(asked))
    ran = subprocess.run(
        [external_tool("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    example["receivers"]["prometheus"]["config"] = None
    assert leaves(example) == COLLECTOR_KEYS
    for pipeline in example["service"]["pipelines"].values():
        assert set(pipeline["receivers"]) <= example["receivers"].keys()
        assert set(pipeline["exporters"]) <= example["exporters"].keys()


def test_every_file_and_metric_the_page_names_exists() -> None:
    for path in re.findall(r"\bcompose/[\w./-]+[\w-]", INSTALL):
        assert (ROOT / path).exists(), path
    names = {metric.name for metric in CATALOGUE}
    assert set(re.findall(r"\bllmster_\w+", INSTALL)) <= names


@pytest.mark.external("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit_and_finds_little_exposed(
    tmp_path: Path, external_tool: FindTool, unit: Path
) -> None:
    here = tmp_path / unit.name  # with a program that this host has
    text = unit.read_text(encoding="utf-8")
    here.write_text(text.replace("ExecStart=/opt/daemonpulse/bin/daemonpulse ", "ExecStart=/bin/true "))
    for command in (
        ["verify", "--man=no", str(here)],
        ["security", "--offline=yes", "--threshold=20", "--no-pager", str(here)],
    ):
        ran = subprocess.run(
            [external_tool("systemd-analyze"), *command], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert unit.name not in ran.stderr, "no warning either"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_there_is(unit: Path) -> None:
    [start] = re.findall(
        r"(?m)^ExecStart=/opt/daemonpulse/bin/daemonpulse (.*)$", unit.read_text(encoding="utf-8")
    )
    daemonpulse = Path(sys.executable).parent / "daemonpulse"
    ran = subprocess.run([daemonpulse, *start.split(), "--help"], capture_output=True, check=False)
    assert ran.returncode == 0


def test_the_completion_line_gives_a_script() -> None:
    [line] = re.findall(r'eval "\$\((.*?)\)"', INSTALL)
    ran = subprocess.run(
        ["sh", "-c", line],
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_daemonpulse_completion" in ran.stdout, ran.stderr
