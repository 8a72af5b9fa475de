"""`daemonpulse top`: GPUs, instances and requests of an exporter on one terminal screen."""
