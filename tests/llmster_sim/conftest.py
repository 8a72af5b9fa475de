"""Fixtures: a daemon without sockets, a simulator whose time the test moves, and a plain protocol client."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from llmster_sim.clock import Clock
from llmster_sim.engine.daemon import Daemon, Settings
from llmster_sim.engine.jobs import Ask
from llmster_sim.engine.log_events import Event
from llmster_sim.host.gpu_specs import specs_of
from llmster_sim.models.catalogue import CATALOGUE
from llmster_sim.models.generation import generate, prose
from llmster_sim.server import SimConfig, Simulator
from tests.llmster_sim.client import Client

MakeDaemon = Callable[..., Daemon]
MakeAsk = Callable[..., Ask]


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True)


@pytest.fixture
def make_daemon(clock: Clock) -> MakeDaemon:
    def make(*, gpus: int = 2, seed: int = 7, settings: Settings | None = None) -> Daemon:
        return Daemon(clock=clock, models=CATALOGUE, seed=seed, gpus=specs_of("", gpus), settings=settings)

    return make


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> Daemon:
    return make_daemon()


@pytest.fixture
def make_ask(daemon: Daemon) -> MakeAsk:
    def make(
        *, words: int = 60, prompt_tokens: int = 400, stream: bool = False, max_tokens: int | None = None
    ) -> Ask:
        return Ask(
            prompt=prose(rng=daemon.rng, words=20),
            generation=generate(
                rng=daemon.rng, family="think", reasoning_words=words // 2, answer_words=words
            ),
            prompt_tokens=prompt_tokens,
            stream=stream,
            max_tokens=max_tokens,
        )

    return make


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimConfig(seed=7, scenario="idle", manual_clock=True)) as simulator:
        yield simulator


@pytest.fixture
async def connect(sim: Simulator) -> AsyncIterator[Callable[[str], Client]]:
    clients: list[Client] = []

    def make(path: str) -> Client:
        clients.append(Client(url=sim.url, path=path))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def events(daemon: Daemon) -> Iterator[list[Event]]:
    seen: list[Event] = []
    stop = daemon.watch(seen.append)
    yield seen
    stop()
