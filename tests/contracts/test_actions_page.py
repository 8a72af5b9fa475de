"""docs/ACTIONS.md says what there is: every setting, every problem, every path."""

import re
from pathlib import Path

import pytest

from actions.domain.errors import TITLES
from actions.domain.load_key import LoadKey
from actions.domain.load_keys import ROWS
from actions.settings import CLIENT_VARIABLES, SETTINGS
from exporter.shared.settings_table import Setting

PAGE = (Path(__file__).parents[2] / "docs" / "ACTIONS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented(setting: Setting) -> None:
    assert f"| `{setting.key}` | `{setting.env}` | " in PAGE


def test_no_variable_is_documented_that_there_is_not() -> None:
    documented = set(re.findall(r"DAEMONPULSE_ACTIONS_[A-Z_]*[A-Z]", PAGE))
    assert documented == {setting.env for setting in SETTINGS} | set(CLIENT_VARIABLES)


def test_every_problem_is_documented_with_its_status() -> None:
    rows = {
        slug: int(status) for slug, status in re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", PAGE, re.MULTILINE)
    }
    assert rows == {slug: status for slug, (status, _) in TITLES.items()}


def test_every_parameter_of_a_load_is_documented() -> None:
    from actions.api.requests import LoadParameters

    for name in LoadParameters.model_fields.keys() - {"wait"}:
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.parameter)
def test_every_load_option_is_documented_with_its_flag_and_meaning(row: LoadKey) -> None:
    assert f"| `{row.parameter}` | `{row.cli_flag}` | " in PAGE
    assert f" | {row.help} |" in PAGE
