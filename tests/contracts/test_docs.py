"""The documentation holds together: links lead somewhere, examples are what they say, the README stays short."""

import ast
import configparser
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.catalogue import CATALOGUE, actions, mcp
from tests.external import FindTool

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "compose" / "llmster_sim" / "README.md"]
)
NAMES = {row.name for row in (*CATALOGUE, *actions.ROWS, *mcp.ROWS)}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """Give a page without its examples."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Give the names of its headings as GitHub makes them: lower case, no punctuation, hyphens, numbered when taken."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} (.*)$", prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        taken = slug
        number = 0
        while taken in found:
            number += 1
            taken = f"{slug}-{number}"
        found.add(taken)
    return found


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for link in _LINK.findall(prose(page)):
            if not re.match(r"[a-z]+:", link):
                yield page, link


@pytest.mark.parametrize(
    ("page", "link"), [pytest.param(*one, id=f"{relative(one[0])}:{one[1]}") for one in links()]
)
def test_a_link_leads_to_a_file_and_a_heading_there_is(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{relative(page)} links to {path}"
    if anchor:
        assert anchor in anchors(target), f"{relative(target)} has {sorted(anchors(target))}"


def test_the_headings_are_named_as_github_does(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# TLS & `basic` auth\n## Twice\n## Twice\n```sh\n# no heading\n```\n## [A link](x.md), too\n"
    )
    assert anchors(page) == {"tls--basic-auth", "twice", "twice-1", "a-link-too"}


def blocks(*languages: str) -> list[tuple[Path, str, str]]:
    """List the examples in those languages: page, language, text."""
    return [
        (page, language, text)
        for page in PAGES
        for language, text in _BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def parse_ini(text: str) -> None:
    configparser.ConfigParser(interpolation=None).read_string(text)


PARSERS: dict[str, Callable[[str], Any]] = {
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "json": json.loads,
    "ini": parse_ini,
    "python": lambda text: compile(text, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT),
}
KNOWN = {*PARSERS, "sh", "text", "mermaid", "promql", "logql", "traceql"}


def test_every_example_says_in_which_language_it_is() -> None:
    for page in PAGES:
        for language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            # Drawings in plain characters are in none.
            assert language in KNOWN or (not language and re.search(r"──|─>", text)), (relative(page), text)


def test_every_example_can_be_read_as_what_it_is() -> None:
    found = blocks(*PARSERS)
    assert len(found) > 8
    for page, language, text in found:
        try:
            PARSERS[language](text)
        except (ValueError, SyntaxError, yaml.YAMLError, configparser.Error) as error:
            pytest.fail(f"{relative(page)}: {language}: {error}")


def test_every_shell_example_has_the_grammar_of_a_shell() -> None:
    for page, _, text in blocks("sh"):
        ran = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{relative(page)}: {ran.stderr}\n{text}"


@pytest.mark.external("promtool")
def test_prometheus_takes_every_example_for_it(tmp_path: Path, external_tool: FindTool) -> None:
    found = [
        (page, text)
        for page, _, text in blocks("yaml")
        if re.search(r"(?m)^(scrape_configs|remote_write|rule_files|alerting):", text)
    ]
    assert len(found) >= 5
    (tmp_path / "password").write_text("secret")
    for page, text in found:
        here = re.sub(r"/etc/prometheus/[\w-]+", str(tmp_path / "password"), text)
        (tmp_path / "prometheus.yml").write_text(here)
        ran = subprocess.run(
            [external_tool("promtool"), "check", "config", tmp_path / "prometheus.yml"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{relative(page)}: {ran.stdout}{ran.stderr}\n{text}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "DESIGN.md"])
def test_a_path_in_a_page_for_developers_is_one_of_the_checkout(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:exporter|actions|dashboards|compose|tests|docs)/[\w./-]+)`", text)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), f"docs/{page} names {path}"


def queries() -> list[tuple[str, str]]:
    """List the queries of pages that people write; those of DASHBOARDS.md are generated and asked of a Prometheus."""
    return [
        (relative(page), query.strip())
        for page, _, text in blocks("promql")
        if page.name != "DASHBOARDS.md"
        for query in re.split(r"(?m)^(?:#.*)?\n", text)
        if query.strip()
    ]


def test_queries_in_the_docs_name_catalogued_metrics() -> None:
    found = queries()
    assert len(found) >= 20
    for page, text in found:
        for name in re.findall(r"\b(?:llmster|gpu|daemonpulse)_[a-z0-9_]+", re.sub(r'"[^"]*"', "", text)):
            row = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in NAMES or row in NAMES, f"{page}: {name}"


@pytest.mark.external("promtool")
def test_promtool_parses_every_query_in_the_docs(tmp_path: Path, external_tool: FindTool) -> None:
    rules = [{"record": f"docs:query:{number}", "expr": text} for number, (_, text) in enumerate(queries())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}))
    ran = subprocess.run(
        [external_tool("promtool"), "check", "rules", tmp_path / "rules.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_readme_is_short_and_has_a_picture_and_names_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert "(docs/boards/overview.png)" in text
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name


def test_every_command_that_is_named_is_one_there_is() -> None:
    from daemonpulse.cli import main

    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for words in re.findall(r"(?m)(?:^|`|bin/|\| )daemonpulse ((?:[a-z-]+ ?)+)", text):
            command: Any = main
            for word in words.split():
                if not hasattr(command, "commands"):
                    break  # what follows is an argument
                assert word in command.commands, f"{relative(page)}: daemonpulse {words}"
                command = command.commands[word]


def test_no_page_installs_us_from_an_index_where_we_are_not() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "Private :: Do Not Upload" in pyproject["project"]["classifiers"]
    for page in PAGES:
        found = re.findall(r"pip install [^\n&|;]*\bdaemonpulse\b(?![/-])", page.read_text(encoding="utf-8"))
        assert not found, f"{relative(page)}: {found}: somebody else could own that name"
