"""The stack's configuration files, by the programs that read them where Debian has those, else key by key."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemonpulse.demo import stack
from tests.external import FindTool

COMPOSE = Path(__file__).parents[2] / "compose"

# Looked up in docs/sources/tempo/configuration/manifest.md of grafana/tempo at v3.0.3, which lists every key. The keys
# below distributor.receivers are those of OpenTelemetry's OTLP receiver, as in
# example/docker-compose/single-binary/tempo.yaml of the same sources.
TEMPO_KEYS = {
    "server.http_listen_address",
    "server.http_listen_port",
    "server.grpc_listen_address",
    "server.grpc_listen_port",
    "server.log_level",
    "distributor.receivers.otlp.protocols.http.endpoint",
    "storage.trace.backend",
    "storage.trace.wal.path",
    "storage.trace.local.path",
    "live_store.wal.path",
    "live_store.shutdown_marker_dir",
    "backend_scheduler.local_work_path",
    "backend_worker.compaction.block_retention",
    "backend_worker.finish_on_shutdown_timeout",
    "usage_report.reporting_enabled",
}

# Looked up in docs/sources/shared/configuration.md of grafana/loki at v3.7.6; their places are as in
# cmd/loki/loki-docker-config.yaml of the same sources.
LOKI_KEYS = {
    "auth_enabled",
    "server.http_listen_address",
    "server.http_listen_port",
    "server.grpc_listen_address",
    "server.grpc_listen_port",
    "server.log_level",
    "common.instance_addr",
    "common.path_prefix",
    "common.replication_factor",
    "common.ring.kvstore.store",
    "common.storage.filesystem.chunks_directory",
    "common.storage.filesystem.rules_directory",
    "storage_config.use_thanos_objstore",
    "schema_config.configs.from",
    "schema_config.configs.store",
    "schema_config.configs.object_store",
    "schema_config.configs.schema",
    "schema_config.configs.index.prefix",
    "schema_config.configs.index.period",
    "limits_config.retention_period",
    "compactor.working_directory",
    "compactor.retention_enabled",
    "compactor.delete_request_store",
    "analytics.reporting_enabled",
}


def expanded(text: str, variables: dict[str, str]) -> str:
    """Fill in ${NAME:-default} as Tempo and Loki do under -config.expand-env=true."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)


def leaves(value: Any, path: str = "") -> set[str]:
    """Give the dotted paths of all values; the entries of a list share one."""
    if isinstance(value, dict):
        return {leaf for key, own in value.items() for leaf in leaves(own, f"{path}.{key}".lstrip("."))}
    if isinstance(value, list):
        return {leaf for own in value for leaf in leaves(own, path)}
    return {path}


def read(file: str, **variables: str) -> Any:
    return yaml.safe_load(expanded((COMPOSE / file).read_text(encoding="utf-8"), variables))


@pytest.mark.parametrize(("file", "keys"), [("tempo/tempo.yaml", TEMPO_KEYS), ("loki/loki.yaml", LOKI_KEYS)])
def test_every_key_is_one_its_program_documents(file: str, keys: set[str]) -> None:
    assert leaves(read(file)) == keys


@pytest.mark.parametrize("name", ["tempo", "loki"])
def test_the_demo_tells_the_same_file_its_ports_and_stays_on_loopback(tmp_path: Path, name: str) -> None:
    program = stack.tempo(tmp_path, otlp_port=4444) if name == "tempo" else stack.loki(tmp_path)
    variables = dict(program.environment(3333))
    file = f"{name}/{name}.yaml"
    assert program.arguments(3333)[-1] == f"-config.file={COMPOSE / file}"
    used = set(re.findall(r"\$\{(\w+):-", (COMPOSE / file).read_text(encoding="utf-8")))
    assert used == variables.keys()
    told = read(file, **variables)
    assert told["server"]["http_listen_address"] == told["server"]["grpc_listen_address"] == "127.0.0.1"
    assert told["server"]["http_listen_port"] == 3333
    if name == "tempo":
        assert told["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"] == "127.0.0.1:4444"
    assert not re.search(rf"(?<!{re.escape(str(tmp_path))})/(var|loki)\b", yaml.safe_dump(told))


def test_the_containers_ports_are_those_the_compose_file_names() -> None:
    compose = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    otlp = read("tempo/tempo.yaml")["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert f"http://tempo:{otlp.rpartition(':')[2]}/v1/traces" in compose
    assert f"http://tempo:{read('tempo/tempo.yaml')['server']['http_listen_port']}\n" in compose
    assert f"http://loki:{read('loki/loki.yaml')['server']['http_listen_port']}/otlp/v1/logs" in compose


def test_nothing_is_reported_to_anybody() -> None:
    assert read("tempo/tempo.yaml")["usage_report"] == {"reporting_enabled": False}
    assert read("loki/loki.yaml")["analytics"] == {"reporting_enabled": False}


@pytest.mark.external("promtool")
def test_promtool_accepts_prometheus_configuration_and_rules(external_tool: FindTool, tmp_path: Path) -> None:
    shutil.copytree(COMPOSE / "prometheus", tmp_path / "prometheus")
    shutil.copytree(COMPOSE.parent / "dashboards" / "generated" / "rules", tmp_path / "prometheus-rules")
    ran = subprocess.run(
        [external_tool("promtool"), "check", "config", tmp_path / "prometheus" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "rules found" in ran.stdout


@pytest.mark.parametrize("name", ["amtool", "amtool-newest"])
def test_amtool_accepts_alertmanagers_configuration(
    tmp_path: Path, external_tool: FindTool, name: str
) -> None:
    amtool = external_tool(name)

    def check(file: Path) -> None:
        ran = subprocess.run([amtool, "check-config", file], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    stack.alertmanager(tmp_path, webhook="http://127.0.0.1:1/")
    file = tmp_path / "alertmanager" / "alertmanager.yml"
    check(file)
    if name == "amtool-newest":  # Debian's knows no url_file
        check(COMPOSE / "alertmanager" / "alertmanager.yml")
    shipped = (COMPOSE / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8").splitlines()
    differs = [line for line in file.read_text(encoding="utf-8").splitlines() if line not in shipped]
    assert differs == ["      - url: http://127.0.0.1:1/"], "the rest is the very file of the stack"


def test_alertmanagers_secret_is_the_one_the_compose_file_mounts() -> None:
    shipped = read("alertmanager/alertmanager.yml")
    # url_file: notify/webhook/config.go of prometheus/alertmanager at v0.34.0; there since 0.26.
    [webhook] = shipped["receivers"][0]["webhook_configs"]
    name = webhook["url_file"].removeprefix("/run/secrets/")
    assert name in read("compose.yaml")["services"]["alertmanager"]["secrets"]
    address = (COMPOSE / "alertmanager" / "webhook-url").read_text(encoding="utf-8").strip()
    assert address.endswith(".invalid/"), "a name that cannot exist: RFC 2606"


def test_a_daemon_that_is_down_silences_what_follows_from_it() -> None:
    rules = yaml.safe_load(
        (COMPOSE.parent / "dashboards" / "generated" / "rules" / "daemonpulse-alerts.yaml").read_text(
            encoding="utf-8"
        )
    )
    names = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}
    [inhibition] = read("alertmanager/alertmanager.yml")["inhibit_rules"]
    [source] = inhibition["source_matchers"]
    assert set(re.findall(r"Llmster\w+", source)) <= names
    assert inhibition["equal"] == ["daemon"]
