from tests.actions.conftest import forge, sim, start_forge
from tests.system.conftest import start_exporter

__all__ = ["forge", "sim", "start_exporter", "start_forge"]
