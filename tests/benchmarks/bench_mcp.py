"""What the gate adds to a tool call: over a direct one, beside a pass-through proxy made with fastmcp.

Run as `python -m tests.benchmarks mcp`. Judges nothing. All ways end at the same kind of tool server (the tests'
toolbox), the client is the official one, and every call of the gate is decided, audited (one fsync shared by those who
wait) and counted. fastmcp is no dependency: it is put into a temporary environment, and left out when that fails.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from actions import app
from actions.app import Parts
from daemonpulse.demo.programs import free_port
from exporter.shared.process import raise_gc_threshold
from tests.actions.conftest import make_token, settings
from tests.actions.mcp.conftest import TOOLBOX, rule, toolbox
from tests.benchmarks.table import Row

PROXY = """
import sys
from fastmcp.server import create_proxy
config = {"mcpServers": {"toolbox": {"command": sys.argv[2], "args": [sys.argv[3]]}}}
quiet = {"show_banner": False, "log_level": "ERROR"}
create_proxy(config).run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), **quiet)
"""


AS_INSTALLED = "import sys\nsys.modules['sniffio'] = None\n"
"""The tests' clients bring sniffio, which anyio asks at every step where it is; an installation has none."""


async def measure(client: Client, name: str, *, calls: int, at_once: int) -> list[float]:
    """Return the seconds of every call, sorted."""
    took: list[float] = []
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            started = time.perf_counter()
            result = await client.call_tool(name, {"text": "hello"})
            took.append(time.perf_counter() - started)
            if result.is_error:
                raise RuntimeError(str(result))

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return sorted(took)


@contextlib.asynccontextmanager
async def through(url: str, token: str = "") -> AsyncIterator[Client]:
    """The official client over HTTP."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), cache=None) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def web() -> AsyncIterator[tuple[Client, str]]:
    """The toolbox served over HTTP by the SDK itself: what the transport alone costs."""
    port = free_port()
    code = AS_INSTALLED + (
        "import uvicorn\nfrom mcp.server import Server\nfrom tests.actions.mcp import toolbox as t\n"
        "server = Server('toolbox', on_list_tools=t.list_tools, on_call_tool=t.call_tool)\n"
        f"uvicorn.run(server.streamable_http_app(), port={port}, log_level='error')\n"
    )
    with process([sys.executable, "-c", code]):
        async with await ready(f"http://127.0.0.1:{port}/mcp") as client:
            yield client, "echo"


@contextlib.asynccontextmanager
async def gated() -> AsyncIterator[tuple[Client, str]]:
    """The gate in a process of its own, with everything on."""
    with tempfile.TemporaryDirectory() as folder:
        state, ready_file = Path(folder) / "state", Path(folder) / "ready"
        await asyncio.to_thread(state.mkdir)
        policy = toolbox(calls_per_minute=1e9) + rule("allow")
        await asyncio.to_thread((state / "mcp.toml").write_text, policy, encoding="utf-8")
        code = AS_INSTALLED + (
            "import asyncio, pathlib\nfrom tests.benchmarks.bench_mcp import serve\n"
            "asyncio.run(serve(*map(pathlib.Path, sys.argv[1:])))\n"
        )
        with process([sys.executable, "-c", code, str(state), str(ready_file)]):
            while not await asyncio.to_thread(ready_file.exists):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            url, token = (await asyncio.to_thread(ready_file.read_text, encoding="utf-8")).split()
            async with through(f"{url}/mcp/toolbox", token) as client:
                yield client, "echo"


async def serve(state: Path, ready_file: Path) -> None:
    """Be the gate's process."""
    raise_gc_threshold()
    started: asyncio.Future[tuple[str, Parts]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        app.serve(settings(state), ready=lambda url, parts: started.set_result((url, parts)))
    )
    url, parts = await started
    token = await make_token(parts.service.storage, "read", name="bench")
    draft = ready_file.with_suffix(".draft")
    await asyncio.to_thread(draft.write_text, f"{url} {token}", encoding="utf-8")
    await asyncio.to_thread(draft.rename, ready_file)
    await task


@contextlib.asynccontextmanager
async def proxied(python: str) -> AsyncIterator[tuple[Client, str]]:
    """A pass-through proxy made with fastmcp."""
    port = free_port()
    with process([python, "-c", PROXY, str(port), sys.executable, str(TOOLBOX)]):
        async with await ready(f"http://127.0.0.1:{port}/mcp") as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            yield client, next(name for name in names if name.endswith("echo"))


@contextlib.contextmanager
def process(command: list[str]) -> Iterator[None]:
    """Run a program meanwhile."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(10)


async def ready(url: str) -> contextlib.AbstractAsyncContextManager[Client]:
    """Wait until a server answers; return a client to enter."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        for _ in range(600):
            try:
                await http.get(url)
            except httpx2.HTTPError:
                await asyncio.sleep(0.05)
            else:
                return through(url)
    raise TimeoutError(f"{url} does not answer")


def find_fastmcp() -> str | None:
    """Return a Python that has fastmcp, made in the temporary folder; None when that does not work."""
    folder = Path(tempfile.gettempdir()) / "daemonpulse-bench-fastmcp"
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "fastmcp>=4,<5"], check=True)
        subprocess.run([python, "-c", "import fastmcp"], check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return str(python)


def rows(*, quick: bool) -> Iterator[Row]:
    """The gate beside the same tool server without it, and beside a fastmcp proxy, one call at a time and 32."""
    fastmcp = None if quick else find_fastmcp()
    yield from asyncio.run(_rows(fastmcp, calls=2 if quick else 300, rounds=1 if quick else 2, quick=quick))


async def _rows(fastmcp: str | None, *, calls: int, rounds: int, quick: bool) -> list[Row]:
    """Measure every way in every round, so that all meet the same host; the best round of each counts."""
    ways: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[tuple[Client, str]]]] = {
        "tool server over HTTP, no gate": web,
        "gate": gated,
    }
    if fastmcp is not None:
        ways["fastmcp proxy"] = lambda: proxied(fastmcp)
    found: list[Row] = []
    for at_once in (1,) if quick else (1, 32):
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):
            for name, way in ways.items():
                async with way() as (client, tool):
                    await measure(client, tool, calls=1 if quick else 50, at_once=at_once)
                    took = await measure(client, tool, calls=calls, at_once=at_once)
                    best[name] = min(best[name], took[len(took) // 2] * 1e3)
        found += [
            Row(
                what=f"MCP call through the gate, {at_once} at once, p50",
                ours=best["gate"],
                unit="ms",
                against=name,
                floor=floor_ms,
                ratio_goal=1 if name == "fastmcp proxy" else None,
            )
            for name, floor_ms in best.items()
            if name != "gate"
        ]
    return found
