"""The policy file is read strictly, and an error names the key and the fix."""

from pathlib import Path

import pytest

from actions.mcp.policy.file import McpConfig, PolicyError, PolicyMissing, load
from actions.mcp.policy.rules import Decision, Subject
from actions.mcp.upstream.spec import Http, Stdio

EXAMPLE = """
default = "deny"
capture_arguments = true
mcp_json = "~/mcp.json"

[servers.files]
command = "npx"
args = ["-y", "server", "--api-key", "abcdef"]
env = { KEY = "${THE_KEY}" }
call_timeout_s = 5
calls_per_minute = 60
tokens = ["llmster"]

[servers.web]
url = "https://user:pw@example.org/mcp?key=1"
headers = { Authorization = "Bearer ${THE_KEY}" }

[[rules]]
name = "reads in the project"
server = "files"
tool = "read_*"
decision = "allow"
paths = { arguments = ["path"], roots = ["/srv"] }
hosts = { arguments = ["url"], allowed = ["example.org"] }
schema = { type = "object" }

[[rules]]
resource = "secret://*"
decision = "deny"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mcp.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, EXAMPLE), {"THE_KEY": "hunter22"})
    assert len(found.sha256) == 64
    config = found.config
    files, web = config.servers["files"], config.servers["web"]
    assert isinstance(files.reach, Stdio)
    assert isinstance(web.reach, Http)
    assert files.reach.env == {"KEY": "hunter22"}
    assert (files.limits.call_timeout_s, files.tokens) == (5.0, ("llmster",))
    rule = config.policy.winner(Subject("files", "tool", "read_file", "llmster"))
    assert (rule.name, rule.decision, rule.constraints.path_roots) == (
        "reads in the project",
        Decision.ALLOW,
        ("/srv",),
    )
    assert config.policy.winner(Subject("files", "tool", "x", "x")).decision is Decision.DENY
    assert config.policy.winner(Subject("web", "resource", "secret://a", "x")).name == "rules[2]"
    assert config.capture_arguments
    shown = str([files.reach.shown(), web.reach.shown()])
    for secret in ("hunter22", "abcdef", "pw", "key=1"):
        assert secret not in shown


def test_without_a_policy_every_tool_asks_and_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    assert McpConfig().policy.winner(Subject("s", "tool", "t", "x")).decision is Decision.ASK
    with pytest.raises(PolicyMissing):
        load(tmp_path / "mcp.toml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("defualt = 'ask'", "defualt: no such key; did you mean default?; known: "),
        (
            "[[rules]]\ndecision = 'ask'\ntoken_ = 'x'",
            "rules[1].token_: no such key; did you mean token?; known: ",
        ),
        (
            "[[rules]]\ndecision = 'ask'\npaths = { argument = [] }",
            "rules[1].paths.argument: no such key; did",
        ),
        ("[servers.a]\ncomand = 'x'", "servers.a.comand: no such key; did you mean command?"),
        ("[servers.a]\nzzz = 'x'", "servers.a.zzz: no such key; known: "),
        ("default = 'maybe'", "default: write allow, deny or ask"),
        ("[[rules]]\ntool = 'x'", "rules[1].decision: is missing: write allow, deny or ask"),
        ("[[rules]]\ntool = 'x'\nprompt = 'y'\ndecision = 'ask'", "has tool and prompt"),
        ("[[rules]]\ndecision = 'allow'\npaths = { arguments = ['p'] }", "hosts needs arguments and allowed"),
        ("[[rules]]\ndecision = 'allow'\nhosts = { allowed = ['p'] }", "hosts needs arguments and allowed"),
        (
            "[[rules]]\ndecision = 'allow'\npaths = { arguments = ['p'], roots = ['x'] }",
            "write absolute paths",
        ),
        ("[[rules]]\ndecision = 'allow'\nschema = { type = 3 }", "rules[1].schema: $.type"),
        ("[servers.'a b']\ncommand = 'x'", "servers.a b: a name is"),
        ("[servers.a]\nurl = 'http://['", "servers.a.url: write http://host:port/path"),
        ("[servers.a]\nurl = 'http://h:x'", "servers.a.url: write http://host:port/path"),
        (
            "mcp_json = '~nobody-of-this-name/x'",
            "mcp_json: ~nobody-of-this-name/x: the home directory is unknown",
        ),
        (
            "[[rules]]\ndecision = 'allow'\npaths = { arguments = ['p'], roots = ['~nobody-of-this-name'] }",
            "rules[1].paths.roots: ~nobody-of-this-name: the home directory is unknown",
        ),
        ("[servers.a]\ncommand = 'x'\nurl = 'http://x/'", "write one of them"),
        ("[servers.a]\nurl = 'ftp://x/'", "servers.a.url: write http://"),
        ("[servers.a]\ncommand = 'x'\nidle_s = 0", "servers.a.idle_s: write a number above 0"),
        (
            "[servers.a]\ncommand = 'x'\nconcurrent_calls = 0.5",
            "servers.a.concurrent_calls: write a whole number above 0",
        ),
        ("[servers.a]\ncommand = 'x'\nenv = { A = '${NOPE}' }", "the environment has no NOPE"),
        ("[servers.a]\ncommand = 3", "servers.a.command: write text"),
        ("rules = 3", "rules: write each as [[rules]]"),
        ("x = ", "not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(PolicyError) as error:
        load(write(tmp_path, text), {})
    assert names in str(error.value)
    assert "\n" not in str(error.value)
