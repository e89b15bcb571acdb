"""Temporal graphs: one module for each published system."""
