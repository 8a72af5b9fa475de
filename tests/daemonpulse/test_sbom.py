"""The list of what a release consists of: complete, pinned, and valid by CycloneDX' own schema."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.utils import canonicalize_name
from referencing import Registry
from referencing.jsonschema import DRAFT7

from tests.contracts.test_pins import pinned, required

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text(encoding="utf-8")
SHIPPED = required("daemonpulse", frozenset({"all"}), set())


def command(text: str) -> list[str]:
    """Find the line that makes the list."""
    [found] = re.findall(r"(?m)^(?: && )?(cyclonedx-py environment .*)$", text)
    return shlex.split(found)


def of(words: list[str], folder: str) -> list[str]:
    """Leave out where the list goes and what it is made of."""
    return [word for word in words if not word.startswith(folder)]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the line of docs/CONTRIBUTING.md on an environment with the packages of a release; none is fetched."""
    folder = tmp_path_factory.mktemp("released")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [site] = (folder / "venv").glob("lib/python3*/site-packages")
    for information in Path(sysconfig.get_path("purelib")).glob("*.dist-info"):
        if canonicalize_name(metadata.Distribution.at(information).name) in SHIPPED:
            shutil.copytree(information, site / information.name)
    words = [word.replace("dist/released", str(folder / "venv")) for word in command(CONTRIBUTING)]
    words = [word.replace("dist/daemonpulse.cdx.json", str(folder / "sbom.json")) for word in words]
    # Its own check takes 12 s, because it also looks at the form of each address; the test below looks at the rest.
    made = subprocess.run(
        [Path(sys.executable).parent / words[0], words[1], "--no-validate", *words[2:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads((folder / "sbom.json").read_text(encoding="utf-8"))
    return found


def test_it_lists_every_package_of_a_release_with_its_pin_and_no_test_tool(listed: dict[str, Any]) -> None:
    packages = {canonicalize_name(one["name"]): one["version"] for one in listed["components"]}
    assert packages.keys() == SHIPPED - {"daemonpulse"}
    pins = pinned()
    assert packages == {name: pins[name] for name in packages}
    assert "pytest" not in packages


def test_it_names_the_release_and_what_that_asks_for_itself(listed: dict[str, Any]) -> None:
    release = listed["metadata"]["component"]
    assert (release["name"], release["version"]) == ("daemonpulse", metadata.version("daemonpulse"))
    [own] = [one for one in listed["dependencies"] if one["ref"] == release["bom-ref"]]
    assert f"websockets=={metadata.version('websockets')}" in own["dependsOn"]


def test_it_is_valid_by_the_schema_and_the_schema_refuses_a_wrong_one(listed: dict[str, Any]) -> None:
    schemas = Path(str(metadata.distribution("cyclonedx-python-lib").locate_file("cyclonedx/schema/_res")))

    def schema(name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((schemas / f"{name}.SNAPSHOT.schema.json").read_text("utf-8"))
        return read

    parts = {f"{name}.SNAPSHOT.schema.json": schema(name) for name in ("spdx", "jsf-0.82")}
    registry = Registry[Any]().with_resources(
        [(name, DRAFT7.create_resource(part)) for name, part in parts.items()]
    )
    # Without its address, what the schema refers to is looked for beside it, and nothing is fetched.
    own = {key: value for key, value in schema(f"bom-{listed['specVersion']}").items() if key != "$id"}
    validator = jsonschema.Draft7Validator(own, registry=registry)
    assert list(validator.iter_errors(listed)) == []
    assert list(validator.iter_errors(listed | {"components": [{"type": "librarian", "name": "x"}]}))


def test_it_says_nothing_of_the_host_it_was_made_on(listed: dict[str, Any]) -> None:
    assert "file://" not in json.dumps(listed)
    assert str(Path.home()) not in json.dumps(listed)


def test_the_image_makes_its_own_list_the_same_way() -> None:
    assert of(command(DOCKERFILE), "/opt/daemonpulse/") == of(command(CONTRIBUTING), "dist/")
    assert command(DOCKERFILE)[-1] == "/opt/daemonpulse/bin/python"
