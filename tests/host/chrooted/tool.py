"""memproxy-sol as the laboratory's Python would run it: its own path, and the kernel's name, are Solaris'."""

import os
import runpy
import sys

sys.path[:0] = ["/laboratory/checkout", "/laboratory/site"]
sys.executable = "/usr/bin/python3"
sys.argv[0] = "/usr/local/bin/memproxy-sol"
os.uname = lambda: os.uname_result(("SunOS", "laboratory", "5.11", "illumos-2b73ed1c58", "i86pc"))
runpy.run_module("memproxy_sol", run_name="__main__", alter_sys=True)
