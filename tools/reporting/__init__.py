"""Insides of tools/report.py."""
