"""Mutation tests of the pure modules: change the code one place at a time and see whether its own tests notice."""
