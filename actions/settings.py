"""Every setting of the actions API that the exporter does not have: one table, read from flags, environment and file.

Knows no daemon: which daemons there are is read with the exporter's own settings, so that both see the same ones.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from exporter import hosts, urls
from exporter import settings as shared
from exporter.settings import DaemonSettings, Setting, SettingsError

PREFIX: Final = "DAEMONPULSE_ACTIONS_"


_Own = partial(Setting, prefix=PREFIX)

SETTINGS: Final = (
    _Own("listen", "127.0.0.1:9811", "Address and port. Beyond loopback a token must exist first."),
    _Own(
        "state", "", "Folder of the database. Default: $XDG_STATE_HOME/daemonpulse, as a rule ~/.local/state."
    ),
    _Own(
        "web_config",
        "",
        "TLS, in the format of Prometheus' exporter-toolkit; its basic auth is not for here.",
    ),
    _Own("allowed_hosts", "", "Further names in a Host header that are ours, separated by commas."),
    _Own("commands_per_minute", "300", "For each token; the kill switch is not counted. 0 is no limit."),
    _Own("grafana_url", "", "The Grafana whose signed X-Grafana-Id proves the person in the audit."),
    _Own("prometheus_url", "", "Where to read free GPU memory when NVML is not on this machine."),
    _Own("prometheus_selector", "", 'Picks the machine there, such as instance="gpu-box:9810".'),
)
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}

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
)
"""Keys of the exporter's table that are read here too."""


@dataclass(frozen=True, slots=True)
class ActionsSettings:
    """Everything the actions API is told."""

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

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return hosts.is_loopback(self.listen_host)


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> ActionsSettings:
    """Read and check everything. `flags` are command-line values by key. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    common = shared.load({key: flags.get(key) for key in SHARED}, environ)
    _refuse_unknown_variables(environ)
    config = flags.get("config") or environ.get("DAEMONPULSE_CONFIG") or ""
    raw = _reader(flags, environ, _table(Path(config)) if config else {})
    host, port = _listen(*raw("listen"))
    web_config = raw("web_config")[0]
    grafana_url, grafana_key = raw("grafana_url")
    prometheus_url, prometheus_key = raw("prometheus_url")
    return ActionsSettings(
        listen_host=host,
        listen_port=port,
        state=Path(raw("state")[0]).expanduser() if raw("state")[0] else default_state(environ),
        web_config=Path(web_config) if web_config else None,
        allowed_hosts=shared.host_names(*raw("allowed_hosts")),
        commands_per_minute=_whole(*raw("commands_per_minute")),
        prometheus_url=_url(prometheus_url, prometheus_key) if prometheus_url else None,
        prometheus_selector=_selector(*raw("prometheus_selector")),
        log_level=common.log_level,
        log_format=common.log_format,
        daemons=common.daemons,
        grafana_url=_url(grafana_url, grafana_key) if grafana_url else None,
    )


def state_folder(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> Path:
    """Find the folder of the database without asking for anything else to be right."""
    environ = os.environ if environ is None else environ
    config = flags.get("config") or environ.get("DAEMONPULSE_CONFIG") or ""
    value, _ = _reader(flags, environ, _table(Path(config)) if config else {})("state")
    return Path(value).expanduser() if value else default_state(environ)


def default_state(environ: Mapping[str, str]) -> Path:
    """Say where state goes by default. Source: XDG Base Directory Specification."""
    base = environ.get("XDG_STATE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state") / "daemonpulse"


def _reader(
    flags: Mapping[str, str | None], environ: Mapping[str, str], table: Mapping[str, Any]
) -> Callable[[str], tuple[str, str]]:
    def raw(key: str) -> tuple[str, str]:
        """Return the value and the name under which the user gave it."""
        setting = _BY_KEY[key]
        if (flag := flags.get(key)) is not None:
            return flag, "--" + key.replace("_", "-")
        if environ.get(setting.env):
            return environ[setting.env], setting.env
        if key in table:
            return str(table[key]), f"[actions] {key}"
        return setting.default, setting.env

    return raw


def _table(path: Path) -> Mapping[str, Any]:
    """Read `[actions]`. The exporter's settings have read the file before and say what is wrong with the rest."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("actions", {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(key="config", value=str(path), fix=f"cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise SettingsError(key=f"{path} actions", value="", fix="write it as a table, [actions]")
    for key in table:
        if key not in _BY_KEY:
            raise SettingsError(
                key=f"{path} [actions] {key}", value="", fix=f"no such setting; known: {', '.join(_BY_KEY)}"
            )
    return table


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [*(setting.env for setting in SETTINGS), *CLIENT_VARIABLES]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(key=variable, value="", fix=f"no such setting; known: {', '.join(known)}")


def _listen(value: str, key: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r".*:[0-9]{1,5}", value) or int(port) > 65535:  # noqa: PLR2004 - TCP's highest port
        raise SettingsError(key=key, value=value, fix="write host:port, such as 127.0.0.1:9811 or [::1]:9811")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - what ":9811" means


def _whole(value: str, key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value):
        raise SettingsError(key=key, value=value, fix="write a whole number from 0 to 99999")
    return int(value)


def _url(value: str, key: str) -> str:
    if not urls.is_base(value):  # the value is not shown: it may hold a password
        raise SettingsError(key=key, value="", fix="write http://host:port, such as http://127.0.0.1:3000")
    return value.rstrip("/")


def _selector(value: str, key: str) -> str:
    if not re.fullmatch(r'([a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\{}]*"(,(?=.)|$))*', value):
        raise SettingsError(key=key, value=value, fix='write matchers such as instance="gpu-box:9810"')
    return value
