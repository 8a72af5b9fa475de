"""The whole exporter over HTTP, against the simulator and real programs."""
