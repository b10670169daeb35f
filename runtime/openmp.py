"""The time that torch's CPU threads spin while waiting. Import this before torch: GNU OpenMP reads the setting when it loads."""

import os

# By default, a thread that has finished its share spins for some milliseconds before it sleeps. When other programs run, one
# thread is always late, and the spinning takes the CPU time that this thread needs. Measurements are in docs/results.md, "Next
# to other programs".
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
