"""Every setting of the actions API that the exporter does not have: one table, read from flags, environment and file.

The daemons are read with the exporter's settings, so that both programs watch the same ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from exporter import settings as shared
from exporter.settings import DaemonSettings
from exporter.shared import host_header, live_token
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import (
    Raw,
    Setting,
    SettingsError,
    base_url,
    host_names,
    label_matchers,
    listen_address,
    read_configuration,
    reader,
    refuse_unknown_variables,
    table_of,
)

PREFIX: Final = "DAEMONPULSE_ACTIONS_"
_EXAMPLE_URL: Final = "http://127.0.0.1:3000"


_Own = partial(Setting, prefix=PREFIX)

SETTINGS: Final = (
    _Own("listen", "127.0.0.1:9811", "Address and port. Beyond loopback a token must exist first."),
    _Own(
        "state",
        "",
        "Folder of the database. Default: $XDG_STATE_HOME/daemonpulse, else ~/.local/state/daemonpulse.",
    ),
    _Own(
        "web_config",
        "",
        "TLS, in the format of Prometheus' exporter-toolkit; its basic auth is not for here.",
    ),
    _Own("allowed_hosts", "", "Further names accepted in a Host header, separated by commas."),
    _Own(
        "commands_per_minute",
        "300",
        "For each token; the kill switch and denials are not counted. 0 is no limit.",
    ),
    _Own(
        "audit_max_mb",
        "512",
        "Size of the database from which on the oldest audit rows are archived, in MB. 0 is no limit.",
    ),
    _Own("audit_max_days", "365", "Age from which on audit rows are archived, in days. 0 is no limit."),
    _Own("grafana_url", "", "The Grafana whose signed X-Grafana-Id proves the person in the audit."),
    _Own("exporter_url", "", "The exporter whose live view is passed on, such as http://127.0.0.1:9810."),
    _Own(
        "live_token_file",
        "",
        "File with the token that opens text of running requests at the exporter; tokens of scope text see it.",
    ),
    _Own("prometheus_url", "", "Where to read free GPU memory when NVML is not on this host."),
    _Own("prometheus_selector", "", 'Picks the host there, such as instance="gpu-box:9810".'),
)

CLIENT_VARIABLES: Final = (f"{PREFIX}URL", f"{PREFIX}TOKEN", f"{PREFIX}TOKEN_FILE")
"""Read by the client verbs of the command line, and none of the server's business."""

SHARED: Final = (
    "config",
    "log_level",
    "log_format",
    "daemon_url",
    "daemon_name",
    "daemon_token",
    "daemon_token_file",
    "daemon_home",
    "daemon_site",
)
"""Keys of the exporter's table that are read here too."""


@dataclass(frozen=True, slots=True)
class ActionsSettings:
    """The settings of the actions API."""

    listen_host: str
    listen_port: int
    state: Path
    web_config: Path | None
    allowed_hosts: tuple[str, ...]
    commands_per_minute: int
    """Of one token; 0 is no limit."""
    prometheus_url: str | None
    prometheus_selector: str
    log_level: str
    log_format: str
    daemons: tuple[DaemonSettings, ...]
    grafana_url: str | None = None
    exporter_url: str | None = None
    live_token: LiveToken | None = None
    """Opens text of running requests at the exporter; None: this service shows none."""
    audit_max_mb: int = 512
    audit_max_days: int = 365

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can connect."""
        return host_header.is_loopback(self.listen_host)


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> ActionsSettings:
    """Read and check everything. `flags` are command-line values by key. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    common = shared.load({key: flags.get(key) for key in SHARED}, environ)
    known = [*(setting.env for setting in SETTINGS), *CLIENT_VARIABLES]
    refuse_unknown_variables(environ, known, prefix=PREFIX)
    raw = _reader(flags, environ)
    host, port = listen_address(*raw("listen"), port=9811)
    web_config = raw("web_config")[0]
    return ActionsSettings(
        listen_host=host,
        listen_port=port,
        state=Path(raw("state")[0]).expanduser() if raw("state")[0] else default_state(environ),
        web_config=Path(web_config) if web_config else None,
        allowed_hosts=host_names(*raw("allowed_hosts")),
        commands_per_minute=_whole(*raw("commands_per_minute")),
        prometheus_url=_optional_url(*raw("prometheus_url")),
        prometheus_selector=label_matchers(*raw("prometheus_selector")),
        log_level=common.log_level,
        log_format=common.log_format,
        daemons=common.daemons,
        grafana_url=_optional_url(*raw("grafana_url")),
        exporter_url=_optional_url(*raw("exporter_url")),
        live_token=live_token.from_file(*raw("live_token_file")),
        audit_max_mb=_whole(*raw("audit_max_mb")),
        audit_max_days=_whole(*raw("audit_max_days")),
    )


def state_folder(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> Path:
    """Find the folder of the database without asking for anything else to be right."""
    environ = os.environ if environ is None else environ
    value, _ = _reader(flags, environ)("state")
    return Path(value).expanduser() if value else default_state(environ)


STATE_KEY: Final = "--state or DAEMONPULSE_ACTIONS_STATE"
"""How errors name the setting of the state folder."""


def default_state(environ: Mapping[str, str]) -> Path:
    """Return the default state folder. Source: XDG Base Directory Specification."""
    base = environ.get("XDG_STATE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state") / "daemonpulse"


def _reader(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Raw:
    content, path = read_configuration(flags, environ)
    table = table_of(content, "actions", [setting.key for setting in SETTINGS], path)
    return reader(SETTINGS, flags=flags, environ=environ, table=table, name="actions")


def _optional_url(value: str, key: str) -> str | None:
    return base_url(value, key, example=_EXAMPLE_URL, is_secret=True) if value else None


def _whole(value: str, key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value):
        raise SettingsError(key=key, value=value, fix="write a whole number from 0 to 99999")
    return int(value)
