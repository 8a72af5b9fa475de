"""The options of a load as request parameters, made from the table in domain/load_keys.py."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, create_model

from actions.domain.load_key import LISTS, LoadKey
from actions.domain.load_keys import ROWS


def _split(value: Any) -> Any:
    """Accept a list as `a,b` or as one parameter for each value."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return items
    return [part.strip() for item in items for part in item.split(",") if part.strip()]


Commas: Final = BeforeValidator(_split)
_MOST_GPUS: Final = 64
_MOST_WORDS: Final = 64


def load_options(base: type[BaseModel]) -> type[BaseModel]:
    """Make the model of all options, each of them optional."""
    fields: dict[str, Any] = {}
    for row in ROWS:
        kind = _type_of(row)
        if row.kind in LISTS:
            fields[row.parameter] = (kind, Field(default=[], description=row.help))
        else:
            fields[row.parameter] = (kind | None, Field(default=None, description=row.help))
    made: type[BaseModel] = create_model(
        "LoadOptions", __base__=base, __doc__="The options of a load.", **fields
    )
    return made


def _type_of(row: LoadKey) -> Any:
    """Give the type that a request's value is read as."""
    bounds = Field(ge=row.least, le=row.most)
    index = Annotated[int, Field(ge=0, le=255)]
    share = Annotated[float, Field(ge=0, le=1e6)]
    text = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
    kinds: dict[str, Any] = {
        "int": Annotated[int, bounds],
        "number": Annotated[float, bounds],
        "bool": bool,
        "choice": Literal[row.values] if row.choices else str,
        "ratio": Annotated[float, Field(ge=0, le=1)] | Literal["max", "off"],
        "indices": Annotated[list[index], Commas, Field(max_length=_MOST_GPUS)],
        "shares": Annotated[list[share], Commas, Field(max_length=_MOST_GPUS)],
        "text": text,
        "words": Annotated[list[text], Field(max_length=_MOST_WORDS)],
        "pairs": Annotated[
            list[Annotated[text, StringConstraints(pattern=r"^[^=]+=")]], Field(max_length=_MOST_WORDS)
        ],
    }
    kind = kinds[row.kind]
    return kind | Literal["off"] if row.unchecked is not None and not row.choices else kind
