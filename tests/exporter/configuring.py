"""Loads settings for the tests, good ones and refused ones.

Knows what holds for every refusal, not what is refused.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import strategies as st

from exporter.settings import ExporterSettings, load
from exporter.shared import settings_table
from exporter.shared.settings_table import SettingsError

TOKEN = "sk-lm-Ab3dE6gH:0123456789abcdefghij"

OTHER_TOKEN = "sk-lm-Zb3dE6gH:9876543210abcdefghij"


def from_env(**variables: str) -> ExporterSettings:
    """Load from DAEMONPULSE_* variables alone; names are given without the prefix."""
    return load({}, {settings_table.PREFIX + key.upper(): value for key, value in variables.items()})


def file(folder: Path, text: str) -> str:
    path = folder / "daemonpulse.toml"
    path.write_text(text)
    return str(path)


def refusal(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> str:
    """Return the error of settings that must not be accepted, after checking what holds for all of them."""
    with pytest.raises(SettingsError) as caught:
        load(flags, environ)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert "0123456789abcdefghij" not in text
    assert text.startswith(caught.value.key.split("\n", maxsplit=1)[0])
    return text


TEXT = st.text(st.characters(codec="utf-8"))
