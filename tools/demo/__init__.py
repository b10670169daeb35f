"""Insides of tools/make_demo_data.py."""
