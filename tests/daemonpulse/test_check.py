"""What `daemonpulse check` finds at the exporter's own port, and where it looks for a daemon that is not there."""

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from daemonpulse import check
from daemonpulse.finding import Finding
from exporter import settings as exporter_settings
from exporter.settings import ExporterSettings
from exporter.shared.api_token import Secret
from llmster_sim.server import SimConfig, Simulator


def at(port: int, host: str = "127.0.0.1", web_config: Path | None = None) -> ExporterSettings:
    plain = exporter_settings.load({}, environ={})
    return dataclasses.replace(plain, listen_host=host, listen_port=port, web_config=web_config)


@contextmanager
def answering(status: int, body: bytes, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve one answer to everything; gives the port."""

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    try:
        server = Server((host, 0), Handler)
    except OSError as error:
        pytest.skip(f"{host} is not here ({error.strerror})")
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ANSWER_S", 2.0)


def test_a_port_that_nobody_has_is_free_and_stays_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        found = check.check_listen(at(port))
        assert found.works
        assert f"127.0.0.1:{port} is free" in found.seen


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])  # noqa: S104
def test_an_exporter_that_serves_already_is_found(host: str) -> None:
    with answering(200, b"ok\n", host) as port:
        found = check.check_listen(at(port, host))
    assert found.works
    assert "an exporter already serves http://" in found.seen


def test_a_program_that_takes_connections_and_stays_silent_is_not_a_free_port() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        found = check.check_listen(at(silent.getsockname()[1]))
    assert not found.works
    assert "Address already in use" in found.seen
    assert "DAEMONPULSE_LISTEN" in found.fix


def test_another_program_is_told_from_an_exporter() -> None:
    with answering(200, b"hello\n") as port:
        assert not check.check_listen(at(port)).works


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_here_is_not_a_free_port(host: str) -> None:
    found = check.check_listen(at(9810, host, web_config=Path("web.yml")))
    assert not found.works
    assert host in found.seen


def test_an_exporter_of_ours_that_asks_for_a_password_is_not_another_program() -> None:
    with answering(401, b"Unauthorized\n") as port:
        found = check.check_listen(at(port, web_config=Path("web.yml")))
    assert found.works
    assert "cannot be told" in found.seen


async def test_a_daemon_is_looked_for_by_the_home_that_was_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(check, "INTERNAL_PORTS", ())
    [daemon] = exporter_settings.load({}, environ={}).daemons
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)) as sim:
        fix = await check.how_to_find(dataclasses.replace(daemon, home=tmp_path))
        assert fix == f"LM Studio answers at {sim.url}: set DAEMONPULSE_DAEMON_URL={sim.url}"
        assert "lms daemon up" in await check.how_to_find(daemon), "without a home there is nowhere to look"


async def found(url: str, **changes: Any) -> dict[str, Finding]:
    """Check one daemon; gives the last finding of each kind."""
    daemon = dataclasses.replace(exporter_settings.load({}, environ={}).daemons[0], url=url, **changes)
    return {finding.what: finding async for finding in check._check(daemon)}


async def test_a_frozen_daemon_is_to_be_restarted() -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        sim.faults.freeze()
        sim.faults.handshake_delay_s = None
        sim.faults.hang("* /*")
        finding = (await found(sim.url))["daemon found"]
    assert not finding.works
    assert "restart the daemon" in finding.fix


async def test_https_against_http_is_told_with_the_url_that_works() -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        finding = (await found(sim.url.replace("http:", "https:")))["daemon found"]
    assert not finding.works
    assert finding.fix == f"LM Studio answers at {sim.url}: set DAEMONPULSE_DAEMON_URL={sim.url}"


async def test_an_unknown_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    finding = (await found("http://no-such-host.example:1234"))["daemon found"]
    assert "no-such-host.example is not known here" in finding.fix


async def test_a_token_that_is_not_needed_is_told() -> None:
    async with Simulator(SimConfig(scenario="idle")) as sim:
        token = Secret("sk-lm-Ab3dE6gH:0123456789abcdefghij")
        findings = await found(sim.url, token=token)
    assert "lets in clients without a token" in findings["token needed"].seen


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_missing_temp_folder_of_the_daemon_is_told(tmp_path: Path, *, is_there: bool) -> None:
    async with Simulator(SimConfig(scenario="idle", home=tmp_path)) as sim:
        if is_there:
            (tmp_path / ".internal" / "temp").mkdir()
        findings = await found(sim.url, home=tmp_path)
    assert ("loads possible" in findings) is not is_there
    if not is_there:
        assert findings["loads possible"].fix == f"mkdir {tmp_path / '.internal' / 'temp'}"


def test_an_otlp_receiver_that_is_not_there_is_told() -> None:
    with answering(200, b"") as port:
        good = f"http://127.0.0.1:{port}"
        [works] = check.check_otlp({"OTEL_EXPORTER_OTLP_ENDPOINT": good})
    [gone] = check.check_otlp({"OTEL_EXPORTER_OTLP_ENDPOINT": good})
    with answering(200, b"") as port:
        named = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"127.0.0.1:{port}"}
        [grpc] = check.check_otlp(named | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
        assert check.check_otlp(named | {"OTEL_SDK_DISABLED": "true"}) == []
    [odd] = check.check_otlp({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:4317"})
    [secret] = check.check_otlp({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@collector:4318"})
    assert works.works
    assert grpc.works
    assert not gone.works
    assert not odd.works
    assert "write http://host:4318" in odd.seen
    assert "hunter2" not in secret.seen + secret.fix
    assert check.check_otlp({}) == []
