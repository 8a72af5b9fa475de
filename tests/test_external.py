from pathlib import Path

import pytest

from tests import external

pytest_plugins = ["pytester"]

CONFTEST = """
from tests.external import _external_tool, pytest_runtest_setup

def pytest_configure(config):
    config.addinivalue_line("markers", "external(tool): needs a tool")
"""

MARKED = """
import pytest

@pytest.fixture
def broken_without_the_tool():
    raise AssertionError("a fixture ran although the tool is missing")

@pytest.mark.external("frobnicate")
def test_marked(broken_without_the_tool):
    pass
"""

ASKED = """
def test_asked(external_tool):
    assert external_tool("frobnicate").name == "frobnicate"
"""


@pytest.fixture(autouse=True)
def _no_strictness_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(external.STRICT_VARIABLE, raising=False)


@pytest.fixture(name="inner")
def _inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester


def _install(monkeypatch: pytest.MonkeyPatch, where: Path | None, *, everywhere: bool = True) -> None:
    tool = external.Tool(lambda: where, "apt-get install frobnicate", everywhere)
    monkeypatch.setitem(external.TOOLS, "frobnicate", tool)


@pytest.mark.parametrize("source", [MARKED, ASKED], ids=["marker", "fixture"])
def test_missing_tool_skips_the_test_and_says_how_to_install_it(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    _install(monkeypatch, None)
    inner.makepyfile(source)
    result = inner.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs frobnicate: apt-get install frobnicate*"])


@pytest.mark.parametrize("source", [MARKED, ASKED], ids=["marker", "fixture"])
def test_strict_mode_turns_the_skip_into_a_failure(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    _install(monkeypatch, None)
    monkeypatch.setenv(external.STRICT_VARIABLE, "1")
    inner.makepyfile(source)
    result = inner.runpytest_inprocess("-rfE")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1
    assert "skipped" not in outcomes
    result.stdout.fnmatch_lines(
        ["*needs frobnicate: apt-get install frobnicate (DAEMONPULSE_TEST_STRICT=1)*"]
    )


def test_strict_mode_still_skips_what_not_every_host_can_have(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, None, everywhere=False)
    monkeypatch.setenv(external.STRICT_VARIABLE, "1")
    inner.makepyfile(ASKED)
    inner.runpytest_inprocess().assert_outcomes(skipped=1)


def test_present_tool_lets_the_test_run_with_its_path(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, Path("/opt/frobnicate"))
    inner.makepyfile(ASKED)
    inner.runpytest_inprocess().assert_outcomes(passed=1)


def test_unknown_tool_name_is_an_error_even_when_not_strict() -> None:
    with pytest.raises(LookupError, match=r"tests/external\.py knows .*'promtool'"):
        external.require("promtol")


def test_node_package_counts_as_missing_until_its_manifest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "NODE_PROJECT", tmp_path)
    package = tmp_path / "node_modules" / "@lmstudio" / "sdk"
    package.mkdir(parents=True)
    assert external.TOOLS["@lmstudio/sdk"].find() is None
    (package / "package.json").write_text("{}", encoding="utf-8")
    assert external.TOOLS["@lmstudio/sdk"].find() == package
