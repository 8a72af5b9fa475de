"""Who asks: the key's name, the header's, the program's family, in this order and bounded."""

import hashlib

import pytest

from exporter.shared.labels import OTHER
from exporter.tap.clients import MAX_NAMES, UNKNOWN, Clients, read_keys

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


def test_a_name_that_was_seen_stays_when_there_is_no_room_for_more() -> None:
    clients = Clients({}, "X-Client")
    for number in range(MAX_NAMES):
        assert clients.of_request({"x-client": f"team-{number}"}) == f"team-{number}"
    assert clients.of_request({"x-client": "another"}) == OTHER
    assert clients.of_request({"x-client": "team-0"}) == "team-0"
    assert clients.of_request({"x-client": "", "user-agent": "curl/8"}) == "curl"
    assert clients.of_request({"x-client": "x" * 63}) == OTHER


def test_a_key_is_known_by_its_hash_in_any_bytes_and_an_empty_one_is_nobodys() -> None:
    odd = hashlib.sha256(b"\xff").hexdigest()
    clients = Clients({odd: "odd", hashlib.sha256(b"").hexdigest(): "nobody"})
    assert clients.of_key("\udcff") == "odd"
    assert clients.of_key("") is None
    assert clients.of_key("other") is None
    assert clients.of_request({"authorization": "bEARER  \udcff"}) == "odd"
    assert clients.of_request({"authorization": "Basic \udcff", "x-api-key": "\udcff"}) == "odd"
    assert clients.of_request({"user-agent": "x" * 252 + "curl/"}) == UNKNOWN
    assert clients.of_request({"user-agent": "x" * 251 + "curl/"}) == "curl"


def test_a_client_file_is_hashes_and_names_with_comments() -> None:
    text = f"# of the team\n\n{HASH.upper()}  ci # the runner\n{'0' * 64}\tteam-a.b_c\n"
    assert read_keys(text) == {HASH: "ci", "0" * 64: "team-a.b_c"}
    assert read_keys("") == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (KEY, "write the SHA-256 of a key and a name, never the key itself"),
        (f"{KEY} ci", "write the SHA-256 of a key and a name, never the key itself"),
        (f"{HASH} ci two", "write the SHA-256 of a key and a name, never the key itself"),
        (f"{HASH}0 ci", "write the SHA-256 of a key and a name, never the key itself"),
        (f"{HASH} -ci", "a name has letters, digits, '.', '_' and '-', at most 63"),
        (f"{HASH} {'x' * 64}", "a name has letters, digits, '.', '_' and '-', at most 63"),
    ],
)
def test_a_wrong_line_of_a_client_file_is_refused_by_its_number_and_not_shown(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: ") as refused:
        read_keys(f"# x\n{line}\n")
    assert str(refused.value) == f"line 2: {fault}"


def test_more_names_than_a_label_may_have_are_refused() -> None:
    lines = [f"{hashlib.sha256(str(n).encode()).hexdigest()} n{n}" for n in range(MAX_NAMES + 1)]
    assert len(read_keys("\n".join(lines[:-1]))) == MAX_NAMES
    with pytest.raises(ValueError, match="more than"):
        read_keys("\n".join(lines))
