"""The list of modules to mutate names what is there, and every module that says it is pure."""

from pathlib import Path

from tests.mutation.targets import TARGETS

ROOT = Path(__file__).parents[2]
SHIPPED = ("actions", "compose/daemonpulse", "dashboards", "exporter")


def test_every_module_and_every_test_of_the_list_is_there() -> None:
    named = {name.partition("::")[0] for module, tests in TARGETS.items() for name in (module, *tests)}
    assert not {name for name in named if not (ROOT / name).is_file()}
