"""What the gate adds to a tool call: over a direct one, beside a pass-through proxy made with fastmcp.

Run as `python -m tests.benchmarks.bench_mcp`. Prints numbers and ratios; judges nothing. All three ways end at the same
kind of tool server (the tests' toolbox, over stdio), the client is the official one, and every call of the gate is
decided, audited (one fsync shared by those who wait) and counted. fastmcp is no dependency: give
`--fastmcp PATH/TO/python` of an environment that has it, or let the benchmark try to make a temporary one.
"""

import argparse
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
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from actions import app
from actions.app import Parts
from daemonpulse.programs import free_port
from tests.actions.conftest import make_token, settings
from tests.actions.mcp.conftest import TOOLBOX, rule, toolbox

PROXY = """
import sys
from fastmcp.server import create_proxy
config = {"mcpServers": {"toolbox": {"command": sys.argv[2], "args": [sys.argv[3]]}}}
quiet = {"show_banner": False, "log_level": "ERROR"}
create_proxy(config).run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), **quiet)
"""


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
async def direct() -> AsyncIterator[tuple[Client, str]]:
    """The toolbox, without anything in between."""
    async with Client(
        StdioServerParameters(command=sys.executable, args=[str(TOOLBOX)]), cache=None
    ) as client:
        yield client, "echo"


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
    code = (
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
        with process(
            [sys.executable, "-m", "tests.benchmarks.bench_mcp", "--serve", str(state), str(ready_file)]
        ):
            while not await asyncio.to_thread(ready_file.exists):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            url, token = (await asyncio.to_thread(ready_file.read_text, encoding="utf-8")).split()
            async with through(f"{url}/mcp/toolbox", token) as client:
                yield client, "echo"


async def serve(state: Path, ready_file: Path) -> None:
    """Be the gate's process."""
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


def find_fastmcp(given: str | None) -> str | None:
    """Return a Python that has fastmcp; try to make one when none is given."""
    if given is not None:
        return given
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


async def main(calls: int, rounds: int, fastmcp: str | None) -> None:
    """Measure every way in every round, so that all meet the same machine, and print the best round of each."""
    ways: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[tuple[Client, str]]]] = {
        "direct, stdio": direct,
        "direct, HTTP": web,
        "gate": gated,
    }
    if fastmcp is not None:
        ways["fastmcp proxy"] = lambda: proxied(fastmcp)
    for at_once in (1, 32):
        best: dict[str, tuple[float, float, float]] = {}
        for _ in range(rounds):
            for name, way in ways.items():
                async with way() as (client, tool):
                    await measure(client, tool, calls=50, at_once=at_once)
                    started = time.perf_counter()
                    took = await measure(client, tool, calls=calls, at_once=at_once)
                    rate = calls / (time.perf_counter() - started)
                    found = (took[len(took) // 2], took[int(len(took) * 0.99)], rate)
                    best[name] = min(best.get(name, found), found)
        base = best["direct, stdio"][0]
        print(f"\n{at_once} at once, {calls} calls, best of {rounds}:")
        for name, (p50, p99, rate) in best.items():
            print(
                f"  {name:<14} p50 {p50 * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms   {rate:7.0f} calls/s"
                f"   {(p50 - base) * 1000:+7.2f} ms p50 over direct"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fastmcp", help="Python of an environment with fastmcp")
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(*options.serve))
    else:
        asyncio.run(main(options.calls, options.rounds, find_fastmcp(options.fastmcp)))
