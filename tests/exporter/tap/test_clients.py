"""Who asks: the key's name, the header's, the program's family, in this order and bounded."""

import hashlib

import pytest

from exporter.tap.clients import MAX_NAMES, OTHER, UNKNOWN, Clients, read_keys

KEY = "sk-secret"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def test_the_key_goes_before_the_header_and_that_before_the_program() -> None:
    clients = Clients({HASH: "ci"}, "X-Client")
    told = {"user-agent": "curl/8.5", "x-client": "batch", "authorization": f"Bearer {KEY}"}
    assert clients.of_request(told) == "ci"
    assert clients.of_request({**told, "authorization": "Bearer other"}) == "batch"
    assert clients.of_request({"user-agent": "curl/8.5"}) == "curl"
    assert clients.of_request({"x-api-key": KEY}) == "ci"
    assert clients.of_request({}) == UNKNOWN
    assert KEY not in repr(vars(clients))


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("AsyncOpenAI/Python 3.57.0", "openai-python"),
        ("OpenAI/JS 6.1.0", "openai-js"),
        ("AsyncAnthropic/Python 2.14.0", "anthropic-python"),
        ("python-httpx/0.28.1", "httpx"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "browser"),
        ("Python/3.11 websockets/17.4", "websockets"),
        ("something else entirely", UNKNOWN),
    ],
)
def test_a_program_is_told_by_its_family_and_never_by_its_version(agent: str, family: str) -> None:
    assert Clients({}).of_request({"user-agent": agent}) == family


def test_names_that_a_header_gives_are_bounded_in_number_and_form() -> None:
    clients = Clients({}, "x-client")
    names = {clients.of_request({"x-client": f"team-{number}"}) for number in range(MAX_NAMES + 20)}
    assert len(names) == MAX_NAMES + 1
    assert OTHER in names
    assert clients.of_request({"x-client": 'a"b\n'}) == OTHER
    assert clients.of_request({"x-client": "x" * 64}) == OTHER


def test_more_names_than_a_label_may_have_are_refused() -> None:
    lines = [f"{hashlib.sha256(str(n).encode()).hexdigest()} n{n}" for n in range(MAX_NAMES + 1)]
    assert len(read_keys("\n".join(lines[:-1]))) == MAX_NAMES
    with pytest.raises(ValueError, match="more than"):
        read_keys("\n".join(lines))
