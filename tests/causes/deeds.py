"""What is done to a world: roots, wrong from now on, and scripts, what users and operators do meanwhile."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from llmster_sim.engine import log_events
from llmster_sim.errors import DaemonError
from llmster_sim.host.memory import RAM_BYTES
from llmster_sim.models.catalogue import LLAMA_SERVER
from llmster_sim.models.load_config import CONTEXT, OFFLOAD
from tests.causes.world import World

MIB = 2**20
OSS, QWEN, TINY = "openai/gpt-oss-20b", "qwen/qwen3-8b", "qwen/qwen3-0.6b"
_AUTO_FIT = "llm.load.llama.autoFit"
_APPLICATION_AND_HARDWARE_XIDS = (13, 31, 43, 62, 79, 109, 119)

Apply = Callable[[World], None]
Script = Callable[[World], Awaitable[None]]


# Roots: wrong from now on ---------------------------------------------------------------------------------------------
def nothing(world: World) -> None:
    del world


def gpu_lost(world: World) -> None:
    world.hardware.lost.add(0)
    world.sim.daemon.gpus.all[0].xids[79] += 1


def driver_silent(world: World) -> None:
    world.hardware.silent.add("nvidia")


def ecc(world: World) -> None:
    world.hardware.ecc[0] = world.rng.randrange(1, 9)
    world.sim.daemon.gpus.all[0].xids[94] += 1


def xid(world: World) -> None:
    world.sim.daemon.gpus.all[0].xids[world.rng.choice(_APPLICATION_AND_HARDWARE_XIDS)] += 1


def host_memory(world: World) -> None:
    left = world.rng.uniform(0.002, 0.03) * RAM_BYTES
    world.hardware.taken_bytes = int(RAM_BYTES - world.sim.daemon.host_rss_bytes - left)


def hot(world: World) -> None:
    world.hardware.hot.add(world.rng.randrange(2))


def foreign(world: World) -> None:
    gpu = world.sim.daemon.gpus.all[0]
    size = int(gpu.free_bytes - gpu.spec.total_bytes * world.rng.uniform(0.001, 0.04))
    world.sim.daemon.gpus.add_foreign(pid=world.rng.randrange(900, 9000), index=0, size_bytes=size)


def second_copy(world: World) -> None:
    world.sim.daemon.load(TINY, instant=True)
    world.sim.daemon.load(TINY, identifier="copy", instant=True)


def kv_line(world: World) -> None:
    fail(world, world.victim(QWEN), "Context size has been exceeded.", ends=False)


# What they lead to ----------------------------------------------------------------------------------------------------
def fail(world: World, instance: Any, why: str, *, ends: bool = True) -> None:
    """Let the requests of an instance fail. Assumed: what was written by then is logged, with reason `failed`."""
    for job in list(instance.queue.running.values()):
        text = f"srv    send_error: task id = {job.number}, error: {why}"
        world.sim.daemon.engine_line(instance=instance, text=text, level="error")
    if not instance.queue.running:
        text = f"srv    send_error: task id = {world.sim.daemon.next_task()}, error: {why}"
        world.sim.daemon.engine_line(instance=instance, text=text, level="error")
    if ends:
        instance.queue.break_off(DaemonError(why), logs=True)


async def steps(world: World, count: int) -> None:
    for _ in range(count):
        await world.step()


async def down(world: World) -> None:
    await world.step()
    await world.sim.stop()
    await world.scrape()
    await world.scrape()
    world.hold(6)


async def stalled(world: World) -> None:
    await world.step()
    world.sim.faults.freeze()
    await world.exporter.until(lambda scraped: scraped.state(world.name) == "stalled", within_s=90)
    await world.scrape()
    world.hold(6)


async def stuck(world: World) -> None:
    await world.busy()
    world.sim.daemon.stall(OSS)
    await steps(world, 15)


async def crash(world: World) -> None:
    instance = await world.busy()
    world.sim.daemon.crash(instance.identifier, exit_code=world.rng.choice((1, 134, 137, 139)))
    await steps(world, 3)


async def crash_at_start(world: World) -> None:
    await world.step()
    text = log_events.exited_before_healthy(reference="abcdefgh12345678", exit_code=1)
    world.sim.daemon.log(
        log_events.runtime(at_ms=world.sim.clock.now_ms, level="error", text=text, engine=LLAMA_SERVER)
    )
    await steps(world, 3)


async def crash_again_and_again(world: World) -> None:
    def crash_one() -> None:
        for key in (OSS, QWEN):
            instance = world.victim(key)
            if instance.queue.running:
                world.sim.daemon.crash(instance.identifier)
        for key in (OSS, QWEN):
            world.victim(key)
            for _ in range(2):
                world.chat(key, scale=100.0)

    world.each_step.append(crash_one)
    await steps(world, 12)


def failing(why: str) -> Script:
    async def go_on(world: World) -> None:
        def fail_all() -> None:
            for key in (OSS, QWEN):
                fail(world, world.victim(key), why)
                for _ in range(2):
                    world.chat(key, scale=100.0)

        world.each_step.append(fail_all)
        await steps(world, 12)

    return go_on


def slow(factor: float) -> Script:
    async def go_on(world: World) -> None:
        for instance in world.sim.daemon.instances:
            instance.speed = factor
        world.each_step.append(lambda: world.chats(OSS, QWEN, words=900))
        await steps(world, 22)

    return go_on


async def on_the_cpu(world: World) -> None:
    for key in (OSS, QWEN):
        world.sim.daemon.unload(world.victim(key).identifier)
        world.sim.daemon.load(
            key, overrides={_AUTO_FIT: False, OFFLOAD: world.rng.uniform(0.1, 0.6)}, instant=True
        )
    await slow(0.1)(world)


async def long_prompts(world: World) -> None:
    for key in (OSS, QWEN):
        world.sim.daemon.unload(world.victim(key).identifier)
        world.sim.daemon.load(key, overrides={CONTEXT: 32_768}, instant=True)
    words = world.rng.randrange(9_000, 13_000)
    world.each_step.append(lambda: world.chats(OSS, QWEN, words=words))
    await steps(world, 24)


async def overload(world: World) -> None:
    for instance in world.sim.daemon.instances:
        instance.speed = 0.12
    world.each_step.append(lambda: world.chats(*(OSS, QWEN) * 16, words=500))
    await steps(world, 22)


async def jit_eviction(world: World) -> None:
    await world.busy()
    world.chat(TINY)
    await steps(world, 3)


async def ejected(world: World) -> None:
    series = f'daemonpulse_requests_ended_by_eject_total{{daemon="{world.name}",action="eject"}}'
    world.each_step.append(lambda: world.add(series, count[0]))
    count = [0]
    await world.step()
    await world.busy(QWEN)
    count[0] += 2
    world.sim.daemon.unload(QWEN)
    await steps(world, 3)


async def unloaded(world: World) -> None:
    key = world.rng.choice((OSS, QWEN))
    await world.busy(key)
    world.sim.daemon.unload(key)
    await steps(world, 3)


async def expired(world: World) -> None:
    world.sim.daemon.unload(OSS)
    world.sim.daemon.load(OSS, ttl_ms=60_000, instant=True)
    await world.busy()
    world.sim.daemon.unload(OSS)
    await steps(world, 3)


def filled(prepare: Apply = nothing) -> Script:
    """Let the first GPU be full: it is as large as what is on it, and a little."""

    async def go_on(world: World) -> None:
        gpu = world.sim.daemon.gpus.all[0]
        prepare(world)
        total = int(gpu.used_bytes / (1 - world.rng.uniform(0.005, 0.04)))
        gpu.spec = dataclasses.replace(gpu.spec, total_bytes=total)
        await steps(world, 23)

    return go_on


def leak(world: World) -> None:
    daemon = world.sim.daemon
    daemon.gpus.add_foreign(pid=daemon.pid, index=0, size_bytes=700 * MIB)

    def grow() -> None:
        daemon.gpus.all[0].processes[daemon.pid] += 60 * MIB

    world.each_step.append(grow)


def two_copies(world: World) -> None:
    gpu = {
        "load.gpuSplitConfig": {
            "strategy": "priorityOrder",
            "disabledGpus": [],
            "priority": [0],
            "customRatio": [],
        }
    }
    world.sim.daemon.load(TINY, overrides=gpu, instant=True)
    world.sim.daemon.load(TINY, identifier="copy", overrides=gpu, instant=True)
