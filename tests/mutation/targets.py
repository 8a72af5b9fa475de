"""Says which modules are mutated and which tests are theirs.

Knows nothing of how a mutant is made or run.
"""

from collections.abc import Mapping
from typing import Final

_ACTIONS: Final = "tests/actions/"
_EXPORTER: Final = "tests/exporter/"
_DRM: Final = "tests/exporter/hardware/drm/"
_GATE: Final = "tests/actions/mcp/"
_PIPELINE: Final = "tests/exporter/pipeline/"
_TAP: Final = "tests/exporter/tap/"

# What any output costs to split (test_any_output.py) takes too long to be measured for every mutant.
_ANY_OUTPUT: Final = (
    _PIPELINE + "output/test_any_output.py::test_any_chunking_gives_the_same_segments",
    _PIPELINE + "output/test_any_output.py::test_segments_tile_the_output",
)
_FAMILIES: Final = _PIPELINE + "output/test_model_families.py"

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "actions/domain/actor.py": (_ACTIONS + "domain/test_actor.py",),
    "actions/domain/command.py": (
        _ACTIONS + "domain/test_command.py",
        _ACTIONS + "domain/test_policy.py",
        _ACTIONS + "domain/test_load_options.py",
        _ACTIONS + "domain/test_load_plan.py",
    ),
    "actions/domain/correction.py": (_ACTIONS + "domain/test_correction.py",),
    "actions/domain/errors.py": (_ACTIONS + "domain/test_errors.py",),
    "actions/domain/fit.py": (_ACTIONS + "domain/test_fit.py",),
    "actions/domain/fleet.py": (_ACTIONS + "domain/test_fleet.py",),
    "actions/domain/load_options.py": (
        _ACTIONS + "domain/test_load_options.py",
        _ACTIONS + "domain/test_policy.py",
    ),
    "actions/domain/evidence.py": (_ACTIONS + "domain/test_evidence.py",),
    "actions/domain/load_plan.py": (_ACTIONS + "domain/test_load_plan.py",),
    "actions/domain/policy.py": (_ACTIONS + "domain/test_policy.py",),
    "actions/domain/preflight.py": (_ACTIONS + "domain/test_preflight.py",),
    "actions/domain/rate_limit.py": (_ACTIONS + "domain/test_rate_limit.py",),
    "actions/mcp/identifiers.py": (_GATE + "test_identifiers.py",),
    "actions/mcp/policy/constraints.py": (_GATE + "policy/test_constraints.py",),
    "actions/mcp/policy/json_schema.py": (
        _GATE + "policy/test_json_schema.py",
        _GATE + "policy/test_constraints.py",
    ),
    "actions/mcp/policy/kept.py": (_GATE + "policy/test_kept.py",),
    "actions/mcp/policy/rules.py": (_GATE + "policy/test_rules.py",),
    "actions/mcp/policy/subschemas.py": (
        _GATE + "policy/test_json_schema.py",
        _GATE + "policy/test_constraints.py",
    ),
    "actions/mcp/redaction.py": (_GATE + "test_redaction.py", _GATE + "test_preview.py"),
    "actions/mcp/results.py": (_GATE + "test_results.py",),
    "actions/mcp/session_limits.py": (_GATE + "test_session_limits.py",),
    "actions/mcp/upstream/large_messages.py": (_GATE + "upstream/test_large_messages.py",),
    "actions/mcp/upstream/lenient.py": (_GATE + "upstream/test_lenient.py",),
    "actions/store/sizes.py": (_ACTIONS + "store/test_sizes.py",),
    "compose/daemonpulse/top/cells.py": ("tests/daemonpulse/top/test_cells.py",),
    "compose/daemonpulse/top/model.py": ("tests/daemonpulse/top/test_model.py",),
    "compose/daemonpulse/upgrade.py": ("tests/daemonpulse/test_upgrade.py",),
    "dashboards/alerts/causes.py": ("tests/dashboards/alerts/test_naming.py",),
    "dashboards/alerts/naming.py": ("tests/dashboards/alerts/test_naming.py",),
    "dashboards/kit/choosing.py": ("tests/dashboards/kit/test_choosing.py",),
    "dashboards/kit/promql.py": (
        "tests/dashboards/kit/test_promql.py",
        "tests/dashboards/test_query_results.py",
    ),
    "exporter/hardware/attribution.py": (_EXPORTER + "hardware/test_attribution.py",),
    "exporter/hardware/drm/fdinfo.py": (_DRM + "test_parsing.py", _DRM + "test_processes.py"),
    "exporter/hardware/drm/gpu_metrics.py": (_DRM + "test_parsing.py", _DRM + "test_processes.py"),
    "exporter/hardware/drm/hwmon.py": (_DRM + "test_parsing.py", _DRM + "test_amd.py"),
    "exporter/hardware/drm/processes.py": (_DRM + "test_parsing.py", _DRM + "test_processes.py"),
    "exporter/http/live.py": (_EXPORTER + "http/test_live.py",),
    "exporter/llmster/events.py": (
        _EXPORTER + "llmster/test_event_fields.py",
        _EXPORTER + "llmster/test_events.py",
        _EXPORTER + "llmster/test_recorded_frames.py",
    ),
    "exporter/llmster/lenient.py": (
        _EXPORTER + "llmster/test_lenient.py",
        _EXPORTER + "llmster/test_events.py",
        _EXPORTER + "llmster/test_state.py",
    ),
    "exporter/llmster/load_config.py": (_EXPORTER + "llmster/test_load_config.py",),
    "exporter/llmster/state.py": (_EXPORTER + "llmster/test_state.py",),
    "exporter/llmster/wire/messages.py": (_EXPORTER + "llmster/wire/test_messages.py",),
    "exporter/llmster/wire/protocol.py": (_EXPORTER + "llmster/wire/test_protocol.py",),
    "exporter/pipeline/conversations.py": (_PIPELINE + "test_conversations.py",),
    "exporter/pipeline/energy.py": (_PIPELINE + "test_energy.py",),
    "exporter/pipeline/engine_state.py": (
        _PIPELINE + "test_engine_state.py",
        _PIPELINE + "test_slots.py",
        _PIPELINE + "test_slot_channels.py",
        _PIPELINE + "test_engine_replay.py",
    ),
    "exporter/pipeline/load_events.py": (_PIPELINE + "test_load_events.py",),
    "exporter/pipeline/log_formats/daemon.py": (_PIPELINE + "log_formats/test_daemon.py",),
    "exporter/pipeline/log_formats/plugins.py": (_PIPELINE + "log_formats/test_plugins.py",),
    "exporter/pipeline/log_formats/redaction.py": (_PIPELINE + "log_formats/test_redaction.py",),
    "exporter/pipeline/log_formats/stamps.py": (
        _PIPELINE + "log_formats/test_daemon.py",
        _PIPELINE + "log_formats/test_plugins.py",
    ),
    "exporter/pipeline/line_joiner.py": (
        _PIPELINE + "test_line_joiner.py",
        _PIPELINE + "test_engine_replay.py::test_lines_are_found_wherever_an_event_ends",
    ),
    "exporter/pipeline/output/call_names.py": (
        _PIPELINE + "output/test_call_names.py",
        _PIPELINE + "output/test_families.py",
    ),
    "exporter/pipeline/output/unrecognised.py": (
        _PIPELINE + "output/test_call_names.py",
        _PIPELINE + "output/test_families.py",
    ),
    "exporter/pipeline/output/ending.py": (
        _PIPELINE + "output/test_ending.py",
        _TAP + "test_reader.py",
        _TAP + "test_claims.py",
    ),
    "exporter/pipeline/output/splitter.py": (
        _PIPELINE + "output/test_splitter.py",
        _PIPELINE + "output/test_segments.py",
        _FAMILIES,
        *_ANY_OUTPUT,
    ),
    "exporter/pipeline/pairing.py": (_PIPELINE + "test_pairing.py",),
    "exporter/pipeline/phases.py": (_PIPELINE + "test_predictions.py",),
    "exporter/pipeline/predictions.py": (
        _PIPELINE + "test_predictions.py",
        _PIPELINE + "test_prediction_builder.py",
        _PIPELINE + "test_pairing.py",
        _PIPELINE + "test_conversations.py",
        _PIPELINE + "test_prediction_ids.py",
    ),
    "exporter/pipeline/slot_runs.py": (_PIPELINE + "test_slot_runs.py",),
    "exporter/pipeline/slot_state.py": (_PIPELINE + "test_engine_state.py", _PIPELINE + "test_slots.py"),
    "exporter/pipeline/slots.py": (
        _PIPELINE + "test_slots.py",
        _PIPELINE + "test_slot_channels.py",
        _PIPELINE + "test_crash_lines.py",
        _PIPELINE + "test_engine_replay.py::test_every_launch_in_one_event_is_told_with_its_own_time",
    ),
    "exporter/pipeline/vram.py": (
        _PIPELINE + "test_vram.py",
        _EXPORTER + "hardware/test_attribution.py",
    ),
    "exporter/shared/accept.py": (_EXPORTER + "shared/test_accept.py",),
    "exporter/shared/host_header.py": (_EXPORTER + "shared/test_host_header.py",),
    "exporter/shared/urls.py": (_EXPORTER + "shared/test_urls.py",),
    "exporter/tap/claims.py": (
        _TAP + "test_claims.py",
        _TAP + "test_registry.py",
        _TAP + "test_meter.py",
    ),
    "exporter/tap/clients.py": (_TAP + "test_clients.py",),
    "exporter/tap/formats.py": (_TAP + "test_formats.py",),
    "exporter/tap/merge.py": (_TAP + "test_merge.py",),
    "exporter/tap/meter.py": (_TAP + "test_meter.py", _TAP + "test_formats.py"),
    "exporter/tap/transcript.py": (_TAP + "test_transcript.py",),
    "exporter/tap/wire/sse.py": (_TAP + "wire/test_sse.py",),
    "exporter/tap/wire/websocket.py": (_TAP + "wire/test_websocket.py",),
    "exporter/telemetry/content.py": (
        _EXPORTER + "telemetry/test_content.py",
        _EXPORTER + "telemetry/test_spans.py",
    ),
    "exporter/telemetry/metric_data.py": (
        _EXPORTER + "telemetry/test_metric_data.py",
        _EXPORTER + "telemetry/test_metric_push.py",
    ),
    "exporter/telemetry/otel_env.py": (_EXPORTER + "telemetry/test_otel_env.py",),
}
