"""Reads the predict channels of a WebSocket of the SDKs: each prediction on it is a request of its own.

Does not depend on frames: messages come in whole, both ways. Source: lmstudio-js, the envelopes `channelCreate`,
`channelSend`, `channelClose` and `channelError`, and the messages of `predict` and `completeRawText`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from exporter.tap import formats
from exporter.tap.exchange import Exchange
from exporter.tap.registry import Registry
from exporter.tap.routes import PREDICT

MAX_CHANNELS: Final = 256
"""Predictions read at once on one connection."""
_ENDPOINTS: Final = frozenset({"predict", "completeRawText"})
_CREATES: Final = re.compile(rb'"type"\s*:\s*"channelCreate"')
_ENDPOINT: Final = re.compile(rb'"endpoint"\s*:\s*"(predict|completeRawText)"')
_CHANNEL: Final = re.compile(rb'"channelId"\s*:\s*(\d{1,15})')
_HEAD_BYTES: Final = 512


class PredictSocket:
    """One WebSocket of the namespace /llm."""

    def __init__(self, registry: Registry, headers: Mapping[str, str]) -> None:
        self._registry = registry
        self._client = registry.clients.of_request(headers)
        self._traceparent = headers.get("traceparent", "")
        self._channels: dict[int, Exchange] = {}
        self._is_first = True

    def from_client(self, raw: bytes) -> None:
        """Take a message of the client's."""
        message = _decode(raw)
        if self._is_first:
            self._is_first = False
            self._authenticate(message)
            return
        if message is None:
            self._create_from_head(raw[:_HEAD_BYTES])
            return
        channel = message.get("channelId")
        if not isinstance(channel, int):
            return
        if message.get("type") == "channelCreate" and message.get("endpoint") in _ENDPOINTS:
            self._create(channel, _model_of(message.get("creationParameter")))
        elif message.get("type") == "channelSend" and _type_of(message) == "cancel":
            exchange = self._channels.get(channel)
            if exchange is not None:
                exchange.cancelled = True

    def from_daemon(self, raw: bytes) -> None:
        """Take a message of the daemon's."""
        if not self._channels:
            return
        message = _decode(raw)
        exchange = self._channels.get(message.get("channelId", -1)) if message else None
        if message is None or exchange is None:
            return
        now_s = exchange.elapsed_s
        match message.get("type"):
            case "channelSend":
                exchange.status = 200
                exchange.meter.event(now_s)
                formats.read_event("predict", message.get("message"), exchange.meter, now_s)
            case "channelClose":
                self._end(message["channelId"])
            case "channelError":
                exchange.status = 500  # Assumed: what the same failure is over HTTP
                exchange.meter.error = formats.error_type(message.get("error"))
                self._end(message["channelId"])

    def close(self, *, cancelled: bool, cut: bool) -> None:
        """End everything: the connection is gone."""
        for exchange in self._channels.values():
            self._registry.end(exchange, cancelled=cancelled, cut=cut)
        self._channels.clear()

    def _authenticate(self, message: dict[str, Any] | None) -> None:
        """Name the client by the API key that its first message holds in two parts."""
        if message is not None:
            key = f"sk-lm-{message.get('clientIdentifier')}:{message.get('clientPasskey')}"
            self._client = self._registry.clients.of_key(key) or self._client

    def _create_from_head(self, head: bytes) -> None:
        """Read what of a long message was kept: a prompt of megabytes stands behind the channel's number."""
        channel = _CHANNEL.search(head)
        if _CREATES.search(head) and _ENDPOINT.search(head) and channel:
            self._create(int(channel[1]), "")

    def _create(self, channel: int, model: str) -> None:
        if channel in self._channels:
            return
        if len(self._channels) >= MAX_CHANNELS:
            self._registry.counts["unread_channels"] += 1
            return
        exchange = self._registry.begin(
            client=self._client, route=PREDICT, method="POST", traceparent=self._traceparent, predicts=True
        )
        exchange.model = model
        self._channels[channel] = exchange

    def _end(self, channel: int) -> None:
        exchange = self._channels.pop(channel, None)
        if exchange is not None:
            self._registry.end(exchange)


def _decode(raw: bytes) -> dict[str, Any] | None:
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _type_of(message: dict[str, Any]) -> str | None:
    inner = message.get("message")
    type_ = inner.get("type") if isinstance(inner, dict) else None
    return type_ if isinstance(type_, str) else None


def _model_of(parameter: Any) -> str:
    """Name the model of a prediction's specifier, where a query names it."""
    specifier = parameter.get("modelSpecifier") if isinstance(parameter, dict) else None
    query = specifier.get("query") if isinstance(specifier, dict) else None
    name = (query.get("identifier") or query.get("modelKey")) if isinstance(query, dict) else None
    return name[:256] if isinstance(name, str) else ""
