"""An HTTP server that answers every POST with the same status, headers and body."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class Answering:
    """Where it is, which paths were asked, and how many bytes of bodies were taken from it."""

    url: str
    paths: list[str] = field(default_factory=list)
    sent_bytes: int = 0


@contextlib.contextmanager
def answering(
    status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None, *, endless: bool = False
) -> Iterator[Answering]:
    """Serve until the end of the block; `endless` sends the body over and over."""
    seen = Answering("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            seen.paths.append(self.path)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if not endless:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(body)
                    seen.sent_bytes += len(body)
                    if not endless or seen.sent_bytes > 2**28:
                        return

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
