"""Who Grafana signs for is proven, whatever else a header holds is not, and neither opens or closes a door."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actions.auth.grafana_identity import KEYS_AGE_S, KEYS_PATH, RETRY_S, GrafanaId
from llmster_sim.server import Simulator
from tests.actions.conftest import StartForge

ALICE = {"sub": "user:2", "aud": "org:1", "username": "alice", "iss": "http://grafana/", "type": "user"}


class Grafana:
    """Stands in for Grafana's keys."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.kid = "one"
        self.body: bytes | None = None
        self.asked = 0
        self.url = ""

    def keys(self) -> bytes:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "ES256"}]}).encode()

    def sign(self, *, life_s: float = 600, kid: str | None = None, **claims: Any) -> str:
        now = time.time()
        body = ALICE | {"iat": now, "exp": now + life_s} | claims
        kept = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(kept, self.key, "ES256", headers={"kid": kid or self.kid, "typ": "jwt"})


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    one = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.asked += 1
            body = one.keys() if one.body is None else one.body
            self.send_response(200 if self.path == KEYS_PATH else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        one.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield one
        server.shutdown()
        thread.join()


async def test_what_grafana_signed_is_proven(grafana: Grafana) -> None:
    checks = GrafanaId(grafana.url + "/")
    for claims, person in (({}, "alice"), ({"username": None}, "user:2"), ({"aud": ["org:1"]}, "alice")):
        proof = await checks.check(grafana.sign(**claims))
        assert proof.person == person
        assert proof.record == {"verified": True, "subject": "user:2", "org": "org:1"}
    assert grafana.asked == 1, "keys are kept"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(grafana: Grafana) -> dict[str, str]:
    other = Grafana()
    now = int(time.time())
    whole = ALICE | {"iat": now, "exp": now + 600}
    public = grafana.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = grafana.sign().split(".")
    return {
        "another key": other.sign(),
        "expired": grafana.sign(iat=now - 700, exp=now - 100),
        "not begun": grafana.sign(iat=now + 300, exp=now + 600),
        "lives long": grafana.sign(life_s=86_400),
        "no end": grafana.sign(exp=None),
        "an end in words": grafana.sign(exp=str(now + 600)),
        "an end without end": grafana.sign(exp=float("inf")),
        "an end that is a list": grafana.sign(exp=[now + 600]),
        "no audience": grafana.sign(aud=None),
        "audience": grafana.sign(aud="https://elsewhere"),
        "audiences": grafana.sign(aud=["org:1", "org:2"]),
        "no subject": grafana.sign(sub=None),
        "no algorithm": jwt.encode(whole, "", "none", headers={"kid": "one"}),
        "public key as secret": jwt.api_jws.PyJWS().encode(
            json.dumps(whole).encode(), public.hex().encode(), "HS256", headers={"kid": "one"}
        ),
        "RSA": jwt.encode(whole, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "one"}),
        "no key named": jwt.encode(whole, grafana.key, "ES256"),
        "cut": f"{head}.{body}.",
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "text": "alice",
        **{
            name: f"{_base64(raw)}.{body}.{signature}"
            for name, raw in {
                "nested head": b"[" * 6_000,
                "nested in the head": b'{"kid":' + b"[" * 5_900,
                "a head that is a list": b'["kid"]',
                "a huge number": b'{"kid": ' + b"9" * 5_900 + b"}",
                "half a character": b'{"alg": "ES256", "kid": "\\ud800"}',
            }.items()
        },
        "empty": "",
        "long": "x" * 100_000,
        "not ASCII": "\u00fc.\u00fc.\u00fc",
    }


async def test_nothing_else_is(grafana: Grafana) -> None:
    checks = GrafanaId(grafana.url)
    assert (await checks.check(grafana.sign())).person == "alice"
    for name, token in forged(grafana).items():
        proof = await checks.check(token)
        assert proof.person is None, name
        assert proof.record["verified"] is False, name
    assert grafana.asked == 1, "no forged token makes us ask again"


async def test_a_new_key_is_learned_and_an_old_one_forgotten(grafana: Grafana) -> None:
    now = 0.0
    checks = GrafanaId(grafana.url, monotonic=lambda: now)
    old = grafana.sign()
    assert (await checks.check(old)).person == "alice"
    grafana.kid = "two"
    assert (await checks.check(grafana.sign())).person is None, "asked a moment ago"
    now = RETRY_S
    assert (await checks.check(grafana.sign())).person == "alice"
    assert (await checks.check(old)).person is None
    grafana.body = b"gone"
    now += KEYS_AGE_S + RETRY_S + 1
    assert (await checks.check(grafana.sign())).person is None, "keys that cannot be renewed end"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": [{"kty": "EC", "crv": "P-256"}]}']
)
async def test_a_grafana_that_answers_nonsense_proves_nothing(grafana: Grafana, body: bytes) -> None:
    grafana.body = body
    checks = GrafanaId(grafana.url)
    for _ in range(3):
        assert (await checks.check(grafana.sign())).record == {"verified": False, "why": "InvalidKeyError"}
    assert grafana.asked == 1


async def test_the_audit_says_who_is_proven_and_nobody_is_let_in_or_kept_out_by_it(
    start_forge: StartForge, sim: Simulator, grafana: Grafana
) -> None:
    forge = await start_forge(sim, scope="operate", grafana_url=grafana.url)
    sent = [
        {"X-Grafana-User": "mallory", "X-Grafana-Id": grafana.sign()},
        {"X-Grafana-User": "mallory", "X-Grafana-Id": "forged"},
        {"X-Grafana-User": "mallory"},
    ]
    for headers in sent:
        assert (await forge.post("models/eject-all", headers=headers)).status_code == 200
    entries = await forge.audit("intent")
    assert [(entry["person"], entry["detail"].get("grafana", {}).get("verified")) for entry in entries] == [
        ("alice", True),
        ("mallory", False),
        ("mallory", None),
    ]
    denied = await forge.http.post("/v1/mcp/adopt", headers=sent[0])
    assert denied.status_code == 403, "the token's scope decides"
    stranger = await forge.http.post(
        forge.path("models/eject-all"), headers=sent[0] | {"Authorization": "Bearer x"}
    )
    assert stranger.status_code == 401


async def test_a_grafana_that_is_away_stops_nothing(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim, scope="operate", grafana_url="http://127.0.0.1:9")
    headers = {"X-Grafana-User": "bob", "X-Grafana-Id": Grafana().sign()}
    assert (await forge.post("models/eject-all", headers=headers)).status_code == 200
    [entry] = await forge.audit("intent")
    assert (entry["person"], entry["detail"]["grafana"]["verified"]) == ("bob", False)
