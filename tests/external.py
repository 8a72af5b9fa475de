"""Find the programs and packages from outside Python that some tests drive.

One place knows every such tool, where it is looked for and how it is installed. A test that names a missing tool is
skipped with that name and the install command; with DAEMONPULSE_TEST_STRICT=1 it fails instead, so that a host
meant to run everything cannot quietly run less.

Use the marker when the test only needs the tool to be there, the fixture when it needs the path::

    @pytest.mark.external("promtool")
    def test_rules_pass_promtool(external_tool: FindTool) -> None:
        subprocess.run([external_tool("promtool"), "check", "rules", path], check=True)
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

STRICT_VARIABLE = "DAEMONPULSE_TEST_STRICT"

NODE_PROJECT = Path(__file__).parent / "conformance" / "node"
NEXT_PYTHON_SDK = Path(__file__).parents[1] / ".venv-lmstudio-next"
"""Where pip puts the Python SDK of the next release, beside the one that is installed."""
MCP_PYTHON = Path(__file__).parents[1] / ".venv-mcp-servers"
"""The environment of tool servers from PyPI, whose packages are not the project's."""
MCP_SERVERS = Path(__file__).parent / "actions" / "mcp" / "node"
JUDGES = Path(__file__).parent / "judges"
"""Programs of Go modules that have no command of their own to install: a Collector, and Alloy's parser."""
BOARDS_NODE_PROJECT = Path(__file__).parent / "dashboards" / "node"

FindTool = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Tool:
    """One program or package that pip cannot install."""

    find: Callable[[], Path | None]
    """Returns where the tool is, or None."""

    install: str
    """The command to type, or what to do, when it is missing."""

    everywhere: bool = True
    """False for what not every host can have (a GPU): skipped even in strict mode."""


def _program(name: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        path = shutil.which(name)
        return None if path is None else Path(path)

    return find


def _node_package(name: str, project: Path | None = None) -> Callable[[], Path | None]:
    def find() -> Path | None:
        path = (project or NODE_PROJECT) / "node_modules" / name
        return path if (path / "package.json").is_file() else None

    return find


def _python_package(name: str) -> Callable[[], Path | None]:
    pattern = f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info"
    return lambda: next(iter(MCP_PYTHON.glob(pattern)), None)


def _faketime() -> Path | None:
    """Find the library that gives a program another wall clock, where Debian puts it."""
    return next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


def _debian(name: str) -> Callable[[], Path | None]:
    """Find what the distribution installs, also where another build comes first on PATH."""

    def find() -> Path | None:
        path = Path("/usr/bin") / name
        return path if path.is_file() else _program(name)()

    return find


def _version_3(name: str) -> Callable[[], Path | None]:
    """Find a program of Prometheus 3: beside what Go installs, or the one on PATH if it is one."""

    def find() -> Path | None:
        candidates = (*_go_binaries(name), _program(name)())
        return next((path for path in candidates if path is not None and _is_version_3(path)), None)

    return find


def _prometheus_3_tool(name: str) -> Tool:
    return Tool(
        _version_3(name),
        f"go install github.com/prometheus/prometheus/cmd/{name}@v0.316.0",
        everywhere=shutil.which("go") is not None,
    )


def _judge(name: str) -> Tool:
    def find() -> Path | None:
        path = JUDGES / "bin" / name
        return path if path.is_file() else None

    install = f"go build -C {JUDGES.relative_to(JUDGES.parents[1])} -o bin/ ./..."
    return Tool(find, install, everywhere=shutil.which("go") is not None)


def _go_binaries(name: str) -> Iterator[Path]:
    for folder in (os.environ.get("GOBIN"), f"{os.environ.get('GOPATH') or Path.home() / 'go'}/bin"):
        if folder and (Path(folder) / name).is_file():
            yield Path(folder) / name


def version_of(program: Path) -> str:
    """Say which version a program is, by itself or, where it was built by `go install`, by its module."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    first = (told.stdout + told.stderr).partition("\n")[0]
    if "version  " in first and shutil.which("go"):
        built = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True, check=False)
        first = next((line.strip() for line in built.stdout.splitlines() if "\tmod\t" in line), first)
    return " ".join(first.split())


@cache
def _docker_engine() -> Path | None:
    """Find the client, if an engine answers it."""
    client = _program("docker")()
    if client is None:
        return None
    told = subprocess.run([client, "version"], capture_output=True, check=False, timeout=30)
    return client if told.returncode == 0 else None


@cache
def _is_version_3(program: Path) -> bool:
    # A build by `go install` knows its module version, v0.3xx.y, and no number of a release.
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return "version 2." not in told.stdout + told.stderr


TOOLS: dict[str, Tool] = {
    "node": Tool(_program("node"), "install Node.js 20 or newer"),
    "@lmstudio/sdk": Tool(_node_package("@lmstudio/sdk"), "npm ci --prefix tests/conformance/node"),
    "lmstudio 1.6.0b1": Tool(
        lambda: next(iter(NEXT_PYTHON_SDK.glob("lmstudio-1.6.0b1.dist-info")), None),
        "pip install --no-deps --target .venv-lmstudio-next lmstudio==1.6.0b1",
    ),
    **{
        name: Tool(_node_package(name, BOARDS_NODE_PROJECT), "npm ci --prefix tests/dashboards/node")
        for name in ("@grafana/data", "@grafana/schema")
    },
    **{
        name: Tool(_node_package(name, MCP_SERVERS), "npm ci --prefix tests/actions/mcp/node")
        for name in (
            "@modelcontextprotocol/server-everything",
            "@modelcontextprotocol/server-filesystem",
            "@modelcontextprotocol/server-memory",
        )
    },
    **{
        name: Tool(
            _python_package(name),
            "python3 -m venv .venv-mcp-servers && .venv-mcp-servers/bin/pip install -r tests/actions/mcp/servers.txt",
        )
        for name in ("mcp-server-fetch", "mcp-server-git", "fastmcp")
    },
    "prometheus": Tool(_debian("prometheus"), "apt-get install prometheus"),
    "prometheus-3": _prometheus_3_tool("prometheus"),
    "promtool": Tool(_debian("promtool"), "apt-get install prometheus"),
    "promtool-3": _prometheus_3_tool("promtool"),
    "otelcol": _judge("otelcol"),
    "alloysyntax": _judge("alloysyntax"),
    "amtool": Tool(_debian("amtool"), "apt-get install prometheus-alertmanager"),
    "amtool-newest": Tool(
        lambda: next(_go_binaries("amtool"), None),
        "go install github.com/prometheus/alertmanager/cmd/amtool@v0.35.0",
        everywhere=False,  # builds for minutes; its server needs a web page that the module does not bring
    ),
    "prometheus-alertmanager": Tool(
        _program("prometheus-alertmanager"), "apt-get install prometheus-alertmanager"
    ),
    "docker-compose": Tool(_program("docker-compose"), "apt-get install docker-compose"),
    "helm": Tool(
        lambda: next((path for path in (*_go_binaries("helm"), _program("helm")()) if path), None),
        "go install helm.sh/helm/v4/cmd/helm@v4.3.2",
        everywhere=False,  # builds for ten minutes on two cores
    ),
    "systemd-analyze": Tool(_program("systemd-analyze"), "run where systemd is installed", everywhere=False),
    "docker engine": Tool(
        _docker_engine,
        "start a Docker engine, or name one in DOCKER_HOST",
        everywhere=False,
    ),
    "debootstrap": Tool(
        lambda: _program("debootstrap")() if os.geteuid() == 0 else None,
        "as root: apt-get install debootstrap",
        everywhere=False,  # fetches a Debian
    ),
    "nfpm": Tool(
        lambda: next((path for path in (*_go_binaries("nfpm"), _program("nfpm")()) if path), None),
        "go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0",
        everywhere=False,  # builds for a minute or two, and packs 120 MB
    ),
    "rpm": Tool(_program("rpm"), "apt-get install rpm", everywhere=False),
    "libfaketime": Tool(_faketime, "apt-get install faketime"),
    "gcc": Tool(_program("gcc"), "apt-get install gcc libc6-dev"),
}


def strict() -> bool:
    """Whether a missing tool is a failure."""
    return os.environ.get(STRICT_VARIABLE, "") == "1"


def require(name: str) -> Path:
    """Return where the tool is; skip, or in strict mode fail, the running test when it is missing."""
    if name not in TOOLS:
        raise LookupError(f"{name!r} is not a known external tool; tests/external.py knows {sorted(TOOLS)}")
    tool = TOOLS[name]
    path = tool.find()
    if path is not None:
        return path
    reason = f"needs {name}: {tool.install}"
    if strict() and tool.everywhere:
        pytest.fail(f"{reason} ({STRICT_VARIABLE}=1)", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the tools that the test's `external` markers name, before any of its fixtures runs."""
    for marker in item.iter_markers("external"):
        for name in marker.args:
            require(name)


@pytest.fixture(scope="session", name="external_tool")
def _external_tool() -> FindTool:
    return require


@pytest.fixture(
    name="promtool",
    params=[pytest.param(name, marks=pytest.mark.external(name)) for name in ("promtool", "promtool-3")],
)
def _promtool(request: pytest.FixtureRequest) -> Path:
    """Give each promtool in turn: version 3 reads ranges without their first moment, version 2 with it."""
    return require(request.param)
