"""Readers of one source: each gets the latest value, a slow one skips what it missed, and nothing waits for it."""

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from actions.live import feeds as feeds_module
from actions.live.feeds import Feeds, Reader
from actions.live.source import LiveSource, TextPart
from tests.actions.live.chain import END, HEAD, Gate, chain, delta, events


class Counting(LiveSource):
    """A source whose every reading differs from the one before."""

    def __init__(self) -> None:
        self.readings = 0

    async def requests(self) -> dict[str, Any]:
        self.readings += 1
        return {"in_flight": [], "reading": self.readings}

    async def text(self, _daemon: str, _request: str, start: int) -> TextPart:
        return TextPart(start, "x", (), is_truncated=False, is_over=False)

    async def close(self) -> None:
        pass


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr(feeds_module, "REQUESTS_EVERY_S", 0.0)
    monkeypatch.setattr(feeds_module, "TEXT_EVERY_S", 0.0)
    return Counting()


async def take(reader: Reader, count: int, version: int = 0) -> list[Any]:
    taken = []
    for _ in range(count):
        version, value = await reader.after(version)
        taken.append((version, value))
    return taken


async def test_a_slow_reader_skips_to_the_latest_value_and_nothing_waits_for_it(source: Counting) -> None:
    feeds = Feeds(source)
    with feeds.requests("a") as slow, feeds.requests("b") as quick:
        ((seen, _),) = await take(slow, 1)
        followed = await take(quick, 200, seen)
        assert [version for version, _ in followed] == list(range(seen + 1, seen + 201)), (
            "the other reader sees every value while this one takes none"
        )
        ((version, value),) = await take(slow, 1, seen)
        assert version >= followed[-1][0], "it goes on with the latest, not with what it missed"
        assert value["reading"] >= followed[-1][1]["reading"]
        assert len(feeds._readers) == 2
    readings = source.readings
    await asyncio.sleep(0.05)
    assert source.readings == readings, "nobody reads, so nothing is asked"


async def test_a_slow_reader_of_text_finds_all_of_it_in_one_value(source: Counting) -> None:
    feeds = Feeds(source)
    with feeds.text("a", "box", "r") as slow, feeds.text("b", "box", "r") as quick:
        ((seen, _),) = await take(slow, 1)
        await take(quick, 50, seen)
        ((_, value),) = await take(slow, 1, seen)
        assert len(value.text) >= 50
        assert set(value.text) == {"x"}


async def test_readers_that_stop_reading_their_sockets_hold_nobody_up(tmp_path: Path) -> None:
    end = Gate()
    pieces = [delta(content="word " * 2000) for _ in range(6)]
    async with chain(tmp_path, (HEAD, *pieces, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        where = urlsplit(all_of.forge.url)
        stuck = [socket.socket() for _ in range(8)]
        try:
            for one in stuck:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                one.setblocking(False)
                await asyncio.get_running_loop().sock_connect(one, (where.hostname, where.port))
                head = (
                    f"POST /v1/live/text?daemon=box&request={request}&seconds=60 HTTP/1.1\r\n"
                    f"Host: {where.netloc}\r\nAuthorization: Bearer {all_of.text_token}\r\n\r\n"
                )
                await asyncio.get_running_loop().sock_sendall(one, head.encode())
            text = ""
            async with all_of.look(request) as answer, asyncio.timeout(30):
                async for _, value in events(answer):
                    text += value["text"]
                    if len(text) == 60_000:
                        break
            assert text == "word " * 12_000
        finally:
            for one in stuck:
                one.close()
        end.open()
        await asked
