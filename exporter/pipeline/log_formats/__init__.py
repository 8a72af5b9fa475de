"""Every wording, stamp and secret shape that is looked for in a log of the daemon or of an engine."""
