"""Where it cannot be listened is said in one line, before anything is started; TLS follows its files."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from exporter.shared import server, web_config
from exporter.shared.settings_table import SettingsError


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "nul\0", "no-such-host.invalid"])
def test_a_name_that_is_none_is_refused_by_its_key(host: str) -> None:
    with pytest.raises(SettingsError, match="no such address here") as refused:
        server.listen(host, 9810)
    assert refused.value.key == "listen"


def test_a_port_that_is_taken_is_refused_by_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SettingsError, match="stop what uses it") as refused:
            server.listen("127.0.0.1", taken.getsockname()[1])
        assert refused.value.key == "listen"


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_a_running_service_shows_a_renewed_certificate_without_a_restart(tmp_path: Path) -> None:
    before, after = trustme.CA(), trustme.CA()
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.pem, key_file: server.pem}")

    def renew(authority: trustme.CA) -> None:
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            tmp_path / "server.pem"
        )

    async def ask(authority: trustme.CA) -> str:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return (await client.get(url)).text

    renew(before)
    listener = server.listen("127.0.0.1", 0)
    url = server.url_of(listener, tls=True)
    running = server.Server(hello, tls=web_config.load(web).tls)
    ready = asyncio.Event()
    task = asyncio.create_task(running.serve_until_signal(listener, ready=ready.set))
    await ready.wait()
    try:
        assert await ask(before) == "hello"
        renew(after)
        assert await ask(after) == "hello"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(before)
    finally:
        running.should_exit = True
        await task
