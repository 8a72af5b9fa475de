"""What can be the cause of the alerts that page: a closed list, the first whose evidence is there is named.

The order is that of cause and effect: hardware, host, engine, then what clients do. A row takes effect in the rules of
`naming`; docs/CAUSES.md lists them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dashboards.alerts.alert import LITTLE_LEFT, MIB
from dashboards.kit.choosing import spread
from dashboards.kit.promql import Expr, QueryError, Selector, both, count_by, max_by, min_by, sum_by, unless
from dashboards.rules.recording import GPU, THROTTLED
from exporter.catalogue import actions as a
from exporter.catalogue import daemon as d
from exporter.catalogue import engine as e
from exporter.catalogue import hardware as h
from exporter.catalogue import log_stream as s

RECENT: Final = "15m"
"""How long evidence counts. Longer than the alerts' own windows of 10 minutes."""
_NOW: Final = "5m"
_MUCH: Final = 0.2
"""Of a GPU's memory: more than a desktop takes."""
_MOST: Final = 0.75
_LONG_PROMPT: Final = 4000
"""Tokens, on average: reading them alone takes a large GPU a second or two."""
_IDLE: Final = 0.05
_HALF: Final = 0.5

DAEMON: Final = ("instance", "daemon")
"""What tells a daemon from all others where it is joined with its host."""
_OF_INSTANCE: Final = (*DAEMON, "instance_id")
_P: Final = Selector(window=RECENT)

DOWN: Final = ("LlmsterDaemonDown",)
STALLED: Final = ("LlmsterDaemonStalled",)
STUCK: Final = ("LlmsterGenerationStuck",)
TTFT: Final = ("LlmsterTtftBurnFast", "LlmsterTtftBurnSlow")
ERRORS: Final = ("LlmsterErrorBurnFast", "LlmsterErrorBurnSlow")
FULL: Final = ("GpuMemoryNearlyFull",)
EVICTED: Final = ("LlmsterEvictedWhileBusy",)
CRASHED: Final = ("LlmsterEngineCrashed",)
BY_CRASH: Final = (*ERRORS, *EVICTED)
"""A fault of the hardware or host fails requests and takes instances by killing their engine, not otherwise."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One row."""

    name: str
    """What an operator reads, in the field's terms."""
    evidence: Expr
    """Series while it is there: of a daemon, or of a GPU or host and then of all its daemons."""
    explains: tuple[str, ...]
    """Names of alerts."""
    remedy: str
    """One sentence of what to do."""
    by_crash: tuple[str, ...] = ()
    """Names of alerts that it explains only where an engine crashed as well."""

    def __post_init__(self) -> None:
        """Refuse a row that names no series, or whose remedy is no sentence. Raises QueryError."""
        if not self.evidence.metrics or not self.remedy.endswith("."):
            raise QueryError(f"{self.name}: a cause has a metric as evidence, and a sentence as remedy")

    @property
    def slug(self) -> str:
        """Its name as a part of a metric's name and of a link."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    @property
    def of_daemon(self) -> bool:
        """Whether its evidence is a daemon's own."""
        return "daemon" in (self.evidence.labels or ())


def _by_gpu(expr: Expr, *further: str) -> Expr:
    return max_by(expr, *GPU, *further)


def _foreign_process() -> Expr:
    """Take processes that are not the daemon's, on GPUs that were full; none where its own cannot be seen."""
    held = _by_gpu(_P.over("max_over_time", h.PROCESS_MEMORY), "pid", "process")
    own = max_by(_P.over("max_over_time", h.PROCESS_RESIDENT), "instance", "pid")
    foreign = unless(held, own, "instance", "pid")
    total = _by_gpu(_P.over("max_over_time", h.MEMORY_TOTAL))
    full = _by_gpu(_P.over("min_over_time", h.MEMORY_FREE)) / total < LITTLE_LEFT
    seen = _by_gpu(_P.over("max_over_time", h.UNATTRIBUTED_VRAM))
    large = sum_by(foreign, *GPU) / total > _MUCH
    return both(both(both(foreign, large, *GPU), full, *GPU), seen, *GPU)


def _idle_though_running() -> Expr:
    """Take instances that ran requests for five minutes while none of their GPUs did anything."""
    held = max_by(_P.now(h.INSTANCE_VRAM), *_OF_INSTANCE, "gpu")
    busy = max_by(spread(_by_gpu(_P.over("avg_over_time", h.UTILIZATION, _NOW)), held, *GPU), *_OF_INSTANCE)
    running = max_by(_P.over("min_over_time", d.REQUESTS_RUNNING, _NOW), *_OF_INSTANCE) > 0
    return both(busy < _IDLE, running)


def _jit_eviction() -> Expr:
    """Take instances with a TTL that went while another with a TTL came, where the daemon is set to do so."""
    gone = unless(_P.over("last_over_time", d.TTL, _NOW), _P.now(d.TTL))
    came = max_by(_P.appeared(d.TTL, _NOW), *DAEMON)
    by_other = sum_by(_P.increase(d.UNLOADS, _NOW, cause="other"), *DAEMON) > 0
    evicts = max_by(_P.now(d.JIT_EVICTS), *DAEMON).equals(1)
    found = max_by(gone, *_OF_INSTANCE)
    for condition in (by_other, came, evicts):
        found = both(found, condition, *DAEMON)
    return found


def _leak() -> Expr:
    held = _by_gpu(_P.now(h.UNATTRIBUTED_VRAM)) > 512 * MIB
    return both(held, _by_gpu(_P.over("delta", h.UNATTRIBUTED_VRAM, "1h")) > 256 * MIB)


def _failed(reason: str) -> Expr:
    return sum_by(_P.increase(e.FAILURES, reason=reason), *_OF_INSTANCE) > 0


def _mean_prompt() -> Expr:
    tokens = sum_by(_P.rate_of_sum(s.REQUEST_PROMPT_TOKENS), *DAEMON)
    return tokens / sum_by(_P.rate_of_count(s.REQUEST_PROMPT_TOKENS), *DAEMON)


ENGINE_CRASHED: Final = Cause(
    "engine crashed",
    sum_by(_P.increase(s.ENGINE_CRASHES), *DAEMON, "when") > 0,
    BY_CRASH,
    "Read the engine's last lines in the daemon's log; go back to an engine version that ran, and report the crash.",
)
CAUSES: Final = (
    Cause(
        "GPU lost",
        _by_gpu(_P.over("max_over_time", h.LOST)).equals(1),
        (*STALLED, *STUCK, *CRASHED),
        "Reset the GPU or restart the host; check its seating, power and PCIe slot.",
        BY_CRASH,
    ),
    Cause(
        "GPU driver does not answer",
        max_by(1 - _P.over("avg_over_time", h.UP, _NOW), "instance", "vendor") > _HALF,
        (*STALLED, *STUCK, *CRASHED),
        "Read the kernel's log for the driver, then reload the driver or restart the host.",
        BY_CRASH,
    ),
    Cause(
        "uncorrected ECC errors",
        sum_by(_P.increase(h.ECC_ERRORS, kind="uncorrected"), *GPU) > 0,
        (*STUCK, *CRASHED),
        "Take the GPU out of use, reset it, and replace it if the errors come back.",
        BY_CRASH,
    ),
    Cause(
        "XID error",
        _by_gpu(_P.newly(h.XID_ERRORS, RECENT), "xid"),
        (*STUCK, *CRASHED),
        "Look the number up in NVIDIA's list of XIDs; it tells a fault of the GPU from one of the program.",
        BY_CRASH,
    ),
    Cause(
        "host out of memory",
        min_by(
            _P.over("min_over_time", h.HOST_MEMORY_AVAILABLE) / _P.over("max_over_time", h.HOST_MEMORY_TOTAL),
            *DAEMON,
        )
        < LITTLE_LEFT,
        (*DOWN, *STALLED, *STUCK, *TTFT, *CRASHED),
        "Free RAM on the host: find the largest process, load fewer models, or restart a daemon that leaks.",
        BY_CRASH,
    ),
    Cause(
        "GPU throttled",
        _by_gpu(_P.over("avg_over_time", h.THROTTLE, reason=THROTTLED), "reason") > _MUCH,
        TTFT,
        "Check fans, airflow and power supply; lower the power limit until it is cool.",
    ),
    Cause(
        "another process holds the VRAM",
        _foreign_process(),
        (*FULL, *CRASHED),
        "End that process or move it to another GPU, or load models that leave room for it.",
        BY_CRASH,
    ),
    Cause(
        "VRAM leak",
        _leak(),
        FULL,
        "Eject and load the models again, or restart the daemon; report the leak with the engine's version.",
    ),
    Cause(
        "model loaded more than once",
        count_by(_P.now(h.INSTANCE_VRAM), "instance", "daemon", "gpu", "model") > 1,
        FULL,
        "Eject the copies that are not needed.",
    ),
    Cause(
        "loaded models fill the VRAM",
        sum_by(_P.now(h.INSTANCE_VRAM), *GPU) / _by_gpu(_P.now(h.MEMORY_TOTAL)) > _MOST,
        FULL,
        "Eject a model, or load with a shorter context, fewer parallel requests or a smaller quantization.",
    ),
    ENGINE_CRASHED,
    Cause(
        "KV cache exhausted",
        _failed("kv_exhausted"),
        ERRORS,
        "Load with a longer context or fewer parallel requests.",
    ),
    Cause(
        "prompts longer than the context",
        _failed("too_large"),
        ERRORS,
        "Load with a longer context, or let clients shorten their prompts.",
    ),
    Cause(
        "ejected through the actions API",
        sum_by(_P.increase(a.REQUESTS_ENDED, _NOW), "daemon", "action") > 0,
        EVICTED,
        "Ask who ejected it: the audit has the name.",
    ),
    Cause(
        "evicted by a JIT load",
        _jit_eviction(),
        EVICTED,
        "Pin the model by loading it without a TTL, or turn off the daemon's setting that a JIT load evicts.",
    ),
    Cause(
        "TTL expired while busy",
        sum_by(_P.increase(d.UNLOADS, _NOW, cause="ttl"), *DAEMON) > 0,
        EVICTED,
        "Load the model without a TTL or with a longer one, and report it: a busy instance should not expire.",
    ),
    Cause(
        "engine hangs: its GPU is idle",
        _idle_though_running(),
        STUCK,
        "Eject the instance and load it again; what runs on it is lost.",
    ),
    Cause(
        "model partly on the CPU",
        min_by(_P.now(d.GPU_OFFLOAD), *_OF_INSTANCE) < 1,
        TTFT,
        "Load the model with all layers on the GPU, or a smaller one that fits.",
    ),
    Cause(
        "long prompts",
        _mean_prompt() > _LONG_PROMPT,
        TTFT,
        "Find the client that sends them; keep the beginning of prompts the same, so that the prompt cache serves it.",
    ),
    Cause(
        "more requests than slots",
        max_by(
            _P.over("avg_over_time", d.REQUESTS_WAITING, _NOW) > _P.over("avg_over_time", d.PARALLEL, _NOW),
            *_OF_INSTANCE,
        ),
        TTFT,
        "Spread the requests over more instances or daemons, or let clients send fewer at a time.",
    ),
)
