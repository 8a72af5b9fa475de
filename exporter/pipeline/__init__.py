"""Between wire and output: snapshots on demand, log events, pure derivations."""
