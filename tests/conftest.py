"""Hooks and fixtures that every test may use; what they do is written where they are defined."""

from hypothesis import HealthCheck, settings

from tests.external import _external_tool, pytest_runtest_setup

__all__ = ["_external_tool", "pytest_runtest_setup"]

# How long one example takes says nothing on a shared machine.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
