from llmster_sim.host.gpu_specs import H100_MIG, RTX_4090, specs_of
from llmster_sim.host.gpus import Cards
from llmster_sim.models.load_config import Split

_GB = 1_000_000_000


def _used(cards: Cards) -> list[int]:
    return [card.used_bytes for card in cards.all]


def test_even_split_gives_each_card_the_same() -> None:
    cards = Cards(specs=specs_of("", 2))
    assert cards.place(pid=1, size_bytes=8 * _GB, split=Split(strategy="evenly"))
    assert _used(cards) == [4 * _GB, 4 * _GB]


def test_even_split_spills_to_the_card_with_room() -> None:
    cards = Cards(specs=specs_of("", 2))
    assert cards.place(pid=1, size_bytes=30 * _GB, split=Split(strategy="evenly"))
    assert sum(_used(cards)) == 30 * _GB
    assert cards.all[1].free_bytes == 0


def test_priority_order_fills_the_first_card_before_the_next() -> None:
    cards = Cards(specs=specs_of("", 2))
    cards.place(pid=1, size_bytes=5 * _GB, split=Split(strategy="priorityOrder", priority=(1, 0)))
    assert _used(cards) == [0, 5 * _GB]


def test_custom_ratio_follows_the_given_weights() -> None:
    cards = Cards(specs=specs_of("", 2))
    cards.place(pid=1, size_bytes=4 * _GB, split=Split(strategy="custom", ratio=(3, 1)))
    assert _used(cards) == [3 * _GB, 1 * _GB]


def test_disabled_card_is_never_used() -> None:
    cards = Cards(specs=specs_of("", 2))
    cards.place(pid=1, size_bytes=5 * _GB, split=Split(disabled=(0,)))
    assert _used(cards) == [0, 5 * _GB]


def test_what_does_not_fit_takes_nothing() -> None:
    cards = Cards(specs=specs_of("", 2))
    cards.add_foreign(pid=9, index=1, size_bytes=2 * _GB)
    assert not cards.place(pid=1, size_bytes=38 * _GB, split=Split())
    assert _used(cards) == [0, 2 * _GB]


def test_released_process_leaves_no_memory_behind() -> None:
    cards = Cards(specs=specs_of("", 2))
    cards.place(pid=1, size_bytes=8 * _GB, split=Split())
    cards.release(1)
    assert _used(cards) == [0, 0]


def test_card_under_load_warms_up_and_draws_more_power_then_cools_down() -> None:
    (card,) = Cards(specs=specs_of("", 1)).all
    cold = card.read(0.0)
    card.set_load(load=1.0, now_s=0.0)
    warm, hot = card.read(30.0), card.read(600.0)
    card.set_load(load=0.0, now_s=600.0)
    after = card.read(2000.0)
    assert cold.temperature_c < warm.temperature_c < hot.temperature_c
    assert after.temperature_c == cold.temperature_c
    assert (cold.power_w, hot.power_w) == (24.0, 450.0)


def test_energy_is_power_over_time_whatever_the_readings() -> None:
    (often,), (seldom,) = (Cards(specs=(RTX_4090,)).all for _ in range(2))
    for card in (often, seldom):
        card.set_load(load=1.0, now_s=10.0)
    for second in range(10, 20):
        often.read(float(second))
    assert often.read(20.0).energy_j == seldom.read(20.0).energy_j == 24.0 * 10 + 450.0 * 10


def test_a_card_at_full_load_reaches_its_power_limit_and_slows_down_once_it_is_hot() -> None:
    (card,) = Cards(specs=(RTX_4090,)).all
    card.set_load(load=1.0, now_s=0.0)
    cold, hot = card.read(1.0), card.read(900.0)
    assert (cold.hot, hot.hot) == (False, True)
    assert cold.power_capped
    assert hot.clock_mhz < cold.clock_mhz < RTX_4090.clock_mhz
    assert cold.fan < hot.fan


def test_the_host_has_gpus_of_two_vendors_and_a_data_centre_one_where_a_scenario_is_about_it() -> None:
    assert [spec.vendor for spec in specs_of("demo", 2)] == ["nvidia", "amd"]
    assert specs_of("steady+mig", 1) == (H100_MIG,)
    assert specs_of("ecc", 1)[0].has_ecc
    assert specs_of("idle", 0) == ()
