"""Systems about where the past lives: in units, loops, linear states, weights."""
