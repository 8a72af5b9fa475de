"""What is said of an instance under control."""

import pytest

from actions.commands.daemon_session import in_hand
from exporter.llmster.state import ProcessingState


@pytest.mark.parametrize(
    ("status", "queued", "expected"),
    [
        ("idle", 0, 0),
        ("idle", 2, 2),
        ("generating", 3, 3),
        ("generating", 0, 1),
        ("of another version", 0, 1),
    ],
)
def test_an_instance_that_is_not_idle_has_something_in_hand(status: str, queued: int, expected: int) -> None:
    assert in_hand(ProcessingState(status, queued)) == expected
