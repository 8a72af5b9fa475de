"""The LM Studio home: what its files tell, and that nothing in them can do harm."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.llmster import local_files
from exporter.llmster.local_files import LocalPosture, default_home, ports, read_posture
from tests.recorded import published

UNKNOWN = LocalPosture(None, None, None, None, None)


def write(lm_home: Path, relative: str, content: Any) -> Path:
    path = lm_home / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_home_is_in_the_user_s_home_unless_a_pointer_moves_it(tmp_path: Path) -> None:
    assert default_home(tmp_path) == tmp_path / ".lmstudio"

    (tmp_path / ".lmstudio-home-pointer").write_text("/srv/lmstudio\n")
    assert default_home(tmp_path) == Path("/srv/lmstudio")

    (tmp_path / ".lmstudio-home-pointer").write_text(" \n")
    assert default_home(tmp_path) == tmp_path / ".lmstudio"

    (tmp_path / ".lmstudio-home-pointer").write_bytes(b"\xff\xfe")
    assert default_home(tmp_path) == tmp_path / ".lmstudio"


def test_both_ports_of_a_home_are_found(tmp_path: Path) -> None:
    write(tmp_path, ".internal/http-server-config.json", {"port": 1234})
    write(tmp_path, ".internal/http-server.json", {"port": 41343})

    assert ports(tmp_path) == {1234, 41343}


@pytest.mark.parametrize("port", [None, "1234", True, 12.5])
def test_a_port_that_is_no_number_is_no_port(tmp_path: Path, port: object) -> None:
    write(tmp_path, ".internal/http-server-config.json", {"port": port})

    assert ports(tmp_path) == frozenset()


def test_a_published_server_config_is_read(tmp_path: Path) -> None:
    write(tmp_path, ".internal/http-server-config.json", published("http-server-config.json"))
    config = published("http-server-config.json")

    posture = read_posture(tmp_path)

    assert ports(tmp_path) == {config["port"]}
    assert posture.jit_loading is config.get("justInTimeModelLoading")
    assert posture.sensitive_logging is config.get("logSensitiveData")
    assert posture.listens_beyond_loopback is (config["networkInterface"] != "127.0.0.1")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, (None, None, None, None)),
        ({"modelLoadingGuardrails": {"alwaysAllowLoadAnyway": True}}, (True, None, None, None)),
        ({"developer": {"unloadPreviousJITModelOnLoad": True}}, (None, True, None, None)),
        ({"unloadPreviousJITModelOnLoad": False}, (None, False, None, None)),
        ({"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": 600}}}, (None, None, 600, None)),
        ({"developer": {"jitModelTTL": {"enabled": False, "ttlSeconds": 600}}}, (None, None, None, None)),
        ({"developer": {"jitModelTTL": {"enabled": True, "ttlSeconds": True}}}, (None, None, None, None)),
        ({"developer": "odd", "modelLoadingGuardrails": [], "jitModelTTL": 5}, (None, None, None, None)),
        ({"defaultContextLength": {"type": "custom", "value": 4096}}, (None, None, None, 4096)),
        ({"defaultContextLength": {"type": "max", "value": 4096}}, (None, None, None, "max")),
        ({"defaultContextLength": 8192}, (None, None, None, 8192)),
        ({"defaultContextLength": -1}, (None, None, None, None)),
    ],
)
def test_settings_are_read_where_users_files_have_them(
    tmp_path: Path, settings: object, told: tuple[object, ...]
) -> None:
    write(tmp_path, "settings.json", settings)

    posture = read_posture(tmp_path)

    assert (posture.load_anyway, posture.jit_evicts, posture.jit_ttl_s, posture.default_context) == told


@pytest.mark.parametrize(
    ("interface", "beyond"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104 - the point of the test
        ("192.168.1.5", True),
        ("::", True),
        ("eth0", True),
        (None, None),
        (5, None),
    ],
)
def test_only_loopback_interfaces_count_as_loopback(
    tmp_path: Path, interface: object, beyond: object
) -> None:
    write(tmp_path, ".internal/http-server-config.json", {"networkInterface": interface})

    assert read_posture(tmp_path).listens_beyond_loopback is beyond


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_a_flag_that_is_not_true_or_false_is_unknown(tmp_path: Path, value: object) -> None:
    config = {"logSensitiveData": value, "justInTimeModelLoading": value}
    write(tmp_path, ".internal/http-server-config.json", config)

    posture = read_posture(tmp_path)

    assert posture.sensitive_logging is None
    assert posture.jit_loading is None


@pytest.mark.parametrize(
    ("setting", "mode"),
    [
        ({"mode": "high"}, "high"),
        ({"mode": 1}, None),
        ("high", None),
        ({"mode": "x" * 33}, None),
        (None, None),
    ],
)
def test_the_guardrail_mode_is_a_short_word_or_unknown(tmp_path: Path, setting: object, mode: object) -> None:
    write(tmp_path, "settings.json", {"modelLoadingGuardrails": setting})

    assert read_posture(tmp_path).guardrails == mode


def test_the_prompt_history_is_measured_through_its_folders(tmp_path: Path) -> None:
    write(tmp_path, ".internal/api-prediction-history/a.json", "12345")
    write(tmp_path, ".internal/api-prediction-history/2026/b.json", "1234567")
    (tmp_path / ".internal/api-prediction-history/dangling").symlink_to("/nowhere")

    assert read_posture(tmp_path).prompt_history_bytes == 12 + len("/nowhere")


def test_an_empty_history_is_zero_and_none_at_all_is_unknown(tmp_path: Path) -> None:
    assert read_posture(tmp_path).prompt_history_bytes is None

    (tmp_path / ".internal/api-prediction-history").mkdir(parents=True)
    assert read_posture(tmp_path).prompt_history_bytes == 0


def test_an_endless_history_is_measured_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "_MAX_HISTORY_FILES", 3)
    for number in range(5):
        write(tmp_path, f".internal/api-prediction-history/{number}.json", "x")

    assert read_posture(tmp_path).prompt_history_bytes == 3


@pytest.mark.parametrize(
    "where", ["missing", "x" * 300, "with\0nul"], ids=["missing", "name too long", "with a NUL"]
)
def test_a_home_that_cannot_be_opened_tells_nothing(tmp_path: Path, where: str) -> None:
    assert read_posture(tmp_path / where) == UNKNOWN
    assert ports(tmp_path / where) == frozenset()


def test_a_home_closed_to_us_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", closed)

    assert read_posture(tmp_path) == UNKNOWN


@given(st.binary(max_size=200) | st.just(b"[" * 50_000))
def test_no_content_of_the_files_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    lm_home = tmp_path_factory.mktemp("home")
    write(lm_home, "settings.json", "")
    write(lm_home, ".internal/http-server-config.json", "")
    for file in ("settings.json", ".internal/http-server-config.json", ".internal/http-server.json"):
        (lm_home / file).write_bytes(content)

    assert read_posture(lm_home).prompt_history_bytes is None
    assert ports(lm_home) <= {*range(65536)}
