"""Cuts a copy of the bytes into messages: HTTP/1.1, server-sent events, WebSocket frames. Sans-I/O."""
