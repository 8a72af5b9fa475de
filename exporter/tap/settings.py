"""The settings of the tap: one table, read from flags, environment and file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exporter import settings as shared
from exporter.shared import bounded_file, urls
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import (
    Setting,
    SettingsError,
    base_url,
    host_names,
    listen_address,
    number,
    read_configuration,
    reader,
    refuse_unknown_variables,
    table_of,
)
from exporter.tap.clients import read_keys

PREFIX: Final = "DAEMONPULSE_TAP_"
_Own = partial(Setting, prefix=PREFIX)

SETTINGS: Final = (
    _Own("listen", "127.0.0.1:1235", "Address and port for clients, in place of the daemon's."),
    _Own("upstream", "", "The daemon's URL. Default: daemon_url, or the first of [[daemons]]."),
    _Own("reports_listen", "127.0.0.1:9812", "Address and port where the exporter fetches reports."),
    _Own("allowed_hosts", "", "Further names in a Host header of a fetch, separated by commas."),
    _Own("clients", "", "File with a line `SHA256 NAME` for each API key, to name clients by."),
    _Own("client_header", "", "Header that names the client where no key does, such as x-client."),
    _Own("max_connections", "4000", "Clients' connections at once, 1 to 100000; each takes two open files."),
    _Own("drain_seconds", "30", "How long open connections may go on after SIGTERM; 0 to 3600."),
)
SHARED: Final = (
    *("config", "log_level", "log_format", "reasoning_tags", "daemon_url"),
    *("capture", "live_token_file"),
)
"""Keys of the exporter's table that are read here too."""


@dataclass(frozen=True, slots=True)
class TapSettings:
    """The settings of the tap."""

    listen_host: str
    listen_port: int
    upstream_host: str
    upstream_port: int
    upstream_tls: bool
    reports_host: str
    reports_port: int
    allowed_hosts: tuple[str, ...]
    client_keys: Mapping[str, str]
    """SHA-256 of an API key, in hexadecimal, to a client's name."""
    client_header: str
    max_connections: int
    drain_s: float
    reasoning_tags: tuple[tuple[str, str], ...]
    log_level: str
    log_format: str
    live_token: LiveToken | None = None
    """Opens /text; None: no text is kept."""


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> TapSettings:
    """Read and check everything. `flags` are command-line values by key. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    common = shared.load({key: flags.get(key) for key in SHARED}, environ)
    refuse_unknown_variables(environ, [row.env for row in SETTINGS], prefix=PREFIX)
    content, path = read_configuration(flags, environ)
    table = table_of(content, "tap", [row.key for row in SETTINGS], path)
    raw = reader(SETTINGS, flags=flags, environ=environ, table=table, name="tap")

    host, port = listen_address(*raw("listen"), port=1235)
    reports_host, reports_port = listen_address(*raw("reports_listen"), port=9812)
    upstream, key = raw("upstream")
    upstream = base_url(upstream or common.daemons[0].url, key, example="http://127.0.0.1:1234")
    parts = urlsplit(upstream)
    upstream_port = urls.port_of(parts)
    if (host, port) == (parts.hostname, upstream_port):
        fix = "this is the daemon's own address; let the tap listen on another port"
        raise SettingsError(key=raw("listen")[1], value=f"{host}:{port}", fix=fix)
    return TapSettings(
        listen_host=host,
        listen_port=port,
        upstream_host=parts.hostname or "",
        upstream_port=upstream_port,
        upstream_tls=parts.scheme == "https",
        reports_host=reports_host,
        reports_port=reports_port,
        allowed_hosts=host_names(*raw("allowed_hosts")),
        client_keys=_client_keys(*raw("clients")),
        client_header=raw("client_header")[0].strip(),
        max_connections=int(number(*raw("max_connections"), lowest=1, highest=100_000)),
        drain_s=number(*raw("drain_seconds"), lowest=0, highest=3600),
        reasoning_tags=common.reasoning_tags,
        log_level=common.log_level,
        log_format=common.log_format,
        live_token=common.live_token,
    )


def _client_keys(path: str, key: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        return read_keys(bounded_file.read_text(Path(path)))
    except (OSError, ValueError) as error:
        reason = bounded_file.why(error)
        raise SettingsError(key=key, value=path, fix=f"the file cannot be used ({reason})") from None
