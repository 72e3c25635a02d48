"""Run the command line as ``python -m deepcluster_sk``."""

import sys

from ._cli import main

sys.exit(main())
