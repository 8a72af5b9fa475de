from tests.actions.conftest import start_forge
from tests.system.conftest import start_exporter

__all__ = ["start_exporter", "start_forge"]
