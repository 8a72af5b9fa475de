"""The simulated daemon's WebSocket side: envelopes, namespaces, faults."""
