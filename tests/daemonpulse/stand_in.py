"""Stands in for Tempo, Loki or Grafana: reads the shipped file as the real one does, serves, and notes what it is sent.

Run as a program on PATH under the name of what it stands for. Notes go to the folder STAND_IN_NOTES names.
"""

import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

NAME = Path(sys.argv[0]).name
NOTES = Path(os.environ["STAND_IN_NOTES"])


def option(name: str) -> str:
    """The value of -name=value or --name=value."""
    return next(word.partition("=")[2] for word in sys.argv if re.match(rf"--?{re.escape(name)}=", word))


def addresses() -> list[tuple[str, int]]:
    """Where to listen, by the file and the environment."""
    if NAME == "grafana":
        return [(os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"]))]
    text = Path(option("config.file")).read_text(encoding="utf-8")
    told = yaml.safe_load(
        re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: os.environ.get(found[1], found[2]), text)
    )
    found = [(told["server"]["http_listen_address"], told["server"]["http_listen_port"])]
    if NAME == "tempo":
        host, _, port = told["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(
            ":"
        )
        found.append((host, int(port)))
    return found


class Handler(BaseHTTPRequestHandler):
    """Says yes to everything."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        with (NOTES / f"{NAME}.posts").open("a", encoding="utf-8") as notes:
            notes.write(f"{self.path} {size}\n")
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    seen = {
        key: value for key, value in os.environ.items() if key.endswith(("_URL", "_BOARDS")) or "GF_" in key
    }
    (NOTES / f"{NAME}.json").write_text(json.dumps({"folder": str(Path.cwd()), "environment": seen}))
    for address in addresses():
        threading.Thread(target=ThreadingHTTPServer(address, Handler).serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
