"""Every setting of the exporter: one table, read once from flags, environment and an optional TOML file.

Knows no daemon and no socket: inner code gets the frozen result and never reads os.environ. Flags win over the
environment, the environment over the file, the file over the defaults.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exporter import hosts, urls

PREFIX: Final = "DAEMONPULSE_"
_FOREIGN_PREFIXES: Final = ("DAEMONPULSE_TEST_", "DAEMONPULSE_ACTIONS_")
"""Variables that belong to other parts of the project."""

_DAEMON_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TOKEN: Final = re.compile(r"sk-lm-[A-Za-z0-9]{8}:[A-Za-z0-9]{20}")
_MAX_TAG_CHARS: Final = 64
"""Half of what the splitter holds back of a stream, pipeline/tags.py."""


class SettingsError(ValueError):
    """A setting that cannot be used. One line: the key, the value (never a secret), the fix."""

    def __init__(self, *, key: str, value: str, fix: str) -> None:
        self.key = key
        super().__init__(_one_safe_line(f"{key}={value}: {fix}" if value else f"{key}: {fix}"))


def _one_safe_line(text: str) -> str:
    """Escape what would break the line, and hide a token that was put where none belongs."""
    hidden = re.sub(r"sk-lm-\S*", "sk-lm-…", text)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in hidden)


class Secret:
    """A token that does not show itself in logs, errors or reprs."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """One daemon to watch."""

    name: str
    url: str
    """http(s)://host:port without a trailing slash."""
    token: Secret | None
    home: Path | None
    """The daemon's LM Studio home if it is on this machine; None leaves that to the URL."""

    @property
    def is_loopback(self) -> bool:
        """Whether the URL points at this machine."""
        return hosts.is_loopback(urlsplit(self.url).hostname or "")

    @property
    def port(self) -> int:
        """The port of the URL, the scheme's own if it names none."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """Everything the exporter is told."""

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
    """Opening and closing tags of models we do not know."""
    daemons: tuple[DaemonSettings, ...]
    allowed_hosts: tuple[str, ...] = ()
    """Names besides the loopback ones that a Host header may carry while we listen on loopback."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One documented key. `env` is the prefix and the key in capitals; in the file it is a key of its part's table."""

    key: str
    default: str
    help: str
    prefix: str = PREFIX

    @property
    def env(self) -> str:
        """The environment variable."""
        return self.prefix + self.key.upper()


SETTINGS: Final = (
    Setting("config", "", "TOML file with any of these keys below [exporter], and [[daemons]] tables."),
    Setting(
        "listen", "127.0.0.1:9810", "Address and port of /metrics. Beyond loopback, consider web_config."
    ),
    Setting("web_config", "", "TLS and basic auth, in the format of Prometheus' exporter-toolkit."),
    Setting("allowed_hosts", "", "Further names in a Host header that are ours, separated by commas."),
    Setting("max_age_seconds", "1", "A reading younger than this serves the next scrape too; 0 to 60."),
    Setting("log_level", "info", "debug, info, warning or error."),
    Setting("log_format", "logfmt", "logfmt or json."),
    Setting("log_stream", "on", "on or off. Off: no prediction metrics, spans or logs, only state."),
    Setting("capture", "off", "off, redacted or full: how much of prompts and answers may leave by OTLP."),
    Setting("reasoning_tags", "", "More reasoning tags, as open|close pairs: <plan>|</plan>,<mull>|</mull>."),
    Setting("daemon_url", "http://127.0.0.1:1234", "The daemon to watch, unless [[daemons]] names several."),
    Setting("daemon_name", "", "Its label `daemon`. Default: local, or the host of the URL."),
    Setting(
        "daemon_token", "", "Its API token, sk-lm-…; LM_API_TOKEN is read too. Better: daemon_token_file."
    ),
    Setting("daemon_token_file", "", "File that holds the API token and nothing else."),
    Setting("daemon_home", "", "Its LM Studio home on this machine. Default: found for a loopback URL."),
)
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_DAEMON_KEYS: Final = ("name", "url", "token_env", "token_file", "home")


def load(flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None) -> ExporterSettings:
    """Read and check everything. `flags` are command-line values by key, None where not given.

    Raises SettingsError for the first thing that is wrong.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown_variables(environ)
    config_path = flags.get("config") or environ.get(_BY_KEY["config"].env) or ""
    table, daemon_tables = _read_file(Path(config_path)) if config_path else ({}, [])

    def raw(key: str) -> tuple[str, str]:
        """Return the value and the name under which the user gave it."""
        setting = _BY_KEY[key]
        if (flag := flags.get(key)) is not None:
            return flag, "--" + key.replace("_", "-")
        if environ.get(setting.env):
            return environ[setting.env], setting.env
        if key in table:
            return str(table[key]), f"[exporter] {key}"
        return setting.default, setting.env

    host, port = _listen(*raw("listen"))
    web_config = raw("web_config")
    return ExporterSettings(
        listen_host=host,
        listen_port=port,
        web_config=_existing_file(*web_config) if web_config[0] else None,
        max_age_s=_number(*raw("max_age_seconds"), lowest=0, highest=60),
        log_level=_choice(*raw("log_level"), choices=("debug", "info", "warning", "error")),
        log_format=_choice(*raw("log_format"), choices=("logfmt", "json")),
        log_stream=_choice(*raw("log_stream"), choices=("on", "off")) == "on",
        capture=_choice(*raw("capture"), choices=("off", "redacted", "full")),
        reasoning_tags=_tag_pairs(*raw("reasoning_tags")),
        daemons=_daemons(daemon_tables, environ) if daemon_tables else (_single_daemon(raw, environ),),
        allowed_hosts=host_names(*raw("allowed_hosts")),
    )


def host_names(value: str, key: str) -> tuple[str, ...]:
    """Read names separated by commas, as they are compared with Host headers. Raises SettingsError."""
    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if not re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", name):
            raise SettingsError(
                key=key, value=name, fix="write names without ports, such as box.lan,[fd00::1]"
            )
    return names


def _single_daemon(raw: Callable[[str], tuple[str, str]], environ: Mapping[str, str]) -> DaemonSettings:
    url = _url(*raw("daemon_url"))
    name, name_key = raw("daemon_name")
    token_file, token_file_key = raw("daemon_token_file")
    token, token_key = raw("daemon_token")
    if not token and environ.get("LM_API_TOKEN"):
        token, token_key = environ["LM_API_TOKEN"], "LM_API_TOKEN"
    home, home_key = raw("daemon_home")
    return DaemonSettings(
        name=_daemon_name(name or _default_name(url), name_key),
        url=url,
        token=_token_from_file(token_file, token_file_key) if token_file else _token(token, token_key),
        home=_existing_folder(home, home_key) if home else None,
    )


def _daemons(tables: list[dict[str, Any]], environ: Mapping[str, str]) -> tuple[DaemonSettings, ...]:
    daemons: list[DaemonSettings] = []
    for number, table in enumerate(tables, start=1):
        where = f"[[daemons]] #{number}"
        _refuse_unknown_keys(table, _DAEMON_KEYS, where)
        texts = {key: str(value) for key, value in table.items()}
        if "url" not in texts:
            raise SettingsError(key=f"{where} url", value="", fix="every daemon needs one, http://host:1234")
        token_env = texts.get("token_env", "")
        if token_env and not environ.get(token_env):
            raise SettingsError(
                key=f"{where} token_env", value=token_env, fix="set this variable, or remove the key"
            )
        token_file = texts.get("token_file", "")
        url = _url(texts["url"], f"{where} url")
        daemons.append(
            DaemonSettings(
                name=_daemon_name(texts.get("name") or _default_name(url), f"{where} name"),
                url=url,
                token=_token_from_file(token_file, f"{where} token_file")
                if token_file
                else _token(environ.get(token_env, ""), f"{where} token_env {token_env}"),
                home=_existing_folder(texts["home"], f"{where} home") if "home" in texts else None,
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


def _read_file(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            key="config", value=str(path), fix=f"the file cannot be read ({error.strerror})"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(key="config", value=str(path), fix=f"not valid TOML: {error}") from None
    _refuse_unknown_keys(content, ("exporter", "daemons", "actions"), str(path))
    table, daemons = content.get("exporter", {}), content.get("daemons", [])
    if not isinstance(table, dict):
        raise SettingsError(key=f"{path} exporter", value="", fix="write it as a table, [exporter]")
    if not isinstance(daemons, list) or not all(isinstance(daemon, dict) for daemon in daemons):
        raise SettingsError(
            key=f"{path} daemons", value="", fix="write each as a table of its own, [[daemons]]"
        )
    _refuse_unknown_keys(table, tuple(key for key in _BY_KEY if key != "config"), f"{path} [exporter]")
    return table, daemons


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [setting.env for setting in SETTINGS]
    for variable in environ:
        if (
            variable.startswith(PREFIX)
            and not variable.startswith(_FOREIGN_PREFIXES)
            and variable not in known
        ):
            raise SettingsError(key=variable, value="", fix=_unknown(variable, known))


def _refuse_unknown_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(key=f"{where} {key}", value="", fix=_unknown(key, known))


def _unknown(given: str, known: tuple[str, ...] | list[str]) -> str:
    # What all variables start with would make any two of them look alike.
    by_rest = {name.removeprefix(PREFIX): name for name in known}
    close = [by_rest[rest] for rest in difflib.get_close_matches(given.removeprefix(PREFIX), by_rest, n=1)]
    return (
        f"no such setting; did you mean {close[0]}?"
        if close
        else f"no such setting; known: {', '.join(known)}"
    )


def _listen(value: str, key: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r".*:[0-9]{1,5}", value) or int(port) > 65535:  # noqa: PLR2004 - TCP's highest port
        raise SettingsError(key=key, value=value, fix="write host:port, such as 127.0.0.1:9810 or [::]:9810")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - what ":9810" means


def _url(value: str, key: str) -> str:
    fix = "write http://host:port, such as http://127.0.0.1:1234"
    if "@" in value:
        fix = "leave user and password out of the URL; API tokens have a setting of their own"
    if not urls.is_base(value):
        raise SettingsError(key=key, value=_without_credentials(value), fix=fix)
    return value.rstrip("/")


def _without_credentials(url: str) -> str:
    """Hide everything that might be meant as a user and a password: up to the last @."""
    return re.sub(r"^([a-z]+://)?.*@", r"\1…@", url, flags=re.DOTALL)


def _default_name(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return "local" if hosts.is_loopback(host) else re.sub(r"[^A-Za-z0-9_.-]", "-", host)


def _daemon_name(value: str, key: str) -> str:
    if not _DAEMON_NAME.fullmatch(value):
        raise SettingsError(
            key=key, value=value, fix="use letters, digits, '.', '_' and '-', at most 63 characters"
        )
    return value


def _token(value: str, key: str) -> Secret | None:
    if not value:
        return None
    if not _TOKEN.fullmatch(value):
        raise SettingsError(
            key=key, value="(not shown)", fix="an API token looks like sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY"
        )
    return Secret(value)


def _token_from_file(value: str, key: str) -> Secret | None:
    try:
        text = Path(value).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(key=key, value=value, fix=f"the token file cannot be read ({reason})") from None
    if not text:
        raise SettingsError(key=key, value=value, fix="the token file is empty; put the token in it")
    return _token(text, f"{key} {value}")


def _existing_file(value: str, key: str) -> Path:
    if not _is(Path.is_file, value):
        raise SettingsError(key=key, value=value, fix="there is no such file, or it is closed to us")
    return Path(value)


def _existing_folder(value: str, key: str) -> Path:
    if not _is(Path.is_dir, value):
        raise SettingsError(key=key, value=value, fix="there is no such folder, or it is closed to us")
    return Path(value)


def _is(what: Callable[[Path], bool], path: str) -> bool:
    try:
        return what(Path(path))
    except OSError:  # is_file() and is_dir() raise it for a closed folder above and for a name too long
        return False


def _number(value: str, key: str, *, lowest: float, highest: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not lowest <= number <= highest:
        raise SettingsError(key=key, value=value, fix=f"write a number from {lowest:g} to {highest:g}")
    return number


def _tag_pairs(value: str, key: str) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(part.strip() for part in pair.split("|")) for pair in value.split(",") if pair.strip()]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):  # noqa: PLR2004 - an opening and a closing tag
        fix = "write open|close pairs, such as <plan>|</plan>,<mull>|</mull>"
        raise SettingsError(key=key, value=value, fix=fix)
    if any(pair[0] == pair[1] or max(map(len, pair)) > _MAX_TAG_CHARS for pair in pairs):
        fix = f"the tags of a pair must differ, and have {_MAX_TAG_CHARS} characters at most"
        raise SettingsError(key=key, value=value, fix=fix)
    return tuple((pair[0], pair[1]) for pair in pairs)


def _choice(value: str, key: str, *, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise SettingsError(key=key, value=value, fix=f"choose one of {', '.join(choices)}")
    return value
