"""TLS and basic auth: what the file asks for is what a client meets, and half of it is never accepted."""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from exporter.shared import web_config
from exporter.shared.settings_table import SettingsError
from exporter.shared.web_config import BasicAuth, WebConfig

HASH = bcrypt.hashpw(b"correct horse", b"$2b$04$" + b"." * 22).decode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """Return a folder with the files that a web configuration can name."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path


def load(folder: Path, content: Any) -> WebConfig:
    path = folder / "web.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return web_config.load(path)


def refusal(folder: Path, content: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, content)
    assert str(caught.value).isprintable()
    return str(caught.value)


def header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# The file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", {"basic_auth_users": {}}, {"tls_server_config": None}]
)
def test_a_file_that_asks_for_nothing_gives_nothing(folder: Path, content: Any) -> None:
    assert load(folder, content) == WebConfig()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "web_config="),
        ("- a", "the top level must be a mapping"),
        ({"http_server_config": {"http2": False}}, "web_config http_server_config: not supported"),
        ({"rate_limit": {}}, "web_config rate_limit: not supported"),
        ({"tls_server_config": [1]}, "tls_server_config: write it as a mapping"),
        ({"tls_server_config": {"cipher_suites": []}}, "tls_server_config.cipher_suites: not supported"),
        ({"tls_server_config": {"cert_file": "server.crt"}}, "tls_server_config.key_file: TLS needs"),
        ({"tls_server_config": {"key_file": "server.key"}}, "tls_server_config.cert_file: TLS needs"),
        ({"basic_auth_users": ["a"]}, "basic_auth_users: write it as a mapping"),
    ],
)
def test_every_mistake_names_its_key(folder: Path, content: Any, told: str) -> None:
    assert told in refusal(folder, content)


@pytest.mark.parametrize("text", ["a: 2001-99-99", "a: !!timestamp x", "a: !!int _", "[" * 5000, "? [a]: b"])
def test_what_breaks_the_yaml_reader_is_not_valid_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "web.yml").write_text(text)
    with pytest.raises(SettingsError, match="not valid YAML"):
        web_config.load(tmp_path / "web.yml")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        web_config.load(tmp_path / "missing.yml")
    (tmp_path / "binary.yml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not valid YAML"):
        web_config.load(tmp_path / "binary.yml")


# Basic auth ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hashed",
    [
        "plain text",
        "",
        None,
        5,
        "$2b$10$short",
        HASH[:-1],
        HASH + "x",
        HASH.replace("$2b", "$1"),
        "$2b$99$" + "." * 53,
    ],
)
def test_only_bcrypt_hashes_are_passwords_and_none_is_shown(folder: Path, hashed: object) -> None:
    text = refusal(folder, {"basic_auth_users": {"prometheus": hashed}})

    assert text.startswith("basic_auth_users.prometheus=(not shown): not a bcrypt hash")
    assert not hashed or str(hashed) not in text


def test_an_expensive_hash_costs_nothing_when_it_is_read(folder: Path) -> None:
    costly = HASH.replace("$04$", "$31$")  # would take days to check

    assert load(folder, {"basic_auth_users": {"a": costly}}).users == {"a": costly.encode()}


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_the_right_password_of_a_known_user_is_let_in(folder: Path, prefix: str) -> None:
    config = load(folder, {"basic_auth_users": {"prometheus": HASH.replace("$2b$", prefix)}})
    auth = BasicAuth(config.users)

    for _ in range(2):  # the second time from memory
        assert auth.allows(header("prometheus", "correct horse"))
        assert auth.allows(header("prometheus", "correct horse").replace("Basic", "bAsIc"))
    assert not auth.allows(header("prometheus", "wrong horse"))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic \xe9",
        "Bearer abc",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:correct horse").decode(),
        header("Prometheus", "correct horse"),
        header("", "correct horse"),
        header("prometheus", ""),
        header("prometheus", "correct horse "),
        header("prometheus", "correct horse\0"),
        header("prometheus", "correct horse" + "x" * 100),
        header("prometheus\0", "correct horse"),
    ],
)
def test_everybody_else_is_kept_out(authorization: str) -> None:
    auth = BasicAuth({"prometheus": HASH.encode()})
    assert auth.allows(header("prometheus", "correct horse"))

    assert not auth.allows(authorization)


def test_a_password_that_was_right_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def counting(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    auth = BasicAuth({"a": HASH.encode(), "b": HASH.encode()})
    for _ in range(3):
        assert auth.allows(header("a", "correct horse"))
        assert not auth.allows(header("a", "wrong"))
        assert not auth.allows(header("nobody", "correct horse"))

    # Wrong passwords and unknown users cost the same, every time.
    assert checked == [b"correct horse", *[b"wrong", b"correct horse"] * 3]


@given(
    st.text(st.characters(codec="latin-1"))
    | st.binary().map(lambda b: "Basic " + base64.b64encode(b).decode())
)
def test_no_header_raises_or_gets_in(authorization: str) -> None:
    assert not BasicAuth({}).allows(authorization)


# TLS -----------------------------------------------------------------------------------------------------------------


async def greeting(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """Serve one line over TLS and return what the client read; nothing when it was turned away.

    With TLS 1.3 a client learns only from the first read that its certificate was refused.
    """

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        except (ssl.SSLError, ConnectionError):
            return b""
        try:
            return await reader.readline()
        except (ssl.SSLError, ConnectionError):
            return b""
        finally:
            writer.close()


def client(authority: trustme.CA, identity: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if identity is not None:
        identity.issue_cert("prometheus@example.org").configure_cert(context)
    return context


def tls(folder: Path, **more: str) -> ssl.SSLContext:
    table = {"cert_file": "server.crt", "key_file": "server.key"} | more
    context = load(folder, {"tls_server_config": table}).tls
    assert context is not None
    return context


async def test_the_certificate_is_served_from_paths_beside_the_file(
    folder: Path, authority: trustme.CA
) -> None:
    assert await greeting(tls(folder), client(authority)) == b"hello\n"
    assert await greeting(tls(folder, cert_file=str(folder / "server.crt")), client(authority)) == b"hello\n"


def renew(folder: Path, authority: trustme.CA) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    certificate.private_key_pem.write_to_path(folder / "server.key")


async def test_a_renewed_certificate_is_shown_to_the_next_connection(
    folder: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    server = tls(folder)
    assert await greeting(server, client(authority)) == b"hello\n"

    renew(folder, stranger)

    assert await greeting(server, client(stranger)) == b"hello\n"
    assert await greeting(server, client(authority)) == b""


async def test_a_renewed_authority_says_whose_clients_are_let_in(
    folder: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    server = tls(folder, client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.crt")

    stranger.cert_pem.write_to_path(folder / "ca.crt")

    assert await greeting(server, client(authority, stranger)) == b"hello\n"
    assert await greeting(server, client(authority, authority)) == b""


async def test_a_certificate_that_is_half_renewed_leaves_the_last_one_in_use(
    folder: Path, authority: trustme.CA, stranger: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    server = tls(folder)
    key = (folder / "server.key").read_bytes()

    renew(folder, stranger)
    (folder / "server.key").write_bytes(key)  # of the certificate before
    assert await greeting(server, client(authority)) == b"hello\n"
    (folder / "server.key").unlink()
    assert await greeting(server, client(authority)) == b"hello\n"

    told = [record for record in caplog.records if record.name == web_config.__name__]
    assert {record.message for record in told} == {"TLS files not reloaded"}
    renew(folder, stranger)
    assert await greeting(server, client(stranger)) == b"hello\n"


async def test_a_client_certificate_is_required_when_it_says_so(
    folder: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    required = tls(folder, client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.crt")

    assert await greeting(required, client(authority, authority)) == b"hello\n"
    for kept_out in (client(authority), client(authority, stranger)):
        assert await greeting(required, kept_out) == b""


async def test_a_client_certificate_is_checked_if_given_when_it_says_so(
    folder: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    optional = tls(folder, client_auth_type="VerifyClientCertIfGiven", client_ca_file="ca.crt")

    assert await greeting(optional, client(authority)) == b"hello\n"
    assert await greeting(optional, client(authority, authority)) == b"hello\n"
    assert await greeting(optional, client(authority, stranger)) == b""


@pytest.mark.parametrize(
    ("version", "least"), [(None, "TLSv1_2"), ("TLS12", "TLSv1_2"), ("TLS13", "TLSv1_3")]
)
def test_old_tls_is_not_spoken(folder: Path, version: str | None, least: str) -> None:
    context = tls(folder, **{} if version is None else {"min_version": version})

    assert context.minimum_version is ssl.TLSVersion[least]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cert_file": "missing.crt"}, "certificate or key unusable"),
        ({"key_file": "ca.crt"}, "certificate or key unusable"),
        ({"key_file": "."}, "certificate or key unusable"),
        ({"min_version": "TLS10"}, "tls_server_config.min_version=TLS10: choose one of TLS12, TLS13"),
        ({"min_version": ["TLS12"]}, "choose one of TLS12, TLS13"),
        ({"client_auth_type": "RequireAnyClientCert"}, "choose one of NoClientCert"),
        ({"client_auth_type": "RequireAndVerifyClientCert"}, "client_ca_file: client certificates can only"),
        (
            {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "server.key"},
            "client certificates can only be verified",
        ),
        ({"client_ca_file": "ca.crt"}, "checks no client; set client_auth_type"),
        ({"client_ca_file": "ca.crt", "client_auth_type": "NoClientCert"}, "checks no client"),
    ],
)
def test_half_a_tls_configuration_is_refused(folder: Path, change: dict[str, Any], told: str) -> None:
    table = {"cert_file": "server.crt", "key_file": "server.key"} | change

    text = refusal(folder, {"tls_server_config": table})

    assert told in text
    assert text.startswith("tls_server_config.")


def test_an_encrypted_key_is_refused_instead_of_asking_the_terminal(
    folder: Path, authority: trustme.CA
) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    told = refusal(folder, {"tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"}})
    assert "certificate or key unusable" in told
