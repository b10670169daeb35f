"""How torch's threads on a CPU wait for each other; imported before torch, whose GNU OpenMP asks once, when it is loaded."""

import os

# A thread that has done its part spins until the others have, some milliseconds, before it sleeps. Where any other program runs,
# there is always one that is late, and the spinning takes the time that it needs: see "Next to other programs" in
# docs/results.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
