"""Neural recordings: one module for each published system."""
