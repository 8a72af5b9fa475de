"""From observations to catalogued samples, one file per subject."""
