"""What the exporter shows of a daemon that answers as recorded, and as recorded but for one field.

The recorded answers of tests/fixtures/protocol go through the session, the collectors and the log pipeline; no network.
"""

import itertools
import json
from typing import Any, Final

import msgspec

from daemonpulse import upgrade
from daemonpulse.against import answers_of
from exporter.collectors import DAEMON_COLLECTORS
from exporter.collectors.base import Samples, Scrape
from exporter.llmster.errors import CallFailed
from exporter.llmster.session import Session
from exporter.llmster.wire.connection import WireCounts
from exporter.log_pipeline import Streams
from exporter.settings import load
from tests.exporter.readings import watched
from tests.recorded import FIXTURES
from tests.upgrade.fields import Change, changed

Answers = dict[str, Any]
"""By call without its namespace (`listLoaded`) or by log event type, the recorded answers."""

EVENTS: Final = ("llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log")
CALLS: Final = (
    "version", "info", "listDownloadedModels", "listLoaded", "getInstanceProcessingState", "getLoadConfig",
    "estimateModelUsage", "lmLinkStatus", "listEngines",
)  # fmt: skip


def recorded() -> Answers:
    """Gather every recorded answer to a call that the product makes, and every event of the log stream."""
    found: Answers = {name: [] for name in upgrade.SHAPES}
    for file in sorted((FIXTURES / "protocol").glob("*.jsonl")):
        for name, answer in answers_of(file.read_bytes().splitlines()):
            found[name].append(answer)
    return found


class _Connection:
    """A namespace of a daemon that gives recorded answers."""

    def __init__(self, name: str, answers: Answers) -> None:
        self.name = name
        self._answers = answers

    async def call(
        self, endpoint: str, _parameter: Any = None, *, timeout_s: float | None = None
    ) -> msgspec.Raw:
        """Answer with what was recorded: of lists with entries of this namespace, all entries."""
        del timeout_s
        answers = self._answers[endpoint]
        if endpoint in ("listLoaded", "listDownloadedModels", "listEngines"):
            entries = _distinct(entry for answer in answers for entry in answer)
            if endpoint == "listLoaded":
                entries = [entry for entry in entries if entry.get("type", self.name) == self.name]
            return msgspec.Raw(json.dumps(entries).encode())
        if not answers:
            raise CallFailed("there is no such answer")
        return msgspec.Raw(json.dumps(answers[-1]).encode())


def _distinct(entries: Any) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(entry) for entry in entries)]


class _Sockets:
    """Namespaces that are all open."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self, *, is_dead: bool = False) -> None:
        """Nothing to close."""

    def peek(self, namespace: str) -> _Connection:
        """Give the open connection."""
        return _Connection(namespace, self._answers)

    async def connection(self, namespace: str) -> _Connection:
        """Give the open connection."""
        return _Connection(namespace, self._answers)


NOWHERE: Final = "http://127.0.0.1:9"


async def _no_token() -> None:
    """Hold none."""


async def shown(answers: Answers) -> set[str]:
    """Name the metrics that say something of a daemon with these answers: a gauge, or a count that is not 0."""
    sockets: Any = _Sockets(answers)
    session = Session(sockets, rest_url=NOWHERE, token=_no_token, has_token=False, counts=WireCounts())
    await session.open()
    await session.snapshot()
    snapshot = await session.snapshot()  # what was asked in the background is there
    await session.close()
    streams = Streams(load({}, {"DAEMONPULSE_DAEMON_NAME": "local"}), [], {})
    stream = streams.recording("local")
    for event in itertools.chain.from_iterable(answers[name] for name in EVENTS):
        stream.flow.take_line(json.dumps(event).encode())
    streams.close()
    out = Samples()
    scrape = Scrape(now_s=snapshot.taken_at_s, daemons=(watched(snapshot),), streams=(stream,))
    for _, collect in DAEMON_COLLECTORS:
        collect(scrape, out)
    said: set[str] = set()
    for family in out.collect():
        counts = family.type in ("counter", "histogram")
        values = [s.value for s in family.samples if not s.name.endswith("_bucket")]
        if values and (not counts or any(values)):
            said.add(family.name + ("_total" if family.type == "counter" else ""))
    return said


def without(answers: Answers, call: str, path: str, change: Change) -> Answers:
    """Copy answers with a call's field changed wherever it stands."""
    return {
        name: changed(values, path, change) if name == call else values for name, values in answers.items()
    }
