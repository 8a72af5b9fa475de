"""A sample of the queries that the fuzz target writes, read by Prometheus' own parser."""

import random
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.kit.promql import QueryError
from tests.external import FindTool
from tests.fuzz.choices import Choices
from tests.fuzz.queries import expression

SAMPLE = 400


def written() -> list[str]:
    """Write many different queries, with values in place of Grafana's variables."""
    source = random.Random(11)
    found: dict[str, None] = {}
    while len(found) < SAMPLE:
        try:
            text = expression(Choices(source.randbytes(80))).text
        except QueryError:
            continue
        for variable, value in (("$__rate_interval", "5m"), ("$__range", "1h"), ("$daemon", "box")):
            text = text.replace(variable, value)
        found[text] = None
    return list(found)


@pytest.mark.external("promtool")
def test_prometheus_can_read_whatever_is_written(external_tool: FindTool, tmp_path: Path) -> None:
    rules = [{"record": f"fuzz:query{number}:x", "expr": text} for number, text in enumerate(written())]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "fuzz", "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run(
        [external_tool("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{SAMPLE} rules found" in checked.stdout
