"""Twenty mistakes: a type checker must find an error in each line that says so."""
from __future__ import annotations

import cnproc
from cnproc import Exec, Exit, Fork, Watcher, What

Exit(pidd=3)                                            # mistake 1
Fork(pid="3")                                           # mistake 2
Exec(cmdline="true")                                    # mistake 3
cnproc.Comm(comm=b"name")                               # mistake 4
cnproc.watch([1, 2])                                    # mistake 5
cnproc.watch(1, events="exec")                          # mistake 6
cnproc.watch(1, follows=True)                           # mistake 7
cnproc.watch(1, timeout="1")                            # mistake 8
cnproc.wait("1")                                        # mistake 9
cnproc.wait(1) + 1                                      # mistake 10
cnproc.run(["true"], event=What.EXEC).returncode        # mistake 11
Watcher(rcvbuf="big")                                   # mistake 12
Watcher().watch(1, What.EXECUTE)                        # mistake 13
Watcher().read(1).pid                                   # mistake 14
Watcher().pids.add(1)                                   # mistake 15
Watcher().lost.count                                    # mistake 16
for event in cnproc.watch(1):
    event.cmdline                                       # mistake 17
    if isinstance(event, Exit):
        event.returncode + 1                            # mistake 18
        event.exitcode                                  # mistake 19

cnproc.Tree(keeps=True)                                 # mistake 21
cnproc.Tree().add(5)                                    # mistake 22
cnproc.Tree().roots.pid                                 # mistake 23


async def wait() -> int:
    return await cnproc.wait_async(1)                   # mistake 20
