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
FILES = ("compose.yaml", "demo.yaml", "gpu.yaml", "llmster.yaml", "tap.yaml")
TEXTS = {name: (COMPOSE / name).read_text(encoding="utf-8") for name in FILES}
TEXT = "".join(TEXTS.values())


def merged(base: Any, over: Any) -> Any:
    """Merge two files as Compose does, as far as ours need it: maps by key, anything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: merged(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key))
            for key in [*base, *(key for key in over if key not in base)]
        }
    return over


def stack_of(*files: str) -> dict[str, Any]:
    """Return what COMPOSE_FILE=compose.yaml:... means."""
    stack: dict[str, Any] = {}
    for file in ("compose.yaml", *files):
        stack = merged(stack, yaml.safe_load(TEXTS[file]))
    return stack


STACK = stack_of()
SERVICES: dict[str, dict[str, Any]] = {**stack_of("llmster.yaml", "tap.yaml")["services"]}
VARIANTS = {file: stack_of(file)["services"] for file in FILES[1:]}
OURS = {name: service for name, service in SERVICES.items() if name != "llmster"}
ENV_EXAMPLE = (COMPOSE / ".env.example").read_text(encoding="utf-8")
VARIABLES = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))


@pytest.mark.parametrize("file", FILES)
def test_the_compose_specification_accepts_the_file(file: str) -> None:
    # The schema comes with check-jsonschema, which takes it from compose-spec/compose-spec.
    checked = subprocess.run(
        [
            Path(sys.executable).parent / "check-jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            COMPOSE / file,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.external("docker-compose")
@pytest.mark.parametrize(
    ("files", "host"),
    [
        (("demo.yaml",), "simulator"),
        (("gpu.yaml",), "host.docker.internal"),
        (("llmster.yaml",), "host.docker.internal"),
        (("gpu.yaml", "tap.yaml"), "host.docker.internal"),
        ((), "host.docker.internal"),
    ],
)
def test_docker_compose_reads_the_files(
    tmp_path: Path, external_tool: FindTool, files: tuple[str, ...], host: str
) -> None:
    words: list[Any] = []
    for name in ("compose.yaml", *files):
        # Debian's docker-compose 1.29 is older than the top-level `name`, `:+` in a variable and a limit `pids`.
        text = re.sub(r"(?m)^name: .*\n|, pids: [0-9]+", "", TEXTS[name])
        (tmp_path / name).write_text(re.sub(r"\$\{\w+:\+[^}]*\}", "", text), encoding="utf-8")
        words += ["-f", tmp_path / name]
    (tmp_path / "env").write_text(ENV_EXAMPLE if "demo.yaml" in files else "", encoding="utf-8")
    checked = subprocess.run(
        [
            *(external_tool("docker-compose"), "--env-file", tmp_path / "env", *words),
            *("--project-directory", COMPOSE, "config"),
        ],
        env={"PATH": "/usr/bin:/bin", "COMPOSE_FILE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert not checked.stderr, "every variable has a default"
    read = yaml.safe_load(checked.stdout)["services"]
    assert read["exporter"]["environment"]["DAEMONPULSE_DAEMON_URL"] == f"http://{host}:1234"


def test_a_change_of_the_files_replaces_the_exporter_and_adds_no_second_one() -> None:
    for file, services in VARIANTS.items():
        exporters = [
            name for name, one in services.items() if set(one.get("command", [])) & {"exporter", "simulate"}
        ]
        assert exporters == ["exporter"], file


def test_the_demo_is_a_project_of_its_own() -> None:
    assert "COMPOSE_PROJECT_NAME=daemonpulse-demo\nCOMPOSE_FILE=compose.yaml:demo.yaml\n" in ENV_EXAMPLE
    assert "[simulate" not in TEXTS["compose.yaml"]


def test_every_variable_is_in_the_example_and_has_a_default() -> None:
    explained = set(re.findall(r"(?m)^#?([A-Z_]+)=", ENV_EXAMPLE)) - {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME"}
    assert explained == VARIABLES
    assert set(re.findall(r"(?<!\$)\$\{(\w+):-", TEXT)) == VARIABLES


def test_the_example_sets_no_variable_twice_and_what_it_sets_is_the_default() -> None:
    names = re.findall(r"(?m)^([A-Z_]+)=", ENV_EXAMPLE)
    assert len(names) == len(set(names))
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    example = dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", ENV_EXAMPLE))
    differs = {name for name, value in example.items() if value != defaults.get(name)}
    assert differs == {
        "COMPOSE_FILE",
        "COMPOSE_PROJECT_NAME",
        "DAEMONPULSE_DAEMON_URL",
    }, "the example is the demo"


@pytest.mark.parametrize("name", OURS)
def test_a_service_can_do_nothing_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "cap_add", "devices"} & service.keys()
    assert service["deploy"]["resources"]["limits"]["pids"] == 256
    assert "pids_limit" not in service, "Compose refuses it beside limits under deploy"
    assert "pid" not in service
    assert VARIANTS["gpu.yaml"].get(name, {}).get("pid") == ("host" if name == "exporter" else None), (
        "only to tell whose GPU memory it is"
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_a_pinned_image(name: str) -> None:
    service = SERVICES[name]
    assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag) or service["image"] == "lmstudio/llmster-preview:cpu"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"llmster", "token"}))
def test_a_service_that_stays_says_whether_it_is_well(name: str) -> None:
    uses_the_images = SERVICES[name].get("command", [""])[0] in {"exporter", "actions", "tap"}
    assert uses_the_images or SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_only_grafana_and_a_tap_are_published_and_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "grafana": ["${DAEMONPULSE_GRAFANA_LISTEN:-127.0.0.1:3000}:3000"],
        "tap": ["${DAEMONPULSE_TAP_PUBLISH:-127.0.0.1:1235}:1235"],
    }
    assert "tap" not in STACK["services"]
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
                assert source in stack_of("llmster.yaml")["volumes"], volume


def test_the_names_in_prometheus_lists_are_services() -> None:
    for file in ("targets/exporter.json", "alertmanagers/alertmanager.json"):
        [group] = yaml.safe_load((COMPOSE / "prometheus" / file).read_text(encoding="utf-8"))
        for target in group["targets"]:
            assert target.partition(":")[0] in SERVICES


def test_no_variable_of_a_service_is_one_our_programs_refuse() -> None:
    from actions.settings import load as load_actions
    from exporter.settings import load as load_exporter
    from exporter.tap.settings import load as load_tap

    def environment(name: str) -> dict[str, str]:
        raw = SERVICES[name]["environment"]
        return {key: re.sub(r"\$\{\w+:(?:-([^}]*)|\+[^}]*)\}", r"\1", value) for key, value in raw.items()}

    exporter = load_exporter({}, environment("exporter"))
    assert exporter.listen_port == 9810
    tap = load_tap({}, environment("tap"))
    assert exporter.daemons[0].tap_url == f"http://tap:{tap.reports_port}"
    assert SERVICES["tap"]["ports"][0].endswith(f":{tap.listen_port}")
    actions = load_actions({}, environment("actions"))
    assert (actions.listen_port, actions.prometheus_url) == (9811, "http://prometheus:9090")
    assert [one.url for one in actions.daemons] == [one.url for one in exporter.daemons]
