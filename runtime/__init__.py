"""The machine: command line, devices, processes, files, signals."""
