"""`memproxy-sol bypass`: one command without the proxy, without any change to the machine."""

from __future__ import annotations

from memproxy_sol import bypass, errors, runner
from memproxy_sol.cli.run import Starter
from memproxy_sol.root import Root


class Bypass(Starter):
    DESCRIPTION = "Runs one command without the proxy; nothing on the machine changes"
    DESCRIPTION_MORE = """
The command, and every program that it starts, does without libmemproxy (Solaris: LD_NOENVCONFIG, or LD_NOCONFIG where
the configuration is beyond use), or has it route all memory to the system allocator (Linux: MEMPROXY_ROUTE). To find
out whether a program misbehaves because of its allocator, that is all it takes; to keep it off the allocator for good,
memproxy-sol exclude add.

On Solaris the other variables of the runtime linker's configuration are out of force, too. On Linux set-user-id and
set-group-id programs do not obey.

The exit status is the command's; 125 if memproxy-sol fails, 126 if the command cannot be started, 127 if there is none.

    memproxy-sol bypass -- /opt/db/bin/dbserver --check
"""
    USAGE = "    {progname} [--] COMMAND [ARGUMENTS...]\n"

    def main(self, *command: str) -> int:
        if not command:
            raise errors.CommandLineError("no command given", hint="see memproxy-sol bypass --help")
        return self.begin(command, {**runner.inherited_environment(), **bypass.environment(Root("/"))})
