"""One fault per target, put into the product while a test runs: a target that does not find it proves nothing.

Knows the product's insides, as whoever breaks them would.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from actions.auth import tokens
from actions.domain import policy
from actions.mcp import identifiers, redaction
from actions.mcp.mcp_json import adopt
from actions.mcp.policy import constraints, file, file_format, rules
from actions.store import chain
from dashboards.kit import promql
from exporter import settings
from exporter.hardware import attribution
from exporter.llmster import events, lenient
from exporter.llmster.wire import protocol
from exporter.pipeline.log_formats import engine
from exporter.pipeline.output import splitter
from exporter.pipeline.pairing import Pairing
from exporter.pipeline.slot_state import SlotState
from exporter.shared import host_header, logs, settings_table, web_config
from exporter.shared.linear import Pattern
from exporter.tap.wire import http1
from exporter.telemetry import content

Plant = Callable[[pytest.MonkeyPatch], None]


def _replaced(holder: object, name: str, value: object) -> Plant:
    return lambda patch: patch.setattr(holder, name, value)


def _ignore_unknown_keys(table: Any, kind: Any, where: str) -> Any:
    known = {one.name for one in msgspec.structs.fields(kind)}
    kept = {key: value for key, value in table.items() if key in known} if isinstance(table, dict) else table
    return file_format.read_table(kept, kind, where)


def _calls_are_never_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(protocol.Protocol, "forget_call", lambda *_: None)


def _one_unit_off(patch: pytest.MonkeyPatch) -> None:
    known = attribution._largest
    patch.setattr(attribution, "_largest", lambda shares, top: known(shares, top)[:top])


def _chunks_forget_a_character(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(splitter, "MAX_MARKER_CHARS", 4)


def _inputs_are_handed_out_twice(patch: pytest.MonkeyPatch) -> None:
    known = Pairing.take

    def take(self: Any, model: str, *facts: Any) -> Any:
        state = self._models.get(model)
        waiting = list(state.waiting) if state else []
        found = known(self, model, *facts)
        if found is not None and state is not None:
            state.waiting[:] = waiting
        return found

    patch.setattr(Pairing, "take", take)


def _quotes_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    known = engine.read
    patch.setattr(engine, "read", lambda line: known(line.lstrip('>" {(')))


def _what_is_not_toml_is_not_caught(patch: pytest.MonkeyPatch) -> None:
    def read(flags: dict[str, str], _: object) -> tuple[dict[str, Any], str]:
        path = flags["config"]
        return tomllib.loads(Path(path).read_text(encoding="utf-8", errors="replace")), path

    patch.setattr(settings, "read_configuration", read)


def _shorter_secrets_go_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redaction, "sorted", lambda known, **_: list(known), raising=False)


def _any_order_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(policy, "_scope", lambda *_: None)
    rules = tuple(
        (name, (lambda *_: None) if name == "replaced-is-idle" else rule) for name, rule in policy.RULES
    )
    patch.setattr("tests.fuzz.permissions._ORDERS", (rules,))


def _a_cached_hash(patch: pytest.MonkeyPatch) -> None:
    known = chain.verify_rows

    def verify(db: Any, expected: Any) -> Any:
        found, *rest = known(db, None)
        return (found if found is not None or expected is None else expected), *rest

    patch.setattr(chain, "verify_rows", verify)


def _half_a_token(patch: pytest.MonkeyPatch) -> None:
    known = tokens._hash
    patch.setattr(tokens, "_hash", lambda secret: known(secret[:40]))


def _the_first_half_of_a_line_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(http1.MessageReader, "_keep", lambda *_: -1)


FAULTS: Final[dict[str, Plant]] = {
    "tap": _the_first_half_of_a_line_is_lost,
    "protocol": _calls_are_never_forgotten,
    "events": _replaced(
        lenient,
        "mended",
        lambda data: data if isinstance(data, str) else bytes(data).decode("utf-8", "replace"),
    ),
    "spoofs": _quotes_are_overlooked,
    "lines": _replaced(engine, "_SLOT", re.compile(engine._SLOT.pattern)),
    "slots": _replaced(SlotState, "free", lambda _self, _now_ms: None),
    "reasoning": _chunks_forget_a_character,
    "predictions": _inputs_are_handed_out_twice,
    "attribution": _one_unit_off,
    "actions": _any_order_will_do,
    "gates": _replaced(
        rules.Policy, "hides", lambda self, subject: self.rules[:1] and self.rules[0].matches(subject)
    ),
    "policy-file": _replaced(file, "read_table", _ignore_unknown_keys),
    "paths": _replaced(identifiers, "_DISGUISED", re.compile(r"^[ \t'\"]|[ \t'\"]\Z|^[ \t'\".]+\Z")),
    "hosts": _replaced(constraints, "_HOST", Pattern(r"[^/]+")),
    "tokens": _half_a_token,
    "front-door": _replaced(
        host_header, "_HOST", re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]*).*", re.DOTALL)
    ),
    "chain": _a_cached_hash,
    "adoption": _replaced(adopt, "_MOVED", adopt._MOVED | {"timeout", "note"}),
    "environment": _replaced(settings_table, "_one_safe_line", str),
    "toml": _what_is_not_toml_is_not_caught,
    "web-file": _replaced(web_config, "_NOT_YAML", yaml.YAMLError),
    "credentials": _replaced(
        web_config, "_credentials", lambda header: ("me", b"right") if "bWU" in header else (None, None)
    ),
    "arguments": _shorter_secrets_go_first,
    "log-lines": _replaced(content, "_is_known", lambda *_, **__: True),
    "own-log": _replaced(logs, "_quote", str),
    "telemetry": _replaced(events, "_MAX_TIMESTAMP_MS", 10**14),
    "queries": _replaced(promql, "_ESCAPES", re.compile("\0")),
}
