"""The report on runs: what is read, computed, drawn and written, for tools/report.py."""
