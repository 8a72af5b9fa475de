"""What is answered over HTTP, with the ASGI application called directly."""

import asyncio
import base64
import gzip
import json
import logging
import threading
from dataclasses import dataclass
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from exporter.http import landing
from exporter.http.routes import (
    DEFAULT_SCRAPE_TIMEOUT_S,
    LEAST_WAIT_S,
    MAX_PASSWORD_CHECKS,
    SCRAPE_RESERVE_S,
    Request,
    Routes,
)
from exporter.llmster.client import DaemonClient, DaemonState, Health
from exporter.llmster.errors import DaemonUnreachable
from exporter.pipeline.snapshots import DaemonReading, DaemonWatch
from exporter.shared.web_config import BasicAuth
from tests.exporter.readings import instance, snapshot, watched


class FakeWatch(DaemonWatch):
    """A watch whose readings are made by hand; keeps how long it was allowed to take."""

    def __init__(self, name: str, reading: DaemonReading | Exception) -> None:
        super().__init__(DaemonClient(name=name, url="http://127.0.0.1:1"), local_home=None)
        self.outcome = reading
        self.allowed_s: list[float] = []

    async def read(self, *, within_s: float) -> DaemonReading:
        self.allowed_s.append(within_s)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def up(name: str = "local") -> FakeWatch:
    return FakeWatch(name, watched(snapshot(instance()), name=name).reading)


def down(name: str = "local", problem: str = "refused") -> FakeWatch:
    return FakeWatch(name, watched(DaemonUnreachable(problem), name=name).reading)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def samples(self) -> dict[str, float]:
        return {
            sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.body.decode())
            for sample in family.samples
        }


async def ask(app: Routes, target: str, *, method: str = "GET", **headers: str) -> Answer:
    path, _, query = target.partition("?")
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "scheme": "http",
        "headers": [
            (name.replace("_", "-").lower().encode(), value.encode("latin-1"))
            for name, value in headers.items()
        ],
    }
    await app(scope, receive, send)
    start, body = sent
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        body["body"],
    )


# Scrapes -------------------------------------------------------------------------------------------------------------


async def test_metrics_tell_of_every_daemon_and_of_ourselves() -> None:
    answer = await ask(Routes([up("a"), down("b")]), "/metrics")

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (answer.samples["llmster_up a"], answer.samples["llmster_up b"]) == (1, 0)
    assert answer.samples["daemonpulse_collector_success health"] == 1
    assert "process_resident_memory_bytes" in answer.samples


async def test_probe_tells_of_one_daemon_and_nothing_of_ourselves() -> None:
    first, second = up("a"), up("b")
    answer = await ask(Routes([first, second]), "/probe?daemon=b")

    assert answer.status == 200
    assert "llmster_up b" in answer.samples
    assert "llmster_up a" not in answer.samples
    assert "process_resident_memory_bytes" not in answer.samples
    assert first.allowed_s == []


@pytest.mark.parametrize("query", ["", "?daemon=", "?daemon=c", "?daemon=%00%0a", "?daemon=" + "x" * 10_000])
async def test_probe_of_an_unknown_daemon_is_refused_and_names_the_known(query: str) -> None:
    answer = await ask(Routes([up("a"), up("b")]), f"/probe{query}")

    assert answer.status == 400
    assert b"known: a, b" in answer.body
    assert (b"missing; ask for /probe?daemon=NAME" in answer.body) == (query in {"", "?daemon="})
    assert len(answer.body) < 300


async def test_a_scrape_can_ask_for_names_and_formats() -> None:
    app = Routes([up("a")])

    named = await ask(app, "/metrics?name[]=llmster_up&name[]=llmster_restarts_total")
    openmetrics = await ask(app, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    twice = await ask(app, "/metrics", accept="text/plain;q=0.1", Accept="application/openmetrics-text")
    zipped = await ask(app, "/metrics", accept_encoding="gzip")

    assert twice.body.endswith(b"# EOF\n"), "a header that comes twice is a list"
    assert set(named.samples) == {"llmster_up a", "llmster_restarts_total a"}
    assert openmetrics.body.endswith(b"# EOF\n")
    assert zipped.headers["content-encoding"] == "gzip"
    assert b"llmster_up" in gzip.decompress(zipped.body)
    assert "content-encoding" not in named.headers
    assert {answer.headers["vary"] for answer in (named, openmetrics, zipped)} == {"Accept, Accept-Encoding"}


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("5", 4.5),
        ("10.0", 9.5),
        ("0.2", 0.1),
        ("0.001", LEAST_WAIT_S),
        (None, 9.5),
        ("", 9.5),
        ("soon", 9.5),
        ("0", 9.5),
        ("-3", 9.5),
        ("nan", 9.5),
        ("inf", 9.5),
        ("1e999", 9.5),
    ],
)
async def test_a_daemon_is_waited_for_as_long_as_the_scraper_waits_less_our_reserve(
    header: str | None, wait_s: float
) -> None:
    watch = up()
    headers = {} if header is None else {"x_prometheus_scrape_timeout_seconds": header}
    await ask(Routes([watch]), "/metrics", **headers)

    assert (DEFAULT_SCRAPE_TIMEOUT_S, SCRAPE_RESERVE_S) == (10.0, 0.5)
    assert watch.allowed_s == [pytest.approx(wait_s)]


@given(st.text())
def test_no_scrape_timeout_header_makes_us_wait_for_ever_or_not_at_all(header: str) -> None:
    request = Request("/metrics", {}, {"x-prometheus-scrape-timeout-seconds": header}, "http")

    assert LEAST_WAIT_S <= request.wait_s < float("inf")


async def test_a_failing_collector_says_so_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    broken = tuple((name, breaks if name == "models" else collect) for name, collect in COLLECTORS)
    monkeypatch.setattr("exporter.http.routes.COLLECTORS", broken)

    answer = await ask(Routes([up("a")]), "/metrics")

    assert answer.status == 200
    assert answer.samples["daemonpulse_collector_success models"] == 0
    assert answer.samples["daemonpulse_collector_success instances"] == 1
    assert answer.samples["llmster_up a"] == 1


async def test_a_bug_in_a_handler_is_a_500_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(Routes([FakeWatch("a", ZeroDivisionError("secret detail"))]), "/metrics")

    assert answer.status == 500
    assert b"secret" not in answer.body
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Everything else -----------------------------------------------------------------------------------------------------


async def test_service_discovery_leads_back_to_the_probe_of_each_daemon() -> None:
    answer = await ask(Routes([up("a"), up("b")]), "/sd", host="gpu-1:9810")

    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == [
        {
            "targets": ["gpu-1:9810"],
            "labels": {"__scheme__": "http", "__metrics_path__": "/probe", "__param_daemon": name},
        }
        for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    "path", ["/metrics/", "/Metrics", "/favicon.ico", "", "/../metrics", "/" + "x" * 9999]
)
async def test_an_unknown_path_is_404_and_says_what_there_is(path: str) -> None:
    answer = await ask(Routes([up()]), path)

    assert answer.status == 404
    assert b"/metrics" in answer.body
    assert len(answer.body) < 300


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/probe", "/sd", "/healthz", "/readyz"])
async def test_nothing_can_be_changed_over_http(path: str, method: str) -> None:
    watch = up()
    answer = await ask(Routes([watch]), path, method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert watch.allowed_s == []


@pytest.mark.parametrize("path", ["/", "/sd", "/healthz", "/nowhere"])
async def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    app = Routes([up()])
    get, head = await ask(app, path, host="h"), await ask(app, path, method="HEAD", host="h")

    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert int(head.headers["content-length"]) == len(get.body) > 0


async def test_we_are_alive_whatever_the_daemons_do() -> None:
    assert (await ask(Routes([FakeWatch("a", ZeroDivisionError())]), "/healthz")).body == b"ok\n"


async def test_we_are_ready_once_every_daemon_was_tried() -> None:
    tried, untried = down("a"), down("b")
    tried.client._end_attempt()

    waiting = await ask(Routes([tried, untried]), "/readyz")
    assert (waiting.status, waiting.body) == (503, b"not tried yet: b\n")

    untried.client._end_attempt()
    ready = await ask(Routes([tried, untried]), "/readyz")
    assert (ready.status, ready.body) == (200, b"a: down\nb: down\n")


@pytest.mark.parametrize("path", ["/metrics", "/", "/healthz", "/nowhere"])
async def test_on_loopback_a_foreign_host_is_told_nothing_about_the_daemons(path: str) -> None:
    app = Routes([up()], hosts=frozenset({"127.0.0.1", "[::1]"}))
    for own in ("127.0.0.1:9810", "[::1]:9810"):
        assert (await ask(app, path, host=own)).status != 421
    for foreign in ("evil.example", "127.0.0.1.evil.example:9810", "", "\u00fc\x1b[2J"):
        answer = await ask(app, path, host=foreign)
        assert answer.status == 421
        assert answer.body.isascii()
        assert b"local" not in answer.body
        assert b"\x1b" not in answer.body


async def test_what_is_not_http_is_left_alone() -> None:
    async def nothing(*_: Any) -> Any:
        pytest.fail("nothing may be sent")

    await Routes([])({"type": "lifespan"}, nothing, nothing)


# The landing page ----------------------------------------------------------------------------------------------------


async def test_the_landing_page_says_how_each_daemon_is() -> None:
    answer = await ask(Routes([up("a"), down("b", problem="connection refused")]), "/")
    page = answer.body.decode()

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "1 instance loaded, 0 requests running, version 0.4.24" in page
    assert "connection refused" in page
    for link in ("/metrics", "/probe?daemon=a", "/live", "/sd", "/healthz", "/readyz"):
        assert f'href="{link}"' in page
    assert '<meta http-equiv="refresh" content="5">' in page
    assert "<script" not in page


@given(st.text(), st.text())
def test_nothing_from_outside_becomes_markup(problem: str, name: str) -> None:
    hostile = f"<script>{problem}</script>\"'&"
    reading = DaemonReading(
        f'"><b>{name}', Health(DaemonState.DOWN, DaemonUnreachable(hostile)), None, 0.0, None
    )

    page = landing.page([reading], version="<i>1</i>")

    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count('"') == landing.page(
        [DaemonReading("x", reading.health, None, 0.0, None)], version=""
    ).count('"')


# Authentication ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/metrics", "/sd", "/healthz", "/nowhere"])
async def test_with_users_every_path_asks_for_a_password(path: str) -> None:
    watch = up()
    auth = BasicAuth({"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})
    app = Routes([watch], auth=auth)
    right = "Basic " + base64.b64encode(b"prometheus:right").decode()
    wrong = "Basic " + base64.b64encode(b"prometheus:wrong").decode()

    for header in ({}, {"authorization": wrong}, {"authorization": "Basic \xe9"}):
        answer = await ask(app, path, **header)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="daemonpulse"')
    assert watch.allowed_s == []
    assert (await ask(app, path, authorization=right)).status in {200, 404}


async def test_a_flood_of_wrong_passwords_holds_up_nobody_whose_password_was_right_before() -> None:
    auth = BasicAuth({"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})
    app = Routes([up()], auth=auth)
    right = "Basic " + base64.b64encode(b"prometheus:right").decode()
    assert (await ask(app, "/healthz", authorization=right)).status == 200
    known = auth.allows
    begun, go_on = asyncio.Semaphore(0), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(authorization: str) -> bool:
        loop.call_soon_threadsafe(begun.release)
        go_on.wait(60)
        return known(authorization)

    auth.allows = slow  # type: ignore[method-assign]
    guesses = [
        asyncio.create_task(
            ask(app, "/metrics", authorization="Basic " + base64.b64encode(b"x:%d" % n).decode())
        )
        for n in range(50)
    ]
    for _ in range(MAX_PASSWORD_CHECKS):
        await begun.acquire()
    assert (await ask(app, "/healthz", authorization=right)).status == 200
    go_on.set()
    statuses = [(await guess).status for guess in guesses]
    assert statuses.count(401) == MAX_PASSWORD_CHECKS
    assert statuses.count(429) == 50 - MAX_PASSWORD_CHECKS
