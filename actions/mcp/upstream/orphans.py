"""Answers that name no request: to which requests they belong, as far as that is certain. Pure.

JSON-RPC 2.0, "Response object": `id` is null where the server could not read the request's. It then answers one of the
requests that are open: the only one, or the one that is left when all others are answered. Some servers also answer
notifications so, although they must not: such an answer is about the last notification, until a request that was sent
after it has been answered.
"""

from __future__ import annotations

import mcp_types as types

Orphan = tuple[types.RequestId, types.ErrorData]


class Orphans:
    """The open requests of one connection, and how many of them have an answer without an id."""

    def __init__(self) -> None:
        self._number = 0
        """Of the last request sent."""
        self._open: dict[types.RequestId, int] = {}
        self._noticed: int | None = None
        """The request before the last notification, while an answer may be about that."""
        self._suspects: set[types.RequestId] = set()
        """Requests that were open at the last such answer and are still."""
        self._errors: list[types.ErrorData] = []

    def sent(self, message: types.JSONRPCMessage) -> None:
        """Note what is sent."""
        if isinstance(message, types.JSONRPCRequest):
            self._number += 1
            self._open[message.id] = self._number
        elif isinstance(message, types.JSONRPCNotification):
            self._noticed = self._number
            if message.method == "notifications/cancelled":
                self._given_up((message.params or {}).get("requestId"))

    def forget(self, request_id: types.RequestId) -> None:
        """Note that a request is not waited for any more."""
        self._given_up(request_id)

    def answered(self, request_id: types.RequestId) -> list[Orphan]:
        """Note an answer; return the requests that now certainly have an answer without an id."""
        number = self._open.pop(request_id, 0)
        if self._noticed is not None and number > self._noticed:
            self._noticed = None
        self._suspects.discard(request_id)
        return self._settled()

    def take(self, error: types.ErrorData) -> list[Orphan]:
        """Note an answer without an id; return the requests that certainly have one."""
        if self._noticed is not None:
            self._noticed = None
            return []
        self._suspects = set(self._open)
        self._errors.append(error)
        return self._settled()

    def _given_up(self, request_id: object) -> None:
        if (
            isinstance(request_id, int | str)
            and self._open.pop(request_id, 0)
            and request_id in self._suspects
        ):
            self._suspects, self._errors = set(), []  # it may have been about this one

    def _settled(self) -> list[Orphan]:
        if len(self._suspects) > len(self._errors):
            return []
        found = list(zip(sorted(self._suspects, key=self._open.__getitem__), self._errors, strict=False))
        for request_id, _ in found:
            del self._open[request_id]
        self._suspects, self._errors = set(), []
        return found
