"""Writes of one turn of the event loop are one write; nothing is lost, reordered or held for longer."""

import asyncio
from typing import Any

from exporter.shared.joined_writes import MAX_HELD_BYTES, JoinedWrites


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_a_head_and_its_body_are_one_write() -> None:
    wire = Wire()
    transport = JoinedWrites(wire, asyncio.get_running_loop())
    transport.write(b"head")
    transport.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"headbody"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.written == [b"headbody", b"next"]


async def test_much_is_written_at_once_so_that_flow_control_sees_it() -> None:
    wire = Wire()
    transport = JoinedWrites(wire, asyncio.get_running_loop())
    transport.write(b"a")
    transport.write(b"b" * MAX_HELD_BYTES)
    assert len(wire.written) == 1
    transport.write(b"c")
    await asyncio.sleep(0)
    assert b"".join(wire.written) == b"a" + b"b" * MAX_HELD_BYTES + b"c"


async def test_what_is_held_is_sent_before_closing_and_lost_by_an_abort() -> None:
    wire, other = Wire(), Wire()
    transport = JoinedWrites(wire, asyncio.get_running_loop())
    transport.write(b"last")
    transport.close()
    assert (wire.written, wire.closed) == ([b"last"], True)
    aborted = JoinedWrites(other, asyncio.get_running_loop())
    aborted.write(b"lost")
    aborted.abort()
    await asyncio.sleep(0)
    assert (other.written, other.closed) == ([], True)
