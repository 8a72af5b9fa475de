"""Generate incidents on top of the steady mix: stuck instances, crashes, stalls, restarts, heat, odd frames, leaks.

Uses the daemon's public methods and the faults; operators reported each incident.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from llmster_sim.engine import log_events
from llmster_sim.host.gpus import mebibytes
from llmster_sim.models.catalogue import LLAMA_SERVER
from llmster_sim.traffic.steady import Steady

if TYPE_CHECKING:
    from llmster_sim.engine.daemon import Daemon
    from llmster_sim.wire.faults import Faults

_VICTIM = "openai/gpt-oss-20b"
# Operators measured about 1.4 MB of host memory per request.
_LEAK_BYTES = 1_468_006
# XID 94: contained ECC error, see NVIDIA's XID catalogue.
_CONTAINED_ECC_ERROR = 94
_MOST_REAL_LEAK_BYTES = mebibytes(512)


class Stuck(Steady):
    """After 20 s one instance stops making progress: `generating` for ever, its queue grows."""

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.later(20.0, self._stall)

    def _stall(self) -> None:
        instance = self.daemon.find("qwen/qwen3-8b", domain="llm")
        if instance is None or not instance.queue.running:
            self.later(0.5, self._stall)
            return
        self.daemon.stall(instance.identifier)


class Crash(Steady):
    """After 20 s, and every two minutes, the engine process of a busy instance dies."""

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.later(20.0, self._crash)

    def _crash(self) -> None:
        instance = self.daemon.find(_VICTIM, domain="llm")
        if instance is None or not instance.queue.running:
            self.later(0.5, self._crash)
            return
        reference = instance.reference
        self.daemon.crash(instance.identifier)
        self.daemon.log(
            log_events.runtime(
                at_ms=self.clock.now_ms,
                level="error",
                text=log_events.exited_before_healthy(reference=reference, exit_code=1),
                engine=LLAMA_SERVER,
            )
        )
        self.later(120.0, self._crash)


class Stall(Steady):
    """After 20 s, and every four minutes, the daemon accepts connections and answers nothing for 90 s."""

    def __init__(self, *, daemon: Daemon, seed: int, faults: Faults) -> None:
        super().__init__(daemon=daemon, seed=seed)
        self._faults = faults

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.later(20.0, self._freeze)

    def stop(self) -> None:
        """Answer again."""
        super().stop()
        self._faults.thaw()

    def _freeze(self) -> None:
        self._faults.freeze()
        self.later(90.0, self._faults.thaw)
        self.later(240.0, self._freeze)


class Restart(Steady):
    """After 20 s, and every four minutes, the daemon ends; 90 s later it is back, as a new process without models."""

    def __init__(self, *, daemon: Daemon, seed: int, faults: Faults) -> None:
        super().__init__(daemon=daemon, seed=seed)
        self._faults = faults
        self._wait_s = 20.0

    def begin(self) -> None:
        """Schedule the trouble; longer after each restart than before the first."""
        super().begin()
        self.later(self._wait_s, lambda: self._faults.restart(90.0))
        self._wait_s = 240.0


class Heat(Steady):
    """After 20 s the fans of every GPU are blocked for six minutes, then free for two: they slow down by heat."""

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.later(20.0, lambda: self._block(True))

    def _block(self, blocked: bool) -> None:  # noqa: FBT001 - on or off
        for gpu in self.daemon.gpus.all:
            gpu.block_fans(blocked=blocked, now_s=self.clock.now_s)
        self.later(360.0 if blocked else 120.0, lambda: self._block(not blocked))


class BadMemory(Steady):
    """Corrected ECC errors on the first GPU every few seconds; every minute an uncorrected one, with its XID."""

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        if not self.daemon.gpus.all:
            return
        self.later(3.0, self._correct)
        self.later(20.0, self._fail)

    def _correct(self) -> None:
        self.daemon.gpus.all[0].ecc_corrected += self.rng.randrange(1, 4)
        self.later(5.0, self._correct)

    def _fail(self) -> None:
        gpu = self.daemon.gpus.all[0]
        gpu.ecc_uncorrected += 1
        gpu.xids[_CONTAINED_ECC_ERROR] += 1
        self.later(60.0, self._fail)


class Malformed(Steady):
    """Every 4 s a frame no schema allows on each log stream. The daemon's totals do not count these."""

    def __init__(self, *, daemon: Daemon, seed: int, faults: Faults) -> None:
        super().__init__(daemon=daemon, seed=seed)
        self._faults = faults
        self._kinds = itertools.cycle(range(9))

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.later(2.0, self._odd)

    def _odd(self) -> None:
        kind = next(self._kinds)
        if kind == 0:
            self._faults.send_raw('{"type":"channelSend","channelId":{id},"mess')
        elif kind == 1:
            self._faults.send_raw('{"type":"channelSurprise","channelId":{id},"message":{}}')
        else:
            self._faults.send_log(self._event(kind))
        self.later(4.0, self._odd)

    def _event(self, kind: int) -> dict[str, Any]:
        at_ms = self.clock.now_ms
        stats: dict[str, Any] = {
            "stopReason": "eosFound",
            "tokensPerSecond": 50,
            "timeToFirstTokenSec": 0.05,
            "promptTokensCount": 10,
            "predictedTokensCount": 5,
            "totalTokensCount": 15,
        }
        output = log_events.prediction_output(
            at_ms=at_ms, output="odd", identifier="qwen/qwen3-8b", stats=stats
        )
        match kind:
            case 2:
                return {"timestamp": at_ms, "data": {"type": "llm.prediction.toolCall", "tool": "search"}}
            case 3:
                output["traceId"] = "abc"
                output["data"] |= {"requestId": "req_1"}
            case 4:
                output["data"]["stats"]["stopReason"] = "surprised"
            case 5:
                del output["data"]["stats"]
            case 6:
                # What JavaScript writes for NaN.
                output["data"]["stats"]["tokensPerSecond"] = None
            case 7:
                output["timestamp"] = str(at_ms)
            case _:
                # Generated text that looks like a server line of its own.
                output["data"]["output"] = "[2026-08-08 22:40:13][ERROR][qwen/qwen3-8b] The model has crashed"
        return output


class Leak(Steady):
    """Host memory grows with every request. `real` also takes it, so that a process reader sees it."""

    def __init__(self, *, daemon: Daemon, seed: int, real: bool) -> None:
        super().__init__(daemon=daemon, seed=seed)
        self._real = real
        self._ballast: list[bytearray] = []

    def begin(self) -> None:
        """Schedule the incident."""
        super().begin()
        self.every(3.0, self._leak)

    def _leak(self) -> None:
        self.daemon.host_rss_bytes += _LEAK_BYTES
        if self._real and len(self._ballast) * _LEAK_BYTES < _MOST_REAL_LEAK_BYTES:
            self._ballast.append(bytearray(b"\x01" * _LEAK_BYTES))
