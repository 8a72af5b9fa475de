"""What becomes of an action without fields: a refusal before less knowledge, and a parent takes its children along."""

from actions.domain.evidence import Lack, as_ever, knows_less, lacking, refuses

EVIDENCE = (
    as_ever("load", "info", "info.id"),
    refuses("not-found", "models", "key", "info.size"),
    knows_less("load", "info.ttl"),
    refuses("instance-exists", "config", "fields", when="it is loaded"),
    knows_less("config", "fields.value"),
    knows_less("models", "path"),
    refuses("timeout", "models", "path.deep"),
)


def effect(*gone: str, when: str = "") -> str | None:
    found = lacking(EVIDENCE, gone, when)
    return found.effect if found is not None else None


def test_a_lack_names_its_call_with_each_field() -> None:
    assert refuses("x", "call", "a", "b.c") == Lack(("call:a", "call:b.c"), "x")
    assert knows_less("call", "a", when="w") == Lack(("call:a",), "knows less", "w")
    assert as_ever("call", "a", when="w") == Lack(("call:a",), "", "w")


def test_the_first_lack_that_applies_decides_of_a_field() -> None:
    assert effect("models:key") == "not-found"
    assert effect("models:keys") is None
    assert effect("models:path") == "knows less"
    assert effect("models:path.deep") == "timeout"
    assert effect() is None


def test_what_is_inside_a_field_that_is_gone_is_gone_too() -> None:
    assert effect("models:info") == "not-found"
    assert effect("models:info.size.mib") is None
    assert effect("load:info.ttl") == "knows less"
    assert effect("load:info.id") is None
    assert effect("load:info") is None, "what it tells is found out in another way"


def test_of_several_fields_a_refusal_counts_and_the_first_of_them() -> None:
    assert effect("load:info.ttl", "models:path.deep") == "timeout"
    assert effect("models:path.deep", "models:key") == "not-found"
    assert effect("config:fields", "models:path") == "knows less"


def test_an_answer_that_another_stands_in_for_takes_no_knowledge_away() -> None:
    assert effect("load:info", "load:info.id", "load:info.ttl") is None
    assert effect("load:info.ttl", "load:info.id") is None
    assert effect("load:info.ttl", "load:unknown") == "knows less"
    assert effect("load:info.ttl", "load:info.id", "models:path") == "knows less"
    assert effect("load:info", "models:key") == "not-found"


def test_a_situation_adds_what_is_read_only_then() -> None:
    assert effect("config:fields") == "knows less"
    assert effect("config:fields", when="it is loaded") == "instance-exists"
    assert effect("config:fields", when="another") == "knows less"
    assert effect("models:key", when="it is loaded") == "not-found"
