"""The actions API (not built yet)."""
