"""Settings: each source and its precedence, and every mistake in one line that says how to fix it."""

from pathlib import Path

import pytest
from hypothesis import given

from exporter.settings import SETTINGS, load
from exporter.shared import settings_table
from exporter.shared.settings_table import SettingsError
from tests.exporter.configuring import OTHER_TOKEN, TEXT, TOKEN, file, from_env, refusal


def test_unconfigured_it_watches_the_local_daemon_from_loopback() -> None:
    chosen = load({}, {})

    assert (chosen.listen_host, chosen.listen_port) == ("127.0.0.1", 9810)
    assert (chosen.max_age_s, chosen.log_level, chosen.log_format) == (1.0, "info", "logfmt")
    assert chosen.web_config is None
    assert (chosen.log_stream, chosen.capture, chosen.reasoning_tags) == (True, "off", ())
    [daemon] = chosen.daemons
    assert (daemon.name, daemon.url, daemon.token, daemon.home) == (
        "local",
        "http://127.0.0.1:1234",
        None,
        None,
    )
    assert daemon.is_loopback
    assert daemon.port == 1234


def test_flags_win_over_the_environment_the_environment_over_the_file_the_file_over_defaults(
    tmp_path: Path,
) -> None:
    text = '[exporter]\nlisten = "1.1.1.1:1"\nlog_level = "error"\nmax_age_seconds = 3\n'
    environ = {
        "DAEMONPULSE_CONFIG": file(tmp_path, text),
        "DAEMONPULSE_LISTEN": "2.2.2.2:2",
        "DAEMONPULSE_LOG_LEVEL": "debug",
    }

    chosen = load({"listen": "3.3.3.3:3", "log_level": None}, environ)

    assert (chosen.listen_host, chosen.listen_port) == ("3.3.3.3", 3)
    assert (chosen.log_level, chosen.max_age_s, chosen.log_format) == ("debug", 3.0, "logfmt")


def test_an_empty_variable_counts_as_unset() -> None:
    assert from_env(listen="", config="", daemon_token="").listen_port == 9810


def test_a_config_flag_wins_over_the_variable(tmp_path: Path) -> None:
    chosen = file(tmp_path, '[exporter]\nlog_level = "error"\n')

    assert load({"config": chosen}, {"DAEMONPULSE_CONFIG": "/nowhere.toml"}).log_level == "error"


def test_every_setting_can_be_set_by_its_variable(tmp_path: Path) -> None:
    for name in ("web.yml", "token"):
        (tmp_path / name).write_text(TOKEN)
    (tmp_path / "live").write_text("l" * 32)
    values = {
        "config": file(tmp_path, ""),
        "listen": ":9",
        "web_config": str(tmp_path / "web.yml"),
        "allowed_hosts": "Box.lan, [fd00::1],",
        "max_age_seconds": "0",
        "log_level": "warning",
        "log_format": "json",
        "log_stream": "off",
        "capture": "full",
        "live_token_file": str(tmp_path / "live"),
        "span_kind": "client",
        "reasoning_tags": "<plan>|</plan>, <mull> | </mull>,",
        "tool_tags": "<act>|</act>",
        "daemon_url": "https://gpu.example:4321/",
        "daemon_name": "gpu_1",
        "daemon_token": OTHER_TOKEN,
        "daemon_token_file": str(tmp_path / "token"),
        "daemon_home": str(tmp_path),
        "daemon_tap_url": "http://gpu.example:9812/",
        "daemon_site": "attic",
    }
    chosen = from_env(**values)

    assert set(values) == {setting.key for setting in SETTINGS}
    assert (chosen.listen_host, chosen.listen_port) == ("0.0.0.0", 9)  # noqa: S104 - what ":9" means
    assert (chosen.web_config, chosen.max_age_s) == (tmp_path / "web.yml", 0)
    assert chosen.allowed_hosts == ("box.lan", "[fd00::1]")
    assert (chosen.log_level, chosen.log_format) == ("warning", "json")
    assert (chosen.log_stream, chosen.capture) == (False, "full")
    assert chosen.live_token is not None
    assert chosen.live_token.header == f"Bearer {'l' * 32}"
    assert (chosen.is_capture_given, chosen.span_kind) == (True, "client")
    assert chosen.reasoning_tags == (("<plan>", "</plan>"), ("<mull>", "</mull>"))
    assert chosen.tool_tags == (("<act>", "</act>"),)
    [daemon] = chosen.daemons
    assert (daemon.name, daemon.url, daemon.home) == ("gpu_1", "https://gpu.example:4321", tmp_path)
    assert daemon.tap_url == "http://gpu.example:9812"
    assert daemon.site == "attic"
    assert daemon.token is not None
    assert daemon.token.reveal() == TOKEN  # the file wins: it is the better place
    assert daemon.token_file == tmp_path / "token", "it is read again when the daemon is connected to again"
    assert not daemon.is_loopback


def test_every_setting_has_a_default_that_is_valid_and_a_help_that_is_a_sentence() -> None:
    load({setting.key: setting.default or None for setting in SETTINGS}, {})
    for setting in SETTINGS:
        assert setting.help.endswith("."), setting.key
        assert setting.env == "DAEMONPULSE_" + setting.key.upper()


@pytest.mark.parametrize(
    ("url", "name", "port", "is_loopback"),
    [
        ("http://localhost:1234", "local", 1234, True),
        ("http://[::1]:1234", "local", 1234, True),
        ("http://127.0.0.2:1234", "local", 1234, True),
        ("http://gpu-1.example:1234", "gpu-1.example", 1234, False),
        ("http://[fe80::1]:1234", "fe80--1", 1234, False),
        ("http://gpu", "gpu", 80, False),
        ("https://gpu", "gpu", 443, False),
    ],
)
def test_a_daemon_is_named_after_its_host(
    url: str,
    name: str,
    port: int,
    is_loopback: bool,  # noqa: FBT001 - pytest fills it
) -> None:
    [daemon] = from_env(daemon_url=url).daemons

    assert (daemon.name, daemon.port, daemon.is_loopback) == (name, port, is_loopback)


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:0", "127.0.0.1", 0), ("[::]:9810", "::", 9810), (":65535", "0.0.0.0", 65535)],  # noqa: S104 - what ":port" means
)
def test_a_listen_address_is_host_and_port(listen: str, host: str, port: int) -> None:
    chosen = from_env(listen=listen)

    assert (chosen.listen_host, chosen.listen_port) == (host, port)


SEVERAL = """
[[daemons]]
url = "http://127.0.0.1:1234"

[[daemons]]
name = "forge"
url = "https://forge.example:1234"
token_env = "FORGE_TOKEN"

[[daemons]]
name = "attic"
url = "http://attic.example:1234"
token_file = "{token_file}"
home = "{home}"
"""


def test_several_daemons_each_have_their_own_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    text = SEVERAL.format(token_file=tmp_path / "token", home=tmp_path)
    environ = {"FORGE_TOKEN": OTHER_TOKEN, "LM_API_TOKEN": "not theirs"}

    local, forge, attic = load({"config": file(tmp_path, text)}, environ).daemons

    assert (local.name, local.token, local.home) == ("local", None, None)
    assert (forge.name, forge.url, forge.home) == ("forge", "https://forge.example:1234", None)
    assert forge.token is not None
    assert forge.token.reveal() == OTHER_TOKEN
    assert attic.token is not None
    assert attic.token.reveal() == TOKEN
    assert attic.home == tmp_path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[daemons]]\nname = "a"', "[[daemons]] #1 url: every daemon needs one"),
        (
            '[[daemons]]\nurl = "http://a:1"\n[[daemons]]\nurl = "ftp://b"',
            "[[daemons]] #2 url=ftp://b: write",
        ),
        ('[[daemons]]\nurl = "http://a:1"\n[[daemons]]\nurl = "http://a:2"', "name=a: two daemons share it"),
        (
            '[[daemons]]\nurl = "http://a:1"\ntoken = "x"',
            "[[daemons]] #1 token: no such setting; did you mean",
        ),
        ('[[daemons]]\nurl = "http://a:1"\ntoken_env = "UNSET"', "token_env=UNSET: set this variable"),
        (
            '[[daemons]]\nurl = "http://a:1"\ntoken_env = "BAD"',
            "token_env BAD=(not shown): an API token looks",
        ),
        (
            '[[daemons]]\nurl = "http://a:1"\ntoken_file = "/nowhere"',
            "token_file=/nowhere: the token file cannot",
        ),
        (
            '[[daemons]]\nurl = "http://a:1"\ntoken_file = "a\\u0000b"',
            "the token file cannot be read (embedded null byte)",
        ),
        ('[[daemons]]\nurl = "http://a:1"\nhome = "/nowhere"', "home=/nowhere: no such folder"),
        ('[[daemons]]\nurl = "http://a:1"\nname = "a b"', "name=a b: use letters, digits"),
        ('daemons = "x"', "daemons: write each as a table of its own"),
        ('daemons = ["x"]', "daemons: write each as a table of its own"),
        (f'exporter = "{TOKEN}"', "exporter: write it as a table"),
        (f'[[exporter]]\ndaemon_token = "{TOKEN}"', "exporter: write it as a table"),
        ("[exportr]", "exportr: no such setting; did you mean exporter?"),
        ('[exporter]\nlisten_port = "1"', "listen_port: no such setting; did you mean listen?"),
        ('[exporter]\nconfig = "x"', "config: no such setting"),
        ('[exporter]\n"lis\\nten" = "1"', "lis\\nten: no such setting"),
        ("[exporter]\nlisten = 9810", "[exporter] listen=9810: write host:port"),
        ("[exporter]\nmax_age_seconds = nan", "[exporter] max_age_seconds=nan: write a number from 0 to 60"),
        (f'[exporter]\ndaemon_token = "{TOKEN}x"', "daemon_token=(not shown): an API token looks like"),
        ("[exporter", "not valid TOML"),
    ],
)
def test_every_mistake_in_the_file_is_one_line_with_key_value_and_fix(
    tmp_path: Path, text: str, told: str
) -> None:
    environ = {"BAD": "0123456789abcdefghij"}

    assert told in refusal({"config": file(tmp_path, text)}, environ)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert refusal({"config": missing}, {}).startswith(f"--config={missing}: the file cannot be read")
    told = refusal({}, {"DAEMONPULSE_CONFIG": missing})
    assert told.startswith(f"DAEMONPULSE_CONFIG={missing}: the file cannot be read")

    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "(not text)" in refusal({"config": str(tmp_path / "binary.toml")}, {})


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("listen", "9810", "write host:port"),
        ("listen", "localhost:http", "write host:port"),
        ("listen", "localhost:65536", "write host:port"),
        ("listen", "localhost:-1", "write host:port"),
        ("listen", "localhost:²", "write host:port"),
        ("listen", "localhost:" + "9" * 5000, "write host:port"),
        ("listen", "local\nhost:1", "write host:port"),
        ("web_config", "/nowhere.yml", "no such file"),
        ("web_config", "x" * 300, "no such file"),
        ("allowed_hosts", "box.lan:9810", "write names without ports"),
        ("max_age_seconds", "-1", "write a number from 0 to 60"),
        ("max_age_seconds", "61", "write a number from 0 to 60"),
        ("max_age_seconds", "inf", "write a number from 0 to 60"),
        ("max_age_seconds", "soon", "write a number from 0 to 60"),
        ("log_level", "trace", "choose one of debug, info, warning, error"),
        ("log_format", "xml", "choose one of logfmt, json"),
        ("log_stream", "true", "choose one of on, off"),
        ("capture", "all", "choose one of off, redacted, full"),
        ("reasoning_tags", "<plan>", "write open|close pairs"),
        ("reasoning_tags", "<plan>|</plan>|x", "write open|close pairs"),
        ("reasoning_tags", "<plan>|", "write open|close pairs"),
        ("reasoning_tags", "<plan>|<plan>", "must differ"),
        ("reasoning_tags", f"<plan>|{'x' * 65}", "64 characters at most"),
        ("daemon_url", "127.0.0.1:1234", "write http://host:port"),
        ("daemon_url", "ws://127.0.0.1:1234", "write http://host:port"),
        ("daemon_url", "http://", "write http://host:port"),
        ("daemon_url", "http://[::1", "write http://host:port"),
        ("daemon_url", "http://host:0", "write http://host:port"),
        ("daemon_url", "http://host:port", "write http://host:port"),
        ("daemon_url", "http://host:1234?x=1", "write http://host:port"),
        ("daemon_url", "http://host:1234#x", "write http://host:port"),
        ("daemon_url", "http://http://host:1234", "write http://host:port"),
        ("daemon_url", "http://ho\nst:1234", "write http://host:port"),
        ("daemon_url", "http://ho st:1234", "write http://host:port"),
        ("daemon_name", "a b", "use letters, digits"),
        ("daemon_name", "x" * 64, "use letters, digits"),
        ("daemon_name", '"', "use letters, digits"),
        ("daemon_token_file", "/nowhere", "the token file cannot be read (No such file"),
        ("daemon_home", "/nowhere", "no such folder"),
        ("daemon_home", "x" * 300, "no such folder"),
    ],
)
def test_every_mistake_in_a_variable_is_one_line_with_key_value_and_fix(
    key: str, value: str, fix: str
) -> None:
    text = refusal({}, {settings_table.PREFIX + key.upper(): value})

    assert text.startswith(f"DAEMONPULSE_{key.upper()}=")
    assert value.splitlines()[0] in text
    assert fix in text


def test_a_mistake_in_a_flag_names_the_flag() -> None:
    assert refusal({"max_age_seconds": "soon"}, {}).startswith("--max-age-seconds=soon: ")
    assert refusal({"listen": ""}, {}).startswith("--listen: ")


def test_an_unknown_variable_is_refused_with_a_suggestion() -> None:
    assert refusal({}, {"DAEMONPULSE_DEAMON_URL": TOKEN}) == (
        "DAEMONPULSE_DEAMON_URL: no such setting; did you mean DAEMONPULSE_DAEMON_URL?"
    )
    assert "known: DAEMONPULSE_CONFIG" in refusal({}, {"DAEMONPULSE_X_Y_Z_QQQ": "1"})


def test_variables_of_other_parts_and_other_programs_are_left_alone() -> None:
    others = {"DAEMONPULSE_TEST_STRICT": "1", "DAEMONPULSE_ACTIONS_LISTEN": "x", "PATH": "/bin"}
    assert load({}, others) == load({}, {})


@given(TEXT)
def test_an_arbitrary_config_file_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("config") / "x.toml"
    path.write_text(text, encoding="utf-8")
    try:
        load({"config": str(path)}, {})
    except SettingsError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways out are right
