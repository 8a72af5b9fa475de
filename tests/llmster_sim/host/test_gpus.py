from llmster_sim.host.gpu_specs import H100_MIG, RTX_4090, specs_of
from llmster_sim.host.gpus import Gpus
from llmster_sim.models.load_config import Split

_GB = 1_000_000_000


def _used(gpus: Gpus) -> list[int]:
    return [gpu.used_bytes for gpu in gpus.all]


def test_even_split_gives_each_gpu_the_same() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    assert gpus.place(pid=1, size_bytes=8 * _GB, split=Split(strategy="evenly"))
    assert _used(gpus) == [4 * _GB, 4 * _GB]


def test_even_split_spills_to_the_gpu_with_room() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    assert gpus.place(pid=1, size_bytes=30 * _GB, split=Split(strategy="evenly"))
    assert sum(_used(gpus)) == 30 * _GB
    assert gpus.all[1].free_bytes == 0


def test_priority_order_fills_the_first_gpu_before_the_next() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    gpus.place(pid=1, size_bytes=5 * _GB, split=Split(strategy="priorityOrder", priority=(1, 0)))
    assert _used(gpus) == [0, 5 * _GB]


def test_custom_ratio_follows_the_given_weights() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    gpus.place(pid=1, size_bytes=4 * _GB, split=Split(strategy="custom", ratio=(3, 1)))
    assert _used(gpus) == [3 * _GB, 1 * _GB]


def test_disabled_gpu_is_never_used() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    gpus.place(pid=1, size_bytes=5 * _GB, split=Split(disabled=(0,)))
    assert _used(gpus) == [0, 5 * _GB]


def test_what_does_not_fit_takes_nothing() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    gpus.add_foreign(pid=9, index=1, size_bytes=2 * _GB)
    assert not gpus.place(pid=1, size_bytes=38 * _GB, split=Split())
    assert _used(gpus) == [0, 2 * _GB]


def test_released_process_leaves_no_memory_behind() -> None:
    gpus = Gpus(specs=specs_of("", 2))
    gpus.place(pid=1, size_bytes=8 * _GB, split=Split())
    gpus.release(1)
    assert _used(gpus) == [0, 0]


def test_gpu_under_load_warms_up_and_draws_more_power_then_cools_down() -> None:
    (gpu,) = Gpus(specs=specs_of("", 1)).all
    cold = gpu.read(0.0)
    gpu.set_load(load=1.0, now_s=0.0)
    warm, hot = gpu.read(30.0), gpu.read(600.0)
    gpu.set_load(load=0.0, now_s=600.0)
    after = gpu.read(2000.0)
    assert cold.temperature_c < warm.temperature_c < hot.temperature_c
    assert after.temperature_c == cold.temperature_c
    assert (cold.power_w, hot.power_w) == (24.0, 450.0)


def test_energy_is_power_over_time_whatever_the_readings() -> None:
    (often,), (seldom,) = (Gpus(specs=(RTX_4090,)).all for _ in range(2))
    for gpu in (often, seldom):
        gpu.set_load(load=1.0, now_s=10.0)
    for second in range(10, 20):
        often.read(float(second))
    assert often.read(20.0).energy_j == seldom.read(20.0).energy_j == 24.0 * 10 + 450.0 * 10


def test_a_gpu_at_full_load_reaches_its_power_limit_and_slows_down_once_it_is_hot() -> None:
    (gpu,) = Gpus(specs=(RTX_4090,)).all
    gpu.set_load(load=1.0, now_s=0.0)
    cold, hot = gpu.read(1.0), gpu.read(900.0)
    assert (cold.hot, hot.hot) == (False, True)
    assert cold.power_capped
    assert hot.clock_mhz < cold.clock_mhz < RTX_4090.clock_mhz
    assert cold.fan < hot.fan


def test_the_host_has_gpus_of_two_vendors_and_a_data_centre_one_where_a_scenario_is_about_it() -> None:
    assert [spec.vendor for spec in specs_of("demo", 2)] == ["nvidia", "amd"]
    assert specs_of("steady+mig", 1) == (H100_MIG,)
    assert specs_of("ecc", 1)[0].has_ecc
    assert specs_of("idle", 0) == ()
