"""Folders of images, actions and poses become clips and sequences."""
