"""Laboratory: a scratch Solaris in which the change runs end to end, and in which a brick is a brick.

It imports nothing of the package under test and reads no recording at run time: it is written from the reference
pages, and test_laboratory_*.py hold it to the recordings. Standard library only.
"""

from tests.host.laboratory.system import Bricked, Fault, Laboratory, Process, Program, Result

__all__ = ["Bricked", "Fault", "Laboratory", "Process", "Program", "Result"]
