"""Attributes GPU memory to loaded instances: the bytes of each GPU by model, and by other processes.

Pure. Does not depend on llmster: an instance is a name, a model path and perhaps a pid. Without evidence a process is
unattributed; nothing is guessed or counted twice.

Evidence, in this order:
1. the pid that the runtime log named for an instance, or a process started under it;
2. the model path on the engine's command line, when exactly one engine and one instance carry it;
3. the last engine on the GPUs and the last instance without one.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

TOP_FOREIGN: Final = 5
"""Foreign processes named per GPU; the rest are folded into one, so that a busy GPU cannot flood the series."""
OTHER: Final = "other"
"""The name under which the folded ones show."""


@dataclass(frozen=True, slots=True)
class GpuUse:
    """Memory that one process holds on one GPU; a process may be listed more than once (MIG instances)."""

    gpu: int
    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Instance:
    """A model the local daemon has loaded. One held by another host must not be handed in."""

    instance_id: str
    model_path: str | None = None
    """As the daemon gives it: relative to its models folder, or absolute."""
    engine_pid: int | None = None
    """The pid that `runtime.log` named together with this instance."""


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The daemon's processes, as far as they can be seen."""

    daemon_pid: int | None = None
    parents: Mapping[int, int | None] = field(default_factory=dict)
    """Parent pid of every process under the daemon; all others but the daemon are foreign."""
    model_paths: Mapping[int, str] = field(default_factory=dict)
    """By pid: the model on the command line of an engine."""
    names: Mapping[int, str] = field(default_factory=dict)
    """By pid, of any process, as far as known."""

    def __contains__(self, pid: object) -> bool:
        """Tell whether the process is the daemon or was started under it."""
        return pid is not None and (pid == self.daemon_pid or pid in self.parents)


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """What one process holds on one GPU; pid None is the sum of those not named one by one."""

    gpu: int
    pid: int | None
    name: str | None
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class InstanceShare:
    """What one instance holds on one GPU, and which processes hold it."""

    gpu: int
    instance_id: str
    processes: tuple[ProcessShare, ...]

    @property
    def memory_bytes(self) -> int:
        """The sum over its processes."""
        return sum(process.memory_bytes for process in self.processes)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who holds the memory of each GPU. The three lists together are exactly what the processes hold."""

    instances: tuple[InstanceShare, ...]
    unattributed: tuple[ProcessShare, ...]
    """The daemon's own processes that could not be tied to one instance."""
    foreign: tuple[ProcessShare, ...]
    """The largest others of each GPU, then what is left of it under the name "other"."""


def attribute(
    uses: Iterable[GpuUse],
    instances: Sequence[Instance],
    tree: ProcessTree,
    *,
    top_foreign: int = TOP_FOREIGN,
) -> Attribution:
    """Attribute the memory of every GPU. A process of unknown memory (None) is left out."""
    held: Counter[tuple[int, int]] = Counter()
    for use in uses:
        if use.memory_bytes is not None:
            held[use.gpu, use.pid] += use.memory_bytes
    owners = _owners({pid for _, pid in held}, instances, tree)

    shares: defaultdict[tuple[int, str], list[ProcessShare]] = defaultdict(list)
    unattributed: list[ProcessShare] = []
    foreign: defaultdict[int, list[ProcessShare]] = defaultdict(list)
    for (gpu, pid), memory_bytes in sorted(held.items()):
        share = ProcessShare(gpu, pid, tree.names.get(pid), memory_bytes)
        if pid in owners:
            shares[gpu, owners[pid]].append(share)
        elif pid in tree:
            unattributed.append(share)
        else:
            foreign[gpu].append(share)
    return Attribution(
        instances=tuple(
            InstanceShare(gpu, instance_id, tuple(parts))
            for (gpu, instance_id), parts in sorted(shares.items())
        ),
        unattributed=tuple(unattributed),
        foreign=tuple(share for gpu in sorted(foreign) for share in _largest(foreign[gpu], top_foreign)),
    )


def _largest(shares: list[ProcessShare], top: int) -> list[ProcessShare]:
    ranked = sorted(shares, key=lambda share: -share.memory_bytes)  # equals stay in the order of their pids
    named, rest = ranked[:top], ranked[top:]
    if rest:
        named.append(ProcessShare(rest[0].gpu, None, OTHER, sum(share.memory_bytes for share in rest)))
    return named


def _owners(on_gpu: set[int], instances: Sequence[Instance], tree: ProcessTree) -> dict[int, str]:
    """Name the instance of every process on a GPU that the evidence settles."""
    own = {pid for pid in on_gpu if pid in tree}
    claims = _claims_by_pid(instances, tree)
    settled = {name for names in claims.values() for name in names}
    waiting = [one for one in instances if one.instance_id not in settled]

    for pid, name in _claims_by_path(waiting, claims, tree).items():
        claims[pid] = {name}
        settled.add(name)
    waiting = [one for one in waiting if one.instance_id not in settled]

    engines = (own | tree.model_paths.keys()) - {tree.daemon_pid}
    left = _topmost({pid for pid in engines if _claimant(pid, claims, tree) is None}, tree)
    if len(waiting) == 1 and len(left) == 1:
        (one,), (pid,) = waiting, left
        if pid not in tree.model_paths or one.model_path is None:  # paths that agree are paired by now
            claims[pid] = {one.instance_id}

    owners: dict[int, str] = {}
    for pid in own:
        claimant = _claimant(pid, claims, tree)
        # What several instances share cannot be split.
        if claimant is not None and len(claims[claimant]) == 1:
            (owners[pid],) = claims[claimant]
    return owners


def _claims_by_pid(instances: Iterable[Instance], tree: ProcessTree) -> dict[int, set[str]]:
    """Collect the instances each pid was named for; a pid outside the daemon's tree is out of date or reused."""
    claims: defaultdict[int, set[str]] = defaultdict(set)
    for one in instances:
        if one.engine_pid is not None and one.engine_pid in tree:
            claims[one.engine_pid].add(one.instance_id)
    return dict(claims)


def _claims_by_path(
    instances: Sequence[Instance], claims: Container[int], tree: ProcessTree
) -> dict[int, str]:
    """Pair instances and engines that carry the same model, where each is the other's only choice.

    Engines without GPU memory are candidates too: an engine may run on the CPU.
    """
    engines = {pid: path for pid, path in tree.model_paths.items() if _claimant(pid, claims, tree) is None}
    found: dict[int, str] = {}
    for one in instances:
        fits = _topmost({pid for pid, path in engines.items() if is_same_model(path, one.model_path)}, tree)
        rivals = [
            other
            for other in instances
            if other is not one and any(is_same_model(engines[pid], other.model_path) for pid in fits)
        ]
        if len(fits) == 1 and not rivals:
            (pid,) = fits
            found[pid] = one.instance_id
    return found


def _topmost(pids: AbstractSet[int], tree: ProcessTree) -> set[int]:
    """Leave out processes started under another of them: a wrapper and what it runs are one engine."""
    return {
        pid
        for pid in pids
        if (parent := tree.parents.get(pid)) is None or _claimant(parent, pids, tree) in {None, pid}
    }


def _claimant(pid: int, claims: Container[int], tree: ProcessTree) -> int | None:
    """Find the nearest claimed process at or above this one, short of the daemon, from which everything descends."""
    seen: set[int] = set()
    at: int | None = pid
    while at is not None and at not in seen:
        if at in claims and (at == pid or at != tree.daemon_pid):
            return at
        seen.add(at)
        at = tree.parents.get(at)
    return None


def is_same_model(command_line_path: str, model_path: str | None) -> bool:
    """Return whether an absolute path on a command line is the model that the daemon names by a relative path.

    Observed: the daemon names `publisher/repository/file.gguf`, below a models folder that can be anywhere; a model
    made of a folder is named without its files.
    """
    if not model_path:
        return False
    whole = _slashed(command_line_path)
    part = _slashed(model_path).strip("/")
    return bool(part) and f"/{part}/" in f"/{whole.strip('/')}/"


def _slashed(path: str) -> str:
    return path.replace("\\", "/").lower()
