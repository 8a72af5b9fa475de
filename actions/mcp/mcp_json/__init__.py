"""The daemon's mcp.json: adopt its servers, restore it, watch it for drift."""
