"""Learning systems: one module for each published system."""
