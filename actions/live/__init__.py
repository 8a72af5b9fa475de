"""The live view: requests while they run, read from the exporter and passed on to many readers."""
