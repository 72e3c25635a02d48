"""Settings of all tests, also of the examples in docstrings."""

import os
import signal

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: no window is opened
# before anything imports torch: for networks this small, threads cost more than they bring
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell that starts the tests in the background lets them ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)
