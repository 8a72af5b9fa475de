from tests.system.conftest import start_exporter

__all__ = ["start_exporter"]
