"""Comparisons of settings x seeds: their files, processes and runs, for tools/compare.py."""
