"""The simulated daemon's REST side."""
