"""The daemon's WebSocket protocol: frames, the sans-I/O state machine, and the sockets that drive it."""
