"""What holds for all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

# A shell that starts the tests in the background makes them, and every process they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads that wait for work in a loop take the cores from the tests beside them, which then last many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What the tests train is not remembered in the configuration of the user who runs them.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

# Nor do decoded images stay in the user's cache. Processes that share the tests share them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["BANGBENCH_CACHE"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["BANGBENCH_CACHE"], ignore_errors=True)
