"""Every fuzz target, and how many inputs of it CI runs: fewer where one input costs a file or a hundred metrics.

Knows nothing of what they check.
"""

from typing import Final

from tests.fuzz import (
    adopting,
    arguments,
    configuration,
    doors,
    engines,
    gpus,
    outputs,
    permissions,
    queries,
    redacting,
    relayed,
    wire,
)
from tests.fuzz.target import Target

TARGETS: Final = (
    Target("protocol", wire.protocol, 1000),
    Target("events", wire.events, 1500),
    Target("spoofs", engines.spoofs, 1500),
    Target("lines", engines.lines, 2000),
    Target("slots", engines.slots, 600),
    Target("reasoning", outputs.reasoning, 2000),
    Target("predictions", outputs.predictions, 200),
    Target("attribution", gpus.attribution, 1000),
    Target("actions", permissions.actions, 1500),
    Target("gates", permissions.gates, 1500),
    Target("policy-file", permissions.policy_file, 1000),
    Target("paths", arguments.paths, 1000),
    Target("hosts", arguments.hosts, 1500),
    Target("tokens", doors.tokens, 500),
    Target("front-door", doors.front_door, 1000),
    Target("chain", doors.chain, 500),
    Target("adoption", adopting.adoption, 150),
    Target("environment", configuration.environment, 700),
    Target("toml", configuration.toml, 250),
    Target("web-file", configuration.web_file, 250),
    Target("credentials", configuration.credentials, 200),
    Target("arguments", redacting.arguments, 1000),
    Target("log-lines", redacting.log_lines, 1000),
    Target("own-log", redacting.own_log, 500),
    Target("telemetry", redacting.telemetry, 350),
    Target("queries", queries.queries, 1500),
    Target("tap", relayed.tap, 1000),
)

BY_NAME: Final = {target.name: target for target in TARGETS}
