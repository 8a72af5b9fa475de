"""The MCP gate's policy: rules, constraints on arguments, the policy file, overrides set through the API."""
