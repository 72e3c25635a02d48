"""Settings of all tests, also of the examples in docstrings."""

import os
import signal
from importlib.util import find_spec

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: no window is opened
# before anything imports torch: for networks this small, threads cost more than they bring
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell that starts the tests in the background lets them ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)

# the example in its docstring needs the callbacks of scikit-learn >= 1.9
collect_ignore = [] if find_spec("sklearn.callback") else ["deepcluster_sk/callbacks.py"]
