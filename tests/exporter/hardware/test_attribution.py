"""Who holds the memory: the evidence in its order, and that the sums are right whatever the evidence."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.hardware.attribution import (
    OTHER,
    Attribution,
    GpuUse,
    Instance,
    InstanceShare,
    ProcessShare,
    ProcessTree,
    attribute,
    is_same_model,
)

DAEMON = 10
QWEN = "lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf"
GEMMA = "google/gemma-3-4b/gemma-3-4b-Q8_0.gguf"
MODELS = "/home/op/.lmstudio/models/"


def tree(engines: dict[int, str | None], parents: dict[int, int] | None = None) -> ProcessTree:
    return ProcessTree(
        daemon_pid=DAEMON,
        parents={pid: (parents or {}).get(pid, DAEMON) for pid in engines},
        model_paths={pid: MODELS + path for pid, path in engines.items() if path},
    )


def shares(attribution: Attribution) -> dict[tuple[int, str], int]:
    return {(one.gpu, one.instance_id): one.memory_bytes for one in attribution.instances}


def test_the_pid_of_the_runtime_log_settles_an_engine() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("a", engine_pid=22), Instance("b", engine_pid=21)],
        tree({21: None, 22: None}),
    )
    assert shares(found) == {(0, "a"): 700, (0, "b"): 500}
    assert (found.unattributed, found.foreign) == ((), ())


def test_what_an_engine_has_started_belongs_to_its_instance() -> None:
    found = attribute(
        [GpuUse(0, 31, 500)],
        [Instance("a", engine_pid=21), Instance("b", engine_pid=22)],
        tree({21: None, 22: None, 30: None, 31: None}, parents={30: 21, 31: 30}),
    )
    assert found.instances == (InstanceShare(0, "a", (ProcessShare(0, 31, None, 500),)),)


def test_the_pid_outweighs_the_command_line() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("qwen", QWEN, engine_pid=22), Instance("gemma", GEMMA)],
        tree({21: QWEN, 22: GEMMA}),
    )
    assert shares(found) == {(0, "qwen"): 700}
    assert [share.pid for share in found.unattributed] == [21]


def test_the_command_line_settles_what_has_no_pid() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700), GpuUse(0, 23, 900)],
        [Instance("qwen", QWEN), Instance("gemma", GEMMA), Instance("third", engine_pid=23)],
        tree({21: QWEN, 22: GEMMA, 23: None}),
    )
    assert shares(found) == {(0, "qwen"): 500, (0, "gemma"): 700, (0, "third"): 900}


def test_two_copies_of_one_model_are_not_guessed_apart() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("qwen", QWEN), Instance("qwen:2", QWEN)],
        tree({21: QWEN, 22: QWEN}),
    )
    assert found.instances == ()
    assert sum(share.memory_bytes for share in found.unattributed) == 1200


def test_one_engine_for_two_copies_of_its_model_is_not_given_to_either() -> None:
    found = attribute(
        [GpuUse(0, 21, 500)], [Instance("qwen", QWEN), Instance("qwen:2", QWEN)], tree({21: QWEN})
    )
    assert found.instances == ()


def test_a_copy_with_a_pid_leaves_its_twin_to_the_command_line() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("qwen", QWEN, engine_pid=21), Instance("qwen:2", QWEN)],
        tree({21: QWEN, 22: QWEN}),
    )
    assert shares(found) == {(0, "qwen"): 500, (0, "qwen:2"): 700}


def test_a_wrapper_and_the_engine_it_runs_are_one_engine() -> None:
    found = attribute(
        [GpuUse(0, 22, 500)], [Instance("qwen", QWEN)], tree({21: QWEN, 22: QWEN}, parents={22: 21})
    )
    assert shares(found) == {(0, "qwen"): 500}


def test_two_engines_with_the_same_file_and_one_instance_are_not_guessed() -> None:
    found = attribute([GpuUse(0, 21, 500)], [Instance("qwen", QWEN)], tree({21: QWEN, 22: QWEN}))
    assert found.instances == ()


def test_the_last_engine_belongs_to_the_last_instance() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("a", engine_pid=21), Instance("b", GEMMA)],
        tree({21: None, 22: None}),
    )
    assert shares(found) == {(0, "a"): 500, (0, "b"): 700}


def test_the_last_engine_may_be_left_by_the_command_lines_of_the_others() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("qwen", QWEN), Instance("b")],
        tree({21: QWEN, 22: None}),
    )
    assert shares(found) == {(0, "qwen"): 500, (0, "b"): 700}


def test_the_last_engine_belongs_to_an_instance_whose_model_is_not_known() -> None:
    found = attribute([GpuUse(0, 21, 500)], [Instance("a")], tree({21: GEMMA}))
    assert shares(found) == {(0, "a"): 500}


def test_the_last_engine_is_refused_when_it_runs_another_model() -> None:
    found = attribute([GpuUse(0, 21, 500)], [Instance("qwen", QWEN)], tree({21: GEMMA}))
    assert found.instances == ()
    assert [share.pid for share in found.unattributed] == [21]


def test_two_unknown_engines_are_not_guessed() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("a"), Instance("b")],
        tree({21: None, 22: None}),
    )
    assert found.instances == ()
    assert [share.memory_bytes for share in found.unattributed] == [500, 700]


def test_memory_of_the_daemon_itself_is_nobodys_and_hides_no_engine() -> None:
    found = attribute([GpuUse(0, DAEMON, 50), GpuUse(0, 21, 500)], [Instance("a")], tree({21: None}))
    assert shares(found) == {(0, "a"): 500}
    assert [share.pid for share in found.unattributed] == [DAEMON]


def test_the_daemons_pid_in_the_runtime_log_does_not_claim_its_children() -> None:
    found = attribute(
        [GpuUse(0, DAEMON, 50), GpuUse(0, 21, 500), GpuUse(0, 22, 600)],
        [Instance("a", engine_pid=DAEMON), Instance("b"), Instance("c")],
        tree({21: None, 22: None}),
    )
    assert shares(found) == {(0, "a"): 50}


def test_an_engine_that_serves_two_instances_is_not_split() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("a", engine_pid=21), Instance("b", engine_pid=21), Instance("c")],
        tree({21: None, 22: None}),
    )
    assert shares(found) == {(0, "c"): 700}
    assert [share.pid for share in found.unattributed] == [21]


def test_a_pid_outside_the_daemons_tree_proves_nothing() -> None:
    found = attribute([GpuUse(0, 99, 500)], [Instance("a", engine_pid=99)], tree({}))
    assert found.instances == ()
    assert [share.pid for share in found.foreign] == [99]


def test_an_instance_whose_pid_is_out_of_date_is_still_found_by_its_command_line() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(0, 22, 700)],
        [Instance("qwen", QWEN, engine_pid=99), Instance("gemma", GEMMA)],
        tree({21: QWEN, 22: GEMMA}),
    )
    assert shares(found) == {(0, "qwen"): 500, (0, "gemma"): 700}


def test_a_model_split_over_gpus_shows_on_each() -> None:
    found = attribute(
        [GpuUse(0, 21, 500), GpuUse(1, 21, 300), GpuUse(3, 21, 200)], [Instance("a")], tree({21: None})
    )
    assert shares(found) == {(0, "a"): 500, (1, "a"): 300, (3, "a"): 200}


def test_memory_in_several_mig_instances_of_a_gpu_is_added() -> None:
    found = attribute([GpuUse(0, 21, 500), GpuUse(0, 21, 300)], [Instance("a")], tree({21: None}))
    assert shares(found) == {(0, "a"): 800}


def test_unknown_memory_is_absent_and_not_zero() -> None:
    found = attribute([GpuUse(0, 21, None)], [Instance("a", engine_pid=21)], tree({21: None}))
    assert found == Attribution((), (), ())


def test_foreign_processes_beyond_the_largest_are_folded() -> None:
    names = {100: "blender", 101: "python3"}
    found = attribute(
        [GpuUse(0, 100 + size, size) for size in range(1, 8)] + [GpuUse(1, 100, 9)],
        [],
        ProcessTree(names={**names, 107: "train"}),
        top_foreign=2,
    )
    assert found.foreign == (
        ProcessShare(0, 107, "train", 7),
        ProcessShare(0, 106, None, 6),
        ProcessShare(0, None, OTHER, 1 + 2 + 3 + 4 + 5),
        ProcessShare(1, 100, "blender", 9),
    )


@pytest.mark.parametrize(
    ("command_line", "model", "same"),
    [
        (MODELS + QWEN, QWEN, True),
        (QWEN, QWEN, True),
        ("C:\\Users\\op\\.lmstudio\\models\\google\\gemma-3-4b\\gemma-3-4b-Q8_0.gguf", GEMMA, True),
        (MODELS + QWEN, "lmstudio-community/Qwen3-8B-GGUF", True),
        (MODELS + QWEN, "Qwen3-8B-Q4", False),
        (MODELS + QWEN, "", False),
        (MODELS + QWEN, "/", False),
        (MODELS + QWEN, None, False),
        (MODELS + "x" + GEMMA, GEMMA, False),
        (MODELS + "odd", " odd", False),
        (MODELS + "odd ", "odd", False),
    ],
)
def test_models_are_the_same_when_whole_parts_of_the_path_agree(
    command_line: str,
    model: str | None,
    same: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    assert is_same_model(command_line, model) is same


PIDS = st.integers(min_value=DAEMON, max_value=DAEMON + 9)
PATHS = st.sampled_from([QWEN, GEMMA, None])
USES = st.lists(st.builds(GpuUse, st.integers(0, 2), PIDS, st.none() | st.integers(0, 1000)), max_size=15)
INSTANCES = st.lists(
    st.builds(Instance, st.sampled_from("abcde"), PATHS, st.none() | PIDS),
    max_size=5,
    unique_by=lambda one: one.instance_id,
)
TREES = st.builds(
    ProcessTree,
    daemon_pid=st.sampled_from([None, DAEMON]),
    parents=st.dictionaries(PIDS, st.none() | PIDS, max_size=8),  # loops and orphans included
    model_paths=st.dictionaries(PIDS, st.sampled_from([MODELS + QWEN, MODELS + GEMMA]), max_size=8),
)


@given(USES, INSTANCES, TREES, st.integers(0, 3))
def test_shares_add_up_to_what_the_processes_hold(
    uses: list[GpuUse], instances: list[Instance], processes: ProcessTree, top: int
) -> None:
    found = attribute(uses, instances, processes, top_foreign=top)
    held: Counter[int] = Counter()
    for use in uses:
        held[use.gpu] += use.memory_bytes or 0
    shared: Counter[int] = Counter()
    for owned in found.instances:
        shared[owned.gpu] += owned.memory_bytes
    for loose in (*found.unattributed, *found.foreign):
        shared[loose.gpu] += loose.memory_bytes
    assert +shared == +held


@given(USES, INSTANCES, TREES)
def test_no_process_is_counted_twice_and_none_is_given_away(
    uses: list[GpuUse], instances: list[Instance], processes: ProcessTree
) -> None:
    found = attribute(uses, instances, processes, top_foreign=100)
    counted = [(share.gpu, process.pid) for share in found.instances for process in share.processes]
    counted += [(loose.gpu, loose.pid) for loose in (*found.unattributed, *found.foreign)]
    assert sorted(counted) == sorted({(use.gpu, use.pid) for use in uses if use.memory_bytes is not None})
    owned = {process.pid for share in found.instances for process in share.processes}
    assert all(pid in processes for pid in owned)
    assert {share.instance_id for share in found.instances} <= {one.instance_id for one in instances}


@given(USES, INSTANCES, TREES)
def test_a_process_has_the_same_owner_on_every_gpu(
    uses: list[GpuUse], instances: list[Instance], processes: ProcessTree
) -> None:
    owners: dict[int | None, str] = {}
    for share in attribute(uses, instances, processes).instances:
        for process in share.processes:
            assert owners.setdefault(process.pid, share.instance_id) == share.instance_id


@given(USES, INSTANCES, TREES)
def test_the_order_of_the_evidence_changes_nothing(
    uses: list[GpuUse], instances: list[Instance], processes: ProcessTree
) -> None:
    assert attribute(uses, instances, processes) == attribute(uses[::-1], instances[::-1], processes)
