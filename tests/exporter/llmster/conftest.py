"""Lets a client of a test reconnect at once, and wait for each part of a snapshot however busy the host is."""

import pytest

from exporter.llmster import client as client_module
from exporter.llmster import session as session_module


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(client_module, "BACKOFF_MOST_S", 0.002)
    monkeypatch.setattr(session_module, "PART_GRACE_S", 10.0)
