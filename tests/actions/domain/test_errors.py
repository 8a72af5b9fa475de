"""Problems: one type for each failure of a daemon, parameters in each interface's words, and bounded text."""

import json

import pytest

from actions.domain.errors import (
    MAX_PART_CHARS,
    TITLES,
    TYPE_PREFIX,
    Param,
    Problem,
    from_daemon,
    invalid,
    not_found,
)
from exporter.llmster.errors import (
    AuthenticationRefused,
    CallFailed,
    ConnectionLost,
    DaemonStalled,
    DaemonUnreachable,
    LlmsterError,
    ProtocolViolation,
)


@pytest.mark.parametrize(
    ("error", "slug", "detail", "extra"),
    [
        (CallFailed("No such model", code="x"), "daemon-refused", "daemon box: No such model", {"code": "x"}),
        (
            AuthenticationRefused("bad token"),
            "daemon-unreachable",
            (
                "daemon box refuses the connection: bad token; "
                "give the actions API the daemon's token (daemon_token_file)"
            ),
            {},
        ),
        (DaemonStalled("after 5 s"), "timeout", "daemon box does not answer: after 5 s", {}),
        (ProtocolViolation("no list"), "daemon-unreadable", "daemon box: no list", {}),
        (DaemonUnreachable("refused"), "daemon-unreachable", "daemon box: refused", {}),
        (ConnectionLost("closed"), "daemon-unreachable", "daemon box: closed", {}),
    ],
)
def test_a_daemons_error_is_translated_and_names_the_daemon(
    error: LlmsterError, slug: str, detail: str, extra: dict[str, str]
) -> None:
    problem = from_daemon(error, daemon="box")
    assert (problem.slug, problem.detail) == (slug, detail)
    assert problem.extra == {"daemon": "box", **extra}


def test_what_is_not_there_is_named_with_what_is_and_both_are_bounded() -> None:
    assert not_found("model", "m").detail == "model m is not known"
    assert not_found("model", "m", ("a", "b")).detail == "model m is not known; there is a, b"
    many = not_found("model", "m" * 300, tuple(f"{n:02}" + "x" * 300 for n in range(12)))
    assert many.extra == {"kind": "model", "name": "m" * 200}
    listed = ", ".join(f"{n:02}" + "x" * 198 for n in range(10))
    assert many.detail == f"model {'m' * 200} is not known; there is {listed}"
    assert not_found("model", "m").slug == "not-found"


def test_a_parameter_is_written_with_its_value() -> None:
    assert [str(Param("force", value)) for value in (None, True, False, 5, "X")] == [
        "force", "force=true", "force=false", "force=5", "force=X",
    ]  # fmt: skip
    problem = invalid("ttl", -1, "must be at least ", Param("least", 0))
    assert (problem.slug, problem.detail) == ("invalid-parameter", "ttl=-1: must be at least least=0")
    assert problem.extra == {"parameter": "ttl"}


@pytest.mark.parametrize("slug", TITLES)
def test_a_problem_is_a_document_of_its_type(slug: str) -> None:
    status, title = TITLES[slug]
    problem = Problem(slug, "why", headers={"retry-after": "5"}, number=7)
    assert problem.body() == {
        "type": TYPE_PREFIX + slug,
        "title": title,
        "status": status,
        "detail": "why",
        "number": 7,
    }
    assert (problem.headers, Problem(slug, "why").headers, str(problem)) == ({"retry-after": "5"}, {}, "why")


def test_parameters_of_a_problem_are_told_beside_its_text_and_read_back() -> None:
    problem = Problem("forbidden", "use ", Param("force", value=True), " or ", Param("reason"), number=7)
    body = problem.body()
    assert body["parts"] == [
        "use ",
        {"parameter": "force", "value": True},
        " or ",
        {"parameter": "reason", "value": None},
    ]
    assert body["detail"] == "use force=true or reason"
    back = Problem.from_body(json.loads(json.dumps(body)))
    assert (back.slug, back.parts, back.extra) == ("forbidden", problem.parts, {"number": 7})
    older = Problem.from_body(
        {"type": f"{TYPE_PREFIX}forbidden", "detail": "why", "status": 403, "title": "x"}
    )
    assert (older.parts, older.extra) == (("why",), {})


def test_words_of_an_error_are_bounded() -> None:
    problem = Problem("internal", "x" * MAX_PART_CHARS, "y" * (MAX_PART_CHARS + 1))
    assert problem.parts == ("x" * MAX_PART_CHARS, "y" * MAX_PART_CHARS)
