"""Normal forms of URIs, names and paths: one way to read them, or none."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.mcp.identifiers import (
    MAX_NAME,
    MAX_PATH,
    MAX_URI,
    bare_uri,
    glob_fault,
    name_fault,
    normal_path,
    normal_template,
    normal_uri,
    path_fault,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("FILE:///etc/passwd", "file:///etc/passwd"),
        ("file:/etc/passwd", "file:///etc/passwd"),
        ("file://localhost/etc/./passwd", "file:///etc/passwd"),
        ("file://LOCALHOST/etc/passwd", "file:///etc/passwd"),
        ("file:////etc//passwd/", "file:///etc/passwd"),
        ("file:///srv/../etc/passwd", "file:///etc/passwd"),
        ("file:///../../etc", "file:///etc"),
        ("file:///srv/%2e%2E/%65tc/passwd", "file:///etc/passwd"),
        ("HTTP://Example.ORG:80/a/../b?x=%7e", "http://example.org/b?x=~"),
        ("https://example.org:443", "https://example.org/"),
        ("https://example.org:8443/a%2fb", "https://example.org:8443/a%2Fb"),
        ("demo://resource/dynamic/text/1", "demo://resource/dynamic/text/1"),
        ("Memo://Insights?", "memo://insights"),
        ("urn:isbn:0451450523", "urn:isbn:0451450523"),
        ("note:///Grüße", "note:///Gr%C3%BC%C3%9Fe"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("a://h/b/..", "a://h/"),
        ("a://h/b/.", "a://h/b/"),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
        ("http://example.org:080/", "http://example.org/"),
        ("ftp://example.org:21/x", "ftp://example.org/x"),
        ("db://@host/x", "db://host/x"),
        ("postgres://me@Host/db", "postgres://me@host/db"),
        ("file:///srv/%28private%29%3Bx", "file:///srv/(private);x"),
        ("URN:Example:A", "urn:example:A"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("a://h/b/c/../d", "a://h/b/d"),
        ("x:/a/../b", "x:/b"),
        ("urn:Example:A:B", "urn:example:A:B"),
        ("http://example.org:65535/", "http://example.org:65535/"),
        ("x:" + "a" * (MAX_URI - 2), "x:" + "a" * (MAX_URI - 2)),
    ],
)
def test_a_uri_has_one_normal_form(text: str, normal: str) -> None:
    assert normal_uri(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", "etc/passwd", "/etc/passwd", "//localhost/etc/passwd", ":x", "1a:b",
        "file:etc/passwd", "file://evil/etc/passwd", "file://me@localhost/etc", "file://localhost:1/etc",
        "file:///etc/passwd?x", "file:///etc/passwd#x", "memo://a#b",
        "file:///srv/..%2fetc", "file:///srv/a%2fb", "file:///srv/%252e%252e/x", "file:///srv/%5c..", "file:///a%00b",
        "file:///a/.. /x", "file:///a/%2E%2E%20/x", "file:///a/'x'", "file:///a/%20b", "file:///a/\uff0e\uff0e/b",
        "file:///a/%c0%ae%c0%ae/b", "file:///a\\..\\b", "file:///a\tb", "file:///a b", "memo:a/../b", "a:/..//b",
        "http://me:pw@host/", "http:///x", "http://a%2eb%2f/", "http://host:x/", "x://[", "a://h/%", "a://h/%zz",
        "http:/a", "http:a", "https:example.org/x", "http://example.org./x", "http://127.1/", "http://0x7f.0.0.1/",
        "http://2130706433/", "http://0177.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://[::1%25eth0]/",
        "http://[1::2::3]/", "http://example.org:65536/", "x://h:99999999/", "http://h:0/", "file:///srv/e%CC%81",
        "http://ex\u00e4mple.org/", "http://\uff45xample.org/", "http://exa\u200bmple.org/",
        "a://h/..%2f..%2fetc", "a://h/\u200b{x}", "x:" + "y" * MAX_URI,
        "http://h/%25%32%65%25%32%65/x", "file:///%25%32%65/x", "x://a%2F..%2Fb/c", "x://../b", "x://./b", "x://a%3Ab/",
        "x://%2e%2e/b", "x://secret%20/b", "x://%22secret%22/b",
        "http://h//b", "x:////b", "http://h/a/..;/b", "http://h/a/..;x=1/b", "http://h/a/%2e%2e%3b/b",
    ],
)  # fmt: skip
def test_what_two_programs_would_read_in_two_ways_has_no_normal_form(text: str) -> None:
    assert normal_uri(text) is None


PIECES = st.sampled_from(
    [
        "..", ".", "/", "//", "a", "B", "%2e", "%2F", "%41", "%e4", "%", ":", "?", "#", "@", " ", "ä", "é", "[", "]",
        "\\", "%25", "%32", "%65", "%20", ";", "x@", ":80", "\uff0e", "\u2025", "%EF%BC%8E",
    ]
)  # fmt: skip


@given(st.sampled_from(["file:", "HTTP:", "x:", "x://", "http://h/", ""]), st.lists(PIECES, max_size=12))
def test_a_normal_form_is_its_own_and_a_files_has_no_way_up(scheme: str, pieces: list[str]) -> None:
    normal = normal_uri(scheme + "".join(pieces))
    if normal is None:
        return
    assert normal_uri(normal) == normal
    assert normal.isascii()
    if scheme == "file:":
        assert normal.startswith("file:///")
        assert not {"..", "."} & set(normal.split("/"))


@pytest.mark.parametrize(
    ("glob", "fault"),
    [
        ("*", None), ("file:///srv/*", None), ("memo://*", None), ("*secret*", None), ("file://*/x", None),
        ("http://example.org/%2F*", None), ("[fh]*", None),
        ("FILE:///srv/*", "scheme in lower case: file"), ("memo://Insights", "host in lower case: insights"),
        ("file://localhost/x", "file:///path"), ("file:///a/../b", "dot segment"), ("file:///ä", "%XX"),
        ("file:///%65tc", "only where they are needed"), ("file:///a%28b", "only where they are needed"),
        ("x:///a%28b", None), ("x://a/%2f", "%2f: write escapes in upper case"), ("x://a/%", "%: write"),
        ("Memo:Insights", None), ("memo://a/b://C", "has an empty segment"),
        ("file://h/x", "write file:///path: other hosts are refused"),
        ("x://a/./b", "has a dot segment, a blank, or a character that must be written as %XX"),
        ("x://a/~", None), ("x://a/\x7f", "must be written as %XX"), ("x://a/\\b", "must be written as %XX"),
    ],
)  # fmt: skip
def test_a_glob_that_can_match_no_normal_form_is_told_apart(glob: str, fault: str | None) -> None:
    found = glob_fault(glob)
    assert (found is None) if fault is None else (found is not None and fault in found)


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("docs://me@secret:80/x@y:1", "docs://secret/x@y:1"),
        ("docs://secret", "docs://secret"),
        ("docs://secret:9?a@b", "docs://secret?a@b"),
        ("http://[::1]:8080/", "http://[::1]/"),
        ("http://[::1]/", "http://[::1]/"),
        ("file:///a:1", "file:///a:1"),
        ("urn:a:80", "urn:a:80"),
        ("mailto:me@example.org", "mailto:me@example.org"),
    ],
)
def test_a_bare_uri_has_neither_user_nor_port(uri: str, bare: str) -> None:
    assert bare_uri(uri) == bare


def test_templates_are_compared_with_their_braces_escaped() -> None:
    assert normal_template("MAIL://{box}/x") == "mail://%7Bbox%7D/x"
    assert normal_template("file:///srv/../{path}") == "file:///%7Bpath%7D"
    assert normal_template("{scheme}://x") is None


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["", "x" * (MAX_NAME + 1)], f"a name has 1 to {MAX_NAME} characters"),
        (
            [" a", "a ", " ä", "a\n", "ä\n", "e\u0301", "re\ufb01ll", "\uff32ead"],
            "the name has blanks around it, or is not in Unicode's normal form KC",
        ),
        (
            ["a\u200bb", "a\u202eb", "\u115fa", "a\u2800b", "a\ufe0f", "a\u034fb", "a\u00adb", "a\x07b"],
            "the name has invisible characters",
        ),
        (["r\u0435ad"], "the name mixes letters of CYRILLIC and LATIN"),
        (["a\u3164"], "the name has blanks around it, or is not in Unicode's normal form KC"),
    ],
)
def test_names_that_are_not_seen_as_they_are_are_refused(names: list[str], fault: str) -> None:
    for name in names:
        assert name_fault(name) == fault, repr(name)


@pytest.mark.parametrize(
    "name", ["read_file", "a b", "größe", "search/web.v2", "поиск", "検索", "検索v2", "x" * MAX_NAME]
)
def test_ordinary_names_are_not(name: str) -> None:
    assert name_fault(name) is None


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c"]), max_size=8))
def test_a_path_keeps_its_meaning_without_dots(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assert path_fault(path) is None
    normal = normal_path(path)
    assert normal == "/" + os.path.normpath(path).lstrip("/")
    assert normal_path(normal) == normal
    assert not {"..", "."} & set(normal.split("/"))


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("srv", "must be an absolute path"),
        ("/" + "x" * (MAX_PATH - 1), None),
        ("/" + "x" * MAX_PATH, f"is longer than {MAX_PATH} characters"),
        ("/a\\b", "has characters that servers read differently"),
        ("/a\x00b", "has characters that servers read differently"),
        ("/%2E%2e/b", "has characters that servers read differently"),
        ("/a b/c", None),
        ("/Xylophone/Xs", None),
        ("/a/ b", "has a part that servers read differently"),
        ("/' '/b", "has a part that servers read differently"),
        ("/.../b", "has a part that servers read differently"),
    ],
)
def test_a_path_that_servers_read_differently_is_refused(path: str, fault: str | None) -> None:
    assert path_fault(path) == fault
    if fault is None:
        assert normal_path(path) == path
