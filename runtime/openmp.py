"""How long torch's CPU threads spin while they wait. Import this before torch: GNU OpenMP reads the setting when it is loaded."""

import os

# By default a thread that has finished its share spins for some milliseconds before it sleeps. When other programs run, one
# thread is always late, and the spinning takes the CPU time that it needs: see "Next to other programs" in docs/results.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
