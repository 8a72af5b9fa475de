"""Fills in a LoadPlan: reads the daemon once when a load is decided, and once more in its turn.

The daemon's estimate is asked once per load; loaded instances and free memory are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from actions.commands.daemon_session import DaemonSession, unread
from actions.domain.command import Load
from actions.domain.errors import from_daemon, invalid, not_found
from actions.domain.evidence import ESTIMATE, LISTED, MODEL, PROCESS, knows_less, refuses
from actions.domain.load_options import split_config
from actions.domain.load_plan import LoadPlan, candidates, existing
from actions.domain.preflight import Need, Preflight, SplitPlan, judge
from exporter.llmster.commands import load_namespace_of
from exporter.llmster.domains import BY_NAME, LOADED_HERE
from exporter.llmster.errors import ProtocolViolation
from exporter.llmster.state import DownloadedModel, InstanceInfo

EVIDENCE: Final = (
    refuses("daemon-unreadable", "listDownloadedModels", *MODEL),
    refuses("daemon-unreadable", "estimateModelUsage", *ESTIMATE),
    knows_less("estimateModelUsage", "memory.confidence"),
    knows_less("info", *PROCESS),
    knows_less("listLoaded", *LISTED, "path"),
)
"""Of a pre-flight: who holds the memory is told by pids, and by paths on command lines."""


async def build(daemon: DaemonSession, command: Load) -> LoadPlan:
    """Find out all that a load's decision needs. Raises Problem."""
    model = await suited_model(daemon, command)
    plan = await refresh(daemon, LoadPlan(command=command, model=model))
    if not command.replace or plan.existing is not None:
        return plan
    by_name = {info.identifier: info for info in plan.instances}
    for name in command.replace:
        if name not in by_name:
            raise not_found("instance", name, tuple(by_name))
    return replace(plan, queued={name: await daemon.queued(by_name[name]) for name in command.replace})


async def refresh(daemon: DaemonSession, plan: LoadPlan) -> LoadPlan:
    """Read again what may have changed: what is loaded and what memory is free. Raises Problem."""
    command, model = plan.command, plan.model
    listing = await daemon.instances()
    if not listing.is_complete:
        problem = ProtocolViolation(
            f"{unread(listing)}, so it is not known whether {model.model_key} is loaded"
        )
        raise from_daemon(problem, daemon=daemon.name)
    same = [
        (info, await daemon.configuration(info, wanted=command.options))
        for info in candidates(command, model, listing.read)
    ]
    found = existing(command, model, same)
    if found is not None:
        return replace(plan, instances=listing.read, existing=found)
    need = plan.need if plan.need is not None else await daemon.estimate(command, model)
    preflight = await judged(daemon, command, model, need, listing.read)
    return replace(plan, instances=listing.read, existing=None, need=need, preflight=preflight)


async def judged(
    daemon: DaemonSession,
    command: Load,
    model: DownloadedModel,
    need: Need | str,
    instances: Iterable[InstanceInfo],
) -> Preflight:
    """Judge a need against the memory that is free now, without any call to the daemon."""
    return judge(
        need,
        await daemon.memory(instances, model),
        learned=(await daemon.history.learned(daemon.name)).get(model.model_key),
        split=split_plan(command.options),
        replace=command.replace,
    )


async def suited_model(daemon: DaemonSession, command: Load) -> DownloadedModel:
    """Find the model and refuse a parameter that its kind has no key for. Raises Problem."""
    model = await daemon.model(command.model)
    require_commanded_domain(model)
    unsuited = command.unsuited(load_namespace_of(model))
    if unsuited is not None:
        raise invalid(unsuited, None, "an embedding model has no such option; leave it out")
    return model


def require_commanded_domain(model: DownloadedModel) -> None:
    """Refuse a model of a domain that has no load options here. Raises Problem."""
    if model.type in LOADED_HERE:
        return
    seen = "is listed and watched, but" if model.type in BY_NAME else "is not known, and"
    commanded = " and ".join(LOADED_HERE)
    raise invalid(
        "model", model.model_key, f"its domain {model.type[:50]} {seen} only {commanded} models can be loaded"
    )


def split_plan(options: Mapping[str, Any]) -> SplitPlan:
    """Tell how a load is to be spread over the GPUs."""
    split = split_config(options)
    return SplitPlan(
        strategy=split["strategy"],
        disabled=tuple(split["disabledGpus"]),
        priority=tuple(split["priority"]),
        ratio=tuple(split["customRatio"]),
    )
