"""What cannot work ends with one line, exit code 2 and no traceback: flags, files, addresses, missing packages."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from opentelemetry.util.re import parse_env_headers

from daemonpulse import refusals
from daemonpulse.cli import main
from exporter.telemetry import otel_env
from tests.daemonpulse.test_cli import COMMAND, clean_environment, daemonpulse

NOWHERE = "127.0.0.1:0"


def refused(*arguments: str, **variables: str) -> str:
    """Run a command in this process, and give the one line it ends with."""
    environment: dict[str, str | None] = dict.fromkeys(os.environ.keys() - clean_environment().keys())
    ended: Result = CliRunner().invoke(main, arguments, prog_name="daemonpulse", env=environment | variables)
    assert ended.exit_code == 2, ended.output
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("daemonpulse: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("exporter", "--lisen", "x"),
            "No such option '--lisen'. Did you mean '--listen'? (help: daemonpulse exporter",
        ),
        (("exprter",), "No such command 'exprter'"),
        (("--verson",), "No such option '--verson'"),
        (("exporter", "extra"), "unexpected extra argument (extra)"),
        (("demo", "--seconds", "soon"), "'soon' is not a valid float"),
        (("actions", "token", "new", "--scope", "root", "--name", "me"), "'root' is not one of"),
        (("actions", "token", "new"), "Missing option '--name'"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(arguments: tuple[str, ...], says: str) -> None:
    assert says in refused(*arguments)


def test_a_group_alone_still_shows_its_help() -> None:
    ended = CliRunner().invoke(main, ["actions", "token"], prog_name="daemonpulse")
    assert "Commands:" in ended.output


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "bytes").write_bytes(bytes(range(128, 256)) * 40)
    (tmp_path / "text").write_text("one line of prose\n")
    (tmp_path / "cut.json").write_text('{"timestamp": 1')
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


FILES = ("bytes", "text", "cut.json", "folder", "missing", "/dev/zero")
TAKE_FILES = (
    ("exporter", "--config"),
    ("exporter", "--web-config"),
    ("exporter", "--daemon-token-file"),
    ("exporter", "--daemon-home"),
    ("exporter", "--replay"),
    ("tap", "--clients"),
    ("check", "--config"),
    ("actions", "serve", "--config"),
    ("actions", "serve", "--web-config"),
    ("actions", "ps", "--token-file"),
)
FINE = {("--daemon-home", "folder")}


@pytest.mark.parametrize(
    ("command", "file"),
    [
        pytest.param(command, file, id=f"{' '.join(command)} {file}")
        for command in TAKE_FILES
        for file in FILES
        if (command[-1], file) not in FINE
    ],
)
def test_a_file_that_is_not_what_was_asked_for(folder: Path, command: tuple[str, ...], file: str) -> None:
    listen = ["--listen", NOWHERE] if command[0] in {"exporter", "tap"} or "serve" in command else []
    state = ["--state", str(folder / "state")] if "serve" in command else []
    said = refused(*command, str(folder / file), *listen, *state, HOME=str(folder))
    assert file in said or "tls_server" in said


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("text", "no line of it is a log event; record one with: lms log stream --json"),
        ("empty", "it is empty"),
    ],
)
def test_a_replay_of_something_else_says_how_to_record(folder: Path, file: str, says: str) -> None:
    assert says in refused("exporter", "--listen", NOWHERE, "--replay", str(folder / file))


def test_a_state_that_is_no_database(folder: Path) -> None:
    for verb in (("token", "list"), ("audit", "verify")):
        assert "does not exist; name the folder with --state" in refused(
            "actions", *verb, "--state", str(folder / "typo")
        )
        assert not (folder / "typo").exists()
    assert "cannot be opened" in refused(
        "actions", "token", "new", "--name", "x", "--state", str(folder / "text")
    )
    assert "text" in refused("actions", "serve", "--listen", NOWHERE, "--state", str(folder / "text"))


def test_a_token_made_in_a_new_place_says_that_the_place_is_new(tmp_path: Path) -> None:
    words = ["actions", "token", "new", "--name", "me", "--state", str(tmp_path / "typo")]
    first, second = (CliRunner().invoke(main, words) for _ in range(2))
    assert first.stdout.startswith("dp_")
    assert f"made a new database: {tmp_path}/typo/actions.sqlite3" in first.stderr
    assert second.stderr == ""


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("*:9810", "is every address"),
        ("9810", "write host:port"),
        ("[::1", "write host:port"),
        ("::1:9810", "write host:port"),
        ("http://127.0.0.1:9810", "write host:port"),
        ("a b:1", "write host:port"),
        ("127.0.0.1:65536", "write host:port"),
        ("192.0.2.1:9810", "cannot listen there"),
        ("no-such-host.invalid:9810", "no such address here"),
    ],
)
@pytest.mark.parametrize("command", [("exporter",), ("tap",), ("actions", "serve")], ids=" ".join)
def test_an_address_that_cannot_be_listened_on(
    tmp_path: Path, command: tuple[str, ...], listen: str, says: str
) -> None:
    state = ["--state", str(tmp_path)] if "serve" in command else []
    if state:  # without a token nothing beyond loopback is listened on
        words = ["actions", "token", "new", "--name", "me", *state]
        assert CliRunner().invoke(main, words).exit_code == 0
    assert says in refused(*command, "--listen", listen, *state)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ENDPOINT": "collector"}, "write http://host:4318"),
        ({"ENDPOINT": "ftp://collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT=ftp://collector: write http"),
        ({"TRACES_ENDPOINT": "http://collector:99999"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"ENDPOINT": "http://me:secret@collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT: write"),
        (
            {"ENDPOINT": "http://c:4317", "PROTOCOL": "grcp"},
            "PROTOCOL=grcp: choose one of http/protobuf, grpc",
        ),
        ({"ENDPOINT": "http://c:4318", "TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT=10s: write a number"),
        ({"HEADERS": "Authorization: Bearer secret"}, "OTEL_EXPORTER_OTLP_HEADERS: write name=value"),
        ({"LOGS_HEADERS": "a=b,secret"}, "OTEL_EXPORTER_OTLP_LOGS_HEADERS: write name=value"),
        ({"COMPRESSION": "zip"}, "COMPRESSION=zip: choose one of none, gzip, deflate"),
        ({"PROTOCOL": "grpc", "COMPRESSION": "deflate"}, "COMPRESSION=deflate: choose one of gzip"),
        ({"CERTIFICATE": "/missing.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE=/missing.pem: no such file"),
    ],
)
@pytest.mark.parametrize("command", [("exporter",), ("actions", "serve")], ids=" ".join)
def test_a_receiver_that_cannot_be_asked(
    tmp_path: Path, command: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    state = ["--state", str(tmp_path)] if "serve" in command else []
    otel = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    said = refused(*command, "--listen", NOWHERE, *state, **otel)
    assert says in said
    assert "secret" not in said


@pytest.mark.parametrize("text", ["60s", "0", "-1", "1.5", "x"])
def test_an_interval_of_pushes_that_is_none(text: str) -> None:
    said = refused("exporter", "--listen", NOWHERE, OTEL_METRIC_EXPORT_INTERVAL=text)
    assert f"OTEL_METRIC_EXPORT_INTERVAL={text}: write a number of milliseconds" in said


def test_headers_that_the_sdk_reads_are_taken() -> None:
    for headers in ("", "a=b", "Authorization=Basic%20abc==", " a = b c , x-y=", "a=b,,c=d,"):
        otel_env.check({"OTEL_EXPORTER_OTLP_HEADERS": headers})
        assert all("Header format" not in key for key in parse_env_headers(headers, liberal=True))


@pytest.mark.parametrize("place", ["/proc/no/boards", "/dev/null/boards", f"/{'x' * 300}/boards"])
def test_a_place_that_cannot_be_written(place: str) -> None:
    assert "name another place" in refused("dashboards", "build", "--output", place)


@pytest.mark.parametrize("command", [("--version",), ("top", "--once"), ("actions", "--help")], ids=" ".join)
def test_a_disk_that_is_full_is_one_line(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [COMMAND, *command],
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=240,
            check=False,
        )
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, last.rpartition(": ")[2]) == (1, "No space left on device"), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


def test_a_terminal_without_unicode_sees_question_marks_instead_of_a_traceback() -> None:
    program = (
        "import click; from daemonpulse.cli import main\n"
        "main.add_command(click.Command('draw', callback=lambda: click.echo('▏…·')))\n"
        "main(['draw'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, b"??\xb7\n"), ended.stderr


@pytest.mark.parametrize("text", ["", "two words", "dp_a\nb", "dp_\u00e9", "dp_\x00"])
def test_a_token_that_no_header_can_carry_is_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    said = refused("actions", "ps", "--token-file", str(tmp_path / "token"))
    assert said.endswith("holds no token; write one such as dp_… and nothing else, on one line")


def test_the_demo_says_the_same_of_a_receiver(tmp_path: Path) -> None:
    ended = daemonpulse(
        "demo",
        "--seconds",
        "1",
        OTEL_EXPORTER_OTLP_ENDPOINT="collector",
        TMPDIR=str(tmp_path),
        PATH="/nowhere",
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["box", "http://", "ws://box:1", "http://box:x", "http://me:pw@box:1", "http://[::1"]
)
def test_a_url_that_is_none(url: str) -> None:
    assert "--url=" in refused("actions", "ps", "--url", url)
    assert "--daemon-url" in refused("check", "--daemon-url", url)


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (("demo",), "fastapi", "all"),
        (("demo",), "aiohttp", "all"),
        (("simulate",), "aiohttp", "sim"),
        (("dashboards", "build"), "grafanalib", "dashboards"),
        (("dashboards", "check"), "attr", "dashboards"),
        (("actions", "serve"), "fastapi", "actions"),
        (("top",), "textual", "top"),
    ],
)
def test_a_command_whose_extra_is_missing_says_what_to_install(
    command: tuple[str, ...], module: str, extra: str
) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from daemonpulse.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, *command],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    [line] = ended.stderr.splitlines()
    assert f"{command[0]}: {module} is not installed; run: " in line
    assert f"[{extra}]" in line


def test_the_simulator_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules['aiohttp'] = None; from llmster_sim.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"llmster-sim: aiohttp is not installed; add the extra `sim` of daemonpulse to {sys.prefix}\n"
    )


@pytest.mark.parametrize(
    ("source", "has_pip", "line"),
    [
        (None, True, "PY -m pip install 'CHECKOUT_OR_WHEEL[top]'"),
        (None, False, "pip --python PY install 'CHECKOUT_OR_WHEEL[top]'"),
        ({"url": "HERE/d%20p-1.whl", "archive_info": {}}, True, "PY -m pip install 'HERE/d p-1.whl[top]'"),
        ({"url": "HERE", "dir_info": {"editable": True}}, True, "PY -m pip install -e 'HERE[top]'"),
        ({"url": "file:///gone", "dir_info": {}}, True, "PY -m pip install 'CHECKOUT_OR_WHEEL[top]'"),
        ({"url": "https://example.org/d.git"}, True, "PY -m pip install 'CHECKOUT_OR_WHEEL[top]'"),
    ],
)
def test_what_to_install_names_where_this_was_installed_from(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: dict[str, object] | None,
    *,
    has_pip: bool,
    line: str,
) -> None:
    (tmp_path / "d p-1.whl").touch()
    told = None if source is None else json.dumps(source).replace("HERE", tmp_path.as_uri())
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda _self, _name: told)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object() if has_pip else None)
    said = refusals.install_command("top")
    assert said.replace(sys.executable, "PY").replace(str(tmp_path), "HERE") == line


def test_what_to_install_uses_the_pins_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "compose").mkdir()
    pins = tmp_path / "compose" / "constraints.txt"
    pins.touch()
    told = json.dumps({"url": tmp_path.as_uri(), "dir_info": {}})
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda _self, _name: told)
    assert refusals.install_command("all").endswith(f" install -c {pins} '{tmp_path}[all]'")
