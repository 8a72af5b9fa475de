"""Hooks and fixtures that every test may use; what they do is written where they are defined."""

from tests.external import _external_tool, pytest_runtest_setup

__all__ = ["_external_tool", "pytest_runtest_setup"]
