"""Every metric of the catalogue is drawn on a board, or is on a list with the reason. The list can only shrink."""

from tests.dashboards.asked import (
    BY_NAME,
    NAMES,
    board,
    board_queries,
    catalogued,
    chosen,
    rules,
    substituted,
    variables,
)

NOT_DRAWN = {
    "llmster_prompt_cache_hit_ratio": "a mean since the engine started; boards draw the ratio of the range",
    "gpu_last_xid": "for rules under DCGM's names; boards draw the XIDs of the range",
    "gpu_mig_enabled": "the table of MIG instances says the same of each partition",
    "process_virtual_memory_bytes": "says nothing of what a process takes; resident memory is drawn",
}


def drawn() -> set[str]:
    """List the metrics that boards read: in panels, annotations, variables, and through recording rules."""
    found = {metric for name in NAMES for asked in board_queries(name) for metric in asked.metrics}
    for name in NAMES:
        data = board(name)
        for variable in variables(data).values():
            if variable["type"] == "query":
                found |= catalogued(substituted(variable["query"]["query"], chosen(data)))
    asked = " ".join(one.promql for name in NAMES for one in board_queries(name))
    for rule in rules():
        if rule.get("record", "\n") in asked:
            found |= catalogued(rule["expr"])
    return found


def test_every_metric_is_drawn_or_has_a_reason_not_to_be() -> None:
    assert BY_NAME.keys() - drawn() == NOT_DRAWN.keys()
