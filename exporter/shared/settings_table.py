"""One table of settings, read from flags, the environment and a TOML file.

Flags win over the environment, the environment over the file, the file over the defaults. Each program has its own
table: exporter/settings.py, actions/settings.py.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.shared import bounded_file, urls

PREFIX: Final = "DAEMONPULSE_"
Raw = Callable[[str], tuple[str, str]]
"""Returns the value of a key, and the name under which the user gave it."""


_LISTEN: Final = re.compile(r"([\w.-]*|\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]):[0-9]{1,5}", re.ASCII)
"""A name, an IPv4 address, an IPv6 address in brackets or nothing, and a port. getaddrinfo() takes nearly anything:
`*` is a name to it, and the last group of an IPv6 address without brackets a port."""


class SettingsError(ValueError):
    """A setting that cannot be used. One line: the key, the value (never a secret), the fix."""

    def __init__(self, *, key: str, value: str, fix: str) -> None:
        self.key = key
        super().__init__(_one_safe_line(f"{key}={value}: {fix}" if value else f"{key}: {fix}"))


def _one_safe_line(text: str) -> str:
    """Escape what would break the line, and hide a token that was put where none belongs."""
    hidden = re.sub(r"sk-lm-\S*", "sk-lm-…", text)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in hidden)


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


def reader(
    rows: Sequence[Setting],
    *,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    table: Mapping[str, Any],
    name: str,
) -> Raw:
    """Return what looks a key up. `table` is the file's table `[name]`."""
    by_key = {setting.key: setting for setting in rows}

    def raw(key: str) -> tuple[str, str]:
        setting = by_key[key]
        if (flag := flags.get(key)) is not None:
            return flag, "--" + key.replace("_", "-")
        if environ.get(setting.env):
            return environ[setting.env], setting.env
        if key in table:
            return str(table[key]), f"[{name}] {key}"
        return setting.default, setting.env

    return raw


def read_configuration(
    flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Read the TOML file that a flag or variable names; return its content and path, both empty without one.

    Raises SettingsError.
    """
    variable = PREFIX + "CONFIG"
    path, key = (flags["config"], "--config") if flags.get("config") else (environ.get(variable), variable)
    if not path:
        return {}, ""
    try:
        return tomllib.loads(bounded_file.read_text(Path(path))), path
    except (OSError, ValueError) as error:  # ValueError: not TOML, not UTF-8, too large, or no path at all
        reason = bounded_file.why(error)
        if isinstance(error, tomllib.TOMLDecodeError):
            reason = f"not valid TOML: {reason}"
        raise SettingsError(key=key, value=path, fix=f"the file cannot be read ({reason})") from None


def table_of(content: Mapping[str, Any], name: str, known: Iterable[str], where: str) -> Mapping[str, Any]:
    """Take one table out of a file, with known keys only. Raises SettingsError."""
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(key=f"{where} {name}", value="", fix=f"write it as a table, [{name}]")
    refuse_unknown_keys(table, tuple(known), f"{where} [{name}]")
    return table


def refuse_unknown_variables(
    environ: Mapping[str, str], known: Sequence[str], *, prefix: str, foreign: tuple[str, ...] = ()
) -> None:
    """Refuse variables that have the prefix and name no setting. Raises SettingsError."""
    for variable in environ:
        if variable.startswith(prefix) and not variable.startswith(foreign) and variable not in known:
            raise SettingsError(key=variable, value="", fix=_unknown(variable, known))


def refuse_unknown_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys that are not known, with the closest one that is. Raises SettingsError."""
    for key in table:
        if key not in known:
            raise SettingsError(key=f"{where} {key}", value="", fix=_unknown(key, known))


def _unknown(given: str, known: Sequence[str]) -> str:
    # Without the common prefix, which would make any two of them similar.
    by_rest = {name.removeprefix(PREFIX): name for name in known}
    close = [by_rest[rest] for rest in difflib.get_close_matches(given.removeprefix(PREFIX), by_rest, n=1)]
    return (
        f"no such setting; did you mean {close[0]}?"
        if close
        else f"no such setting; known: {', '.join(known)}"
    )


def listen_address(value: str, key: str, *, port: int) -> tuple[str, int]:
    """Read host:port; `port` is the example of the message. Raises SettingsError."""
    host, _, given = value.rpartition(":")
    if not _LISTEN.fullmatch(value) or int(given) > 65535:  # noqa: PLR2004 - TCP's highest port
        raise SettingsError(
            key=key,
            value=value,
            fix=f"write host:port, such as 127.0.0.1:{port} or [::1]:{port}; :{port} is every address",
        )
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(given)  # noqa: S104 - what ":9810" means


def host_names(value: str, key: str) -> tuple[str, ...]:
    """Read names separated by commas, as they are compared with Host headers. Raises SettingsError."""
    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if not re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", name):
            raise SettingsError(
                key=key, value=name, fix="write names without ports, such as box.lan,[fd00::1]"
            )
    return names


def base_url(value: str, key: str, *, example: str, is_secret: bool = False) -> str:
    """Read http(s)://host:port, without a trailing slash. `is_secret` leaves the value out of the error."""
    if not urls.is_base(value):
        fix = f"write http://host:port, such as {example}"
        if not is_secret and re.match(r"https?://[^/@\s]+/[A-Za-z]", value):
            fix = f"leave the path out: http://host:port is enough, such as {example}"
        if "@" in value and not is_secret:
            fix = "leave user and password out of the URL; API tokens have a setting of their own"
        raise SettingsError(key=key, value="" if is_secret else _without_credentials(value), fix=fix)
    return value.rstrip("/")


def _without_credentials(url: str) -> str:
    """Hide what may be a user and a password: everything up to the last @."""
    return re.sub(r"^([a-z]+://)?.*@", r"\1…@", url, flags=re.DOTALL)


def existing_file(value: str, key: str) -> Path:
    """Read the path of a file. Raises SettingsError."""
    if not _is(Path.is_file, value):
        raise SettingsError(key=key, value=value, fix="no such file, or no permission to read it")
    return Path(value)


def existing_folder(value: str, key: str) -> Path:
    """Read the path of a folder. Raises SettingsError."""
    if not _is(Path.is_dir, value):
        raise SettingsError(key=key, value=value, fix="no such folder, or no permission to read it")
    return Path(value)


def _is(what: Callable[[Path], bool], path: str) -> bool:
    try:
        return what(Path(path))
    except OSError:  # is_file() and is_dir() raise it for a closed folder above and for a name too long
        return False


def number(value: str, key: str, *, lowest: float, highest: float) -> float:
    """Read a number within bounds. Raises SettingsError."""
    try:
        read = float(value)
    except ValueError:
        read = float("nan")
    if not lowest <= read <= highest:
        raise SettingsError(key=key, value=value, fix=f"write a number from {lowest:g} to {highest:g}")
    return read


def choice(value: str, key: str, *, choices: tuple[str, ...]) -> str:
    """Read one of several words. Raises SettingsError."""
    if value not in choices:
        raise SettingsError(key=key, value=value, fix=f"choose one of {', '.join(choices)}")
    return value


def label_matchers(value: str, key: str) -> str:
    """Check matchers of Prometheus' query language, as between braces; "" matches everything."""
    if not re.fullmatch(r'([a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\{}]*"(,(?=.)|$))*', value):
        raise SettingsError(key=key, value=value, fix='write matchers such as instance="gpu-box:9810"')
    return value
