"""What recorded frames of another version would cost: told before the upgrade, with the panels and alerts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemonpulse.cli import main
from tests.recorded import FIXTURES

FRAMES = sorted((FIXTURES / "protocol").glob("*.jsonl"))


def against(*files: Path, as_json: bool = False) -> Result:
    flags = [flag for file in files for flag in ("--against", str(file))]
    return CliRunner().invoke(main, ["check", *flags, *(["--json"] if as_json else [])])


def test_the_version_that_was_recorded_loses_nothing() -> None:
    result = against(*FRAMES)
    assert result.exit_code == 0, result.output
    assert "0 metrics would be lost" in result.output
    assert "0 actions would refuse, 0 would not be as today" in result.output
    (unknown,) = [line for line in result.output.splitlines() if line.startswith("not recorded")]
    assert "listLoaded" not in unknown
    assert "searchModels" in unknown


def test_it_needs_no_extra() -> None:
    gone = ("fastapi", "pydantic", "mcp", "jsonschema", "jwt", "grafanalib", "aiohttp", "textual")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({gone!r})); from daemonpulse.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "check", "--against", str(FRAMES[0])],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "0 metrics would be lost" in ended.stdout


def test_a_renamed_field_is_named_with_what_it_costs(tmp_path: Path) -> None:
    text = (FIXTURES / "protocol" / "06-listLoaded.jsonl").read_text()
    newer = tmp_path / "newer.jsonl"
    newer.write_text(
        text.replace('\\"lastUsedTime\\"', '\\"lastUsedAt\\"').replace('\\"ttlMs\\"', '\\"ttl\\"')
    )
    result = against(newer, as_json=True)
    found = json.loads(result.output)
    assert result.exit_code == 1
    lost = {loss["metric"]: loss for loss in found["lost"]}
    assert lost.keys() == {
        "llmster_instance_last_used_timestamp_seconds",
        "llmster_instance_ttl_seconds",
        "llmster_instance_ttl_remaining_seconds",
    }
    assert lost["llmster_instance_ttl_remaining_seconds"]["fields"] == ["listLoaded:ttlMs"]
    assert any(
        panel.startswith("DaemonPulse / Forge")
        for panel in lost["llmster_instance_ttl_remaining_seconds"]["panels"]
    )
    assert "estimateModelUsage" in found["not_recorded"]
    assert found["actions"] == []


def test_a_renamed_field_is_named_with_the_actions_that_refuse_without_it(tmp_path: Path) -> None:
    text = (FIXTURES / "protocol" / "14-system-runtime-repository.jsonl").read_text()
    newer = tmp_path / "newer.jsonl"
    newer.write_text(text.replace('\\"modelKey\\"', '\\"key\\"').replace('\\"pid\\"', '\\"processId\\"'))
    result = against(newer, as_json=True)
    assert result.exit_code == 1
    found = {(one["action"], one["effect"]): one["fields"] for one in json.loads(result.output)["actions"]}
    assert found["load", "daemon-unreadable"] == ["listDownloadedModels:modelKey"]
    assert found["probe", "daemon-unreadable"] == ["listDownloadedModels:modelKey"]
    assert not [action for action, _ in found if action.startswith("eject")]
    said = against(newer).output
    assert "action load: refuses (daemon-unreadable)\n  lacks  listDownloadedModels:modelKey" in said


def recorded_rest(file: Path, request: str, body: str) -> Path:
    """Write a recording of one REST exchange."""
    asked = {"ns": "http", "conn": 1, "dir": "c2s", "op": "request", "data": request}
    answer = {"ns": "http", "conn": 1, "dir": "s2c", "op": "response", "status": 200, "data": body}
    file.write_text(f"{json.dumps(asked)}\n{json.dumps(answer)}\n")
    return file


def test_recorded_rest_answers_and_event_streams_are_read_as_well(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"type": "chat.start"},
        {"type": "chat.end", "result": {"model_instance_id": "m", "statistics": {}}},
    ]
    stream = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
    chat = recorded_rest(tmp_path / "chat", "POST /api/v1/chat", stream)
    status = recorded_rest(tmp_path / "status", "GET /api/v1/models/download/status/job_1", '{"state": "x"}')
    found = json.loads(against(chat, status, as_json=True).output)
    lacking = {one["action"]: one["fields"] for one in found["actions"] if one["fields"]}
    assert lacking["probe"] == ["POST /api/v1/chat:result.stats"]
    assert lacking["download"] == ["GET /api/v1/models/download/status/:status"]
    begun = recorded_rest(tmp_path / "begun", "POST /api/v1/chat", 'data: {"type": "chat.start"}\n\n')
    assert json.loads(against(begun, as_json=True).output)["actions"] == []


def test_a_renamed_event_field_costs_alerts_through_their_recording_rules(tmp_path: Path) -> None:
    text = (FIXTURES / "protocol" / "10-streamLogs.jsonl").read_text()
    newer = tmp_path / "newer.jsonl"
    newer.write_text(text.replace("timeToFirstTokenSec", "ttft"))
    found = json.loads(against(newer, as_json=True).output)
    (ttft,) = [loss for loss in found["lost"] if loss["metric"] == "llmster_time_to_first_token_seconds"]
    assert any("Ttft" in alert or "TTFT" in alert for alert in ttft["alerts"]), ttft


def test_lines_of_the_log_stream_command_are_read_as_well(tmp_path: Path) -> None:
    event = {
        "timestamp": 1786253679000,
        "data": {
            "type": "llm.prediction.output",
            "modelIdentifier": "m",
            "output": "x",
            "stats": {"promptTokens": 3},
        },
    }
    file = tmp_path / "stream.ndjson"
    file.write_text(json.dumps(event) + "\n")
    result = against(file)
    assert result.exit_code == 1
    assert (
        "lost: llmster_prompt_tokens_total\n  lacks  llm.prediction.output:data.stats.promptTokensCount"
        in result.output
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe garbage\n", b"[1,2]\n{}\n", b'{"dir": "s2c", "data": 5}\n']
)
def test_a_file_without_frames_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    result = against(file)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "--against" in result.output
