"""How exposed a daemon is: only what is known, and only from files on this host."""

from exporter.collectors.posture import collect
from exporter.llmster.local_files import LocalPosture
from tests.exporter.collectors.values import collected, one
from tests.exporter.readings import scrape, snapshot, watched


def test_everything_that_is_known_is_told() -> None:
    posture = LocalPosture(
        listens_beyond_loopback=True,
        sensitive_logging=False,
        jit_loading=True,
        guardrails="high",
        prompt_history_bytes=123,
        cors=False,
        log_incoming_tokens=True,
        load_anyway=True,
        jit_evicts=False,
        jit_ttl_s=600,
    )

    samples = collected(collect, scrape(watched(snapshot(auth_required=False), posture=posture)))

    assert {name: one(samples, name)[1] for name in samples} == {
        "llmster_config_listens_beyond_loopback": 1,
        "llmster_config_auth_required": 0,
        "llmster_config_sensitive_logging": 0,
        "llmster_config_jit_loading": 1,
        "llmster_config_guardrails": 1,
        "llmster_prompt_history_bytes": 123,
        "llmster_config_cors": 0,
        "llmster_config_log_incoming_tokens": 1,
        "llmster_config_always_allow_load_anyway": 1,
        "llmster_config_jit_evicts": 0,
        "llmster_config_jit_ttl_seconds": 600,
    }
    assert one(samples, "llmster_config_guardrails")[0]["mode"] == "high"


def test_what_is_not_known_is_absent_and_never_off() -> None:
    nothing = LocalPosture(None, None, None, None, None)

    assert collected(collect, scrape(watched(snapshot(), posture=nothing))) == {}
    assert collected(collect, scrape(watched())) == {}


def test_a_remote_daemon_has_authentication_only() -> None:
    samples = collected(collect, scrape(watched(snapshot(auth_required=True), posture=None)))

    assert {name: one(samples, name)[1] for name in samples} == {"llmster_config_auth_required": 1}
