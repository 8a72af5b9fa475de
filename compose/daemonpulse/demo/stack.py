"""The stack's programs as the demo runs them: each with its file of compose/, on free ports of this host.

Sets what differs outside a container; the files are in compose/.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from daemonpulse.demo.actions import TEXT_TOKEN
from daemonpulse.demo.programs import Program, free_port
from daemonpulse.shipped import generated, stack_folder

_WEBHOOK: Final = "url_file: /run/secrets/alert_webhook_url"
"""The line of alertmanager.yml with the webhook's address. Alertmanager has url_file from version 0.26 on, and
Debian 12 has 0.25, so that the demo always writes the address itself."""
_TOKEN: Final = "/run/daemonpulse/token"  # noqa: S105 - a path of the stack's containers
_TEXT_TOKEN: Final = f"/run/daemonpulse/{TEXT_TOKEN}"
"""Where the stack's provisioning/datasources/daemonpulse.yaml looks for the tokens of the actions API."""


GRAFANA: Final = "http://localhost:3000"
"""Where alerts' links to runbooks lead in the stack: its Grafana, which shows the pages."""


def prometheus(
    folder: Path, *, targets: list[str], alertmanager: str | None, grafana: str = GRAFANA
) -> Program:
    """Prometheus with rules and alerting; the lists of addresses, and where runbooks are, are made here."""
    home = _copied("prometheus", folder)
    rules = Path(shutil.copytree(generated() / "rules", folder / "prometheus-rules"))
    _replace(rules / "daemonpulse-alerts.yaml", GRAFANA, grafana)
    (home / "targets" / "exporter.json").write_text(_addresses(targets))
    (home / "alertmanagers" / "alertmanager.json").write_text(
        _addresses([alertmanager] if alertmanager else [])
    )
    return Program(
        name="prometheus",
        binary="prometheus",
        adds="you could query and graph all this (apt install prometheus)",
        arguments=lambda port: [
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ],
        ready_path="/-/ready",
    )


def alertmanager(folder: Path, *, webhook: str) -> Program:
    """Alertmanager that sends its messages to `webhook`."""
    home = _copied("alertmanager", folder)
    _replace(home / "alertmanager.yml", _WEBHOOK, f"url: {webhook}")
    return Program(
        name="alertmanager",
        binary="prometheus-alertmanager",
        other_binary="alertmanager",
        adds="alerts would reach people, here this terminal (apt install prometheus-alertmanager)",
        arguments=lambda port: [
            f"--config.file={home / 'alertmanager.yml'}",
            f"--storage.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        ready_path="/-/ready",
    )


def tempo(folder: Path, *, otlp_port: int) -> Program:
    """Tempo that takes spans at `otlp_port`."""
    return Program(
        name="tempo",
        binary="tempo",
        adds="each request would be a trace (apt install tempo, from https://apt.grafana.com)",
        arguments=lambda _: [
            "-target=all",
            "-config.expand-env=true",
            f"-config.file={stack_folder() / 'tempo' / 'tempo.yaml'}",
        ],
        environment=lambda port: {
            "TEMPO_ADDRESS": "127.0.0.1",
            "TEMPO_PORT": str(port),
            "TEMPO_GRPC_PORT": str(free_port()),
            "TEMPO_OTLP_PORT": str(otlp_port),
            "TEMPO_DATA": str(folder / "tempo"),
        },
        ready_path="/ready",
    )


def loki(folder: Path) -> Program:
    """Loki; it takes log records at /otlp/v1/logs of its own port."""
    return Program(
        name="loki",
        binary="loki",
        adds="the daemon's log could be searched (apt install loki, from https://apt.grafana.com)",
        arguments=lambda _: [
            "-config.expand-env=true",
            f"-config.file={stack_folder() / 'loki' / 'loki.yaml'}",
        ],
        environment=lambda port: {
            "LOKI_ADDRESS": "127.0.0.1",
            "LOKI_PORT": str(port),
            "LOKI_GRPC_PORT": str(free_port()),
            "LOKI_DATA": str(folder / "loki"),
        },
        ready_path="/ready",
    )


def grafana(folder: Path, *, urls: Mapping[str, str], token_file: Path, port: int = 0) -> Program:
    """Grafana with boards, datasources and buttons; `urls` are those of the other parts by their names."""
    home = _copied("grafana", folder)
    sources = home / "provisioning" / "datasources" / "daemonpulse.yaml"
    _replace(sources, _TOKEN, str(token_file))
    _replace(sources, _TEXT_TOKEN, str(token_file.with_name(TEXT_TOKEN)))
    return Program(
        name="grafana",
        binary="grafana",
        adds="eight boards would show all this, with buttons (apt install grafana, from https://apt.grafana.com)",
        arguments=lambda _: [
            "server",
            f"--homepath={_grafana_home()}",
            f"--config={home / 'grafana.ini'}",
        ],
        environment=lambda port: {
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_PROVISIONING": str(home / "provisioning"),
            "GF_PATHS_PLUGINS": str(home / "plugins"),
            "GF_PATHS_DATA": str(home / "data"),
            "GF_PATHS_LOGS": str(home / "data" / "log"),
            "DAEMONPULSE_BOARDS": str(generated()),
            "DAEMONPULSE_RUNBOOKS": str(generated().parent / "runbooks"),
            **{f"{name.upper()}_URL": urls.get(name, "") for name in GRAFANA_SOURCES},
        },
        ready_path="/api/health",
        port=port,
    )


GRAFANA_SOURCES: Final = ("prometheus", "alertmanager", "tempo", "loki", "actions")
"""What Grafana asks; it finds each by the variable NAME_URL."""


def _grafana_home() -> Path:
    """Find Grafana's own files: beside its binary as in the archive, or where its packages put them."""
    found = shutil.which("grafana")
    beside = Path(found).resolve().parent.parent if found else Path("/")
    return beside if (beside / "conf" / "defaults.ini").is_file() else Path("/usr/share/grafana")


def _copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(stack_folder() / name, folder / name))


def _addresses(urls: list[str]) -> str:
    return json.dumps([{"targets": [url.removeprefix("http://") for url in urls]}])


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    if old not in text:
        raise LookupError(f"{file.name} has no {old!r}; it and stack.py belong together")
    file.write_text(text.replace(old, new), encoding="utf-8")
