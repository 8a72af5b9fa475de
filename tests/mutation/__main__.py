"""Mutate one module after the other and print which changes its tests did not notice.

Not part of the gate: a module takes minutes. Run as `python -m tests.mutation [MODULE ...]`, after
`pip install -c compose/constraints.txt -e '.[mutation]'`.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutmut.mutation.file_mutation import mutate_file_contents

from tests.mutation.forked import MUTANTS, OUTCOMES
from tests.mutation.targets import TARGETS

ROOT = Path(__file__).parents[2]
_COPIED = ("actions", "compose", "dashboards", "docs", "exporter", "tests", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Score:
    """How one module did."""

    module: str
    outcomes: Mapping[str, str]

    @property
    def killed(self) -> int:
        """Mutants that made a test fail, or never end."""
        return sum(outcome in {"killed", "timeout"} for outcome in self.outcomes.values())

    def __str__(self) -> str:
        total = len(self.outcomes)
        return (
            f"{self.module:<36} {total:5} mutants {self.killed:5} killed {self.killed / max(1, total):7.1%}"
        )


def mutate(copy: Path, module: str, only: Sequence[str] = ()) -> Score:
    """Run the module's tests on its mutants, all or `only` some, in a copy of the tree; print the survivors."""
    original = (copy / module).read_bytes()
    try:
        made = _mutated(copy, module)
        made = {
            name: change for name, change in made.items() if not only or any(part in name for part in only)
        }
        return Score(module, _run(copy, made, module))
    finally:
        (copy / module).write_bytes(original)


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """Copy the tree for as long as modules are mutated in it: what Python compiles of it serves all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "tree"
        listed = subprocess.run(
            ["git", "ls-files", "-z", *_COPIED], cwd=ROOT, check=True, capture_output=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
        (copy / "setup.cfg").write_text("[mutmut]\nsource_paths=exporter\n", encoding="utf-8")
        yield copy


def _mutated(copy: Path, module: str) -> dict[str, str]:
    """Write the module with all its mutants; return what each changes, by name."""
    path = copy / module
    here = Path.cwd()
    os.chdir(copy)  # where mutmut looks for its configuration
    try:
        mutated = mutate_file_contents(module, path.read_text(encoding="utf-8"))
    finally:
        os.chdir(here)
    path.write_text(mutated.code, encoding="utf-8")
    lines = mutated.code.split("\n")
    functions = {
        node.name: lines[node.lineno : node.end_lineno]  # without the line of its name
        for node in ast.walk(ast.parse(mutated.code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    dotted = module.removesuffix(".py").removeprefix("compose/").replace("/", ".")
    return {f"{dotted}.{name}": _difference(functions, name) for name in mutated.mutant_names}


def _difference(functions: Mapping[str, list[str]], name: str) -> str:
    original = functions[f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"]
    changed = difflib.unified_diff(original, functions[name], lineterm="", n=0)
    return "\n".join(line for line in changed if not line.startswith(("---", "+++", "@@")))


def _run(copy: Path, made: Mapping[str, str], module: str) -> dict[str, str]:
    scratch = copy.parent
    (scratch / "mutants").write_text("\n".join(made), encoding="utf-8")
    environ = {
        MUTANTS: str(scratch / "mutants"),
        OUTCOMES: str(scratch / "outcomes"),
        "PYTHONPATH": str(copy / "compose"),  # before the packages of an editable install
        "PYTHONDONTWRITEBYTECODE": "",
    }
    command = (
        *(sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.forked", "-p", "no:cacheprovider"),
        *("--hypothesis-profile=mutation", "--hypothesis-seed=0"),
        *TARGETS[module],
    )
    ended = subprocess.run(
        command, cwd=copy, check=False, env=os.environ | environ, capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{ended.stdout}{ended.stderr}\n{module}: its tests did not run to their end")
    outcomes: dict[str, str] = json.loads((scratch / "outcomes").read_text(encoding="utf-8"))
    for name, outcome in outcomes.items():
        if outcome not in {"killed", "timeout"}:
            print(f"\n{outcome}: {name}\n{made[name]}", flush=True)
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, mutate, and print one line per module."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="a part of a path of targets.py; all by default"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="run this one, as named among the survivors",
    )
    options = parser.parse_args(argv)
    parts = options.modules or [""]
    if unknown := [part for part in parts if not any(part in module for module in TARGETS)]:
        parser.error(f"no such module: {', '.join(unknown)}")
    with copied() as copy:
        for module in TARGETS:
            if any(part in module for part in parts):
                print(f"\n{mutate(copy, module, options.only)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
