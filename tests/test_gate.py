import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import gate


def _python(name: str, code: str) -> gate.Step:
    return gate.Step(name, (sys.executable, "-c", code))


OK = "pass"
BAD = "import sys; sys.exit(3)"

# What pytest does with --junitxml=PATH, its last argument.
REPORTING = (
    "import sys, pathlib; pathlib.Path(sys.argv[-1].partition('=')[2]).write_text("
    '\'<testsuites><testsuite tests="9" failures="2" errors="1" skipped="2"/></testsuites>\'); sys.exit(1)'
)


def test_every_step_runs_even_when_an_earlier_one_fails(capfd: pytest.CaptureFixture[str]) -> None:
    status = gate.run([_python("lint", BAD), _python("types", OK)], fail_fast=False, clock=lambda: 0.0)
    table = capfd.readouterr().out.partition("== gate\n")[2]
    assert status == 1
    assert table.splitlines() == [
        "lint              0.0 s  FAILED (exit 3)",
        "types             0.0 s  ok",
    ]


def test_fail_fast_leaves_later_steps_out_and_still_fails(capfd: pytest.CaptureFixture[str]) -> None:
    status = gate.run([_python("lint", BAD), _python("tests", OK)], fail_fast=True, clock=lambda: 0.0)
    table = capfd.readouterr().out.partition("== gate\n")[2]
    assert status == 1
    assert table.splitlines() == ["lint              0.0 s  FAILED (exit 3)", "tests         not run"]


def test_all_steps_passing_exits_zero() -> None:
    assert gate.run([_python("lint", OK), _python("types", OK)], fail_fast=False) == 0


def test_last_line_sums_up_the_tests_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert gate.run([_python("tests", REPORTING)], fail_fast=False) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "4 passed, 3 failed, 2 skipped"


def test_tests_that_die_before_reporting_count_as_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    assert gate.run([_python("tests", BAD)], fail_fast=False) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_step_that_is_not_installed_fails_with_the_fix(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = gate.run_step(gate.Step("imports", ("/nowhere/lint-imports",)))
    assert outcome.returncode == 127
    assert "pip install -e '.[test]'" in capfd.readouterr().out


def test_tests_come_last_so_that_their_summary_closes_the_output() -> None:
    assert gate.steps()[-1].name == "tests"


def test_only_runs_the_named_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(chosen: Sequence[gate.Step], *, fail_fast: bool) -> int:
        assert not fail_fast
        ran.extend(step.name for step in chosen)
        return 0

    monkeypatch.setattr(gate, "run", run)
    assert gate.main(["--only", "types", "--only", "format"]) == 0
    assert ran == ["format", "types"]


def test_unknown_step_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gate.main(["--only", "frobnicate"])
    assert "imports" in capsys.readouterr().err


def test_console_script_of_the_import_linter_lies_where_the_gate_looks_for_it() -> None:
    (imports,) = [step for step in gate.steps() if step.name == "imports"]
    assert Path(imports.command[0]).is_file()
