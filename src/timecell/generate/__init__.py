"""Processes that make data: point processes that can be fitted and sampled."""
