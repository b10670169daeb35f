"""Plots, filmstrips, GIFs and mp4 files."""
