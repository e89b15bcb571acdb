"""Whole small networks that several systems share."""
