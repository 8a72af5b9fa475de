"""Targets: what the MCP gate lets through of arguments that are paths or hosts, and what it keeps of all arguments.

Knows several ways in which tool servers read a path or a URL; whichever one does, it must stay inside.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import httpx
import yarl

from actions.mcp.identifiers import normal_path
from actions.mcp.policy.constraints import Constraints, host_of, named
from tests.fuzz.choices import Choices

_JS_BLANKS: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's trim() takes away. Source: ECMA-262, WhiteSpace and LineTerminator."""

_PARTS: Final = (
    "..", ".", "", "inside", "deep", "link_out", "link_in", "link_up", "loop", "file.txt", "new", "secret", "~", "...",
    " ..", ".. ", "..\u00a0", "\u3000..", "\u2003", "\ufeff", "..'", '"..', "'", "..\\", "..\\..", "%2e%2e", "%2E%2e",
    "%252e%252e", "..%2f", "..%00", "\0", "\n", "\uff0e\uff0e", "\u2025", "..\u0301", "a b", "link_out\u00a0",
    "'link_out'", "link_out.", "LINK_OUT", "\N{GREEK SMALL LETTER OMEGA}",
)  # fmt: skip


@cache
def _tree() -> tuple[Path, Path]:
    """Make a real tree once: two roots, links inside, outside, up and around."""
    base = Path(tempfile.mkdtemp(prefix="daemonpulse-fuzz-")).resolve()
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    root, other = base / "root", base / "other root"
    (root / "inside" / "deep").mkdir(parents=True)
    other.mkdir()
    (base / "root-but-longer").mkdir()
    (base / "secret").write_text("x", encoding="utf-8")
    (root / "inside" / "file.txt").write_text("x", encoding="utf-8")
    (root / "link_out").symlink_to(base)
    (root / "link_in").symlink_to(root / "inside")
    (root / "inside" / "link_up").symlink_to("../..")
    (root / "loop").symlink_to(root / "loop")
    (base / "root_link").symlink_to(root)
    return base, root


def _readings(path: str) -> set[str]:
    """Give the paths that servers of different habits make of one: as it is, trimmed, unquoted, decoded, normalized."""
    trimmed = path.strip(_JS_BLANKS)
    unquoted = trimmed.removeprefix("'").removeprefix('"').removesuffix("'").removesuffix('"')
    readings = {path, trimmed, unquoted, path.strip(), path.strip("'\""), unquoted.strip(_JS_BLANKS)}
    readings |= {unquote(one) for one in readings}
    readings |= {one.replace("\\", "/") for one in readings}
    readings |= {unicodedata.normalize("NFC", one) for one in readings}
    return readings | {one.partition("\0")[0] for one in readings}


def paths(choices: Choices) -> None:
    """However a server reads it, a path that is let through is below a root; a plain one below it is let through."""
    base, root = _tree()
    roots = choices.pick(
        (
            (str(root),),
            (str(root) + "/",),
            (str(base / "root_link"),),
            (str(root), str(base / "other root")),
            (str(root / "inside" / "link_up" / "root" / "link_in"),),
        )
    )
    start = choices.pick(
        (str(root), str(root), str(base), str(base / "root_link"), str(base / "other root"), "", "/")
    )
    parts = [choices.pick(_PARTS) for _ in range(choices.upto(6))]
    if choices.rarely():
        parts.append(choices.text(12))
    path = choices.pick(("/", "/", "//")).join([start, *parts])
    constraints = Constraints(path_arguments=("path",), path_roots=roots, other_arguments=("x",))
    arguments: dict[str, Any] = choices.pick(
        ({"path": path}, {"path": [path]}, {"x": {"path": [[path]]}}, {"path": {path: path}})
    )
    normal = constraints.normal(arguments)
    fault = constraints.violation(normal, os.path.realpath)
    allowed = [Path(os.path.realpath(one)) for one in roots]
    if fault is not None:
        secret = path and not any(path in one for one in roots)
        assert not (secret and path in fault), f"{fault}: the value itself would go into the audit"
        plain = all(part in ("inside", "deep", "file.txt", "new", "link_in", "a b") for part in parts)
        if plain and start in roots:
            assert not any(Path(os.path.realpath(path)).is_relative_to(one) for one in allowed), (
                f"{path!r}: {fault}"
            )
        return
    (sent,) = {value for _, _, value in named(normal, frozenset({"path"}))}
    assert sent == path or normal_path(path) == sent
    for reading in _readings(sent):
        real = Path(os.path.realpath(reading))
        inside = any(real.is_relative_to(one) for one in allowed)
        assert inside, f"{path!r} is let through below {roots} and read as {reading!r} it is {real}"


_HOSTS: Final = ("*.example.org", "api.test", "10.0.0.*", "::1", "*.B\u00fccher.test", "LOCALHOST")
_URL_PIECES: Final = (
    "http://", "https://", "HTTP://", "ftp://", "//", "/", "\\", "@", ":", "#", "?", "%", "%2e", "%40", "[", "]", ".",
    "..", "user:pw@", "a.example.org", "A.EXAMPLE.ORG", "example.org", "evil.org", "api.test", "api.test.", "10.0.0.7",
    "10.0.0.0x7f", "127.0.0.1", "2130706433", "0x7f.1", "::1", "[::1]", "::ffff:10.0.0.7", "%25eth0", ":80", ":99999",
    ":0", "localhost", "\u3002", "\uff0e", "\u2024", "\u00ad", "\u200b", "xn--bcher-kva.test", "b\u00fccher.test",
    "\u212a", " ", "\t", "\n", "\0", "-", "_", "*", "x=",
)  # fmt: skip


def hosts(choices: Choices) -> None:
    """A URL that is let through leads to a host on the list, also in the eyes of two other parsers of URLs."""
    text = choices.pieces(_URL_PIECES, 7)
    constraints = Constraints(host_arguments=("url",), hosts=_HOSTS)
    fault = constraints.violation({"url": text}, str)
    host = host_of(text)
    if host is None:
        assert fault is not None, f"{text!r} has no certain host and was let through"
        return
    assert host == host.lower() == host.strip(), host
    assert host.isascii(), f"{text!r}: {host!r} is one name to some and another to others"
    for other in _other_readings(text):
        assert other == host, f"{text!r} leads to {host} for us and to {other} for others"
    listed = (
        host.endswith(".example.org")
        or host in ("api.test", "::1", "localhost")
        or host.startswith("10.0.0.")
    )
    assert (fault is None) == listed, f"{text!r} ({host}): {fault}"


def _other_readings(text: str) -> set[str]:
    url = text if "://" in text else f"http://{text}"
    found: set[str] = set()
    with contextlib.suppress(httpx.InvalidURL, ValueError):
        found.add(httpx.URL(url).raw_host.decode())
    with contextlib.suppress(ValueError):
        found.add(yarl.URL(url).raw_host or "")
    return {one.lower().removesuffix(".") for one in found if one}
