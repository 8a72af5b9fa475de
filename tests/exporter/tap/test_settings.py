"""Settings of the tap: each is documented and can be set by its variable; what cannot work is refused."""

import hashlib
import re
from pathlib import Path

import pytest

from actions.settings import SETTINGS as ACTIONS_SETTINGS
from exporter.settings import SETTINGS as EXPORTER_SETTINGS
from exporter.shared.settings_table import Setting, SettingsError
from exporter.tap import settings
from exporter.tap.settings import SETTINGS, TapSettings

PAGE = (Path(__file__).parents[3] / "docs" / "TAP.md").read_text(encoding="utf-8")
HASH = hashlib.sha256(b"sk-key").hexdigest()


def from_env(**values: str) -> TapSettings:
    return settings.load({}, {f"DAEMONPULSE_TAP_{key.upper()}": value for key, value in values.items()})


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented_with_its_variable_and_default(setting: Setting) -> None:
    default = f"`{setting.default}`" if setting.default else "none"
    assert f"| `{setting.key}` | `{setting.env}` | {default} | " in PAGE


def test_no_setting_is_documented_that_there_is_not() -> None:
    named = set(re.findall(r"DAEMONPULSE_[A-Z_]*[A-Z]", PAGE))
    of_others = {setting.env for setting in (*EXPORTER_SETTINGS, *ACTIONS_SETTINGS)}
    assert named - of_others == {setting.env for setting in SETTINGS}


def test_every_setting_can_be_set_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "clients").write_text(f"# keys\n{HASH} ci  # the build\n\n")
    values = {
        "listen": ":7",
        "upstream": "https://gpu.example:4321/",
        "reports_listen": "[::1]:8",
        "allowed_hosts": "tap",
        "clients": str(tmp_path / "clients"),
        "client_header": "X-Client",
        "max_connections": "12",
        "drain_seconds": "0",
    }
    assert set(values) == {setting.key for setting in SETTINGS}
    chosen = from_env(**values)
    assert (chosen.listen_host, chosen.listen_port) == ("0.0.0.0", 7)  # noqa: S104 - what ":7" means
    assert (chosen.upstream_host, chosen.upstream_port, chosen.upstream_tls) == ("gpu.example", 4321, True)
    assert (chosen.reports_host, chosen.reports_port, chosen.allowed_hosts) == ("::1", 8, ("tap",))
    assert (chosen.client_keys, chosen.client_header) == ({HASH: "ci"}, "X-Client")
    assert (chosen.max_connections, chosen.drain_s) == (12, 0)


def test_the_upstream_is_the_daemon_that_is_watched_unless_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[tap]\nlisten = "[::]:80"\n[[daemons]]\nurl = "http://a.example"\n')
    chosen = settings.load({"config": str(tmp_path / "c.toml")}, {})
    assert (chosen.upstream_host, chosen.upstream_port, chosen.listen_port) == ("a.example", 80, 80)
    chosen = settings.load({"daemon_url": "http://127.0.0.1:4444"}, {})
    assert (chosen.upstream_host, chosen.upstream_port) == ("127.0.0.1", 4444)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"listen": "127.0.0.1:1234"}, "the daemon's own address"),
        ({"listen": "here"}, "write host:port"),
        ({"upstream": "ftp://x"}, "write http://host:port"),
        ({"max_connections": "0"}, "a number from 1"),
        ({"clients": "/nowhere/at/all"}, "cannot be used"),
        ({"upsteam": "http://x"}, "did you mean DAEMONPULSE_TAP_UPSTREAM"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        from_env(**values)


@pytest.mark.parametrize("line", ["sk-lm-Ab3dE6gH:0123456789abcdefghij ci", f"{HASH}", f"{HASH} bad/name"])
def test_a_client_file_that_holds_something_else_is_refused_and_no_key_shown(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "clients").write_text(line)
    with pytest.raises(SettingsError) as refused:
        from_env(clients=str(tmp_path / "clients"))
    assert "sk-lm" not in str(refused.value)
    assert "line 1" in str(refused.value)
