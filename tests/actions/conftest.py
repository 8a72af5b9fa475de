"""A database for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actions.storage import Storage


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty database."""
    opened = await Storage.open(tmp_path / "state")
    yield opened
    await opened.close()
