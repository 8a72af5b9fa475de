"""Run one simulated daemon from the command line until it is told to stop.

Options, signals and exit codes; the simulation is in the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import click

try:
    from llmster_sim.engine.daemon import Settings
    from llmster_sim.server import SimConfig, Simulator
    from llmster_sim.traffic.scenarios import SCENARIOS
except ModuleNotFoundError as missing:
    if (missing.name or "").startswith("llmster_sim"):
        raise
    click.echo(
        f"llmster-sim: {missing.name} is not installed; add the extra `sim` of daemonpulse to {sys.prefix}",
        err=True,
    )
    sys.exit(2)

_SCENARIO_HELP = "What happens. Join several with '+'.\n\n\b\n" + "\n".join(
    f"{name:10} {text}" for name, text in SCENARIOS.items()
)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=1234,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--seed", default=7, show_default=True, help="Same seed, same traffic.")
@click.option("--scenario", default="steady", show_default=True, help=_SCENARIO_HELP)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    help="Virtual seconds per real second. TTLs keep real time, because observers count them by their own clock.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the files of a daemon's home directory there.",
)
@click.option(
    "--mcp-json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Let chats and agents call the tool servers of this file, as the setting for servers from mcp.json does.",
)
@click.option("--token", help="Require this API token: sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY.")
@click.option(
    "--version-string", default="0.4.24", show_default=True, help="Version the daemon claims to be."
)
@click.option(
    "--models", type=click.IntRange(min=1), help="How many models are on disk [default: the catalogue]."
)
@click.option(
    "--gpus", default=2, show_default=True, type=click.IntRange(min=0), help="How many GPUs it has."
)
@click.option(
    "--urls-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help='Write {"llmster": URL} there once it answers.',
)
def main(
    *,
    host: str,
    port: int,
    seed: int,
    scenario: str,
    speed: float,
    home: Path | None,
    mcp_json: Path | None,
    token: str | None,
    version_string: str,
    models: int | None,
    gpus: int,
    urls_file: Path | None,
) -> None:
    """Simulate LM Studio's headless daemon (llmster): WebSockets and REST on one port, seeded traffic.

    Try it with any LM Studio client, or: curl http://127.0.0.1:1234/api/v1/models
    """
    try:
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        click.echo(
            f"llmster-sim: home={home} cannot be made ({error.strerror}); choose another with --home",
            err=True,
        )
        sys.exit(2)
    try:
        config = SimConfig(
            host=host,
            port=port,
            seed=seed,
            scenario=scenario,
            speed=speed,
            home=home,
            mcp_json=mcp_json,
            settings=Settings(allow_mcp_json=mcp_json is not None),
            token=token,
            version=version_string,
            models=models,
            gpus=gpus,
            # Its own pid and the real time, so that they match this host's processes and clock.
            pid=os.getpid(),
            start_ms=int(time.time() * 1000),
        )
        code = asyncio.run(_serve(config, urls_file))
    except ImportError as error:
        click.echo(f"llmster-sim: --mcp-json needs the MCP client: pip install mcp ({error})", err=True)
        code = 2
    except ValueError as error:
        click.echo(f"llmster-sim: {error}", err=True)
        code = 2
    sys.exit(code)


async def _serve(config: SimConfig, urls_file: Path | None) -> int:
    simulator = Simulator(config)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    try:
        await simulator.start()
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        click.echo(
            f"llmster-sim: port={config.port} on host={config.host} {reason}; choose another with --port (0 = any)",
            err=True,
        )
        return 2
    if urls_file is not None:
        _write_urls(urls_file, simulator.url)
    click.echo(f"llmster-sim {config.version} plays {config.scenario} at {simulator.url} (Ctrl+C stops it)")
    waits = [asyncio.create_task(told.wait()), asyncio.create_task(simulator.stopped.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wait
    await simulator.stop()
    return 0


def _write_urls(path: Path, url: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"llmster": url}) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
