"""What the actions API refuses of its own settings, in one line that names the key."""

import pytest

from actions.settings import load
from exporter.shared.settings_table import SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://h:99999",
        "http://h:x",
        "http://h:0",
        "ftp://h",
        "http://me:pw@h",
        "http://me:1/pw@h",
        "http://h\n/x",
        "http://http://h",
        "http://h/?x",
        "http://h/#x",
    ],
)
def test_an_address_of_prometheus_that_is_none_is_refused_by_its_key(url: str) -> None:
    with pytest.raises(
        SettingsError, match="DAEMONPULSE_ACTIONS_PROMETHEUS_URL: write http://host:port"
    ) as caught:
        load({}, {"DAEMONPULSE_ACTIONS_PROMETHEUS_URL": url})
    assert "pw" not in str(caught.value)


def test_an_address_of_prometheus_is_taken_without_its_last_slash() -> None:
    chosen = load({}, {"DAEMONPULSE_ACTIONS_PROMETHEUS_URL": "https://prometheus.lan:9090/base/"})
    assert chosen.prometheus_url == "https://prometheus.lan:9090/base"
