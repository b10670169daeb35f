"""Measurements of quality, speed and memory, one program each."""
