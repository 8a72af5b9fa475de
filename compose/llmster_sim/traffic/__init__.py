"""Simulated clients and incidents: the scenarios."""
