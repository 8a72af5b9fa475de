"""`daemonpulse simulate`: a simulated daemon on its own port, and an exporter that reads its simulated GPUs.

The stack's containers run the other programs.
One process, because the GPUs exist only in the simulator's memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

from daemonpulse.demo.leftovers import leftovers
from daemonpulse.demo.simulated_host import SimulatedHost, simulated_gpus
from exporter import app
from exporter.settings import DaemonSettings, ExporterSettings
from exporter.shared import logs
from exporter.shared.settings_table import SettingsError
from llmster_sim.server import SimConfig, Simulator


def run(settings: ExporterSettings, *, host: str, port: int, scenario: str, seed: int) -> None:
    """Serve both until SIGTERM or SIGINT. Raises SettingsError before anything is started."""
    logs.configure(level=settings.log_level, format_=settings.log_format)
    with leftovers("daemonpulse-simulate-") as left:
        asyncio.run(_serve(settings, home=left.folder, host=host, port=port, scenario=scenario, seed=seed))


async def _serve(
    settings: ExporterSettings, *, home: Path, host: str, port: int, scenario: str, seed: int
) -> None:
    told = settings.daemons[0]
    try:
        simulator = Simulator(
            SimConfig(
                seed=seed,
                scenario=scenario,
                token=told.token.reveal() if told.token else None,
                home=home,
                host=host,
                port=port,
                start_ms=round(time.time() * 1000),
            )
        )
    except ValueError as error:
        raise SettingsError(key="--scenario", value=scenario, fix=str(error)) from None
    try:
        await simulator.start()
    except OSError as error:
        raise SettingsError(
            key="--daemon-port",
            value=str(port),
            fix=f"cannot listen there ({error.strerror}); choose another",
        ) from None
    try:
        # Whatever URL the other containers use, this exporter has the daemon in its own process.
        daemon = DaemonSettings(
            name=told.name, url=simulator.url, token=told.token, home=home, site=told.site
        )
        loop = asyncio.get_running_loop()
        await app.serve(
            dataclasses.replace(settings, daemons=(daemon,)),
            gpus=simulated_gpus(simulator.daemon, loop),
            host=SimulatedHost(simulator.daemon, loop),
        )
    finally:
        await simulator.stop()
