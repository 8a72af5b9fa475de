"""TLS and basic auth from a `--web-config` file in the format of Prometheus' exporter-toolkit.

An unsupported key is an error that names it. A renewed
certificate, key or CA is used from the next connection on.

Source of the format: prometheus/exporter-toolkit, docs/web-configuration.md.
"""

from __future__ import annotations

import base64
import hmac
import logging
import os
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bcrypt
import yaml

from exporter.shared import bounded_file
from exporter.shared.settings_table import SettingsError

log = logging.getLogger(__name__)

_TLS_KEYS: Final = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version")
_MIN_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNKNOWN_USER_HASH: Final = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(rounds=10))
"""Checked for unknown users, so that timing does not reveal user names."""

_BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$(?P<salt>[./A-Za-z0-9]{22})[./A-Za-z0-9]{31}")

_NOT_YAML: Final = (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError, RecursionError)
"""What safe_load() raises: beside its own errors all that its constructors run into, with `2001-99-99` for instance."""

_CACHE_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file asks for."""

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """bcrypt hashes by user name; empty means no authentication."""


def load(path: Path) -> WebConfig:
    """Read and check a web configuration. Raises SettingsError naming the key and the fix."""
    try:
        content = yaml.safe_load(bounded_file.read_text(path)) or {}
    except (OSError, bounded_file.TooLarge) as error:
        raise SettingsError(
            key="web_config", value=str(path), fix=f"cannot be read ({bounded_file.why(error)})"
        ) from None
    except _NOT_YAML:
        raise SettingsError(key="web_config", value=str(path), fix="not valid YAML") from None
    if not isinstance(content, dict):
        raise SettingsError(key="web_config", value=str(path), fix="the top level must be a mapping")
    _only(content, ("tls_server_config", "basic_auth_users"), "")
    return WebConfig(
        tls=_tls(content["tls_server_config"], path.parent) if content.get("tls_server_config") else None,
        users=_users(content.get("basic_auth_users") or {}),
    )


class BasicAuth:
    """Checks Authorization headers; a password that was right once is not hashed again."""

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._users = users
        self._cache_key = secrets.token_bytes(32)
        self._right: set[bytes] = set()

    def remembers(self, authorization: str) -> bool:
        """Tell at once whether the header was right before."""
        user, password = _credentials(authorization)
        return user is not None and password is not None and self._digest(user, password) in self._right

    def allows(self, authorization: str) -> bool:
        """Tell whether the header names a user with the right password. Slow (bcrypt) the first time."""
        user, password = _credentials(authorization)
        if user is None or password is None:
            return False
        digest = self._digest(user, password)
        if digest in self._right:
            return True
        hashed = self._users.get(user, _UNKNOWN_USER_HASH)
        # bcrypt reads 72 bytes; longer passwords could never have been hashed whole.
        right = len(password) <= 72 and bcrypt.checkpw(password, hashed) and user in self._users  # noqa: PLR2004
        if right and len(self._right) < _CACHE_LIMIT:
            self._right.add(digest)
        return right

    def _digest(self, user: str, password: bytes) -> bytes:
        return hmac.digest(self._cache_key, user.encode() + b"\0" + password, "sha256")


def _credentials(authorization: str) -> tuple[str | None, bytes | None]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else (None, None)
    except ValueError:  # not base64, not even ASCII, or not UTF-8 inside
        return None, None


def _tls(table: Any, folder: Path) -> ssl.SSLContext:
    if not isinstance(table, dict):
        raise SettingsError(key="tls_server_config", value="", fix="write it as a mapping")
    _only(table, _TLS_KEYS, "tls_server_config.")
    context = _context(table, folder)
    renewing = _Renewing(table, folder, context)
    context.sni_callback = lambda connection, _name, _context: renewing.choose(connection)
    return context


class _Renewing:
    """Gives each connection the files of a TLS configuration as they are when it begins."""

    def __init__(self, table: Mapping[str, Any], folder: Path, context: ssl.SSLContext) -> None:
        self._table = table
        self._folder = folder
        self._context = context
        self._seen = self._signatures()

    def choose(self, connection: ssl.SSLObject) -> None:
        """Read the files again if they changed; while they are unusable, the last ones that were usable stay.

        OpenSSL calls this for every connection, also for one that names no server. What a connection demands of
        its client was decided before; whom it trusts, and what it shows, comes from the new files.
        """
        seen = self._signatures()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = _context(self._table, self._folder)
            except SettingsError as error:
                log.error("TLS files not reloaded", extra={"problem": str(error)})  # noqa: TRY400
            else:
                log.info("TLS files reloaded")
        connection.context = self._context

    def _signatures(self) -> list[tuple[int, int, int] | None]:
        return [
            _signature(self._folder / str(self._table[key]))
            for key in ("cert_file", "key_file", "client_ca_file")
            if key in self._table
        ]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        about = os.stat(path)  # noqa: PTH116 - follows links, as secrets are renewed by
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _context(table: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _choose(table, "min_version", _MIN_VERSIONS, "TLS12")
    files = {
        key: str(folder / str(table[key]))
        for key in ("cert_file", "key_file", "client_ca_file")
        if key in table
    }
    for key in ("cert_file", "key_file"):
        if key not in files:
            raise SettingsError(
                key=f"tls_server_config.{key}", value="", fix="TLS needs cert_file and key_file"
            )
    try:
        # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(files["cert_file"], files["key_file"], password="")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            key="tls_server_config.cert_file",
            value=files["cert_file"],
            fix=f"certificate or key unusable ({error})",
        ) from None
    auth = _choose(table, "client_auth_type", _CLIENT_AUTH, "NoClientCert")
    if auth is ssl.CERT_NONE and "client_ca_file" in files:
        raise SettingsError(
            key="tls_server_config.client_ca_file",
            value=files["client_ca_file"],
            fix="checks no client; set client_auth_type to RequireAndVerifyClientCert, or remove it",
        )
    if auth is not ssl.CERT_NONE:
        try:
            context.load_verify_locations(files.get("client_ca_file", ""))
        except (OSError, ssl.SSLError):
            raise SettingsError(
                key="tls_server_config.client_ca_file",
                value=files.get("client_ca_file", ""),
                fix="client certificates can only be verified against a readable CA file",
            ) from None
    context.verify_mode = auth
    return context


def _choose(table: Mapping[str, Any], key: str, choices: Mapping[str, Any], default: str) -> Any:
    value = table.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise SettingsError(
            key=f"tls_server_config.{key}", value=str(value), fix=f"choose one of {', '.join(choices)}"
        )
    return choices[value]


def _users(table: Any) -> dict[str, bytes]:
    if not isinstance(table, dict):
        raise SettingsError(
            key="basic_auth_users", value="", fix="write it as a mapping of user to bcrypt hash"
        )
    users: dict[str, bytes] = {}
    for user, hashed in table.items():
        if not _is_bcrypt(str(hashed)):
            raise SettingsError(
                key=f"basic_auth_users.{user}",
                value="(not shown)",
                fix="not a bcrypt hash; make one with htpasswd -nBC 10",
            )
        users[str(user)] = str(hashed).encode()
    return users


def _is_bcrypt(text: str) -> bool:
    match = _BCRYPT.fullmatch(text)
    if match is None:
        return False
    try:
        bcrypt.hashpw(b"", b"$2b$04$" + match["salt"].encode())  # the library's own check, at the lowest cost
    except ValueError:
        return False
    return True


def _only(table: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(
                key=f"web_config {where}{key}", value="", fix=f"not supported; known: {', '.join(known)}"
            )
