"""Point processes: marked events in continuous time."""
