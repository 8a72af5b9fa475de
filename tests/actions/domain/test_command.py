"""Commands: what a load sends to the daemon, what a loaded variant is compared with, and what is read back."""

from typing import Any

import pytest

from actions.domain.actor import Scope
from actions.domain.command import Eject, EjectAll, Load, from_json
from actions.domain.load_options import Comparison, normal, wire_fields
from exporter.llmster.state import InstanceInfo


def instance(**changes: Any) -> InstanceInfo:
    known: dict[str, Any] = {"type": "llm", "model_key": "m", "identifier": "m", "instance_reference": "r"}
    return InstanceInfo(**known | changes)


def test_a_load_sends_its_model_name_time_to_live_device_and_options() -> None:
    options = normal({"context_length": 4096, "flash_attention": True})
    command = Load(daemon="d", model="m", instance_id="x", ttl_seconds=60, options=options)
    request = command.request("llm", "peer")
    assert (request.model_key, request.namespace, request.identifier) == ("m", "llm", "x")
    assert (request.ttl_ms, request.device_identifier) == (60_000, "peer")
    assert request.fields == wire_fields(options, "llm")
    assert request.fields
    plain = Load(daemon="d", model="m").request("embedding", None)
    assert (plain.namespace, plain.ttl_ms, plain.identifier, plain.device_identifier) == (
        "embedding", None, None, None,
    )  # fmt: skip


def test_an_option_that_a_kind_of_model_does_not_have_is_named() -> None:
    command = Load(daemon="d", model="m", options=normal({"context_length": 4096, "parallel": 2}))
    assert command.unsuited("llm") is None
    assert command.unsuited("embedding") == "parallel"


@pytest.mark.parametrize(
    ("model", "variant", "expected"),
    [
        ("m", None, Comparison((), ())),
        ("m", "m@q4", Comparison((), ())),
        ("m@q4", "m@q4", Comparison((), ())),
        ("m@q4", "m@q8", Comparison(("model",), ())),
        ("m@q4", None, Comparison((), ("model",))),
    ],
)
def test_a_variant_is_compared_where_one_is_asked_for(
    model: str, variant: str | None, expected: Comparison
) -> None:
    assert Load(daemon="d", model=model).compared(instance(selected_variant=variant), {}) == expected


def test_a_time_to_live_is_compared_where_one_is_asked_for() -> None:
    command = Load(daemon="d", model="m", ttl_seconds=60)
    assert command.compared(instance(ttl_ms=60_000), {}) == Comparison((), ())
    assert command.compared(instance(ttl_ms=60_001), {}) == Comparison(("ttl_seconds",), ())
    assert Load(daemon="d", model="m").compared(instance(ttl_ms=60_001), {}) == Comparison((), ())


def test_a_group_is_written_only_where_there_is_one() -> None:
    assert "group" not in EjectAll(daemon="d").to_json()
    grouped = EjectAll(daemon="d", group="g")
    assert grouped.to_json()["group"] == "g"
    assert from_json(grouped.to_json()) == grouped


def test_a_stored_command_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^eject_all has no field 'later'$"):
        from_json({"action": "eject_all", "daemon": "d", "later": 1})
    with pytest.raises(ValueError, match=r"^eject has no field 'context_length'$"):
        from_json({"action": "eject", "daemon": "d", "instance_id": "m", "context_length": 1})
    with pytest.raises(ValueError, match=r"^load has no field 'later'$"):
        from_json({"action": "load", "daemon": "d", "model": "m", "later": 1})
    with pytest.raises(ValueError, match="has no field") as refused:
        from_json({"action": "eject_all", "daemon": "d", "x" * 200: 1})
    assert len(str(refused.value)) == len("eject_all has no field ") + 80
    with pytest.raises(KeyError):
        from_json({"action": "later"})


def test_what_a_command_is_about_and_needs() -> None:
    eject = Eject(daemon="d", instance_id="m")
    assert (eject.subject, EjectAll(daemon="d").subject) == ("m", "d")
    assert (Load(daemon="d", model="k").subject, eject.replaces) == ("k", ())
    assert Load(daemon="d", model="k", replace=("a",)).replaces == ("a",)
    assert eject.needs is Scope.OPERATE
    assert (eject.is_internal, Eject(daemon="d", instance_id="m", only_if_idle=True).is_internal) == (
        False,
        True,
    )
