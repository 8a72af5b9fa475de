"""Targets: the rules of the actions API and those of the MCP gate.

Knows no route. What must be refused is worked out here in other words than the product's, globs included.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from actions.domain import policy
from actions.domain.actor import Actor, Scope, on_behalf
from actions.domain.command import Command, Download, Eject, EjectAll, Load, Probe
from actions.domain.policy import Facts
from actions.domain.preflight import Preflight
from actions.domain.preflight import Verdict as Fit
from actions.mcp.policy.constraints import Constraints
from actions.mcp.policy.file import PolicyError, parse
from actions.mcp.policy.rules import KINDS, Decision, Policy, Rule, Subject, decide
from actions.mcp.policy.store import Override, PolicyStore
from actions.store.database import Storage
from tests.fuzz.choices import Choices

_SCOPES: Final = {"read": 0, "text": 0, "operate": 1, "admin": 2}
_ORDERS: Final = tuple(itertools.permutations(policy.RULES))


@contextmanager
def _in_order(rules: tuple[tuple[str, policy.Rule], ...]) -> Iterator[None]:
    """Let the rules be asked in another order."""
    known, holder = policy.RULES, cast("Any", policy)
    holder.RULES = rules
    try:
        yield
    finally:
        holder.RULES = known


def _command(choices: Choices) -> Command:
    reason = choices.pick((None, "", " ", "\t\n", "\u00a0", "because"))
    force = choices.flag()
    kind = choices.upto(5)
    if kind == 0:
        return EjectAll(daemon="box", reason=reason)
    if kind == 1:
        return Eject(
            daemon="box",
            instance_id="a",
            reason=reason,
            drain_seconds=choices.pick((0.0, 0.5, 60.0)),
            force=force,
            only_if_idle=choices.flag(),
        )
    if kind == 2:
        return Download(daemon="box", model="m", reason=reason)
    if kind == 3:
        return Probe(daemon="box", model="m", force=force, reason=reason)
    replace = tuple(choices.some(("a", "b", "c"), 3))
    return Load(daemon="box", model="m", force=force, reason=reason, replace=replace)


def actions(choices: Choices) -> None:
    """Who must be refused is refused in any order of the rules, and whoever need not be is let through in each."""
    scope = choices.pick(tuple(Scope))
    actor = on_behalf(
        Actor("token:x", scope, token_id="id"), person=choices.text(130), address=choices.text(8)
    )
    command = _command(choices)
    verdict = choices.pick((None, *Fit))
    facts = Facts(
        preflight=None if verdict is None else Preflight(verdict, ("no room",), None, None, None, None),
        queued={name: choices.pick((None, 0, 1, 9)) for name in choices.some(("a", "b", "c"), 3)},
    )
    force = getattr(command, "force", False)
    gives_reason = command.reason is not None and any(not char.isspace() for char in command.reason)
    replaced = command.replace if isinstance(command, Load) else ()
    loads = isinstance(command, Load | Probe)
    interrupts = (
        isinstance(command, Eject)
        and (facts.queued.get(command.instance_id) or 0) > 0
        and (command.only_if_idle or not (force or command.drain_seconds))
    )
    refused = (
        _SCOPES[scope.value] < _SCOPES["operate"]
        or (loads and force and not gives_reason)
        or (loads and not force and verdict is Fit.DOES_NOT_FIT)
        or (not force and any((facts.queued.get(name) or 0) > 0 for name in replaced))
        or interrupts
    )
    assert actor.scope is scope, "a person's name gave rights"
    with _in_order(choices.pick(_ORDERS)):
        found = policy.decide(actor, command, facts)
    assert found.allowed != refused, f"{found} for {actor} asking {command} knowing {facts}"
    assert bool(found.reason) == refused


_NAMES: Final = ("read_file", "write_file", "read*", "[ab]", "a", "b", "?", "READ_FILE", "a/b", "\u00e9")
_SERVERS: Final = ("files", "web", "*", "f")
_TOKENS: Final = ("llmster", "person", "*")
_GLOBS: Final = ("*", "read*", "*_file", "?", "??", "read?file", "[[]ab[]]", "[ab]", "**", "", "a/b", "*b")
_CONSTRAINTS: Final = (
    Constraints(),
    Constraints(schema={"required": ["x"]}),
    Constraints(schema={"properties": {"x": {"type": "integer"}}, "additionalProperties": False}),
    Constraints(schema={"$ref": "https://example.org/s.json"}),
    Constraints(schema={"$ref": "#"}),
    Constraints(schema={"properties": {"x": {"multipleOf": 0.1}, "path": {"pattern": "("}}}),
    Constraints(host_arguments=("url",), hosts=("*.example.org",)),
    Constraints(path_arguments=("path",), path_roots=("/srv",)),
    Constraints(path_arguments=("path", "x"), path_roots=("/srv",), host_arguments=("url",), hosts=("h",)),
)


def _matches(glob: str, name: str) -> bool:
    """Match a glob, as its definition says, by way of a regular expression of our own."""
    pattern, at = "", 0
    while at < len(glob):
        if glob.startswith(("[[]", "[]]"), at):
            pattern += re.escape(glob[at + 1])
            at += 3
        elif glob.startswith("[ab]", at):
            pattern += "[ab]"
            at += 4
        else:
            pattern += {"*": "(?s:.*)", "?": "(?s:.)"}.get(glob[at], re.escape(glob[at]))
            at += 1
    return re.fullmatch(pattern, name) is not None


def _rule(choices: Choices, number: int) -> Rule:
    return Rule(
        f"rule {number}",
        choices.pick(tuple(Decision)),
        choices.pick(_SERVERS),
        choices.pick(("tool", *KINDS)),
        choices.pick(_GLOBS),
        choices.pick(_TOKENS),
        choices.pick(_CONSTRAINTS) if choices.flag() else Constraints(),
    )


def _decides(rule: Rule, subject: Subject) -> bool:
    pairs = ((rule.server, subject.server), (rule.target, subject.name), (rule.token, subject.token))
    return rule.kind == subject.kind and all(_matches(glob, name) for glob, name in pairs)


def gates(choices: Choices) -> None:
    """The first rule that matches decides, live ones before the file's; hidden is denied; what is broken is denied."""
    rules = tuple(_rule(choices, number) for number in range(choices.upto(6)))
    defaults = {kind: choices.pick(tuple(Decision)) for kind in KINDS}
    records = PolicyStore(cast("Storage", None), Policy(rules, defaults))
    live = {
        (choices.pick(_SERVERS), choices.pick(_NAMES)): choices.pick(tuple(Decision))
        for _ in range(choices.upto(3))
    }
    records._overrides = {key: Override(*key, verdict, "me", 1) for key, verdict in live.items()}
    records._compose()
    subject = Subject(
        choices.pick(_SERVERS), choices.pick(KINDS), choices.pick(_NAMES), choices.pick(("llmster", "person"))
    )
    arguments = _arguments(choices)
    changed = choices.flag()

    winner = next((rule for rule in rules if _decides(rule, subject)), None)
    set_live = live.get((subject.server, subject.name)) if subject.kind == "tool" else None
    expected = set_live or (winner.decision if winner else defaults[subject.kind])
    constraints = winner.constraints if winner is not None else Constraints()  # a live rule lifts none

    found = decide(records.policy, subject, arguments, changed=changed, resolve=_resolve)
    seen = f"{subject} with {arguments} by {rules} and {live}: {found}"
    assert records.policy.hides(subject) == (expected is Decision.DENY), seen
    if expected is Decision.DENY:
        assert found.decision is Decision.DENY, seen
    elif _is_broken(constraints, arguments):
        assert found.decision is Decision.DENY, seen
        assert found.reason, seen
    elif _surely_holds(constraints):
        wanted = Decision.ASK if changed and expected is Decision.ALLOW else expected
        assert found.decision is wanted, seen
    else:
        assert found.decision is not Decision.ALLOW or not changed, seen


def _arguments(choices: Choices) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name in choices.some(("x", "path", "url", "other"), 4):
        arguments[name] = choices.pick(
            (
                1,
                "1",
                None,
                True,
                "/srv/a",
                "/etc",
                "/srv/../etc",
                "a.example.org",
                "evil.org",
                ["/srv/a", "/etc"],
                10**400,
                {"path": "/etc"},
                choices.json(2),
            )
        )
    return arguments


def _resolve(path: str) -> str:
    """Free a path of dots, as if there were no links."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _surely_holds(constraints: Constraints) -> bool:
    return constraints == Constraints()


def _is_broken(constraints: Constraints, arguments: Mapping[str, Any]) -> bool:
    """Tell cases in which a constraint is broken beyond doubt; False where it would take the product to say."""
    schema = constraints.schema or {}
    if "$ref" in schema and schema["$ref"].startswith("https"):
        return True
    if "required" in schema and "x" not in arguments:
        return True
    if "additionalProperties" in schema and (
        arguments.keys() - {"x"} or isinstance(arguments.get("x", 1), str | bool)
    ):
        return True
    for name in constraints.path_arguments:
        value = arguments.get(name)
        if name in arguments and (
            not isinstance(value, str | list | dict) or value in ("/etc", "/srv/../etc", "1")
        ):
            return True
    if constraints.path_arguments and not _names_any(arguments, constraints.path_arguments):
        return True
    return bool(constraints.host_arguments) and (
        not _names_any(arguments, constraints.host_arguments)
        or arguments.get("url") in ("evil.org", 1, None, True)
    )


def _names_any(value: Any, names: tuple[str, ...]) -> bool:
    """Tell whether one of the names is a key anywhere."""
    if isinstance(value, dict):
        return any(key in names or _names_any(child, names) for key, child in value.items())
    return isinstance(value, list) and any(_names_any(child, names) for child in value)


_KEYS: Final = (
    "default", "rules", "servers", "capture_arguments", "mcp_json", "name", "server", "tool", "prompt", "token",
    "decision", "schema", "paths", "hosts", "arguments", "roots", "allowed", "command", "url", "env", "headers",
    "calls_per_minute", "deny", "allow", "s", "unknown",
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    "allow", "deny", "ask", "*", "", "/srv", "~", "relative", "~nobody-here",
    "http://h:1/p", "http://[", "${HOME}", "${NOPE}", 0, -1,
    1e13, True, float("nan"), float("inf"), {"type": "object"}, {"type": 7}, ["path"], ["/srv"], [""], [], {},
)  # fmt: skip


def policy_file(choices: Choices) -> None:
    """Any document is a policy or is refused in one line; half a constraint and an unknown key are always refused."""

    def table(depth: int) -> Any:
        kind = choices.upto(3)
        if depth == 0 or kind == 0:
            return choices.pick(_VALUES)
        if kind == 1:
            return [table(depth - 1) for _ in range(choices.upto(3))]
        return {choices.pick(_KEYS): table(depth - 1) for _ in range(choices.upto(4))}

    document: dict[str, Any] = {}
    for key in choices.some(("default", "capture_arguments", "servers", "mcp_json", "unknown"), 2):
        document[key] = table(3)
    document["rules"] = [
        {"decision": choices.pick(tuple(Decision)).value}
        | {key: table(2) for key in choices.some(_KEYS[5:17], 3)}
        for _ in range(choices.upto(3))
    ]
    try:
        config = parse(document, {"HOME": "/home/x"})
    except PolicyError as error:
        told = str(error)
        assert told.isprintable() or "\n" in str(document), told
        return
    assert "unknown" not in document, document
    for rule, given in zip(config.policy.rules, document["rules"], strict=True):
        assert rule.decision == given["decision"], (rule, given)
        asked = rule.constraints
        assert bool(asked.path_arguments) == bool(asked.path_roots), (rule, given)
        assert bool(asked.host_arguments) == bool(asked.hosts), (rule, given)
        for key in ("paths", "hosts", "schema"):
            if given.get(key):
                assert asked != Constraints(), f"{key} of {given} is lost"
        subject = Subject(rule.server, rule.kind, rule.target, rule.token)
        decide(config.policy, subject, {"path": "/srv"}, changed=False, resolve=_resolve)
