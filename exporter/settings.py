"""The settings of the exporter: one table, read once from flags, environment and an optional TOML file.

Other modules get the frozen result and never read os.environ. Flags win over the
environment, the environment over the file, the file over the defaults.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exporter.shared import api_token, bounded_file, host_header, live_token, urls
from exporter.shared.api_token import Secret
from exporter.shared.live_token import LiveToken
from exporter.shared.settings_table import (
    PREFIX,
    Raw,
    Setting,
    SettingsError,
    base_url,
    choice,
    existing_file,
    existing_folder,
    host_names,
    label_matchers,
    listen_address,
    number,
    read_configuration,
    reader,
    refuse_unknown_keys,
    refuse_unknown_variables,
    table_of,
)

_FOREIGN_PREFIXES: Final = ("DAEMONPULSE_TEST_", "DAEMONPULSE_ACTIONS_", "DAEMONPULSE_TAP_")
"""Variables that belong to other parts of the project."""

_DAEMON_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TAP_URL: Final = "http://127.0.0.1:9812"
_MAX_TAG_CHARS: Final = 64
"""Half of what the splitter holds back of a stream, pipeline/output/families.py."""


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """One daemon to watch."""

    name: str
    url: str
    """http(s)://host:port without a trailing slash."""
    token: Secret | None
    home: Path | None
    """The daemon's LM Studio home if it is on this host; None leaves that to the URL."""
    tap_url: str | None = None
    """Where the reports of the tap before it are fetched, without a trailing slash."""
    site: str = ""
    """The group that it belongs to: label of the exporter, selector of the actions API; "" for none."""
    prometheus_selector: str = ""
    """Picks its host in the Prometheus that the actions API reads free GPU memory from; "" for the common one."""
    token_file: Path | None = None
    """The file the token came from, if any."""

    def current_token(self) -> str | None:
        """Read the token again from its file, so that a rotated one needs no restart. Blocks; never raises.

        The token read at start stands where there is no file, or none that holds a token.
        """
        if self.token_file is not None:
            with contextlib.suppress(SettingsError):
                token = _token_from_file(str(self.token_file), "daemon_token_file")
                return token.reveal() if token is not None else None
        return self.token.reveal() if self.token is not None else None

    @property
    def is_loopback(self) -> bool:
        """Whether the URL points at this host."""
        return host_header.is_loopback(urlsplit(self.url).hostname or "")

    @property
    def port(self) -> int:
        """The port of the URL, the scheme's own if it names none."""
        return urls.port_of(urlsplit(self.url))


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """The settings of the exporter."""

    listen_host: str
    listen_port: int
    web_config: Path | None
    max_age_s: float
    log_level: str
    log_format: str
    log_stream: bool
    """Whether the daemons' log streams are read; without, there are no prediction metrics, spans or logs."""
    capture: str
    """off, redacted or full: how much of prompts and answers may leave by OTLP."""
    reasoning_tags: tuple[tuple[str, str], ...]
    """Opening and closing tags of reasoning of models that are not known."""
    daemons: tuple[DaemonSettings, ...]
    tool_tags: tuple[tuple[str, str], ...] = ()
    """Opening and closing tags of tool calls of models that are not known."""
    live_token: LiveToken | None = None
    """Opens the text of running requests; None where `capture` is not full or no file is named."""
    allowed_hosts: tuple[str, ...] = ()
    """Names besides the loopback ones that a Host header may carry while the listener is on loopback."""
    is_capture_given: bool = True
    """Whether `capture` was set; if not, OpenTelemetry's own variable decides what messages leave."""
    span_kind: str = "server"
    """Kind of a request's span: server, client or internal."""


SETTINGS: Final = (
    Setting("config", "", "TOML file with any of these keys below [exporter], and [[daemons]] tables."),
    Setting(
        "listen", "127.0.0.1:9810", "Address and port of /metrics. Beyond loopback, consider web_config."
    ),
    Setting("web_config", "", "TLS and basic auth, in the format of Prometheus' exporter-toolkit."),
    Setting("allowed_hosts", "", "Further names accepted in a Host header, separated by commas."),
    Setting("max_age_seconds", "1", "A reading younger than this serves the next scrape too; 0 to 60."),
    Setting("log_level", "info", "debug, info, warning or error."),
    Setting("log_format", "logfmt", "logfmt or json."),
    Setting("log_stream", "on", "on or off. Off: no prediction metrics, spans or logs, only state."),
    Setting("capture", "off", "off, redacted or full: how much of prompts and answers may leave by OTLP."),
    Setting(
        "span_kind",
        "server",
        "server, client or internal: kind of a request's span, for backends that want one.",
    ),
    Setting(
        "live_token_file",
        "",
        "File with the token that opens the text of running requests; with capture=full.",
    ),
    Setting("reasoning_tags", "", "More reasoning tags, as open|close pairs: <plan>|</plan>,<mull>|</mull>."),
    Setting(
        "tool_tags",
        "",
        "More tool-call tags, as open|close pairs: <act>|</act>. Inside: JSON, or a name first.",
    ),
    Setting("daemon_url", "http://127.0.0.1:1234", "The daemon to watch, unless [[daemons]] names several."),
    Setting("daemon_name", "", "Its label `daemon`. Default: local, or the host of the URL."),
    Setting(
        "daemon_token", "", "Its API token, sk-lm-…; LM_API_TOKEN is read too. Better: daemon_token_file."
    ),
    Setting("daemon_token_file", "", "File that holds the API token and nothing else."),
    Setting("daemon_home", "", "Its LM Studio home on this host. Default: found for a loopback URL."),
    Setting(
        "daemon_tap_url", "", "Where a tap before it is asked for reports, such as http://127.0.0.1:9812."
    ),
    Setting("daemon_site", "", "The group of daemons that it belongs to, such as a rack or a town."),
)
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_DAEMON_KEYS: Final = (
    "name",
    "url",
    "token_env",
    "token_file",
    "home",
    "tap_url",
    "site",
    "prometheus_selector",
)


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> ExporterSettings:
    """Read and check everything. `flags` are command-line values by key, None where not given.

    Raises SettingsError for the first thing that is wrong.
    """
    environ = os.environ if environ is None else environ
    refuse_unknown_variables(environ, [row.env for row in SETTINGS], prefix=PREFIX, foreign=_FOREIGN_PREFIXES)
    table, daemon_tables = _tables(*read_configuration(flags, environ))

    raw = reader(SETTINGS, flags=flags, environ=environ, table=table, name="exporter")
    host, port = listen_address(*raw("listen"), port=9810)
    web_config = raw("web_config")
    return ExporterSettings(
        listen_host=host,
        listen_port=port,
        web_config=existing_file(*web_config) if web_config[0] else None,
        max_age_s=number(*raw("max_age_seconds"), lowest=0, highest=60),
        log_level=choice(*raw("log_level"), choices=("debug", "info", "warning", "error")),
        log_format=choice(*raw("log_format"), choices=("logfmt", "json")),
        log_stream=choice(*raw("log_stream"), choices=("on", "off")) == "on",
        capture=choice(*raw("capture"), choices=("off", "redacted", "full")),
        is_capture_given=flags.get("capture") is not None
        or bool(environ.get(_BY_KEY["capture"].env))
        or "capture" in table,
        span_kind=choice(*raw("span_kind"), choices=("server", "client", "internal")),
        live_token=_live_token(raw),
        reasoning_tags=_tag_pairs(*raw("reasoning_tags")),
        tool_tags=_tag_pairs(*raw("tool_tags")),
        daemons=_daemons(daemon_tables, environ) if daemon_tables else (_single_daemon(raw, environ),),
        allowed_hosts=host_names(*raw("allowed_hosts")),
    )


def _live_token(raw: Raw) -> LiveToken | None:
    """Read the token; a file without capture=full is a mistake that would hide itself."""
    value, key = raw("live_token_file")
    capture = raw("capture")[0]
    if value and capture != "full":
        raise SettingsError(
            key=key, value=value, fix=f"capture is {capture}; text is shown with capture=full only"
        )
    return live_token.from_file(value, key)


def _single_daemon(raw: Raw, environ: Mapping[str, str]) -> DaemonSettings:
    url = base_url(*raw("daemon_url"), example="http://127.0.0.1:1234")
    name, name_key = raw("daemon_name")
    token_file, token_file_key = raw("daemon_token_file")
    token, token_key = raw("daemon_token")
    if not token and environ.get("LM_API_TOKEN"):
        token, token_key = environ["LM_API_TOKEN"], "LM_API_TOKEN"
    home, home_key = raw("daemon_home")
    tap_url, tap_key = raw("daemon_tap_url")
    return DaemonSettings(
        name=_daemon_name(name or _default_name(url), name_key),
        url=url,
        token=_token_from_file(token_file, token_file_key) if token_file else _token(token, token_key),
        home=existing_folder(home, home_key) if home else None,
        token_file=Path(token_file) if token_file else None,
        tap_url=base_url(tap_url, tap_key, example=_TAP_URL) if tap_url else None,
        site=_site(*raw("daemon_site")),
    )


def _daemons(tables: list[dict[str, Any]], environ: Mapping[str, str]) -> tuple[DaemonSettings, ...]:
    daemons: list[DaemonSettings] = []
    for position, table in enumerate(tables, start=1):
        where = f"[[daemons]] #{position}"
        refuse_unknown_keys(table, _DAEMON_KEYS, where)
        texts = {key: str(value) for key, value in table.items()}
        if "url" not in texts:
            raise SettingsError(key=f"{where} url", value="", fix="every daemon needs one, http://host:1234")
        token_env = texts.get("token_env", "")
        if token_env and not environ.get(token_env):
            raise SettingsError(
                key=f"{where} token_env", value=token_env, fix="set this variable, or remove the key"
            )
        token_file = texts.get("token_file", "")
        url = base_url(texts["url"], f"{where} url", example="http://127.0.0.1:1234")
        daemons.append(
            DaemonSettings(
                name=_daemon_name(texts.get("name") or _default_name(url), f"{where} name"),
                url=url,
                token=_token_from_file(token_file, f"{where} token_file")
                if token_file
                else _token(environ.get(token_env, ""), f"{where} token_env {token_env}"),
                home=existing_folder(texts["home"], f"{where} home") if "home" in texts else None,
                token_file=Path(token_file) if token_file else None,
                tap_url=base_url(texts["tap_url"], f"{where} tap_url", example=_TAP_URL)
                if texts.get("tap_url")
                else None,
                site=_site(texts.get("site", ""), f"{where} site"),
                prometheus_selector=label_matchers(
                    texts.get("prometheus_selector", ""), f"{where} prometheus_selector"
                ),
            )
        )
    seen: set[str] = set()
    for daemon in daemons:
        if daemon.name in seen:
            raise SettingsError(
                key="[[daemons]] name", value=daemon.name, fix="two daemons share it; give each its own"
            )
        seen.add(daemon.name)
    return tuple(daemons)


def _tables(content: dict[str, Any], path: str) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    refuse_unknown_keys(content, ("exporter", "daemons", "actions", "tap"), path)
    daemons = content.get("daemons", [])
    if not isinstance(daemons, list) or not all(isinstance(daemon, dict) for daemon in daemons):
        raise SettingsError(
            key=f"{path} daemons", value="", fix="write each as a table of its own, [[daemons]]"
        )
    return table_of(content, "exporter", (key for key in _BY_KEY if key != "config"), path), daemons


def _default_name(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return "local" if host_header.is_loopback(host) else re.sub(r"[^A-Za-z0-9_.-]", "-", host)


def _daemon_name(value: str, key: str) -> str:
    if not _DAEMON_NAME.fullmatch(value):
        raise SettingsError(
            key=key, value=value, fix="use letters, digits, '.', '_' and '-', at most 63 characters"
        )
    return value


def _site(value: str, key: str) -> str:
    return _daemon_name(value, key) if value else ""


def _token(value: str, key: str) -> Secret | None:
    if not value:
        return None
    if not api_token.PATTERN.fullmatch(value):
        raise SettingsError(key=key, value="(not shown)", fix=f"an API token looks like {api_token.EXAMPLE}")
    return Secret(value)


def _token_from_file(value: str, key: str) -> Secret | None:
    try:
        text = bounded_file.read_text(Path(value)).strip()
    except (OSError, ValueError) as error:
        reason = bounded_file.why(error)
        raise SettingsError(key=key, value=value, fix=f"the token file cannot be read ({reason})") from None
    if not text:
        raise SettingsError(key=key, value=value, fix="the token file is empty; put the token in it")
    return _token(text, f"{key} {value}")


def _tag_pairs(value: str, key: str) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(part.strip() for part in pair.split("|")) for pair in value.split(",") if pair.strip()]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):  # noqa: PLR2004 - an opening and a closing tag
        fix = "write open|close pairs, such as <plan>|</plan>,<mull>|</mull>"
        raise SettingsError(key=key, value=value, fix=fix)
    if any(pair[0] == pair[1] or max(map(len, pair)) > _MAX_TAG_CHARS for pair in pairs):
        fix = f"the tags of a pair must differ, and have {_MAX_TAG_CHARS} characters at most"
        raise SettingsError(key=key, value=value, fix=fix)
    return tuple((pair[0], pair[1]) for pair in pairs)
