"""compose.yaml: valid by the specification's own schema and by a real docker-compose, and as closed as it claims."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.external import FindTool

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
TEXT = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
STACK: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "llmster"}
ENV_EXAMPLE = (COMPOSE / ".env.example").read_text(encoding="utf-8")
VARIABLES = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))


def test_the_compose_specification_accepts_the_file() -> None:
    # The schema comes with check-jsonschema, which takes it from compose-spec/compose-spec.
    checked = subprocess.run(
        [
            Path(sys.executable).parent / "check-jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            COMPOSE / "compose.yaml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.external("docker-compose")
@pytest.mark.parametrize(
    ("profile", "example"), [("demo", True), ("gpu", True), ("llmster", True), ("", False)]
)
def test_docker_compose_reads_the_file(
    tmp_path: Path, external_tool: FindTool, profile: str, *, example: bool
) -> None:
    # Debian's docker-compose 1.29 is older than the top-level `name`.
    (tmp_path / "compose.yaml").write_text(re.sub(r"(?m)^name: .*\n", "", TEXT), encoding="utf-8")
    (tmp_path / "env").write_text(ENV_EXAMPLE if example else "", encoding="utf-8")
    checked = subprocess.run(
        [
            external_tool("docker-compose"),
            *("--env-file", tmp_path / "env", "-f", tmp_path / "compose.yaml"),
            *("--project-directory", COMPOSE, "config"),
        ],
        env={"PATH": "/usr/bin:/bin", "COMPOSE_PROFILES": profile},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert not checked.stderr, "every variable has a default"
    read = yaml.safe_load(checked.stdout)["services"]
    host = "simulator" if example else "host.docker.internal"
    assert read["exporter"]["environment"]["DAEMONPULSE_DAEMON_URL"] == f"http://{host}:1234"


def test_every_variable_is_in_the_example_and_has_a_default() -> None:
    explained = set(re.findall(r"(?m)^#?([A-Z_]+)=", ENV_EXAMPLE)) - {"COMPOSE_PROFILES"}
    assert explained == VARIABLES
    assert set(re.findall(r"(?<!\$)\$\{(\w+):-", TEXT)) == VARIABLES


def test_the_example_sets_no_variable_twice_and_what_it_sets_is_the_default() -> None:
    names = re.findall(r"(?m)^([A-Z_]+)=", ENV_EXAMPLE)
    assert len(names) == len(set(names))
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    example = dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", ENV_EXAMPLE))
    differs = {name for name, value in example.items() if value != defaults.get(name)}
    assert differs == {
        "COMPOSE_PROFILES",
        "DAEMONPULSE_DAEMON_URL",
        "DAEMONPULSE_EXPORTERS_WITHOUT_GPU",
    }, "the example is the demo"


@pytest.mark.parametrize("name", OURS)
def test_a_service_can_do_nothing_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "cap_add", "devices"} & service.keys()
    assert service.get("pid") == ("host" if name == "exporter-gpu" else None), (
        "only to tell whose GPU memory it is"
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_a_pinned_image(name: str) -> None:
    service = SERVICES[name]
    assert {"cpus", "memory"} == service["deploy"]["resources"]["limits"].keys()
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag) or service["image"] == "lmstudio/llmster-preview:cpu"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"llmster", "token"}))
def test_a_service_that_stays_says_whether_it_is_well(name: str) -> None:
    uses_the_images = SERVICES[name].get("command", [""])[0] in {"exporter", "simulate"}
    assert uses_the_images or SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_only_grafana_is_published_and_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "grafana": ["${DAEMONPULSE_GRAFANA_LISTEN:-127.0.0.1:3000}:3000"]
    }
    assert not any("network_mode" in service for name, service in SERVICES.items() if name != "token")


def test_what_stores_data_has_no_way_out() -> None:
    assert STACK["networks"]["inside"]["internal"] is True
    for name in ("prometheus", "tempo", "loki"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_services_wait_for_the_health_of_what_they_need() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == (
                "service_completed_successfully" if needed == "token" else "service_healthy"
            )


def test_secrets_are_files_and_no_environment_holds_one() -> None:
    assert all(secret.keys() == {"file"} for secret in STACK["secrets"].values())
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD$|TOKEN$|SECRET$", key), f"{key}={value}"
        assert set(service.get("secrets", [])) <= STACK["secrets"].keys()


def test_the_token_reaches_grafana_and_nobody_else() -> None:
    holders = {
        name
        for name, service in SERVICES.items()
        if any(str(volume).startswith("token:") for volume in service.get("volumes", []))
    }
    assert holders == {"token", "grafana"}


def test_every_volume_is_named_or_a_file_of_ours_that_cannot_be_written() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (COMPOSE / source).is_dir(), source
                assert rest.endswith(":ro"), volume
            else:
                assert source in STACK["volumes"], volume


def test_the_names_in_prometheus_lists_are_services() -> None:
    for file in ("targets/exporter.json", "alertmanagers/alertmanager.json"):
        [group] = yaml.safe_load((COMPOSE / "prometheus" / file).read_text(encoding="utf-8"))
        for target in group["targets"]:
            assert target.partition(":")[0] in SERVICES


def test_no_variable_of_a_service_is_one_our_programs_refuse() -> None:
    from actions.settings import load as load_actions
    from exporter.settings import load as load_exporter

    def environment(name: str) -> dict[str, str]:
        raw = SERVICES[name]["environment"]
        return {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in raw.items()}

    exporter = load_exporter({}, environment("exporter"))
    assert exporter.listen_port == 9810
    assert load_exporter({}, environment("exporter-gpu")) == exporter
    assert load_exporter({}, environment("simulator")) == exporter
    actions = load_actions({}, environment("actions"))
    assert (actions.listen_port, actions.prometheus_url) == (9811, "http://prometheus:9090")
    assert actions.daemons == exporter.daemons
