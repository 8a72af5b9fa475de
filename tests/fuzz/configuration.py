"""Targets: every file and variable an operator writes for us: settings, TOML, web configuration.

Knows which error each reader may raise: one line that names the key and never shows a secret. Anything else is a crash
at the moment at which somebody changes a setting at night.
"""

import base64
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bcrypt

from actions import settings as actions_settings
from exporter import settings
from exporter.pipeline.output.grammar import grammar
from exporter.pipeline.output.splitter import split
from exporter.settings import ExporterSettings
from exporter.shared import settings_table, web_config
from exporter.shared.settings_table import SettingsError
from exporter.shared.web_config import BasicAuth
from tests.fuzz.choices import Choices

_TOKEN: Final = "sk-lm-Ab3dE6gH:0123456789abcdefghij"
_PIECES: Final = (
    "http://", "https://", "127.0.0.1", "localhost", "[::1]", "[::", "box.lan", ":1234", ":0", ":99999", ":", "/",
    "@",
    "user:pw", "#", "?", "on", "off", "full", "debug", "json", "1", "60", "61", "-1", "nan", "inf", "1e400",
    "0x1", "1_0",
    "<plan>|</plan>", "<a>|<a>", "|", ",", "\n", "\x1b[31m", "\u2028", "\u212a", "\u0663", " ", "x" * 70, "~",
    "..", "%",
    _TOKEN, "sk-lm-", "true", "{}",
)  # fmt: skip


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="daemonpulse-fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _value(choices: Choices) -> str:
    """Choose a value that an environment can hold."""
    return choices.pieces(_PIECES, 5).replace("\0", "")


def _is_one_line(error: SettingsError, *secrets: str) -> None:
    text = str(error)
    assert text.isprintable(), repr(text)
    for secret in secrets:
        assert secret not in text, f"{secret!r} shows in {text!r}"


def _is_sound(chosen: ExporterSettings) -> None:
    """What was taken can be used: nothing fails later that could have been refused."""
    assert 0 <= chosen.max_age_s <= 60
    assert math.isfinite(chosen.max_age_s)
    assert 0 <= chosen.listen_port <= 65535
    assert chosen.capture in ("off", "redacted", "full")
    split("<think>x</think>y", "", grammar(chosen.reasoning_tags, chosen.tool_tags))
    assert len({daemon.name for daemon in chosen.daemons}) == len(chosen.daemons)
    for daemon in chosen.daemons:
        assert daemon.url.startswith(("http://", "https://", "HTTP://", "HTTPS://")), daemon
        assert 0 < daemon.port <= 65535, daemon
        assert not daemon.url.endswith("/")
        assert "@" not in daemon.url, daemon
        assert daemon.url.isprintable()
        assert isinstance(daemon.is_loopback, bool)


def environment(choices: Choices) -> None:
    """Any variables and flags are taken, and work, or are refused in one line that shows no token."""
    keys = [one.key for one in settings.SETTINGS if one.key not in ("config", "web_config", "daemon_token")]
    own = [one.key for one in actions_settings.SETTINGS if one.key not in ("web_config", "state")]
    environ = {
        settings_table.PREFIX + choices.pick(keys).upper(): _value(choices) for _ in range(choices.upto(4))
    }
    environ |= {
        actions_settings.PREFIX + choices.pick(own).upper(): _value(choices) for _ in range(choices.upto(2))
    }
    if choices.flag():
        environ["DAEMONPULSE_DAEMON_TOKEN"] = choices.pick((_TOKEN, _TOKEN + "x", "QzSecretzQ"))
    if choices.rarely():
        environ["DAEMONPULSE_" + choices.text(8).upper().replace("\0", "") + "X"] = "1"
    flags = {choices.pick(keys): _value(choices) for _ in range(choices.upto(1))}
    try:
        read = settings.load(flags, environ)
        _is_sound(read)
        astray = any(_TOKEN in value for value in (*flags.values(), *environ.values()) if value != _TOKEN)
        assert astray or _TOKEN not in repr(read), "the token shows"
        chosen = actions_settings.load({}, environ)
    except SettingsError as error:
        _is_one_line(error, _TOKEN, "QzSecretzQ")
        return
    assert 0 <= chosen.listen_port <= 65535
    assert all(name == name.strip().lower() and name for name in chosen.allowed_hosts)


_TOML: Final = (
    "[exporter]\n", "[actions]\n", "[[daemons]]\n", "[daemons]\n", "exporter = 1\n", "daemons = [1]\n",
    'listen = ":9810"\n',
    "max_age_seconds = 5\n", "max_age_seconds = nan\n", "log_stream = true\n", 'log_stream = "off"\n', 'name = "a"\n',
    'name = "b"\n', 'url = "http://127.0.0.1:1"\n', 'url = "http://[::2]:1"\n', "url = 7\n", 'token_env = "HOME"\n',
    'token_env = "NOPE"\n', 'token_file = "token"\n', 'token_file = "\\u0000"\n', 'home = "."\n',
    'home = "\\u0000"\n',
    'reasoning_tags = "<a>|<a>"\n', 'reasoning_tags = "<a>|</a>"\n', 'capture = "full"\n', "config = 1\n",
    "unknown = 1\n",
    'listen = "\\u001b[31m:1"\n', 'web_config = "\\u0000"\n', "x = 2001-99-99\n", "d = 1979-05-27\n", "[", "]",
    "=", '"', "#",
    "\n", 'allowed_hosts = "a,b"\n', 'state = "s"\n', "\ufeff", "listen = 1979-05-27\n",
    'prometheus_url = "http://["\n',
)  # fmt: skip


def toml(choices: Choices) -> None:
    """Any file is taken, and works, or is refused in one line."""
    data = choices.raw(60) if choices.rarely() else choices.pieces(_TOML, 8).encode("utf-8", "replace")
    with _folder() as folder:
        path = folder / "daemonpulse.toml"
        path.write_bytes(data)
        environ: Mapping[str, str] = {"HOME": _TOKEN}
        try:
            _is_sound(settings.load({"config": str(path)}, environ))
            actions_settings.load({"config": str(path)}, environ)
        except SettingsError as error:
            _is_one_line(error, _TOKEN)


_YAML: Final = (
    "basic_auth_users:", "tls_server_config:", "\n", "\n  ", "  ", "me: ", "you: ", "cert_file: ", "key_file: ", "x",
    "min_version: TLS12", "client_auth_type: NoClientCert", "client_ca_file: ", "{", "}", "[", "]", "- ", "? ",
    ": ", "&a ",
    "*a", "<<: *a", "!!python/object:os.system ", "!!binary ", "!!timestamp ", "2001-99-99", "2001-01-01", "0x",
    "0b2", "1:99",
    "1e999", ".nan", "null", "~", "'", '"', "|\n", ">\n", "%YAML 1.1\n---\n", "\0", "\t", "\ufeff", "\u0085",
    "unknown: 1",
    "$2b$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "$2b$04$x", '"\\0"', '"\\x00"', "\ud83d",
)  # fmt: skip


def web_file(choices: Choices) -> None:
    """Any web configuration is taken or refused in one line; what is taken lets nobody in whom it does not name."""
    text = choices.pieces(_YAML, 10)
    with _folder() as folder:
        path = folder / "web.yml"
        path.write_bytes(choices.raw(60) if choices.rarely() else text.encode("utf-8", "surrogatepass"))
        try:
            found = web_config.load(path)
        except SettingsError as error:
            _is_one_line(error)
            return
    assert all(hashed.startswith(b"$2") for hashed in found.users.values()), found
    if found.users:
        assert not BasicAuth(found.users).allows("Basic " + base64.b64encode(b":").decode())


_HASHED: Final = {
    user: bcrypt.hashpw(password, bcrypt.gensalt(4))
    for user, password in (("me", b"right"), ("", b"empty"), ("b\u00fc", b"a:b"))
}
_RIGHT: Final = {b"me:right", b":empty", "b\u00fc:a:b".encode()}


def credentials(choices: Choices) -> None:
    """No Authorization header raises; only a right user with the right password, in Basic, gets in."""
    spelled = choices.pick(
        (
            choices.pick(tuple(sorted(_RIGHT))),
            b"me:wrong",
            b"me:right\0",
            b"me:right" + b"x" * 80,
            b":",
            b"me",
            b"me:",
            b"\xff:\xff",
            choices.raw(20),
        )
    )
    encoded = base64.b64encode(spelled).decode()
    header = choices.pick(
        (
            f"Basic {encoded}",
            f"basic {encoded}",
            f"Basic  {encoded}",
            f"Bearer {encoded}",
            f"Basic{encoded}",
            choices.text(30),
        )
    )
    auth = BasicAuth(_HASHED)
    scheme, _, rest = header.partition(" ")
    is_right = scheme.lower() == "basic" and rest.strip() == encoded and spelled in _RIGHT
    if spelled.partition(b":")[0].decode("utf-8", "replace") not in _HASHED and not is_right:
        known, web_config._UNKNOWN_USER_HASH = web_config._UNKNOWN_USER_HASH, _HASHED["me"]  # type: ignore[misc] # a cheap one
    else:
        known = web_config._UNKNOWN_USER_HASH
    try:
        assert auth.allows(header) == is_right, header
        assert auth.allows(header) == is_right, f"{header} the second time"
    finally:
        web_config._UNKNOWN_USER_HASH = known  # type: ignore[misc]
