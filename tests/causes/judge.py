"""Plays worlds, gives what was scraped of all of them to promtool with the shipped rules, and reads what those name."""

import asyncio
import collections
import dataclasses
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.causes.faults import Fault
from tests.causes.world import HEALTHY_STEPS, STEP_S, World, world
from tests.dashboards.asked import RULE_FILES

_STEP = f"{STEP_S:.0f}s"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ASKED = re.compile(r'expr: "(?P<expr>.*)", time: (?P<time>\w+),')
_NO_ANSWER = "nil"
CAUSES_ASKED = '{__name__=~"alert:.+:cause"}'
FIRING_ASKED = 'ALERTS{alertstate="firing"}'


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the rules made of one world."""

    fault: Fault
    world: str
    fired: bool
    named: tuple[str, ...]
    """Causes named for the alert of the fault while it fired, in the order of time; for a healthy day, all."""

    @property
    def first(self) -> str | None:
        """The cause named first."""
        return self.named[0] if self.named else None

    @property
    def right(self) -> bool:
        """Whether the alert fired, and what was named first is what was done."""
        return (self.fired or not self.fault.alert) and self.first == self.fault.label


async def play(fault: Fault, name: str, seed: int, folder: Path) -> World:
    """Play one fault to its end."""
    home = folder / name
    home.mkdir()
    async with world(name, seed, scenario=fault.scenario, home=home, settings=fault.settings) as made:
        await made.healthy(HEALTHY_STEPS)
        fault.root(made)
        fault.also(made)
        await fault.script(made)
        return made


def judged(promtool: Path, played: Sequence[tuple[Fault, World]]) -> list[Verdict]:
    """Let promtool evaluate the rules over all worlds at once."""
    most = max(made.steps for _, made in played)
    with TemporaryDirectory(prefix="daemonpulse-causes-") as folder:
        path = Path(folder) / "test.yaml"
        path.write_text("\n".join(_test_file([made for _, made in played], most)) + "\n", encoding="utf-8")
        ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    found = _read(ran.stdout + ran.stderr)
    return [_verdict(fault, made, found) for fault, made in played]


def _test_file(worlds: Iterable[World], steps: int) -> Iterable[str]:
    yield "rule_files: [" + ", ".join(f'"{file}"' for file in RULE_FILES) + "]"
    yield f"evaluation_interval: {_STEP}"
    yield f"tests:\n- interval: {_STEP}\n  input_series:"
    for made in worlds:
        for series, values in made.series.items():
            yield f"  - series: '{series}'\n    values: '{_samples(values, made.steps)}'"
    yield "  promql_expr_test:"
    for step in range(steps):
        for expr in (FIRING_ASKED, CAUSES_ASKED):
            # Nothing is expected, so promtool tells what there is.
            yield f"  - {{expr: '{expr}', eval_time: {step * int(STEP_S)}s, exp_samples: []}}"


def _samples(values: dict[int, float], steps: int) -> str:
    """Write samples as promtool wants them. A series that is not scraped any more is stale, as Prometheus marks it."""
    return " ".join(
        f"{values[step]:.17g}" if step in values else "stale" if step - 1 in values else "_"
        for step in range(steps)
    )


Answers = dict[str, list[tuple[int, dict[str, str]]]]
"""By expression: step and labels."""


def _read(output: str) -> Answers:
    """Read what promtool got instead of nothing."""
    answers: Answers = {FIRING_ASKED: [], CAUSES_ASKED: []}
    asked, step = "", 0
    for line in output.splitlines():
        match = _ASKED.search(line)
        if match is not None:
            asked, step = match["expr"].replace('\\"', '"'), _seconds(match["time"]) // int(STEP_S)
        elif "{" in line and asked:
            for part in re.findall(r"\{(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*\}", line):
                answers[asked].append((step, dict(_LABEL.findall(part))))
        elif "error" in line.lower() and not asked:
            raise AssertionError(output[:2000])
    return answers


def _seconds(duration: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


def _verdict(fault: Fault, made: World, answers: Answers) -> Verdict:
    def own(expr: str) -> list[tuple[int, dict[str, str]]]:
        return [
            (step, labels)
            for step, labels in answers[expr]
            if step < made.steps
            and (labels.get("daemon") == made.name or labels.get("instance") == f"{made.name}:9810")
        ]

    fires = {step for step, labels in own(FIRING_ASKED) if labels["alertname"] == fault.alert}
    named = [
        labels["cause"]
        for step, labels in sorted(own(CAUSES_ASKED), key=lambda answer: answer[0])
        if not fault.alert or (labels["alertname"] == fault.alert and step in fires)
    ]
    return Verdict(fault, made.name, bool(fires), tuple(named))


def play_and_judge(promtool: Path, faults: Sequence[Fault], seed: int) -> list[Verdict]:
    """Play faults one after the other, and judge them together."""

    async def play_all(folder: Path) -> list[tuple[Fault, World]]:
        return [
            (fault, await play(fault, f"box{number}", seed * 1000 + number, folder))
            for number, fault in enumerate(faults)
        ]

    with TemporaryDirectory(prefix="daemonpulse-causes-") as folder:
        return judged(promtool, asyncio.run(play_all(Path(folder))))


def confusion(verdicts: Iterable[Verdict]) -> str:
    """Write the table: what was done, how often it was named right, and what was named instead."""
    by_label: dict[str, collections.Counter[str]] = {}
    for verdict in verdicts:
        label = verdict.fault.label or ("none to be seen" if verdict.fault.alert else "healthy day")
        named = verdict.first or ("no alert" if verdict.fault.alert and not verdict.fired else "none")
        row = by_label.setdefault(label, collections.Counter())
        row["right" if verdict.right else named] += 1
    lines = [f"{'done':34}{'times':>6}{'right':>7}  named instead"]
    for label, row in sorted(by_label.items()):
        wrong = ", ".join(f"{name} {count}" for name, count in row.items() if name != "right")
        lines.append(f"{label:34}{row.total():6}{row['right']:7}  {wrong}")
    return "\n".join(lines)
