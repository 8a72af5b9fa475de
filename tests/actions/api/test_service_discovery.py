"""What the actions API offers Prometheus to scrape: itself, and its exporter under a name that leads there."""

import pytest

from actions.api.routes import targets
from tests.actions.conftest import Forge


@pytest.mark.parametrize(
    ("here", "exporter", "listed"),
    [
        ("gpu-1:9811", None, []),
        ("gpu-1:9811", "http://127.0.0.1:9810", [("gpu-1:9810", "http")]),
        ("gpu-1", "http://localhost:9810", [("gpu-1:9810", "http")]),
        ("[fd00::1]:9811", "http://[::1]:9810", [("[fd00::1]:9810", "http")]),
        ("gpu-1:9811", "https://exporter.example.org", [("exporter.example.org:443", "https")]),
        ("", "http://127.0.0.1:9810", [("127.0.0.1:9810", "http")]),
        ("[odd", "http://[::1]:9810", [("[::1]:9810", "http")]),
    ],
)
def test_an_exporter_on_loopback_is_listed_under_the_name_of_the_host_that_was_asked(
    here: str, exporter: str | None, listed: list[tuple[str, str]]
) -> None:
    assert [(one["targets"], one["labels"]) for one in targets(here, "https", exporter)] == [
        ([place], {"__scheme__": scheme, "__metrics_path__": "/metrics"})
        for place, scheme in [(here, "https"), *listed]
    ]


async def test_what_is_listed_can_be_scraped_without_a_token(forge: Forge) -> None:
    del forge.http.headers["Authorization"]
    ((target,),) = [one["targets"] for one in (await forge.http.get("/sd")).json()]
    labels = (await forge.http.get("/sd")).json()[0]["labels"]
    answer = await forge.http.get(f"{labels['__scheme__']}://{target}{labels['__metrics_path__']}")
    assert "daemonpulse_actions" in answer.text
