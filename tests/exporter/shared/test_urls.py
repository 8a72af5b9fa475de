"""What is taken for a URL, and what only looks like one."""

import pytest

from exporter.shared.urls import is_base, is_http


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h:1",
        "HTTP://h:65535/a",
        "http://[::1]:8/x",
        "http://127.0.0.1:1234/base/",
        "http://h:/",
    ],
)
def test_a_scheme_a_host_and_a_path_make_a_base(url: str) -> None:
    assert is_http(url)
    assert is_base(url)


@pytest.mark.parametrize(
    "url", ["http://me:pw@h", "http://h/?a=1", "http://h?", "http://h/#a", "http://h/@x/y", "http://http://h"]
)
def test_what_can_be_asked_is_not_always_a_base(url: str) -> None:
    assert is_http(url)
    assert not is_base(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "h:1", "//h", "http:", "http:h", "http:/h", "http://", "http://:1", "http:///x", "ftp://h", "ws://h",
        "http://[", "http://[::2", "http://h:0", "http://h:65536", "http://h:x", "http://h:-1", "http://a b",
        "http://h\n", "http://h/\tx", " http://h", "http://h\x1b[31m", "\u2028http://h",
    ],
)  # fmt: skip
def test_what_fails_later_is_refused_at_once(url: str) -> None:
    assert not is_http(url)
    assert not is_base(url)
