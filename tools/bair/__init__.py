"""Insides of tools/convert_bair.py."""
