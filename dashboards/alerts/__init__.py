"""Alert rules, one file per subject."""
