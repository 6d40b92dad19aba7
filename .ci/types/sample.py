"""What a program that uses cnproc looks like to a type checker: no errors under --strict."""
from __future__ import annotations

import subprocess
import sys

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

import cnproc
from cnproc import What


def describe(event: cnproc.Event) -> str:
    match event:
        case cnproc.Fork(pid=pid, parent_pid=parent):
            return f"{parent} forked {pid}"
        case cnproc.Exec(pid=pid, cmdline=words):
            return f"{pid} runs {' '.join(words) if words is not None else '?'}"
        case cnproc.Exit(pid=pid, returncode=int(code)):
            return f"{pid} ended with {code}"
        case cnproc.Exit(pid=pid):
            return f"{pid} ended"
        case cnproc.Uid(euid=number) | cnproc.Gid(egid=number):
            return f"{event.pid} is {number} now"
        case cnproc.Sid():
            return f"{event.pid} leads a session"
        case cnproc.Ptrace(tracer_pid=tracer):
            return f"{event.pid} is traced by {tracer}"
        case cnproc.Comm(comm=name):
            return f"{event.pid} is {name} now"
        case cnproc.Coredump():
            return f"{event.pid} dumps core"
        case cnproc.Lost(count=count):
            return f"{'some' if count is None else count + 0} lost"
        case _:
            assert_never(event)


def everything() -> int | None:
    with cnproc.Watcher(threads=False, rcvbuf=1 << 20, delay=0.1) as watcher:
        process: subprocess.Popen[str] = watcher.popen(["true"], What.FORK | What.EXIT, text=True)
        watcher.watch(process.pid, follow=False)
        first = watcher.read(timeout=1)
        if first is not None:
            describe(first)
        for event in watcher:
            if isinstance(event, cnproc.Exit):
                code: int | None = event.returncode
                watcher.unwatch(event.pid)
                print(code, event.asdict()["pid"])
                break
        pids: frozenset[int] = watcher.pids
        names: dict[cnproc.Event, str] = {cnproc.Exit(cnproc.What.EXIT, pid=3): "by value"}
        print(names)
        print(pids, watcher.lost + 1, watcher.source.upper(), watcher.source_error, watcher.fileno())
    tree = cnproc.Tree()
    for event in cnproc.run(["make"], events=What.EXEC, timeout=5, cwd="/"):
        describe(event)
        found: cnproc.Process | None = tree.add(event)
        print(found and found.name.upper())
    for one in tree:
        parent: cnproc.Process | None = one.parent
        programs: list[cnproc.Program] = one.programs
        print(parent, [program.cmdline for program in programs], one.exit and one.exit.cpu_ns, one.children)
    print([leaf.command + str(leaf.returncode) for leaf in tree.failures()], tree.roots, tree.known[1].failed)
    return cnproc.wait(1, timeout=0.5)


async def later() -> int | None:
    async for event in cnproc.watch_async(1, 2, events=What.LIFE, timeout=1):
        describe(event)
    async for event in cnproc.Watcher():
        describe(event)
    return await cnproc.wait_async(1, 2.5)
