"""What is kept of a policy file decides as the file did, and holds none of its servers' secrets."""

from pathlib import Path

import pytest

from actions.mcp.policy.file import PolicyError, read, restore
from actions.mcp.policy.file_watch import PolicyWatch
from actions.mcp.upstream.spec import Http, Stdio
from actions.metrics import Metrics

RULES = """
default = "deny"
capture_arguments = true
[[rules]]
name = "reads"
tool = "read_*"
decision = "allow"
paths = { arguments = ["path"], roots = ["/srv"] }
schema = { type = "object", properties = { size = { maximum = 1.5 } } }
"""
SECRET = "kept-canary-31"


@pytest.mark.parametrize(
    "server",
    [
        f'command = "x"\nenv = {{ LANG = "{SECRET}" }}',
        f'command = "x"\nenv = {{ A = "${{THE_KEY}}", B = "{SECRET}${{THE_KEY}}" }}',
        f'command = "x"\nargs = ["--token", "{SECRET}"]',
        f'command = "x"\nargs = ["--api-key={SECRET}"]',
        f'url = "http://u:{SECRET}@h/"',
        f'url = "http://h/mcp?key={SECRET}"',
        f'url = "http://h/mcp#{SECRET}"',
        f'url = "http://h/mcp"\nheaders = {{ Accept = "{SECRET}" }}',
        f'url = "http://h/mcp"\nheaders = {{ Authorization = "Bearer {SECRET}" }}',
    ],
)
def test_a_server_with_a_secret_is_left_out_and_the_rules_stay(server: str, tmp_path: Path) -> None:
    environ = {"THE_KEY": "resolved-canary"}
    found = read(f"{RULES}\n[servers.one]\n{server}\ncall_timeout_s = 5\n", "mcp.toml", environ)
    assert SECRET not in found.kept
    assert "resolved-canary" not in found.kept
    again = restore(found.kept, found.sha256, environ)
    assert (again.config.policy, again.config.capture_arguments) == (found.config.policy, True)
    assert (again.config.servers, again.sha256, again.left_out) == ({}, found.sha256, ("one",))
    limits, tokens = again.config.limits["one"]
    assert (limits.call_timeout_s, tokens) == (5.0, ()), (
        "nobody reaches an adopted server of this name instead"
    )
    watch = PolicyWatch(tmp_path / "mcp.toml", Metrics())
    assert watch.first((found.kept, found.sha256)) == again
    assert "without server one: secrets are not kept" in (watch.problem or "")


def test_a_server_whose_secrets_are_references_is_kept_and_they_are_resolved_again() -> None:
    servers = (
        '[servers.files]\ncommand = "npx"\nargs = ["-y", "server"]\ncwd = "/srv"\nenv = { KEY = "${THE_KEY}" }\n'
        'tokens = ["llmster"]\n'
        '[servers.web]\nurl = "https://h:8/mcp"\nheaders = { Authorization = "Bearer ${THE_KEY}" }\n'
    )
    found = read(RULES + servers, "mcp.toml", {"THE_KEY": "older-canary"})
    assert "older-canary" not in found.kept
    again = restore(found.kept, found.sha256, {"THE_KEY": "newer"})
    files, web = again.config.servers["files"], again.config.servers["web"]
    assert files.reach == Stdio("npx", ("-y", "server"), {"KEY": "newer"}, "/srv")
    assert web.reach == Http("https://h:8/mcp", {"Authorization": "Bearer newer"})
    assert (files.tokens, web.tokens, again.left_out) == (("llmster",), None, ())


def test_a_schema_with_a_date_is_refused_for_json_has_none() -> None:
    with pytest.raises(PolicyError, match="a date or a time"):
        read('[[rules]]\ndecision = "allow"\nschema = { const = 2020-01-01 }\n', "mcp.toml", {})


@pytest.mark.parametrize("kept", ["", "default = 'allow'", "[]", "{}"])
def test_what_is_not_what_was_kept_allows_nothing(kept: str, tmp_path: Path) -> None:
    found = PolicyWatch(tmp_path / "mcp.toml", Metrics()).first((kept, "0" * 64))
    assert set(found.config.policy.defaults.values()) == {"deny"}
