"""Hooks and fixtures that every test may use; what they do is written where they are defined."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.external import _external_tool, pytest_runtest_setup

__all__ = ["_external_tool", "pytest_runtest_setup"]

# How long one example takes says nothing on a shared machine.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
# For tests.mutation: whether a mutant is noticed matters there, and the smallest example of it does not.
settings.register_profile(
    "mutation",
    settings.get_profile("unhurried"),
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    database=None,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: the tests that run beside it are then not waiting for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
