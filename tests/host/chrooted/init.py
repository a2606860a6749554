"""The first process of a laboratory that one has chrooted into: it waits for the orphans."""

import os
import signal
import time

signal.signal(signal.SIGCHLD, signal.SIG_DFL)
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.05)
