"""Read the recorded frames and the published samples under tests/fixtures.

Knows their files, not what they mean: see the README.md beside them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of tests/fixtures/protocol/*.jsonl."""

    ns: str
    conn: int
    dir: str
    op: str
    data: str
    status: int | None = None

    @property
    def json(self) -> Any:
        """The frame's data decoded; ValueError when the wire carried broken JSON."""
        return json.loads(self.data)


def protocol_files() -> list[str]:
    """Name every recording, without its suffix, in order."""
    return sorted(path.stem for path in (FIXTURES / "protocol").glob("*.jsonl"))


def frames(name: str) -> list[Frame]:
    """Return the frames of one recording, in wire order; a number such as "10" is enough of a name."""
    found = [stem for stem in protocol_files() if stem == name or stem.startswith(f"{name}-")]
    if len(found) != 1:
        raise LookupError(f"{name!r} names {len(found)} recordings in tests/fixtures/protocol")
    text = (FIXTURES / "protocol" / f"{found[0]}.jsonl").read_text(encoding="utf-8")
    return [Frame(**json.loads(line)) for line in text.splitlines()]


def exchanges() -> dict[str, Any]:
    """Return the recorded REST exchanges by name."""
    text = (FIXTURES / "rest" / "exchanges.jsonl").read_text(encoding="utf-8")
    return {exchange["name"]: exchange for exchange in map(json.loads, text.splitlines())}


def published(file: str) -> Any:
    """Return one published sample: a list of rows for *.jsonl, the value for *.json."""
    text = (FIXTURES / "published" / file).read_text(encoding="utf-8")
    if file.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)
