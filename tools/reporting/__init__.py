"""The report on runs, for tools/report.py: reading runs, computing statistics, drawing charts, and writing the page."""
