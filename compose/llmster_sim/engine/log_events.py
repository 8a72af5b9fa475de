"""Word the daemon's log events: the four types of the diagnostics stream and their known lines.

Pure text; does not depend on subscribers and stores nothing. Shapes come from published samples and captures.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmster_sim.models.catalogue import Engine

Level = Literal["debug", "info", "warn", "error"]
Event = dict[str, Any]


def prediction_input(*, at_ms: int, prompt: str, path: str, identifier: str) -> Event:
    """Word the full templated prompt of a prediction."""
    return {
        "timestamp": at_ms,
        "data": {
            "type": "llm.prediction.input",
            "input": prompt,
            "modelPath": path,
            "modelIdentifier": identifier,
        },
    }


def prediction_output(*, at_ms: int, output: str, identifier: str, stats: Mapping[str, Any] | None) -> Event:
    """Word the whole raw output; some builds leave the stats out."""
    data: dict[str, Any] = {"type": "llm.prediction.output", "output": output}
    if stats is not None:
        data["stats"] = dict(stats)
    data["modelIdentifier"] = identifier
    return {"timestamp": at_ms, "data": data}


def server(*, at_ms: int, level: Level, text: str, scope: str | None = None) -> Event:
    """Word a server.log line: local wall clock and level, then `[scope]` or a space. Assumed: the zone is UTC."""
    stamp = dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    head = f"[{stamp}][{level.upper()}]" + (f"[{scope}]" if scope is not None else "")
    return {"timestamp": at_ms, "data": {"type": "server.log", "content": f"{head} {text}", "level": level}}


def runtime(
    *,
    at_ms: int,
    level: Level,
    text: str,
    engine: Engine,
    identifier: str | None = None,
    reference: str | None = None,
    pid: int | None = None,
) -> Event:
    """Word a line of an engine process; what is not known is left out."""
    data: dict[str, Any] = {
        "type": "runtime.log",
        "level": level,
        "message": text,
        "engineName": engine.name,
        "engineVersion": engine.version,
        "engineType": engine.type,
    }
    if identifier is not None:
        data["modelIdentifier"] = identifier
    if reference is not None:
        data["instanceReference"] = reference
    if pid is not None:
        data["pid"] = pid
    return {"timestamp": at_ms, "data": data}


def received_request(*, method: str, path: str, body: Mapping[str, Any] | None) -> str:
    """Word the DEBUG line of a request; a body makes it several lines (recorded)."""
    if body is None:
        return f"Received request: {method} to {path}"
    return f"Received request: {method} to {path} with body  {json.dumps(body, indent=2)}"


def task_deferred(*, task: int) -> str:
    """Word that no slot is free for a task, as llama-server's source does at debug verbosity.

    Assumed: the engine runs that verbosely. What a given daemon asks of its engines is not known.
    """
    return f"srv  process_sing: no slot is available, defer task, id_task = {task}"


def task_cancelled(*, task: int) -> str:
    """Word that a task is no longer wanted (recorded of llama-server)."""
    return f"srv          stop: cancel task, id_task = {task}"


def slot_launched(*, slot: int, task: int) -> str:
    """Word that a slot takes a task."""
    return f"slot launch_slot_: id  {slot} | task {task} | processing task, is_child = 0"


def cache_restored(*, cached: int, uncached: int) -> str:
    """How much of the prompt the slot's cache already held (recorded)."""
    return f"Prompt cache restore: cached_tokens={cached} uncached_tokens={uncached}"


def prompt_progress(*, slot: int, task: int, tokens: int, share: float, elapsed_s: float) -> str:
    """Word that a batch of the prompt is done. Assumed: the prefix; the published line starts at `task`."""
    rate = tokens / elapsed_s if elapsed_s > 0 else 0.0
    return (
        f"slot print_timing: id  {slot} | task {task} | prompt processing, n_tokens = {tokens},"
        f" progress = {share:.2f}, t = {elapsed_s:.2f} s / {rate:.2f} tokens per second"
    )


def decode_progress(*, wording: str, slot: int, task: int, tokens: int, tps: float, recent_tps: float) -> str:
    """Tokens so far; the word for them changed between engine versions."""
    recent = f", tg_3s = {recent_tps:.2f} t/s" if wording == "n_gen" else ""
    return f"slot print_timing: id  {slot} | task {task} | {wording} = {tokens}, tg = {tps:.2f} t/s{recent}"


def timing(*, slot: int, task: int, prompt: int, prompt_s: float, predicted: int, decode_s: float) -> str:
    """Word the block a slot prints at the end: one event of several lines (recorded)."""

    def line(name: str, seconds: float, tokens: int) -> str:
        per_token_ms = seconds * 1000 / tokens if tokens else 0.0
        rate = tokens / seconds if seconds > 0 else 0.0
        return (
            f"{name} = {seconds * 1000:.2f} ms / {tokens} tokens"
            f" ({per_token_ms:.2f} ms per token, {rate:.2f} tokens per second)"
        )

    return (
        f"slot print_timing: id  {slot} | task {task} | \n"
        f"{line('prompt eval time', prompt_s, prompt)}\n"
        f"{line('       eval time', decode_s, predicted)}\n"
        f"      total time = {(prompt_s + decode_s) * 1000:.2f} ms / {prompt + predicted} tokens"
    )


def draft_acceptance(*, accepted: int, total: int) -> str:
    """How many drafted tokens the model kept."""
    share = accepted / total if total else 0.0
    return f"draft acceptance = {share:.5f} ( {accepted} accepted / {total} generated), mean len = {1 + share * 2:.2f}"


def initializing(*, slots: int, context: int) -> str:
    """Word how an engine sets up its slots when it has loaded, as recorded of llama-server."""
    return f"srv    load_model: initializing, n_slots = {slots}, n_ctx_slot = {context}, kv_unified = 'false'"


def slot_released(*, slot: int, task: int) -> str:
    """Word that a slot is free again."""
    return f"slot release: id  {slot} | task {task} | stop processing"


ALL_SLOTS_IDLE = "srv  update_slots: all slots are idle"


def crashed(exit_code: int) -> str:
    """Word that an engine process ended on its own, as published."""
    return f"The model has crashed without additional information. (Exit code: {exit_code})"


def exited_before_healthy(*, reference: str, exit_code: int) -> str:
    """Word that an engine process never came up, as published."""
    return f"Engine protocol runtime llama-server for {reference} exited before becoming healthy. exitCode={exit_code}"
