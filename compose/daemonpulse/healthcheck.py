"""`daemonpulse healthcheck`: whether the service of this container, or of this host, answers. For HEALTHCHECK lines.

Reads the settings of process 1 when that is a `daemonpulse` command, flags included, so that it connects where that
process listens, with TLS if it has TLS. Any answer below 500 counts: a service that asks for a password is alive.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from exporter.shared.terminal import fail

TIMEOUT_S: Final = 4.0
_SERVICES: Final = {
    "exporter": ("exporter",),
    "simulate": ("simulate",),
    "actions": ("actions", "serve"),
    "tap": ("tap",),
}
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what stands for every address


@click.command()
@click.argument("service", required=False, type=click.Choice(sorted(_SERVICES)))
def healthcheck(service: str | None) -> None:
    """Exit 0 when the service answers, 1 when it does not.

    SERVICE is the one that runs as process 1, as in a container, or else the exporter. Its settings are read from the
    environment, and from the flags of process 1.

    \b
    Example: HEALTHCHECK CMD ["daemonpulse", "healthcheck"]
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    words = _words_of_process_1()
    found = next((name for name, path in _SERVICES.items() if tuple(words[: len(path)]) == path), None)
    chosen = service or found or "exporter"
    flags = _flags(words) if chosen == found else {}
    host, port, has_tls = _listens(chosen, flags)
    try:
        status = _ask(_LOOPBACK.get(host, host), port, has_tls=has_tls)
    except (OSError, http.client.HTTPException) as error:
        fail(f"{chosen} at {host}:{port} does not answer: {str(error) or type(error).__name__}", 1)
    if status >= http.client.INTERNAL_SERVER_ERROR:
        fail(f"{chosen} at {host}:{port} answers HTTP {status}", 1)


def _listens(service: str, flags: Mapping[str, str | None]) -> tuple[str, int, bool]:
    """Tell where a service listens, and whether with TLS."""
    from exporter import settings as exporter_settings
    from exporter.shared import web_config
    from exporter.shared.settings_table import SettingsError

    try:
        if service == "actions":
            from actions import settings as actions_settings

            own = actions_settings.load(flags)
            host, port, path = own.listen_host, own.listen_port, own.web_config
        elif service == "tap":
            from exporter.tap import settings as tap_settings

            tap = tap_settings.load(flags)
            host, port, path = tap.reports_host, tap.reports_port, None
        else:
            exporter = exporter_settings.load(flags)
            host, port, path = exporter.listen_host, exporter.listen_port, exporter.web_config
        has_tls = path is not None and web_config.load(path).tls is not None
    except SettingsError as error:
        fail(str(error))
    return host, port, has_tls


def _ask(host: str, port: int, *, has_tls: bool) -> int:
    if has_tls:
        # The name in the certificate is not loopback's, and whether it is valid is the scraper's question.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.request("GET", "/healthz")
    return connection.getresponse().status


def _words_of_process_1(path: Path = Path("/proc/1/cmdline")) -> Sequence[str]:
    """Return the words behind `daemonpulse`; none when process 1 is something else."""
    try:
        words = path.read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return ()
    names = [Path(word).name for word in words[:2]]  # the interpreter may come first
    return words[names.index("daemonpulse") + 1 :] if "daemonpulse" in names else ()


def _flags(words: Sequence[str]) -> dict[str, str | None]:
    """Read `--key value` and `--key=value`; what is no setting is left out when settings are read."""
    flags: dict[str, str | None] = {}
    for position, word in enumerate(words):
        if word.startswith("--"):
            key, has_value, value = word[2:].partition("=")
            following = words[position + 1] if position + 1 < len(words) else None
            flags[key.replace("-", "_")] = value if has_value else following
    return flags
