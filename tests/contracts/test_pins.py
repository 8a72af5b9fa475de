"""Two installs give the same versions: every package an install with tests brings is pinned."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PINS = ROOT / "compose" / "constraints.txt"
NOT_PINNED = {"pip", "setuptools", "daemonpulse"}


def pinned() -> dict[str, str]:
    """Read the pins by canonical name."""
    pins = dict(line.split("==") for line in PINS.read_text(encoding="utf-8").split())
    return {canonicalize_name(name): version for name, version in pins.items()}


def required(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Return the names an install of `name[extras]` brings, itself included, as the installed metadata says."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    names: set[str] = {canonicalize_name(name)}
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (*extras, "")
        )
        if wanted:
            names |= required(requirement.name, frozenset(requirement.extras), seen)
    return names


def test_every_package_of_an_install_with_tests_is_pinned() -> None:
    missing = required("daemonpulse", frozenset({"test"}), set()) - pinned().keys() - NOT_PINNED
    assert not missing, "renew compose/constraints.txt as docs/CONTRIBUTING.md says"


def test_pins_satisfy_what_pyproject_asks_for() -> None:
    pins = pinned()
    for line in metadata.requires("daemonpulse") or ():
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) != "daemonpulse":
            assert requirement.specifier.contains(Version(pins[canonicalize_name(requirement.name)])), line


def test_what_is_shipped_has_hashes_of_the_versions_that_are_pinned() -> None:
    text = (ROOT / "compose" / "hashes.txt").read_text(encoding="utf-8")
    entries = re.findall(r"(?m)^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text)
    assert text.count("==") == len(entries), "each entry has hashes"
    hashed = {canonicalize_name(name): version for name, version, _ in entries}
    shipped = required("daemonpulse", frozenset({"all"}), set()) - {"daemonpulse"}
    pins = pinned()
    assert hashed == {name: pins[name] for name in shipped}, "renew it as docs/CONTRIBUTING.md says"


def test_both_commands_of_the_readme_use_the_pins() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert all("-c compose/constraints.txt" in command for command in commands)
