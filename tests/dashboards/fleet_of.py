"""Shows the boards a fleet, before a person with fifty hosts looks at them: `python -m tests.dashboards.fleet_of`.

A few simulated hosts live through different scenarios; each is served under the names of several. Needs Prometheus, and
Grafana for something to look at. Only what a board looks like is shown, not what a fleet of so many costs.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from daemonpulse.demo import stack
from daemonpulse.demo.actions import TEXT_TOKEN
from daemonpulse.demo.leftovers import leftovers
from daemonpulse.demo.programs import free_port, running

SCENARIOS: Final = (
    "demo",
    "steady",
    "steady+burst",
    "agent",
    "stall",
    "stuck",
    "crash",
    "leak",
    "heat",
    "mig",
)
SITES: Final = ("berlin", "lab", "montreal")
OWN: Final = "daemon-of-the-fleet"
"""What the simulated hosts call their daemon and their site, until they are served."""
FRESH_S: Final = 3.0
COMMAND: Final = str(Path(sys.executable).with_name("daemonpulse"))


def host_names(count: int) -> list[str]:
    """Name hosts so that they sort."""
    return [f"gpu-box-{number:02}" for number in range(1, count + 1)]


def named(metrics: str, name: str, site: str) -> str:
    """Give the metrics of a simulated host as those of another one."""
    own = metrics.replace(f'site="{OWN}"', f'site="{site}"').replace(f'"{OWN}"', f'"{name}"')
    return own.replace('uuid="', f'uuid="{name}-')


class Host:
    """A simulated host, read once for all of its names."""

    def __init__(self, url: str) -> None:
        self._url, self._text, self._read_s, self._turn = url, "", -FRESH_S, threading.Lock()

    def metrics(self) -> str:
        """Give its metrics, a few seconds old at most. Raises URLError while it is not up."""
        with self._turn:
            if time.monotonic() - self._read_s > FRESH_S:
                with urllib.request.urlopen(f"{self._url}/metrics") as answer:  # noqa: S310 - our own exporter
                    self._text, self._read_s = answer.read().decode(), time.monotonic()
            return self._text


@contextlib.contextmanager
def serving(host: Host, name: str, site: str) -> Iterator[int]:
    """Serve a simulated host's metrics under a name; give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                text = named(host.metrics(), name, site).encode()
            except urllib.error.URLError:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the simulated host is not up")
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a scraper that no longer waits
                self.wfile.write(text)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def simulated(scenarios: Sequence[str], log: Path) -> Iterator[list[Host]]:
    """Run a simulated host for each scenario."""
    with contextlib.ExitStack() as ends, log.open("wb") as out:
        hosts = []
        for seed, scenario in enumerate(scenarios):
            port = free_port()
            words = ["simulate", "--scenario", scenario, "--seed", str(seed), "--listen", f"127.0.0.1:{port}"]
            words += ["--daemon-port", "0", "--daemon-name", OWN, "--daemon-site", OWN]
            process = ends.enter_context(subprocess.Popen([COMMAND, *words], stdout=out, stderr=out))
            ends.callback(process.terminate)
            hosts.append(Host(f"http://127.0.0.1:{port}"))
        yield hosts


async def show(count: int, scenarios: Sequence[str], folder: Path) -> None:
    """Run everything until it is interrupted."""
    async with contextlib.AsyncExitStack() as ends:
        hosts = ends.enter_context(simulated(scenarios, folder / "hosts.log"))
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": f"{name}:9810"}}
            for name, host, site in zip(
                host_names(count), itertools.cycle(hosts), itertools.cycle(SITES), strict=False
            )
            for port in [ends.enter_context(serving(host, name, site))]
        ]
        prometheus = stack.prometheus(folder, targets=[], alertmanager=None)
        (folder / "prometheus" / "targets" / "exporter.json").write_text(json.dumps(targets))
        urls = {}
        urls["prometheus"] = await ends.enter_async_context(
            running(prometheus, log_file=folder / "prometheus.log")
        )
        token = folder / "token"
        for file in (token, token.with_name(TEXT_TOKEN)):
            file.write_text("none: nothing of a fleet can be pressed")
        grafana = stack.grafana(folder, urls={key: url for key, url in urls.items() if url}, token_file=token)
        urls["grafana"] = await ends.enter_async_context(running(grafana, log_file=folder / "grafana.log"))
        for name, url in urls.items():
            print(f"{name:<12} {url or 'is not on PATH'}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards.fleet_of", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=50, help="hosts, each with one daemon")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="what they live through, in turn")
    chosen = parser.parse_args()
    os.nice(5)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that nothing is left
    with leftovers("daemonpulse-fleet-") as left, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(show(chosen.count, chosen.scenarios.split(","), left.folder))


if __name__ == "__main__":
    main()
