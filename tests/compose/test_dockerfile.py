"""The image by its recipe, as far as it can be told without building it."""

import re
import shlex
from pathlib import Path

COMPOSE = Path(__file__).parents[2] / "compose"
TEXT = (COMPOSE / "Dockerfile").read_text(encoding="utf-8")
LINES = [
    line
    for line in re.sub(r"\\\n", " ", TEXT).splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]
STARTS = [number for number, line in enumerate(LINES) if line.startswith("FROM ")]
ARGUMENTS, BUILD, RUN, FINAL = (
    LINES[start:end] for start, end in zip([0, *STARTS], [*STARTS, None], strict=True)
)


def copied(stage: list[str]) -> list[str]:
    return [line for line in stage if line.startswith(("COPY", "ADD"))]


def test_what_builds_stays_in_a_stage_of_its_own() -> None:
    assert copied(RUN) == ["COPY --from=build /opt/daemonpulse /opt/daemonpulse"]
    assert not any(word in " ".join(RUN) for word in ("pip install", "apt-get", "gcc", "curl"))
    removed = " ".join(RUN)
    assert "rm -rf site-packages/* ensurepip" in removed, "pip of the base image goes"
    assert (FINAL[0], copied(FINAL)) == ("FROM scratch", ["COPY --from=run / /"]), "and is in no layer below"
    assert "/opt/daemonpulse/bin:/usr/local/bin:/usr/bin:/bin" in " ".join(FINAL), "scratch has no PATH"


def test_the_environment_is_made_without_pip_and_with_the_pins() -> None:
    build = " ".join(LINES)
    assert "venv --without-pip" in build
    assert "-c compose/constraints.txt" in build


def test_the_image_runs_as_a_user_of_its_own_from_its_last_instructions_on() -> None:
    kinds = [line.split()[0] for line in FINAL]
    assert "USER 10001:10001" in FINAL
    assert not {"RUN", "COPY", "ADD"} & set(kinds[kinds.index("USER") :])


def test_the_image_says_whether_it_is_well() -> None:
    [check] = [line for line in FINAL if line.startswith("HEALTHCHECK")]
    assert check.endswith('CMD ["daemonpulse", "healthcheck"]'), "it reads the settings of the service"


def test_the_base_is_a_minor_version_that_receives_fixes() -> None:
    assert re.search(r"(?m)^ARG PYTHON=python:3\.11-slim-bookworm$", TEXT)
    assert {BUILD[0].split()[1], RUN[0].split()[1]} == {"${PYTHON}"}
    assert "ARG EXTRAS=actions,sim" in ARGUMENTS
    assert "ARG EXTRAS" in BUILD, (
        "an argument before the first stage is unknown in one that does not repeat it"
    )


def test_every_file_the_build_copies_is_let_through_and_secrets_are_not() -> None:
    ignored = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    for line in LINES:
        if line.startswith("COPY ") and "--from" not in line:
            for source in shlex.split(line)[1:-1]:
                assert f"!{source}" in ignored
                assert (COMPOSE.parent / source).exists()
    assert {"compose/.env", "compose/secrets"} <= set(ignored[ignored.index("!compose") :])


def test_byte_code_is_made_at_build_so_that_no_start_has_to() -> None:
    assert "compileall -q --invalidation-mode unchecked-hash" in " ".join(LINES)
