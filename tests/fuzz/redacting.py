"""Targets: what leaves of secrets and of content, through the gate's records, through OTLP and through our own log.

Knows what secrets look like by making them. A planted one must not be found again, whole or in good part.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

from actions.mcp.redaction import digest, preview, redact, redact_command
from actions.store.sizes import canonical
from exporter.llmster.events import PredictionInput, PredictionOutput, RuntimeLog, ServerLog, parse
from exporter.pipeline.predictions import PredictionBuilder
from exporter.shared.logs import JsonFormatter, LogfmtFormatter
from exporter.telemetry import content
from exporter.telemetry.batch_queue import BatchQueue
from exporter.telemetry.content import Capture
from exporter.telemetry.log_sink import LogSink
from exporter.telemetry.spans import Style, build, span_count
from tests.fuzz.choices import Choices
from tests.fuzz.outputs import PIECES

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _word(choices: Choices, size: int) -> str:
    """Make a random word of one size; it begins and ends in letters that no other text here has in a row."""
    return "Qz" + "".join(_LETTERS[choices.byte() % len(_LETTERS)] for _ in range(size - 4)) + "zQ"


def _shaped(choices: Choices) -> tuple[str, str]:
    """Make a secret of a known shape: the text that holds it, and the part that must not be seen."""
    word = _word(choices, 36)
    long = _word(choices, 64)  # as long as a line of a key
    return choices.pick(
        (
            (f"Bearer {word}", word),
            (f"Authorization: Basic {word}==", word),
            (f"eyJ{word}.eyJ{word}.{word}", word),  # both parts are JSON objects in base64
            (f"sk-{word}", word),
            (f"ghp_{word}", word),
            (f"github_pat_{word}", word),
            (f"glpat-{word}", word),
            (f"xoxb-{word}", word),
            (f"dp_abcdefgh_{word}", word),
            (f"https://user:{word}@host.example/x", word),
            (f"redis://:{word}@host.example/0", word),
            (f"https://h.example/?x=1&api_key={word}", word),
            (f"https://h.example/?access_token={word}#f", word),
            (f"-----BEGIN RSA PRIVATE KEY-----\n{long}\n-----END RSA PRIVATE KEY-----", long),
            (f"-----BEGIN PRIVATE KEY-----\n{long}", long),
        )
    )


_BESIDE: Final = ("", " ", "\n", '"', "'", "(", ", ", "; ", " and ", "<", "\u00a0")
_NAMES: Final = ("password", "API_KEY", "x-api-key", "clientSecret", "accessToken", "Authorization", "COOKIE", "pin",
                 "private_key", "db_passwd")  # fmt: skip


def _planted(choices: Choices, secret: Any, name: str | None) -> dict[str, Any]:
    """Hide a value somewhere in arguments, below a name of its own if it needs one."""
    value: Any = secret
    if name is not None:
        value = {name: choices.pick((value, [value], {"a": value}))}
    for _ in range(choices.upto(6)):
        value = choices.pick(
            ([value], {"a": value}, [choices.json(1), value], {"b": choices.json(1), "c": value})
        )
    return {"first": choices.pick((choices.json(1), float("nan"), float("-inf"))), "second": value}


def arguments(choices: Choices) -> None:
    """A secret with a known value, a known name or a known shape is in no preview and in no record."""
    manner = choices.upto(3)
    known: list[str] = []
    if manner == 0:
        text, secret = _shaped(choices)
        planted = _planted(
            choices, choices.pick(_BESIDE) + text + choices.pick(_BESIDE) + choices.text(8), None
        )
    elif manner == 1:
        secret = _word(choices, 12)
        planted = _planted(choices, secret, choices.pick(_NAMES))
    else:
        secret = _word(choices, 5 + choices.upto(20))
        # Values that begin alike: taking the shorter one out must not leave the rest of the longer one.
        known = choices.shuffled([secret, secret[: 4 + choices.upto(4)], choices.pick(("", "x", "value"))])
        text = choices.text(8) + secret + choices.text(8)
        planted = _planted(choices, text, None)
        if choices.flag():
            planted = {"a": {secret: choices.json(1)}}
    shown = preview(planted, known) or ""
    kept = canonical(redact(planted, known))
    for place, record in (("preview", shown), ("record", kept)):
        assert secret not in record, f"{secret!r} is in the {place} of {planted}: {record}"
        assert secret[-8:] not in record, f"the end of {secret!r} is in the {place} of {planted}: {record}"
    assert shown
    assert digest(planted) == digest(json.loads(json.dumps(planted))), planted
    words = choices.pick(
        (["--token", secret], [f"--api-key={secret}"], [f"API_KEY={secret}"], [_shaped(choices)[0]])
    )
    command = redact_command(["run", *words, "file"])
    assert secret not in " ".join(command), command
    assert command[0] == "run"
    assert command[-1] == "file"


_CANARY: Final = "QzCANARYzQ"


def log_lines(choices: Choices) -> None:
    """With capture off no word of a person or a model leaves in a log record; redacted, no secret of a known shape."""
    shaped, secret = choices.pick(
        (
            ("sk-lm-Ab3dE6gH:0123456789abcdefghij", "0123456789abcdefghij"),
            ("Bearer QzAbCdEfGhIjKl", "QzAbCdEfGhIjKl"),
            ("ghp_QzAbCdEfGhIjKlMnOp", "QzAbCdEfGhIjKlMnOp"),
            ("password=QzHunter22", "QzHunter22"),
            ("me.too@example.org", "me.too@example"),
            ("-----BEGIN KEY-----\nQzAbCd\n-----END KEY-----", "QzAbCd"),
        )
    )
    text = choices.pieces(_LOG_PIECES, 8)
    level = choices.pick(("debug", "info", "warn", "error", "", "LOUD"))
    said = choices.pick(('"', "'", "{", "<", "prompt: ", "content=", "text: ")) + choices.text(4) + _CANARY
    plain = choices.pick((_CANARY, said, text + said))
    for event in (
        ServerLog(1, level, text + plain),
        RuntimeLog(1, level, text + plain, "llama.cpp", "1", "t", "m", "r", 7),
    ):
        body = content.log_body(event, Capture.OFF)
        assert _CANARY not in body, f"{event} leaves as {body!r}"
    body = content.log_body(ServerLog(1, level, f"{text}\n{shaped}"), Capture.REDACTED)
    assert secret not in body, f"{secret} is in {body!r}"
    line = ServerLog(1, level, text + shaped)
    assert content.log_body(line, Capture.FULL).startswith(line.content[:1000])


_LOG_PIECES: Final = (
    "[2026-11-22 12:51:12]", "[DEBUG]", "[INFO]", "[ERROR]", "[m]", " ", "\n", "\r", "[", "]",
    "Prompt processing progress: 37.5%", "Running chat completion on conversation with 2 messages.",
    "Finished streaming response", "slot print_timing: id  1 | task 916 | n_gen = 276, tg = 28.66 t/s",
    "slot launch_slot_: id 0 | task 1 | processing task", "Client disconnected.", "Generated prediction: ",
    "Plugin(mcp/x)", "stderr: ",
)  # fmt: skip

_RESOURCE: Final = Resource({"service.name": "llmster"})


class _NoPump(BatchQueue[Any]):
    """Keeps what is put in, without a thread."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def put(self, item: Any, *, weight: int = 1, size_bytes: int = 0) -> bool:
        """Keep it."""
        assert weight >= 0
        assert size_bytes >= 0
        self.items.append(item)
        return True


def telemetry(choices: Choices) -> None:
    """Spans and records of whatever a daemon sends can be encoded, and every span lies in its parent."""
    capture = choices.pick(tuple(Capture))
    queue = _NoPump()
    sink = LogSink("box", queue, lambda _: _RESOURCE, capture)
    builder = PredictionBuilder("box", keep_content=True)
    spans = []
    for _ in range(1 + choices.upto(5)):
        event = parse(json.dumps(_entry(choices)))
        if isinstance(event, ServerLog | RuntimeLog):
            sink.take_log(event)
        elif isinstance(event, PredictionInput | PredictionOutput):
            made = builder.add(event)
            if made is not None:
                sink.take_prediction(made)
                built = build(made, lambda _: _RESOURCE, Style(capture))
                assert len(built) == span_count(made)
                for child in built[1:]:
                    assert child.start_time is not None
                    assert child.end_time is not None
                    assert (built[0].start_time or 0) <= child.start_time <= child.end_time
                    assert child.end_time <= (built[0].end_time or 0)
                spans += built
    if spans:
        sent = encode_spans(spans).SerializeToString()
        assert sent
        for span in encode_spans(spans).resource_spans[0].scope_spans[0].spans:
            names = {attribute.key for attribute in span.attributes}
            assert capture is not Capture.OFF or not names & {"gen_ai.output.messages", "daemonpulse.prompt"}
    records = [make() for make in queue.items]
    if records:
        decoded = encode_logs(records).resource_logs[0].scope_logs[0].log_records
        assert len(decoded) == len(records)


def _entry(choices: Choices) -> Mapping[str, Any]:
    kind = choices.pick(("llm.prediction.input", "llm.prediction.output", "server.log", "runtime.log"))
    text = choices.pieces(PIECES, 6)
    stamp = choices.pick((1_795_351_872_748, 1_795_351_872_748 + choices.upto(60_000), choices.number()))
    data: dict[str, Any] = {
        "type": kind,
        "modelIdentifier": choices.pick(("m", choices.text(8, surrogates=True))),
    }
    data |= dict.fromkeys(("input", "output", "content", "message"), text)
    data |= {"level": choices.pick(("debug", "info", choices.text(6))), "engineName": choices.text(6)}
    if choices.flag():
        data["pid"] = choices.number()
    if choices.flag():
        data["stats"] = {
            "stopReason": choices.pick(("failed", "eosFound", choices.text(6))),
            "tokensPerSecond": choices.pick((28.66, choices.number())),
            "timeToFirstTokenSec": choices.pick((0.25, choices.number())),
            "promptTokensCount": choices.number(),
            "predictedTokensCount": choices.number(),
        }
    return {"timestamp": stamp, "data": data}


def own_log(choices: Choices) -> None:
    """Whatever goes into our own log, a record is one line, and JSON reads back what was said."""
    record = logging.LogRecord("x", logging.INFO, "f", 1, choices.text(30, surrogates=True), (), None)
    record.__dict__["daemon"] = value = choices.pick((choices.text(30, surrogates=True), choices.json(2)))
    for formatter in (LogfmtFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert len(line.splitlines()) == 1, repr(line)
        assert "\r" not in line, repr(line)
        assert "\x1b" not in line, repr(line)
        line.encode()
    said = json.loads(JsonFormatter().format(record))
    assert said["msg"] == record.getMessage()
    assert said["daemon"] == value or value != value  # noqa: PLR0124 - what is not a number equals nothing
