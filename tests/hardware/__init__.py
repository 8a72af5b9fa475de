"""Checks that need a real GPU; anyone who has one can run them."""
