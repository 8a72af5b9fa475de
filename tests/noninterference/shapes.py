"""What happens in a run, as bytes on the wire: log events of a daemon, and requests through a tap.

The shape decides kinds, order, models, times, counts and markers; the twin writes every text in them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from exporter.pipeline.output.families import FAMILIES, Family
from tests.noninterference.twins import Twin

START_MS: Final = 1_786_253_679_000
MODELS: Final = ("qwen/qwen3-8b", "openai/gpt-oss-20b", "acme/new-model")
_VALUE: Final = re.compile(r'(?<=": ")[^"]*(?=")|(?<=":")[^"]*(?=")')


class Conversation:
    """Turns of one conversation, each prompt beginning with what was said before."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._said = f"<|im_start|>system\n{twin.text()}<|im_end|>\n"
        self.model = twin.shape.choice(MODELS)

    def prompt(self) -> str:
        """Ask something."""
        opened = self._twin.shape.choice(("", "<think>\n", "<|channel|>analysis<|message|>"))
        self._said += (
            f"<|im_start|>user\n{self._twin.encoded(120)}<|im_end|>\n<|im_start|>assistant\n{opened}"
        )
        return self._said

    def output(self) -> str:
        """Answer, in the way of some family."""
        answer = written(self._twin, self._twin.shape.choice(FAMILIES))
        self._said += f"{answer}<|im_end|>\n"
        return answer


def written(twin: Twin, family: Family) -> str:
    """Write an output as a family does, with texts in the place of the sample's."""
    sample = family.sample
    if family.thought:
        sample = sample.replace(family.thought, twin.encoded(80))
    names = {*family.calls, "function"}
    sample = _VALUE.sub(lambda found: found[0] if found[0] in names else twin.text(12), sample)
    before = twin.shape.choice(("", f"{twin.text()}\n"))
    return f"{before}{sample}\n{twin.encoded(200)}"


def log_lines(twin: Twin, length: int = 24) -> list[bytes]:
    """Make the lines of `lms log stream --json`, some of them no JSON at all."""
    return [_line(event) for event in _events(twin, length)]


def _line(event: dict[str, Any] | str) -> bytes:
    return event.encode("utf-8", "surrogatepass") if isinstance(event, str) else json.dumps(event).encode()


def _events(twin: Twin, length: int) -> Iterator[dict[str, Any] | str]:
    shape = twin.shape
    talks = [Conversation(twin) for _ in range(3)]
    now_ms = START_MS
    waiting: list[Conversation] = []
    for _ in range(length):
        now_ms += shape.choice((0, 1, 40, 900))
        kind = shape.choice(("input", "output", "output", "server", "runtime", "odd"))
        if kind == "input":
            talk = shape.choice(talks)
            data: dict[str, Any] = {
                "type": "llm.prediction.input",
                "modelIdentifier": talk.model,
                "modelPath": talk.model,
                "input": talk.prompt(),
            }
            waiting.append(talk)
        elif kind == "output":
            talk = waiting.pop(0) if waiting else shape.choice(talks)
            data = {
                "type": "llm.prediction.output",
                "modelIdentifier": talk.model,
                "output": talk.output(),
                "stats": _stats(twin),
            }
        elif kind == "server":
            data = {
                "type": "server.log",
                "level": shape.choice(("debug", "info", "warn", "error")),
                "content": _filled(twin, SERVER_LINES),
            }
        elif kind == "runtime":
            data = {
                "type": "runtime.log",
                "level": shape.choice(("info", "warn", "error")),
                "message": _filled(twin, ENGINE_LINES),
                "engineName": "llama.cpp",
                "engineVersion": "1.2.3",
                "engineType": "gguf",
                "modelIdentifier": shape.choice(MODELS),
                "instanceReference": "a",
                "pid": 4321,
            }
        else:
            yield _filled(twin, ODD_LINES)
            continue
        yield {"timestamp": now_ms, "data": data}


def _stats(twin: Twin) -> dict[str, Any]:
    shape = twin.shape
    stop = shape.choice(("eosFound", "maxPredictedTokensReached", "toolCalls", "userStopped", "failed"))
    count = shape.randint(0, 400)
    return {
        "stopReason": stop,
        "tokensPerSecond": shape.choice((0.0, 12.5, 90.25)),
        "timeToFirstTokenSec": shape.choice((0.05, 1.5)),
        "totalTimeSec": 3.0,
        "promptTokensCount": shape.randint(1, 4000),
        "predictedTokensCount": count,
        "totalTokensCount": count,
        "numGpuLayers": -1,
    }


SERVER_LINES: Final = (
    '[2026-08-09 05:34:39][DEBUG] Received request: POST to /v1/chat/completions with body {"messages": [«x»]}',
    "[2026-08-09 05:34:39][INFO][qwen/qwen3-8b] Running chat completion on conversation with 3 messages. «text»",
    "[2026-08-09 05:34:39][INFO][qwen/qwen3-8b] Accumulated tokens: «text»",
    "[2026-08-09 05:34:39][ERROR] Unexpected token in JSON: «x» at position 12",
    "[2026-08-09 05:34:39][ERROR][Plugin(mcp/files)] stderr: «x»",
    "[2026-08-09 05:34:39][INFO][Plugin(mcp/files)] «text»: tools/call «text»",
    "[2026-08-09 05:34:39][ERROR] The model has crashed without additional information. «text»",
    "[2026-08-09 05:34:39][DEBUG] Client disconnected: «x». Stopping generation..",
    "[LM STUDIO SERVER] «x»",
    'Returning {"choices": [{"message": {"content": "«text»"}}]}',
    "«text»\nslot launch_slot_: id  0 | task 7 | processing task\n«x»",
    "«x»",
)
"""What `server.log` holds: «text» is words, «x» words in some encoding."""

ENGINE_LINES: Final = (
    "slot launch_slot_: id  0 | task 7 | processing task",
    "slot launch_slot_: id  0 | task 7 | «text»",
    "slot update_slots: id  0 | task 7 | prompt processing progress, n_past = 512, progress = 0.50 «text»",
    "prompt eval time =     120.00 ms /    64 tokens (    1.88 ms per token,   533.33 tokens per second)",
    "       eval time =     900.00 ms /    90 tokens «x»",
    "slot      release: id  0 | task 7 | stop processing: n_past = 154, truncated = 0\n«text»",
    'failed to parse grammar: root ::= "«x»"\nslot launch_slot_: id  0 | task 9 | «text»',
    "common_chat_parse: «text» srv  log_server_r: request: POST /v1/«text» 127.0.0.1 200",
    "error: «x»",
    "«text»",
)

ODD_LINES: Final = (
    "«text»",
    '{"timestamp": 1, "data": {"type": "llm.prediction.output", "output": "«text»"',
    '{"timestamp": "«text»", "data": {"type": "server.log", "content": "«text»"}}',
    '{"timestamp": 5, "data": {"type": "server.log", "content": {"«text»": "«text»"}}}',
    '{"timestamp": 5, "data": {"type": "new.event", "secret": "«text»"}}',
    '{"timestamp": 5, "data": {"type": "llm.prediction.output", "output": ["«text»"]}}',
    '{"timestamp": 5, "data": {"type": "server.log", "content": "\\ud83d «text»"}}',
)
"""Lines that are no events, or not as they should be."""

_TEXT: Final = re.compile("«(text|x)»")


def _filled(twin: Twin, lines: tuple[str, ...]) -> str:
    return _TEXT.sub(
        lambda found: twin.text() if found[1] == "text" else twin.encoded(200), twin.shape.choice(lines)
    )


def requests(twin: Twin, length: int = 4) -> list[tuple[bytes, list[bytes]]]:
    """Make HTTP requests and the pieces of their answers, as they cross a tap."""
    return [_exchange(twin) for _ in range(length)]


def _exchange(twin: Twin) -> tuple[bytes, list[bytes]]:
    shape = twin.shape
    route, pieces = shape.choice(
        (
            ("/v1/chat/completions", _openai(twin)),
            ("/v1/messages", _anthropic(twin)),
            ("/v1/embeddings", [json.dumps({"error": {"message": twin.text(), "type": "x"}}).encode()]),
            (f"/v1/{twin.text(8).replace(' ', '')[:6].encode().hex()}", [twin.text().encode()]),
        )
    )
    body = json.dumps(
        {"model": MODELS[0], "stream": True, "messages": [{"role": "user", "content": twin.encoded(200)}]}
    ).encode()
    head = (
        f"POST {route}?q={twin.encoded(20).encode().hex()} HTTP/1.1\r\nHost: box\r\n"
        f"Authorization: Bearer {twin.text(30).encode().hex()}\r\nX-Note: {twin.text(9).encode().hex()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    kind = "text/event-stream" if len(pieces) > 1 else "application/json"
    status = shape.choice(("200 OK", "200 OK", "400 Bad Request", "500 Internal Server Error"))
    answer = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    answer = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + answer
    )
    cut = sorted(shape.randrange(len(answer)) for _ in range(3))
    parts = [answer[a:b] for a, b in zip([0, *cut], [*cut, len(answer)], strict=True)]
    return head.encode() + body, parts


def _openai(twin: Twin) -> list[bytes]:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant"},
        {"reasoning_content": twin.text()},
        {"content": twin.encoded()},
        {"content": f"<think>{twin.text()}</think>"},
        {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": twin.text()}}]},
    ]
    chosen = deltas[: twin.shape.randint(1, len(deltas))]
    events = [{"model": MODELS[0], "choices": [{"index": 0, "delta": delta}]} for delta in chosen]
    end = {"model": MODELS[0], "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}
    return [b"data: %b\n\n" % json.dumps(event).encode() for event in (*events, end)] + [b"data: [DONE]\n\n"]


def _anthropic(twin: Twin) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": MODELS[1], "usage": {"input_tokens": 7}}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": twin.text()}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": twin.encoded()}},
        {"type": "error", "error": {"type": "overloaded_error", "message": twin.text()}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    ]
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
