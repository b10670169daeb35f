"""Rollouts of trained models, their scores, and the files that a test writes."""
