"""Checks that need a real card; anyone who has one can run them."""
