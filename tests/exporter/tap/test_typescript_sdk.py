"""The official TypeScript SDK through the tap: every test of tests/conformance, with the tap's port as the daemon's."""

import pytest

from tests.conformance import test_typescript_sdk

pytestmark = [pytest.mark.external("node"), pytest.mark.external("@lmstudio/sdk")]
globals().update(
    {name: value for name, value in vars(test_typescript_sdk).items() if name.startswith("test_")}
)
