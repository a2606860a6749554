"""`python -m memproxy_sol` is the command `memproxy-sol`."""

import sys

from memproxy_sol.cli import main

sys.exit(main())
