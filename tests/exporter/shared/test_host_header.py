"""Whose name is in a Host header, and whose page is in an Origin header."""

import pytest

from exporter.shared import host_header


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - what is asked
        ("::", False),
        ("192.168.1.2", False),
        ("127.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_only_addresses_of_this_host_are_loopback(address: str, expected: bool) -> None:  # noqa: FBT001
    assert host_header.is_loopback(address) is expected


def test_on_loopback_the_loopback_names_and_those_allowed_are_ours_and_beyond_it_any() -> None:
    assert host_header.accepted("127.0.0.2", ["box.lan"]) == host_header.LOOPBACK_NAMES | {
        "127.0.0.2",
        "box.lan",
    }
    assert host_header.accepted("0.0.0.0", ["box.lan"]) is None  # noqa: S104


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("A.b:1", "a.b"),
        ("[::1]:9", "[::1]"),
        ("[::1", ""),
        ("", ""),
        (":80", ""),
        ("a@127.0.0.1", "a@127.0.0.1"),
        ("[::1]evil.org", ""),
        ("[::1]:80@evil.org", ""),
        ("localhost:80@evil.org", ""),
        ("localhost:x", ""),
    ],
)
def test_the_name_is_what_stands_before_the_port(host: str, name: str) -> None:
    assert host_header.name_of(host) == name


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://127.0.0.1:9811", True),
        ("https://127.0.0.1:9811", True),
        ("https://box.lan", True),
        ("http://127.0.0.1:9812", False),
        ("http://127.0.0.1", False),
        ("http://localhost:9811", False),
        ("http://evil.example", False),
        ("http://127.0.0.1:9811.evil.example", False),
        ("http://evil.example@127.0.0.1:9811", False),
        ("http://127.0.0.1:9811@evil.example", False),
        ("http://box.lan.evil.example", False),
        ("file://127.0.0.1:9811", False),
        ("null", False),
        ("", False),
        ("http://", False),
        ("http://[", False),
    ],
)
def test_a_page_is_of_the_same_place_only_on_the_same_name_and_port(origin: str, same: bool) -> None:  # noqa: FBT001
    assert host_header.is_same_place(origin, "127.0.0.1:9811", {"box.lan"}) is same
