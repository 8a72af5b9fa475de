from llmster_sim.host.gpus import Cards
from llmster_sim.models.load_config import Split

_GB = 1_000_000_000


def _used(cards: Cards) -> list[int]:
    return [card.used_bytes for card in cards.all]


def test_even_split_gives_each_card_the_same() -> None:
    cards = Cards(count=2)
    assert cards.place(pid=1, size_bytes=8 * _GB, split=Split(strategy="evenly"))
    assert _used(cards) == [4 * _GB, 4 * _GB]


def test_even_split_spills_to_the_card_with_room() -> None:
    cards = Cards(count=2)
    assert cards.place(pid=1, size_bytes=30 * _GB, split=Split(strategy="evenly"))
    assert sum(_used(cards)) == 30 * _GB
    assert cards.all[1].free_bytes == 0


def test_priority_order_fills_the_first_card_before_the_next() -> None:
    cards = Cards(count=2)
    cards.place(pid=1, size_bytes=5 * _GB, split=Split(strategy="priorityOrder", priority=(1, 0)))
    assert _used(cards) == [0, 5 * _GB]


def test_custom_ratio_follows_the_given_weights() -> None:
    cards = Cards(count=2)
    cards.place(pid=1, size_bytes=4 * _GB, split=Split(strategy="custom", ratio=(3, 1)))
    assert _used(cards) == [3 * _GB, 1 * _GB]


def test_disabled_card_is_never_used() -> None:
    cards = Cards(count=2)
    cards.place(pid=1, size_bytes=5 * _GB, split=Split(disabled=(0,)))
    assert _used(cards) == [0, 5 * _GB]


def test_what_does_not_fit_takes_nothing() -> None:
    cards = Cards(count=2)
    cards.add_foreign(pid=9, index=1, size_bytes=2 * _GB)
    assert not cards.place(pid=1, size_bytes=38 * _GB, split=Split())
    assert _used(cards) == [0, 2 * _GB]


def test_released_process_leaves_no_memory_behind() -> None:
    cards = Cards(count=2)
    cards.place(pid=1, size_bytes=8 * _GB, split=Split())
    cards.release(1)
    assert _used(cards) == [0, 0]


def test_card_under_load_warms_up_and_draws_more_power_then_cools_down() -> None:
    (card,) = Cards(count=1).all
    cold = card.read(0.0)
    card.set_load(load=1.0, now_s=0.0)
    warm, hot = card.read(30.0), card.read(600.0)
    card.set_load(load=0.0, now_s=600.0)
    after = card.read(2000.0)
    assert cold.temperature_c < warm.temperature_c < hot.temperature_c
    assert after.temperature_c == cold.temperature_c
    assert (cold.power_w, hot.power_w) == (24.0, 450.0)
