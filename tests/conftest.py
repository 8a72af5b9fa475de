"""Hooks and fixtures that every test may use; what they do is written where they are defined."""

import inspect
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.external import _external_tool, _promtool, pytest_runtest_setup

__all__ = ["_external_tool", "_promtool", "pytest_runtest_setup"]

# How long one example takes says nothing on a shared host.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
# For `python -m tests.gate --fast`: a glance at each property.
settings.register_profile("fast", settings.get_profile("unhurried"), max_examples=4, database=None)
# For tests.mutation: whether a mutant is noticed matters there, and the smallest example of it does not.
settings.register_profile(
    "mutation",
    settings.get_profile("unhurried"),
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    database=None,
)


SLOW: Final = frozenset(
    [
        "benchmarks",
        "causes",
        "causes",
        "compose",
        "conformance",
        "daemonpulse",
        "faults",
        "fuzz",
        "hardware",
        "noninterference",
        "security",
        "soak",
        "system",
        "upgrade",
    ]
)
"""Folders of tests whose tests are marked `slow`: they start programs, or run for minutes. Elsewhere a test that is a
coroutine is: it talks to servers, if only to some in its own process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and begin with what takes minutes, so that nothing waits for it at the end."""
    root = Path(__file__).parent
    for item in items:
        is_coroutine = inspect.iscoroutinefunction(getattr(item, "function", None))
        if is_coroutine or item.path.relative_to(root).parts[0] in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
