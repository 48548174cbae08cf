"""Speed and accuracy, measured: ``python -m benchmarks`` runs all, ``-m benchmarks.<name>`` one."""

import os

# Before torch is imported: its idle threads sleep instead of spinning, as in the command line.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
