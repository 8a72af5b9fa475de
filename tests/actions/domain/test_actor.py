"""Tokens and scopes: who may, and for how long."""

import hmac
from collections.abc import Callable

import pytest

from actions.auth.tokens import NoSuchToken, Token, TokenStore
from actions.domain.actor import LOOPBACK, Scope, internal, on_behalf
from actions.store.database import Storage


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tokens(storage: Storage) -> TokenStore:
    return TokenStore(storage, clock_ms=lambda: 1_000)


async def made(storage: Storage, tokens: TokenStore, **wanted: object) -> tuple[Token, str]:
    chosen = {"name": "ops", "scope": Scope.OPERATE, **wanted}
    return await storage.write(lambda db: tokens.add(db, **chosen))  # type: ignore[arg-type]


def test_each_scope_includes_the_ones_before_it_and_none_includes_text() -> None:
    assert [[a.includes(b) for b in Scope] for a in Scope] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, False, False, True],
    ]


async def test_a_token_is_who_it_was_made_for(storage: Storage, tokens: TokenStore) -> None:
    token, text = await made(storage, tokens)
    checked = await tokens.check(text)
    assert checked.actor is not None
    assert (checked.actor.name, checked.actor.scope, checked.actor.owner) == (
        "token:ops",
        Scope.OPERATE,
        token.id,
    )


async def test_the_secret_is_nowhere_in_the_files(storage: Storage, tokens: TokenStore) -> None:
    _, text = await made(storage, tokens)
    secret = text.split("_", 2)[2].encode()
    for file in storage.path.parent.iterdir():
        assert secret not in file.read_bytes()


Change = Callable[[str], str]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "A",
        lambda text: text[:-1],
        lambda _: "",
        lambda _: "dp_aaaaaaaa_" + "A" * 43,
        lambda text: text.upper(),
        lambda text: text + "\n",
        lambda _: "sk-lm-abcdefgh:abcdefghijklmnopqrst",
        lambda _: "ü" * 50,
    ],
)
async def test_anything_but_the_very_token_is_refused(
    storage: Storage, tokens: TokenStore, change: Change
) -> None:
    _, text = await made(storage, tokens)
    assert (await tokens.check(change(text))).actor is None


async def test_an_expired_token_is_refused_from_its_instant_on(storage: Storage, tokens: TokenStore) -> None:
    _, text = await made(storage, tokens, expires_ms=1_000)
    assert (await tokens.check(text)).reason == "it has expired"
    _, text = await made(storage, tokens, expires_ms=1_001)
    assert (await tokens.check(text)).actor is not None


async def test_a_revoked_token_is_refused_at_once_also_when_another_process_revokes(
    storage: Storage, tokens: TokenStore
) -> None:
    token, text = await made(storage, tokens)
    other = await Storage.open(storage.path.parent)
    await other.write(lambda db: TokenStore(other).revoke(db, "ops"))
    await other.close()
    checked = await tokens.check(text)
    assert (checked.actor, checked.token_id, checked.reason) == (None, token.id, "it was revoked")
    with pytest.raises(NoSuchToken):
        await storage.write(lambda db: tokens.revoke(db, token.id))


async def test_digests_of_one_length_are_compared_in_constant_time_whoever_asks(
    storage: Storage, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    _, text = await made(storage, tokens)
    wrong = text[:12] + "A" * 43
    for presented in (text, wrong, "dp_aaaaaaaa_" + "A" * 43):
        await tokens.check(presented)
    assert compared == [(32, 32)] * 3


async def test_a_revoked_token_does_not_make_the_store_empty(storage: Storage, tokens: TokenStore) -> None:
    assert await tokens.is_empty()
    token, _ = await made(storage, tokens)
    await storage.write(lambda db: tokens.revoke(db, token.id))
    assert not await tokens.is_empty()


def test_a_persons_name_is_kept_short_and_printable() -> None:
    actor = on_behalf(LOOPBACK, person="  ali\nce\x1b[2J" + "x" * 500, address="::1")
    assert actor.person is not None
    assert actor.person.startswith("alice[2J")
    assert len(actor.person) <= 120
    assert on_behalf(LOOPBACK, person="\n", address=None).person is None


def test_who_acts_keeps_its_name_and_scope_beside_the_person_and_the_address() -> None:
    actor = on_behalf(internal("reaper"), person=None, address="::1", grafana={"verified": True})
    assert (actor.name, actor.scope) == ("reaper", Scope.OPERATE)
    assert (actor.person, actor.address, actor.grafana) == (None, "::1", {"verified": True})
