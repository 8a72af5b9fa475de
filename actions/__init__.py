"""The actions API: commands for daemons over HTTP, each authorised, decided, audited, run and verified."""
