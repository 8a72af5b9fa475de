"""The exporter's reader of a tap: takes each report once, goes on after a restart, and survives any answer."""

import asyncio
from typing import Any

import msgspec
import pytest

from exporter.tap import reader as module
from exporter.tap.reader import TapReader
from exporter.tap.report import Batch, Live, Report
from tests.exporter.tap.scripted import upstream, whole
from tests.exporter.tap.tapping import until


def report(number: int) -> Report:
    return Report(
        id=number,
        client="ci",
        route="other",
        method="GET",
        model="",
        status=200,
        is_prediction=False,
        start_ns=1,
        e2e_s=0.1,
    )


def batch(boot: str, first: int, count: int, **changes: Any) -> list[bytes]:
    values: dict[str, Any] = {
        "boot": boot,
        "next_id": first + count,
        "missed": 0,
        "reports": tuple(report(first + n) for n in range(count)),
        "live": (),
        "running": {},
        "counts": {"open_connections": 3},
    }
    return whole(msgspec.to_builtins(Batch(**values | changes)))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "RETRY_S", 0.0)


async def test_each_report_is_taken_once_also_after_the_tap_began_anew() -> None:
    taken: list[int] = []
    answers = [batch("a", 1, 2), batch("a", 3, 1, missed=4), batch("b", 1, 1)]
    async with upstream(*answers) as tap:
        reader = TapReader(
            "local", f"http://127.0.0.1:{tap.port}", take=lambda one: taken.append(one.id), tick=lambda: None
        )
        running = asyncio.create_task(reader.run())
        await until(lambda: len(taken) == 4)
        await until(lambda: len(tap.requests) == 3)
        running.cancel()
    assert taken == [1, 2, 3, 1]
    assert reader.missed == 4
    asked = [request.split(b" ")[1].decode() for request in tap.requests]
    assert asked == [
        f"/reports?boot={boot}&after={after}&wait=1.0" for boot, after in (("", 1), ("a", 3), ("a", 4))
    ]


@pytest.mark.parametrize(
    "answer",
    [
        whole({"error": "no"}, status="500 Oops"),
        whole([1]),
        whole({"boot": "a"}),
        [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff{}"],
        [b"nonsense\r\n\r\n"],
    ],
    ids=["error", "list", "incomplete", "no JSON", "no HTTP"],
)
async def test_whatever_a_tap_answers_the_reader_goes_on(answer: list[bytes]) -> None:
    seen: list[tuple[bool, Any]] = []

    def tick() -> None:
        seen.append((reader.is_up, (reader.live, reader.running, reader.counts)))

    async with upstream(answer, batch("a", 1, 1)) as tap:
        reader = TapReader("local", f"http://127.0.0.1:{tap.port}", take=lambda _: None, tick=tick)
        running = asyncio.create_task(reader.run())
        await until(lambda: len(seen) > 1)
        running.cancel()
    assert seen[0] == (False, ((), {}, {}))


async def test_a_report_that_cannot_be_taken_costs_that_report() -> None:
    taken: list[int] = []

    def take(one: Report) -> None:
        if one.id == 1:
            raise ZeroDivisionError
        taken.append(one.id)

    async with upstream(batch("a", 1, 2)) as tap:
        reader = TapReader("local", f"http://127.0.0.1:{tap.port}", take=take, tick=lambda: None)
        running = asyncio.create_task(reader.run())
        await until(lambda: taken)
        running.cancel()
    assert (taken, reader.failures) == ([2], 1)


async def test_what_is_in_flight_grows_older_between_fetches() -> None:
    now_s = 10.0
    live = Live(
        id=1,
        client="ci",
        route="r",
        model="m",
        phase="answer",
        tokens=2,
        tokens_per_s=None,
        elapsed_s=1.5,
        start_ns=1,
    )
    async with upstream(batch("a", 1, 0, live=(live,), running={"ci": 1})) as tap:
        reader = TapReader(
            "local",
            f"http://127.0.0.1:{tap.port}",
            take=lambda _: None,
            tick=lambda: None,
            clock=lambda: now_s,
        )
        running = asyncio.create_task(reader.run())
        await until(lambda: reader.is_up)
        now_s = 10.75
        (seen,) = reader.live
        running.cancel()
    assert seen.elapsed_s == 2.25
    assert reader.running == {"ci": 1}
