"""Pure types and decisions of the actions API: actor, command, policy, pre-flight, errors."""
