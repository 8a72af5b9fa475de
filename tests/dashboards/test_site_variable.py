"""A site chosen at the top of a board: which daemons and hosts its lists then have, asked of Prometheus' own engine."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.asked import NAMES, board, variables

SERIES = {
    'llmster_daemon_state{daemon="a",instance="one:9810",state="running"}': 1,
    'llmster_daemon_state{daemon="b",instance="two:9810",state="down"}': 1,
    'llmster_daemon_state{daemon="alone",instance="three:9810",state="running"}': 1,
    'llmster_site_info{daemon="a",instance="one:9810",site="east"}': 1,
    'llmster_site_info{daemon="b",instance="two:9810",site="west"}': 1,
    'gpu_device_info{instance="one:9810",gpu="0",uuid="GPU-1"}': 1,
    'gpu_device_info{instance="three:9810",gpu="0",uuid="GPU-3"}': 1,
}


@pytest.mark.parametrize(
    ("site", "daemons", "hosts"),
    [
        (".*", ["a", "alone", "b"], ["one:9810", "three:9810"]),
        ("east", ["a"], ["one:9810"]),
        ("west", ["b"], []),
        ("(east|west)", ["a", "b"], ["one:9810"]),
    ],
)
def test_lists_have_what_is_of_the_site_and_with_all_sites_also_what_is_of_none(
    site: str, daemons: list[str], hosts: list[str], promtool: Path, tmp_path: Path
) -> None:
    known = variables(board("fleet"))
    for name, label, expected in (("daemon", "daemon", daemons), ("host", "instance", hosts)):
        query = re.sub(r"^\w+\((.*?)(, \w+)?\)$", r"\1", known[name]["query"]["query"])
        values = f"count by ({label}) ({query})".replace("$site", site)
        assert sorted(_values(values, label, promtool, tmp_path)) == expected, values


def _values(promql: str, label: str, promtool: Path, folder: Path) -> list[str]:
    """Let promtool evaluate: it says what it got where nothing was expected."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": str(value)} for name, value in SERIES.items()],
        "promql_expr_test": [{"expr": promql, "eval_time": "0s", "exp_samples": []}],
    }
    path = folder / "test.json"  # YAML as well
    path.write_text(json.dumps({"rule_files": [], "tests": [test]}), encoding="utf-8")
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0 or "got: " in told, told
    return re.findall(rf'{{{label}="([^"]+)"}}', told)


@pytest.mark.parametrize("name", NAMES)
def test_every_board_passes_the_site_on_and_its_daemons_follow_it(name: str) -> None:
    known = variables(board(name))
    assert list(known).index("site") < list(known).index("daemon")
    assert "$site" in known["daemon"]["query"]["query"]
    assert "allValue" not in known["daemon"], "a value of its own would show every daemon, whatever the site"
