"""Benchmarks, and the models that they plan."""
