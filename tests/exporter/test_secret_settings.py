"""Secrets among the settings: where a token comes from, and that nothing shows it."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import settings
from exporter.settings import SETTINGS, load
from exporter.shared import settings_table
from exporter.shared.api_token import Secret
from exporter.shared.settings_table import SettingsError
from tests.exporter.configuring import OTHER_TOKEN, TEXT, TOKEN, refusal


def token_of(environ: Mapping[str, str]) -> str | None:
    token = load({}, environ).daemons[0].token
    return token.reveal() if token is not None else None


def test_the_official_clients_variable_is_read_unless_ours_is_set() -> None:
    assert token_of({"LM_API_TOKEN": TOKEN}) == TOKEN
    assert token_of({"LM_API_TOKEN": OTHER_TOKEN, "DAEMONPULSE_DAEMON_TOKEN": TOKEN}) == TOKEN
    assert token_of({"LM_API_TOKEN": ""}) is None


def test_a_token_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    assert token_of({"DAEMONPULSE_DAEMON_TOKEN_FILE": str(tmp_path / "token")}) == TOKEN


@pytest.mark.parametrize("content", ["", " \n", f"{TOKEN} {TOKEN}", f"token={TOKEN}"])
def test_a_token_file_that_holds_no_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)

    text = refusal({}, {"DAEMONPULSE_DAEMON_TOKEN_FILE": str(path)})

    assert str(path) in text
    assert ("put the token in it" in text) == (not content.strip())


def test_a_token_file_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff")

    assert "(not text)" in refusal({}, {"DAEMONPULSE_DAEMON_TOKEN_FILE": str(tmp_path / "token")})


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    chosen = load({}, {"LM_API_TOKEN": TOKEN})

    for shown in (repr(chosen), str(chosen.daemons), f"{Secret(TOKEN)}", repr([Secret(TOKEN)])):
        assert "0123456789abcdefghij" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host:1234",
        "http://user:hun/ter2@host:1234",
        "http://user:hunt@er2@host:1234",
        "http://:hunter2@host:1234",
        "http://hunter2@host:1234",
        "user:hunter2@host:1234",
        "ftp://user:hunter2@host:1234",
        "http://user:hunter2@[host:1234",
        "http://user:1/hunter2@host:1234",
    ],
)
def test_credentials_in_a_url_are_refused_and_hidden(url: str) -> None:
    text = refusal({}, {"DAEMONPULSE_DAEMON_URL": url})

    assert not re.search("hun|ter2|er2", text)
    assert "host:1234" in text


@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS])
def test_a_token_put_into_the_wrong_setting_is_not_shown(key: str) -> None:
    if key != "daemon_token":
        refusal({}, {settings_table.PREFIX + key.upper(): TOKEN})
    refusal({}, {settings_table.PREFIX + key.upper(): f"{TOKEN}x"})


@given(
    st.dictionaries(st.sampled_from([setting.key for setting in SETTINGS if setting.key != "config"]), TEXT),
    TEXT.filter(lambda text: len(text) >= 6),
)
def test_no_values_break_the_line_or_show_the_token(values: dict[str, str], token: str) -> None:
    environ = {settings_table.PREFIX + key.upper(): value for key, value in values.items()}
    environ |= {"DAEMONPULSE_DAEMON_TOKEN": token}
    try:
        chosen = load({}, environ)
    except SettingsError as error:
        text = str(error)
        assert text.isprintable()
        if not any(token in value for value in values.values()) and token not in load_words():
            assert token not in text
    else:
        assert token not in repr(chosen) or any(token in value for value in values.values())


def load_words() -> str:
    """Return the words our own messages are made of: a token of six letters may be one of them."""
    return Path(settings.__file__).read_text(encoding="utf-8") + "DAEMONPULSE_DAEMON_TOKEN"
