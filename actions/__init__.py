"""The Forge: commands for daemons over HTTP. Every one is authorised, decided, audited, then done, then verified."""
