"""Where it cannot be listened is said in one line, before anything is started."""

import socket

import pytest

from exporter.shared import server
from exporter.shared.settings_table import SettingsError


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "nul\0", "no-such-host.invalid"])
def test_a_name_that_is_none_is_refused_by_its_key(host: str) -> None:
    with pytest.raises(SettingsError, match="no such address here") as refused:
        server.listen(host, 9810)
    assert refused.value.key == "listen"


def test_a_port_that_is_taken_is_refused_by_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SettingsError, match="stop what uses it") as refused:
            server.listen("127.0.0.1", taken.getsockname()[1])
        assert refused.value.key == "listen"
