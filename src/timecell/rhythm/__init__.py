"""What repeats and what belongs together: periods, frequencies, phases, connectivity over time."""
