"""The scenes that tools/make_demo_data.py renders."""
