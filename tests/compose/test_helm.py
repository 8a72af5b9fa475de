"""The Helm chart by helm itself: it lints, renders for four sets of values, and Kubernetes' schemas take the result."""

import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from actions.settings import load as load_actions
from exporter.settings import load as load_exporter
from exporter.tap.settings import load as load_tap
from tests.external import FindTool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "compose" / "helm" / "daemonpulse"
KUBERNETES = "1.31"
DAEMONS = [
    {"name": "forge", "url": "https://forge.example.org:1234", "tokenSecret": "forge-token"},
    {"name": "attic.lan", "url": "http://attic.lan:1234", "tapUrl": "http://attic.lan:9812"},
]
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "nvidia": {
        "nodes": {
            "runtimeClassName": "nvidia",
            "daemon": {"name": "box", "tokenSecret": "box-token"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "env": {"DAEMONPULSE_LOG_FORMAT": "json"},
            "tap": {"enabled": True},
        },
        "otlp": {"endpoint": "http://collector:4318", "metrics": True, "headersSecret": "otlp"},
    },
    "remote": {"nodes": {"enabled": False}, "remote": {"enabled": True, "daemons": DAEMONS}},
    "everything": {
        "capture": "full",
        "liveTokenSecret": "live",
        "nodes": {
            "tap": {
                "enabled": True,
                "listen": ":2345",
                "clientsSecret": "clients",
                "clientHeader": "x-client",
                "env": {"DAEMONPULSE_LOG_LEVEL": "debug"},
            }
        },
        "remote": {"enabled": True, "daemons": DAEMONS},
        "actions": {
            "enabled": True,
            "daemons": DAEMONS,
            "prometheusUrl": "http://prometheus:9090",
            "grafanaUrl": "http://grafana:3000",
            "storage": {"storageClassName": "fast"},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "image": {"repository": "registry.example.org/daemonpulse", "pullSecrets": ["registry"]},
    },
}
LOAD: dict[str, Callable[..., Any]] = {"actions": load_actions, "exporter": load_exporter, "tap": load_tap}
pytestmark = pytest.mark.external("helm")


def helm(
    tool: Path, *words: str | Path, values: dict[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "values.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    chart = folder / "chart"
    subprocess.run([CHART.parent / "assemble", chart], check=True)
    return subprocess.run(
        [tool, *words, chart, "--values", folder / "values.yaml"], capture_output=True, text=True, check=False
    )


def rendered(tool: Path, values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    ran = helm(tool, "template", "pulse", values=values, folder=folder)
    assert ran.returncode == 0, ran.stderr
    return [one for one in yaml.safe_load_all(ran.stdout) if one]


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_nothing_to_lint(external_tool: FindTool, tmp_path: Path, name: str) -> None:
    ran = helm(external_tool("helm"), "lint", "--strict", values=VALUES[name], folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_own_schemas_take_what_is_rendered(
    external_tool: FindTool, tmp_path: Path, name: str
) -> None:
    objects = rendered(external_tool("helm"), VALUES[name], tmp_path)
    assert objects
    for one in objects:
        if not one["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_every_selector_finds_its_pods_and_every_service_a_port(
    external_tool: FindTool, tmp_path: Path
) -> None:
    objects = rendered(external_tool("helm"), VALUES["everything"], tmp_path)
    pods = [one["spec"]["template"] for one in objects if one["kind"] in {"DaemonSet", "Deployment"}]
    services = [one for one in objects if one["kind"] == "Service"]
    assert len(services) == len(pods) == 3
    for service in services:
        wanted = service["spec"]["selector"].items()
        (pod,) = (pod for pod in pods if wanted <= pod["metadata"]["labels"].items())
        ports = {port["name"] for box in pod["spec"]["containers"] for port in box["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    (monitor,) = (one for one in objects if one["kind"] == "ServiceMonitor")
    for service in services:
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_no_pod_may_more_than_it_needs(external_tool: FindTool, tmp_path: Path) -> None:
    objects = rendered(external_tool("helm"), VALUES["everything"], tmp_path)
    for one in objects:
        if one["kind"] in {"DaemonSet", "Deployment"}:
            spec = one["spec"]["template"]["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            for box in [*spec["containers"], *spec.get("initContainers", [])]:
                assert box["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                assert box["securityContext"]["readOnlyRootFilesystem"] is True
                assert {"limits", "requests"} <= box["resources"].keys()
                for variable in box.get("env", []):
                    secret = re.search(r"PASSWORD$|TOKEN$|SECRET$|HEADERS$", variable["name"])
                    assert secret is None or "secretKeyRef" in variable.get("valueFrom", {})


@pytest.mark.parametrize("name", VALUES)
def test_the_settings_are_ones_that_the_programs_take(
    external_tool: FindTool, tmp_path: Path, name: str
) -> None:
    objects = rendered(external_tool("helm"), VALUES[name], tmp_path)
    files = secret_files(tmp_path)
    for one in objects:
        if one["kind"] == "ConfigMap" and "daemonpulse.toml" in one["data"]:
            text = moved(one["data"]["daemonpulse.toml"], files)
            assert [daemon["name"] for daemon in tomllib.loads(text)["daemons"]] == ["forge", "attic.lan"]
            (tmp_path / "daemonpulse.toml").write_text(text)
    loaded = []
    for one in objects:
        if one["kind"] not in {"DaemonSet", "Deployment"}:
            continue
        spec = one["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for box in spec["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in box.get("volumeMounts", ())}
            assert set(mounts.values()) <= volumes
            environ = {
                variable["name"]: moved(variable.get("value", "x"), files)
                for variable in box["env"]
                if variable["name"].startswith("DAEMONPULSE_")
            }
            named = [variable.get("value", "") for variable in box["env"]]
            folders = {str(Path(value).parent) for value in named if value.startswith("/etc/daemonpulse/")}
            assert folders <= mounts.keys(), "every secret that is named is mounted"
            flags = {"config": str(tmp_path / "daemonpulse.toml")} if "--config" in box["args"] else {}
            settings = LOAD[box["args"][0]](flags, environ)
            assert settings.listen_port == box["ports"][0]["containerPort"]
            loaded.append((box, settings))
    assert loaded
    for box, settings in loaded:
        if box["args"] == ["tap"]:
            assert settings.reports_port == box["ports"][1]["containerPort"]
            (exporter,) = (own for other, own in loaded if other["args"] == ["exporter"])
            assert exporter.daemons[0].tap_url == f"http://{settings.reports_host}:{settings.reports_port}"
            assert settings.upstream_port == int(exporter.daemons[0].url.rpartition(":")[2])
    if name == "everything":
        assert [settings.live_token is not None for _, settings in loaded] == [True] * 4


def secret_files(folder: Path) -> dict[str, Path]:
    """Write what the Secrets of the values would hold, by the place where a pod finds it."""
    texts = {
        "/etc/daemonpulse/tokens/forge/token": "sk-lm-ABCDEFGH:ABCDEFGHIJKLMNOPQRST",
        "/etc/daemonpulse/token/token": "sk-lm-ABCDEFGH:ABCDEFGHIJKLMNOPQRST",
        "/etc/daemonpulse/live/token": "x" * 40,
        "/etc/daemonpulse/clients/clients": f"{'0' * 64} ci\n",
    }
    files = {place: folder / f"secret-{number}" for number, place in enumerate(texts)}
    for place, file in files.items():
        file.write_text(texts[place])
    return files


def moved(text: str, files: dict[str, Path]) -> str:
    for place, file in files.items():
        text = text.replace(place, str(file))
    return text


def test_clients_may_finish_before_a_pod_with_a_tap_is_killed(
    external_tool: FindTool, tmp_path: Path
) -> None:
    values = {"nodes": {"tap": {"enabled": True, "drainSeconds": 120}}}
    (pods,) = (one for one in rendered(external_tool("helm"), values, tmp_path) if one["kind"] == "DaemonSet")
    assert pods["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 120


def test_off_may_be_written_without_quotes(external_tool: FindTool, tmp_path: Path) -> None:
    objects = rendered(external_tool("helm"), {"capture": False}, tmp_path)
    assert "DAEMONPULSE_CAPTURE" not in yaml.safe_dump(objects)


@pytest.mark.external("promtool")
def test_promtool_takes_the_rendered_rules(external_tool: FindTool, tmp_path: Path) -> None:
    rules = [
        one
        for one in rendered(external_tool("helm"), VALUES["everything"], tmp_path)
        if one["kind"] == "PrometheusRule"
    ]
    assert rules
    for number, rule in enumerate(rules):
        file = tmp_path / f"rules-{number}.yaml"
        file.write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
        ran = subprocess.run(
            [external_tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"nodes": {"portt": 1}},
        {"nodes": {"daemon": {"url": "box:1234"}}},
        {"actions": {"enabled": True}},
        {"remote": {"enabled": True, "daemons": [{"name": "no url"}]}},
        {"actions": {"scope": "root"}},
        {"capture": "some"},
        {"liveTokenSecret": "live"},
        {"nodes": {"tap": {"listen": "1235"}}},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_refused(
    external_tool: FindTool, tmp_path: Path, values: dict[str, Any]
) -> None:
    ran = helm(external_tool("helm"), "template", "pulse", values=values, folder=tmp_path)
    assert ran.returncode != 0


def test_the_charts_version_is_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)
