"""The layout the project promises: small documented modules, documented settings, fresh generated pages."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from exporter import settings
from exporter.catalogue import document
from exporter.settings import SETTINGS
from exporter.shared import web_config
from exporter.shared.settings_table import Setting

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("exporter", "actions", "dashboards", "compose/daemonpulse", "compose/llmster_sim")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONFIGURATION = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
LONGEST = 400
MOST_MODULES = 20


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_every_module_is_short_and_says_what_it_does(module: Path) -> None:
    text = module.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST, "split it: one idea per file"
    assert ast.get_docstring(ast.parse(text)), "begin with one sentence that says what it does"


def test_the_metrics_page_is_fresh() -> None:
    fresh = (DOCS / "METRICS.md").read_text(encoding="utf-8") == document.page()

    assert fresh, f"docs/METRICS.md is not what the catalogue says; run: {document.COMMAND}"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented_with_its_flag_variable_and_default(setting: Setting) -> None:
    flag = "none" if setting.key == "daemon_token" else f"`--{setting.key.replace('_', '-')}`"
    default = f"`{setting.default}`" if setting.default else "none"

    row = f"| `{setting.key}` | {flag} | `{setting.env}` | {default} | "
    assert row in CONFIGURATION, f"docs/CONFIGURATION.md lacks the row: {row}"


def test_no_setting_is_documented_that_there_is_not() -> None:
    documented = set(re.findall(r"DAEMONPULSE_[A-Z_]*[A-Z]", CONFIGURATION))

    assert documented == {setting.env for setting in SETTINGS}


def test_every_key_of_a_daemon_is_documented() -> None:
    for key in settings._DAEMON_KEYS:
        assert f"| `{key}` | " in CONFIGURATION


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", CONFIGURATION, flags=re.DOTALL)


def test_the_example_of_several_daemons_works(tmp_path: Path) -> None:
    [example] = examples("toml")
    (tmp_path / "web.yml").write_text("")
    (tmp_path / "forge-token").write_text("sk-lm-Ab3dE6gH:0123456789abcdefghij")
    text = example.replace("/etc/daemonpulse", str(tmp_path)).replace("/run/secrets", str(tmp_path))
    (tmp_path / "daemonpulse.toml").write_text(text)
    environ = {"ATTIC_TOKEN": "sk-lm-Zb3dE6gH:9876543210abcdefghij"}

    chosen = settings.load({"config": str(tmp_path / "daemonpulse.toml")}, environ)

    assert [daemon.name for daemon in chosen.daemons] == ["local", "forge", "attic"]
    assert [daemon.token is not None for daemon in chosen.daemons] == [False, True, True]
    assert set(tomllib.loads(text)["exporter"]) <= {setting.key for setting in SETTINGS}


def test_the_example_of_a_web_configuration_works(tmp_path: Path) -> None:
    [example] = [each for each in examples("yaml") if "tls_server_config" in each]
    table = yaml.safe_load(example)
    tls = table.pop("tls_server_config")
    (tmp_path / "web.yml").write_text(yaml.safe_dump(table))

    assert set(web_config.load(tmp_path / "web.yml").users) == {"prometheus"}
    assert set(tls) == set(web_config._TLS_KEYS)
    assert tls["client_auth_type"] in web_config._CLIENT_AUTH
    assert tls["min_version"] in web_config._MIN_VERSIONS


def test_no_folder_has_more_modules_than_a_reader_can_keep_in_mind() -> None:
    folders = Counter(module.parent for module in MODULES if module.name != "__init__.py")
    crowded = {relative(folder): count for folder, count in folders.items() if count > MOST_MODULES}
    assert not crowded, "make a room of what belongs together"
