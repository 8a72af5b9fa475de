"""A load before it begins: which instances matter, which of them is what was asked for, and what is in the way."""

from typing import Any

import pytest

from actions.domain.command import Load
from actions.domain.errors import Problem
from actions.domain.load_options import normal
from actions.domain.load_plan import LoadPlan, candidates, existing
from actions.domain.preflight import Learned, Need, Preflight, SplitPlan, judge
from exporter.llmster.state import DownloadedModel, InstanceInfo

MODEL = DownloadedModel(model_key="m", type="llm")


def instance(name: str = "m", **changes: Any) -> InstanceInfo:
    known: dict[str, Any] = {"type": "llm", "model_key": "m", "identifier": name, "instance_reference": "r"}
    return InstanceInfo(**known | changes)


def load(**changes: Any) -> Load:
    options = changes.pop("options", {})
    return Load(daemon="d", model="m", options=normal(options), **changes)


def names(command: Load, *loaded: InstanceInfo, model: DownloadedModel = MODEL) -> list[str]:
    return [info.identifier for info in candidates(command, model, loaded)]


LOADED = (
    instance("m"),
    instance("m:2"),
    instance("far", device_identifier="peer"),
    instance("x", model_key="other"),
)


def test_every_instance_of_the_model_on_its_device_may_be_what_is_asked_for() -> None:
    assert names(load(), *LOADED) == ["m", "m:2"]
    there = DownloadedModel(model_key="m", type="llm", device_identifier="peer")
    assert names(load(), *LOADED, model=there) == ["far"]
    assert names(load(replace=("m",)), *LOADED) == ["m:2"]


def test_with_a_name_only_the_instance_of_that_name_matters_whatever_its_model() -> None:
    assert names(load(instance_id="x"), *LOADED) == ["x"]
    assert names(load(instance_id="far"), *LOADED) == ["far"]
    assert names(load(instance_id="new"), *LOADED) == []
    assert names(load(instance_id="x", replace=("x",)), *LOADED) == []


def test_the_first_instance_that_is_as_asked_for_is_it() -> None:
    other, same = instance("m", context_length=8192), instance("m:2", context_length=4096)
    command = load(options={"context_length": 4096})
    assert existing(command, MODEL, [(other, {}), (same, {})]) is same
    assert existing(command, MODEL, []) is None
    assert existing(load(), MODEL, [(other, {})]) is other


def in_the_way(command: Load, *loaded: InstanceInfo) -> Problem:
    with pytest.raises(Problem) as refused:
        existing(command, MODEL, [(info, {}) for info in loaded])
    assert refused.value.slug == "instance-exists"
    return refused.value


def test_an_instance_in_the_way_is_named_with_what_differs_and_the_ways_out() -> None:
    command = load(ttl_seconds=60, options={"context_length": 4096, "auto_fit": True})
    problem = in_the_way(command, instance("m", context_length=8192), instance("m:2"))
    assert problem.detail == (
        "m is loaded with another context_length, ttl_seconds and with an unknown auto_fit; "
        "use replace=m to load it anew, or give the new one another instance_id"
    )
    assert problem.extra == {
        "instance_id": "m",
        "differences": ["context_length", "ttl_seconds", "auto_fit"],
    }


def test_what_is_only_unknown_is_in_the_way_too_and_so_is_another_model_of_that_name() -> None:
    unknown = in_the_way(load(options={"auto_fit": True, "cpu_threads": 4}), instance())
    assert unknown.detail.startswith("m is loaded with an unknown auto_fit, cpu_threads; use")
    other = in_the_way(load(instance_id="x", options={"auto_fit": True}), instance("x", model_key="other"))
    assert other.detail.startswith("x is loaded with another model; use replace=x")
    assert other.extra["differences"] == ["model"]


def judged(vram: int, *, passes: bool = True) -> Preflight:
    return judge(
        Need(vram, vram, passes_guardrails=passes), "no driver", learned=Learned(1.0, 3), split=SplitPlan()
    )


def test_a_load_that_no_longer_fits_is_refused_with_the_reasons_unless_it_is_forced() -> None:
    refusing = judged(1, passes=False)
    with pytest.raises(Problem) as refused:
        LoadPlan(command=load(), model=MODEL, preflight=refusing).require_room()
    assert refused.value.slug == "does-not-fit"
    assert refused.value.detail.startswith(
        f"m: {'; '.join(refusing.reasons)}. Eject something first, name it in replace"
    )
    assert len(refusing.reasons) > 1
    assert refused.value.extra == {"preflight": refusing.to_json()}
    for plan in (
        LoadPlan(command=load(), model=MODEL),
        LoadPlan(command=load(), model=MODEL, preflight=judged(1)),
        LoadPlan(command=load(force=True, reason="x"), model=MODEL, preflight=refusing),
    ):
        plan.require_room()
