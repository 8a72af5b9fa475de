"""The fleet to look at: simulated hosts under many names."""

import contextlib
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.dashboards.fleet_of import Host, host_names, serving, simulated

LIMIT_S = 60.0
"""Only a guard, for a host that has other things to do."""


@pytest.mark.slow
def test_a_simulated_host_is_served_as_two_that_sort_by_their_names(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        (host,) = ends.enter_context(simulated(["idle"], tmp_path / "log"))
        wait_for(host)
        ports = [
            ends.enter_context(serving(host, name, site))
            for name, site in zip(host_names(2), ("lab", "berlin"), strict=True)
        ]
        pages = [read(f"http://127.0.0.1:{port}/metrics") for port in ports]
    for page, name, site in zip(pages, ("gpu-box-01", "gpu-box-02"), ("lab", "berlin"), strict=True):
        assert set(re.findall(r'daemon="([^"]*)"', page)) == {name}
        assert set(re.findall(r'site="([^"]*)"', page)) == {site}
        assert all(uuid.startswith(name) for uuid in re.findall(r'uuid="([^"]*)"', page))
        assert f'llmster_up{{daemon="{name}"}} 1.0' in page


def wait_for(host: Host) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError):
            if "llmster_up{" in host.metrics():
                return
        time.sleep(0.2)


def read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own server
        text: str = answer.read().decode()
        return text
