"""A parameter or key that is none is refused by name, with the one that was perhaps meant."""

import pytest
from pydantic import ValidationError

from actions.api.requests import DesiredSet, LoadParameters, Parameters, explain


def refusal(kind: type[Parameters], given: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(given)
    errors = [{**error, "loc": ("query", *error["loc"])} for error in refused.value.errors()]
    return explain(errors).detail


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "m", "ttl_secnds": 60}, "ttl_secnds: no such parameter here; did you mean ttl_seconds?"),
        ({"model": "m", "ttl": 60}, "ttl: no such parameter here"),
        ({"model": "m", "x" * 5000: 1}, "no such parameter here"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_right_one(given: dict[str, object], says: str) -> None:
    said = refusal(LoadParameters, given)
    assert says in said
    assert len(said) < 400


def test_a_misspelt_key_in_a_list_names_its_place() -> None:
    said = refusal(DesiredSet, {"instances": [{"model": "m", "context_lenght": 4096}]})
    assert "instances.0.context_lenght: no such parameter here; did you mean context_length?" in said
