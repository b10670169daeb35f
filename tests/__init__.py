"""Tests of every part, on small tensors and rendered data."""
