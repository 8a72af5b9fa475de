"""Normal forms of what a call names: resource URIs (RFC 3986), names of tools and prompts, and file paths. Pure.

The policy decides on the normal form, and the normal form is sent upstream. A name without one is refused, because two
programs could read it in two ways.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from actions.mcp.look_alikes import INVISIBLE, alphabets, has_latin_shapes

MAX_URI: Final = 8_192
"""Characters of a URI. RFC 9110 advises 8,000 octets."""

MAX_NAME: Final = 256
"""Characters of a tool's or prompt's name, a label value too; the protocol advises 128."""

MAX_PATH: Final = 4_096
"""Bytes of a path: Linux's PATH_MAX."""

_PARTS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
"""RFC 3986, appendix B, with a scheme. Every class excludes its delimiters, so that matching is linear."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\\"<>^`{|}]")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})?")
_DOUBLE: Final = re.compile(r"%25[0-9A-Fa-f]{2}")
_ESCAPED_DELIMITER: Final = re.compile(r"%(?:2[35F]|3[AF]|40|5[BD])")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_AUTHORITY: Final = re.compile(r"(?:([^@\[\]]*)@)?([^@:\[\]]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]*))?")
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")
_DOTS: Final = frozenset({".", ".."})
_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
"""Schemes whose URLs always have a host (WHATWG's special schemes): parsers read `http:/a` as `http://a/`."""
_MAX_PORT: Final = 65_535
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A host whose last label is a number is an IPv4 address in some spelling: 127.1, 0x7f.1, 2130706433."""
_FILE_SAFE: Final = "-._~!$&'()*+,;=:@"
"""RFC 3986's pchar: characters that stand unescaped in the normal form of a `file:` path."""
_PATH_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_PATH_ENCODED: Final = re.compile(r"%(2e|2f|5c|00|25)", re.IGNORECASE)
_DISGUISED: Final = re.compile(r"^[\s\ufeff'\"]|[\s\ufeff'\"]\Z|^[\s\ufeff'\".]+\Z")
"""Tool servers trim and unquote before they look: server-filesystem's normalizePath() does both.

JavaScript's trim() takes every blank of Unicode and the byte order mark.
"""


def normal_uri(text: str) -> str | None:
    """Return the normal form of an absolute URI; None if it has none.

    Case of scheme, host and escapes, escapes of unreserved characters, dot segments, default ports (RFC 3986, 6.2.2 and
    6.2.3); other characters than ASCII are escaped (RFC 3987, 3.1). Refused: relative references, control characters,
    escapes of escapes and of separators that hide a dot segment, fragments, text that is not in normal form C; empty
    segments; hosts with escapes or dot segments; in web URLs user names, a missing host, and other spellings of an
    address; for `file:` also another host than this one, a query, and segments that servers trim.
    """
    if len(text) > MAX_URI or _FORBIDDEN.search(text):
        return None
    parts = _PARTS.fullmatch(_escaped(unicodedata.normalize("NFC", text)))
    if parts is None or parts[5]:
        return None
    try:
        return _assembled(parts[1].lower(), parts[2], parts[3], parts[4] or "")
    except _Ambiguous:
        return None


class _Ambiguous(Exception):
    """The URI has no normal form."""


def _assembled(scheme: str, authority: str | None, path: str, query: str) -> str:
    """Join the normal forms of all parts. Raises _Ambiguous."""
    if authority is not None:
        authority = _normal_authority(scheme, _normal_escapes(authority))
    elif scheme in _DEFAULT_PORTS:
        raise _Ambiguous
    path = _normal_escapes(path)
    path = _normal_path(path, rooted=authority is not None or path.startswith("/"))
    query = _normal_escapes(query)
    if scheme == "file":
        return _file_uri(authority, path, query)
    if "//" in path:  # servers join the segments, or merge the slashes
        raise _Ambiguous
    if not path and scheme in _DEFAULT_PORTS:
        path = "/"
    if scheme == "urn":  # RFC 8141: the namespace has no case
        namespace, colon, rest = path.partition(":")
        path = namespace.lower() + colon + rest
    before = f"//{authority}" if authority is not None else ""
    return f"{scheme}:{before}{path}" + (f"?{query}" if query else "")


def bare_uri(uri: str) -> str:
    """Return a normal URI without user and port, which many programs do not look at."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    host = rest[:end].rpartition("@")[2]
    return f"{scheme}://{_PORT.sub('', host)}{rest[end:]}"


def normal_template(text: str) -> str | None:
    """Return the normal form of a URI template (RFC 6570) with its braces escaped, for comparison with rules."""
    return normal_uri(text.replace("{", "%7B").replace("}", "%7D"))


def glob_fault(glob: str) -> str | None:
    """Return why a rule's glob for URIs cannot match any normal form; None if it can."""
    scheme, separator, rest = glob.partition("://")
    host = rest.partition("/")[0] if separator else ""
    for what, given in (("scheme", scheme if separator else ""), ("host", host)):
        if given != given.lower():
            return f"write the {what} in lower case: {given.lower()}"
    if scheme == "file" and separator and host and not host.startswith("*"):
        return "write file:///path: other hosts are refused"
    if re.search(r"(^|/)\.\.?(/|$)", rest) or re.search(r"[^\x21-\x7e]|\\", glob):
        return "has a dot segment, a blank, or a character that must be written as %XX"
    if "//" in rest.partition("?")[0]:
        return "has an empty segment"
    for escape in _ESCAPE.finditer(glob):
        char = chr(int(escape[1], 16)) if escape[1] is not None else ""
        plain = _UNRESERVED.union(_FILE_SAFE) if scheme == "file" else _UNRESERVED
        if escape[1] is None or escape[1] != escape[1].upper() or char in plain:
            return f"{escape[0]}: write escapes in upper case, and only where they are needed"
    return None


def name_fault(name: str) -> str | None:
    """Return why the name of a tool or prompt is refused; None if it is valid."""
    if not name or len(name) > MAX_NAME:
        return f"a name has 1 to {MAX_NAME} characters"
    if name.isascii() and name.isprintable() and name[0] != " " != name[-1]:
        return None
    if name != name.strip() or unicodedata.normalize("NFKC", name) != name:
        return "the name has blanks around it, or is not in Unicode's normal form KC"
    # controls, formats (zero-width blanks, direction marks), line separators; then what isprintable() passes
    if not name.isprintable() or INVISIBLE.search(name) is not None:
        return "the name has invisible characters"
    return _alphabet_fault(name)


def _alphabet_fault(name: str) -> str | None:
    mixed = alphabets(name)
    if len(mixed) > 1:
        return f"the name mixes letters of {' and '.join(sorted(mixed))}"
    return "the name has a word that looks like a Latin one" if has_latin_shapes(name) else None


def path_fault(path: str) -> str | None:
    """Return why a path is refused; None if servers agree on its meaning."""
    if not path.startswith("/"):
        return "must be an absolute path"
    if len(path) > MAX_PATH:
        return f"is longer than {MAX_PATH} characters"
    if _PATH_CONTROL.search(path) or _PATH_ENCODED.search(path):
        return "has characters that servers read differently"
    parts = path.split("/")
    if any(part not in {"", ".", ".."} and _is_disguised(part) for part in parts):
        return "has a part that servers read differently"
    compatible = unicodedata.normalize("NFKC", path)  # of \uff0e\uff0e and \uff0f it makes a way up
    if compatible.count("/") != path.count("/") or [part for part in parts if part in _DOTS] != _lenient_dots(
        path
    ):
        return "has a part that servers read differently"
    return None


def normal_path(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes, without reading the file system."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _is_disguised(part: str) -> bool:
    return _DISGUISED.search(part) is not None


def _escaped(text: str) -> str:
    """Percent-encode characters beyond ASCII as UTF-8."""
    if text.isascii():
        return text
    return "".join(
        char if char.isascii() else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))
        for char in text
    )


def _normal_escapes(text: str) -> str:
    """Decode unreserved characters; write other escapes in upper case. Raises _Ambiguous for dangerous ones."""
    if "%" not in text:
        return text
    if any(match[1] is None for match in _ESCAPE.finditer(text)):
        raise _Ambiguous
    if _PATH_CONTROL.search(_unescaped(text)):
        raise _Ambiguous

    def normal(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in _UNRESERVED else f"%{match[1].upper()}"

    decoded = _ESCAPE.sub(normal, text)
    if _DOUBLE.search(decoded):  # looked for here: `%25%32%65` decodes to an escape of an escape
        raise _Ambiguous
    return decoded


def _unescaped(text: str) -> str:
    """Decode every escape. Raises _Ambiguous for invalid UTF-8 (over-long forms of "." and "/") and beyond form C."""
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise _Ambiguous from None
    if unicodedata.normalize("NFC", decoded) != decoded:
        raise _Ambiguous
    return decoded


def _normal_authority(scheme: str, authority: str) -> str:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _Ambiguous
    user, port = parts[1], parts[3].lstrip("0") if parts[3] else ""
    host = _ESCAPE.sub(lambda match: match[0].upper(), parts[2].lower())
    if len(port) > len(str(_MAX_PORT)) or int(port or 0) > _MAX_PORT or (parts[3] and not port):
        raise _Ambiguous
    plain = _unescaped(host)
    if _ESCAPED_DELIMITER.search(host) or _lenient_dots(plain) or _is_disguised(plain):
        raise _Ambiguous  # servers of other schemes join host and path
    if host.startswith("["):
        host = _normal_ipv6(host)
    elif scheme in _DEFAULT_PORTS and (user is not None or not _is_one_host(host)):
        raise _Ambiguous
    shown_port = f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else ""
    return (f"{user}@" if user else "") + host + shown_port


def _normal_ipv6(host: str) -> str:
    """Return an IPv6 address in its short form. Raises _Ambiguous for one that stands for an IPv4 address."""
    try:
        address = ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        raise _Ambiguous from None
    if address.ipv4_mapped is not None:
        raise _Ambiguous
    return f"[{address.compressed}]"


def _is_one_host(host: str) -> bool:
    """Tell whether a host has one spelling: no root dot, no escape, addresses as four decimal numbers."""
    if not host or "%" in host or host.endswith("."):
        return False
    if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]) is None:
        return True
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _normal_path(path: str, *, rooted: bool) -> str:
    """Remove dot segments (RFC 3986, 5.2.4). Raises _Ambiguous for hidden ones and for paths without a root."""
    plain = path.split("/")
    if [part for part in plain if part in _DOTS] != _lenient_dots(_unescaped(path)):
        raise _Ambiguous
    if not _DOTS.intersection(plain):
        return path
    if not rooted:
        raise _Ambiguous
    kept: list[str] = []
    for part in plain[1:]:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    return "/" + "/".join([*kept, ""] if plain[-1] in _DOTS else kept)


def _lenient_dots(path: str) -> list[str]:
    """Return the dot segments that a lenient server finds in a decoded path; Java's ones drop what follows a `;`."""
    parts = unicodedata.normalize("NFKC", path).replace("\\", "/").split("/")
    return [dots for part in parts if (dots := part.partition(";")[0].strip()) in _DOTS]


def _file_uri(authority: str | None, path: str, query: str) -> str:
    segments = [part for part in path.split("/") if part]
    is_local = (
        authority in {None, "", "localhost"} and path.startswith("/") and not query and "%2F" not in path
    )
    if not is_local or any(_is_disguised(_unescaped(part)) for part in segments):
        raise _Ambiguous
    return "file:///" + "/".join(quote(_unescaped(part), safe=_FILE_SAFE) for part in segments)
