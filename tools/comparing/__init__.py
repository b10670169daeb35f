"""Insides of tools/compare.py."""
