"""Settings of all tests, also of the examples in docstrings."""

import os

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: no window is opened
