"""Tests of cnproc on the kernel that runs them: real children, threads, signals and namespaces, no fake kernel.

    python3 test_cnproc.py [-v] [CLASS[.TEST]]

Where the kernel does not let this process listen, the live tests are skipped, with its reason. The first line says
which source this process gets: ebpf, netlink or none. Where it is ebpf, the "...Datagram" classes run the tests again
with netlink. In the environment, CNPROC_SOAK=1 makes the storms five times as large, and CNPROC_EMULATED=1 smaller, for
a machine that is emulated; CNPROC_ICOUNT=1 says that this one's clock counts instructions. CNPROC_SOURCES=1 has the
command's tests run over netlink and ptrace, too.
"""
# The tests look behind what begins with _, too:
# pyright: reportPrivateUsage=false
from __future__ import annotations

import _socket
import ast
import asyncio
import base64
import collections
import collections.abc
import contextlib
import copy
import ctypes
import errno
import faulthandler
import fcntl
import functools
import gc
import gzip
import hashlib
import inspect
import io
import json
import os
import pathlib
import pickle
import pwd
import py_compile
import pydoc
import random
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import threading
import time
import types
import typing
import unittest
import unittest.mock
import warnings
import zipapp
import zipfile
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import IO, Any

import cnproc
from cnproc import Comm, Coredump, Exec, Exit, Fork, Gid, Lost, Ptrace, Sid, Uid, What

HERE = pathlib.Path(__file__).resolve().parent
EMULATED = os.environ.get("CNPROC_EMULATED") == "1"
SOAK = os.environ.get("CNPROC_SOAK") == "1"
PATIENCE = 120 if EMULATED else 30  # seconds after which an expected event counts as missing
TRUE = shutil.which("true") or "true"
RELEASE = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def source_or_refusal() -> tuple[str, str]:
    """The source that this process gets, or why it gets none."""
    try:
        with cnproc.Watcher() as watcher:
            return watcher.source, ""
    except OSError as refusal:
        return "none", f"the kernel does not let this process listen: {refusal.strerror}"


SOURCE, REFUSED = source_or_refusal()
PYTHON = sys.executable, "-S"  # without the site module, which can take longer than all that a test does
REALLY_HAS_STATUS = cnproc._pidfd_has_status
live = unittest.skipIf(REFUSED, REFUSED)
root = unittest.skipUnless(os.geteuid() == 0, "takes root")
pure = unittest.skipIf(EMULATED and os.uname().machine == "x86_64", "it is the same on every kernel")
once = unittest.skipIf(EMULATED and os.geteuid() != 0, "one user is enough where the processor is emulated")


def scale(number: int) -> int:
    """How often to do something: number in a soak, a fifth of it otherwise, a twentieth on an emulated machine."""
    return number // (20 if EMULATED else 1 if SOAK else 5)


def eventually(condition: Callable[[], Any]) -> Any:
    """Poll until the condition holds; its result."""
    deadline, pause = time.monotonic() + PATIENCE, 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)


def datagram(what: int, *payload: int, cpu: int = 3, stamp: int = 123456789, seq: int = 7) -> bytes:
    """A process event as the kernel sends it, packed without the module's help."""
    body = struct.pack("=IIQ", what, cpu, stamp) + struct.pack(f"={len(payload)}I", *(n & 0xFFFFFFFF for n in payload))
    body = body.ljust(40, b"\0")
    return struct.pack("=IHHII", 76, 3, 0, seq, 0) + struct.pack("=IIIIHH", 1, 1, seq, 0, 40, 0) + body


def decode(data: bytes | bytearray) -> list[Any]:
    return list(cnproc._decode(bytearray(data), 0, len(data)))


@pure
class Layout(unittest.TestCase):
    """What stands where, on any machine."""

    def test_structs_are_as_long_as_the_kernels(self) -> None:
        sizes: dict[Any, int] = {
            cnproc._nlmsghdr: 16, cnproc._cn_msg: 20, cnproc._sockaddr_nl: 12, cnproc._sock_filter: 8,
            cnproc._request: 40, Fork: 32, Exec: 24, Uid: 32, Gid: 32, Sid: 24, Ptrace: 32, Comm: 40,
            Coredump: 32}
        self.assertEqual({kind: ctypes.sizeof(kind) for kind in sizes}, sizes)
        self.assertEqual(cnproc._EVENT_SIZE, 40)  # an Exit has its cost behind that

    def test_kinds_have_the_kernels_values(self) -> None:
        values = dict(NONE=0, FORK=1, EXEC=2, UID=4, GID=0x40, SID=0x80, PTRACE=0x100, COMM=0x200,
                      NONZERO_EXIT=0x20000000, COREDUMP=0x40000000, EXIT=0x80000000, LIFE=0x80000003, ALL=0xE00003C7)
        self.assertEqual({name: int(What[name]) for name in values}, values)

    def test_each_kind_is_decoded_from_its_own_fields(self) -> None:
        comm = struct.unpack("=4I", b"worker\0rest-of-i")
        for data, kind, fields in (
            (datagram(1, 10, 11, 12, 13), Fork, dict(parent_tid=10, parent_pid=11, tid=12, pid=13)),
            (datagram(2, 10, 11), Exec, dict(tid=10, pid=11)),
            (datagram(4, 10, 11, 1000, 4294967294), Uid, dict(tid=10, pid=11, ruid=1000, euid=4294967294)),
            (datagram(0x40, 10, 11, 5, 6), Gid, dict(tid=10, pid=11, rgid=5, egid=6)),
            (datagram(0x80, 10, 11), Sid, dict(tid=10, pid=11)),
            (datagram(0x100, 10, 11, 12, 13), Ptrace, dict(tid=10, pid=11, tracer_tid=12, tracer_pid=13)),
            (datagram(0x200, 10, 11, *comm), Comm, dict(tid=10, pid=11, comm="worker")),
            (datagram(0x40000000, 10, 11, 12, 13), Coredump, dict(tid=10, pid=11, parent_tid=12, parent_pid=13)),
            (datagram(0x80000000, 10, 11, 0x300, 17, 12, 13), Exit,
             dict(tid=10, pid=11, exit_code=0x300, exit_signal=17, parent_tid=12, parent_pid=13, returncode=3)),
        ):
            with self.subTest(kind.__name__):
                event, = decode(data)
                self.assertEqual(kinds([event]), [kind])
                fields.update(cpu=3, timestamp_ns=123456789, rebuilt=False)
                self.assertEqual({name: getattr(event, name) for name in fields}, fields)

    def test_several_messages_in_a_datagram_all_count(self) -> None:
        data = datagram(1, 1, 1, 2, 2) + datagram(2, 2, 2) + datagram(0x80000000, 2, 2, 0, 17, 1, 1)
        self.assertEqual([type(event) for event in decode(data)], [Fork, Exec, Exit])

    def test_what_is_malformed_or_foreign_is_dropped(self) -> None:
        good = datagram(2, 10, 11)
        for name, data in dict(
            empty=b"", short=good[:75], header_only=good[:36], no_payload=good[:52],
            length_over=struct.pack("=I", 77) + good[4:], length_under=struct.pack("=I", 15) + good[4:],
            length_zero=struct.pack("=I", 0) + good[4:], wrong_type=good[:4] + struct.pack("=H", 2) + good[6:],
            wrong_idx=good[:16] + struct.pack("=I", 2) + good[20:],
            wrong_val=good[:20] + struct.pack("=I", 9) + good[24:],
            cn_length_short=good[:32] + struct.pack("=H", 23) + good[34:], unknown_kind=datagram(0x400, 10, 11),
            ack=datagram(0, 0), combined_kinds=datagram(3, 10, 11),
        ).items():
            with self.subTest(name):
                self.assertEqual(decode(data), [])

    def test_ten_thousand_random_datagrams_raise_nothing(self) -> None:
        chance = random.Random(1)
        kinds = (0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200, 0x20000000, 0x40000000, 0x80000000)
        for _ in range(10_000):
            data = bytearray()
            for _ in range(chance.randrange(4)):
                part = bytearray(datagram(chance.choice(kinds), *(chance.getrandbits(32) for _ in range(6))))
                for _ in range(chance.randrange(4)):
                    part[chance.randrange(len(part))] = chance.getrandbits(8)
                data += part
            if chance.random() < 0.5:
                data += chance.getrandbits(8 * 200).to_bytes(200, "little")[:chance.randrange(200)]
            data = data[:chance.randrange(len(data) + 1)]
            for event in decode(data):
                self.assertEqual(cnproc._EVENTS[event.what], type(event))
                repr(event)

    def test_events_are_values(self) -> None:
        one, same = decode(datagram(2, 10, 11) * 2)
        other, = decode(datagram(0x80, 10, 11))
        self.assertIsNot(one, same)
        self.assertEqual((one, hash(one)), (same, hash(same)))
        self.assertNotEqual(one, other)
        self.assertNotEqual(one, Exec())
        self.assertNotEqual(one, 2)
        for twin in pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one), eval(repr(one)):
            self.assertEqual((type(twin), twin), (Exec, one))
        self.assertEqual(repr(one), "Exec(what=What.EXEC, cpu=3, timestamp_ns=123456789, tid=10, pid=11, cmdline=None)")
        comm = Comm(pid=1, comm="naïve")
        self.assertEqual(pickle.loads(pickle.dumps(comm)), eval(repr(comm)))
        lost = Lost(timestamp_ns=5, count=3)
        self.assertEqual(pickle.loads(pickle.dumps(lost)), lost)
        self.assertEqual((lost.count, lost.timestamp_ns, repr(lost)), (
            3, 5, "Lost(what=What.NONE, cpu=0, timestamp_ns=5, tid=0, pid=0, count=3)"))

    def test_costs_and_ids_are_part_of_an_event(self) -> None:
        values: list[tuple[Any, dict[str, Any]]] = [
            (Exit, dict(cpu_ns=1, max_rss=0, max_rss_exact=False, read_bytes=1 << 40, write_bytes=3, major_faults=0,
                        start_ns=5)),
            (Exec, dict(parent_pid=1, ruid=0, euid=4294967294, cgroup="/a b", exe="/bin/\udcff", cwd="/"))]
        for kind, known in values:
            plain = kind(pid=7)
            self.assertEqual([getattr(plain, name) for name in known], [None] * len(known))
            event = kind(pid=7, **known)
            self.assertEqual({name: getattr(event, name) for name in known}, known)
            self.assertEqual(kind.__match_args__[-len(known):], tuple(known))
            for twin in pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event), eval(repr(event)):
                self.assertEqual((twin, hash(twin)), (event, hash(event)))
            self.assertEqual(eval(repr(plain)), plain)
            shown = {**known, "exe": "/bin/\\xff"} if kind is Exec else known
            self.assertLessEqual(shown.items(), event.asdict().items())
            for name in known:
                self.assertNotIn(name, repr(plain))
                other = copy.copy(event)
                setattr(other, name, None)
                self.assertNotEqual(other, event)
                self.assertEqual([each for each in known if getattr(other, each) is None], [name])

    def test_a_lost_is_an_event_among_the_others(self) -> None:
        event = lost(None, 5)
        self.assertIsInstance(event, cnproc.ProcEvent)
        self.assertEqual((event.what, event.pid, event.tid, event.rebuilt, event.count), (What.NONE, 0, 0, False, None))
        self.assertEqual(Lost(count=3).count, 3)
        self.assertEqual({event, lost(None, 5)}, {event})
        names: dict[str, Any] = {"event": event, "cnproc": cnproc, "found": []}
        if sys.version_info >= (3, 10):
            exec("match event:\n case cnproc.Exit(pid=p): found.append(p)\n"
                 " case cnproc.ProcEvent(): found.append(0)", names)
            self.assertEqual(names["found"], [0])

    @unittest.skipIf(sys.version_info < (3, 10), "X | None cannot be evaluated")
    def test_annotations_can_be_resolved(self) -> None:
        for name in cnproc.__all__:
            thing = getattr(cnproc, name)
            if name != "Event":
                self.assertIsInstance(typing.get_type_hints(thing), dict)
            for method in vars(thing).values() if inspect.isclass(thing) else ():
                if inspect.isfunction(method) and not method.__name__.startswith("_"):
                    typing.get_type_hints(method, localns={"subprocess": subprocess})  # imported where it is used
        self.assertEqual(typing.get_type_hints(Exit)["exit_code"], int)

    @unittest.skipIf(sys.version_info < (3, 10), "takes the match statement")
    def test_events_can_be_matched(self) -> None:
        names = {"event": decode(datagram(2, 10, 11))[0], "cnproc": cnproc, "found": None}
        exec("match event:\n case cnproc.Exec(pid=p): found = p", names)
        self.assertEqual(names["found"], 11)

    def test_a_comm_cut_within_a_letter_is_still_text(self) -> None:
        event, = decode(datagram(0x200, 1, 1, *struct.unpack("=4I", "fünfzehn-bytes€".encode()[:15] + b"\0")))
        self.assertEqual(os.fsencode(event.comm), "fünfzehn-bytes€".encode()[:15])

    def test_returncode_is_subprocess_s(self) -> None:
        for code, returncode in ((0, 0), (0x300, 3), (0xFF00, 255), (9, -9), (0x8B, -11), (0x86, -6), (-1, None)):
            with self.subTest(hex(code)):
                self.assertEqual(Exit(exit_code=code).returncode, returncode)

    def test_import_is_light_and_does_nothing(self) -> None:
        run = subprocess.run([*PYTHON, "-X", "importtime", "-c", "import cnproc, threading, signal; "
                              "assert threading.active_count() == 1; assert signal.getsignal(15) is signal.SIG_DFL"],
                             cwd=HERE, stderr=subprocess.PIPE, text=True, check=True, timeout=PATIENCE)
        loaded = {line.split("|")[-1].strip() for line in run.stderr.splitlines()}
        self.assertIn("cnproc", loaded)
        self.assertFalse(loaded & {"argparse", "asyncio", "json", "subprocess", "logging", "shlex"})

    def test_bad_arguments_are_value_errors(self) -> None:
        wrong: list[Any] = [dict(rcvbuf=0), dict(rcvbuf=1 << 31), dict(delay=-1), dict(delay=float("nan"))]
        for options in wrong:
            with self.subTest(str(options)), self.assertRaises(ValueError):
                cnproc.Watcher(**options)

    def test_what_is_no_pid_is_a_type_error(self) -> None:
        wrong: list[Any] = [True, What.EXIT, "1", 1.0, [1], (1, 2)]
        for pid in wrong:
            for use in cnproc.wait, cnproc.watch, cnproc.cmdline:
                with self.subTest(f"{use.__name__}({pid!r})"), self.assertRaises(TypeError):
                    use(pid)
        nothing: Any = None
        for use in cnproc.wait, cnproc.cmdline:
            with self.assertRaises(TypeError):
                use(nothing)

    def test_watch_without_a_pid_is_an_error_that_names_the_remedies(self) -> None:
        nobody: list[int] = []
        for use in cnproc.watch, cnproc.watch_async:
            with self.assertRaisesRegex(ValueError, r"at least one, or watch\(None\) for every process"):
                use(*nobody)

    def test_cmdline(self) -> None:
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        self.assertEqual(cnproc.cmdline(os.getpid()), [os.fsdecode(word) for word in words])
        with self.assertRaises(ProcessLookupError):
            cnproc.cmdline(1 << 22 | 1)
        for pid in 0, -1:
            with self.assertRaises(ValueError):
                cnproc.cmdline(pid)


# The command, compiled: Python compiles a script anew each time, which takes longer than all else.
CNPROC = [*PYTHON, "?"]


def setUpModule() -> None:
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    CNPROC[-1] = os.path.join(folder.name, "cnproc.pyc")
    py_compile.compile(cnproc.__file__, CNPROC[-1], doraise=True)
    # A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Case's watchdog is a thread, which Python 3.15 counts.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


class FakeSubscription:
    """What a Watcher takes of a subscription, without a kernel."""

    skew, dropped = 0, 0

    def __init__(self, rcvbuf: int) -> None:
        self.rcvbuf, self.sock = rcvbuf, self
        self.closed: list[bool] = []

    def fileno(self) -> int:
        return -1

    def now(self) -> int:
        return time.monotonic_ns()

    def close(self, *, ignore: bool) -> None:
        self.closed.append(ignore)


class FakeSource(cnproc._Source):
    """A source whose events the test gives: what is in `coming` is read, and shows in its descriptor."""

    name = "fake"

    def __init__(self, subscription: FakeSubscription, threads: bool, paths: bool) -> None:
        self.coming: collections.deque[Any] = collections.deque()
        self.calls: list[tuple[Any, ...]] = []
        self.processes: dict[int, int] = {}
        self.pipe = os.pipe()
        os.set_blocking(self.pipe[0], False)
        self.fds = (self.pipe[0],)

    def give(self, *events: Any, shown: bool = True) -> None:
        """Events to be read; shown: and to be seen in the descriptor."""
        self.coming.extend(events)
        os.write(self.pipe[1], b"\0" * len(events) * shown)

    def read(self, most: int) -> Any:
        events = [self.coming.popleft() for _ in range(min(most, len(self.coming)))]
        if events:
            with contextlib.suppress(BlockingIOError):
                os.read(self.pipe[0], len(events))
        return (events, bool(self.coming), False)

    def add(self, pid: int, kinds: int, inherited: int) -> bool:
        self.calls.append(("add", pid, kinds, inherited))
        new = pid not in self.processes
        self.processes[pid] = time.monotonic_ns()
        return new

    def remove(self, pid: int) -> None:
        self.calls.append(("remove", pid))

    def forget(self, pid: int) -> None:
        self.processes.pop(pid, None)

    def watch_all(self, kinds: int) -> None:
        self.calls.append(("watch_all", kinds))

    def known(self) -> dict[int, int]:
        return dict(self.processes)

    def recount(self, live: Iterable[int], gone: Iterable[int]) -> None:
        self.calls.append(("recount", set(live), set(gone)))

    def status(self, pid: int, since_ns: int) -> int:
        return -1

    def close(self) -> None:
        for fd in self.pipe:
            os.close(fd)


def fork(pid: int, parent: int = 1, stamp: int = 0, tid: int | None = None) -> Fork:
    return Fork(What.FORK, 0, stamp or time.monotonic_ns(), parent, parent, tid or pid, pid)


def execed(pid: int, stamp: int = 0) -> Exec:
    return Exec(What.EXEC, 0, stamp or time.monotonic_ns(), pid, pid)


def lost(count: int | None, stamp: int) -> Lost:
    return Lost(timestamp_ns=stamp, count=count)


def ended(pid: int, code: int = 0, stamp: int = 0, tid: int | None = None) -> Exit:
    return Exit(What.EXIT, 0, stamp or time.monotonic_ns(), tid or pid, pid, code, 17, 0, 0)


@pure
class Table(unittest.TestCase):
    """Who is watched, and what is reported: pure."""

    def test_generated_histories_agree_with_a_model(self) -> None:
        kinds = (What.FORK, What.EXEC, What.EXIT, What.NONZERO_EXIT, What.SID, What.LIFE, What.ALL)
        for seed in range(30 if EMULATED else 300):
            chance = random.Random(seed)
            table, alive, everything = cnproc._Table(False), {1}, 0
            model: dict[int, list[int]] = {}
            event: Any
            wanted: int
            for step in range(120):
                act, pid = chance.random(), chance.choice(sorted(alive))
                if act < 0.15:
                    mask, follow = int(chance.choice(kinds)), chance.random() < 0.5
                    table.watch(pid, mask, mask if follow else 0)
                    own = model.setdefault(pid, [0, 0])
                    model[pid] = [own[0] | mask, own[1] | (mask if follow else 0)]
                elif act < 0.2 and model:
                    pid = chance.choice(sorted(model))
                    del table.watched[pid], model[pid]
                elif act < 0.25:
                    table.everything = everything = int(chance.choice((0, *kinds)))
                else:
                    own, code = model.get(pid, [0, 0]), chance.choice((0, 256))
                    if act < 0.55 and len(alive) < 12:
                        child = chance.choice([n for n in range(2, 16) if n not in alive])  # pids are reused
                        event, wanted = fork(child, pid, step + 1), (own[0] | everything) & What.FORK
                        alive.add(child)
                        if own[1]:
                            model[child] = [own[1], own[1]]
                    elif act < 0.7 or pid == 1:
                        event, wanted = execed(pid, step + 1), (own[0] | everything) & What.EXEC
                    else:
                        event, mask = ended(pid, code, step + 1), own[0] | everything
                        wanted = mask & What.EXIT or (mask & What.NONZERO_EXIT and code)
                        alive.remove(pid)
                        model.pop(pid, None)
                    self.assertEqual(table.sift([event]), [event] if wanted else [], (seed, step))
                self.assertEqual({pid: list(watch) for pid, watch in table.watched.items()}, model, (seed, step))

    def test_leftovers_of_a_watch_that_has_ended_are_not_reported(self) -> None:
        events = [fork(5, 1), ended(6)]
        for everything, expected in (0, []), (What.EXEC, []), (What.EXIT, events[1:]), (What.LIFE, events):
            table = cnproc._Table(False)
            table.everything = int(everything)
            self.assertEqual(table.sift(events), expected)

    def test_an_end_of_threads_is_the_process_s(self) -> None:
        table = cnproc._Table(True)
        table.watch(5, What.LIFE, 0)
        events = [ended(5), ended(5, tid=6)]
        self.assertEqual(table.sift(events), events)
        self.assertEqual(set(table.watched), {5})
        self.assertEqual(table.sift([cnproc._ProcessEnd(cnproc._PROCESS_END, 5, 1)]), [])
        self.assertEqual(table.watched, {})


class Simulated:
    """A process as the kernel runs it: what its threads do, and the events and the status that come of that."""

    def __init__(self, chance: random.Random, pid: int) -> None:
        self.chance, self.pid, self.tids, self.zombie, self.next = chance, pid, [pid], False, pid * 100
        self.status: int | None = None
        self.events: list[Any] = []
        self.late: list[Any] = []  # EXITs that come later than something else of their process

    def flush(self, every: bool = False) -> None:
        for event in list(self.late):
            if every or self.chance.random() < 0.5:
                self.late.remove(event)
                self.events.append(event)

    def act(self) -> None:
        act = self.chance.random()
        live = [tid for tid in self.tids if tid != self.pid or not self.zombie]
        if act < 0.4:
            self.next += 1
            self.tids.append(self.next)
            self.events.append(fork(self.pid, tid=self.next))
        elif act < 0.6 and len(live) > 1:  # one thread ends by itself
            tid = self.chance.choice(live)
            if tid == self.pid:
                self.zombie = True
            else:
                self.tids.remove(tid)
            self.late.append(ended(self.pid, tid=tid))
        elif act < 0.7:  # exec: the others are killed, with 0, and who calls it becomes the leader
            caller = self.chance.choice(live)
            for tid in live:
                if tid != caller:  # the old leader's EXIT can carry either id
                    told = self.chance.choice((tid, caller)) if tid == self.pid else tid
                    self.late.append(ended(self.pid, tid=told))
            self.flush()
            self.events.append(execed(self.pid))
            self.tids, self.zombie = [self.pid], False
        elif act < 0.75:  # exit_group(2), a signal, a core dump: by one thread, in any order
            code = self.chance.choice((0, 3 << 8, 9, 11 | 0x80))
            dumper = self.chance.choice(live)
            for tid in self.chance.sample(live, len(live)):
                self.late.append(ended(self.pid, code if tid == dumper else code & ~0x80, tid=tid))
            self.status, self.tids = code, []
        self.flush()


@pure
class Tracker(unittest.TestCase):
    """Threads folded into processes: pure."""

    def tracker(self, tids: Callable[..., set[int]] = lambda *_: set(),
                status: Callable[..., int | None] = lambda *_: None, threads: bool = False) -> cnproc._ThreadTracker:
        self.held: list[int] = []

        def hold(pid: int, _: int) -> int:
            self.held.append(pid)
            return pid

        return cnproc._ThreadTracker(threads, tids, status, hold, self.held.remove)

    def play(self, seed: int, before: int) -> tuple[Simulated, cnproc._ThreadTracker, list[Any]] | None:
        """A whole life; before: acts that happened before the process was tracked."""
        chance = random.Random(seed)
        process = Simulated(chance, 7)
        tracker = self.tracker(lambda *_: {tid for tid in process.tids if tid != 7 or not process.zombie},
                               lambda *_: process.status if chance.random() < 0.5 else None)
        for _ in range(before):
            process.act()
            if process.status is not None:
                return None
        process.flush(True)
        process.events.clear()
        if before:
            tracker.add(7, What.LIFE, 0, 1)
            tracker.count(7)
        else:
            tracker.everything = int(What.LIFE)
            tracker.fold(fork(7))
        while process.status is None:
            process.act()
        process.flush(True)
        process.tids = []
        told = [each for event in process.events for each in tracker.fold(event)]
        return process, tracker, told

    def test_an_exec_by_a_thread_that_fails_ends_a_process_whose_first_thread_had_ended(self) -> None:
        live = {8}
        tracker = self.tracker(lambda *_: {*live})
        tracker.add(7, What.LIFE, 0, 1)
        tracker.count(7)
        live.clear()  # 8 has taken the place of 7 when the exec fails, and is killed
        self.assertEqual([event.pid for event in tracker.fold(ended(7, signal.SIGSEGV))], [7])

    def test_an_end_stands_behind_the_exit_of_the_first_thread_whoever_has_become_that(self) -> None:
        ring = object.__new__(cnproc._Ring)
        for events in (
            [(execed(7), 0), (fork(7, tid=9), 0), (ended(7, tid=9), cnproc._FINAL), (ended(7), 0)],  # 8 executes
            [(ended(7, signal.SIGSEGV), cnproc._FINAL)],  # 8 executes, which fails
        ):
            ring.tids = {7: {0, 8}}  # the first thread had ended before the watch
            ends = [ring.ended(event, note) for event, note in events]
            self.assertEqual((ends, ring.tids), ([False] * (len(ends) - 1) + [True], {}))

    def test_generated_histories_have_one_exit_which_is_the_last(self) -> None:
        statuses: list[int] = []
        for seed in range(150 if EMULATED else 1500):
            for before in 0, 3:
                played = self.play(seed, before)
                if played:
                    process, tracker, told = played
                    exits = [event for event in told if isinstance(event, Exit)]
                    self.assertEqual(len(exits), 1, (seed, before))
                    self.assertEqual((exits[0].pid, exits[0].tid, told[-1]), (7, 7, exits[0]), (seed, before))
                    self.assertEqual((tracker.processes, self.held), ({}, []))
                    if exits[0].exit_code != -1:
                        self.assertEqual(exits[0].exit_code, process.status, (seed, before))
                    statuses.append(exits[0].exit_code)
        self.assertGreater(len(statuses), 150)
        self.assertLess(statuses.count(-1) / len(statuses), 0.6)  # every second time nobody can be asked

    def test_a_pidfd_that_may_tell_the_first_threads_code_is_not_asked(self) -> None:
        for leader, other, live, whole, held in (  # codes, and who lives when the first thread's EXIT is read
                (3, 3, [8], True, 7), (3, 3, [], True, 7), (3, 4, [8], True, 7), (3, 4, [7, 8], True, 7),
                (3, 4, [], True, -1), (3, 4, [7], True, -1), (3, 3, [], False, -1), (3, 3, [8], False, 7)):
            for tids in (7, 8), (8, 7):
                asked = unittest.mock.Mock(return_value=None)
                tracker = self.tracker(unittest.mock.Mock(return_value={*live}), asked)
                tracker.everything = int(What.LIFE)
                for event in fork(7), fork(7, tid=8):
                    tracker.fold(event)
                tracker.processes[7].incomplete = not whole
                for tid in tids:
                    tracker.fold(ended(7, (leader if tid == 7 else other) << 8, tid=tid))
                first = tids == (7, 8) or (whole and leader == other)
                self.assertEqual([call.args[1] for call in asked.mock_calls], [held if first else -1],
                                 (leader, other, live, whole, tids))

    def test_an_exec_by_a_thread_begins_anew(self) -> None:
        """What the threads that it ends had for codes does not count, nor that there was a first thread before."""
        for last, held in (((7, 5), (8, 0)), -1), (((8, 0), (7, 5)), -1), (((8, 5), (7, 5)), 7):
            asked = unittest.mock.Mock(return_value=None)
            tracker = self.tracker(unittest.mock.Mock(side_effect=[{8}, set(), set()]), asked)
            tracker.everything = int(What.LIFE)
            for event in (fork(7), fork(7, tid=8), ended(7, 3 << 8), execed(7), fork(7, tid=8),
                          *(ended(7, code, tid=tid) for tid, code in last)):
                tracker.fold(event)
            self.assertEqual([call.args[1] for call in asked.mock_calls], [held])

    def test_a_pidfd_is_not_asked_if_the_last_exit_was_lost(self) -> None:
        asked = unittest.mock.Mock(return_value=None)
        tracker = self.tracker(status=asked)
        tracker.everything = int(What.LIFE)
        for event in fork(7), fork(7, tid=8), ended(7):
            tracker.fold(event)
        self.assertEqual(tracker.end_status(7, 1, lost=True), -1)
        self.assertEqual([call.args[1] for call in asked.mock_calls], [-1])

    def test_after_a_loss_the_kernel_is_asked_how_a_process_ends_that_was_ending(self) -> None:
        for ending in False, True:
            tids = unittest.mock.Mock(return_value={7})
            tracker = self.tracker(tids, lambda *_: 5 << 8)
            tracker.everything = int(What.LIFE)
            tracker.fold(fork(7))
            tracker.recount(7, unittest.mock.Mock(return_value=ending))
            tids.return_value = set[int]()
            self.assertEqual([event.exit_code for event in tracker.fold(ended(7, 3 << 8))], [(5 if ending else 3) << 8])

    def test_the_exit_of_a_thread_whose_fork_was_lost_is_not_that_of_its_process(self) -> None:
        for told, expected in (9, 9), (None, -1):
            tracker = self.tracker(status=lambda *_: told)
            tracker.everything = int(What.LIFE)
            tracker.fold(fork(7))
            self.assertEqual(tracker.fold(ended(7, 0, tid=8)), ())
            end, = tracker.fold(ended(7, 3 << 8))
            self.assertEqual((end.exit_code, end.tid), (expected, 7))

    def test_of_a_process_that_was_gone_at_a_loss_the_status_is_asked(self) -> None:
        for told, expected in (9, 9), (None, -1):
            tracker = self.tracker(status=lambda *_: told)
            tracker.everything = int(What.LIFE)
            tracker.fold(fork(7))
            tracker.recount(7, lambda _: True)
            self.assertEqual([event.exit_code for event in tracker.fold(ended(7, 3 << 8))], [expected])

    def test_in_doubt_the_kernel_is_asked(self) -> None:
        for told, expected in (9, 9), (None, -1):
            tracker = self.tracker(status=lambda *_: told)
            tracker.everything = int(What.LIFE)
            for event in fork(7), fork(7, tid=8), ended(7, 3 << 8):
                tracker.fold(event)
            self.assertEqual(self.held, [7])
            end, = tracker.fold(ended(7, 0, tid=8))
            self.assertEqual((end.exit_code, end.tid, end.exit_signal, self.held), (expected, 7, 17, []))

    def test_a_core_dump_is_known_by_the_thread_that_dumped(self) -> None:
        for told, codes, complete, expected in (
                (11, (0x8B, 11), True, 0x8B), (11, (11, 11), True, 11), (9, (0x8B, 9), True, 9),
                (11, (11, 11), False, -1), (9, (9, 9), False, 9)):
            tracker = self.tracker(status=lambda *_: told)
            tracker.everything = int(What.LIFE)
            for event in fork(7), fork(7, tid=8), ended(7, codes[0], tid=8):
                tracker.fold(event)
            tracker.processes[7].incomplete = not complete
            end, = tracker.fold(ended(7, codes[1]))
            self.assertEqual(end.exit_code, expected, (told, codes, complete))

    def test_threads_have_their_own_exits_and_an_end_behind_the_last(self) -> None:
        tracker = self.tracker(threads=True)
        tracker.everything = int(What.LIFE)
        events = [fork(7), fork(7, tid=8), ended(7), ended(7, tid=8)]
        told = [each for event in events for each in tracker.fold(event)]
        self.assertEqual(told, [*events, cnproc._ProcessEnd(cnproc._PROCESS_END, 7, events[-1].timestamp_ns)])

    def test_pid_reuse_begins_a_new_process(self) -> None:
        tracker = self.tracker()
        tracker.everything = int(What.LIFE)
        for event in fork(7, stamp=1), fork(7, tid=8, stamp=2), fork(7, stamp=3):  # its EXITs were lost
            tracker.fold(event)
        end, = tracker.fold(ended(7, 5 << 8, stamp=4))
        self.assertEqual((end.returncode, tracker.processes, self.held), (5, {}, []))

    def test_a_fork_read_after_its_process_was_found_counts_no_thread_twice(self) -> None:
        tracker = self.tracker(lambda *_: {7, 8})
        tracker.everything = int(What.LIFE)
        tracker.add(7, What.LIFE, 0, 10)
        tracker.count(7)
        for event in fork(7, stamp=5), fork(7, tid=8, stamp=6), ended(7, stamp=11):
            tracker.fold(event)
        self.assertEqual(tracker.processes[7].tasks, 1)


@pure
class Rebuilding(unittest.TestCase):
    """After a loss: whose end is still to come, and whose must be reported."""

    def test_an_exit_behind_the_fork_of_the_same_pid_is_a_later_process_s(self) -> None:
        self.assertEqual(cnproc._ended_and_forked([ended(5), fork(6), ended(6), execed(7)], False), ({5}, {6}))
        events = [ended(5), ended(6, tid=8), cnproc._ProcessEnd(cnproc._PROCESS_END, 6, 1)]
        self.assertEqual(cnproc._ended_and_forked(events, True), ({6}, set()))


@pure
class OverFake(unittest.TestCase):
    """The Watcher without a kernel: waiting, closing, handing out."""

    def setUp(self) -> None:
        for name, value in ("_subscribe", FakeSubscription), ("_sources", (FakeSource,)):
            patch = unittest.mock.patch.object(cnproc.Watcher, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def watcher(self, **options: Any) -> tuple[Any, Any]:
        watcher = cnproc.Watcher(**options)
        self.addCleanup(watcher.close)
        watcher._table.watch(7, What.LIFE, What.LIFE)
        return watcher, watcher._source

    def test_events_are_handed_out_in_order_and_once(self) -> None:
        watcher, source = self.watcher()
        events = [fork(8, 7), execed(8), ended(8), ended(7)]
        source.give(*events)
        self.assertEqual([watcher.read(0) for _ in range(5)], [*events, None])

    def test_a_close_while_events_are_released_ends_the_reader(self) -> None:
        watcher, source = self.watcher()

        class Unnamed(dict[int, Any]):
            def __contains__(self, pid: object) -> bool:  # as if a signal handler ran there
                watcher.close()
                return False

        source.unnamed = Unnamed({8: None})
        source.give(execed(7), execed(7))
        self.assertIsNone(watcher.read(PATIENCE))

    def test_what_a_ctrl_c_has_lost_proves_no_name(self) -> None:
        watcher, source = self.watcher()
        event, read = execed(7), source.read
        source.unnamed = {7: unittest.mock.Mock(event=event)}
        source.give(event)
        watcher._intake.drain()
        self.assertEqual([*watcher._intake.held], [event])
        with unittest.mock.patch.object(source, "read", side_effect=KeyboardInterrupt), \
                self.assertRaises(KeyboardInterrupt):
            watcher._intake.take(1)
        unnamed: list[int] = []

        def look(most: int) -> Any:
            unnamed.extend(source.unnamed)
            return read(most)

        with unittest.mock.patch.object(source, "read", look):
            told = [watcher.read(0) for _ in range(2)]
        self.assertEqual((told[0], [type(event) for event in told], unnamed), (event, [Exec, Lost], []))

    def test_a_close_while_a_task_is_about_to_wait_ends_its_iteration(self) -> None:
        async def check() -> None:
            watcher, _ = self.watcher()

            def show(*, held: bool = True) -> None:  # as if a signal handler ran there
                watcher.close()

            with unittest.mock.patch.object(watcher, "_show", show):
                async for event in watcher:
                    self.fail(str(event))

        asyncio.run(asyncio.wait_for(check(), PATIENCE))

    def test_a_reader_that_waits_is_told_of_a_name_that_another_thread_waits_for(self) -> None:
        watcher, source = self.watcher()
        event = execed(7)
        told: list[Any] = []
        source.unnamed = {7: unittest.mock.Mock(event=event)}
        reader = threading.Thread(target=lambda: told.append(watcher.read(2 * PATIENCE)))
        with unittest.mock.patch.object(cnproc, "_QUIET", 1 << 40):
            reader.start()
            eventually(lambda: watcher._waiter.waiting)
            source.give(event, shown=False)
            watcher.watch(os.getpid())
            source.unnamed.clear()
            reader.join(PATIENCE)
        self.assertEqual(told, [event])

    def test_a_look_at_the_watched_is_put_off_by_what_looks_cost_and_not_by_one_that_was_slow(self) -> None:
        watcher, _ = self.watcher()
        put_off: list[bool] = []
        for cost_s in 0, 1, 0, 1, 1:
            with unittest.mock.patch.object(time, "thread_time_ns", side_effect=[0, cost_s * 10**9]):
                watcher._recovery.look()
            put_off.append((watcher._recovery.due - watcher._subscription.now()) / 1e9 > 500)
        self.assertEqual(put_off, [False, False, False, False, True])

    def test_a_signal_handler_that_interrupts_the_watcher_at_work_can_only_close_it(self) -> None:
        watcher, source = self.watcher()
        read = source.read
        refused: list[Any] = []

        def interrupted(most: int) -> Any:  # as if a handler ran amid the read
            for use in (lambda: watcher.watch(8), watcher.unwatch, lambda: watcher.popen(["true"]),
                        lambda: watcher.read(0)):
                with self.assertRaisesRegex(RuntimeError, "signal handler"):
                    use()
                refused.append(use)
            return read(most)

        source.read = interrupted
        event = execed(7)
        source.give(event)
        self.assertEqual(watcher.read(0), event)
        self.assertEqual(len(refused), 4)

    def test_a_forked_child_closes_though_another_thread_has_held_the_lock(self) -> None:
        watcher, _ = self.watcher()
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with watcher._lock:
                held.set()
                done.wait(PATIENCE)

        thread = threading.Thread(target=hold)
        thread.start()
        self.assertTrue(held.wait(PATIENCE))
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            try:
                watcher.close()
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        done.set()
        thread.join(PATIENCE)
        self.assertEqual(status, 0)

    def test_a_close_that_a_signal_handler_breaks_off_closes_all_the_same(self) -> None:
        for breaks in 1, 2:  # how often; after three times a part is given up
            watcher, source = self.watcher()
            calls: list[int] = []
            close = source.close

            def broken(breaks: int = breaks, calls: list[int] = calls, close: Any = close) -> None:
                calls.append(1)
                if len(calls) <= breaks:
                    raise SystemExit(3)
                close()

            source.close = broken
            with self.assertRaises(SystemExit):
                watcher.close()
            self.assertEqual((len(calls), watcher._parts, watcher._subscription.closed), (breaks + 1, [], [True]))

    def test_a_close_that_is_broken_off_at_once_is_done_by_the_next(self) -> None:
        watcher, _ = self.watcher()
        with unittest.mock.patch.object(cnproc, "_close_all", side_effect=SystemExit), self.assertRaises(SystemExit):
            watcher.close()
        self.assertEqual(watcher._subscription.closed, [])
        watcher.close()
        self.assertEqual(watcher._subscription.closed, [True])

    def test_a_delay_is_as_long_as_it_is_asked_to_be(self) -> None:
        watcher, source = self.watcher(delay=7)
        pauses: list[float] = []
        self.assertIsNone(watcher.read(0))
        with unittest.mock.patch.object(watcher._waiter, "pause", pauses.append):
            source.give(execed(7))
            self.assertIsNotNone(watcher.read())
            source.give(execed(7))
            self.assertIsNotNone(watcher.read(5))
        self.assertEqual(pauses[0], 7)
        self.assertLessEqual(pauses[1], 5)

    def test_an_iteration_left_in_the_middle_goes_on_where_it_was(self) -> None:
        watcher, source = self.watcher()
        events = [execed(7) for _ in range(10)]
        source.give(*events)
        self.assertEqual([next(iter(watcher)) for _ in range(4)] + [watcher.read(0) for _ in range(6)], events)

    def test_a_new_process_with_the_pid_of_one_whose_end_was_lost_is_not_forgotten(self) -> None:
        watcher, source = self.watcher()
        source.processes[7] = 1  # it is gone, and its Exit was lost; behind the loss comes the fork of a later one
        forgotten: list[int] = []
        source.forget = forgotten.append
        watcher._recovery.resync([fork(7, 7)])
        self.assertEqual([kinds([event]) for event in watcher._queue if event][:1], [[Exit]])
        self.assertEqual(forgotten, [])

    def test_a_rebuilt_fork_stands_before_what_came_behind_the_loss_whatever_a_reader_takes_meanwhile(self) -> None:
        watcher, me = self.watcher()[0], os.getpid()
        watcher._table.watched.clear()
        watcher.watch(me)
        watcher._intake.put([execed(me), execed(me)])
        found, told = fork(50, me), list[Any]()

        def rebuilt(*_: Any) -> list[Any]:
            told.extend(cnproc._taken(watcher._queue.popleft, 2))  # as a reader in another thread does
            return [found]

        with unittest.mock.patch.object(watcher._recovery, "_rebuilt_forks", rebuilt):
            watcher._recovery.resync([execed(me)])
        while event := watcher.read(0):
            told.append(event)
        self.assertEqual(kinds(told), [Exec, Exec, Fork, Exec])

    def test_a_reader_survives_what_an_interrupted_unwatch_leaves_behind(self) -> None:
        watcher, source = self.watcher()
        read = source.read

        def interrupted(most: int) -> Any:
            watcher._queue.appendleft(None)  # where keep() stood when ctrl-C came
            return read(most)

        with unittest.mock.patch.object(source, "read", interrupted):
            source.give(execed(7))
            self.assertIsInstance(watcher.read(PATIENCE), Exec)

    def test_taking_all_while_another_thread_drops_some_loses_none_of_the_others(self) -> None:
        class Shrunk(collections.deque[Any]):
            def __len__(self) -> int:  # as it was a moment ago
                return super().__len__() + 1

        watcher, _ = self.watcher()
        watcher._queue = Shrunk([execed(7), ended(7)])
        self.assertEqual(kinds(watcher._take(watcher._deadline(0))), [Exec, Exit])

    def test_a_watch_that_raises_midway_leaves_nothing_watched(self) -> None:
        me, parent = os.getpid(), os.getppid()
        for before in set[int](), {me}:
            watcher, source = self.watcher()
            for pid in before:
                watcher.watch(pid, What.EXIT, follow=False)
            source.calls.clear()
            children = [[parent], [], OSError(errno.EMFILE, "")]
            with unittest.mock.patch.object(cnproc, "_children", side_effect=children), self.assertRaises(OSError):
                watcher.watch(me, What.EXEC)
            self.assertEqual((watcher.pids, {call[1] for call in source.calls if call[0] == "remove"}),
                             ({7, *before}, {me, parent} - before))
            source.give(execed(me), ended(me), execed(parent))
            told = [watcher.read(0) for _ in range(2)]
            self.assertEqual(kinds(filter(None, told)), [Exit] if before else [])

    def test_an_iteration_within_an_iteration_takes_its_share(self) -> None:
        watcher, source = self.watcher()
        events = [execed(7) for _ in range(20)]
        source.give(*events)
        told: list[Any] = []
        for event in watcher._stream(watcher._deadline(0)):
            told.append(event)
            inner = iter(watcher)
            told += [next(inner) for _ in range(min(3, len(events) - len(told)))]
        self.assertEqual(told, events)

    def test_what_is_behind_a_loss_is_taken_in_too(self) -> None:
        for name in "drain", "_read_all":
            watcher, source = self.watcher()
            take_in = getattr(watcher._intake, name, None) or getattr(watcher._recovery, name)
            old = time.monotonic_ns()
            events = [execed(7, old) for _ in range(2 * cnproc._BATCH)]
            source.coming.extend([*events[:cnproc._BATCH - 1], lost(3, time.monotonic_ns() + (1 << 40)),
                                  *events[cnproc._BATCH:], lost(4, time.monotonic_ns() + (1 << 40))])
            take_in()
            self.assertEqual(len(source.coming), 0, name)

    def test_an_iteration_that_ends_with_the_last_process_does_so_whatever_is_wanted_of_it(self) -> None:
        watcher, source = self.watcher()
        watcher.unwatch(7)
        watcher._table.watch(8, What.FORK, 0)
        source.give(ended(8))
        self.assertEqual(list(watcher._stream(watcher._deadline(PATIENCE), ending=True)), [])

    def test_read_times_out(self) -> None:
        watcher, _ = self.watcher()
        for timeout in 0, 0.0005, 0.05:
            before = time.monotonic()
            self.assertIsNone(watcher.read(timeout))
            self.assertGreaterEqual(time.monotonic() - before, timeout)

    def test_fileno_is_readable_as_long_as_there_is_something_to_read(self) -> None:
        watcher, source = self.watcher()

        def readable() -> bool:
            return bool(select.select([watcher], [], [], 0)[0])

        self.assertFalse(readable())
        source.give(execed(7), execed(7))
        self.assertTrue(readable())
        with watcher._lock:
            watcher._intake.drain()  # now they are in hand, and the source is not readable
            watcher._show()
        self.assertTrue(readable())
        watcher.read(0)
        self.assertTrue(readable())
        watcher.read(0)
        self.assertFalse(readable())

    def test_a_reader_is_woken_for_what_another_thread_took_in(self) -> None:
        with unittest.mock.patch.object(cnproc, "_QUIET", 1 << 50):  # nothing else wakes it
            watcher, source = self.watcher()
            watcher._table.watch(99, What.LIFE, 0)
            told: list[Any] = []
            reader = threading.Thread(target=lambda: told.append(watcher.read(PATIENCE)))
            reader.start()
            eventually(lambda: watcher._waiter.waiting)
            event = execed(7)
            source.give(event, shown=False)
            watcher.unwatch(99)  # which reads it
            before = time.monotonic()
            reader.join(PATIENCE)
        self.assertEqual(told, [event])
        self.assertLess(time.monotonic() - before, PATIENCE / 2)

    def test_close_ends_a_blocked_read_and_a_blocked_iteration(self) -> None:
        blocks: list[Callable[[Any], object]] = [lambda watcher: watcher.read(), list]
        for block in blocks:
            watcher, _ = self.watcher()
            told: list[Any] = []
            reader = threading.Thread(target=lambda: told.append(block(watcher)))
            reader.start()
            eventually(lambda: watcher._is_read)
            watcher.close()
            reader.join(PATIENCE)
            self.assertIn(told, ([None], [[]]))
            self.assertEqual(watcher._subscription.closed, [True])

    def test_close_drops_what_is_in_hand(self) -> None:
        watcher, source = self.watcher()
        source.give(execed(7), execed(7))
        stream = iter(watcher)
        next(stream)
        watcher.close()
        self.assertEqual(list(stream), [])

    def test_unwatch_drops_what_is_in_hand_of_that_process_alone(self) -> None:
        watcher, source = self.watcher()
        watcher._table.watch(8, What.LIFE, 0)
        source.give(execed(7), execed(8), fork(9, 7), ended(8))
        watcher.unwatch(7)
        self.assertEqual([event.pid for event in iter(lambda: watcher.read(0), None)], [8, 8])

    def test_unwatch_of_everything_keeps_what_single_watches_report(self) -> None:
        watcher, source = self.watcher()
        watcher._table.everything = int(What.LIFE)
        source.give(execed(7), execed(8), ended(7), ended(8))
        watcher.unwatch()
        self.assertEqual([event.pid for event in iter(lambda: watcher.read(0), None)], [7, 7])

    def test_a_delay_lets_events_gather_and_ends_with_the_timeout(self) -> None:
        watcher, source = self.watcher(delay=0.1)
        self.assertIsNone(watcher.read(0))
        source.give(execed(7))
        before = time.monotonic()
        self.assertIsInstance(watcher.read(PATIENCE), Exec)
        self.assertGreaterEqual(time.monotonic() - before, 0.1)
        watcher._delay = PATIENCE
        source.give(execed(7))
        before = time.monotonic()
        watcher.read(0.05)
        self.assertLess(time.monotonic() - before, PATIENCE / 2)

    def test_the_generator_ends_with_its_last_process(self) -> None:
        watcher, source = self.watcher()
        events = [fork(8, 7), ended(7), ended(8), execed(9)]
        source.give(*events)
        self.assertEqual(list(watcher._stream(None, ending=True)), events[:3])

    def test_a_forked_child_can_only_close(self) -> None:
        watcher, _ = self.watcher()
        pid = os.fork()
        if not pid:
            with contextlib.suppress(ValueError):
                watcher.read(0)
                os._exit(1)
            watcher.close()
            os._exit(0 if watcher._subscription.closed == [False] else 2)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(watcher._subscription.closed, [])

    def test_a_source_that_is_refused_is_followed_by_the_next_and_the_reason_is_kept(self) -> None:
        refused = OSError(errno.EPERM, "not here")
        sources = unittest.mock.Mock(side_effect=refused), FakeSource
        with unittest.mock.patch.object(cnproc.Watcher, "_sources", sources):
            watcher, _ = self.watcher()
        self.assertEqual((watcher.source, str(watcher.source_error)), ("fake", str(refused)))

    def test_a_resync_that_fails_keeps_what_it_has_read_and_is_made_up_for(self) -> None:
        watcher, source = self.watcher()
        source.add(7, 0, 0)
        source.give(execed(7), lost(3, 1))
        too_many = OSError(errno.EMFILE, "Too many open files")

        def nobody(*_: object) -> set[int]:
            return set()

        for owner, name in (cnproc._Recovery, "_gone"), (cnproc._Intake, "follow"):  # before it reads, and after that
            with unittest.mock.patch.object(cnproc._Recovery, "_gone", nobody), unittest.mock.patch.object(
                    owner, name, side_effect=too_many), self.assertRaises(OSError), watcher._lock:
                watcher._recovery.resync([])
            self.assertTrue(watcher._intake.must_resync or watcher._intake.in_flight)
            source.give(ended(8), execed(7))
        with unittest.mock.patch.object(cnproc._Recovery, "_gone", nobody):
            told = list(iter(lambda: watcher.read(0), None))
        self.assertEqual([type(event) for event in told], [Exec, Lost, Exec, Lost, Exec])
        self.assertFalse(watcher._intake.must_resync)

    def test_a_resync_reports_ends_and_keeps_the_kernels_own(self) -> None:
        watcher, source = self.watcher()
        gone = subprocess.Popen(["true"])
        gone.wait()
        late = subprocess.Popen(["true"])
        late.wait()
        for pid in gone.pid, late.pid:
            watcher._table.watch(pid, What.LIFE, 0)
            source.add(pid, 0, 0)
        source.give(lost(3, 1))
        watcher._table.watched.pop(7)
        with watcher._lock:
            watcher._intake.drain()
            source.give(ended(late.pid, 3 << 8))
            watcher._recovery.resync([])
        events = list(iter(lambda: watcher.read(0), None))
        self.assertEqual([(type(event), event.what and event.pid) for event in events],
                         [(Lost, 0), (Exit, gone.pid), (Exit, late.pid)])
        self.assertEqual([(event.returncode, event.rebuilt) for event in events[1:]], [(None, True), (3, False)])
        self.assertEqual((watcher.pids, source.processes), (set(), {late.pid: source.processes[late.pid]}))

    def test_a_resync_reports_the_fork_of_a_parent_before_those_of_its_children(self) -> None:
        # By pid: the parent, and when it started. A tick of /proc's clock is long, and what is made of it jitters.
        there = {20: (70, 4_000), 30: (60, 3_001), 40: (30, 3_000), 60: (1, 3_002), 70: (60, 3_500), 80: (5, 1_000)}
        watcher, source = self.watcher()
        watcher._table.everything = int(What.LIFE)
        watcher._table.watched.clear()
        source.processes = {5: 2_000}

        def stat(pid: int) -> Any:
            parent, start_ns = there.get(pid, (1, 1_000))
            return cnproc._Stat("S", parent, 0, 1, start_ns, 0, 0)

        with unittest.mock.patch.object(cnproc, "_stat", stat), \
                unittest.mock.patch.object(cnproc, "_pids", lambda: [5, *there]), watcher._lock:
            watcher._recovery.resync([])
        forks = list(iter(lambda: watcher.read(0), None))
        self.assertTrue(all(event.rebuilt for event in forks))
        self.assertEqual([(event.pid, event.parent_pid, event.timestamp_ns) for event in forks], [
            (80, 5, 2_000), (60, 1, 3_002), (30, 60, 3_002), (40, 30, 3_002), (70, 60, 3_500), (20, 70, 4_000)])

    def test_what_an_exception_tears_out_is_reported_as_lost_or_not_lost(self) -> None:
        for error in KeyboardInterrupt(), OSError(errno.EMFILE, "Too many open files"), MemoryError():
            for owner, name in (FakeSource, "read"), (cnproc._Table, "sift"), (cnproc._Intake, "put"):
                watcher, source = self.watcher()
                original = getattr(owner, name)

                def torn(*args: Any) -> None:
                    original(*args)
                    raise error

                source.give(execed(7), execed(7))
                with unittest.mock.patch.object(owner, name, torn), self.assertRaises(type(error)):
                    watcher.read(0)
                source.give(execed(7))
                source.give(ended(7))
                with unittest.mock.patch.object(cnproc._Recovery, "_gone", return_value=set()):
                    told = [watcher.read(PATIENCE) for _ in range(4)]
                self.assertEqual(kinds(told), [Lost if name == "read" else Exec, Exec, Exec, Exit])
                self.assertIsNone(watcher.read(0))

    def test_an_exception_amid_an_end_does_not_take_it_away(self) -> None:
        for owner, name in (cnproc._Table, "sift"), (cnproc._Intake, "put"):
            for before in False, True:
                watcher, source = self.watcher()
                original = getattr(owner, name)

                def torn(*args: Any) -> None:
                    if not before:
                        original(*args)
                    raise KeyboardInterrupt

                source.give(fork(8, 7), ended(7, 3 << 8), ended(8, 4 << 8))
                with unittest.mock.patch.object(owner, name, torn), self.assertRaises(KeyboardInterrupt):
                    watcher.read(0)
                told: list[Any] = [watcher.read(0) for _ in range(4)]
                self.assertEqual(kinds(told[:3]), [Fork, Exit, Exit])
                self.assertEqual((statuses(told[:3]), told[3], watcher.pids), ([3, 4], None, set()))

    def test_a_look_does_not_hide_what_an_exception_has_torn_out(self) -> None:
        watcher, source = self.watcher()
        source.give(execed(7))
        with unittest.mock.patch.object(source, "read", side_effect=KeyboardInterrupt), \
                self.assertRaises(KeyboardInterrupt):
            watcher.read(0)
        with unittest.mock.patch.object(cnproc._Recovery, "_gone", return_value=set()):
            with watcher._lock:
                watcher._recovery.look()
            self.assertEqual(kinds([watcher.read(0)]), [Lost])

    def test_read_waits_for_an_unwatch_in_another_thread(self) -> None:
        watcher, source = self.watcher()
        watcher._table.watch(8, What.LIFE, 0)
        source.give(execed(7), execed(8), execed(7))
        with watcher._lock:
            watcher._intake.drain()
            watcher._queue.appendleft(None)  # as keep() does
            told: list[Any] = []
            reader = threading.Thread(target=lambda: told.append(watcher.read(PATIENCE)))
            reader.start()
            eventually(lambda: not watcher._queue or watcher._queue[0] is not None)
            self.assertEqual(len(watcher._queue), 3)
            reader.join(0.05)
            self.assertEqual((len(watcher._queue), told), (3, []))
        reader.join(PATIENCE)
        self.assertEqual(kinds(told, 7), [Exec])

    def test_a_process_whose_exit_is_still_to_come_is_not_forgotten(self) -> None:
        watcher, source = self.watcher()
        child = subprocess.Popen(["true"])
        source.add(child.pid, 0, 0)
        child.wait()
        with watcher._lock:
            self.assertFalse(watcher._intake.take_up(child.pid, 0, 0))
        self.assertIn(child.pid, source.processes)
        del source.processes[child.pid]
        with watcher._lock:
            self.assertFalse(watcher._intake.take_up(child.pid, 0, 0))
        self.assertNotIn(child.pid, source.processes)

    def test_an_interrupted_unwatch_is_reported_as_a_loss(self) -> None:
        watcher, source = self.watcher()
        watcher._table.watch(8, What.LIFE, 0)
        source.give(execed(7), execed(8))

        def interrupted(*_: Any) -> bool:
            raise KeyboardInterrupt

        with unittest.mock.patch.object(cnproc._Table, "unwanted", interrupted), self.assertRaises(KeyboardInterrupt):
            watcher.unwatch(8)
        told = list(iter(lambda: watcher.read(0), None))
        self.assertEqual(kinds(told, 7), [Exec])  # all that was in hand is still there

    def test_read_without_a_timeout_waits_on_though_another_thread_took_its_event_away(self) -> None:
        watcher, source = self.watcher()
        watcher._table.watch(8, What.LIFE, 0)
        original, took = cnproc.Watcher._fill, threading.Event()

        def fill(*args: Any) -> bool:
            filled = original(*args)
            if not took.is_set():
                took.set()
                thread = threading.Thread(target=watcher.unwatch, args=(8,))
                thread.start()
                thread.join(PATIENCE)
                source.give(execed(7))
            return filled

        source.give(execed(8))
        with unittest.mock.patch.object(cnproc.Watcher, "_fill", fill):
            event = watcher.read()
        self.assertEqual(kinds([event], 7), [Exec])

    def test_a_signal_handler_cannot_read_while_its_thread_reads(self) -> None:
        watcher, source = self.watcher()
        errors: list[BaseException] = []

        def handler(*_: object) -> None:
            try:
                watcher.read(PATIENCE)
            except RuntimeError as error:
                errors.append(error)
            source.give(execed(7))

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        with Case.at_the_first_wait(lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)):
            self.assertIsInstance(watcher.read(PATIENCE), Exec)
        self.assertRegex(str(errors), "signal handler")

    def test_a_second_reader_keeps_its_timeout(self) -> None:
        watcher, _ = self.watcher()
        first = threading.Thread(target=watcher.read)
        first.start()
        eventually(lambda: watcher._waiter.waiting)
        before = time.monotonic()
        self.assertIsNone(watcher.read(0.05))
        self.assertGreaterEqual(time.monotonic() - before, 0.05)
        self.assertTrue(first.is_alive())
        watcher.close()
        first.join(PATIENCE)

    def test_nothing_is_written_to_a_descriptor_after_close(self) -> None:
        watcher, _ = self.watcher()
        watcher.fileno()
        watcher.close()
        with unittest.mock.patch.object(os, "write") as write:
            watcher._queue.append(execed(7))
            watcher._show()
            watcher._waiter.set()
        self.assertEqual(write.mock_calls, [])

    def test_a_watch_of_everything_that_fails_is_undone(self) -> None:
        watcher, source = self.watcher()
        source.give(execed(7), execed(5))
        with unittest.mock.patch.object(cnproc, "_ended", side_effect=OSError(errno.EMFILE, "")), \
                self.assertRaises(OSError):
            watcher.watch(None, What.EXIT)
        self.assertEqual((watcher._table.everything, source.calls[-1]), (0, ("watch_all", 0)))
        self.assertEqual([event.pid for event in iter(lambda: watcher.read(0), None)], [7])

    def test_reused_pids_that_form_a_circle_do_not_hang_a_start(self) -> None:
        watcher, source = self.watcher()

        class Process:
            pid = 30

        def popen(*_: object, **__: object) -> Process:
            source.give(fork(20, os.getpid()), fork(21, 20), ended(20), fork(20, 21), fork(30, os.getpid()), ended(21))
            return Process()

        with unittest.mock.patch.object(subprocess, "Popen", popen):
            watcher.popen(["true"])
        self.assertIn(30, watcher.pids)

    def test_a_command_whose_watch_fails_does_not_run_on(self) -> None:
        watcher, _ = self.watcher()
        started: list[Any] = []
        original: Any = subprocess.Popen

        def popen(*args: Any, **options: Any) -> Any:
            started.append(original(*args, **options))
            return started[0]

        with unittest.mock.patch.object(subprocess, "Popen", popen), unittest.mock.patch.object(
                cnproc._Intake, "adopted", side_effect=OSError(errno.EMFILE, "")), self.assertRaises(OSError):
            watcher.popen(["sleep", "60"])
        self.assertEqual(started[0].returncode, -9)

    def test_a_pid_that_another_thread_s_command_has_next_keeps_the_events_of_the_command(self) -> None:
        me = os.getpid()
        for follow in True, False:
            watcher, source = self.watcher()
            born = [fork(1000, me)]
            ours = [execed(1000), fork(1001, 1000), execed(1001), fork(1002, 1001), ended(1001, 4), execed(1002),
                    ended(1002, 5)]
            theirs = [fork(1001, me), execed(1001), fork(1002, 1001), ended(1002), ended(1001)]
            again = [fork(1002, 1000), execed(1002)]

            def popen(*_: Any, **__: Any) -> Any:
                source.give(*born, *ours, *theirs, *again)
                return unittest.mock.Mock(pid=1000)

            with unittest.mock.patch.object(subprocess, "Popen", popen):
                watcher.popen(["command"], follow=follow)
            wanted: list[Any] = [*born, *ours, *again] if follow else [*born, execed(1000), *ours[1:2], *again[:1]]
            told = [watcher.read(0) for _ in range(len(wanted) + 1)]
            self.assertEqual([(type(event), event and event.pid) for event in told],
                             [*((type(event), event.pid) for event in wanted), (type(None), None)])
            self.assertEqual(watcher.pids, {7, 1000, 1002} if follow else {7, 1000})

    def test_numbers_of_other_types_are_pids(self) -> None:
        class Number:
            def __init__(self, value: int) -> None:
                self.value = value

            def __index__(self) -> int:
                return self.value

        watcher, source = self.watcher()
        me: Any = Number(os.getpid())
        watcher.watch(me, follow=False)
        self.assertEqual(cnproc.cmdline(me), cnproc.cmdline(os.getpid()))
        watcher.unwatch(me)
        self.assertEqual((watcher.pids, source.calls[-1]), ({7}, ("remove", os.getpid())))
        flag: Any = True
        with self.assertRaises(TypeError):
            watcher.watch(os.getpid(), flag)


class Case(unittest.TestCase):
    """Children that end with the test, and waits with a deadline."""

    sources: tuple[Any, ...] = cnproc.Watcher._sources

    def setUp(self) -> None:
        faulthandler.dump_traceback_later(20 * PATIENCE, exit=True)  # for calls without a deadline of their own
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        patch = unittest.mock.patch.object(cnproc.Watcher, "_sources", self.sources)
        patch.start()
        self.addCleanup(patch.stop)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        child = subprocess.Popen(command, **options)
        self.addCleanup(self.end, child)
        return child

    @staticmethod
    def end(child: subprocess.Popen[Any]) -> None:
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in filter(None, (child.stdin, child.stdout, child.stderr)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def listener(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """A child that uses cnproc, and so must not be killed: it would leave its subscription behind."""
        child = self.start(*command, **options)

        def interrupt() -> None:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                child.wait(PATIENCE)

        self.addCleanup(interrupt)
        return child

    def shell(self, script: str, **options: Any) -> subprocess.Popen[Any]:
        """A shell, past its exec, that waits for go() before it runs the script."""
        return self.ready(self.start("sh", "-c", "echo; read go; " + script, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, **options))

    @staticmethod
    def attempts(pid: int) -> Iterator[None]:
        """At each, the next process that is started gets this pid, if no other comes in between."""
        time.sleep(0.03)  # start times are in hundredths of a second
        for _ in range(100):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
            yield

    def again(self, pid: int, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """A process that reuses the pid of one that is gone."""
        for _ in self.attempts(pid):
            child = self.start(*command, **options)
            if child.pid == pid:
                return child
            self.end(child)
        return self.skipTest("the pid could not be reused")

    @staticmethod
    def ready(child: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
        """The child, when it has written a line."""
        assert child.stdout
        child.stdout.readline()
        return child

    def python(self, code: str, *args: str) -> subprocess.Popen[Any]:
        """A Python child with the usual modules, that waits for go(); its code runs as a program of its own."""
        prelude = "import ctypes, os, signal, sys, threading, time\nlibc = ctypes.CDLL(None)\nprint(flush=True)\n"
        return self.ready(self.start(*PYTHON, "-c", f"{prelude}sys.stdin.readline()\n{textwrap.dedent(code)}",
                                     *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    @staticmethod
    def go(child: subprocess.Popen[Any]) -> None:
        assert child.stdin
        child.stdin.write(b"\n")
        child.stdin.flush()

    def watcher(self, *pids: int, events: int = What.LIFE, follow: bool = True, **options: Any) -> cnproc.Watcher:
        watcher = cnproc.Watcher(**options)
        self.addCleanup(watcher.close)
        for pid in pids:
            watcher.watch(pid, events, follow=follow)
        return watcher

    def until(self, watcher: cnproc.Watcher, last: Callable[[Any], object], patience: float = PATIENCE) -> list[Any]:
        """The events up to the one for which last(event) holds."""
        events: list[Any] = []
        deadline = time.monotonic() + patience
        while not events or not last(events[-1]):
            event = watcher.read(max(0, deadline - time.monotonic()))
            if event is None:
                self.fail(f"an event is missing; the latest of {len(events)}: {events[-8:]}")
            events.append(event)
        return events

    def exits(self, watcher: cnproc.Watcher, number: int) -> list[Any]:
        """The events up to the one that makes so many Exits."""
        left = iter(range(number - 1))
        return self.until(watcher, lambda event: isinstance(event, Exit) and next(left, None) is None)

    def witness(self, pid: int) -> Callable[[int], list[Any]]:
        """A function that waits until so many ends of this process and its descendants have been reported.

        The kernel wakes who waits for a process before it reports the end. It reports to the newest socket first, so
        every later watcher has been told, too.
        """
        watcher = self.watcher(pid, events=What.EXIT, rcvbuf=32 << 20)
        return lambda number: self.exits(watcher, number)

    def rest(self, watcher: cnproc.Watcher, patience: float = PATIENCE) -> list[Any]:
        """The events until no process is watched any longer."""
        return [*self.each(watcher, patience)]

    def each(self, watcher: cnproc.Watcher, patience: float) -> Iterator[Any]:
        deadline = time.monotonic() + patience
        while True:
            watched = watcher.pids
            event = watcher.read(0.1 if watched else 0)
            if event:
                yield event
            elif not watched:
                return
            elif time.monotonic() > deadline:
                self.fail(f"the end of {watched} is missing")

    def assert_nothing_kept(self, watcher: cnproc.Watcher) -> None:
        """The watcher has no bookkeeping left of any process."""
        while watcher.read(0):
            pass
        self.assertEqual((watcher._source.known(), watcher._table.watched), ({}, {}))
        self.assertEqual((watcher._table.ended, [*watcher._queue]), (set(), []))
        if watcher.source == "netlink":
            self.assertEqual(watcher._source._tracker.processes, {})

    def life(self, child: subprocess.Popen[Any], watcher: cnproc.Watcher | None = None, **options: Any) -> list[Any]:
        """The events from go() to the Exit of a child and of the last of its descendants."""
        watcher = watcher or self.watcher(child.pid, **options)
        family = set(watcher.pids) - {os.getpid()}
        ended: set[int] = set()

        def over(event: Any) -> bool:
            if isinstance(event, Fork):
                family.add(event.pid)
            elif isinstance(event, Exit):
                ended.add(event.pid)
            return child.pid in ended and not family & watcher.pids

        self.go(child)
        return [*self.until(watcher, over), *iter(lambda: watcher.read(0), None)]

    @staticmethod
    def at_the_first_wait(function: Callable[[], object], owner: type = cnproc.Watcher,
                          name: str = "_fill") -> contextlib.AbstractContextManager[Any]:
        """Call it when a reader is about to wait."""
        original = getattr(owner, name)
        called: list[bool] = []

        def before(*args: Any, **options: Any) -> Any:
            if not called:
                called.append(True)
                function()
            return original(*args, **options)

        return unittest.mock.patch.object(owner, name, before)


def statuses(events: Iterable[Any]) -> list[int]:
    """Sorted: the kernel may report a parent's Exit before that of its last child."""
    codes: list[Any] = [event.returncode for event in events if isinstance(event, Exit)]
    return sorted(codes)


def kinds(events: Iterable[Any], pid: int | None = None) -> list[type]:
    return [type(event) for event in events if pid in (None, event.pid)]


@live
class Life(Case):
    """Fork, exec and exit of processes."""

    def test_a_name_with_parentheses_misleads_nobody(self) -> None:
        child = self.python("libc.prctl(15, b'a) Z 1 (b'); print(flush=True); sys.stdin.readline()")  # PR_SET_NAME
        self.go(child)
        self.ready(child)
        watcher = self.watcher(child.pid)  # a zombie cannot be watched
        self.assertEqual(kinds(self.life(child, watcher)), [Exit])
        with self.assertRaises(ProcessLookupError):
            watcher.watch(child.pid)

    def test_fork_exec_and_exit_of_a_child(self) -> None:
        watcher = self.watcher(os.getpid())
        child = self.start("sh", "-c", "exit 3")
        fork, run, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([type(event) for event in (fork, run, end)], [Fork, Exec, Exit])
        self.assertEqual({(event.pid, event.tid) for event in (fork, run, end)}, {(child.pid, child.pid)})
        self.assertEqual((fork.parent_pid, fork.parent_tid), (os.getpid(), threading.get_native_id()))
        self.assertEqual((end.exit_code, end.returncode, end.exit_signal), (0x300, 3, signal.SIGCHLD))
        self.assertLess(fork.timestamp_ns, end.timestamp_ns)
        self.assertEqual(child.wait(), 3)

    def test_exec_has_the_command_line(self) -> None:
        child = self.shell("exec sh -c 'read x; exit 3' ' a' ''")
        watcher = self.watcher(child.pid)
        self.go(child)
        run, = self.until(watcher, lambda event: isinstance(event, Exec))
        self.assertEqual((run.cmdline, run.truncated), (["sh", "-c", "read x; exit 3", " a", ""], False))

    def test_source_and_source_error(self) -> None:
        watcher = self.watcher()
        self.assertIn(watcher.source, ("ebpf", "netlink"))
        self.assertEqual(watcher.source_error is None, watcher.source == "ebpf" or len(self.sources) == 1)
        refused = unittest.mock.Mock(side_effect=OSError(errno.EPERM, "no eBPF"))
        with unittest.mock.patch.object(cnproc.Watcher, "_sources", (refused, cnproc._DatagramSource)):
            watcher = self.watcher()
        assert watcher.source_error
        self.assertEqual((watcher.source, watcher.source_error.errno), ("netlink", errno.EPERM))

    def test_exit_statuses(self) -> None:
        for script, returncode in (("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", -9),
                                   ("kill -TERM $$", -15)):
            with self.subTest(script):
                child = self.shell(script)
                *_, end = self.life(child)
                self.assertEqual((end.returncode, child.wait()), (returncode, returncode))

    def test_a_core_dump_is_reported_and_its_signal_is_the_returncode(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            child = self.shell("ulimit -c unlimited; kill -SEGV $$", cwd=folder)
            *_, dump, end = self.life(child, events=What.COREDUMP | What.EXIT)
            status = child.wait()
        self.assertEqual((type(dump), dump.pid), (Coredump, child.pid))
        self.assertEqual((end.returncode, status, end.exit_code & 0x7F), (-11, -11, 11))

    def test_follow_reaches_every_generation(self) -> None:
        child = self.shell("(sh -c 'sh -c \"exit 5\"; exit 6'; exit 7) & wait $!; exit 8")
        events = self.life(child)
        self.assertEqual(statuses(events), [5, 6, 7, 8])
        forks = {event.pid: event.parent_pid for event in events if isinstance(event, Fork)}
        self.assertEqual(len(forks), 3)
        self.assertLessEqual(set(forks.values()), {child.pid, *forks})

    def test_follow_reaches_a_daemon(self) -> None:
        child = self.python("""
            if not os.fork():
                os.setsid()
                if not os.fork():
                    while os.getppid() == int(sys.argv[1]):
                        pass
                    os._exit(9)
                os._exit(0)
            os.wait()
        """, "0")
        watcher = self.watcher(child.pid)
        self.go(child)
        events = self.until(watcher, lambda event: isinstance(event, Exit) and event.returncode == 9)
        daemon = events[-1].pid
        self.assertEqual(kinds(events, daemon), [Fork, Exit])

    def test_existing_descendants_are_followed(self) -> None:
        child = self.start("sh", "-c", "exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5",
                           stdin=subprocess.PIPE)
        grandchild, = eventually(lambda: children(child.pid))
        watcher = self.watcher(child.pid, events=What.FORK | What.EXIT)
        self.assertEqual(watcher.pids, {child.pid, grandchild})
        events = self.life(child, watcher)
        self.assertEqual((kinds(events), statuses(events)), ([Exit, Exit], [4, 5]))

    def test_without_follow_a_fork_is_reported_but_the_child_is_not_watched(self) -> None:
        child = self.shell("sh -c 'exit 4'; exit 5")
        events = self.life(child, follow=False)
        self.assertEqual(kinds(events), [Fork, Exit])
        self.assertEqual(events[-1].returncode, 5)

    def test_two_watches_of_a_process_add_up(self) -> None:
        child = self.shell("sh -c 'exit 4'; exec sh -c 'exit 5'")
        watcher = self.watcher(child.pid, events=What.EXEC, follow=False)
        watcher.watch(child.pid, What.EXIT, follow=False)
        self.assertEqual(kinds(self.life(child, watcher)), [Exec, Exit])

    def test_a_second_watch_reports_nothing_from_before_it(self) -> None:
        child = self.python("""
            for _ in range(2):
                if not os.fork():
                    os._exit(0)
                os.wait()
                print(flush=True)
                sys.stdin.readline()
        """)
        watcher = self.watcher(child.pid, events=What.EXEC | What.EXIT, follow=False)
        self.go(child)
        self.ready(child)
        watcher.watch(child.pid, What.FORK, follow=False)
        self.go(child)
        self.ready(child)
        self.assertEqual(kinds(self.life(child, watcher)), [Fork, Exit])

    def test_a_fork_that_is_read_late_does_not_change_the_childs_own_watch(self) -> None:
        for everything in False, True:
            watcher = self.watcher()
            watcher.watch(None if everything else os.getpid(), What.EXEC)
            child = self.python("libc.prctl(15, b'fresh')")
            watcher.watch(child.pid, What.COMM | What.EXIT)
            events = self.life(child, watcher)
            self.assertEqual([kind for kind in kinds(events, child.pid) if kind is not Exec], [Comm, Exit])

    @root
    def test_pid_reuse_by_a_followed_child_while_the_first_exit_is_unread(self) -> None:
        child = self.python("""
            for status in 3, 7:
                for _ in range(100):
                    if status == 7:
                        open("/proc/sys/kernel/ns_last_pid", "w").write(str(first - 1))
                    pid = os.fork()
                    if not pid:
                        if status == 7:
                            sys.stdin.readline()
                        os._exit(status)
                    if status == 3:
                        first = pid
                        break
                    if pid == first:
                        break
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                if status == 3:
                    os.waitpid(pid, 0)
                    sys.stdin.readline()
            print(pid == first, flush=True)
            os.wait()
        """)
        told = self.witness(child.pid)
        watcher = self.watcher(child.pid)
        self.go(child)
        told(1)
        self.go(child)
        assert child.stdout
        if child.stdout.readline() != b"True\n":
            self.skipTest("the pid could not be reused")
        while watcher.read(0):
            pass
        self.assertEqual(len(watcher.pids), 2)
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [0, 7])

    @root
    def test_pid_reuse_while_the_exit_is_unread_does_not_change_its_status(self) -> None:
        child = self.shell("exit 3")
        told = self.witness(child.pid)
        watcher = self.watcher(child.pid, events=What.EXIT, follow=False)
        self.go(child)
        child.wait()
        told(1)
        self.again(child.pid, "sh", "-c", "exit 4").wait()
        self.assertEqual(statuses(self.rest(watcher)), [3])

    @root
    def test_pid_reuse_by_a_process_watched_while_the_old_exit_is_unread(self) -> None:
        for wait in False, True:
            child = self.shell("sh -c 'exit 2'; exit 3")
            told = self.witness(child.pid)
            watcher = self.watcher(child.pid)
            self.go(child)
            child.wait()
            told(2)
            other = self.again(child.pid, "sh", "-c", "echo; read go; exit 4", stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
            watcher.watch(self.ready(other).pid)
            if wait:
                self.go(other)
                other.wait()
            self.assertIn(other.pid, watcher.pids)
            self.assertEqual(statuses(self.exits(watcher, 2)), [2, 3])
            self.assertEqual(watcher.pids, {other.pid})
            if not wait:
                self.go(other)
            self.assertEqual(statuses(self.exits(watcher, 1)), [4])
            self.assertEqual(watcher.pids, set())

    def test_unwatch(self) -> None:
        watcher = self.watcher()
        child, other = self.shell("exit 1"), self.shell("exit 2")
        for pid in child.pid, other.pid:
            watcher.watch(pid)
        watcher.unwatch(child.pid)
        self.assertEqual(watcher.pids, {other.pid})
        self.go(child)
        child.wait()
        self.assertEqual({event.pid for event in self.life(other, watcher)}, {other.pid})
        self.assertEqual(watcher.pids, set())
        for unwatched in child.pid, other.pid, None, 1:
            with self.assertRaises(KeyError):
                watcher.unwatch(unwatched)

    def test_unwatch_of_a_process_whose_exit_has_been_received_is_a_key_error(self) -> None:
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid)
        self.go(child)
        self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
        with self.assertRaises(KeyError):
            watcher.unwatch(child.pid)
        self.assertEqual((watcher.pids, statuses([watcher.read(0)])), ({child.pid}, [3]))
        self.assertEqual(watcher.pids, set())

    def test_unwatch_of_all_processes_keeps_the_single_watches(self) -> None:
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid)
        watcher.watch()
        watcher.unwatch()
        self.start("true").wait()
        self.assertEqual({event.pid for event in self.life(child, watcher)}, {child.pid})
        self.assert_nothing_kept(watcher)

    def test_watch_refuses_who_is_gone_a_zombie_and_bad_arguments(self) -> None:
        watcher = self.watcher()
        gone = self.start("true")
        gone.wait()
        zombie = self.start("true")
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        for pid in gone.pid, zombie.pid, 1 << 31, 1 << 40:
            with self.assertRaisesRegex(ProcessLookupError, str(pid)):
                watcher.watch(pid)
        for pid in 0, -1:
            with self.assertRaises(ValueError):
                watcher.watch(pid)
        for events in 0x400, What.ALL | 0x400, 1 << 32, What.EXIT | 1 << 32, 0, -1:
            with self.assertRaises(ValueError):
                watcher.watch(os.getpid(), events)
        wrong: list[Any] = [("1", What.EXIT), (1.0, What.EXIT), (1, "exit")]
        for arguments in wrong:
            with self.assertRaises(TypeError):
                watcher.watch(*arguments)
        self.assertEqual(watcher.pids, set())
        self.assert_nothing_kept(watcher)
        with self.assertRaises(ProcessLookupError):
            cnproc.watch(os.getpid(), gone.pid)

    def test_watch_refuses_a_tid(self) -> None:
        tids: list[int] = []
        stop = threading.Event()

        def wait() -> None:
            tids.append(threading.get_native_id())
            stop.wait()

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            eventually(lambda: tids)
            with self.assertRaisesRegex(ProcessLookupError, f"{tids[0]} is a thread of process {os.getpid()}"):
                self.watcher().watch(tids[0])
        finally:
            stop.set()
            thread.join()

    def test_events_from_before_the_watch_are_not_reported(self) -> None:
        watcher = self.watcher(os.getpid(), events=What.COMM)  # so that something is queued
        watcher.watch(events=What.SID)
        for _ in range(10):
            self.start("true").wait()
        watcher.watch(os.getpid())
        child = self.start("true")
        events = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([(type(event), event.pid) for event in events if not isinstance(event, Sid)],
                         [(kind, child.pid) for kind in (Fork, Exec, Exit)])

    def test_watch_of_all_processes(self) -> None:
        watcher = self.watcher()
        watcher.watch()
        child = self.start("sh", "-c", "sh -c 'exit 2'; exit 1")
        ended: set[Any] = set()

        def over(event: Any) -> bool:  # a parent's Exit can come before that of its last child
            if isinstance(event, Exit):
                ended.add(child if event.pid == child.pid else event.returncode)
            return {child, 2} <= ended

        events = self.until(watcher, over)
        self.assertEqual(kinds(events, child.pid), [Fork, Exec, Exit])
        self.assertEqual(watcher.pids, set())

    def test_nonzero_exit_does_not_report_exits_with_0(self) -> None:
        child = self.shell("sh -c 'exit 0'; sh -c 'exit 6'; kill -9 $$")
        stream = cnproc.watch(child.pid, events=What.NONZERO_EXIT, timeout=PATIENCE)
        self.go(child)
        self.assertEqual(statuses(stream), [-9, 6])

    def test_events_are_independent_copies(self) -> None:
        child = self.shell("sh -c 'exit 1'; sh -c 'exit 2'; exit 3")
        stream = cnproc.watch(child.pid, timeout=PATIENCE)
        self.go(child)
        events: list[Any] = list(stream)
        self.assertEqual(len(set(events)), len(events))
        self.assertEqual(len({id(event) for event in events}), len(events))
        self.assertEqual(statuses(events), [1, 2, 3])

    def test_thousands_of_short_processes_are_each_reported_once(self) -> None:
        number = scale(10_000)
        child = self.shell(forking(number))
        stream = cnproc.watch(child.pid, timeout=PATIENCE * 4)
        self.go(child)
        events: list[Any] = list(stream)
        self.assertEqual([event for event in events if isinstance(event, Lost)], [])
        exits: collections.defaultdict[int, list[int | None]] = collections.defaultdict(list)
        for event in events:
            if isinstance(event, Exit):
                exits[event.pid].append(event.returncode)
        forks = [event.pid for event in events if isinstance(event, Fork)]
        told = [exits[pid].pop(0) for pid in forks if exits[pid]]  # a pid can be used twice
        self.assertEqual(len(forks), number)
        self.assertEqual(told, [i % 256 for i in range(number)])
        self.assertEqual({pid: left for pid, left in exits.items() if left}, {child.pid: [0]})
        self.assertEqual([event for event in events if event.tid != event.pid], [])


def forking(number: int) -> str:
    """A shell script that forks so many, each with its number as its status; it waits for two of three at once."""
    return f"i=0; while [ $i -lt {number} ]; do (exit $i) & [ $((i % 3)) = 0 ] || wait $!; i=$((i+1)); done; wait; "


def or_doubt(returncode: int) -> tuple[int | None, ...]:
    """What a process with several threads may be said to have ended with, if that is its returncode.

    Before Linux 5.17 nobody can be asked, and when a thread ends beside the leader the events do not say it either.
    """
    return (returncode, None) if RELEASE < (5, 17) else (returncode,)


THREADS = """
def thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread
def leave():
    libc.pthread_exit(None)
"""
# The system call of one thread, not exit_group(2), in: libc.syscall(SYS_exit, status)
SYS_EXIT = """
SYS_exit = {"x86_64": 60, "s390x": 1}.get(os.uname().machine, 93)
"""
# A process whose first thread ends first; the other waits for go().
ALONE = THREADS + """
def rest():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    print("alone", flush=True)
    sys.stdin.readline()
    os._exit(7)
thread(rest)
leave()
"""


@live
class Threads(Case):
    """The kernel makes a FORK and an EXIT of each thread; the watcher reports the process's."""

    def test_threads_are_not_reported_by_default(self) -> None:
        child = self.python(THREADS + "for _ in range(50): thread(int).join()\nos._exit(3)")
        end, = self.life(child)
        self.assertEqual((type(end), end.tid), (Exit, child.pid))
        self.assertIn(end.returncode, or_doubt(3))

    def test_threads_true_reports_each_thread(self) -> None:
        child = self.python(THREADS + "for _ in range(50): thread(int).join()\nos._exit(3)")
        watcher = self.watcher(child.pid, threads=True)
        self.go(child)
        events = self.rest(watcher)
        forks = [event.tid for event in events if isinstance(event, Fork)]
        exits = [event.tid for event in events if isinstance(event, Exit)]
        self.assertEqual({event.pid for event in events}, {child.pid})
        self.assertEqual((len(forks), sorted(forks + [child.pid])), (50, sorted(exits)))
        # The parent that the kernel names is that of the process.
        self.assertEqual({event.parent_pid for event in events if isinstance(event, Fork)}, {os.getpid()})
        self.assertEqual(watcher.pids, set())

    def test_the_exit_of_a_leader_is_not_reported_while_other_threads_live(self) -> None:
        child = self.python(ALONE)
        watcher = self.watcher(child.pid)
        self.go(child)
        assert child.stdout
        self.assertEqual(child.stdout.readline(), b"alone\n")
        self.assertIsNone(watcher.read(0))
        self.assertEqual(watcher.pids, {child.pid})
        late = self.watcher(child.pid)  # which never sees the leader alive
        for each in watcher, late:
            end, = self.life(child, each) if each is watcher else self.until(each, lambda event: True)
            self.assertEqual((type(end), end.pid, end.tid), (Exit, child.pid, child.pid))
            self.assertIn(end.returncode, or_doubt(7))

    def test_existing_threads_are_counted(self) -> None:
        child = self.python(THREADS + """
stop = threading.Event()
threads = [thread(stop.wait) for _ in range(5)]
print(flush=True)
sys.stdin.readline()
stop.set()
for each in threads:
    each.join()
os._exit(2)
""")
        self.go(child)
        self.ready(child)
        end, = self.life(child)
        self.assertIsInstance(end, Exit)
        self.assertIn(end.returncode, or_doubt(2))

    def test_a_non_leader_exec_is_not_an_exit(self) -> None:
        for _ in range(3 if EMULATED else 10):
            child = self.python(THREADS + """
def run():
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])
for _ in range(3):
    thread(threading.Event().wait)
thread(run)
threading.Event().wait()
""")
            events = self.life(child)
            self.assertEqual([(type(event), event.pid, event.tid) for event in events],
                             [(Exec, child.pid, child.pid), (Exit, child.pid, child.pid)])
            self.assertIn(events[-1].returncode, or_doubt(5))

    def test_a_non_leader_exec_after_the_exit_of_the_leader(self) -> None:
        child = self.python(THREADS + """
def run():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])
thread(run)
leave()
""")
        self.assertEqual([(type(event), event.pid) for event in self.life(child)],
                         [(Exec, child.pid), (Exit, child.pid)])

    def test_watch_during_a_non_leader_exec_after_the_exit_of_the_leader(self) -> None:
        child = self.python(THREADS + """
def run():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
    os.execv("/bin/sh", ["sh", "-c", "read go; exit 5"])
thread(run)
leave()
""")
        self.go(child)
        assert child.stdout
        tid, look = int(child.stdout.readline()), cnproc._stat

        def late(pid: int) -> Any:  # the exec comes right after the look, which sees a leader that is dead
            stat = look(pid)
            if os.path.exists(f"/proc/{pid}/task/{tid}"):
                self.go(child)
                eventually(lambda: not os.path.exists(f"/proc/{pid}/task/{tid}"))
            return stat

        with unittest.mock.patch.object(cnproc, "_stat", late):
            watcher = self.watcher(child.pid)
        self.assertEqual(statuses(self.life(child, watcher)), [5])

    def test_a_fork_by_a_thread_is_followed(self) -> None:
        child = self.python(THREADS + """
def fork():
    if not os.fork():
        os._exit(6)
    os.wait()
thread(fork).join()
os._exit(0)
""")
        fork, *exits = self.life(child)
        ends = {event.pid: event.returncode for event in exits}
        self.assertEqual((ends.keys(), ends[fork.pid]), ({fork.pid, child.pid}, 6))
        self.assertIn(ends[child.pid], or_doubt(0))
        self.assertEqual(fork.parent_pid, child.pid)
        self.assertNotEqual(fork.parent_tid, child.pid)

    def test_no_bookkeeping_is_left(self) -> None:
        child = self.python(THREADS + """
for i in range(int(sys.argv[1])):
    if not os.fork():
        if i % 2:
            thread(int)
        if i % 3:
            os.execv("/bin/true", ["true"])
        os._exit(0)
    os.wait()
""", str(scale(1000)))
        watcher = self.watcher(child.pid)
        watcher.watch()
        self.life(child, watcher)
        watcher.unwatch()
        self.assert_nothing_kept(watcher)


@live
class Kinds(Case):
    """Every other kind of event."""

    def reported(self, kind: type, code: str) -> tuple[subprocess.Popen[Any], list[Any]]:
        child = self.python(code)
        watcher = self.watcher(child.pid, events=What[kind.__name__.upper()] | What.EXIT)
        *events, end = self.life(child, watcher)
        self.assertEqual({type(event) for event in events}, {kind})
        self.assertEqual({event.pid for event in events}, {child.pid})
        self.assertEqual(end.returncode, 0, child.communicate())
        return child, events

    @root
    def test_uid(self) -> None:
        _, events = self.reported(Uid, "os.setreuid(1000, 1001)")
        self.assertEqual([(event.ruid, event.euid) for event in events], [(1000, 1001)])

    @root
    def test_gid(self) -> None:
        _, events = self.reported(Gid, "os.setregid(1000, 1001)")
        self.assertEqual([(event.rgid, event.egid) for event in events], [(1000, 1001)])

    def test_sid(self) -> None:
        child, events = self.reported(Sid, "os.setsid()")
        self.assertEqual([event.tid for event in events], [child.pid])

    def test_comm(self) -> None:
        _, events = self.reported(Comm, "libc.prctl(15, b'fresh name'); libc.prctl(15, b'\\xff\\x1b')")
        self.assertEqual([event.comm for event in events], ["fresh name", "\udcff\x1b"])

    @unittest.skipIf(RELEASE < (5, 11), "Linux 5.10 does not report it")
    def test_comm_written_to_proc(self) -> None:
        _, events = self.reported(Comm, "open('/proc/self/comm', 'w').write('by file')")
        self.assertEqual([event.comm for event in events], ["by file"])

    def test_ptrace(self) -> None:
        child = self.python("""
            libc.prctl(0x59616d61, ctypes.c_ulong(-1))  # PR_SET_PTRACER_ANY, where Yama asks for it
            print(flush=True)
            sys.stdin.readline()
        """)
        self.go(child)
        self.ready(child)
        watcher = self.watcher(child.pid, events=What.PTRACE | What.EXIT)
        tracer = self.start(*PYTHON, "-c", textwrap.dedent("""
            import ctypes, os, sys
            ptrace = ctypes.CDLL(None, use_errno=True).ptrace
            ptrace.argtypes = ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
            pid = int(sys.argv[1])
            assert ptrace(0x4206, pid, None, None) == 0, ctypes.get_errno()  # PTRACE_SEIZE
            assert ptrace(0x4207, pid, None, None) == 0, ctypes.get_errno()  # PTRACE_INTERRUPT
            os.waitpid(pid, 0x40000000)  # __WALL
            assert ptrace(17, pid, None, None) == 0, ctypes.get_errno()  # PTRACE_DETACH
        """), str(child.pid))
        attach, detach = self.until(watcher, lambda event: event.tracer_pid == 0)
        self.assertEqual((attach.pid, attach.tracer_pid, attach.tracer_tid), (child.pid, tracer.pid, tracer.pid))
        self.assertEqual((detach.pid, detach.tracer_tid), (child.pid, 0))
        self.assertEqual(kinds(self.life(child, watcher)), [Exit])

    def test_coredump(self) -> None:
        child = self.python("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()")
        watcher = self.watcher(child.pid, events=What.COREDUMP | What.EXIT)
        self.assertEqual(kinds(self.life(child, watcher)), [Coredump, Exit])


@live
class Reading(Case):
    """read(), iteration, fileno(), close(), overrun."""

    def test_read_times_out_without_spinning(self) -> None:
        watcher = self.watcher(os.getpid())
        for timeout in 0, 0.0005, 0.1:
            before, spent = time.monotonic(), time.thread_time()
            self.assertIsNone(watcher.read(timeout))
            self.assertGreaterEqual(time.monotonic() - before, timeout)
        self.assertLess(time.thread_time() - spent, 0.05)
        for timeout in -1, float("nan"):
            with self.assertRaises(ValueError):
                watcher.read(timeout)
        child = self.shell("exit 1")
        self.assertIsInstance(watcher.read(float("inf")), Fork)
        self.go(child)

    def test_each_of_several_readers_keeps_its_timeout(self) -> None:
        with cnproc.Watcher() as watcher:
            times: list[int] = []

            def read(timeout: float | None) -> None:
                with contextlib.suppress(ValueError):  # it is closed
                    while not watcher.closed:
                        watcher.read(timeout)
                        if timeout:
                            times.append(1)

            readers = [threading.Thread(target=read, args=(timeout,)) for timeout in (None, None, 0.001, 0.001)]
            for reader in readers:
                reader.start()
            for _ in range(20):
                watcher.popen([TRUE]).wait()
            before = len(times)
            eventually(lambda: len(times) > before + 20)  # it is quiet: nothing wakes who reads without a timeout
            watcher.close()
            for reader in readers:
                reader.join(PATIENCE)

    def test_a_process_is_watched_until_its_exit_has_been_handed_out(self) -> None:
        watcher = self.watcher()
        child = watcher.popen(["sh", "-c", "/bin/true; exit 3"])
        child.wait()
        eventually(lambda: not os.path.exists(f"/proc/{child.pid}"))
        ends: list[Any] = []
        for event in watcher:
            ends += [event] if isinstance(event, Exit) else []
            if not watcher.pids:
                break
        self.assertEqual(sorted((end.pid == child.pid, end.returncode) for end in ends), [(False, 0), (True, 3)])

    def test_a_lack_of_descriptors_does_not_end_an_idle_watch(self) -> None:
        code = """
import cnproc, resource, subprocess, sys
child = subprocess.Popen(["sh", "-c", "read x; exit 5"], stdin=subprocess.PIPE)
with cnproc.Watcher(threads=sys.argv[1] == "threads") as watcher:
    watcher.watch(child.pid, cnproc.What.EXIT)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    print(watcher.read(2))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    child.stdin.close()
    print(watcher.read(60).returncode, watcher.lost)
"""
        runs = [self.start(*PYTHON, "-c", code, threads, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for threads in ("", "threads")]
        for run in runs:
            self.assertEqual(run.communicate(timeout=2 * PATIENCE), (b"None\n5 0\n", b""))

    def test_a_generator_in_a_forked_child_hands_out_nothing(self) -> None:
        code = """
import cnproc, os
events = cnproc.run(["sh", "-c", "/bin/true; exit 5"])
events.process.wait()
if not os.fork():
    try:
        print(next(events), flush=True)
    except ValueError:
        print("ValueError", flush=True)
    os._exit(0)
os.wait()
print(sorted(event.returncode for event in events if event.what == cnproc.What.EXIT))
"""
        run = subprocess.run([*PYTHON, "-c", code], cwd=HERE, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((run.stdout, run.stderr), ("ValueError\n[0, 5]\n", ""))

    def test_read_with_timeout_0_returns_a_queued_event(self) -> None:
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid, events=What.EXIT, follow=False)
        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        select.select([watcher], [], [], PATIENCE)
        self.assertIsInstance(watcher.read(0), Exit)
        self.assertIsNone(watcher.read(0))

    def test_fileno_is_readable_for_events_in_hand(self) -> None:
        watcher = self.watcher(os.getpid(), events=What.FORK | What.COMM, follow=False)
        storm(3)
        first = next(iter(watcher))  # the watcher has taken in the others: nothing is left in the source
        self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
        ctypes.CDLL(None).prctl(15, b"seen")  # PR_SET_NAME
        events = [first, *self.until(watcher, lambda event: isinstance(event, Comm) and event.comm == "seen")]
        self.assertEqual([type(event) for event in events], [Fork, Fork, Fork, Comm])

    def test_one_read_after_each_select_on_fileno_is_enough(self) -> None:
        child = self.shell("sh -c 'exit 1'; sh -c 'exit 2'; exit 3")
        watcher = self.watcher(child.pid)
        self.go(child)
        child.wait()
        events: list[Any] = []
        while len(statuses(events)) < 3:
            self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
            events.append(watcher.read(0))
        self.assertEqual((statuses(events), watcher.read(0)), ([1, 2, 3], None))

    def test_the_generator_subscribes_when_called(self) -> None:
        child = self.shell("exit 2")
        stream = cnproc.watch(child.pid, timeout=PATIENCE)
        self.go(child)
        child.wait()
        self.assertEqual(kinds(stream), [Exit])

    def test_the_generator_of_all_processes_ends_after_its_timeout(self) -> None:
        self.ready(self.start("sh", "-c", "echo; while :; do true & wait; done", stdout=subprocess.PIPE))
        self.assertTrue(list(cnproc.watch(None, timeout=PATIENCE / 100)))

    def test_close_ends_a_blocked_read_and_a_blocked_iteration(self) -> None:
        blocks: list[Callable[[Any], object]] = [
            lambda watcher: watcher.read(), list, lambda watcher: watcher.read(PATIENCE)]
        for block in blocks:
            watcher = self.watcher(os.getpid(), events=What.SID)
            results: list[Any] = []
            thread = threading.Thread(target=lambda: results.append(block(watcher)))
            thread.start()
            eventually(lambda: watcher._is_read)
            watcher.close()
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
            self.assertIn(results[0], (None, []))

    def test_close_in_a_signal_handler_ends_the_read_it_interrupts(self) -> None:
        watcher = self.watcher(os.getpid(), events=What.SID)
        old = signal.signal(signal.SIGALRM, lambda number, frame: watcher.close())
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        before = time.monotonic()
        with self.at_the_first_wait(lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)):
            self.assertIsNone(watcher.read(PATIENCE))
        self.assertLess(time.monotonic() - before, PATIENCE / 2)
        self.assertEqual(watcher._subscription.sock.fileno(), -1)

    def test_close_in_a_forked_child_leaves_a_reading_parent_alone(self) -> None:
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(watcher.read(PATIENCE)))
        thread.start()
        eventually(lambda: watcher._is_read)
        pid = os.fork()
        if not pid:
            watcher.close()
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertTrue(thread.is_alive())
        self.go(child)
        thread.join(PATIENCE)
        self.assertEqual(results[0].returncode, 3)

    def test_after_close(self) -> None:
        watcher = self.watcher(os.getpid())
        watcher.close()
        watcher.close()
        self.assertTrue(watcher.closed)
        for use in watcher.read, watcher.watch, watcher.unwatch, watcher.fileno, watcher.__enter__, watcher.__iter__:
            with self.assertRaises(ValueError):
                use()
        self.assertEqual(watcher.lost, 0)

    @once
    def test_an_overrun_is_reported_where_it_happened_with_the_exact_count(self) -> None:
        number = 1000  # more events than the ring of 64 KiB has room for
        child = self.shell(f"i=0; while [ $i -lt {number} ]; do (exit 1); i=$((i+1)); done; echo; read go; (exit 2); :")
        told = self.witness(child.pid)
        watcher = self.watcher(child.pid, rcvbuf=1 << 16)
        self.go(child)
        self.ready(child)
        told(number)
        dropped = watcher.lost
        self.assertGreater(dropped, 100)
        early = self.until(watcher, lambda event: isinstance(event, Lost))
        self.assertGreater(len(early), 2)
        self.assertFalse(any(event.rebuilt for event in early[:-1]))
        self.assertNotIn(2, statuses(early))
        if watcher.source == "netlink":  # the kernel counts the events of others, too, until there is room again
            self.assertIn(early[-1].count, range(dropped, drops(watcher) + 1))
        else:  # it counts only what is wanted: a Fork and an Exit of each child
            self.assertEqual((early[-1].count, len(early) - 1 + dropped), (dropped, 2 * number))
        self.go(child)
        late = self.rest(watcher)
        self.assertIn(2, statuses([event for event in late if not isinstance(event, Lost) and not event.rebuilt]))
        if watcher.source == "ebpf":
            self.assertEqual((watcher.lost, [event for event in late if isinstance(event, Lost)]), (dropped, []))

    def test_a_large_rcvbuf_is_cut_to_what_is_allowed(self) -> None:
        watcher = self.watcher(rcvbuf=1 << 30)
        self.assertGreater(watcher._subscription.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 100_000)

    def test_a_spoofed_event_is_not_reported(self) -> None:
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid)
        watcher.watch()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as liar:
            liar.bind((0, 0))
            try:
                lie = datagram(0x80000000, child.pid, child.pid, 0x700, 17, 1, 1, stamp=time.monotonic_ns())
                for data in lie, lie * 2:
                    liar.sendto(data, (0, 1))
                    liar.sendto(data, (watcher._subscription.sock.getsockname()[0], 0))
            except PermissionError:
                self.skipTest("only root may send")
        events = self.life(child, watcher)
        self.assertEqual(statuses([event for event in events if event.pid == child.pid]), [1])

    def test_ctrl_c_works_in_a_blocked_read(self) -> None:
        watcher = self.watcher(os.getpid(), events=What.SID)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, signal.default_int_handler))
        for block in (watcher.read, lambda: list(watcher)):
            with self.assertRaises(KeyboardInterrupt), self.at_the_first_wait(
                    lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)):
                block()
        self.start("setsid", "true").wait()
        self.assertIsInstance(watcher.read(PATIENCE), Sid)  # and the watcher goes on

    def test_exceptions_at_any_moment_lose_nothing_silently(self) -> None:
        number = max(200, scale(2000))
        child = self.python("""
            for i in range(int(sys.argv[1])):
                if not os.fork():
                    os._exit(i % 256)
                if i % 3:
                    os.wait()
        """, str(number))
        chance, raised, over = random.Random(1), 0, False

        def handler(_: int, frame: Any) -> None:
            nonlocal raised
            if over or raised > 5000:
                return
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.002) * (20 if EMULATED else 1))
            if frame and frame.f_code.co_filename == cnproc.__file__:  # else an event is lost that we have been given
                raised += 1
                raise KeyboardInterrupt

        watcher = self.watcher(child.pid)
        events: list[Any] = []
        caught = warnings.catch_warnings()
        caught.__enter__()
        self.addCleanup(caught.__exit__, None, None, None)
        warnings.simplefilter("ignore", ResourceWarning)  # of the file that was just being read
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        self.go(child)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            deadline = time.monotonic() + PATIENCE
            while child.pid in watcher._table.watched and time.monotonic() < deadline:
                with contextlib.suppress(KeyboardInterrupt):
                    if chance.random() < 0.5:
                        event = watcher.read(0.05)
                        if event is not None:
                            events.append(event)
                    else:
                        for event in watcher._stream(watcher._deadline(0.05)):
                            events.append(event)
        finally:
            over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
        events += self.rest(watcher)
        self.assertGreater(raised, 20 if not EMULATED else 0)
        said = any(isinstance(event, Lost) for event in events)
        alive: collections.Counter[int] = collections.Counter({child.pid: 1})
        for event in events:
            if isinstance(event, (Fork, Exit)):
                alive[event.pid] += 1 if isinstance(event, Fork) else -1
        self.assertEqual(watcher.pids, set())
        self.assertEqual([pid for pid, lives in alive.items() if lives < 0 and not said], [])
        if not said:  # else what was in hand when it was interrupted is gone
            self.assertEqual((sum(kind is Exit for kind in kinds(events)), set(alive.values())), (number + 1, {0}))

    def test_events_gather_during_the_delay(self) -> None:
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid, delay=0.2)
        self.assertIsNone(watcher.read(0))
        before = time.monotonic()
        self.go(child)
        self.assertIsInstance(watcher.read(PATIENCE), Exit)
        self.assertGreaterEqual(time.monotonic() - before, 0.1)

    def test_a_delay_ends_with_the_timeout(self) -> None:
        child = self.shell("sh -c 'exit 1'; read x")
        watcher = self.watcher(child.pid, delay=PATIENCE)
        self.go(child)
        select.select([watcher], [], [], PATIENCE)
        before = time.monotonic()
        watcher.read(0.1)
        self.assertLess(time.monotonic() - before, PATIENCE / 2)


def waits(pid: int, wakes: int = 0) -> bool:
    """Whether a process waits for events: it has the socket or a pidfd, and polls it on and on.

    wakes: how often it may wake in that time, to look after something else.
    """
    before = switches(pid)
    time.sleep(0.3 if EMULATED else 0.05)
    with open(f"/proc/{pid}/wchan") as file:  # 0 where the kernel does not say
        polls = re.search("poll|^0$", file.read())
    return bool(polls) and state(pid) == "S" and switches(pid) <= before + wakes and any(
        "socket:" in link or "pidfd" in link for link in links(pid))


def state(pid: int) -> str:
    """What a process is doing, in a letter: proc_pid_stat(5)."""
    return stat(pid)[0]


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat, from the third on."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    found: list[int] = []
    for other in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if stat(other)[1] == str(pid):
                found.append(other)
    return found


def switches(pid: int) -> int:
    """How often a process has gone to sleep."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M)[0])


def links(pid: int) -> Iterator[str]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def drops(watcher: cnproc.Watcher) -> int:
    """The kernel's drop counter of the socket."""
    inode = os.fstat(watcher._subscription.sock.fileno()).st_ino
    with open("/proc/net/netlink") as file:
        rows = [line.split() for line in file][1:]
    return next(int(row[8]) for row in rows if int(row[9]) == inode)


def storm(number: int) -> list[int]:
    """Fork so many children, one after the other; their pids."""
    pids: list[int] = []
    for _ in range(number):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        pids.append(pid)
    return pids


@contextlib.contextmanager
def deaf(watcher: cnproc.Watcher) -> Generator[None, None, None]:
    """The kernel reports nothing to the watcher, and counts nothing as dropped."""
    source = watcher._source
    watcher._subscription.attach([(cnproc._BPF_RET, 0, 0, 0)])
    yield
    if watcher.source == "ebpf":
        watcher._subscription.attach(source._program.fds["program"])
    else:
        source._filter = None
        source._refilter()


def lose(watcher: cnproc.Watcher) -> None:
    """As if the kernel had dropped events."""
    with watcher._lock:
        watcher._queue.append(lost(None, time.monotonic_ns()))
        watcher._intake.must_resync = True


FAMILY = THREADS + """
import random
chance = random.Random(int(sys.argv[1]))
def play(depth):
    for _ in range(chance.randrange(1, 5)):
        what = chance.choice(("child", "daemon", "thread", "name", "session", "thread child", "exec", "thread exec"))
        random.seed(chance.random())
        if what in ("child", "daemon") and depth < 4:
            pid = os.fork()
            if not pid:
                if what == "daemon" and os.fork():
                    os._exit(chance.randrange(256))
                chance.seed(chance.random() + 1)
                play(depth + 1)
                os._exit(chance.randrange(256))
            if chance.random() < 0.5:
                os.waitpid(pid, 0)
        elif what == "thread":
            thread(int)
        elif what == "thread child" and depth < 4:
            def born(status=chance.randrange(256)):
                if not os.fork():
                    os._exit(status)
            thread(born).join()
        elif what == "name":
            libc.prctl(15, b"name %d" % chance.randrange(9))
        elif what == "session" and os.getpid() != os.getsid(0) and os.getpid() != os.getpgid(0):
            os.setsid()
        elif what.endswith("exec") and depth and chance.random() < 0.3:
            run = lambda: os.execv("/bin/sh", ["sh", "-c", "true & exit %d" % chance.randrange(256)])
            if what == "exec":
                run()
            thread(run)
            threading.Event().wait()
for _ in range(8):
    play(0)
os._exit(0)
"""


# The end of the thread that does this takes long in the kernel: it alone holds a large file.
SLOW_END = """
libc.unshare(0x400)  # CLONE_FILES
large = os.memfd_create("large")
os.posix_fallocate(large, 0, 256 << 20)
"""

SLOW = f"""
def slow():
{textwrap.indent(SLOW_END.strip(), "    ")}
    ready.set()
    threading.Event().wait()
ready = threading.Event()
thread(slow)
ready.wait()
"""


@live
class Statuses(Case):
    """The status is waitpid's, whatever the threads of the process do."""

    def check(self, code: str, kill: Callable[..., None] | None = None, times: int = 1,
              events: int = What.EXIT) -> None:
        """The Exit of a process that runs this code, read while it is a zombie: so that it can be asked."""
        for _ in range(times):
            child = self.python(THREADS + code)
            watcher = self.watcher(child.pid, events=events, follow=False)
            self.go(child)
            if kill:
                kill(child, watcher)
            *_, end = self.until(watcher, lambda event: isinstance(event, Exit))
            status = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self.assertEqual((watcher.pids, end.pid, end.tid, end.rebuilt), (set(), child.pid, child.pid, False))
            _, truth = os.waitpid(child.pid, 0)
            child.returncode = end.returncode
            if RELEASE < (5, 17) and end.exit_code == -1:
                continue  # there a zombie cannot be asked
            assert status
            self.assertEqual((end.exit_code, status.si_pid), (truth, child.pid))

    def test_exit_while_a_thread_ends_slowly(self) -> None:
        self.check(SLOW + "os._exit(150)")

    def test_sigkill_while_a_thread_ends_slowly(self) -> None:
        self.check(SLOW + "os.kill(os.getpid(), 9)")

    def test_core_dump_while_a_thread_ends_slowly(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.check(SLOW + f"""
import resource
os.chdir({folder!r})
resource.setrlimit(resource.RLIMIT_CORE, (1 << 40, 1 << 40) if os.geteuid() == 0 else resource.getrlimit(4))
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGSEGV)
threading.Event().wait()
""")

    def test_sigkill_during_the_core_dump_of_a_process_with_threads(self) -> None:
        def kill(child: subprocess.Popen[Any], watcher: cnproc.Watcher) -> None:
            self.until(watcher, lambda event: isinstance(event, Coredump))
            child.kill()

        with tempfile.TemporaryDirectory() as folder:
            self.check(f"""
import resource
os.chdir({folder!r})
soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
data = bytearray(64 << 20)
for at in range(0, len(data), 4096):
    data[at] = 1
for _ in range(4):
    thread(threading.Event().wait)
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGSEGV)
threading.Event().wait()
""", kill, times=3, events=What.COREDUMP | What.EXIT)

    def test_a_non_leader_exec_that_fails_past_the_point_of_no_return(self) -> None:
        self.check("""
import resource
def run():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 16, 1 << 16))
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])
thread(run)
threading.Event().wait()
""", times=3)

    def test_raw_exits_of_leader_and_thread(self) -> None:
        for first, code, other in ("leader", 3, 0), ("thread", 7, 0), ("leader", 0, 4), ("thread", 0, 2):
            with self.subTest(first=first, code=code, other=other):
                self.check(SYS_EXIT + f"""
def last():
    time.sleep(0.001)
    libc.syscall(SYS_exit, {other})
def raw():
    libc.syscall(SYS_exit, {code})
if {first == "leader"}:
    thread(last)
    raw()
thread(raw)
last()
""", times=2)

    def test_raw_exit_of_the_leader_and_exit_group_by_a_thread(self) -> None:
        """From Linux 6.15 on a pidfd has the leader's code, if the leader was the last to end: it ends slowly."""
        for wait, leave in ("release.wait(); time.sleep(0.005)", SLOW_END), ("sys.stdin.readline()", ""):
            child = self.python(THREADS + SYS_EXIT + f"""
def last():
    {wait}
    os._exit(3)
release = threading.Event()
thread(last)
{leave}
release.set()
libc.syscall(SYS_exit, 5)
""")
            told = self.watcher(child.pid, events=What.EXIT, follow=False, threads=True)
            watcher = self.watcher(child.pid, events=What.EXIT, follow=False)  # which hears of each event before
            self.go(child)
            if not leave:  # the leader's end is read while the other thread lives
                self.until(told, lambda event: event.tid == child.pid)
                self.assertIsNone(watcher.read(0))
                self.go(child)
            parent = threading.Thread(target=child.wait)
            parent.start()
            *_, end = self.until(watcher, lambda event: isinstance(event, Exit))
            parent.join(PATIENCE)
            self.assertEqual(child.returncode, 3)
            known = watcher.source == "ebpf" or (not leave and REALLY_HAS_STATUS())
            self.assertIn(end.returncode, {3} if known else {3, None})

    @unittest.skipUnless(shutil.which("strace"), "takes strace")
    def test_a_traced_process_with_threads(self) -> None:
        for threads in False, True:
            code = "import os, threading as t\nfor _ in range(3): t.Thread(target=input, daemon=True).start()\n"
            child = self.shell(f"exec strace -f -qq -o /dev/null {shlex.join(PYTHON)} -c '{code}os._exit(5)'")
            watcher = self.watcher(child.pid, threads=threads)
            self.go(child)
            events = self.rest(watcher)
            self.assertFalse(any(isinstance(event, Lost) or event.rebuilt for event in events))
            self.assertEqual([event.returncode for event in events if isinstance(event, Exit) and event.pid == event.tid
                              ].count(5), 2)  # strace's own, too

    def test_exit_group_by_another_thread_after_the_leader(self) -> None:
        self.check("thread(lambda: (time.sleep(0.01), os._exit(9)))\nleave()\n", times=5)


@live
class Names(Case):
    """The command line at the exec, and what else /proc must not tell of a later process."""

    @root
    def test_a_zombie_that_has_the_pid_next_tells_nothing_of_who_had_it_before(self) -> None:
        program = """
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                first = os.fork()
                if not first:
                    os._exit(7)
                os.waitpid(first, 0)
                file.write(str(first - 1))
            second = os.fork()
            if not second:
                sum(range(20000))
                os.kill(os.getpid(), signal.SIGTERM)
            os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
            print(flush=True)  # it is a zombie until we go on
            sys.stdin.readline()
            os.waitpid(second, 0)
            os._exit(first == second)"""
        reused = 0
        for _ in range(8):
            watcher, child = self.datagrams(), self.python(program)
            watcher.watch(child.pid)
            self.go(child)
            assert child.stdout
            child.stdout.read(1)
            ends: list[Any] = []
            while len(ends) < 2 and (event := watcher.read(1)):
                ends += [event] * isinstance(event, Exit)
            self.go(child)
            if child.wait() and len(ends) == 2:  # else the first Exit came behind the second Fork: see README, Limits
                reused += 1
                self.assertEqual((ends[0].returncode, ends[0].cpu_ns), (7, None))
                self.assertEqual(ends[1].returncode, -15)
        self.assertGreater(reused, 0)

    def ebpf(self, **options: Any) -> cnproc.Watcher:
        watcher = self.watcher(**options)
        if watcher.source != "ebpf":
            self.skipTest(f"the source is {watcher.source}: {watcher.source_error}")
        return watcher

    def test_short_lived_programs_have_theirs(self) -> None:
        watcher, number = self.ebpf(), scale(100)
        child = self.shell(f"for i in $(seq {number}); do /bin/echo a$i | /bin/cat - /dev/null; done; exit 3")
        watcher.watch(child.pid)
        self.go(child)
        events = self.rest(watcher)
        told = collections.Counter(tuple(event.cmdline or ()) for event in events if isinstance(event, Exec))
        for i in range(1, number + 1):
            self.assertEqual(told.pop(("/bin/echo", f"a{i}")), 1)
        self.assertEqual(told, {("/bin/cat", "-", "/dev/null"): number, ("seq", str(number)): 1})

    def test_execs_in_a_row_have_each_its_own(self) -> None:
        watcher = self.ebpf()
        child = self.shell("exec sh -c 'exec sh -c \"exec true a\"'")
        watcher.watch(child.pid)
        events = self.life(child, watcher)
        self.assertEqual([event.cmdline for event in events if isinstance(event, Exec)],
                         [["sh", "-c", 'exec sh -c "exec true a"'], ["sh", "-c", "exec true a"], ["true", "a"]])

    def test_arguments_come_through_unchanged(self) -> None:
        for watcher in self.watcher(), self.ebpf():
            words = ["sh", "-c", "read x", "a\nb", "", "\udcff\x1b", "ü", "", "x" * 5000, ""]
            code = f"os.execv('/bin/sh', {words!r})"
            child = self.python(code)
            watcher.watch(child.pid)
            self.go(child)
            event, = self.until(watcher, lambda event: isinstance(event, Exec))
            self.assertEqual((event.cmdline, event.truncated), (words, False))
            child.kill()

    def test_the_end_of_a_long_one_is_not_that_of_the_next_exec(self) -> None:
        script = 'test $2 = 5 && read x; exec sh -c "$0" "$0" "$1" $(($2 + 1))'
        words = ["sh", "-c", script, script, "x" * 20_000]
        watcher = self.watcher()
        child = watcher.popen([*words, "0"], stdin=subprocess.PIPE, follow=False)
        self.addCleanup(self.end, child)
        eventually(lambda: cnproc.cmdline(child.pid)[-1:] == ["5"] and self.waits(child.pid))
        for number in range(6):
            event: Any = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
            if number == 5 or not (event.truncated or event.cmdline is None):
                self.assertEqual((event.cmdline, event.truncated), ([*words, str(number)], False))

    def test_a_long_one_is_completed_or_visibly_cut(self) -> None:
        watcher = self.ebpf()
        words = ["sh", "-c", "read x", *(f"{n:07}" for n in range(4000))]
        for lives in True, False:
            child = self.python(f"os.execv('/bin/sh', ['sh', '-c', {'read x' if lives else ''!r}, "
                                "*(f'{n:07}' for n in range(4000))])")
            watcher.watch(child.pid)
            self.go(child)
            if lives:
                eventually(functools.partial(self.has_executed, child.pid, words))
            else:
                child.wait()
            event = self.until(watcher, lambda event: isinstance(event, Exec))[0]
            self.assertEqual(getattr(event, 'truncated', event), not lives)
            expected = words if lives else ["sh", "-c", "", *words[3:]]
            self.assertEqual(event.cmdline[:-1], expected[:len(event.cmdline) - 1])
            self.assertTrue(expected[len(event.cmdline) - 1].startswith(event.cmdline[-1]))
            self.assertEqual(len(event.cmdline) == len(expected), lives)
            child.kill()
            self.until(watcher, lambda event: isinstance(event, Exit))

    def test_a_zombie_s_is_its_name_in_brackets(self) -> None:
        with unittest.mock.patch.object(cnproc.Watcher, "_sources", (cnproc._DatagramSource,)):
            watcher = self.watcher()
        child = self.shell("exec sleep 0")
        watcher.watch(child.pid)
        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual([event.cmdline for event in self.until(watcher, lambda event: isinstance(event, Exit))
                          if isinstance(event, Exec)], [["[sleep]"]])
        child = self.shell("exec sleep 0")
        watcher.watch(child.pid)
        self.go(child)
        child.wait()
        self.assertEqual([event.cmdline for event in self.until(watcher, lambda event: isinstance(event, Exit))
                          if isinstance(event, Exec)], [None])

    def datagrams(self, **options: Any) -> cnproc.Watcher:
        with unittest.mock.patch.object(cnproc.Watcher, "_sources", (cnproc._DatagramSource,)):
            return self.watcher(**options)

    def test_the_name_of_a_zombie_waits_for_its_exit(self) -> None:
        watcher = self.datagrams()
        child = self.shell("exec sleep 0")
        watcher.watch(child.pid)
        receive = watcher._source._receive
        late: list[Any] = []

        def delay(most: int) -> tuple[list[Any], bool]:  # as a kernel does that is preempted between zombie and EXIT
            events, more = receive(most)
            now, late[:] = [*late, *(event for event in events if event.what != What.EXIT)], [
                event for event in events if event.what == What.EXIT]
            return now, more

        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with unittest.mock.patch.object(watcher._source, "_receive", delay):
            events = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([event.cmdline for event in events if isinstance(event, Exec)], [["[sleep]"]])

    @staticmethod
    def has_executed(pid: int, words: Sequence[str] = ("cat",)) -> bool:
        """Whether it waits for input as this program: its exec has been reported, which /proc shows earlier."""
        return cnproc.cmdline(pid) == [*words] and Names.waits(pid)

    @staticmethod
    def waits(pid: int) -> bool:
        """Whether the process sleeps."""
        return (cnproc._stat_fields(pid) or [b""])[0] == b"S"

    @contextlib.contextmanager
    def nameless(self) -> Generator[Any]:
        """Nobody is seen to go on behind an exec, until `seen` is True. `looks`: how often that was looked at."""
        names = types.SimpleNamespace(seen=False, looks=0)

        def went_on(before: list[bytes], now: list[bytes]) -> bool:
            names.looks += 1
            return bool(names.seen)

        with unittest.mock.patch.object(cnproc, "_went_on", went_on), \
                unittest.mock.patch.object(cnproc._Namer, "_PATIENCE", 1 << 60):
            yield names

    def test_others_change_what_is_watched_while_a_name_waits(self) -> None:
        watcher = self.datagrams()
        first, second, third = (self.shell("exec cat") for _ in range(3))
        watcher.watch(first.pid)
        watcher.watch(second.pid)
        told: list[Any] = []
        with self.nameless():
            reader = threading.Thread(target=lambda: told.extend(watcher.read(PATIENCE) for _ in range(2)))
            reader.start()
            self.go(first)
            eventually(lambda: first.pid in watcher._source.unnamed)
            second.kill()
            eventually(lambda: second.pid not in watcher._table.watched)
            watcher.watch(third.pid, What.EXIT)
            third.kill()
            eventually(lambda: third.pid not in watcher._table.watched)
            self.assertEqual(told, [])
            watcher.unwatch(first.pid)
            reader.join(PATIENCE)
        self.assertEqual([(type(event), event.pid) for event in told], [(Exit, second.pid), (Exit, third.pid)])

    def test_a_name_that_waits_holds_back_what_comes_behind_it(self) -> None:
        for fd in False, True:
            with self.subTest(fd=fd), self.nameless() as names:
                watcher = self.datagrams()
                first, second = self.shell("exec cat"), self.shell("exit 3")
                watcher.watch(first.pid)
                watcher.watch(second.pid)
                if fd:
                    self.assertFalse(select.select([watcher], [], [], 0)[0])
                self.go(first)
                eventually(functools.partial(self.has_executed, first.pid))
                self.go(second)
                second.wait()
                told: list[Any] = []
                reader = threading.Thread(target=lambda: told.extend(iter(lambda: watcher.read(0), None)))
                reader.start()
                eventually(lambda: second.pid not in watcher._table.watched)
                if fd:
                    self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
                self.assertEqual(told, [])
                names.seen = True
                reader.join(PATIENCE)
                self.assertEqual([(type(event), event.pid, getattr(event, "cmdline", 3)) for event in told],
                                 [(Exec, first.pid, ["cat"]), (Exit, second.pid, 3)])

    def test_a_reader_whose_held_events_are_unwatched_sleeps(self) -> None:
        with self.nameless() as names:
            watcher = self.datagrams()
            child = self.shell("exec cat")
            watcher.watch(child.pid)
            pauses: list[float] = []
            poll = watcher._waiter.poll

            def sleep(milliseconds: float) -> Any:
                pauses.append(milliseconds)
                return poll(milliseconds)

            with unittest.mock.patch.object(watcher._waiter, "poll", sleep):
                reader = threading.Thread(target=watcher.read)
                reader.start()
                self.go(child)
                eventually(lambda: names.looks > 3)
                watcher.unwatch(child.pid)
                eventually(lambda: pauses[-1] > 100)
                watcher.close()
                reader.join(PATIENCE)
            self.assertFalse(reader.is_alive())

    def test_a_watcher_closes_while_a_name_waits(self) -> None:
        with self.nameless():
            watcher = self.datagrams()
            child = self.shell("exec cat")
            watcher.watch(child.pid)
            told: list[Any] = []
            reader = threading.Thread(target=lambda: told.append(watcher.read(PATIENCE)))
            reader.start()
            self.go(child)
            eventually(lambda: child.pid in watcher._source.unnamed)
            watcher.close()
            reader.join(PATIENCE)
            self.assertEqual((told, reader.is_alive()), ([None], False))

    def test_a_slow_reader_loses_no_name(self) -> None:
        watcher = self.datagrams()
        child = self.shell("exec cat")
        watcher.watch(child.pid)
        self.go(child)
        eventually(lambda: self.has_executed(child.pid))
        watcher._intake.drain()
        time.sleep(2 * cnproc._Namer._PATIENCE / 1e9)
        self.assertEqual(self.until(watcher, lambda event: isinstance(event, Exec))[-1].cmdline, ["cat"])

    def test_the_exit_of_a_first_thread_proves_a_name_only_if_it_is_the_only_one(self) -> None:
        # An exec by another thread ends the first: its EXIT can come when /proc shows the next command line already.
        subscription: Any = FakeSubscription(0)
        for threaded in False, True:
            pid, process = os.getpid(), cnproc._Process(0, 0, 0)
            process.threaded = threaded
            namer, event = cnproc._Namer(subscription, {pid: process}, False), execed(os.getpid())
            namer.on_exec(event, What.EXEC)
            namer.read()
            namer.on_exit(ended(pid))
            self.assertEqual((pid in namer.unnamed, event.cmdline is None), (threaded, threaded))

    def test_a_name_waits_until_an_overrun_has_been_reported(self) -> None:
        watcher = self.datagrams()
        source = watcher._source
        child = self.shell("exec cat")
        watcher.watch(child.pid)
        self.go(child)
        eventually(lambda: self.has_executed(child.pid))
        watcher._intake.drain()
        self.assertIn(child.pid, source.unnamed)
        real: Any = source._receive
        calls: list[int] = []

        def receive(most: int) -> Any:
            calls.append(most)
            if len(calls) == 1:  # the overrun comes behind the first message of this call
                source._dropped -= 1
            elif len(calls) == 2:  # and this one returns ENOBUFS
                source._gap = watcher._subscription.now()
                return [], True
            return real(most)

        with unittest.mock.patch.object(source, "_receive", receive):
            source._namer.due = 0
            event: Any = watcher.read(PATIENCE)
        self.assertEqual((type(event), event.cmdline), (Exec, None))

    def test_a_delay_is_not_paid_for_a_name_again(self) -> None:
        with self.nameless() as names:
            watcher = self.datagrams(delay=0.001)
            child = self.shell("exec cat")
            watcher.watch(child.pid)
            held: list[bool] = []

            def pause(seconds: float) -> None:
                held.append(bool(watcher._intake.held))

            with unittest.mock.patch.object(watcher._waiter, "pause", pause):
                reader = threading.Thread(target=lambda: watcher.read(PATIENCE))
                reader.start()
                self.go(child)
                eventually(lambda: names.looks > 3)
                names.seen = True
                reader.join(PATIENCE)
            self.assertEqual({*held}, {False})

    def test_the_descriptor_shows_what_is_held_after_a_ctrl_c(self) -> None:
        with self.nameless() as names:
            watcher = self.datagrams()
            child = self.shell("exec cat")
            watcher.watch(child.pid)
            fd = watcher.fileno()
            self.go(child)
            poll = watcher._waiter.poll

            def interrupted(*args: Any) -> Any:
                if watcher._intake.held:
                    raise KeyboardInterrupt
                return poll(*args)

            with unittest.mock.patch.object(watcher._waiter, "poll", interrupted), \
                    self.assertRaises(KeyboardInterrupt):
                watcher.read(PATIENCE)
            self.assertTrue(select.select([fd], [], [], PATIENCE)[0])
            names.seen = True
            event: Any = watcher.read(0)
            self.assertEqual(event.cmdline, ["cat"])

    def test_an_event_loop_goes_on_while_a_name_waits(self) -> None:
        async def check(names: Any) -> Any:
            watcher = self.datagrams()
            child = self.shell("exec cat")
            watcher.watch(child.pid)
            task: Any = asyncio.ensure_future(watcher.__aiter__().__anext__())
            self.go(child)
            while names.looks < 3:
                await asyncio.sleep(0.001)
            self.assertFalse(task.done())
            names.seen = True
            return await asyncio.wait_for(task, PATIENCE)

        with self.nameless() as names:
            self.assertEqual(asyncio.run(check(names)).cmdline, ["cat"])

    def test_a_program_may_be_called_like_a_zombie(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            named = os.path.join(folder, "[cat]")
            shutil.copy(shutil.which("cat") or "", named)
            self.assertEqual(self.asleep(named, executable=named)[1].cmdline, [named])
            self.assertEqual(self.asleep("[cat]", executable=named)[1].cmdline, ["[cat]"])

    def test_an_end_in_the_same_batch_takes_no_name_away(self) -> None:
        watcher = self.datagrams()
        child = self.shell("exec sleep 0")
        watcher.watch(child.pid)
        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
        told = [event.cmdline for event in self.rest(watcher) if isinstance(event, Exec)]
        self.assertEqual(told, [["[sleep]"]])

    def test_the_name_of_a_later_exec_is_no_earlier_one_s(self) -> None:
        for late in False, True:  # whether the second exec has been received when the first one's name is read
            watcher = self.datagrams()
            child = self.shell("exec sh -c 'read go; exec cat'")
            watcher.watch(child.pid)
            self.go(child)
            read = cnproc._live_cmdline

            def waits(pid: int = child.pid) -> bool:  # for input: it has reported its exec
                return read(pid)[0] == b"cat\0" and (cnproc._stat_fields(pid) or [b""])[0] == b"S"

            def look(pid: int) -> Any:
                if not watcher._intake.storm:  # once
                    watcher._intake.storm = True
                    self.go(child)
                    eventually(waits)
                return read(pid)

            if late:
                self.go(child)
                eventually(waits)
                events = [*self.until(watcher, lambda event: isinstance(event, Exec))]
            else:
                with unittest.mock.patch.object(cnproc, "_live_cmdline", look):
                    events = [*self.until(watcher, lambda event: isinstance(event, Exec))]
            events += self.until(watcher, lambda event: isinstance(event, Exec))
            self.assertEqual([event.cmdline for event in events], [None, ["cat"]], late)
            child.kill()

    def asleep(self, *command: str, **options: Any) -> tuple[subprocess.Popen[Any], Any]:
        """A child that waits for input by the time that its Exec is read, and that Exec."""
        watcher = self.datagrams(paths=True)
        watcher.watch(os.getpid())
        child = self.start(*command, stdin=subprocess.PIPE, **options)
        eventually(lambda: cnproc.cmdline(child.pid) == [*command]
                   and (cnproc._stat_fields(child.pid) or [b""])[0] == b"S")
        return child, self.until(watcher, lambda event: isinstance(event, Exec) and event.pid == child.pid)[-1]

    def test_datagrams_have_the_ids_that_proc_shows_at_the_exec(self) -> None:
        child, event = self.asleep("cat")
        cgroup = re.search("(?m)^0::(.*)", pathlib.Path(f"/proc/{child.pid}/cgroup").read_text())
        self.assertEqual((event.parent_pid, event.ruid, event.euid, event.cgroup),
                         (os.getpid(), os.getuid(), os.geteuid(), cgroup and cgroup[1]))
        self.assertEqual((event.exe, event.cwd), (os.path.realpath(shutil.which("cat") or ""), os.getcwd()))

    def reuse(self, pid: int, function: Callable[[], object]) -> None:
        """Have a fork of this process, in which that runs, take the pid of one that is gone."""
        for _ in self.attempts(pid):
            other = os.fork()
            if not other:
                function()
                os._exit(0)
            if other == pid:
                return
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
        self.fail("the pid could not be reused")

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_a_name_is_not_that_of_a_later_process_with_the_pid_that_has_executed_nothing(self) -> None:
        for at_once in False, True:  # whether the exec, the exit and the later fork are received in one call
            with self.subTest(at_once=at_once):
                watcher = self.datagrams(paths=True)
                child = self.shell("exec true")
                watcher.watch(child.pid)
                self.go(child)
                child.wait()
                self.reuse(child.pid, signal.pause)
                try:
                    events = watcher._stream(watcher._deadline(PATIENCE)) if at_once else iter(watcher.read, None)
                    event: Any = next(event for event in events if isinstance(event, Exec))
                finally:
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                self.assertEqual((event.cmdline, event._values()), (None, [None] * 6))

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_a_zombie_s_name_is_not_that_of_a_later_one_with_the_pid(self) -> None:
        for follow in False, True:  # whether it hears of forks
            watcher = self.datagrams()
            child = self.shell("exec true")
            watcher.watch(child.pid, What.EXEC | What.EXIT, follow=follow)
            self.go(child)
            child.wait()
            self.reuse(child.pid, lambda: os._exit(0))
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            try:
                event = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
            finally:
                os.waitpid(child.pid, 0)
            self.assertIsNone(event.cmdline)

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_user_ids_that_change_just_before_the_exec_are_those_at_the_exec(self) -> None:
        _, event = self.asleep("cat", user=65534)
        self.assertEqual((event.ruid, event.euid), (65534, 65534))

    def test_a_file_may_be_called_deleted(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            named = os.path.join(os.path.realpath(folder), "cat (deleted)")
            shutil.copy(shutil.which("cat") or "", named)
            shutil.copy(named, named[:-10])
            for path in named, named[:-10]:
                child, event = self.asleep(path)
                self.assertEqual(event.exe, path)
                os.unlink(path)
                self.assertEqual(cnproc._proc_link(child.pid, "exe"), path)
                self.end(child)

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_user_ids_that_change_behind_the_exec_are_not_those_at_the_exec(self) -> None:
        for before in None, What.EXIT:
            watcher = self.datagrams()
            child = self.shell(
                f"exec {shlex.join(PYTHON)} -c 'import os; os.setuid(65534); print(flush=True); input()'")
            if before:
                watcher.watch(None, before)
            watcher.watch(child.pid, What.EXEC)
            self.go(child)
            assert child.stdout
            child.stdout.read(1)  # by now it has changed
            event: Any = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
            self.assertEqual((event.pid, event.ruid, event.euid), (child.pid, None, None))
            self.assertTrue(event.cmdline)
            child.kill()

    def test_datagrams_have_the_cost_of_a_zombie_and_of_nobody_else(self) -> None:
        work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
        for reaped in False, True:
            watcher = self.datagrams()
            child = watcher.popen(["sh", "-c", f"read go; {work}"], stdin=subprocess.PIPE)
            self.addCleanup(self.end, child)
            self.go(child)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            usage = os.wait4(child.pid, 0)[2] if reaped else None
            events = self.rest(watcher)
            fork: Any = next(event for event in events if isinstance(event, Fork))
            end: Any = events[-1]
            self.assertEqual((end.max_rss, end.max_rss_exact, end.read_bytes, end.write_bytes), (None,) * 4)
            self.assertEqual(end.start_ns, fork.timestamp_ns)
            self.assertEqual((end.cpu_ns is None, end.major_faults is None), (reaped, reaped))
            if not reaped:
                usage = os.wait4(child.pid, 0)[2]
                self.assertLess(abs(end.cpu_ns / 1e9 - usage.ru_utime - usage.ru_stime), 0.02 if EMULATED else 0.002)
                self.assertEqual(end.major_faults, usage.ru_majflt)
            child.returncode = 0
        watcher = self.datagrams()
        there = self.shell(work)  # before the watch: its first events are not known
        watcher.watch(there.pid)
        self.go(there)
        os.waitid(os.P_PID, there.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual([event._values() for event in self.rest(watcher) if isinstance(event, Exit)], [[None] * 7])

    def test_without_descriptors_no_event_is_lost_silently(self) -> None:
        import resource

        watcher = self.datagrams()
        child = self.shell("/bin/true; /bin/true; exec sh -c 'exit 3'")
        watcher.watch(child.pid)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limits[1]))
        fds: list[int] = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fds.append(os.dup(0))
            self.go(child)
            child.wait()
            events: list[Any] = []
            raised = None
            try:
                while not isinstance(event := watcher.read(PATIENCE), Exit) or event.pid != child.pid:
                    events.append(event)
                events.append(event)
            except OSError as error:
                raised = error
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in fds:
                os.close(fd)
        events += self.rest(watcher)
        ends = [event.pid for event in events if isinstance(event, Exit)]
        self.assertEqual((ends.count(child.pid), len(ends), len(set(ends))), (1, len(ends), len(ends)))
        if raised:  # what it had in hand then is a loss that is said
            self.assertEqual(raised.errno, errno.EMFILE)
            self.assertIn(Lost, kinds(events))
        else:
            self.assertEqual(len(ends), 3)
        names = {event.cmdline for event in events if isinstance(event, Exec) and event.cmdline is None}
        self.assertEqual(names, {None})

    def test_what_we_start_ourselves_is_known_to_anybody(self) -> None:
        for command in ["/bin/true", "a"], ["true"], ["sh", "-c", "exit 0"]:
            for _ in range(3):
                watcher = self.datagrams()
                watcher.popen(command).wait()
                events = self.until(watcher, lambda event: isinstance(event, Exit))
                self.assertEqual([event.cmdline for event in events if isinstance(event, Exec)], [command])
        with tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path(folder, "script")
            script.write_text("#!/bin/sh\nread go\n")
            script.chmod(0o700)
            watcher = self.datagrams()
            child = watcher.popen([str(script)], stdin=subprocess.PIPE)
            self.addCleanup(self.end, child)
            event = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
            self.assertIn(event.cmdline, (["/bin/sh", str(script)], None))

    def test_a_title_is_shown_without_its_padding(self) -> None:
        for title in "worker: 5 jobs", "postgres: idle", "busy":
            child = self.python(f"""
                with open("/proc/self/stat") as file:
                    stat = file.read().rpartition(") ")[2].split()
                begin, end = int(stat[45]), int(stat[46])  # arg_start, arg_end
                ctypes.memmove(begin, {title!r}.encode().ljust(end - begin, b"\\0"), end - begin)
                print(flush=True)
                sys.stdin.readline()
            """)
            self.go(child)
            self.ready(child)
            self.assertEqual(cnproc.cmdline(child.pid), [title])

    def test_empty_arguments_are_no_padding(self) -> None:
        for words in b"a\0", b"a\0\0", b"a\0\0\0", b"a b\0c\0\0\0\0\0", b"", b"a", b"\0\0":
            self.assertEqual(cnproc._title(words), words)

    def test_a_command_that_may_be_a_script_has_the_script_s_name_or_none(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in "first", "second":
                os.mkdir(os.path.join(folder, name))
            first, second = (os.path.join(folder, name, "tool") for name in ("first", "second"))
            pathlib.Path(first).write_bytes(pathlib.Path(TRUE).read_bytes()[:100])  # an ELF that cannot be executed
            pathlib.Path(second).write_text("#!/bin/sh\n")
            for path in first, second:
                os.chmod(path, 0o755)
            watcher = self.datagrams()
            child = watcher.popen(["tool", "x"], env={"PATH": f"{folder}/first:{folder}/second"})
            events = self.until(watcher, lambda event: isinstance(event, Exit))
            child.wait()
        self.assertIn(next(event.cmdline for event in events if isinstance(event, Exec)),
                      (["/bin/sh", second, "x"], ["[tool]"], None))

    def test_the_status_of_a_zombie_is_that_of_after_its_last_thread(self) -> None:
        looks = iter((cnproc._Stat("Z", 1, 0, 2, 1, 1, 0), cnproc._Stat("Z", 1, 0, 1, 1, 1, 0x300)))
        with unittest.mock.patch.multiple(cnproc, _stat=unittest.mock.Mock(side_effect=looks),
                                          _ended=unittest.mock.Mock(return_value=True),
                                          _kernel=unittest.mock.Mock(return_value=(6, 18))):
            self.assertEqual(cnproc._zombie_status(7), 0x300)  # the first thread had ended with 0

    def test_a_process_whose_first_thread_has_ended_still_has_its_command_line(self) -> None:
        child = self.python(ALONE)
        self.go(child)
        self.ready(child)
        words, whole = cnproc._proc_cmdline(child.pid)
        assert words
        self.assertTrue(whole and words.startswith(os.fsencode(sys.executable) + b"\0-S\0-c\0"), words)

    def test_a_line_that_could_not_be_read_to_its_end_is_truncated(self) -> None:
        child = self.python("os.execv('/bin/sh', ['sh', '-c', 'read go', *['x' * 100_000] * 3])")
        self.go(child)
        eventually(lambda: cnproc.cmdline(child.pid)[:1] == ["sh"])
        with unittest.mock.patch.object(os, "pread", return_value=b""):  # it has ended meanwhile
            cut, whole = cnproc._proc_cmdline(child.pid)
        self.assertEqual((len(cut or b""), whole), (1 << 14, False))

    def test_it_belongs_to_the_value(self) -> None:
        one = Exec(pid=3, cmdline=["a", ""])
        for twin in pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one), eval(repr(one)):
            self.assertEqual((twin, twin.cmdline, hash(twin)), (one, ["a", ""], hash(one)))
        for other in Exec(pid=3, cmdline=["a"]), Exec(pid=3), Exec(pid=3, cmdline=[]), Exec(pid=3, cmdline=[""]):
            self.assertNotEqual(one, other)
        self.assertEqual([Exec(cmdline=words).cmdline for words in ([], [""], None)], [[], [""], None])


@live
@root
class Ring(Case):
    """The eBPF program, its ring buffer and its maps."""

    def ebpf(self, **options: Any) -> cnproc.Watcher:
        watcher = self.watcher(**options)
        if watcher.source != "ebpf":
            self.skipTest(f"the source is {watcher.source}: {watcher.source_error}")
        return watcher

    def forks(self, number: int, **options: Any) -> tuple[cnproc.Watcher, subprocess.Popen[Any]]:
        """A child that forks so many, some of which end later than others; its watcher."""
        child = self.shell(forking(number) + "echo; read go; exit 0")
        watcher = self.ebpf(**options)
        watcher.watch(child.pid)
        return watcher, child

    def test_an_overrun_is_counted_exactly_and_every_fork_and_exit_is_reported_all_the_same(self) -> None:
        number = max(1200, scale(20_000))  # more events than the ring of 64 KiB has room for
        watcher, child = self.forks(number, rcvbuf=64 << 10)
        self.go(child)
        self.ready(child)  # the reader sleeps meanwhile
        self.assertGreater(watcher.lost, number // 2)
        self.go(child)
        events = self.rest(watcher)
        forks = [event.pid for event in events if isinstance(event, Fork)]
        exits = [event for event in events if isinstance(event, Exit)]
        counts: list[Any] = [event.count for event in events if isinstance(event, Lost)]
        self.assertEqual(sum(counts), watcher.lost)
        self.assertEqual(sum(not event.rebuilt for event in forks_and_exits(events)) + watcher.lost, 2 * number + 1)
        self.assertEqual((len(forks), len(exits)), (number, number + 1))
        self.assertEqual(sorted([*forks, child.pid]), sorted(event.pid for event in exits))
        self.assertEqual(statuses(exits), sorted([0, *(i % 256 for i in range(number))]))
        gap = next(i for i, event in enumerate(events) if isinstance(event, Lost))
        self.assertFalse(any(event.rebuilt for event in events[:gap]))
        self.assertTrue(all(event.rebuilt for event in events[gap + 1:gap + 100]))
        costs = [(event.cpu_ns, event.max_rss, event.read_bytes, event.start_ns) for event in exits
                 if event.rebuilt and event.pid != child.pid]
        self.assertGreater(len(costs), number // 4)
        self.assertFalse([cost for cost in costs if None in cost])

    def test_a_full_overflow_map_is_made_up_for_from_proc(self) -> None:
        other = self.shell("exit 7")
        told = self.witness(other.pid)
        with unittest.mock.patch.object(cnproc._RingSource, "_room", staticmethod(lambda: 600)):
            watcher, child = self.forks(1500, rcvbuf=64 << 10)  # 1,170 of the 3,000 events fit, and 600 are kept
        watcher.watch(other.pid)
        self.go(child)
        self.ready(child)
        self.go(other)
        other.wait()
        told(1)
        self.go(child)
        events = self.rest(watcher)
        self.assertEqual(sum(event.count or 0 for event in events if isinstance(event, Lost)), watcher.lost)
        ends = {event.pid: event for event in events if isinstance(event, Exit)}
        self.assertEqual({other.pid, child.pid} - ends.keys(), set())
        self.assertEqual((ends[other.pid].returncode, ends[other.pid].rebuilt), (None, True))

    def test_a_full_map_of_processes_is_a_loss(self) -> None:
        with unittest.mock.patch.object(cnproc._RingSource, "_room", staticmethod(lambda: 8)):
            child = self.shell("for i in $(seq 30); do sleep 60 & done; echo; read go; kill $(jobs -p); exit 4")
            watcher = self.ebpf()
        watcher.watch(child.pid)
        self.go(child)
        self.ready(child)
        events: list[Any] = list(iter(lambda: watcher.read(0), None))
        self.assertGreater(sum(event.count or 0 for event in events if isinstance(event, Lost)), 10)
        self.assertLess(len(watcher.pids), 10)
        self.assertEqual(watcher.lost, sum(event.count or 0 for event in events if isinstance(event, Lost)))
        for pid in children(child.pid):
            os.kill(pid, signal.SIGTERM)

    def test_every_process_is_reported_once_however_often_the_ring_goes_round(self) -> None:
        watcher = self.ebpf(rcvbuf=64 << 10)
        watcher.watch(os.getpid())
        for _ in range(20 if SOAK else 2):
            pids = storm(200)
            lives: collections.defaultdict[int, list[type]] = collections.defaultdict(list)
            while sum(map(len, lives.values())) < 400:
                event = watcher.read(PATIENCE)
                assert isinstance(event, (Fork, Exit)), event
                if event.pid in pids:
                    lives[event.pid].append(type(event))
            self.assertEqual((len(lives), set(map(tuple, lives.values()))), (200, {(Fork, Exit)}))

    def test_a_forged_datagram_is_no_event(self) -> None:
        watcher = self.ebpf()
        watcher.watch()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as liar:
            liar.bind((0, 0))
            for port, group in (0, 1), (watcher._subscription.port, 0):
                liar.sendto(datagram(0x80000000, 1, 1, 0x700, 17, 1, 1, stamp=time.monotonic_ns()), (port, group))
        watcher._subscription.send_to_self(datagram(0x80000000, 1, 1, 0x700, 17, 1, 1, stamp=time.monotonic_ns()))
        child = self.start("true")
        events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid)
        self.assertNotIn(1, [event.pid for event in events])

    def test_acks_of_other_listeners_are_no_loss(self) -> None:
        watcher = self.ebpf(rcvbuf=4096)
        watcher.watch(os.getpid(), What.SID)
        for _ in range(100):
            with connector(1) as other:
                for operation in LISTEN, IGNORE:
                    other.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, operation))
        self.assertIsNone(watcher.read(0))
        self.assertEqual(watcher.lost, 0)

    def test_a_kernel_that_is_not_as_its_btf_says_is_refused_with_the_reason(self) -> None:
        self.ebpf()
        layout = cnproc._layout()
        for name, reason in (("mm_struct.arg_start", "BTF"), ("signal_struct.live", "BTF"),
                             ("netlink_skb_parms.portid", "BTF|tell the kernel")):
            wrong = {**layout, name: layout[name] + 16}
            cnproc._instructions.cache_clear()
            self.addCleanup(cnproc._instructions.cache_clear)
            with self.subTest(name), unittest.mock.patch.object(cnproc, "_layout", return_value=wrong):
                watcher = self.watcher()
                self.assertEqual(watcher.source, "netlink")
                self.assertRegex(str(watcher.source_error), reason)

    def test_the_length_of_our_own_command_line_does_not_matter(self) -> None:
        self.ebpf()
        code = "import cnproc\nwith cnproc.Watcher() as watcher: print(watcher.source, watcher.source_error)"
        for length in 0, cnproc._CMDLINE_MAX, 3 * cnproc._CMDLINE_MAX:
            run = subprocess.run([*PYTHON, "-c", code, *["x" * 79] * (length // 80)], cwd=HERE,
                                 stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
            self.assertEqual(run.stdout, "ebpf None\n")

    def test_what_the_verifier_says_can_be_read(self) -> None:
        self.ebpf()
        cnproc._instructions.cache_clear()
        self.addCleanup(cnproc._instructions.cache_clear)
        wrong = cnproc._PROGRAM.replace("if not entry:", "if not kinds:")
        self.assertNotEqual(wrong, cnproc._PROGRAM)
        with unittest.mock.patch.object(cnproc, "_PROGRAM", wrong):
            watcher = self.watcher()
        self.assertEqual(watcher.source, "netlink")
        self.assertRegex(str(watcher.source_error), "(?s)refuses the eBPF program: Permission denied: .*invalid mem")

    def test_without_btf_the_source_is_netlink(self) -> None:
        self.ebpf()
        with unittest.mock.patch.object(cnproc, "_layout", side_effect=OSError(errno.ENOENT, "the kernel has no BTF")):
            cnproc._instructions.cache_clear()
            watcher = self.watcher()
        assert watcher.source_error
        self.assertEqual((watcher.source, watcher.source_error.errno), ("netlink", errno.ENOENT))

    def test_btf_finds_members_by_name(self) -> None:
        layout = cnproc._layout()
        names = {f"{name}.{member}" for name, members in cnproc._MEMBERS.items() for member in members}
        self.assertEqual(set(layout), names | cnproc._DERIVED.keys() | {"list_head.prev"})
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            btf = cnproc._Btf(file.read())
        self.assertEqual(btf.offsets("nlmsghdr", ["nlmsg_type", "nlmsg_pid"]), {"nlmsg_type": 4, "nlmsg_pid": 12})
        for struct_, member in ("no_such_struct", "x"), ("nlmsghdr", "no_such_member"):
            with self.assertRaises((KeyError, ValueError)):
                btf.offsets(struct_, [member])

    def test_unwatched_processes_and_threads_leave_no_record(self) -> None:
        child = self.python(THREADS + "for _ in range(50): thread(int).join()\nos._exit(3)")
        watcher = self.ebpf()
        watcher.watch(child.pid)
        storm(50)
        self.assertTrue(watcher._source._ring.empty)
        self.go(child)
        events = eventually(lambda: watcher._source.read(100)[0])
        self.assertEqual(kinds(events), [Exit])

    def test_the_map_forgets_who_has_ended_and_whom_nobody_watches(self) -> None:
        for threads in False, True:
            watcher = self.ebpf(threads=threads)
            child = self.shell("sh -c 'exit 4'; exit 5")
            watcher.watch()
            watcher.watch(child.pid)
            self.assertLessEqual({1, os.getpid(), child.pid}, watcher._source.known().keys())
            ended = self.start("true")
            ended.wait()
            watcher.unwatch()
            self.assertEqual(watcher._source.known().keys(), {child.pid})
            self.life(child, watcher)
            self.assertEqual(watcher._source.known().keys(), set())

    def test_the_end_of_a_process_whose_threads_come_and_go_while_it_is_taken_up(self) -> None:
        child = self.python(THREADS + """
def churn():
    while True:
        thread(int).join()
for _ in range(int(sys.argv[1])):
    if not os.fork():
        for _ in range(3):
            thread(churn)
        thread(int).join()
        print(os.getpid(), flush=True)
        time.sleep(1000)
    os.wait()
""", str(number := scale(200)))
        watcher = self.ebpf(threads=True)
        assert child.stdout
        self.go(child)
        for _ in range(number):
            pid = int(child.stdout.readline())
            watcher.watch(pid, What.EXIT)
            tids = set(map(int, os.listdir(f"/proc/{pid}/task")))
            os.kill(pid, signal.SIGTERM)
            events = self.rest(watcher)
            self.assertEqual([event for event in events if isinstance(event, Lost) or event.rebuilt], [])
            self.assertEqual((set(kinds(events)), {event.pid for event in events}), ({Exit}, {pid}))
            self.assertEqual(tids - {event.tid for event in events}, set())
        source: Any = watcher._source
        self.assertEqual(source.known(), {})
        child.wait()
        for _ in range(2):
            source.forget_ended()
        self.assertEqual(source._program.all("processes", cnproc._process_entry), {})

    def test_a_death_by_a_signal_names_the_program_that_was_tried_last(self) -> None:
        for code, name, number in (
            ("os.kill(os.getpid(), 9)", "python", 9), ("os.kill(os.getpid(), 15)", "python", 15),
            ("libc.prctl(15, b'renamed'); os.kill(os.getpid(), 9)", "renamed", 9),
            ("import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 16, 1 << 16)); os.execv(sys.argv[1], ['x'])",
             os.path.basename(os.path.realpath(TRUE))[:15], 0),
        ):
            for threads in False, True:
                with self.subTest(code, threads=threads):
                    child = self.python(code, os.path.realpath(TRUE))
                    watcher = self.ebpf(threads=threads)
                    watcher.watch(child.pid, What.LIFE | What.COMM)
                    self.go(child)
                    events = [event for event in self.rest(watcher) if not isinstance(event, Comm)]
                    self.assertEqual(kinds(events), [Exit])
                    end: Any = events[0]
                    self.assertTrue(end._comm.startswith(name), end._comm)
                    self.assertTrue(end.returncode == -number if number else end.returncode < 0, end)

    def test_many_deaths_by_signals_leave_no_record_of_their_own(self) -> None:
        watcher = self.ebpf()
        child = self.shell("for i in $(seq 100); do sh -c 'kill -9 $$'; sh -c 'exit 3'; done; exit 5",
                           stderr=subprocess.DEVNULL)
        watcher.watch(child.pid, What.ALL)
        events = self.life(child, watcher)
        self.assertEqual(set(kinds(events)), {Fork, Exec, Exit})
        ends: list[Any] = [event for event in events if isinstance(event, Exit)]
        self.assertEqual(collections.Counter((end.returncode, end._comm) for end in ends),
                         {(-9, "sh"): 100, (3, None): 100, (5, None): 1, (0, None): 1})

    def test_an_empty_command_line_leaves_the_name(self) -> None:
        for arguments in "", "b''", "b'', b''", "b'one'":
            child = self.python(f"libc.execv({TRUE.encode()!r}, (ctypes.c_char_p * 4)({arguments}))")
            watcher = self.ebpf()
            watcher.watch(child.pid)
            event: Any = self.life(child, watcher)[0]
            name = None if "one" in arguments else os.path.basename(TRUE)
            self.assertEqual((type(event), event._comm), (Exec, name), arguments)

    @unittest.skipUnless(SOURCE == "ebpf", "there is no program")
    def test_the_programs_structs_have_the_size_it_expects(self) -> None:
        for kind, size in ((cnproc._process_entry, 56), (cnproc._program_control, 24), (cnproc._program_record, 104)):
            self.assertEqual(ctypes.sizeof(kind), size)

    def test_sources_see_the_same(self) -> None:
        total = doubtful = 0
        for seed in range(3 if EMULATED else 10):
            with self.subTest(seed=seed):
                child = self.python(FAMILY, str(seed))
                watchers: list[cnproc.Watcher] = []
                for sources in (cnproc._RingSource, cnproc._DatagramSource), (cnproc._DatagramSource,):
                    with unittest.mock.patch.object(cnproc.Watcher, "_sources", sources):
                        watchers.append(self.watcher())
                    watchers[-1].watch(child.pid, What.ALL)
                self.go(child)
                told = [*map(self.rest, watchers)]
                self.assertEqual([watcher.pids for watcher in watchers], [set()] * 2)
                values = [collections.Counter(map(self.value, events)) for events in told]
                total += sum(values[0].values())
                self.assertEqual([values[0] - values[1], values[1] - values[0]], [{}, {}])
                exact, inferred = ({event.pid: event.exit_code for event in events if isinstance(event, Exit)}
                                   for events in told)
                differ = [pid for pid in exact if exact[pid] != inferred[pid]]
                self.assertEqual([inferred[pid] for pid in differ], [-1] * len(differ))
                doubtful += len(differ)
        self.assertGreater(total, 100)
        if not EMULATED:  # a process that is reaped before its last EXIT is read has no status to ask for
            self.assertLess(doubtful, total / (20 if REALLY_HAS_STATUS() else 5))

    @staticmethod
    def value(event: Any) -> Any:
        """An event without what the sources may differ in: names, who made the last EXIT, and when; and statuses, since
        datagrams leave one open where a thread that ends by itself is overtaken by its process's end."""
        if isinstance(event, Exec):
            return Exec, event.pid, event.timestamp_ns
        if isinstance(event, Exit):
            return Exit, event.pid, event.exit_signal
        return event


# Kinds of processes, in a child that says of each what wait4(2) says: its kind, pid, CPU time in us, and ru_maxrss.
COSTLY = THREADS + """
import hashlib
def busy(ms):
    end = time.thread_time_ns() + ms * 1_000_000
    while time.thread_time_ns() < end:
        pass
def threads(number, function):
    return [thread(function) for _ in range(number)]
def true():
    os.execv(sys.argv[1], ["true"])
def short():
    busy(3)
def long():
    busy(30)
def four_threads():
    for each in threads(4, lambda: busy(1)):
        each.join()
def leader_first():
    thread(lambda: (busy(2), os._exit(0)))
    busy(1)
    leave()
def exit_group():
    threads(8, lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 24))  # without Python's lock
    busy(3)
    os._exit(0)
def exec_by_a_thread():
    thread(lambda: (busy(2), true()))
    busy(1)
    time.sleep(1000)
def ran(function):
    pid = os.fork()
    if not pid:
        try:
            function()
        finally:
            os._exit(0)
    _, status, usage = os.wait4(pid, 0)
    print(function.__name__, pid, round((usage.ru_utime + usage.ru_stime) * 1e6), usage.ru_maxrss, status, flush=True)
"""


# More kinds, which say how much memory they have had resident at most.
PEAKS = """
import mmap
ballast = b"x" * (40 << 20)
def said():
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak", os.getpid(), peak, flush=True)
def worker():
    said()
def grown():
    b"x" * (20 << 20)
    said()
def several():
    for each in threads(3, lambda: b"x" * (20 << 20)):
        each.join()
    thread(lambda: (said(), os._exit(0)))
    time.sleep(1000)
"""


@unittest.skipUnless(SOURCE == "ebpf", "takes the eBPF program")
class Costs(Case):
    """What processes cost, who ran them, and where: with source "ebpf"."""

    def ebpf(self, *pids: int, **options: Any) -> cnproc.Watcher:
        watcher = self.watcher(*pids, **options)
        if watcher.source != "ebpf":
            self.skipTest(f"the source is {watcher.source}: {watcher.source_error}")
        return watcher

    def test_signals_that_come_while_the_program_is_loaded_do_no_harm(self) -> None:
        caught: list[int] = []

        def catch(number: int, _: object) -> None:
            caught.append(number)

        before = signal.signal(signal.SIGALRM, catch)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for paths in False, True:
            watcher = self.watcher(paths=paths)
            watcher.watch(os.getpid())
            self.assertIsNone(watcher.source_error)
            self.assertEqual("exits" in watcher._source._program.fds, RELEASE >= (6, 16))
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertTrue(caught)
        self.assertFalse(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    @unittest.skipUnless(RELEASE >= (6, 16), "takes Linux 6.16")
    def test_memory_of_a_vfork_before_the_watch_is_not_the_parents(self) -> None:
        parent = self.python("""
ballast, stack = b"x" * (60 << 20), ctypes.create_string_buffer(1 << 16)
top = ctypes.addressof(stack) + (1 << 16) & ~15
os.waitpid(libc.clone(libc.pause, ctypes.c_void_p(top), 0x4100 | signal.SIGCHLD, None), 0)  # CLONE_VFORK | CLONE_VM
""")
        self.go(parent)
        child, = eventually(lambda: children(parent.pid))
        eventually(lambda: state(child) == "S")
        watcher = self.ebpf(child)
        os.kill(child, signal.SIGTERM)
        end = self.until(watcher, lambda event: isinstance(event, Exit))[-1]
        self.assertEqual((end.returncode, end.max_rss), (-15, None))

    def told(self, code: str, *args: str, **options: Any) -> tuple[list[list[str]], list[Any]]:
        """The words of each line that a child writes, and the events of it and its descendants."""
        child = self.python(COSTLY + code, TRUE, *args)
        watcher = self.ebpf(child.pid, **options)
        self.go(child)
        assert child.stdout
        lines = [line.decode().split() for line in child.stdout]
        return lines, self.rest(watcher)

    def test_cpu_time_is_that_of_wait4(self) -> None:
        lines, events = self.told("""
number = int(sys.argv[2])
for function in true, short, four_threads, leader_first, exit_group, exec_by_a_thread:
    for _ in range(number):
        ran(function)
for _ in range(number // 3):
    ran(long)
load = os.fork()
if not load:
    busy(60_000)
    os._exit(0)
for _ in range(number // 2):
    ran(short)
os.kill(load, 9)
os.wait()
""", str(300 if SOAK else 15))
        ends = {event.pid: event for event in events if isinstance(event, Exit)}
        away: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
        for kind, pid, cpu, *_ in lines:
            found = ends[int(pid)].cpu_ns
            assert found is not None
            away[kind].append(found / 1000 - int(cpu))
            if kind != "true":
                self.assertGreater(found, 2_500_000, kind)
        self.assertEqual(len(away), 7)
        counted = os.environ.get("CNPROC_ICOUNT") == "1"
        most = 20_000 if EMULATED and not counted else 200
        far = [(kind, by) for kind, each in away.items() for by in each if abs(by) > most]
        self.assertLessEqual(len(far), len(lines) / (100 if SOAK or counted else 20), far)

    @unittest.skipIf(EMULATED or not (shutil.which("gcc") and shutil.which("make")), "takes gcc, make and time")
    def test_the_costs_of_a_build_add_up_to_what_wait4_tells_of_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for i in range(scale(40)):
                pathlib.Path(folder, f"f{i}.c").write_text(f"#include <stdio.h>\nint f{i} = EOF;\n")
            pathlib.Path(folder, "Makefile").write_text("all: $(patsubst %.c,%.o,$(wildcard *.c))\n")
            self.ebpf()
            run = cnproc.run(["make", "-s", "-j2"], cwd=folder)
            ends = [event for event in run if isinstance(event, Exit)]
        self.assertEqual((run.process.returncode, {end.returncode for end in ends}), (0, {0}))
        usage = run.rusage
        assert usage
        total = usage.ru_utime + usage.ru_stime
        # Up to 0.2 ms of each end are missing.
        self.assertLess(abs(sum(end.cpu_ns or 0 for end in ends) / 1e9 - total), total / 100 + 0.0002 * len(ends))
        # Each block that wait4() counts is a process's own, once.
        self.assertEqual((sum(end.read_bytes or 0 for end in ends), sum(end.write_bytes or 0 for end in ends)),
                         (usage.ru_inblock * 512, usage.ru_oublock * 512))

    def test_cpu_time_of_a_process_whose_parent_ignores_its_end(self) -> None:
        lines, events = self.told("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        busy(3)
        print(os.getpid(), time.process_time_ns(), flush=True)
        os._exit(0)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
""", str(scale(300)))
        ends = {event.pid: event.cpu_ns or 0 for event in events if isinstance(event, Exit)}
        self.assertEqual([pid for pid, cpu in lines if ends[int(pid)] < int(cpu)], [])

    def test_peak_memory_is_exact_or_a_bound(self) -> None:
        sizes = (10, 20, 60) if EMULATED else (20, 50, 200)
        code = """
ballast = b"x" * (int(sys.argv[2]) << 20)
program = '''
import mmap, os, sys
memory = mmap.mmap(-1, int(sys.argv[1]) << 20)
for at in range(0, len(memory), 4096):
    memory[at] = 1
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", os.getpid(), peak, flush=True)
'''
for size in sys.argv[3:]:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", program, size], os.environ)
    _, _, usage = os.wait4(pid, 0)
    print("rusage", pid, usage.ru_maxrss, flush=True)
"""
        for command in cnproc._BPF_RAW_TRACEPOINT_OPEN, 0xFFFF:  # which no kernel has
            exact: collections.Counter[bool | None] = collections.Counter()
            for ballast in 0, sizes[-1] // 2:
                with unittest.mock.patch.object(cnproc, "_BPF_RAW_TRACEPOINT_OPEN", command):
                    lines, events = self.told(code, str(ballast), *map(str, sizes))
                ends = {event.pid: event for event in events if isinstance(event, Exit)}
                peaks = {int(pid): int(peak) << 10 for kind, pid, peak in lines if kind == "peak"}
                for kind, pid, usage in lines:
                    if kind == "rusage":
                        end: Any = ends[int(pid)]
                        self.assertGreater(end.max_rss, peaks[end.pid] - (2 << 20))
                        if end.max_rss_exact:
                            self.assertLess(end.max_rss, peaks[end.pid] + (2 << 20))
                            self.assertLessEqual(end.max_rss, int(usage) << 10)
                        else:
                            self.assertEqual(end.max_rss, int(usage) << 10)
                        exact[end.max_rss_exact] += 1
            self.assertEqual(exact, {True: 6} if RELEASE >= (6, 16) and command != 0xFFFF else {True: 4, False: 2})

    @unittest.skipIf(RELEASE < (6, 16), "takes Linux 6.16")
    def test_peak_memory_is_exact_for_all_where_it_is_read_before_the_memory_is_gone(self) -> None:
        child = self.python(COSTLY + PEAKS + """
def shared():
    global memory
    memory = mmap.mmap(-1, 20 << 20)
    for at in range(0, len(memory), 4096):
        memory[at] = 1
    said()
for function in worker, grown, shared, several, true, true, exec_by_a_thread:
    ran(function)
said()
""", TRUE)
        watcher = self.ebpf()
        watcher.watch()
        watcher.watch(child.pid)
        self.go(child)
        assert child.stdout
        lines = [line.decode().split() for line in child.stdout]
        ends = {event.pid: event for event in self.until(
            watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid) if isinstance(event, Exit)}
        peaks = {int(pid): int(peak) << 10 for kind, pid, peak, *_ in lines if kind == "peak"}
        self.assertEqual(len(peaks), 5)
        for pid in {child.pid, *(int(line[1]) for line in lines)}:
            self.assertTrue(ends[pid].max_rss_exact)
            self.assertLess(abs((ends[pid].max_rss or 0) - peaks.get(pid, 0)), (2 if pid in peaks else 10) << 20)

    def test_peak_memory_of_what_runs_in_its_parents_memory_is_none(self) -> None:
        _, events = self.told("""
try:
    os.posix_spawn("/nowhere", ["nowhere"], os.environ)
except FileNotFoundError:
    pass
ran(int)
""")
        ends: list[Any] = [event for event in events if isinstance(event, Exit)]
        self.assertEqual([(end.max_rss is None, end.max_rss_exact) for end in ends],
                         [(True, None), (False, True), (False, RELEASE >= (6, 16))])

    def test_peak_memory_of_what_does_not_get_to_its_exec_is_not_its_parents(self) -> None:
        exact = RELEASE >= (6, 16)
        before = (True, None) if exact else (False, False)
        for late, expected in ((True, [before, (False, exact)]), (False, [(False, exact), (True, None)])):
            with tempfile.TemporaryDirectory() as folder:
                pipe = os.path.join(folder, "pipe")
                os.mkfifo(pipe)
                child = self.python("""
try:  # which opens the pipe in a child that vfork() has made
    os.posix_spawn("/nowhere", ["nowhere"], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 9, sys.argv[1], 0, 0)])
except FileNotFoundError:
    pass
""", pipe)
                watcher = self.ebpf(*() if late else [child.pid])
                self.go(child)
                eventually(lambda: len(cnproc._children(child.pid)) == 1)
                if late:
                    watcher.watch(child.pid)
                else:
                    child.kill()
                    child.wait()  # so that the memory is no longer its parent's
                open(pipe, "w").close()
                ends = [event for event in self.rest(watcher) if isinstance(event, Exit)]
            self.assertEqual([(event.max_rss is None, event.max_rss_exact) for event in ends], expected)

    def test_input_and_output_are_without_the_childrens(self) -> None:
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            lines, events = self.told("""
def work(name, size):
    with open(name, "wb", 0) as file:
        file.write(os.urandom(size << 20))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(name, "rb", 0) as file:
        file.read()
def say():
    fields = dict(line.split(": ") for line in open("/proc/self/io"))
    print(os.getpid(), int(fields["read_bytes"]), int(fields["write_bytes"]), flush=True)
os.chdir(sys.argv[2])
def child():
    def both():
        if os.fork():
            os.wait()
            thread(lambda: work("one", 1)).join()
        else:
            work("four", 4)
        say()
    both()
ran(child)
""", folder)
        ends = {event.pid: event for event in events if isinstance(event, Exit)}
        inner, outer, _ = lines
        said = [[int(word) for word in line] for line in (inner, outer)]
        for pid, read, write in (said[0], [said[1][0], *(a - b for a, b in zip(said[1][1:], said[0][1:]))]):
            end: Any = ends[pid]
            self.assertEqual(end.write_bytes, write)
            self.assertLessEqual(0, end.read_bytes - read)
            self.assertLess(end.read_bytes - read, 1 << 20)  # pages of the program that it came to need since
        first = next(event for event in events if isinstance(event, Fork)).parent_pid
        self.assertEqual((ends[first].read_bytes, ends[first].write_bytes), (None, None))

    def test_the_start_is_when_it_was_forked(self) -> None:
        began = time.monotonic_ns()
        lines, events = self.told("print(os.getpid(), flush=True)\nran(true)\nran(exec_by_a_thread)")
        forks = {event.pid: event.timestamp_ns for event in events if isinstance(event, Fork)}
        ends = {event.pid: event.start_ns for event in events if isinstance(event, Exit)}
        first = ends.pop(int(lines[0][0]))
        assert first
        self.assertLess(began, first)
        self.assertEqual((len(ends), ends.keys()), (2, forks.keys()))
        for pid, start in ends.items():
            self.assertLess(first, start or 0)
            self.assertLessEqual(start or 0, forks[pid])

    def test_who_ran_it_and_in_which_cgroup(self) -> None:
        watcher = self.ebpf(os.getpid())
        children: list[subprocess.Popen[Any]] = []
        root = cnproc._cgroup2()
        folders = [root]
        if root:
            with contextlib.suppress(OSError):
                folders.append(tempfile.mkdtemp(prefix="cnproc test ", dir=root))
        try:
            for number in range(scale(50)):
                code = f"import os; os.setresuid({number}, {number + 1}, 0); os.execvp('cat', ['cat'])"
                child = self.start(sys.executable, "-c", code, stdin=subprocess.PIPE)
                children.append(child)
                event: Any = self.until(watcher, lambda event: isinstance(event, Exec) and event.cmdline == ["cat"])[-1]
                with open(f"/proc/{child.pid}/status") as file:
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
                with open(f"/proc/{child.pid}/cgroup") as file:
                    cgroup = next((line[3:-1] for line in file if line.startswith("0::")), None)
                self.assertEqual((event.pid, event.parent_pid, event.ruid, event.euid, event.cgroup), (
                    child.pid, int(status["PPid"]), number, number + 1, cgroup if root else None))
                if len(folders) > 1:
                    self.move_to(folders[number % len(folders)])
            if len(folders) > 1:
                self.assertGreater(len(watcher._source._ring.cgroups), 1)
        finally:
            for child in children:
                self.end(child)
            if len(folders) > 1:
                self.move_to(root)
                os.rmdir(folders[1])

    def test_a_cgroup_that_cannot_be_looked_up_for_lack_of_descriptors_is_found_later(self) -> None:
        import resource

        child = self.shell("/bin/true; read go; exec /bin/true")
        watcher = self.ebpf(child.pid)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, limits[1]))
        held: list[int] = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            self.go(child)
            event: Any = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
            self.assertIsNone(event.cgroup)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in held:
                os.close(fd)
        self.go(child)
        event = self.until(watcher, lambda event: isinstance(event, Exec))[-1]
        with open("/proc/self/cgroup") as file:
            self.assertEqual(event.cgroup, next((line[3:-1] for line in file if line.startswith("0::")), None)
                             if cnproc._cgroup2() else None)

    @staticmethod
    def move_to(cgroup: str) -> None:
        with open(f"{cgroup}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))

    def cats(self, *commands: str, folder: str) -> list[tuple[Any, str, str]]:
        """Shell scripts that end as `cat`, in a folder: the Exec of each, and what /proc says of it as it waits."""
        watcher = self.ebpf(os.getpid(), paths=True)
        found: list[tuple[Any, str, str]] = []
        for command in commands:
            child = self.start("sh", "-c", command, stdin=subprocess.PIPE, cwd=folder)
            event = self.until(watcher, lambda event: isinstance(event, Exec) and event.cmdline == ["cat"])[-1]
            found.append((event, os.readlink(f"/proc/{event.pid}/exe"), os.readlink(f"/proc/{event.pid}/cwd")))
            assert child.stdin
            child.stdin.close()
            self.assertEqual(child.wait(PATIENCE), 0)
        return found

    @root
    def test_paths_are_those_of_proc(self) -> None:
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            name = os.fsdecode(b"a name\n of \xff" + b"x" * 200)
            for depth in "/".join(["deep"] * 40), name, "mnt", "root":
                os.makedirs(os.path.join(folder, depth))
            mount = "mount -t tmpfs none mnt && mkdir mnt/a && mount --bind deep/deep mnt/a && cd mnt/a/deep"
            found = self.cats(
                "exec cat", "cd /; exec cat", "cd /dev; exec cat", "cd /proc/self/fd; exec cat", "cd a*; exec cat",
                "cd " + "/".join(["deep"] * 40) + "; exec cat", f"exec unshare -m sh -c '{mount} && exec cat'",
                f"exec unshare -m --propagation private sh -c 'mount --rbind / root && {mount} && exec chroot "
                "../../../root cat'", folder=folder)
            for event, exe, cwd in found:
                self.assertEqual((event.exe, event.cwd), (exe, cwd))
                self.assertEqual(eval(repr(event)), event)
            self.assertEqual(len({cwd for *_, cwd in found}), 8)

    def test_paths_of_what_is_deleted_or_nowhere(self) -> None:
        cat = os.path.realpath(shutil.which("cat") or "cat")
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            path = os.path.join(folder, "cat")
            far = "/".join(["deep"] * 70)
            fd = "import os, shutil, sys; fd = "
            run = "; os.execv(f'/proc/self/fd/{fd}', ['cat'])"
            gone = f"{fd}os.open(shutil.copy(sys.argv[1], 'cat'), os.O_RDONLY); os.unlink('cat'){run}"
            memfd = f"{fd}os.memfd_create('x'); os.write(fd, open(sys.argv[1], 'rb').read()){run}"
            found = self.cats(
                shlex.join(["exec", *PYTHON, "-c", gone, cat]),
                "mkdir sub; cd sub; rmdir ../sub; exec cat", f"mkdir -p {far}; cd {far}; exec cat",
                shlex.join(["exec", *PYTHON, "-c", memfd, cat]), folder=folder)
            self.assertEqual([(event.exe, event.cwd) for event, *_ in found], [
                (path, folder), (cat, f"{folder}/sub"), (cat, None), (None, folder)])
            self.assertEqual((found[0][1], found[1][2]), (f"{path} (deleted)", f"{folder}/sub (deleted)"))

    def test_paths_of_short_processes_are_there(self) -> None:
        number = scale(1000)
        child = self.shell(f"cd /dev; i=0; while [ $i -lt {number} ]; do {TRUE} {'x' * 100}; i=$((i+1)); done; exit 0")
        watcher = self.ebpf(child.pid, paths=True)
        events = self.life(child, watcher)
        runs = [(event.exe, event.cwd, event.cmdline) for event in events if isinstance(event, Exec)]
        self.assertEqual(runs, [(os.path.realpath(TRUE), "/dev", [TRUE, "x" * 100])] * number)

    def test_functions_have_paths_and_without_there_are_none(self) -> None:
        self.ebpf()
        for paths in False, True:
            child = self.shell("exec true")
            events = cnproc.watch(child.pid, events=What.EXEC, paths=paths)
            self.go(child)
            for event in *events, *cnproc.run(["true"], events=What.EXEC, paths=paths):
                assert isinstance(event, Exec)
                self.assertEqual((event.exe is not None, event.cwd is not None), (paths, paths))

    def test_threads_have_their_own(self) -> None:
        lines, events = self.told("""
print(os.getpid(), flush=True)
def child():
    thread(lambda: (busy(9), print(threading.get_native_id(), flush=True))).join()
    busy(3)
ran(child)
""", threads=True)
        ends = {event.tid: event for event in events if isinstance(event, Exit)}
        worker, leader = (ends[int(number)] for number in (lines[1][0], lines[2][1]))
        for end, least in (worker, 9_000_000), (leader, 3_000_000):
            self.assertGreaterEqual(end.cpu_ns or 0, least)
            self.assertIsNone(end.max_rss)
            self.assertGreater(end.start_ns or 0, 0)
        away = (worker.cpu_ns or 0) + (leader.cpu_ns or 0) - int(lines[2][2]) * 1000
        self.assertLess(abs(away), 20_000_000 if EMULATED else 2_000_000)

    def test_what_a_kernel_does_not_have_is_none_and_the_rest_is_known(self) -> None:
        self.ebpf()
        for lacking, names in (
            ("signal_struct.sum_sched_runtime", {"cpu_ns"}), ("signal_struct.maxrss", {"max_rss", "max_rss_exact"}),
            ("task_struct.children_prev", {"max_rss", "max_rss_exact"}), ("task_struct.start_time", {"start_ns"}),
            ("task_struct.read_bytes", {"read_bytes", "write_bytes"}), ("signal_struct.maj_flt", {"major_faults"}),
            ("cred.uid", {"ruid", "euid"}), ("kernfs_node.id", {"cgroup"}),
        ):
            layout = {name: offset for name, offset in cnproc._layout().items() if name != lacking}
            cnproc._instructions.cache_clear()
            self.addCleanup(cnproc._instructions.cache_clear)
            with self.subTest(lacking), unittest.mock.patch.object(cnproc, "_layout", return_value=layout):
                watcher = self.ebpf()
                child = watcher.popen([TRUE])
                unknown: set[str] = set()
                for event in self.rest(watcher):
                    if isinstance(event, (Exec, Exit)):
                        unknown |= {name for name, value in event.asdict().items() if value is None}
                child.wait()
                never = {"exe", "cwd"} if cnproc._cgroup2() else {"exe", "cwd", "cgroup"}
                self.assertEqual(unknown - never, names - never)


def forks_and_exits(events: Iterable[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, (Fork, Exit))]


@contextlib.contextmanager
def unfiltered(rcvbuf: int = 32 << 20, quiet: int | None = None) -> Generator[None, None, None]:
    """Watchers of the datagram source that get every event of the machine, in a buffer of this size."""
    with contextlib.ExitStack() as stack:
        def patch(*args: Any) -> None:
            stack.enter_context(unittest.mock.patch.object(*args))

        def everything(*_: object) -> list[tuple[int, ...]]:
            return [(cnproc._BPF_RET, 0, 0, 0xFFFFFFFF)]

        patch(cnproc.Watcher, "_sources", (cnproc._DatagramSource,))
        patch(cnproc, "_classic_filter", everything)
        patch(cnproc, "_pidfd_has_status", lambda: False)
        patch(cnproc.Watcher.__init__, "__kwdefaults__", {
            **(cnproc.Watcher.__init__.__kwdefaults__ or {}), "rcvbuf": rcvbuf})
        if quiet is not None:
            patch(cnproc, "_QUIET", quiet)
        yield


@live
class Loss(Case):
    """What the kernel dropped of datagrams is reported, and the rest comes from /proc."""

    def overrun(self, child: subprocess.Popen[Any]) -> tuple[cnproc.Watcher, Callable[[int], list[Any]]]:
        """A watcher of this child whose buffer has overrun, and its witness."""
        told = self.witness(child.pid)
        watcher = self.watcher(child.pid)
        self.fill(watcher)
        return watcher, told

    @staticmethod
    def fill(watcher: cnproc.Watcher) -> None:
        before = drops(watcher)
        eventually(lambda: storm(20) and drops(watcher) != before)
        storm(20)

    def test_wait_returns_though_the_exit_was_lost(self) -> None:
        with unfiltered():
            for _ in range(max(2, scale(50))):
                child = self.shell("exit 3")

                def die() -> None:  # while the reader sleeps
                    storm(20)
                    self.go(child)
                    child.wait()
                    storm(20)

                original = cnproc.Watcher.__init__

                def small(watcher: cnproc.Watcher, **_: object) -> None:
                    original(watcher, rcvbuf=4096)

                with unittest.mock.patch.object(cnproc.Watcher, "__init__", small), self.at_the_first_wait(die):
                    self.assertIsNone(cnproc.wait(child.pid, PATIENCE))

    def test_the_generator_over_a_tree_ends_though_exits_were_lost(self) -> None:
        with unfiltered(rcvbuf=4096):
            for _ in range(max(2, scale(50))):
                child = self.shell("sh -c 'read x; exit 1' & sh -c 'sh -c \"exit 2\"; exit 3'; exit 4")
                stream = cnproc.watch(child.pid, timeout=PATIENCE)
                self.go(child)
                child.wait()
                storm(20)
                events: list[Any] = list(stream)
                last = [event for event in events if isinstance(event, Exit) and event.pid == child.pid]
                self.assertEqual(len(last), 1)
                self.assertLess(events[-1].timestamp_ns, time.monotonic_ns())
                ends = [event.pid for event in events if isinstance(event, Exit)]
                self.assertEqual(len(ends), len(set(ends)))

    def test_an_overrun_is_reported_with_the_kernels_count_behind_all_that_was_queued(self) -> None:
        told = self.witness(os.getpid())
        with unfiltered(rcvbuf=4096):
            watcher = self.watcher(os.getpid(), events=What.FORK | What.EXIT)
            pids: list[int] = []
            for _ in range(3):  # an ordinary user's witness has room for some 200
                pids += storm(100)
                told(100)
            dropped = drops(watcher)
            self.assertGreater(dropped, 100)
            self.assertEqual(watcher.lost, dropped)
            *early, lost = self.until(watcher, lambda event: isinstance(event, Lost))
            self.assertEqual(lost.count, dropped)
            self.assertGreater(len(early), 1)
            born = [event.pid for event in early if isinstance(event, Fork)]
            self.assertEqual(born, pids[:len(born)])
            self.assertLess(max(event.timestamp_ns for event in early), lost.timestamp_ns)
            later = storm(1)
            events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid in later)
            self.assertEqual(events[-1].rebuilt, any(isinstance(event, Lost) for event in events))

    def test_lost_stands_behind_the_older_events_however_they_are_read(self) -> None:
        # By hand: a sender that was preempted can queue an older event while the queue is read.
        with unfiltered():
            source = self.watcher()._source
        batches = [[execed(1, 10), execed(2, 20)], [execed(3, 30)], [execed(4, 40), execed(5, 60)], []]

        def receive(most: int) -> tuple[list[Exec], bool]:
            return batches.pop(0) if batches else [], bool(batches)

        source._gap = 50
        with unittest.mock.patch.object(source, "_receive", receive):
            told = [event for _ in range(5) for event in source.read(64)[0]]
        self.assertEqual([event.what and event.pid for event in told], [1, 2, 3, 4, 0, 5])

    def test_a_rebuilt_exit_says_that_it_is(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.shell("exit 3")
            watcher, told = self.overrun(child)
            self.go(child)
            child.wait()
            told(1)
            lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual(lost.count, drops(watcher))
        self.assertEqual((end.pid, end.returncode, end.exit_code, end.cpu, end.rebuilt),
                         (child.pid, None, -1, 0xFFFFFFFF, True))
        self.assertEqual(watcher.pids, set())

    @unittest.skipIf(RELEASE < (5, 17), "a zombie cannot be asked")
    def test_the_status_of_a_zombie_is_not_lost(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.shell("exit 3")
            watcher, told = self.overrun(child)
            self.go(child)
            told(1)
            _, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual((end.returncode, end.rebuilt), (3, True))

    def test_an_old_leaders_exit_is_not_the_status_of_a_process_whose_end_was_lost(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.python(THREADS + """
def run():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    print(flush=True)
    sys.stdin.readline()
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])
thread(run)
leave()
""")
            told = self.witness(child.pid)
            watcher = self.watcher(child.pid)
            self.go(child)
            self.ready(child)
            for event in iter(lambda: watcher.read(0), None):  # the leader's EXIT is read
                self.assertIsInstance(event, Lost)
            self.fill(watcher)
            self.go(child)  # the EXEC and the end are lost
            child.wait()
            told(1)
            end = self.until(watcher, lambda event: isinstance(event, Exit))[-1]
        self.assertEqual((end.pid, end.returncode, end.rebuilt, watcher.pids), (child.pid, None, True, set()))

    def test_a_child_forked_in_the_gap_is_reported_and_followed(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5")
            watcher, _ = self.overrun(child)
            self.go(child)
            grandchild, = eventually(lambda: children(child.pid))
            lost, event = self.until(watcher, lambda event: isinstance(event, Fork))
            self.assertIsInstance(lost, Lost)
            self.assertEqual((event.pid, event.parent_pid, event.rebuilt), (grandchild, child.pid, True))
            events = self.life(child, watcher)
        self.assertEqual({event.pid: event.returncode for event in events if isinstance(event, Exit)},
                         {grandchild: 4, child.pid: 5})

    @root
    def test_pid_reuse_after_unwatching_the_parent_of_a_rebuilt_fork(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5")
            watcher, _ = self.overrun(child)
            self.go(child)
            grandchild, = eventually(lambda: children(child.pid))
            self.until(watcher, lambda event: isinstance(event, Lost))
            watcher.unwatch(child.pid)  # the rebuilt Fork is in hand
            self.go(child)
            child.wait()
            while watcher.pids:
                watcher.read(PATIENCE)
            other = self.again(grandchild, "sh", "-c", "echo; read go; exit 6", stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
            watcher.watch(self.ready(other).pid)
            self.assertEqual(statuses(self.life(other, watcher)), [6])

    def test_threads_are_counted_again_after_a_gap(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.python(THREADS + """
threads = [thread(sys.stdin.readline) for _ in range(3)]
print(flush=True)
leave()
""")
            watcher, _ = self.overrun(child)
            self.go(child)
            self.ready(child)
            eventually(lambda: state(child.pid) == "Z")
            self.until(watcher, lambda event: isinstance(event, Lost))
            rest = list(iter(lambda: watcher.read(0), None))
            self.assertEqual([event for event in rest if not isinstance(event, Lost)], [])
            self.assertEqual(watcher.pids, {child.pid})
            child.kill()
            *_, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual((end.pid, end.rebuilt), (child.pid, False))
        self.assertIn(end.returncode, or_doubt(-9))

    @root
    def test_a_pid_reused_in_the_gap_is_another_process(self) -> None:
        with unfiltered(rcvbuf=4096):
            child = self.shell("exit 3")
            watcher, told = self.overrun(child)
            self.go(child)
            child.wait()
            told(1)
            self.again(child.pid, "sleep", "60")
            _, end = self.until(watcher, lambda event: isinstance(event, Exit))
            self.assertEqual((end.pid, end.rebuilt, watcher.pids), (child.pid, True, set()))

    def test_a_watcher_of_everything_is_resynced_too(self) -> None:
        with unfiltered():
            child = self.shell("exit 3")
            told = self.witness(child.pid)
            watcher = self.watcher(rcvbuf=4096)
            watcher.watch()
            self.fill(watcher)
            born = self.shell("exit 4")
            self.go(child)
            child.wait()
            told(1)
            events = self.until(watcher, lambda event: isinstance(event, Fork) and event.pid == born.pid)
        gap = next(i for i, event in enumerate(events) if isinstance(event, Lost))
        self.assertTrue(events[-1].rebuilt)
        self.assertIn((child.pid, True), [(e.pid, e.rebuilt) for e in events[gap + 1:] if isinstance(e, Exit)])
        self.assertNotIn(child.pid, [event.pid for event in events[:gap] if isinstance(event, Exit)])

    def test_a_process_that_ends_during_the_resync_is_reported_once(self) -> None:
        for sources in cnproc.Watcher._sources, (cnproc._DatagramSource,):
            with unittest.mock.patch.object(cnproc.Watcher, "_sources", sources):
                child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; read go; exit 5")
                watcher = self.watcher(child.pid, events=What.FORK | What.EXIT)
            self.go(child)
            event, = self.until(watcher, lambda event: isinstance(event, Fork))
            known = watcher._source.known

            def last_seen() -> Any:
                pids = known()
                self.go(child)
                eventually(lambda: not children(child.pid))
                return pids

            with unittest.mock.patch.object(watcher._source, "known", last_seen), watcher._lock:
                watcher._recovery.resync([])
            end, = self.until(watcher, lambda event: isinstance(event, Exit))
            self.assertEqual(end.pid, event.pid)
            self.assertEqual(kinds(self.life(child, watcher)), [Exit])

    def test_a_resync_that_fails_is_made_up_for(self) -> None:
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid)
        too_many = OSError(errno.EMFILE, "Too many open files")
        watcher._intake.must_resync = True
        with unittest.mock.patch.object(cnproc, "_stat", side_effect=too_many), self.assertRaises(OSError):
            watcher.read(0)
        self.assertTrue(watcher._intake.must_resync)
        self.assertIsNone(watcher.read(0))
        self.assertFalse(watcher._intake.must_resync)
        events = self.life(child, watcher)
        self.assertEqual([(event.returncode, event.rebuilt) for event in events], [(3, False)])

    def test_what_is_not_watched_any_longer_is_not_taken_up_by_a_resync(self) -> None:
        child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5")
        watcher = self.watcher(child.pid, events=What.FORK | What.EXIT, follow=False)
        self.go(child)
        self.until(watcher, lambda event: isinstance(event, Fork))
        watcher._intake.must_resync = True
        self.assertIsNone(watcher.read(0))
        self.assertEqual(watcher.pids, {child.pid})
        self.assertEqual(kinds(self.life(child, watcher)), [Exit])

    def test_an_exit_that_is_late_after_a_loss_is_not_reported_again(self) -> None:
        with unfiltered():
            child = self.shell("exit 3")
            watcher = self.watcher()
            watcher.watch()
            self.go(child)
            child.wait()
            late: list[Any] = []

            def received() -> bool:
                late.extend(watcher._source._receive(64)[0])
                return any(isinstance(event, Exit) and event.pid == child.pid for event in late)

            eventually(received)
            watcher._intake.must_resync = True
            self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid and event.rebuilt)
            watcher._source.pending.extend(late)
            again = self.start("true")
            events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == again.pid)
        self.assertEqual([event for event in events if isinstance(event, Exit) and event.pid == child.pid], [])


@live
class Silence(Case):
    """A subscription that has gone silent, and one that is only quiet."""

    def test_a_probe_of_a_quiet_subscription_reports_nothing(self) -> None:
        with unittest.mock.patch.object(cnproc, "_QUIET", 10_000_000):
            watcher = self.watcher(os.getpid(), events=What.COMM, follow=False)
            before = watcher.fileno(), os.fstat(watcher._subscription.sock.fileno()).st_ino
            for timeout in 0.3, 0.03, 0.03:
                self.assertIsNone(watcher.read(timeout))
            self.assertEqual((watcher.fileno(), os.fstat(watcher._subscription.sock.fileno()).st_ino), before)
            ctypes.CDLL(None).prctl(15, b"seen")
            event: Any = watcher.read(PATIENCE)
            self.assertEqual(event.comm, "seen")

    def test_a_subscription_that_has_gone_silent_is_noticed_renewed_and_resynced(self) -> None:
        child = self.shell("sh -c 'read go'; sh -c 'exit 2'; exit 3")
        watcher = self.watcher(child.pid)
        self.assertIsNone(watcher.read(0))
        fd = watcher.fileno()
        silence = contextlib.ExitStack()

        def revive(*_: object) -> float:
            silence.close()
            return 0.0

        with silence, unittest.mock.patch.object(cnproc._Subscription, "revive", revive), unittest.mock.patch.object(
                cnproc, "_QUIET", 300_000_000):
            silence.enter_context(deaf(watcher))
            self.go(child)  # a fork that is not reported
            eventually(lambda: children(child.pid))
            lost, fork = self.until(watcher, lambda event: isinstance(event, Fork))
        self.assertEqual((lost.count, fork.rebuilt, fork.parent_pid), (None, True, child.pid))
        self.assertEqual(watcher.fileno(), fd)  # so that it stays registered in others' epolls
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [0, 2, 3])
        self.assertFalse(any(event.rebuilt for event in events))

    def test_a_subscription_that_is_not_acknowledged_is_tried_again_on_a_fresh_socket(self) -> None:
        silent: list[Any] = []

        class Socket(_socket.socket):
            def send(self, data: Any, *flags: int) -> int:  # nothing of the first socket is sent
                if self in (silent or [self]):
                    silent[:] = [self]
                    return len(bytes(data))
                return super().send(data, *flags)

        child = self.shell("exit 3")
        with unittest.mock.patch.object(_socket, "socket", Socket):
            watcher = self.watcher(child.pid)
        self.assertTrue(silent)
        self.assertEqual([event.returncode for event in self.life(child, watcher)], [3])

    def asked(self) -> list[tuple[int, int]]:
        """From now on: which sockets have sent LISTEN (1) and IGNORE (2)."""
        sent: list[tuple[int, int]] = []

        class Socket(_socket.socket):
            def send(self, data: Any, *flags: int) -> int:
                sent.append((id(self), bytes(data)[-4:].strip(b"\0")[0]))
                return super().send(data, *flags)

        patch = unittest.mock.patch.object(_socket, "socket", Socket)
        patch.start()
        self.addCleanup(patch.stop)
        return sent

    def assert_taken_back(self, asked: list[tuple[int, int]], number: int) -> None:
        """So many LISTENs on as many sockets, and an IGNORE on each of them."""
        listened, ignored = ([sock for sock, op in asked if op == this] for this in (1, 2))
        self.assertEqual((len(set(listened)), sorted(ignored)), (number, sorted(listened)))

    def test_a_subscription_that_the_kernel_never_answers_is_tried_8_times_and_taken_back(self) -> None:
        nothing: Any = [(cnproc._BPF_RET, 0, 0, 0)]
        asked, before = self.asked(), len(os.listdir("/proc/self/fd"))
        with unittest.mock.patch.object(cnproc, "_classic_filter", return_value=nothing), \
                self.assertRaisesRegex(TimeoutError, "did not answer 8 subscriptions.*restart the machine"):
            cnproc.Watcher()
        self.assert_taken_back(asked, 8)
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_subscription_that_goes_silent_is_renewed_8_times_and_not_given_up(self) -> None:
        with unittest.mock.patch.object(cnproc, "_QUIET", 10_000_000):
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            asked = self.asked()
            with deaf(watcher), self.assertRaisesRegex(TimeoutError, "did not answer 8 subscriptions"):
                watcher.read(PATIENCE)
            self.assert_taken_back(asked, 8)
            # On a slow machine its Exit is late after so short a time, and a loss is suspected. Old kernels cannot be
            # asked for a status then.
            self.assertIn(statuses(self.life(child, watcher)), ([3], [None if cnproc._kernel() < (5, 17) else 3]))
            self.assert_taken_back(asked, 8)

    def unreported_exit(self, child: subprocess.Popen[Any], *others: int) -> cnproc.Watcher:
        """Let a child end; a watcher of it and of others to whom the kernel does not report that."""
        told = self.witness(child.pid)
        watcher = self.watcher(child.pid, *others)
        with deaf(watcher):
            self.go(child)
            told(1)
            child.wait()
        return watcher

    def test_an_exit_that_was_lost_uncounted_is_noticed(self) -> None:
        with unittest.mock.patch.object(cnproc, "_QUIET", 50_000_000):
            child = self.shell("exit 3")
            watcher = self.unreported_exit(child)
            lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
            self.assertEqual((lost.count, end.pid, end.rebuilt), (None, child.pid, True))

    def test_an_exit_that_was_lost_uncounted_is_noticed_while_other_events_come(self) -> None:
        with unittest.mock.patch.object(cnproc, "_QUIET", 400_000_000):  # hardly so long without an event
            child, busy = self.shell("exit 3"), self.start("sh", "-c", "while :; do sleep 0.02; done")
            watcher = self.unreported_exit(child, busy.pid)
            events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid)
        self.assertTrue(events[-1].rebuilt)
        self.assertEqual([event.count for event in events if isinstance(event, Lost)], [None])
        self.until(watcher, lambda event: isinstance(event, Exec))  # the others go on

    def test_a_forked_child_can_only_close_the_watcher(self) -> None:
        watcher = self.watcher()
        watcher.watch(os.getpid(), What.ALL)
        begun = iter(watcher)
        uses: list[Callable[[], object]] = [watcher.read, watcher.watch, watcher.unwatch, watcher.fileno,
                                            watcher.__enter__, lambda: next(begun), lambda: iter(watcher)]

        def child() -> str:
            for use in uses:
                with self.assertRaisesRegex(ValueError, "after the fork"):
                    use()
            self.assertIn(os.getppid(), watcher.pids)
            watcher.close()
            self.assertTrue(watcher.closed)
            return "all refused"

        self.assertEqual(forked(child), "all refused")
        self.until(watcher, lambda event: isinstance(event, Exit))


CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWNS = 0x10000000, 0x20000000, 0x40000000, 0x20000
CAP_NET_ADMIN = 12


def forked(function: Callable[[], object], uid: int | None = None, unshare: int = 0, caps: int = 0) -> str:
    """What the function returns or raises, as text, in a child: as another user, in other namespaces."""
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if unshare and libc.unshare(unshare):
                os.write(send, b"not available: unshare: " + os.strerror(ctypes.get_errno()).encode())
                os._exit(0)
            if unshare & CLONE_NEWPID:
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                    os._exit(0)
            if caps:
                libc.prctl(8, 1)  # PR_SET_KEEPCAPS
            if uid is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            if caps:
                libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 1 << caps, 1 << caps, 0, 0, 0, 0))
            try:
                result = str(function())
            except Exception as error:
                result = f"{type(error).__name__} {getattr(error, 'errno', '')} {error}"
            os.write(send, result.encode())
        finally:
            os._exit(0)
    os.close(send)
    with open(receive) as file:
        result = file.read()
    os.waitpid(pid, 0)
    if "not available" in result:
        raise unittest.SkipTest(result)
    return result


class WaitTests(Case):
    """wait() and wait_async(), by a pidfd (Linux 6.15) and by the connector."""

    pidfd = False

    def setUp(self) -> None:
        super().setUp()
        patch = unittest.mock.patch.object(cnproc, "_pidfd_has_status", lambda: self.pidfd)
        patch.start()
        self.addCleanup(patch.stop)

    @staticmethod
    def wait(*args: Any) -> int | None:
        return cnproc.wait(*args)

    def when_waiting(self, function: Callable[[], object]) -> contextlib.AbstractContextManager[Any]:
        return self.at_the_first_wait(function, cnproc._Waiting, "fileno")

    def test_statuses(self) -> None:
        for script, returncode in ("exit 0", 0), ("exit 6", 6), ("kill -KILL $$", -9):
            child = self.shell(script)
            with self.subTest(script), self.when_waiting(lambda: self.go(child)):
                self.assertEqual(self.wait(child.pid, PATIENCE), returncode)

    def test_status_of_who_is_no_child_of_ours(self) -> None:
        child = self.shell("sh -c 'read x; exit 7'; read x")
        self.go(child)
        grandchild, = eventually(lambda: children(child.pid))
        with self.when_waiting(lambda: self.go(child)):
            self.assertEqual(self.wait(grandchild, PATIENCE), 7)

    def test_timeout(self) -> None:
        child = self.shell("")
        for timeout in 0, 0.0005, 0.05:
            before = time.monotonic()
            with self.assertRaisesRegex(TimeoutError, str(child.pid)):
                self.wait(child.pid, timeout)
            self.assertGreaterEqual(time.monotonic() - before, timeout)
        for timeout in -1, float("nan"):
            with self.assertRaises(ValueError):
                self.wait(child.pid, timeout)

    def test_a_zombie_has_its_status_and_who_is_gone_none(self) -> None:
        zombie = self.start("sh", "-c", "exit 7")
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        if RELEASE < (5, 17):
            with self.assertRaises(ProcessLookupError):
                self.wait(zombie.pid)
        else:
            self.assertEqual(self.wait(zombie.pid), 7)
        zombie.wait()
        with self.assertRaises(ProcessLookupError):
            self.wait(zombie.pid)

    @unittest.skipIf(RELEASE < (5, 17), "a zombie cannot be asked")
    def test_who_is_being_reaped_is_not_asked_for_its_status(self) -> None:  # /proc shows the first thread's code then
        zombie = self.start("sh", "-c", "exit 7")
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual(cnproc._zombie_status(zombie.pid), 7 << 8)
        shown: Any = cnproc._stat(zombie.pid)
        with unittest.mock.patch.object(cnproc, "_stat", return_value=shown._replace(threads=0)):
            self.assertIsNone(cnproc._zombie_status(zombie.pid))

    def test_a_tid_is_refused(self) -> None:
        child = self.python(THREADS + "thread(sys.stdin.readline); print(flush=True); threading.Event().wait()")
        self.go(child)
        self.ready(child)
        tid, = {*map(int, os.listdir(f"/proc/{child.pid}/task"))} - {child.pid}
        with self.assertRaisesRegex(ProcessLookupError, f"{tid} is a thread of process {child.pid}"):
            self.wait(tid, PATIENCE)


@live
class WaitByConnector(WaitTests):
    def test_unwatched_processes_do_not_wake_it(self) -> None:
        for way in "cnproc._pidfd_has_status = lambda: False; ", "":
            child = self.shell("")
            waiter = self.listener(*PYTHON, "-c", f"import cnproc; {way}cnproc.wait({child.pid})", cwd=HERE,
                                   stderr=subprocess.DEVNULL)
            eventually(lambda: waits(waiter.pid))
            before, began = switches(waiter.pid), time.monotonic()
            storm(scale(500))
            probes = (time.monotonic() - began) // 3  # of a subscription that hears nothing
            self.assertLessEqual(switches(waiter.pid) - before, 5 + 5 * probes)

    def wait_while(self, child: subprocess.Popen[Any], happens: Callable[[], object]) -> int | None:
        """What a wait for it returns if this happens when the Watcher has been made, and does not watch it yet."""
        with self.at_the_first_wait(happens, cnproc.Watcher, "watch"):
            return self.wait(child.pid, PATIENCE)

    def leave_zombie(self, child: subprocess.Popen[Any]) -> None:
        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def reap(self, child: subprocess.Popen[Any]) -> None:
        self.go(child)
        child.wait()

    def test_who_ends_while_the_watcher_is_made_has_the_status_of_its_zombie_or_none(self) -> None:
        for leave, returncode in (self.leave_zombie, 7 if RELEASE >= (5, 17) else None), (self.reap, None):
            child = self.shell("exit 7")
            self.assertEqual(self.wait_while(child, functools.partial(leave, child)), returncode)

    def test_who_is_reaped_as_soon_as_it_is_watched_has_its_status(self) -> None:
        child, original = self.shell("exit 7"), cnproc.Watcher.watch

        def watch(*args: Any, **options: Any) -> None:
            original(*args, **options)
            self.reap(child)

        with unittest.mock.patch.object(cnproc.Watcher, "watch", watch):
            self.assertEqual(self.wait(child.pid, PATIENCE), 7)

    @root
    def test_who_gets_its_pid_while_the_watcher_is_made_is_not_waited_for(self) -> None:
        for zombie in False, True:
            child = self.shell("exit 7")

            def reuse(child: subprocess.Popen[Any] = child, zombie: bool = zombie) -> None:
                self.reap(child)
                other = self.again(child.pid, "sh", "-c", f"sleep {0 if zombie else 0.5}; exit 5")
                if zombie:
                    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

            self.assertIsNone(self.wait_while(child, reuse))

    @root
    def test_who_has_its_pid_when_the_watcher_has_been_made_and_ends_at_once_is_not_waited_for(self) -> None:
        child, original = self.shell("exit 7"), cnproc.Watcher.watch
        others: list[subprocess.Popen[Any]] = []

        def reuse() -> None:
            self.reap(child)
            others.append(self.again(child.pid, "sh", "-c", "read go; exit 5", stdin=subprocess.PIPE))

        def watch(*args: Any, **options: Any) -> None:
            original(*args, **options)
            self.reap(others[0])

        with self.at_the_first_wait(reuse, cnproc.Watcher, "__init__"), \
                unittest.mock.patch.object(cnproc.Watcher, "watch", watch):
            self.assertIsNone(self.wait(child.pid, PATIENCE))


@unittest.skipUnless(cnproc._pidfd_has_status(), "takes Linux 6.15")
class WaitByPidfd(WaitTests):
    pidfd = True

    @root
    def test_an_ordinary_user_in_other_namespaces_waits_for_a_process_of_root(self) -> None:
        child = self.shell("kill -TERM $$")
        reaper = threading.Thread(target=child.wait)
        reaper.start()

        def wait() -> int | None:
            with self.when_waiting(lambda: self.go(child)):
                return self.wait(child.pid, PATIENCE)

        try:
            self.assertEqual(forked(lambda: forked(wait, unshare=CLONE_NEWUSER | CLONE_NEWNET), uid=65534), "-15")
        finally:
            child.kill()
            reaper.join(PATIENCE)

    @root
    def test_a_zombie_of_somebody_else_is_waited_for_as_a_living_process_is(self) -> None:
        zombie = self.start("sh", "-c", "exit 7")
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)

        def wait() -> int | None:
            with self.assertRaises(TimeoutError):
                self.wait(zombie.pid, 0.05)
            with self.when_waiting(lambda: os.write(send, b"\n")):
                return self.wait(zombie.pid, PATIENCE)

        receive, send = os.pipe()
        reaper = threading.Thread(target=lambda: os.read(receive, 1) and zombie.wait())
        reaper.start()
        try:
            self.assertEqual(forked(wait, uid=65534), "7")
        finally:
            os.write(send, b"\n")
            reaper.join(PATIENCE)
            os.close(receive)
            os.close(send)

    def test_a_lack_of_descriptors_passes(self) -> None:
        REALLY_HAS_STATUS.cache_clear()
        self.addCleanup(REALLY_HAS_STATUS.cache_clear)
        for error in OSError(errno.EMFILE, ""), OSError(errno.ENFILE, ""):
            with unittest.mock.patch.object(os, "pidfd_open", side_effect=error), self.assertRaises(OSError):
                REALLY_HAS_STATUS()
        with unittest.mock.patch.object(
                threading.Thread, "start", side_effect=RuntimeError("can't start new thread")), (
                self.assertRaisesRegex(OSError, "no thread can be started")):
            REALLY_HAS_STATUS()
        self.assertTrue(REALLY_HAS_STATUS())

    def test_it_needs_no_proc_and_is_not_misled_by_that_of_another_namespace(self) -> None:
        code = """
import cnproc, os, subprocess
for script in "exit 7", "read x; exit 8", "read x; kill -KILL $$", "kill -TERM $$":
    child = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    if "read" in script:
        try:
            cnproc.wait(child.pid, 0)
        except TimeoutError:
            child.stdin.close()
    print(cnproc.wait(child.pid, 60))
child.wait()
for call in lambda: cnproc.wait(child.pid), lambda: cnproc.cmdline(1):
    try:
        print(call())
    except OSError as error:
        print(type(error).__name__)
"""
        run = subprocess.run(["unshare", "-pf" if os.geteuid() == 0 else "-Urpf", *PYTHON, "-c", code], cwd=HERE,
                             capture_output=True, text=True, timeout=PATIENCE)
        if "unshare" in run.stderr:
            self.skipTest(f"no PID namespace: {run.stderr.strip()}")
        self.assertEqual((run.stdout.split(), run.stderr),
                         (["7", "8", "-9", "-15", "ProcessLookupError", "FileNotFoundError"], ""))

    @root
    def test_the_next_owner_of_the_pid_is_not_waited_for(self) -> None:
        child = self.shell("exit 7")
        really = os.pidfd_open

        def late(pid: int) -> int:
            self.go(child)
            child.wait()
            self.again(pid, "sleep", "1000")
            return really(pid)

        with unittest.mock.patch.object(os, "pidfd_open", late):
            self.assertIsNone(self.wait(child.pid, PATIENCE))

    def test_an_infinite_timeout_is_none(self) -> None:
        child = self.shell("exit 9")
        with self.when_waiting(lambda: self.go(child)):
            self.assertEqual(self.wait(child.pid, float("inf")), 9)

    def test_many_waits_in_threads_take_no_subscription(self) -> None:
        number = max(50, scale(200))
        waiting: list[Any] = []
        results: list[Any] = []
        child, original = self.shell("exit 9"), cnproc._Waiting.fileno
        before = {link for link in links(os.getpid()) if "socket:" in link}

        def fileno(wait: Any) -> int:
            waiting.append(wait)
            return original(wait)

        with unittest.mock.patch.object(cnproc._Waiting, "fileno", fileno):
            threads = [threading.Thread(target=lambda: results.append(self.wait(child.pid, PATIENCE)))
                       for _ in range(number)]
            for thread in threads:
                thread.start()
            eventually(lambda: len(waiting) >= number)
            now = {link for link in links(os.getpid()) if "socket:" in link}
            self.go(child)
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual((now, results), (before, [9] * number))


class Async:
    @staticmethod
    def wait(*args: Any) -> int | None:
        return asyncio.run(cnproc.wait_async(*args))


@live
class WaitAsyncByConnector(Async, WaitByConnector):
    def when_waiting(self, function: Callable[[], object]) -> contextlib.AbstractContextManager[Any]:
        original = cnproc.Watcher.watch

        def watch(*args: Any, **options: Any) -> None:
            original(*args, **options)
            function()

        return unittest.mock.patch.object(cnproc.Watcher, "watch", watch)

    def test_a_refused_subscription_is_no_end_of_the_time(self) -> None:
        silent = OSError(errno.ETIMEDOUT, "the kernel did not answer")  # a TimeoutError, too
        with unittest.mock.patch.object(cnproc.Watcher, "_subscribe", side_effect=silent), \
                self.assertRaisesRegex(TimeoutError, "did not answer"):
            self.wait(self.shell("exit").pid, PATIENCE)

    @root
    def test_who_gets_the_pid_of_one_that_is_waited_for_is_waited_for_itself(self) -> None:
        async def check() -> None:
            child = self.shell("exit 3")
            first = asyncio.ensure_future(cnproc.wait_async(child.pid))
            for _ in range(9):  # until it waits
                await asyncio.sleep(0)
            self.reap(child)
            other = self.again(child.pid, "sh", "-c", "read go; exit 4", stdin=subprocess.PIPE)
            second = asyncio.ensure_future(cnproc.wait_async(other.pid))
            self.assertEqual(await first, 3)
            for _ in range(9):
                await asyncio.sleep(0)
            self.reap(other)
            self.assertEqual(await second, 4)

        asyncio.run(asyncio.wait_for(check(), PATIENCE))

    def test_it_waits_for_weeks_if_need_be_and_no_longer_than_it_shall(self) -> None:
        class Loop(asyncio.SelectorEventLoop):
            ahead = 0.0

            def time(self) -> float:
                return super().time() + self.ahead

        async def at(days: int) -> None:
            loop.ahead = days * 86400
            for _ in range(9):
                await asyncio.sleep(0)

        async def check(timeout: float | None, *, ends: bool) -> None:
            child = self.shell("exit 7")
            waiting = asyncio.ensure_future(cnproc.wait_async(child.pid, timeout))
            await at(0)  # until it waits
            await at(20)
            self.assertFalse(waiting.done())
            if ends:
                self.go(child)
                self.assertEqual(await waiting, 7)
            else:
                await at(40)
                with self.assertRaisesRegex(TimeoutError, f"has not ended within {30 * 86400} seconds"):
                    await waiting

        for timeout, ends in (None, True), (30 * 86400, True), (30 * 86400, False):
            with self.subTest(timeout=timeout, ends=ends), contextlib.closing(Loop()) as loop:
                loop.run_until_complete(check(timeout, ends=ends))


@unittest.skipUnless(cnproc._pidfd_has_status(), "takes Linux 6.15")
class WaitAsyncByPidfd(Async, WaitTests):
    pidfd = True


del WaitTests  # unittest would run it, too


@live
class Starting(Case):
    """popen() and run(): a command is watched from its birth."""

    def test_a_command_s_first_event_is_its_own_fork(self) -> None:
        watcher = self.watcher()
        child = watcher.popen(["sh", "-c", "exit 3"])
        events = self.rest(watcher)
        child.wait()
        self.assertEqual([(type(event), event.pid) for event in events],
                         [(kind, child.pid) for kind in (Fork, Exec, Exit)])
        self.assertEqual((events[0].parent_pid, events[-1].returncode), (os.getpid(), 3))

    def test_run_says_what_the_tree_of_its_command_has_used(self) -> None:
        work = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; exit"
        with cnproc.run(["sh", "-c", f"({work}); {work} 3"]) as run:
            self.assertIsNone(run.rusage)
            ends = [event for event in run if isinstance(event, Exit)]
            self.assertEqual((len(ends), run.process.returncode), (2, 3))
            assert run.rusage
            self.assertGreater(run.rusage.ru_utime + run.rusage.ru_stime, 0)
        for wait in (lambda: run.process.wait(PATIENCE), lambda: eventually(lambda: run.process.poll() is not None),
                     lambda: eventually(lambda: run.rusage is not None)):
            with cnproc.run(["sh", "-c", f"{work} 3"]) as run:  # left early
                next(run)
            wait()
            assert run.rusage
            self.assertGreater(run.rusage.ru_utime + run.rusage.ru_stime, 0)
            self.assertEqual(run.process.returncode, 3)

    def test_its_children_are_reported_too_or_with_follow_false_only_their_forks(self) -> None:
        for follow in True, False:
            watcher = self.watcher()
            child = watcher.popen(["sh", "-c", "/bin/true; (exit 4); exit 3"], follow=follow)
            child.wait()
            events = self.rest(watcher)
            self.assertEqual(sum(isinstance(event, Fork) for event in events), 3)
            self.assertEqual(statuses(events), [0, 3, 4] if follow else [3])
            self.assertEqual(sum(isinstance(event, Exec) for event in events), 2 if follow else 1)

    def test_what_other_threads_watch_meanwhile_stays_watched(self) -> None:
        old, watcher = self.shell("exit 7"), self.watcher()
        original: Any = subprocess.Popen
        thread = threading.Thread(target=watcher.watch, args=(old.pid,))

        def popen(*args: Any, **options: Any) -> Any:
            thread.start()
            thread.join(0.2)  # it may have to wait until the command has been started
            return original(*args, **options)

        with unittest.mock.patch.object(subprocess, "Popen", popen):
            child = watcher.popen(["true"])
        thread.join()
        child.wait()
        self.go(old)
        self.assertEqual(statuses(self.rest(watcher)), [0, 7])

    def test_what_other_threads_start_is_let_go(self) -> None:
        watcher, stop = self.watcher(), threading.Event()
        others: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            while not stop.is_set():
                others.append(subprocess.Popen(["sleep", "60"]))
                subprocess.run(["true"], check=True)

        thread = threading.Thread(target=start)
        thread.start()
        try:
            children = [watcher.popen(["sh", "-c", f"(:) & wait; exit {i}"]) for i in range(10)]
        finally:
            stop.set()
            thread.join()
            for other in others:
                self.addCleanup(other.wait)
                self.addCleanup(other.kill)
        for child in children:
            child.wait()
        events = self.rest(watcher)
        ends = {event.pid: event.returncode for event in events if isinstance(event, Exit)}
        self.assertEqual([ends[child.pid] for child in children], list(range(10)))
        family = set(ends)
        self.assertEqual({event.pid for event in events}, family)
        self.assertEqual(sum(isinstance(event, Fork) for event in events), len(family))
        self.assertGreaterEqual(len(family), 20)
        self.assertEqual(family & {other.pid for other in others}, set())
        self.assert_nothing_kept(watcher)

    def test_each_kind_can_be_had_alone(self) -> None:
        for kind in Fork, Exec, Exit:
            events = cnproc.run(["sh", "-c", "exit 3"], events=What[kind.__name__.upper()], timeout=PATIENCE)
            self.assertEqual(kinds(events), [kind])

    def test_a_watch_of_this_process_stays_as_it_was(self) -> None:
        watcher = self.watcher(os.getpid(), events=What.EXIT)
        child, other = watcher.popen(["true"], What.EXEC), self.start("false")
        child.wait()
        other.wait()
        self.assertEqual(watcher.pids - {child.pid, other.pid}, {os.getpid()})
        events: list[Any] = [watcher.read(PATIENCE) for _ in range(3)]  # the ends in any order
        self.assertCountEqual([(type(event), event.pid) for event in events],
                              [(Exec, child.pid), (Exit, child.pid), (Exit, other.pid)])
        self.assertIsNone(watcher.read(0))

    def test_a_command_that_cannot_be_started_leaves_nothing(self) -> None:
        watcher = self.watcher()
        with self.assertRaises(FileNotFoundError):
            watcher.popen(["/nonexistent"])
        self.assertEqual((watcher.pids, watcher.read(0)), (set(), None))
        self.assert_nothing_kept(watcher)
        with self.assertRaises(ValueError):
            watcher.popen(["true"], 8)
        watcher.close()
        with self.assertRaises(ValueError):
            watcher.popen(["true"])

    def test_run_ends_with_the_last_descendant_and_leaves_no_zombie(self) -> None:
        events: list[Any] = list(cnproc.run(["sh", "-c", "sleep 0.1 & exit 3"], timeout=PATIENCE))
        ends = [event.returncode for event in events if isinstance(event, Exit)]
        self.assertCountEqual(ends, [3, 0])
        with self.assertRaises(ProcessLookupError):
            os.kill(events[0].pid, 0)
        with self.assertRaises(FileNotFoundError):
            cnproc.run(["/nonexistent"])

    def test_the_command_of_a_run_is_at_hand_with_its_pipes(self) -> None:
        run = cnproc.run(["sh", "-c", "read x; echo got $x; exit 3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert run.process.stdin and run.process.stdout
        run.process.stdin.write(b"it\n")
        run.process.stdin.close()
        with run:
            events = list(run)
        self.assertEqual(run.process.stdout.read(), b"got it\n")
        run.process.stdout.close()
        self.assertEqual((statuses(events), run.process.returncode), ([3], 3))
        self.assertIsInstance(run, collections.abc.Generator)

    def test_a_run_that_is_closed_before_its_first_event_leaves_nothing(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        run = cnproc.run(["true"])
        run.process.wait()
        run.close()
        self.assertEqual((len(os.listdir("/proc/self/fd")), [*run]), (before, []))
        with cnproc.run(["true"]) as run:
            eventually(lambda: state(run.process.pid) == "Z")
        self.assertIsNotNone(run.process.returncode)

    def test_a_run_that_is_left_early_warns_of_nothing_and_is_reaped(self) -> None:
        code = """if True:
            import cnproc, contextlib, gc, os
            run = cnproc.run(["sleep", "0.2"])
            pid = next(run).pid
            del run
            gc.collect()
            with contextlib.suppress(ProcessLookupError):  # it has ended by now
                cnproc.wait(pid)
            for _ in cnproc.run(["true"]): pass
            print(os.path.exists(f"/proc/{pid}"))
            cnproc.run(["sleep", "0.1"])
            cnproc.run(["sleep", "0.1"]).close()
        """
        run = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], cwd=HERE, capture_output=True,
                             text=True, timeout=PATIENCE)
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "False\n", ""))

    def test_a_run_that_is_there_when_the_interpreter_ends_prints_nothing(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)  # cat runs until then
        for begin in "", "next(run)":
            for command, end in ("cat", ""), ("true", "os.waitid(os.P_PID, run.process.pid, os.WEXITED | os.WNOWAIT)"):
                code = "\n".join(["import cnproc, os, subprocess",
                                  f"run = cnproc.run('{command}', stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)",
                                  begin, end])
                with self.subTest(begin=begin, command=command):
                    run = subprocess.run([sys.executable, "-c", code], cwd=HERE, stdin=read, capture_output=True,
                                         text=True, timeout=PATIENCE)
                    self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "", ""))

    def test_threads_of_this_process_are_no_part_of_the_command(self) -> None:
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                threading.Thread(target=int).start()

        busy = threading.Thread(target=churn)
        busy.start()
        try:
            events: list[Any] = []
            for _ in range(5):
                events += cnproc.run(["sh", "-c", "exit 3"], threads=True, timeout=PATIENCE)
        finally:
            stop.set()
            busy.join()
        self.assertNotIn(os.getpid(), {event.pid for event in events})
        self.assertEqual(statuses(events), [3] * 5)

    def test_run_takes_kinds_and_a_timeout(self) -> None:
        read, write = os.pipe()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # of subprocess: it is still running
                events: list[Any] = list(cnproc.run(["cat"], events=What.EXEC, timeout=0.3, stdin=read))
            self.assertEqual([event.cmdline for event in events], [["cat"]])
        finally:
            os.close(read)
            os.close(write)
        self.assertEqual(os.waitpid(events[0].pid, 0)[1], 0)


@live
@root
class Elsewhere(Case):
    """Other users and namespaces: a refusal names the cause and the remedy."""

    @staticmethod
    def follows() -> list[int]:
        """The statuses that a watch of a small tree reports."""
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            if os.read(receive, 1) and not os.fork():
                os._exit(5)
            os.wait()
            os._exit(6)
        try:
            stream = cnproc.watch(pid, timeout=PATIENCE)
        finally:
            os.write(send, b"x")
        return statuses(stream)

    def test_another_network_namespace(self) -> None:
        said = forked(cnproc.Watcher, unshare=CLONE_NEWNET)
        self.assertRegex(said, r"^ConnectionRefusedError 111 .*network namespace.*--network=host")

    def test_another_pid_namespace(self) -> None:
        said = forked(cnproc.Watcher, unshare=CLONE_NEWPID)
        self.assertRegex(said, r"^PermissionError 1 .*pid namespace.*--pid=host")

    def test_another_user_namespace(self) -> None:
        said = forked(cnproc.Watcher, unshare=CLONE_NEWUSER)
        self.assertRegex(said, r"^PermissionError 1 .*user namespace.*--userns=host")

    def test_a_container_of_all_three(self) -> None:
        said = forked(cnproc.Watcher, unshare=CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
        self.assertRegex(said, r"Error \d+ .*namespace.*run on the host")

    def test_an_ordinary_user(self) -> None:
        said = forked(self.follows, uid=65534)
        if RELEASE < (6, 6):
            self.assertRegex(said, r"^PermissionError 1 .*CAP_NET_ADMIN.*run as root")
        else:
            self.assertEqual(said, "[5, 6]")

    def test_the_capability_alone(self) -> None:
        self.assertEqual(forked(self.follows, uid=65534, caps=CAP_NET_ADMIN), "[5, 6]")

    def test_hidepid(self) -> None:
        def hidden() -> str:
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
            if libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2"):
                return f"not available: mount: {os.strerror(ctypes.get_errno())}"
            child = self.shell("")
            said = [forked(use, uid=65534, caps=CAP_NET_ADMIN) for use in (
                lambda: cnproc.wait(child.pid, 0.01), lambda: cnproc.cmdline(child.pid))]
            if REALLY_HAS_STATUS():
                receive, send = os.pipe()
                ending = os.fork()
                if not ending:
                    os.read(receive, 1)
                    os._exit(5)
                reaper = threading.Thread(target=os.waitpid, args=(ending, 0))
                reaper.start()

                def waited() -> int | None:
                    with Case().at_the_first_wait(lambda: os.write(send, b"\n"), cnproc._Waiting, "fileno"):
                        return cnproc.wait(ending, PATIENCE)

                said[0] = f"{said[0].partition(' has')[0]} {forked(waited, uid=65534)}"
                reaper.join()
            return "; ".join([*said, forked(own, uid=65534, caps=CAP_NET_ADMIN)])

        def own() -> str:  # a watched process that hidepid hides later, though it is the user's own
            libc, (go, going), (done, doing) = ctypes.CDLL(None), os.pipe(), os.pipe()
            libc.prctl(4, 1)  # PR_SET_DUMPABLE, which forked() took away
            pid = os.fork()
            if not pid:
                os.read(go, 1)
                libc.prctl(4, 0)
                os.write(doing, b"\n")
                os.read(go, 1)
                os._exit(0)
            with cnproc.Watcher() as watcher:  # closed here: a forked child runs no cleanups
                watcher.watch(pid)
                os.write(going, b"\n")
                os.read(done, 1)
                lose(watcher)
                events: list[Any] = list(iter(lambda: watcher.read(0), None))
                os.write(going, b"\n")
                end: Any = watcher.read(PATIENCE)
                return f"{events[0].count} lost, {len(events)} reported, then {end.returncode}"

        said = forked(hidden, unshare=CLONE_NEWNS)
        refused = r"PermissionError 1 .*hides it \(hidepid\)[^;]*"
        waited = r"TimeoutError 110 .*process [0-9]+ 5" if REALLY_HAS_STATUS() else refused
        self.assertRegex(said, f"^{waited}; {refused}; None lost, 1 reported, then 0$")

    def test_a_time_namespace(self) -> None:
        run = subprocess.run(
            ["unshare", "-T", "--monotonic", "1000", "--boottime", "1000", *PYTHON, "-c",
             "import cnproc, subprocess; p = subprocess.Popen(['sh', '-c', 'read x; exit 3'], stdin=subprocess.PIPE); "
             "s = cnproc.watch(p.pid, events=cnproc.What.EXIT, timeout=20); p.stdin.close(); "
             "print([event.returncode for event in s])"],
            cwd=HERE, capture_output=True, text=True, timeout=PATIENCE)
        if "unshare" in run.stderr:
            self.skipTest(f"no time namespace: {run.stderr.strip()}")
        self.assertEqual((run.stdout, run.stderr), ("[3]\n", ""))


@live
@once
class Soak(Case):
    """Storms, and what they leave behind: nothing."""

    @staticmethod
    def resident() -> int:
        """Bytes of memory of our own; the ring's pages are shared with the kernel."""
        gc.collect()
        with open("/proc/self/status") as file:
            return int(re.findall(r"^RssAnon:\s+(\d+) kB", file.read(), re.M)[0]) << 10

    def test_memory_does_not_grow_with_processes(self) -> None:
        number = 1200 if EMULATED else 50_000 if SOAK else 5000
        child = self.shell(forking(number))
        born = start = blocks = 0
        with cnproc.Watcher() as watcher:
            watcher.watch(child.pid)
            self.go(child)
            for event in self.each(watcher, PATIENCE * 10):
                born += isinstance(event, Fork)
                if born == 1000 and not start:  # all that is allocated once has been
                    start, blocks = self.resident(), sys.getallocatedblocks()
            self.assertEqual(born, number)
            self.assert_nothing_kept(watcher)
        self.assertLess(self.resident() - start, 2 << 20)
        self.assertLess(sys.getallocatedblocks() - blocks, number // 10)

    def test_watchers_opened_and_closed_leave_nothing(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        start, watcher = 0, None
        for i in range(200 if EMULATED else scale(2000)):
            watcher = cnproc.Watcher(rcvbuf=4096)
            watcher.watch(os.getpid(), follow=False)
            if i % 2:
                watcher.close()
            if i == 100:
                start = self.resident()
        del watcher
        self.assertLess(self.resident() - start, 2 << 20 if start else 1 << 40)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_storms_of_threads_and_processes_on_all_processors(self) -> None:
        code = THREADS + """
def work(n):
    for _ in range(n):
        threads = [thread(int) for _ in range(4)]
        pid = os.fork()
        if not pid:
            os._exit(3)
        for each in threads:
            each.join()
        os.waitpid(pid, 0)
number = int(sys.argv[1])
pids = [os.fork() for _ in range(2)]
work(number)
if all(pids):
    for pid in pids:
        os.waitpid(pid, 0)
os._exit(4)
"""
        number = scale(1500)
        child = self.python(code, str(number))
        stream = cnproc.watch(child.pid, timeout=PATIENCE * 10)
        self.go(child)
        events: list[Any] = list(stream)
        forks = [event.pid for event in events if isinstance(event, Fork)]
        exits = [event.pid for event in events if isinstance(event, Exit)]
        self.assertEqual(sorted([*forks, child.pid]), sorted(exits))
        if RELEASE >= (5, 17):
            # Over netlink the status of a process with threads is None if it can no longer be asked for.
            codes: list[Any] = [event.returncode for event in events if isinstance(event, Exit)]
            known = collections.Counter([code for code in codes if code is not None or SOURCE != "netlink"])
            self.assertFalse(known - collections.Counter({3: 4 * number, 4: 4}))
            self.assertEqual(known[3], 4 * number)

    def test_a_reader_that_was_stopped_misses_nothing(self) -> None:
        child = self.shell("i=0; while [ $i -lt 200 ]; do true & wait; i=$((i+1)); done; exit 3")
        code = f"import cnproc; s = cnproc.watch({child.pid}); print(flush=True); "
        code += f"print([e.returncode for e in s if type(e) is cnproc.Exit and e.pid == {child.pid}])"
        reader = self.ready(self.listener(*PYTHON, "-c", code, cwd=HERE, stdout=subprocess.PIPE))
        reader.send_signal(signal.SIGSTOP)
        self.go(child)
        child.wait()
        reader.send_signal(signal.SIGCONT)
        self.assertEqual(reader.communicate(timeout=PATIENCE)[0], b"[3]\n")


LISTEN, IGNORE = 1, 2  # linux/cn_proc.h: PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE


def connector(group: int) -> socket.socket:
    """A socket of the connector, which hears that group."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 11)
    sock.bind((0, group))
    return sock


def bound_sockets() -> bool:
    """Whether somebody has a socket that hears process events."""
    with open("/proc/net/netlink") as file:
        rows = [line.split() for line in file][1:]
    return any(row[1] == "11" and int(row[3], 16) & 1 for row in rows)


def anybody_listens() -> bool:
    """Whether the kernel counts a listener: only then does a socket that never sends LISTEN hear events."""
    name = ctypes.create_string_buffer(16)
    with connector(1) as sock:
        for option in 16, 15:  # PR_GET_NAME; PR_SET_NAME makes an event, before it returns
            ctypes.CDLL(None).prctl(option, name)
        try:
            return bool(sock.recv(4096))
        except BlockingIOError:
            return False
        except OSError:  # ENOBUFS: a storm
            return True


def record_requests(fd: int) -> None:
    """From now on, write into fd each LISTEN and IGNORE that this process sends, and on which socket.

    Programs are given its source, so it uses nothing from outside.
    """
    import _socket
    import os

    class Socket(_socket.socket):
        def send(self, data: Any, *flags: int, os: Any = os) -> Any:
            sent = super().send(data, *flags)
            if self.family == 16 and len(bytes(data)) >= 40:  # AF_NETLINK
                os.write(fd, b"%d %d\n" % (os.fstat(self.fileno()).st_ino, bytes(data)[36]))
            return sent

    setattr(_socket, "socket", Socket)  # noqa: B010


@live
class Traces(Case):
    """What is left behind: nothing. Each LISTEN is taken back by one IGNORE on its socket."""

    def setUp(self) -> None:
        super().setUp()
        self.quiet = not anybody_listens()
        file = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self.addCleanup(file.close)
        self.addCleanup(setattr, _socket, "socket", _socket.socket)
        self.requests = file.fileno()
        record_requests(self.requests)

    def program(self, code: str) -> list[str]:
        """The command line of a Python program whose requests are recorded, too."""
        return [*PYTHON, "-c", f"from __future__ import annotations\n{inspect.getsource(record_requests)}\n"
                f"record_requests({self.requests})\nimport cnproc\n{code}"]

    def run_program(self, code: str) -> str:
        return subprocess.run(self.program(code), cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=PATIENCE, text=True, pass_fds=[self.requests]).stdout

    def assert_subscribed(self, number: int) -> None:
        """So many sockets have sent LISTEN and not yet IGNORE, and the kernel counts listeners accordingly."""
        sent: collections.defaultdict[bytes, list[int]] = collections.defaultdict(list)
        for line in os.pread(self.requests, 1 << 24, 0).splitlines():
            inode, _, operation = line.partition(b" ")
            sent[inode].append(int(operation))
        self.assertTrue(sent)
        self.assertLessEqual({*map(tuple, sent.values())}, {(LISTEN,), (LISTEN, IGNORE)})
        self.assertEqual([*sent.values()].count([LISTEN]), number)
        if number:
            self.assertTrue(anybody_listens())
        elif self.quiet:  # and only as long as nobody else on the machine listens
            eventually(lambda: not anybody_listens() or bound_sockets())

    def test_close_unsubscribes(self) -> None:
        watcher = cnproc.Watcher()
        self.assert_subscribed(1)
        watcher.close()
        watcher.close()
        self.assert_subscribed(0)

    def test_garbage_collection_unsubscribes(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        watcher = cnproc.Watcher()
        watcher.watch(os.getpid())
        stream = cnproc.watch(os.getpid())
        started = cnproc.watch(os.getpid(), timeout=0.01)
        next(started, None)
        self.assert_subscribed(2)
        del watcher, stream, started
        gc.collect()
        self.assert_subscribed(0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_interpreter_exit_unsubscribes(self) -> None:
        for code in "", "1/0", "w.self = w; raise SystemExit":
            self.run_program("w = cnproc.Watcher(); " + code)
            self.assert_subscribed(0)

    def test_a_forked_child_does_not_unsubscribe_its_parent(self) -> None:
        with cnproc.Watcher() as watcher:
            watcher.watch(os.getpid(), What.EXIT)
            code = "import os; w = cnproc.Watcher(); os.fork() or exit(); os.wait(); w.watch(os.getpid()); "
            code += "pid = os.fork(); pid or os._exit(3); print(w.read(30).pid == pid)"
            self.assertEqual(self.run_program(code), "True\n")
            pid = os.fork()
            if not pid:
                watcher.close()
                os._exit(5)
            os.waitpid(pid, 0)
            self.assertEqual(self.until(watcher, lambda event: event.pid == pid)[-1].returncode, 5)
            self.assert_subscribed(1)
        self.assert_subscribed(0)

    def test_a_constructor_that_fails_leaves_nothing(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with self.assertRaises(ProcessLookupError):
            cnproc.watch(os.getpid(), 1 << 30)
        with self.assertRaises(ValueError):
            cnproc.watch(0)
        self.assert_subscribed(0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_constructor_that_is_interrupted_after_any_call_leaves_no_subscription(self) -> None:
        def check() -> int:
            warnings.simplefilter("ignore", ResourceWarning)  # of the file that was just being read
            cnproc.Watcher().close()  # what is cached has been
            calls = 0
            while not self.interrupted(calls):
                self.assert_subscribed(0)
                calls += 17 if EMULATED else 1 if SOAK else 3
            return calls

        for sources in {self.sources, self.sources[-1:]}:
            with unittest.mock.patch.object(cnproc.Watcher, "_sources", sources):
                self.assertGreater(int(forked(check)), 20)  # forked, as a descriptor may stay open

    @staticmethod
    def interrupted(calls: int) -> bool:
        """Make a Watcher, with a ctrl-C after so many calls of the module's; whether it was made before that."""
        def profile(frame: types.FrameType, event: str, _: object) -> None:
            nonlocal calls
            if event == "c_return" and frame.f_code.co_filename == cnproc.__file__:
                calls -= 1
                if calls < 0:
                    raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            watcher = cnproc.Watcher()
        except KeyboardInterrupt:
            return False
        finally:
            sys.setprofile(None)
        watcher.close()
        return True

    def test_the_command_ended_by_a_signal_unsubscribes(self) -> None:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            run: Any = self.listener(*self.program("raise SystemExit(cnproc.main([]))"), stdout=subprocess.PIPE,
                                     cwd=HERE, pass_fds=[self.requests])
            eventually(lambda: storm(1) and select.select([run.stdout], [], [], 0.05)[0])
            run.send_signal(number)
            run.communicate(timeout=PATIENCE)
            self.assertEqual(run.returncode, status)
            self.assert_subscribed(0)


# What a line of --json has, in JSON Schema's words; {} stands for anything. Each kind has all of its keys, always.
PID, TEXT, MAYBE = {"type": "integer"}, {"type": "string"}, {"type": ["integer", "null"]}
EVERY: dict[str, Any] = {
    "event": TEXT, "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"},
    "timestamp_ns": PID, "host": TEXT, "boot_id": {"type": "string", "pattern": r"^[0-9a-f-]{36}$"}}
TASK: dict[str, Any] = {**EVERY, "pid": PID, "tid": PID, "rebuilt": {"type": "boolean"}}
WORDS, PATH = {"type": ["array", "null"], "items": TEXT}, {"type": ["string", "null"]}
SCHEMA: dict[str, dict[str, Any]] = {
    "fork": {**TASK, "parent_pid": MAYBE, "parent_tid": MAYBE},
    "exec": {**TASK, "parent_pid": MAYBE, "cmdline": WORDS, "truncated": {"type": "boolean"}, "ruid": MAYBE,
             "euid": MAYBE, "cgroup": PATH, "exe": PATH, "cwd": PATH},
    "exit": {**TASK, "parent_pid": MAYBE, "parent_tid": MAYBE, "exit_code": MAYBE, "exit_signal": PID,
             "returncode": MAYBE, "signal": PATH, "cmdline": WORDS, "duration": {"type": ["number", "null"]},
             "max_rss_exact": {"type": ["boolean", "null"]}, **dict.fromkeys((
                 "cpu_ns", "max_rss", "read_bytes", "write_bytes", "major_faults", "start_ns"), MAYBE)},
    "uid": {**TASK, "ruid": PID, "euid": PID},
    "gid": {**TASK, "rgid": PID, "egid": PID},
    "sid": TASK,
    "ptrace": {**TASK, "tracer_pid": PID, "tracer_tid": PID},
    "comm": {**TASK, "comm": TEXT},
    "coredump": {**TASK, "parent_pid": MAYBE, "parent_tid": MAYBE, "cmdline": WORDS},
    "lost": {**TASK, "count": MAYBE},
}
TYPES: dict[str, Any] = {
    "integer": int, "string": str, "boolean": bool, "array": list, "null": type(None), "number": (int, float)}


def conforms(shown: dict[str, Any]) -> object:
    """What is wrong with a line of --json by the schema, or None."""
    schema = SCHEMA[shown["event"]]
    if shown.keys() != schema.keys():
        return sorted(shown.keys() ^ schema.keys())
    for key, rule in schema.items():
        names = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        value = shown[key]
        if not any(isinstance(value, TYPES[name]) and isinstance(value, bool) == (name == "boolean") for name in names):
            return key, value
        if "pattern" in rule and not re.search(rule["pattern"], value):
            return key, value
        if "items" in rule and not all(isinstance(item, str) for item in value or ()):
            return key, value
    return None


def every_kind(now: int) -> list[cnproc.Event]:
    """An event of each kind, and some that are rare."""
    return [
        Fork(What.FORK, 0, now, 1, 1, 7, 7), Exec(What.EXEC, 1, now, 7, 7, cmdline=["a b", "\udcff", "\n\x1b[31m", ""]),
        Exec(What.EXEC, 1, now, 7, 7, parent_pid=1, ruid=2, euid=0, cgroup="/a\udcff", exe="/bin/ä", cwd="/"),
        Exec(What.EXEC, 1, now, 7, 7), Uid(What.UID, 0, now, 7, 7, 2, 3), Gid(What.GID, 0, now, 7, 7, 2, 3),
        Sid(What.SID, 0, now, 7, 7), Ptrace(What.PTRACE, 0, now, 7, 7, 2, 2), Ptrace(What.PTRACE, 0, now, 7, 7),
        Comm(What.COMM, 0, now, 7, 7, comm="x\udcff"), Coredump(What.COREDUMP, 0, now, 7, 7, 1, 1),
        Exit(What.EXIT, 0, now, 7, 7, 0, 17, 1, 1, cpu_ns=5, max_rss=1 << 20, max_rss_exact=False, read_bytes=0,
             write_bytes=1 << 40, major_faults=2, start_ns=max(0, now - 9)),
        Exit(What.EXIT, cnproc._REBUILT, now, 7, 7, -1, 17, 0, 0), Exit(What.EXIT, 0, now, 7, 7, 139, 17, 1, 1),
        Exit(What.EXIT, 0, now, 7, 7, 40, 17, 1, 1), Exit(What.EXIT, 0, now, 7, 7, 32, 17, 1, 1), lost(12, now),
        lost(None, now),
    ]


class Screen(io.StringIO):
    """A terminal of so many columns, or a file of that encoding."""

    encoding = "utf-8"

    def __init__(self, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.encoding = tty, encoding

    def isatty(self) -> bool:
        return self.tty


class Shown(unittest.TestCase):
    """What views write of events that are made up."""

    def show(self, view: Any, events: Iterable[Any], *args: str, screen: Screen | None = None, now: int | None = None,
             begin: int | None = None, environ: Iterable[tuple[str, str]] = ()) -> str:
        """What a view writes of events: of a watch that begins then, or of a recording."""
        screen = screen or Screen()
        with unittest.mock.patch.dict(os.environ, {"TZ": "UTC", **dict(environ)}):
            for name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"} - dict(environ).keys():
                os.environ.pop(name, None)
            out = cnproc._Out(screen)
            option = {cnproc._Tree: ["--tree"], cnproc._Stats: ["--stats"],
                      cnproc._Why: ["--why", "--load", "-"]}.get(view, [])
            view = view(out, cnproc._arguments([*option, *args]))
            processes = cnproc._Processes("here", "0" * 36, look=False)
            if begin is not None:
                view.on_start(begin)
            for event in events:
                view.on_event(event, processes.add(event), processes)
            view.end(now or max(event.timestamp_ns for event in events))
            out.flush()
        return screen.getvalue()

    def life(self, pid: int, parent: int, begin: int, end: int, command: str, code: int = 0) -> list[Any]:
        ms = 1_000_000
        return [Fork(What.FORK, 0, begin * ms, parent, parent, pid, pid),
                Exec(What.EXEC, 0, begin * ms + 1, pid, pid, cmdline=command.split()),
                Exit(What.EXIT, 0, end * ms, pid, pid, code, 17, parent, parent)]

    def lives(self, *lives: Any) -> list[Any]:
        return sorted((event for life in lives for event in self.life(*life)), key=lambda event: event.timestamp_ns)


@pure
class Views(Shown):
    """The ways of showing events: pure."""

    def test_filters_choose_what_is_shown_and_all_of_them_hold(self) -> None:
        events = self.lives((10, 1, 0, 5000, "sh -c make"), (20, 10, 100, 4000, "make -j2"),
                            (30, 20, 200, 1700, "gcc -c a.c"), (40, 20, 300, 400, "gcc -c b.c"),
                            (50, 20, 500, 600, "rm a.o", 256))
        for options, expected in (
                (["--only", "gcc"], ["exec gcc -c a.c", "exec gcc -c b.c", "exit 0 after 0.100 s: gcc",
                                     "exit 0 after 1.500 s: gcc"]),
                (["--only", r"a\.[co]$", "--only", "^gcc"], ["exec gcc -c a.c", "exit 0 after 1.500 s: gcc"]),
                (["--longer", "2"], ["exit 0 after 3.900 s: make", "exit 0 after 5.000 s: sh"]),
                (["--only", "gcc", "--longer", "1"], ["exit 0 after 1.500 s: gcc"]),
                (["--user-id", "0"], []), (["--cgroup", "x"], [])):
            with self.subTest(options):
                lines = self.show(cnproc._Lines, events, *options).splitlines()
                self.assertEqual([line[33:] for line in lines], expected)
                records = [json.loads(line) for line in self.show(cnproc._Json, events, *options).splitlines()]
                self.assertEqual([record["event"] for record in records if record["event"] != "fork"],
                                 [line.split()[0] for line in expected])

    def test_filters_choose_slices_of_a_trace(self) -> None:
        events = self.lives((10, 1, 0, 50, "make"), (20, 10, 1, 20, "gcc a.c"), (30, 10, 2, 30, "rm a.o"))
        trace = json.loads(self.show(cnproc._Trace, events, "--only", "gcc"))
        self.assertEqual([record["name"] for record in trace if record["ph"] == "B"], ["gcc"])
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
            cnproc._arguments(["--trace", "x", "--longer", "1"])
        self.assertIn("--longer", err.getvalue())
        self.assertEqual(self.show(cnproc._Lines, events, "--longer", "inf"), "")

    def test_the_cost_of_a_process_is_not_divided_by_its_programs(self) -> None:
        events = self.lives((10, 1, 0, 50, "sh"), (20, 10, 1, 20, "gcc"), (30, 10, 2, 40, "sh"))
        events.insert(-2, Exec(What.EXEC, 0, 15_000_000, 30, 30, cmdline=["date"]))
        for event in events:
            if isinstance(event, Exit):
                event.cpu_ns, event.max_rss, event.max_rss_exact = event.pid * 1_000_000_000, event.pid << 20, True
        rows = [line.split() for line in self.show(cnproc._Stats, sorted(events, key=lambda e: e.timestamp_ns),
                                                   "--all").splitlines()]
        costs = {row[0]: re.findall(r"(?:[<>]=)?\d+(?:\.000 s|M)", " ".join(row[3:6])) for row in rows if len(row) > 9}
        self.assertEqual((costs["sh"], costs["gcc"], costs["date"]), (
            [">=10.000 s", ">=10M"], ["20.000 s", "20M"], ["<=30.000 s", "30M"]))

    def test_filters_choose_rows_with_their_ancestors(self) -> None:
        events = self.lives((10, 1, 0, 5000, "sh -c make"), (20, 10, 100, 4000, "make -j2"),
                            (30, 20, 200, 1700, "gcc -c a.c"), (40, 20, 300, 400, "gcc -c b.c"))

        def rows(view: Any, events: Iterable[Any], *options: str) -> list[list[str]]:
            lines = self.show(view, events, *options, now=7_000_000_000).splitlines()[1:]
            return [re.sub(r".*[█░]  ", "", line).split()[:2] for line in lines if line]

        self.assertEqual(rows(cnproc._Tree, events, "--only", "b.c"),
                         [["sh", "-c"], ["└─", "make"], ["└─", "gcc"], ["1", "process"]])
        running = events[:-2]  # sh and make have not ended
        self.assertEqual(rows(cnproc._Tree, running, "--longer", "3"),
                         [["sh", "-c"], ["└─", "make"], ["2", "processes"]])
        self.assertEqual(rows(cnproc._Stats, events, "--longer", "1", "--only", "^(gcc|make)"),
                         [["make", "1"], ["gcc", "1"], ["TIME", "LASTED"], ["2.400", "s"], ["1.500", "s"],
                          ["2", "starts"]])

    def test_each_kind_has_its_line_of_text(self) -> None:
        lines = self.show(cnproc._Lines, every_kind(10**9), "-e", "all", "1").splitlines()
        self.assertEqual([line[33:] for line in lines], [
            "fork: ?", r"exec 'a b' $'\xff' $'\n\e[31m' ''", "exec ?", "exec ?", "user 2, effective 3: ?",
            "group 2, effective 3: ?", "leads a new session: ?", "traced by 2: ?", "traced no longer",
            "named 'x\\udcff': ?", "dumps core: ?", "exit 0 after 0.000 s: ?",
            "exit status unknown after 0.000 s: ?  (from /proc)",
            "killed by SIGSEGV (core dumped) after 0.000 s: ?",
            "killed by SIGRTMIN+6 after 0.000 s: ?", "killed by SIG32 after 0.000 s: ?",
            "lost 12 events; what /proc knows follows", "lost some events; what /proc knows follows"])
        self.assertRegex(lines[0], r"^\d\d:\d\d:\d\d\.\d{6}       7       1  ")

    def test_a_fork_has_a_line_if_no_exec_follows(self) -> None:
        events = self.lives((7, 1, 0, 50, "sh -c x"), (8, 7, 5, 9, "/bin/true"))
        events[2:2] = [fork(9, 7, 4_000_000), fork(10, 9, 4_500_000), ended(9, 3 << 8, 4_600_000)]
        lines = [line[16:] for line in self.show(cnproc._Lines, events).splitlines()]
        self.assertEqual(lines, ["      7       1  exec sh -c x", "      9       7  fork: (sh)",
                                 "      9       7  exit 3 after 0.001 s: (sh)", "      8       7  exec /bin/true",
                                 "      8       7  exit 0 after 0.004 s: true",
                                 "      7       1  exit 0 after 0.050 s: sh", "     10       9  fork: (sh)"])
        self.assertEqual(self.show(cnproc._Lines, events, "-e", "fork").count("\n"), 4)
        self.assertEqual(self.show(cnproc._Lines, events, "-e", "nonzero_exit").count("\n"), 1)

    def test_a_long_line_is_cut_to_the_terminal_and_not_in_a_pipe(self) -> None:
        events = self.life(7, 1, 0, 5, "echo " + "漢字" * 100)
        for columns in 60, 61, 200:
            for line in self.show(cnproc._Lines, events, screen=Screen(tty=True), environ={
                    "COLUMNS": str(columns), "NO_COLOR": "1"}.items()).splitlines():
                self.assertLessEqual(cnproc._columns(line), columns)
                self.assertGreaterEqual(cnproc._columns(line), min(columns, 30) - 1)
        self.assertIn("漢字" * 100, self.show(cnproc._Lines, events))
        cut = self.show(cnproc._Lines, events, screen=Screen(tty=True), environ={"COLUMNS": "60"}.items())
        self.assertIn("…", cut)

    def test_colours_follow_no_color_and_force_color(self) -> None:
        events = self.life(7, 1, 0, 5, "false", 256)
        for tty, environ, colour in ((True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False),
                                     (True, {"NO_COLOR": ""}, True), (False, {"FORCE_COLOR": "1"}, True),
                                     (True, {"TERM": "dumb"}, False),
                                     (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
            text = self.show(cnproc._Lines, events, screen=Screen(tty), environ={"TERM": "xterm", **environ}.items())
            self.assertEqual("\x1b[31mexit 1\x1b[0m" in text, colour, (tty, environ))
            self.assertEqual("\x1b" in text, colour)

    def test_each_line_of_json_has_all_keys_of_its_kind_and_can_be_loaded(self) -> None:
        for event in every_kind(123_456_789):
            line = self.show(cnproc._Json, [event], "-e", "all")
            shown = json.loads(line)
            self.assertIsNone(conforms(shown), shown)
            cnproc._decode_texts(shown)
            again = cnproc._from_record(shown, shown["timestamp_ns"])
            self.assertEqual((type(again), again.asdict()), (type(event), event.asdict()))
            self.assertEqual(getattr(again, "cmdline", None), getattr(event, "cmdline", None))
        self.assertEqual(len(SCHEMA), len(cnproc._EVENTS) + 1)

    def test_the_tree_has_bars_on_one_axis_and_folds_what_is_alike(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make -j2"), (8, 7, 0, 600, "cc -c long.c", 256),
                            *((10 + i, 7, 600 + 40 * i, 640 + 40 * i, f"cc -c {i}.c") for i in range(10)),
                            *((30 + i, 10 + i, 601 + 40 * i, 639 + 40 * i, "as") for i in range(10)))
        lines = self.show(cnproc._Tree, events).splitlines()
        self.assertEqual([re.sub(" {2,}", "  ", line) for line in lines], [
            "  TIME  STATUS  0 s  1.000 s  COMMAND",
            "  1.000 s  0  ████████████████████  make -j2",
            "  0.600 s  1  ████████████  ├─ cc -c long.c",
            "  0.400 s  ████████  └─ cc ×10",
            "  0.380 s  ████████  └─ as ×10",
            "22 processes in 1.000 s; at most 3 at once; 1 failure did not reach the command; 0 events lost"])
        self.assertTrue(all(len(line) <= 100 for line in lines))
        self.assertTrue(lines[3].index("█") > lines[2].rindex("█"))
        self.assertEqual(self.show(cnproc._Tree, events, "--all").count("\n"), 24)
        plain = self.show(cnproc._Tree, events, screen=Screen(encoding="ascii"))
        self.assertTrue(plain.isascii())
        self.assertIn("`- cc x10", plain)

    def test_the_tree_shows_what_an_exec_made_of_a_process_and_who_still_runs(self) -> None:
        events = [*self.life(7, 1, 0, 9, "sh -c x")[:2], Exec(What.EXEC, 0, 5_000_000, 7, 7, cmdline=["make"]),
                  fork(8, 7, 6_000_000)]
        lines = self.show(cnproc._Tree, events, now=10_000_000).splitlines()
        self.assertRegex(lines[1], r"^ +0\.010 s +running +█{20}  sh -c x → make$")
        self.assertRegex(lines[2], r"^ +0\.004 s +running +█{8}  └─ \(make\)$")

    def test_a_tree_that_is_deep_or_wide_stays_readable(self) -> None:
        deep = [fork(i + 1, i, i * 1000 + 1) for i in range(1, 100)]
        for columns in 40, 80, 160:
            lines = self.show(cnproc._Tree, deep, screen=Screen(tty=True), environ={
                "COLUMNS": str(columns), "NO_COLOR": "1"}.items()).splitlines()
            rows = lines[:next(i for i, line in enumerate(lines) if line.startswith("99 processes"))]
            self.assertEqual(len(rows), 100)
            for line in rows:
                self.assertLessEqual(len(line), columns)
                self.assertRegex(line, r"COMMAND|█  .*[?]( \[runs\])?$")  # neither bar nor name is cut
        for events in [fork(i, 1, i * 1000) for i in range(2, 5000)], self.lives(
                *((i, 1, i, i + 5, f"cc {i}") for i in range(2, 3000))):
            self.assertLess(self.show(cnproc._Tree, events).count("\n"), 20)

    def test_statistics_by_program(self) -> None:
        events = self.lives((7, 1, 0, 1000, "cron -f"), (50, 7, 400, 900, "backup"), *(
            (10 + i, 7, 10 * i, 10 * i + 5, "/bin/sh -c x", 256 * (i == 3)) for i in range(30)))
        lines = [re.sub(" +", " ", line) for line in self.show(cnproc._Stats, events).splitlines()]
        self.assertEqual(lines[1:4], ["backup 1 0 0.500 s 0.500 s 50% ← cron ×1", "cron 1 0 0.350 s 1.000 s 35% ← ? ×1",
                                      "sh -c 30 1 0.150 s 0.005 s 15% ← cron ×30"])
        self.assertEqual(lines[-1], "32 starts of 3 programs in 1.000 s; 1 failure did not reach the command; "
                         "0 events lost")
        for key, first in (("starts", "sh -c"), ("failed", "sh -c"), ("time", "backup"), ("cpu", "backup")):
            row = self.show(cnproc._Stats, events, "--sort", key).splitlines()[1]
            self.assertTrue(row.startswith(first + " "), key)
        many = self.lives(*((10 + i, 1, i, i + 1, f"p{i}") for i in range(50)))
        for options, rows in ([], 20), (["--all"], 50):
            text = self.show(cnproc._Stats, many, *options)
            self.assertEqual(len(re.findall("← [?] ×1", text)), rows)
            self.assertEqual(text.count("\n"), rows + 10)

    def test_a_trace_counts_the_processes_that_run_and_their_memory(self) -> None:
        events = self.lives((7, 1, 0, 50, "make"), (8, 7, 10, 30, "cc"), (9, 7, 20, 40, "cc"))
        for event in events:
            if isinstance(event, Exit):
                event.max_rss = event.pid << 20
        trace = json.loads(self.show(cnproc._Trace, events))
        counted: dict[str, list[list[int]]] = collections.defaultdict(list)
        for record in trace:
            if record["ph"] == "C":
                counted[record["name"]].append([round(record["ts"] / 1000), *record["args"].values()])
        self.assertEqual(counted["running processes"], [[0, 1], [10, 2], [20, 3], [30, 2], [40, 1], [50, 0]])
        self.assertEqual([[when, rss >> 20] for when, rss in counted["memory of processes that ended, at most"]],
                         [[0, 7], [10, 15], [20, 24], [30, 16], [40, 7], [50, 0]])

    def test_the_sum_of_memory_is_never_less_than_it_was_and_takes_little(self) -> None:
        chance, exact, memory = random.Random(1), collections.Counter[int](), cnproc._MemorySum()
        for i in range(scale(200_000)):
            begin = i * 1000 + chance.randrange(1000)
            end, rss = begin + chance.randrange(1, 5000), chance.randrange(1, 100)
            memory.add(begin, end, rss)
            exact[begin] += rss
            exact[end] -= rss
        steps = [*memory.steps()]
        self.assertLess(len(steps), 70_000)
        self.assertEqual(steps[-1][1], 0)
        total, at = 0, 0
        for when in sorted(exact):
            total += exact[when]
            while at + 1 < len(steps) and steps[at + 1][0] <= when:
                at += 1
            self.assertGreaterEqual(steps[at][1], total)

    def test_a_trace_keeps_the_format_s_rules(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make"), (8, 7, 10, 600, "cc", 256))
        events.insert(2, Exec(What.EXEC, 0, 5_000_000, 7, 7, cmdline=["gmake"]))
        events.insert(4, lost(3, 11_000_000))
        text = self.show(cnproc._Trace, events)
        trace = json.loads(text)
        self.assertEqual(json.loads(text.rpartition("\n,")[0] + "]"), trace[:-1])  # killed before its last record
        stacks: collections.defaultdict[Any, list[Any]] = collections.defaultdict(list)
        flows: dict[Any, Any] = {}
        for record in trace:
            self.assertTrue({"ph", "pid", "tid"} <= record.keys())
            self.assertTrue(record["ph"] == "M" or record["ts"] >= 0)
            track = stacks[record["pid"], record["tid"]]
            if record["ph"] == "B":
                track.append(record["name"])
            elif record["ph"] == "E":
                track.pop()
            elif record["ph"] == "s":
                self.assertTrue(track)  # an arrow begins and ends in a slice
                flows[record["id"]] = record["ts"]
            elif record["ph"] == "f":
                self.assertTrue(track)
                self.assertEqual((record["bp"], flows.pop(record["id"])), ("e", record["ts"]))
        self.assertEqual((flows, [track for track in stacks.values() if track]), ({}, []))
        slices = [(record["tid"], record["name"]) for record in trace if record["ph"] == "B"]
        self.assertEqual(slices, [(1, "?"), (1, "make"), (1, "gmake"), (2, "(gmake)"), (2, "cc")])
        self.assertEqual({record["pid"] for record in trace[1:] if record["ph"] not in "iC"}, {1})
        ends = [record["args"]["end"] for record in trace if "end" in record.get("args", ())]
        self.assertEqual(ends, ["exit 1", "exit 0"])

    def slices(self, text: str) -> list[tuple[str, int, int]]:
        """The slices of a trace by their ends, as speedscope finds them: name, begin and end in ms."""
        stacks: collections.defaultdict[Any, list[Any]] = collections.defaultdict(list)
        found: list[tuple[str, int, int]] = []
        for record in json.loads(text):
            track = stacks[record["pid"], record["tid"]]
            if record["ph"] == "B":
                track.append(record)
            elif record["ph"] == "E":
                begin = track.pop()
                self.assertEqual(record["name"], begin["name"])  # else speedscope leaves it open
                found.append((begin["name"], int(begin["ts"]) // 1000, int(record["ts"]) // 1000))
        self.assertFalse(any(stacks.values()))
        return found

    def test_a_slice_of_a_trace_ends_with_the_name_that_it_began_with(self) -> None:
        events = self.lives((7, 1, 0, 50, "make"), (8, 7, 10, 30, "cc"))
        events.insert(2, Exec(What.EXEC, 0, 5_000_000, 7, 7, cmdline=["gmake"]))
        self.assertEqual(self.slices(self.show(cnproc._Trace, events)), [
            ("?", 0, 0), ("make", 0, 5), ("(gmake)", 10, 10), ("cc", 10, 30), ("gmake", 5, 50)])

    def test_a_trace_is_utf_8_whatever_the_locale(self) -> None:
        # Perfetto refuses escaped surrogate pairs; v52 shows \\u00e4 as it stands.
        events = [fork(7, 1, 1), Exec(What.EXEC, 0, 2, 7, 7, cmdline=["/bin/\U0001d518\xe4", "\U0001f600\udcff"])]
        for encoding in "utf-8", "ascii":
            trace = self.show(cnproc._Trace, events, screen=Screen(encoding=encoding))
            self.assertNotIn("\\u", trace)
            self.assertIn('"name": "\U0001d518\xe4"', trace)
            self.assertIn("\U0001f600\\\\xff", trace)

    def test_a_trace_gives_each_life_of_a_pid_a_number_of_its_own(self) -> None:
        events = [*self.lives((7, 1, 0, 50, "bash -c x")), *self.lives((7, 1, 60, 90, "second"), (8, 7, 70, 80, "cc"))]
        events.insert(2, Exec(What.EXEC, 0, 20_000_000, 7, 7, cmdline=["sh", "-c", "x"]))
        trace = json.loads(self.show(cnproc._Trace, events))
        groups = {record["pid"]: record["args"]["name"] for record in trace if record["name"] == "process_name"}
        self.assertEqual([*groups.values()], ["cnproc", "bash -c on here", "second on here"])
        begins = [record for record in trace if record["ph"] == "B"]
        self.assertEqual([(record["pid"], record["tid"], record["args"]["pid"]) for record in begins], [
            (1, 1, 7), (1, 1, 7), (1, 1, 7), (2, 2, 7), (2, 2, 7), (2, 3, 8), (2, 3, 8)])
        tracks = {record["tid"]: record["args"]["name"] for record in trace if record["name"] == "thread_name"}
        self.assertEqual(tracks, {1: "bash -c → sh -c", 2: "second", 3: "cc"})

    def test_an_empty_trace_has_a_record(self) -> None:
        # Perfetto and speedscope refuse an empty array.
        screen = Screen()
        view = cnproc._Trace(cnproc._Out(screen), cnproc._arguments([]))
        view.end(5)
        self.assertEqual([record["ph"] for record in json.loads(screen.getvalue())], ["M"])

    def test_times_in_a_trace_are_not_rounded(self) -> None:
        when = 200 * 86400 * 10**9 + 123456789
        text = self.show(cnproc._Trace, [fork(7, 1, when), ended(7, 0, when + 1)])
        self.assertEqual([record["ts"] for record in json.loads(text, parse_float=str) if record["ph"] in "BE"],
                         ["17280000123456.789", "17280000123456.790"])

    def test_null_means_that_nobody_knows(self) -> None:
        for status, name in (-1, None), (0, ""), (3 << 8, ""), (9, "SIGKILL"):
            end = ended(7, status, 5)
            shown = json.loads(self.show(cnproc._Json, [end]))
            self.assertEqual((shown["signal"], end.asdict()["signal"]), (name, name))

    def test_a_byte_and_how_it_is_shown_are_told_apart_in_json(self) -> None:
        shown = {"\udcff": "\\xff", "\\xff": "\\x5cxff", "\\x5cxff": "\\x5cx5cxff", "\\x5c": "\\x5c",
                 "\\\udcff": "\\\\xff", r"\x7f\.c\n": r"\x7f\.c\n", "\\xFF": "\\xFF",
                 "\\x5\udcff": "\\x5\\xff", "ä\\\\x80": "ä\\\\x5cx80"}
        chance = random.Random(1)
        words = [*shown, *("".join(chance.choices(["\\", "x", "x5c", "5", "c", "f", "8", "ä", "\udcff", "\udc80"], k=8))
                           for _ in range(2_000))]
        event: Any = Exec(What.EXEC, 0, 5, 7, 7, cmdline=words, cgroup=words[1], exe=words[2], cwd="/" + words[0])
        record = json.loads(self.show(cnproc._Json, [event]))
        self.assertEqual(record["cmdline"][:len(shown)], [*shown.values()])
        self.assertEqual(len({*record["cmdline"]}), len({*words}))
        self.assertNotRegex(json.dumps(record), r"\\ud[c-f]")  # a lone surrogate
        cnproc._decode_texts(record)
        self.assertTrue(cnproc._from_record(record, 5) == event)
        for name in "x\udcff", r"x\xff":
            comm = Comm(What.COMM, 0, 5, 7, 7, comm=name)
            record = json.loads(self.show(cnproc._Json, [comm], "-e", "all"))
            cnproc._decode_texts(record)
            self.assertEqual(cnproc._from_record(record, 5), comm)

    def test_a_title_is_shown_as_it_is(self) -> None:
        for title in "gunicorn: master [app]", "sshd: user@pts/0", "/usr/sbin/nginx: worker", "[kworker/0:1]":
            name = title.replace("/usr/sbin/", "")
            events = [Fork(What.FORK, cnproc._REBUILT, 1, 1, 1, 7, 7),
                      Exec(What.EXEC, cnproc._REBUILT, 10**9, 7, 7, cmdline=[title]), ended(7, 0, 2 * 10**9)]
            with self.subTest(title):
                lines = self.show(cnproc._Lines, events).splitlines()
                self.assertEqual(lines[0][33:], f"running for 1.000 s: {title}")
                self.assertEqual(lines[1][33:], f"exit 0 after 2.000 s: {name}")
                self.assertTrue(self.show(cnproc._Tree, events).splitlines()[1].endswith("  " + title))
                self.assertTrue(self.show(cnproc._Stats, events).splitlines()[1].startswith(name[:19]))
                self.assertEqual(json.loads(self.show(cnproc._Json, events).splitlines()[1])["cmdline"], [title])

    def test_a_program_without_arguments_is_named_as_ps_has_it(self) -> None:
        execution = Exec(What.EXEC, 0, 5, 7, 7, cmdline=[])
        execution._comm = "odd"
        events = [fork(7, 1, 1), execution, ended(7, 0, 9)]
        self.assertEqual([line[33:] for line in self.show(cnproc._Lines, events).splitlines()],
                         ["exec [odd]", "exit 0 after 0.000 s: [odd]"])
        self.assertRegex(self.show(cnproc._Stats, events), r"(?m)^\[odd\] +1 ")
        self.assertRegex(self.show(cnproc._Tree, events), r"(?m)  \[odd\]$")

    def test_an_exec_that_failed_too_late_to_return_is_named(self) -> None:
        for comm, argv, said in (("big", "sh -c x", "big (exec failed)"), ("sh", "sh -c x", "(sh)"),
                                 ("script", "/bin/sh ./script", "(script)"), ("bash", "-bash", "(-bash)"),
                                 ("a-very-long-nam", "/bin/a-very-long-name-of-all", "(a-very-long-name-of-all)"),
                                 (None, "sh", "(sh)")):
            killed = ended(8, 9, 9)
            killed._comm = comm
            events = [*self.life(7, 1, 0, 5, argv)[:2], fork(8, 7, 5), killed]
            with self.subTest(comm=comm, argv=argv):
                self.assertIn(f"killed by SIGKILL after 0.000 s: {said}\n", self.show(cnproc._Lines, events))
                self.assertIn(f"─ {said}\n", self.show(cnproc._Tree, events))
                self.assertIn(f"\n{said[:19]}", self.show(cnproc._Stats, events))
                shown = json.loads(self.show(cnproc._Json, events).splitlines()[-1])
                self.assertEqual(shown["cmdline"], None if "failed" in said else argv.split())
            named = Comm(What.COMM, 0, 4, 7, 7, comm="other")  # then the kernel's name may be any
            self.assertNotIn("failed", self.show(cnproc._Lines, [*events[:2], named, *events[2:]]))
        killed._comm = "big"
        unknown = Exec(What.EXEC, 0, 2, 7, 7)  # nobody knows what it had been
        self.assertNotIn("failed", self.show(cnproc._Lines, [fork(7, 1, 1), unknown, fork(8, 7, 5), killed]))
        executed = self.life(7, 1, 0, 5, "sh")
        executed[-1]._comm = "other"
        self.assertNotIn("failed", self.show(cnproc._Lines, executed))

    def test_a_fork_that_takes_a_name_has_it(self) -> None:
        events = [*self.life(7, 1, 0, 5, "busybox sh")[:2], fork(8, 7, 5), Comm(What.COMM, 0, 6, 8, 8, comm="ls"),
                  Comm(What.COMM, 0, 7, 8, 9, comm="thread"), ended(8, 0, 8), fork(10, 7, 9), ended(10, 0, 10)]
        self.assertEqual([line[33:] for line in self.show(cnproc._Lines, events).splitlines()[1:]], [
            "fork: (ls)", "exit 0 after 0.000 s: (ls)", "fork: (busybox)", "exit 0 after 0.000 s: (busybox)"])

    def test_the_parents_of_processes_that_are_there_are_known_whatever_their_pids(self) -> None:
        pids = [os.getpid(), os.getppid()]
        for order in pids, pids[::-1]:
            processes = cnproc._Processes("here", "", look=True)
            for event in cnproc._there(unittest.mock.Mock(_subscription=FakeSubscription(1)), order):
                info = processes.add(event)
                if event.pid == pids[0]:
                    assert info and info.parent
                    self.assertEqual(info.parent.pid, pids[1])

    def threads(self, *events: Any, me: int = 0) -> list[Any]:
        return cnproc._ThreadExits(me).convert([*events])

    def test_with_threads_a_process_ends_with_its_last_thread(self) -> None:
        ms = 1_000_000
        begin = [*self.life(7, 1, 0, 5, "python")[:2], Fork(What.FORK, 0, ms, 1, 1, 8, 7)]
        worker, leader = ended(7, 0, 300 * ms, tid=8), ended(7, 0, 100 * ms)
        worker.exit_signal = cnproc._NO_SIGNAL
        end = cnproc._ProcessEnd(cnproc._PROCESS_END, 7, 300 * ms)
        for ends, said in (
                ([leader, worker, end], ["thread 7 exit 0", "thread 8 exit 0", "exit 0 after 0.300 s"]),
                ([worker, ended(7, 768, 300 * ms), end], ["thread 8 exit 0", "exit 3 after 0.300 s"])):
            events = self.threads(*begin, *ends)
            text = self.show(cnproc._Lines, events)
            self.assertEqual([line[33:] for line in text.splitlines()], [
                "exec python", "thread 8 started: python", *(f"{end}: python" for end in said)])
            self.assertRegex(self.show(cnproc._Tree, events), r"(?m)^ +0\.300 s .*  python$")
            self.assertRegex(self.show(cnproc._Stats, events), r"(?m)^python +1 +[01] +0\.300 s")
            lines = [json.loads(line) for line in self.show(cnproc._Json, events).splitlines()]
            self.assertEqual([line["duration"] for line in lines if line["event"] == "exit"],
                             [None] * (len(said) - 1) + [0.3])
            with tempfile.NamedTemporaryFile("w+") as file, contextlib.redirect_stdout(io.StringIO()) as again:
                file.write(self.show(cnproc._Json, events))
                file.flush()
                self.assertEqual(cnproc.main(["--load", file.name]), 0)
            self.assertEqual([line[16:] for line in again.getvalue().splitlines()],
                             [line[16:] for line in text.splitlines()])

    def test_with_threads_a_status_that_the_threads_leave_open_is_unknown(self) -> None:
        for codes, status in (([0, 768], -1), ([11, 11], 11), ([0, 0, 0], 0), ([768, 0], -1)):
            threads = [ended(7, code, tid=7 + n) for n, code in enumerate(codes)]
            *_, last = self.threads(*threads, cnproc._ProcessEnd(cnproc._PROCESS_END, 7, 5))
            self.assertEqual((last.pid, last.tid, last.exit_code), (7, 7, status))
        self.assertEqual(self.threads(ended(7, 9), cnproc._ProcessEnd(cnproc._PROCESS_END, 7, 5))[0].returncode, -9)

    def test_with_threads_those_of_cnproc_itself_are_left_out(self) -> None:
        own, other = fork(5, tid=6), fork(7, tid=8)
        self.assertEqual(self.threads(own, other, ended(5, tid=6), Lost(1, 2), me=5), [other, Lost(1, 2)])

    def test_processes_that_have_ended_are_forgotten(self) -> None:
        processes = cnproc._Processes("here", "", look=False)
        for pid in range(2, 1000):
            processes.add(fork(pid, pid - 1))
            processes.add(ended(pid))
        processes.settle()
        self.assertLessEqual(len(processes.known), 1)
        self.assertEqual((processes.alive, processes.roots), (0, []))
        processes = cnproc._Processes("here", "", look=False, children=False)
        for pid in range(2, 1000):
            processes.add(fork(pid, 1))
            processes.add(execed(pid))
        self.assertEqual(len(processes.known), 0)


class Made:
    """A process of a made-up tree: what it ran, how it ended, and what it started."""

    def __init__(self, pid: int, parent: Made | None, chance: random.Random, begin: int, end: int) -> None:
        self.pid, self.parent, self.begin, self.end = pid, parent, begin, end
        self.code = chance.choice((0, 0, 256, 9) if parent else (256, 512, 0))
        self.is_orphan = False
        self.names = [f"p{chance.randrange(5)}" for _ in range(chance.choice((0, 1, 1, 1, 2)))]
        self.children: list[Made] = []

    def failures(self) -> list[Made]:
        """What made it fail, the last first: by the words of the documentation."""
        if not self.code:
            return []
        failed = sorted((child for child in self.children if child.code and not child.is_orphan),
                        key=lambda child: child.end, reverse=True)
        return [leaf for child in failed for leaf in child.failures()] or [self]


def made_up_tree(chance: random.Random) -> tuple[list[Made], list[Any]]:
    """A tree of processes, and its events in an order in which the kernel can report them."""
    root = Made(10, None, chance, 0, 1_000_000)
    made: list[Made] = [root]
    events: list[tuple[int, Any]] = []
    for pid in range(11, 11 + chance.randrange(60)):
        parent = chance.choice(made[-8:] if chance.random() < 0.5 else made)
        if parent.end - parent.begin < 1000:
            continue
        begin = chance.randrange(parent.begin + 3, parent.end - 500)
        child = Made(pid, parent, chance, begin, chance.randrange(begin + 5, parent.end - 100))
        if chance.random() < 0.1:
            child.is_orphan, child.end = True, parent.end + chance.randrange(1, 5000)
        parent.children.append(child)
        made.append(child)
    for one in made:
        above = one.parent.pid if one.parent else 1
        events.append((one.begin, fork(one.pid, above, one.begin)))
        for number, name in enumerate(one.names):
            events.append((one.begin + 1 + number, Exec(What.EXEC, 0, one.begin + 1 + number, one.pid, one.pid,
                                                        cmdline=[name, "x"])))
        end = ended(one.pid, one.code, one.end)
        end.parent_pid = 1 if one.is_orphan else chance.choice((0, above))
        # Who waits for a process can go on, and end, before its Exit is reported.
        late = one.parent and not one.is_orphan and chance.random() < 0.3
        events.append((one.parent.end + 1 if late and one.parent else one.end, end))
    return made, [event for _, event in sorted(events, key=lambda pair: pair[0])]


@pure
class Rows(Shown):
    """The tree's rows and bars, and the statistics: pure."""

    def test_a_row_is_what_the_process_was_and_statistics_count_each_program_with_its_own_time(self) -> None:
        events = self.lives((7, 1, 0, 100, "sh -c x"), (8, 7, 10, 60, "sleep 1"))
        events[-1:-1] = [Exec(What.EXEC, 0, 70_000_000, 7, 7, cmdline=["date"])]
        rows = [line[32:].strip() for line in self.show(cnproc._Tree, events).splitlines()[1:3]]
        self.assertEqual([re.sub("█+ *", "", row) for row in rows], ["sh -c x → date", "└─ sleep 1"])
        stats = [re.sub(" +", " ", line) for line in self.show(cnproc._Stats, events).splitlines()]
        self.assertEqual(stats[1:4], ["sleep 1 0 0.050 s 0.050 s 50% ← sh -c ×1", "date 1 0 0.030 s 0.030 s 30% ← ? ×1",
                                      "sh -c 1 0 0.020 s 0.070 s 20% ← ? ×1"])
        alike = self.lives((7, 1, 0, 1000, "make"), *((10 + i, 7, i * 10, i * 10 + 9, "sh -c x") for i in range(20)))
        alike += [Exec(What.EXEC, 0, (i * 10 + 5) * 1_000_000, 10 + i, 10 + i, cmdline=["mv" if i % 2 else "rm"])
                  for i in range(20)]
        text = self.show(cnproc._Tree, sorted(alike, key=lambda event: event.timestamp_ns))
        self.assertIn("─ sh -c → rm ×10\n", text)
        self.assertIn("─ sh -c → mv ×10\n", text)

    def test_a_fork_that_has_forked_before_its_exec_was_something_before(self) -> None:
        events = self.lives((7, 1, 0, 100, "sh x"), (8, 7, 10, 90, "date"))
        events[3:3] = [fork(9, 8, 10_000_000), ended(9, 0, 10_000_000)]  # `(sleep 1; exec date)`
        self.assertIn("─ (x) → date\n", self.show(cnproc._Tree, events))
        self.assertIn("─ date\n", self.show(cnproc._Tree, [*events[:3], *events[5:]]))

    def test_where_some_cpu_times_are_unknown_all_bars_count_processes(self) -> None:
        events = self.lives((7, 1, 0, 100, "make"), (8, 7, 0, 50, "idle"), (9, 7, 60, 90, "gone"))
        events[-2].cpu_ns = 1
        for gone, bars in ((None, "█"), (1, "░")):
            for event in events:
                if isinstance(event, Exit):
                    event.cpu_ns = gone if event.pid == 9 else 1
            rows = [line for line in self.show(cnproc._Tree, events).splitlines() if line.endswith("─ idle")]
            self.assertEqual([re.sub("[^░▒▓█]", "", row)[:1] for row in rows], [bars])

    def test_cpu_time_is_no_other_program_s_and_its_rows_are_in_the_order_of_what_they_show(self) -> None:
        events = self.lives((7, 1, 0, 100, "make"), (8, 7, 5, 80, "sh ./wrap.sh"), (9, 7, 10, 60, "gcc a.c"),
                            (10, 7, 10, 61, "gcc b.c"), (11, 7, 81, 99, "wget x"))
        events.append(Exec(What.EXEC, 0, 50_000_000, 8, 8, cmdline=["sleep", "3"]))
        events.append(Exec(What.EXEC, 0, 50_000_000, 10, 10, cmdline=["ld", "b"]))
        events = [event for event in sorted(events, key=lambda event: event.timestamp_ns)
                  if event.pid != 11 or event.what != What.EXIT]  # wget still runs
        for event in events:
            if isinstance(event, Exit):
                event.cpu_ns = {7: 1, 8: 60, 9: 9, 10: 30}[event.pid] * 10**7
        text, data = self.show(cnproc._Stats, events), page_data(self.show(cnproc._Page, events, "--html", "x"))
        rows = [(line[:20].strip(), line[37:49].strip(), line[81:88].strip()) for line in text.splitlines()[1:7]]
        self.assertEqual(rows, [("sleep", "<=0.600 s", "<=60%"), ("ld", "<=0.300 s", "<=30%"),
                                ("gcc", ">=0.090 s", ">=9%"), ("make", "0.010 s", "1%"),
                                ("wrap.sh", "", ""), ("wget", "", "")])
        self.assertEqual([(row[0], row[3], row[7]) for row in data["programs"]], rows)
        dear = [re.sub(" +", " ", line.strip()) for line in text.split("\n\n")[1].splitlines()[1:]]
        self.assertEqual(dear, ["<=0.600 s 0.030 s sleep 3", "<=0.300 s 0.011 s ld b", "0.090 s 0.050 s gcc a.c",
                                "0.010 s 0.100 s make", "0.045 s sh ./wrap.sh"])
        self.assertEqual([row[0] for row in data["commands"]], ["<=0.600 s", "<=0.300 s", "0.090 s", "0.010 s", ""])
        self.assertFalse([tile for tile in data["tiles"] if "CPU time: " in tile[1]])
        self.assertIn("; >=1.000 s of CPU; ", text)  # wget may have taken more than all
        self.assertNotIn(" took ", text)
        text = self.show(cnproc._Stats, [event for event in events if event.pid != 11])
        self.assertIn("; 1.000 s of CPU; wrap.sh → sleep 3 took 60 %; ", text)

    def test_statistics_count_as_started_what_was_started_during_the_watch(self) -> None:
        events = [Fork(What.FORK, cnproc._REBUILT, 5, 1, 1, 7, 7),
                  Exec(What.EXEC, cnproc._REBUILT, 10**9, 7, 7, cmdline=["old"]), ended(7, 256, 2 * 10**9)]
        self.assertRegex(self.show(cnproc._Stats, events), r"(?m)^old +0 +1 +1\.000 s +1\.000 s +100% ")

    def test_what_made_the_command_fail_has_rows_of_its_own_and_its_chain_below(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make -k", 512), *(
            life for i in range(60) for life in (
                (100 + 2 * i, 7, 10 * i, 10 * i + 9, f"gcc -c f{i}.c", 256 * (i == 37)),
                (101 + 2 * i, 100 + 2 * i, 10 * i + 1, 10 * i + 8, f"cc1 f{i}.c", 256 * (i == 37)))),
            (300, 7, 990, 995, "grep -q x", 256), (301, 300, 991, 992, "false", 256))
        events[-1:-1] = [fork(400, 7, 996_000_000), ended(400, 0, 997_000_000)]
        text = self.show(cnproc._Tree, events)
        self.assertRegex(text, r"(?m) 1  .*─ gcc -c f37.c\n.* 1  .*─ cc1 f37.c$")
        self.assertIn("─ gcc ×59\n", text)
        self.assertEqual(text.splitlines()[-5:], [
            "exit 1 after 0.001 s: false", "→ exit 1 after 0.005 s: grep -q x", "→ exit 2 after 1.000 s: make -k",
            "other failures that reached it: cc1 f37.c (--all)",
            "124 processes in 1.000 s; at most 3 at once; false failed; 2 failures reached the command; "
            "0 events lost"])
        why = self.show(cnproc._Why, events, "--all").splitlines()
        self.assertEqual([line.partition(": ")[2] for line in why[:-1]],
                         ["false", "grep -q x", "make -k", "cc1 f37.c", "gcc -c f37.c", "make -k"])
        harmless = [*events[:-1], ended(7, 0, 10**9)]
        self.assertEqual(self.show(cnproc._Why, harmless), "")
        self.assertIn("; 2 failures did not reach the command; ", self.show(cnproc._Tree, harmless))

    def test_who_fails_long_after_its_child_is_marked(self) -> None:  # perhaps for another reason
        events = self.lives((7, 1, 0, 2200, "make", 512), (8, 7, 0, 2150, "sh -c x", 256),
                            (9, 8, 10, 20, "grep y", 256))
        self.assertEqual(self.show(cnproc._Why, events).splitlines(), [
            "exit 1 after 0.010 s: grep y", "→ exit 1 after 2.150 s, 2.130 s later: sh -c x",
            "→ exit 2 after 2.200 s: make", "grep y failed"])

    def test_a_fork_that_executed_nothing_is_explained_by_what_its_parent_runs(self) -> None:
        events = self.lives((7, 1, 0, 100, "sh ./missing makeinfo", 127 << 8))
        events[2:2] = [fork(8, 7, 10_000_000), ended(8, 127 << 8, 20_000_000)]
        self.assertEqual(self.show(cnproc._Why, events).splitlines(), [
            "exit 127 after 0.100 s: sh ./missing makeinfo", "missing failed"])
        events[3].exit_code = 11  # that is another matter
        self.assertEqual(self.show(cnproc._Why, events).splitlines(), [
            "killed by SIGSEGV after 0.010 s: (missing)", "→ exit 127 after 0.100 s: sh ./missing makeinfo",
            "(missing) failed"])

    def test_with_all_each_failure_is_explained(self) -> None:
        events = self.lives((7, 1, 0, 1000, "sh x", 256), *(
            (10 + i, 7, 10 * i, 10 * i + 5, f"ls {i}", 512) for i in range(30)))
        self.assertEqual(self.show(cnproc._Why, events, "--all").count("\nexit 2 "), 29)
        self.assertIn("other failures that reached it: ls 28, ls 27, ls 26, ls 25, ls 24 and 24 more (--all)\n",
                      self.show(cnproc._Why, events))

    def test_what_failed_after_the_command_is_no_reason(self) -> None:
        for end, parent in ((100, 1), (200, 0)):
            events = self.lives((7, 1, 0, 50, "sh x", 256), (8, 7, 10, end, "sleep 1", 256))
            events[-1].parent_pid = parent
            self.assertEqual(self.show(cnproc._Why, events).splitlines(), [
                "exit 1 after 0.050 s: sh x", "x failed; 1 failure reached the command, 1 other did not"])

    def test_the_sentence_is_wrapped_by_columns_and_the_statistics_leave_out_columns(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make " + "漢字" * 15, 256), (8, 7, 0, 500, "ls " + "漢字" * 15, 256))
        for columns in 40, 60, 80, 100:
            for view in cnproc._Tree, cnproc._Stats:
                lines = self.show(view, events, screen=Screen(tty=True), environ={
                    "COLUMNS": str(columns), "NO_COLOR": "1"}.items()).splitlines()
                for line in lines:
                    if "exit 1" not in line:  # the chain is whole
                        self.assertLessEqual(cnproc._columns(line), columns)
                self.assertTrue(lines[-1].endswith("lost"), lines)
            self.assertIn("TIME", next(line for line in lines if "PROGRAM" in line))
            self.assertNotIn("…", next(line for line in lines if "PROGRAM" in line))

    def test_programs_that_are_expensive_or_fail_are_never_among_the_others(self) -> None:
        events = self.lives(*((10 + i, 1, i, i + 1, f"p{i}") for i in range(6000)), (9000, 1, 10, 9000, "late", 256))
        text = self.show(cnproc._Stats, events, "--sort", "failed")
        self.assertRegex(text.splitlines()[1], r"^late +1 +1 ")
        self.assertRegex(text, r"(?m)^6001 starts of over \d{4} programs \(")

    def test_of_programs_that_cost_the_same_the_first_are_among_the_others(self) -> None:
        stats = cnproc._Stats(cnproc._Out(Screen()), cnproc._arguments(["--stats"]))
        processes = cnproc._Processes("here", "", look=False)
        for event in self.lives(*((10 + i, 1, i, i + 1, f"p{i}") for i in range(cnproc._COUNTED + 1))):
            stats.on_event(event, processes.add(event), processes)
        self.assertEqual(min(int(name[1:]) for name in stats._programs if name != "others"), cnproc._COUNTED // 2)

    def test_if_nothing_explains_a_failure_the_last_ones_before_it_are_named(self) -> None:
        events = self.lives((7, 1, 0, 100, "pytest", 256), (8, 7, 10, 50, "worker"), (9, 8, 20, 30, "tool a.json", 256))
        self.assertEqual(self.show(cnproc._Why, events).splitlines(), [
            "exit 1 after 0.100 s: pytest", "  before that, exit 1 after 0.010 s: tool a.json",
            "pytest failed; 1 failure reached the command, 1 other did not"])

    def test_bars_are_as_dense_as_the_rows_ran(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make"), (8, 7, 0, 500, "busy"), (9, 7, 500, 1000, "half"),
                            *((10 + i, 7, 100 * i, 100 * i + 4, "as") for i in range(10)),
                            *((30 + i, 7, 33 * (i // 2), 33 * (i // 2) + 31, "cc") for i in range(60)))
        for event in events:
            if isinstance(event, Exit):
                event.cpu_ns = {7: 1, 8: 490, 9: 260}.get(event.pid, 4 if event.pid < 30 else 28) * 1_000_000
        bars = {line.rsplit(maxsplit=1)[-1]: line[40:60] for line in self.show(
            cnproc._Tree, events, environ={"COLUMNS": "100"}.items()).replace(" ×", "_x").splitlines()}
        self.assertEqual(bars["busy"], "█" * 10 + " " * 10)
        self.assertEqual(bars["half"], " " * 10 + "▓" * 10)
        self.assertEqual(bars["make"], "░" * 20)
        self.assertRegex(bars["as_x10"].replace(" ", ""), "^░{10,14}$")  # where a cell begins, it may be in two
        self.assertEqual(bars["cc_x60"], "█" * 20)

    def test_the_longest_of_those_alike_has_its_own_row(self) -> None:
        events = self.lives((7, 1, 0, 1000, "make"), *(
            (10 + i, 7, 10 * i, 10 * i + (30 if i == 5 else 8), f"cc -c f{i}.c") for i in range(20)))
        text = self.show(cnproc._Tree, events)
        self.assertIn("─ cc -c f5.c\n", text)
        self.assertIn("─ cc ×19\n", text)

    def test_a_short_row_keeps_the_argument_that_distinguishes_it(self) -> None:
        command = "/usr/lib/gcc/x86_64/12/cc1 -quiet -imultiarch x86_64-linux-gnu f7.c -dumpbase f7.c -o /tmp/x.s"
        script = "/usr/bin/python3 /opt/long/path/to/check.py a.txt"
        events = self.lives((7, 1, 0, 1000, command), (8, 7, 0, 500, script))
        for columns, first, second in (
                (80, "cc1 -quiet -imultiarch x86_64-linux… f7.c", "└─ check.py a.txt"),
                (40, "cc1 -quiet -i… f7.c", "└─ check.py a.txt"), (1000, command, f"└─ {script}")):
            lines = self.show(cnproc._Tree, events, screen=Screen(tty=True), environ={
                "COLUMNS": str(columns), "NO_COLOR": "1"}.items()).splitlines()
            self.assertTrue(lines[1].endswith("  " + first), lines[1])
            self.assertTrue(lines[2].endswith("  " + second), lines[2])
            self.assertTrue(all(cnproc._columns(line) <= columns for line in lines))
        self.assertIn(command + "\n", self.show(cnproc._Tree, events))  # in a file nothing is cut

    def test_memory_is_bounded_by_what_is_shown(self) -> None:
        def rows(container: Any) -> int:
            return sum(1 + (rows(row.rows) if row.rows else 0) for row in container)

        view = cnproc._Tree(cnproc._Out(Screen()), cnproc._arguments([]))
        stats = cnproc._Stats(cnproc._Out(Screen()), cnproc._arguments([]))
        processes, chance = cnproc._Processes("here", "", look=False), random.Random(1)
        for i in range(scale(60_000)):
            when = i * 10_000
            events: list[Any] = [fork(10, 1, when), fork(11, 10, when + 1), Exec(
                What.EXEC, 0, when + 2, 11, 11, cmdline=[f"p{chance.randrange(10 ** chance.randrange(5))}", f"f{i}"]),
                ended(11, 256 * chance.randrange(2), when + chance.randrange(5, 9000)), ended(10, 0, when + 9500)]
            for event in events:
                info = processes.add(event)
                for shown in view, stats:
                    shown.on_event(event, info, processes)
        processes.settle()
        self.assertLess(sum(map(rows, view._rows.values())), 20_000)
        self.assertLess(len(view._rows), 3)
        self.assertLess(len(stats._programs), 5000)
        view.end(10**9)
        self.assertLess(len(view.out._file.getvalue().splitlines()), 500)


@pure
class Failures(unittest.TestCase):
    """Tree: which failure made which."""

    def test_the_failures_that_reached_the_command_are_found_in_random_trees(self) -> None:
        seen: collections.Counter[int] = collections.Counter()
        for seed in range(1000):
            made, events = made_up_tree(random.Random(seed))
            expected = [one.pid for one in made[0].failures()]
            for keep in True, False:
                tree = cnproc.Tree(keep=keep)
                root = tree.add(events[0])
                assert root
                for event in events[1:]:
                    tree.add(event)
                tree.settle()
                with self.subTest(seed=seed, keep=keep):
                    self.assertEqual([process.pid for process in tree.failures(root)], expected)
                    self.assertEqual([process.pid for process in tree.failures()], expected)
                    self.assertEqual(tree.count_failures(root), len(expected))
                    causes = [one for one in made if one.code and not any(
                        child.code and not child.is_orphan for child in one.children)]
                    self.assertEqual(tree.causes, len(causes))
                    for leaf in tree.failures():
                        self.assertTrue(leaf.failed)
                        link: cnproc.Process | None = leaf
                        while link and link.pid != 10:
                            link = link.parent
                        self.assertIs(link, root)
                if keep:
                    self.assertEqual({process.pid: [program.name for program in process.programs] for process in tree},
                                     {one.pid: one.names for one in made})
                    self.assertEqual({process.pid: [child.pid for child in process.children] for process in tree},
                                     {one.pid: sorted((child.pid for child in one.children),
                                                      key=lambda pid: [event.pid for event in events].index(pid))
                                      for one in made})
                else:
                    self.assertLessEqual(len([*tree]), len(made) if made[0].code else 0)
            seen[len(expected)] += 1
        self.assertGreater(sum(count for number, count in seen.items() if number > 2), 100)

    def test_a_tree_that_forgets_remembers_the_last_failures_of_each_process_and_counts_the_others(self) -> None:
        tree = cnproc.Tree(keep=False)
        tree.add(fork(10, 1, 0))
        for i in range(1000):
            tree.add(fork(11, 10, 10 * i + 1))
            tree.add(fork(12, 11, 10 * i + 2))
            for pid in 12, 11:
                end = ended(pid, 256, 10 * i + 4)
                end.parent_pid = 0
                tree.add(end)
        self.assertLess(len([*tree]), 50)
        root = tree.known[10]
        tree.add(ended(10, 256, 20_000))
        self.assertEqual(tree.count_failures(root), 1000)
        self.assertEqual([process.end_ns for process in tree.failures(root)], [9994 - 10 * i for i in range(20)])

    def test_memory_does_not_grow_with_generations_of_daemons_or_programs(self) -> None:
        tree = cnproc.Tree(keep=False)
        for i in range(2000):  # each starts the next one, and ends
            tree.add(fork(i + 10, i + 9, 10 * i))
            if i:
                tree.add(ended(i + 9, 0, 10 * i + 5))
            tree.add(Exec(What.EXEC, 0, 10 * i + 1, i + 10, i + 10, cmdline=[f"p{i}"]))
        self.assertLess(len([*tree]), 200)
        last = tree.known[2009]
        for i in range(1000):
            tree.add(Exec(What.EXEC, 0, 10**6 + i, 2009, 2009, cmdline=[f"x{i}"]))
        self.assertLess(len(last.programs), 20)
        self.assertEqual([last.programs[0].name, last.programs[-1].name], ["p1999", "x999"])
        first, second, third, *_ = last.programs
        self.assertEqual((first.end_ns, second.end_ns), (None, third.start_ns))  # who came first is forgotten

    def test_of_a_long_row_of_programs_the_first_and_the_last_16_are_known(self) -> None:
        for forks, executes in [(forks, executes) for forks in (False, True) for executes in (16, 17, 18, 40)]:
            tree = cnproc.Tree()
            tree.add(fork(6, 1, 1))
            tree.add(Exec(What.EXEC, 0, 2, 6, 6, cmdline=["sh"]))
            process = tree.add(fork(7, 6, 3))
            assert process
            if forks:  # then what it was before its first program is known, too
                tree.add(fork(8, 7, 4))
            for i in range(executes):
                tree.add(Exec(What.EXEC, 0, 10 + i, 7, 7, cmdline=[f"p{i}"]))
            numbers = [0, *range(max(1, executes - 16), executes)]
            self.assertEqual([program.name for program in process.programs], [f"p{i}" for i in numbers])
            self.assertEqual([program.start_ns for program in process.programs], [10 + i for i in numbers])
            self.assertEqual([program.end_ns for program in process.programs],
                             [None if executes > 17 else 11, *(11 + i for i in numbers[1:-1]), None])
            self.assertEqual("..." in process._names, executes > 17)
            self.assertEqual(process._names[0], "(sh)" if forks and executes == 16 else "p0")

    def test_roots_that_are_forgotten_leave_nothing_and_cycles_are_none(self) -> None:
        tree = cnproc.Tree(keep=False)
        for i in range(1000):  # each fails, and nobody knows their parents
            tree.add(fork(1000 + i, 5, 10 * i))
            end = ended(1000 + i, 256, 10 * i + 1)
            end.parent_pid = 5
            tree.add(end)
        tree.settle()
        self.assertLess(sum(map(len, tree._orphans.values())), 30)
        tree = cnproc.Tree()
        tree.add(fork(8, 7, 1))
        tree.add(Exec(What.EXEC, 0, 2, 7, 7, cmdline=["x"], parent_pid=8))
        self.assertEqual([process.pid for process in tree], [8, 7])

    def test_a_fork_is_that_of_the_parent_of_what_began_later_and_of_nothing_older(self) -> None:
        for keep in True, False:
            tree = cnproc.Tree(keep=keep)
            for event in (fork(10, 500, 5), fork(11, 500, 3), fork(500, 1, 4), ended(10, 256, 6), ended(500, 256, 7),
                          ended(11, 256, 8)):
                tree.add(event)
            self.assertEqual([(process.pid, [child.pid for child in process.children]) for process in tree.roots],
                             [(11, []), (500, [10])], keep)
            self.assertEqual((tree.causes, [leaf.pid for leaf in tree.failures()], tree._orphans.keys()),
                             (2, [11, 10], {1}))

    def test_no_level_of_nested_failures_is_lost(self) -> None:
        tree = cnproc.Tree(keep=False)
        for pid in range(10, 1010):
            tree.add(fork(pid, pid - 1, pid))
        root = tree.known[10]
        for pid in range(1009, 9, -1):
            end = ended(pid, 256, 5000 - pid)
            end.parent_pid = pid - 1
            tree.add(end)
        leaf, = tree.failures(root)
        self.assertEqual((leaf.pid, tree.count_failures(root), tree.causes), (1009, 1, 1))

    def test_a_process_of_several_threads_ends_with_the_last(self) -> None:
        def thread(pid: int, tid: int, code: int, when: int) -> Any:
            end = ended(pid, code, when, tid=tid)
            end.exit_signal, end.start_ns = (17, 1) if tid == pid else (cnproc._NO_SIGNAL, 2)
            return end

        for codes, returncode in ((256, 256), 1), ((0, 256), None):
            tree = cnproc.Tree()
            for event in (fork(7, 1, 1), fork(7, 1, 2, tid=8), thread(7, 7, codes[0], 3)):
                process = tree.add(event)
            assert process
            self.assertIsNone(process.end_ns)
            tree.add(thread(7, 8, codes[1], 4))
            end = process.exit
            assert end
            self.assertEqual((process.returncode, process.end_ns), (returncode, 4))
            self.assertEqual((end.timestamp_ns, end.start_ns), (4, 1))
        tree = cnproc.Tree()  # the first thread ends last: its code is what the parent is told
        for event in fork(7, 1, 1), fork(7, 1, 2, tid=8), thread(7, 8, 0, 3), thread(7, 7, 256, 4):
            process = tree.add(event)
        assert process
        self.assertEqual((process.returncode, process.end_ns), (1, 4))
        tree = cnproc.Tree()  # the other thread executes, and is the first one then
        for event in (fork(7, 1, 1), fork(7, 1, 2, tid=8), thread(7, 7, 0, 3), execed(7), thread(7, 7, 256, 5)):
            process = tree.add(event)
        self.assertEqual([leaf.returncode for leaf in tree.failures()], [1])

    def test_alive_counts_those_that_have_not_ended_though_a_pid_has_come_again(self) -> None:
        for keep in True, False:
            tree = cnproc.Tree(keep=keep)
            alive: list[int] = []
            for event in fork(7, 1, 1), fork(8, 7, 2), ended(8, 0, 3), fork(8, 7, 4), ended(7, 0, 5), ended(8, 0, 6):
                tree.add(event)
                alive.append(tree.alive)
            self.assertEqual(alive, [1, 2, 1, 2, 1, 0], keep)

    def test_threads_that_end_behind_a_process_that_was_there_before_do_not_make_it_live_again(self) -> None:
        for keep in False, True:
            tree = cnproc.Tree(keep=keep)
            for pid in range(10, 1000, 10):  # the first thread, another process, and only then the second thread
                for event in ended(pid, 9, pid), ended(pid + 1, 0, pid + 1), ended(pid, 9, pid + 2, tid=pid + 5):
                    tree.add(event)
            tree.settle()
            self.assertEqual([process for process in tree if process.end_ns is None], [], keep)
            self.assertEqual(len(tree.known), 198 * keep)
            self.assertIsNone(tree.add(ended(7, 0, 2000, tid=8)))  # of a process of which nothing else is known
            process = tree.add(ended(7, 256, 2001))
            assert process
            self.assertEqual((process.pid, process.returncode), (7, 1))

    @live
    def test_a_tree_fed_from_watch_joins_what_was_there_before(self) -> None:
        child = subprocess.Popen(["sh", "-c", "read x; sh -c 'exit 3'; exit 4"], stdin=subprocess.PIPE)
        with child:
            assert child.stdin
            tree = cnproc.Tree()
            events = cnproc.watch(child.pid, timeout=PATIENCE)
            child.stdin.write(b"\n")
            child.stdin.flush()
            for event in events:
                tree.add(event)
        root, = tree.roots
        self.assertEqual(root.pid, child.pid)
        leaf, = tree.failures()
        self.assertEqual((leaf.returncode, leaf.parent), (3, root))

    def test_a_process_is_named_by_its_programs(self) -> None:
        for words, name in (
                ("/bin/sh ./configure --x", "configure"), ("sh -c x", "sh -c"), ("bash -lc x", "bash -c"),
                ("bash -e -o pipefail /a/run.sh", "run.sh"), ("python3.11 -u /a/t.py -c", "t.py"),
                ("python3 -m pytest -n2", "python3 -m pytest"), ("/usr/bin/python3 -X dev -mx", "python3 -m x"),
                ("python3 -c pass", "python3 -c"), ("python3", "python3"), ("perl -w -MX -e 1", "perl -e"),
                ("node --require x build.js", "build.js"), ("node -e 1", "node -e"), ("bash", "bash"),
                ("gcc -c a.c", "gcc"), ("-bash", "-bash"), ("awk -f x", "awk"), ("sh -", "sh"), ("ruby a.rb", "a.rb"),
                ("sh -x ./a b", "a"), ("bash --noprofile --norc -eo pipefail x.sh", "x.sh"),
                ("bash -euo pipefail x.sh", "x.sh"), ("sh -s arg", "sh"), ("bash -O extglob x.sh", "x.sh"),
                ("python3 -Ximporttime s.py", "s.py"), ("python3 -Wignore::DeprecationWarning s.py", "s.py"),
                ("python3 --check-hash-based-pycs always a.py", "a.py"), ("python3 -Bsm pip", "python3 -m pip"),
                ("ruby -Ilib:test t.rb", "t.rb"), ("ruby -I lib t.rb", "t.rb"), ("perl -MFile::Basename s.pl", "s.pl"),
                ("perl -I/usr/share/perl5 s.pl", "s.pl"), ("perl -0777 -pe x f", "perl -e"),
                ("perl -F: -lane x", "perl -e"),
                ("php -d memory_limit=-1 /usr/bin/composer install", "composer"), ("php -r x", "php -r"),
                ("node --env-file .env app.js", "app.js"), ("node --loader ts-node/esm app.ts", "app.ts"),
                ("node --print 1", "node -e"), ("node --eval=1", "node -e"), ("lua -l mod s.lua", "s.lua")):
            tree = cnproc.Tree()
            tree.add(fork(7, 1, 1))
            process = tree.add(Exec(What.EXEC, 0, 2, 7, 7, cmdline=words.split()))
            assert process
            self.assertEqual(process.name, name, words)
            self.assertEqual((process.command, process.programs[0].cmdline), (words, words.split()))

    def test_a_command_line_is_quoted_so_that_bash_takes_it_apart_again(self) -> None:
        words = ["a b", "it's", "\\n", "\n", "\x1b[31m", "\udcff", "ä漢", "\u200b", "", "$x", "*", "~", "a=b", "\x85",
                 "'", "\U000e0001", "#", "\t\r\x7f", "\\"]
        tree = cnproc.Tree()
        process = tree.add(Exec(What.EXEC, 0, 2, 7, 7, cmdline=words))
        assert process
        self.assertTrue(process.command.isprintable())
        out = subprocess.run(["bash", "-c", f"printf '%s\\0' {process.command}"], stdout=subprocess.PIPE, check=True,
                             env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
        self.assertEqual([os.fsdecode(word) for word in out.split(b"\0")[:-1]], words)


def in_process(*args: str) -> tuple[int, str, str]:
    """The command's status, output and errors, without a process of its own."""
    with contextlib.redirect_stdout(Screen()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = cnproc.main([*args])
    return status, out.getvalue(), err.getvalue()


@pure
class Options(unittest.TestCase):
    """What is an option, a PID, or the command."""

    def test_the_command_begins_with_the_first_word_that_is_no_number(self) -> None:
        cases: list[tuple[str, str, list[int], dict[str, Any] | None]] = [
            ("make -j2", "make -j2", [], {}), ("-o FILE make -o x", "make -o x", [], {"output": "FILE"}),
            ("-oFILE make", "make", [], {"output": "FILE"}), ("--output=FILE make", "make", [], {"output": "FILE"}),
            ("--output FILE make", "make", [], {"output": "FILE"}), ("--out x make", "make", [], {"output": "x"}),
            ("-d 5 make", "make", [], {"duration": 5}), ("-d=5 make", "make", [], {"duration": 5}),
            ("-jt make -v", "make -v", [], {"json": True, "threads": True}),
            ("-jd 5 make", "make", [], {"json": True, "duration": 5}), ("-jd5 8 --tree", "", [8], {
                "json": True, "duration": 5, "tree": True}),
            ("--tree make -- -x", "make -- -x", [], {"tree": True}), ("-- 1234", "1234", [], {}),
            ("-- -- x", "-- x", [], {}), ("-- make", "make", [], {}), ("-o - make", "make", [], {"output": "-"}),
            ("make --t --s -d", "make --t --s -d", [], {}), ("7z x 5", "7z x 5", [], {}), ("- x", "- x", [], {}),
            ("./12", "./12", [], {}), ("-e exec,exit true", "true", [], {"events": What.EXEC | What.EXIT}),
            ("1234 --tree", "", [1234], {"tree": True}), ("1 -j 2 --tr x 3", "", [1, 2, 3], None),
            ("1 -j 2 --trac x 3", "", [1, 2, 3], {"json": True, "trace": "x"}), ("", "", [], {}),
            ("--user root id", "id", [], {"user": "root"}),
            ("--load x 5", "", [5], {"load": ["x"]}), ("--load x --load=y", "", [], {"load": ["x", "y"]}),
        ]
        for line, command, pids, options in cases:
            with self.subTest(line), contextlib.redirect_stderr(io.StringIO()) as err:
                if options is None:
                    with self.assertRaises(SystemExit):
                        cnproc._arguments(line.split())
                    self.assertIn("ambiguous", err.getvalue())
                    continue
                args: dict[str, Any] = cnproc._arguments(line.split()).__dict__
                self.assertEqual((" ".join(args.pop("command")), args.pop("pid"), args.pop("follow")),
                                 (command, pids, True))
                self.assertEqual({name: value for name, value in args.items() if value}, options)

    def test_a_pid_and_a_command_exclude_each_other(self) -> None:
        for words in ["1234", "make"], ["1234", "--", "make"], ["1234", "-j", "make"], ["1234", "1x"]:
            status, _, err = in_process(*words)
            self.assertEqual(status, 2)
            self.assertRegex(err, "follows a PID, where only PIDs can stand|a command and PIDs cannot be combined")

    def test_a_wrong_word_is_named_with_what_to_write_instead(self) -> None:
        for line, said in (
            ("-p 1", "there is no option -p: a PID stands alone"), ("1 -p", "there is no option -p"),
            ("-ff make", "there is no option -f: descendants are followed anyway"),
            ("--jsn true", "there is no option --jsn: is it --json?"), ("-n 5 true", "there is no option -n"),
            ("--xyz", "there is no option --xyz"), ("-tz true", "there is no option -z"),
            ("0", "'0' is not a PID: that is a number from 1, and several are separate arguments"),
            ("1,2", "'1,2' is not a PID: that is a number from 1, and several are separate arguments"),
            ("-tree true", "there is no option -r: is it --tree?"),
            ("--html=", "--html: the name of the FILE is empty"),
            ("-o true", "-o takes a FILE, and true is a program: is it the command? Else write ./true"),
            ("-u 4000000001 true", "-u: no user '4000000001'"), ("--paths true", "--paths needs -j, --html or a view"),
        ):
            with self.subTest(line):
                self.assertEqual(in_process(*line.split()), (2, "", f"python3 cnproc.py: {said} (-h has help)\n"))
        self.assertEqual(cnproc._arguments(["-u", "0", "true"]).user, "root")
        self.assertTrue(cnproc._arguments(["--paths", "--compile-commands", "x", "true"]).paths)

    def test_the_readme_has_the_options_in_the_order_of_the_help(self) -> None:
        if not (HERE / "README.md").exists():
            self.skipTest("there is no README here")
        helped = re.findall(r"(?m)^  ((?:-.*?)?--[a-z-]+)", in_process("-h")[1])
        table = re.findall(r"(?m)^\| (`-.*?) \|", (HERE / "README.md").read_text())
        self.assertEqual(*([re.findall(r"--[a-z-]+", names)[0] for names in rows] for rows in (table, helped)))

    def test_the_tests_that_the_readme_names_are_there(self) -> None:
        if not (HERE / "README.md").exists():
            self.skipTest("there is no README here")
        named = re.findall(r"\b([A-Z]\w+)\.(test_\w+)", (HERE / "README.md").read_text())
        self.assertGreater(len(named), 5)
        self.assertEqual([pair for pair in named if not hasattr(globals().get(pair[0]), pair[1])], [])


def page_data(page: str) -> dict[str, Any]:
    """What a page of --html says, with the strings in their places, and its cells as their texts."""
    block, = re.findall(r'(?s)<script type="application/json" id="data">(.*?)</script>', page)
    data: dict[str, Any] = json.loads(block)
    for name in "name", "label", "command", "cwd":
        data["run"][name] = [data["strings"][number] for number in data["run"][name]]
    for table in "programs", "commands":
        data[table] = [[str(text) for _, text in row] for row in data[table]]
    return data


@pure
class Page(Shown):
    """--html: what the page says."""

    def page(self, events: Iterable[Any], *args: str) -> dict[str, Any]:
        return page_data(self.show(cnproc._Page, events, "--html", "x", *args))

    def events(self) -> list[Any]:
        events = self.lives((10, 1, 0, 5000, "make -j2", 512), (20, 10, 100, 4000, "sh -c date"),
                            (30, 10, 200, 1700, "gcc -c a.c", 256), (40, 30, 300, 400, "cc1 a.c", 9),
                            (50, 20, 500, 600, "/bin/rm a.o", 256), (60, 10, 4100, 4200, "./<!--</script><img>"))
        events.insert(9, Exec(What.EXEC, 0, 550_000_000, 20, 20, cmdline=["date", "+%T"]))
        for event in events:
            if isinstance(event, Exit):
                event.cpu_ns, event.max_rss, event.max_rss_exact = event.pid * 10**6, event.pid << 20, event.pid < 60
        return sorted(events, key=lambda event: event.timestamp_ns)

    def test_it_has_what_the_tree_has(self) -> None:
        data, tree = self.page(self.events()), cnproc.Tree()
        for event in self.events():
            tree.add(event)
        process, run = data["process"], data["run"]
        known = {process["pid"][i]: i for i in range(len(process["pid"]))}
        self.assertEqual(sorted(known), sorted(one.pid for one in tree))
        for one in tree:
            i = known[one.pid]
            assert one.exit and one.end_ns is not None and one.start_ns is not None
            self.assertEqual({name: column[i] for name, column in process.items()}, {
                "pid": one.pid, "parent": known[one.parent.pid] if one.parent else None, "start": one.start_ns,
                "end": one.end_ns, "took": one.end_ns - one.start_ns, "code": one.exit_code, "cpu_ns": one.exit.cpu_ns,
                "max_rss": one.exit.max_rss, "max_rss_exact": one.exit.max_rss_exact})
            self.assertLess(-1 if process["parent"][i] is None else process["parent"][i], i)
            runs = [r for r in range(len(run["process"])) if run["process"][r] == i]
            self.assertEqual([(run["name"][r], run["command"][r]) for r in runs],
                             [(program.name, program.command) for program in one.programs])
            self.assertEqual([run["start"][r] for r in runs][1:], [program.start_ns for program in one.programs][1:])
        leaf, = tree.failures()
        chain, = data["chains"]
        self.assertEqual([process["pid"][i] for i in chain], [40, 30, 10])
        self.assertEqual((process["pid"][chain[0]], data["how"]["9"]), (leaf.pid, "killed by SIGKILL"))
        self.assertEqual((data["title"], data["wall"], data["before"]), ("make -j2", 5_000_000_000, []))
        self.assertEqual(data["why"], "cc1 a.c failed; 1 failure reached the command, 1 other did not")
        self.assertIn("gcc a.c", run["label"])

    def test_its_tables_are_those_of_the_statistics(self) -> None:
        data, text = self.page(self.events()), self.show(cnproc._Stats, self.events(), "--all")
        rows = [re.split(r" {2,}(?:← )?|(?<=[\ds%KM]) +(?=[<>\d])", line)
                for line in text.split("\n\n")[0].splitlines()[1:]]
        self.assertEqual(sorted([*filter(None, row)] for row in data["programs"]), sorted(rows))  # a cell may be empty
        self.assertEqual(data["commands"], [re.split(" {2,}", line.strip(), maxsplit=2)
                                            for line in text.split("\n\n")[1].splitlines()[1:]])

    def test_no_name_is_markup(self) -> None:
        page = self.show(cnproc._Page, self.events(), "--html", "x")
        self.assertEqual([page.count("<!--"), page.count("<img"), page.count("</script>")], [0, 0, 2])
        self.assertIn("./<!--</script><img>".rpartition("/")[2], page_data(page)["run"]["name"])

    def test_the_browser_is_told_to_run_only_the_page_s_own_script(self) -> None:
        page = self.show(cnproc._Page, self.events(), "--html", "x")
        policy, = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page)
        style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
                         for tag in ("style", "script") for text in re.findall(f"(?s)<{tag}>(.*?)</{tag}>", page))
        self.assertEqual(policy, f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'")
        self.assertNotRegex(page, "https?:|//cdn|@import|url\\(")

    def test_what_is_not_known_is_said(self) -> None:
        events = [event for event in self.events() if event.pid not in (10, 30) or not isinstance(event, Exit)]
        events[0] = Fork(What.FORK, cnproc._REBUILT, 0, 1, 1, 10, 10)
        events.append(cnproc._lost_event(7, 4_900_000_000))
        for event in events:
            if isinstance(event, Exit):
                event.cpu_ns = None
        data = self.page([event for event in events if event.what != What.EXEC or event.pid != 10])
        for said in ("Events were lost", "end here: 2.", "from the left edge on: 1.",
                     "CPU time not known: 4."):
            self.assertIn(said, data["notes"])
        self.assertEqual(data["open"], "its end was not recorded")
        self.assertIn("7 events lost", data["where"])
        self.assertFalse([text for _, text in data["tiles"] if "CPU" in text])
        code, end = (dict(zip(data["process"]["pid"], data["process"][name])) for name in ("code", "end"))
        self.assertEqual((code[30], end[30]), (None, data["wall"]))
        starts = self.page([event for event in self.events() if not isinstance(event, Exit)])
        self.assertIn("No ends were recorded", starts["notes"])
        self.assertEqual(starts["process"]["end"], starts["process"]["start"])

    def test_a_chain_of_failures_has_no_subshells_and_a_failure_alone_has_hints(self) -> None:
        events = self.lives((10, 1, 0, 90, "sh run", 256), (20, 30, 20, 30, "false", 256),
                            (40, 10, 5, 9, "grep x", 256))
        subshell = [Fork(What.FORK, 0, 10_000_000, 10, 10, 30, 30),
                    Exit(What.EXIT, 0, 40_000_000, 30, 30, 256, 17, 10, 10)]
        events = sorted([*events, *subshell], key=lambda event: event.timestamp_ns)
        data = self.page(events)
        pids = data["process"]["pid"]
        self.assertEqual([[pids[i] for i in chain] for chain in data["chains"]], [[20, 10], [40, 10]])
        self.assertEqual(data["before"], [])
        for event in events:
            if isinstance(event, Exit) and event.pid != 10:
                event.parent_pid = 1  # they have failed, and nobody knew
        data = self.page(events)
        self.assertEqual([[pids[i] for i in chain] for chain in data["chains"]], [[10]])
        self.assertEqual(sorted(pids[i] for i in data["before"]), [20, 30])

    def test_filters_choose_what_is_on_it(self) -> None:
        for options, pids in (["--only", "rm"], [50]), (["--longer", "3"], [20]), (["--only", "nothing"], []):
            data = self.page(self.events(), *options)
            self.assertEqual(sorted(data["process"]["pid"]), sorted([10, 30, 40, *pids]))
            self.assertIn("A filter", data["notes"])
            self.assertEqual([[data["process"]["pid"][i] for i in chain] for chain in data["chains"]], [[40, 30, 10]])
            self.assertEqual((data["title"], data["tiles"][0][1]), ("make -j2", "exit 2"))
            for text in data["why"], *(self.show(view, self.events(), *options).splitlines()[-1]
                                       for view in (cnproc._Tree, cnproc._Stats)):
                self.assertIn("cc1 a.c failed; 1 failure reached the command, 1 other did not", text)
            self.assertEqual(self.page(self.lives((10, 1, 0, 9, "make")), *options)["title"], "make")

    def test_a_recording_of_several_says_of_what_and_without_ends_what_is_not_known(self) -> None:
        events = self.lives((10, 1, 0, 50, "make"), (20, 2, 10, 20, "date"), (30, 3, 15, 30, "rm"))
        data = self.page(events)
        self.assertEqual((data["title"], data["tiles"][0][1]), ("what ran on here", "in all"))
        data = self.page([event for event in events if not isinstance(event, Exit)])
        self.assertEqual((data["why"], data["ends"]), ("no ends were recorded", False))
        self.assertEqual([row[2:8] for row in data["programs"]], [[""] * 6] * 3)
        self.assertEqual(data["commands"], [])

    def test_until_it_is_written_it_says_that_it_is_incomplete(self) -> None:
        screen = Screen()
        out = cnproc._Out(screen)
        view = cnproc._Page(out, cnproc._arguments(["--html", "x"]))
        out.flush()
        self.assertIn("This page is incomplete", screen.getvalue())
        self.assertNotIn("</script>", screen.getvalue())
        view.end(1)
        out.flush()
        self.assertTrue(screen.getvalue().endswith("</script>\n"))
        self.assertEqual(page_data(screen.getvalue())["process"]["pid"], [])

    def test_a_watch_of_the_machine_takes_until_its_end_whatever_happens_in_it(self) -> None:
        for events in [], self.lives((10, 1, 2000, 2500, "make")):
            texts = [self.show(view, events, *option, begin=10**9, now=4 * 10**9) for view, option in (
                (cnproc._Page, ["--html", "x"]), (cnproc._Stats, []), (cnproc._Tree, []))]
            data = page_data(texts[0])
            self.assertEqual((data["title"], data["wall"], data["tiles"][0][0]),
                             ("every process of this machine", 3 * 10**9, "3.000 s"))
            self.assertEqual(["in 3.000 s; " in text for text in texts[1:]], [True, True], texts)

    def test_how_many_ran_at_once_is_said_only_where_all_forks_were_seen(self) -> None:
        events = self.lives((10, 1, 0, 50, "make"), (20, 10, 10, 30, "date"), (30, 10, 15, 30, "rm"))
        for chosen, known in (events, True), ([event for event in events if isinstance(event, Exit)], False):
            tree, data = self.show(cnproc._Tree, chosen), page_data(self.show(cnproc._Page, chosen, "--html", "x"))
            self.assertEqual("at most 3 at once; " in tree, known)
            self.assertEqual(data["tiles"][-1], ["3", "processes, up to 3 at once" if known else "processes"])
            self.assertEqual("at once" in tree, known)

    def test_a_recording_becomes_a_page_beside_other_views(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            recording, page, trace = (os.path.join(folder, name) for name in ("a.jsonl", "a.html", "a.trace"))
            pathlib.Path(recording).write_text(self.show(cnproc._Json, self.events()))
            status, out, err = in_process("--load", recording, "--html", page, "--trace", trace, "--tree")
            self.assertEqual((status, err), (0, ""))
            self.assertIn("make -j2", out)
            data = page_data(pathlib.Path(page).read_text())
        self.assertEqual(len(data["process"]["pid"]), 6)
        self.assertEqual(data["title"], "make -j2")

    def test_a_part_of_a_recording_says_that_it_is_one(self) -> None:
        text = self.show(cnproc._Json, self.events())
        with tempfile.TemporaryDirectory() as folder:
            recording, packed, page = (pathlib.Path(folder, name) for name in ("a.jsonl", "a.jsonl.gz", "a.html"))
            recording.write_text(text)
            packed.write_bytes(gzip.compress(text.encode())[:-9])
            for path, stops, status in (recording, False, 0), (recording, True, 130), (packed, False, 2):
                add = KeyboardInterrupt if stops else cnproc._Recording.add
                with unittest.mock.patch.object(cnproc._Recording, "add", autospec=True, side_effect=add):
                    self.assertEqual(in_process("--load", str(path), "--html", str(page))[0], status)
                self.assertEqual("only a part" in page_data(page.read_text())["where"], status > 0)

    def test_options_that_exclude_it(self) -> None:
        lines: list[str] = ["--wait --html x 5", "--html x --trace x", "--html x -o x", "--html"]
        for line in lines:
            with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
                cnproc._arguments(line.split())
            self.assertEqual(err.getvalue().count("\n"), 1)


@pure
class Loading(unittest.TestCase):
    """--load: what -j has recorded."""

    def load(self, text: str, *args: str) -> tuple[int, str, str]:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            return in_process("--load", file.name, *args)

    LINE = ('{"event": "exit", "time": "2026-11-22T14:32:08.525738Z", "timestamp_ns": 3479470001204, "host": "vm", '
            '"boot_id": "b", "pid": 5, "tid": 5, "exit_code": 1792, "exit_signal": 17, "parent_tid": null, '
            '"parent_pid": 4, "cmdline": ["sh", "-c"], "returncode": 7, "signal": "", "duration": 1.5, '
            '"rebuilt": false, "cpu_ns": 1200000, "max_rss": 2097152, "max_rss_exact": false, "read_bytes": 4096, '
            '"write_bytes": 0, "major_faults": null, "start_ns": 3477970001204}\n')

    @staticmethod
    def lines(*events: Any, ahead: float = 0, **more: str) -> str:
        """What -j writes of these events; ahead: the seconds by which the time of day leads the events' clock more."""
        text = ""
        for event in events:
            ns = 1_700_000_000 * 10**9 + event.timestamp_ns + round(ahead * 1e9)
            day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9))
            text += json.dumps({"time": f"{day}.{ns % 10**9 // 1000:06}Z", "host": "vm", "boot_id": "b", **more,
                                **event.asdict()}) + "\n"
        return text

    @staticmethod
    def ran(pid: int, parent: int, begin: float, end: float | None, *words: str, rebuilt: bool = False) -> list[Any]:
        """A process that forks, executes and ends, at these seconds. rebuilt: it was there before."""
        cpu = 0xFFFFFFFF if rebuilt else 0
        events: list[Any] = [
            Fork(What.FORK, cpu, round(begin * 1e9), parent, parent, pid, pid),
            Exec(What.EXEC, cpu, round(begin * 1e9) + 1_000_000, pid, pid, cmdline=[*words], parent_pid=parent)]
        if end is not None:
            events.append(Exit(What.EXIT, 0, round(end * 1e9), pid, pid, 0, 17, parent, parent))
        return events

    def test_a_filter_shows_no_fork_of_what_it_leaves_out(self) -> None:
        shell, child, subshell = (self.ran(5, 1, 1, 3, "sh", "-c", "x"), self.ran(6, 5, 1.1, 2, "ls"),
                                  self.ran(7, 5, 2.1, 2.9, "sh"))
        text = self.lines(*shell[:2], *child, subshell[0], subshell[2], shell[2])
        status, out, err = self.load(text, "--only", "^sh", "--tree")
        self.assertEqual((status, err), (0, ""))
        self.assertNotIn("ls", out)
        self.assertIn("2 processes in", out)
        status, out, err = self.load(text, "--only", "^sh", "-j")
        self.assertEqual([(record["event"], record["pid"]) for record in map(json.loads, out.splitlines())],
                         [("fork", 5), ("exec", 5), ("fork", 7), ("exit", 7), ("exit", 5)])
        with tempfile.NamedTemporaryFile("r") as trace:
            self.load(text, "--only", "^sh", "--trace", trace.name)
            self.assertEqual({record["args"]["pid"] for record in json.loads(trace.read())
                              if "pid" in record.get("args", {})}, {5, 7})

    def test_two_recordings_one_behind_the_other_have_a_process_once(self) -> None:
        one = self.lines(*self.ran(5, 1, 1, None, "sh"), *self.ran(6, 5, 1.5, None, "sleep"))
        known = [*self.ran(5, 1, 1, None, "sh", rebuilt=True), *self.ran(6, 5, 1.5, None, "sleep", rebuilt=True)]
        known = [known[0], known[2], known[1], known[3]]
        known[2].timestamp_ns = known[3].timestamp_ns = 2_000_000_000
        two = self.lines(*known, self.ran(6, 5, 1.5, 2.5, "")[2], self.ran(5, 1, 1, 3, "")[2])
        with tempfile.NamedTemporaryFile("w") as first, tempfile.NamedTemporaryFile("w") as second:
            for file, text in (first, one), (second, two):
                file.write(text)
                file.flush()
            status, out, err = in_process("--load", first.name, "--load", second.name, "--tree")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("2 processes in 2.000 s; at most 2 at once", out)

    def test_recordings_of_several_machines_are_on_one_clock_beside_json_too(self) -> None:
        text = self.lines(*self.ran(5, 1, 100, 101, "one")) + self.lines(
            *self.ran(5, 1, 9000, 9001, "two"), ahead=-8890, host="other", boot_id="c")
        _, out, _ = self.load(text, "--tree")
        self.assertIn("2 processes in 11.000 s", out)
        with tempfile.NamedTemporaryFile("r") as again:
            _, beside, _ = self.load(text, "--tree", "-j", "-o", again.name)
            recorded, written = ([(record["timestamp_ns"], record["time"]) for record in map(json.loads, lines)]
                                 for lines in (text.splitlines(), again))
            self.assertEqual(written, recorded)
        self.assertEqual(beside, out)

    def test_a_tree_of_nothing_takes_no_time(self) -> None:
        status, out, _ = self.load(self.lines(*self.ran(5, 1, 100, 101, "one")), "--tree", "99999")
        self.assertEqual((status, out.splitlines()[-1].partition(";")[0]), (1, "0 processes in 0.000 s"))

    def test_a_core_dump_alone_has_its_command_line(self) -> None:
        dump = self.lines(cnproc.Coredump(What.COREDUMP, 0, 10**9, 5, 5, 4, 4))
        line = json.dumps({**json.loads(dump), "cmdline": ["sh", "-c"], "parent_pid": 4}) + "\n"
        self.assertIn("dumps core: sh -c", self.load(line)[1])
        self.assertEqual(json.loads(self.load(line, "-j")[1])["cmdline"], ["sh", "-c"])

    def test_a_fork_has_the_time_of_day_of_before_the_clock_was_set(self) -> None:
        events = self.ran(5, 1, 1, 2, "one")
        text = self.lines(events[0]) + self.lines(events[2], ahead=-3600)
        first, second = (line.split()[0] for line in self.load(text)[1].splitlines())
        self.assertEqual((first[2:], second[2:]), (":13:21.000000", ":13:22.000000"))
        self.assertNotEqual(first[:2], second[:2])

    def test_why_says_that_its_cause_may_be_lost(self) -> None:
        events = self.ran(5, 1, 1, 2, "sh")
        events[2].exit_code = 1 << 8
        events.insert(2, lost(7, 1_500_000_000))
        self.assertIn("sh failed\n7 events lost: what made it fail may be among them",
                      self.load(self.lines(*events), "--why")[1])
        for view in "--tree", "--stats":
            self.assertIn("; sh failed; 7 events lost: what made it fail may be among them\n",
                          self.load(self.lines(*events), view)[1])

    def test_names_that_are_not_known_are_counted(self) -> None:
        events = self.ran(5, 1, 1, 2, "sh")
        for event in self.ran(6, 5, 1, 2, "x"), self.ran(7, 5, 1, 2, "y"):
            event[1].cmdline = None
            events += event
        for view in "--tree", "--stats":
            self.assertIn("; 2 names not known; nothing failed; 0 events lost\n",
                          self.load(self.lines(*events), view)[1])

    def test_what_is_made_of_objects_is_called_by_what_it_makes(self) -> None:
        for command, called in (
            ("/usr/bin/ld -pie -o prog /lib/Scrt1.o a.o /lib/crtn.o", "ld prog"), ("as -o a.o /tmp/ccXY.s", "as a.o"),
            ("cc1 -quiet a.c -o /tmp/cc.s", "cc1 a.c"), ("ar rcs liba.a a.o", "ar a.o"), ("gcc -o p a.c", "gcc a.c"),
        ):
            events = self.ran(5, 1, 1, 2, *command.split())
            events[2].exit_code = 1 << 8
            self.assertIn(f"\n{called} failed\n", self.load(self.lines(*events), "--why")[1])

    def test_a_program_is_not_overwritten(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "build.sh")
            with open(path, "w") as file:
                file.write("#!/bin/sh\n")
            os.chmod(path, 0o755)
            for option in "-o", "--html", "--trace", "--compile-commands":
                status, out, err = in_process(option, path, "true")
                self.assertEqual((status, out), (2, ""))
                self.assertIn("build.sh: this is something else, and would be overwritten", err)
            with open(path) as file:
                self.assertEqual(file.read(), "#!/bin/sh\n")

    def test_what_is_no_page_trace_or_database_is_not_overwritten_by_one(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "x")
            for option, begins in ("--html", "<!doctype html>"), ("--trace", "[{"), ("--compile-commands", "[]"):
                path.write_text("# notes\n")
                status, _, err = in_process(option, str(path), "true")
                self.assertEqual((status, path.read_text()), (2, "# notes\n"))
                self.assertIn("this is something else, and would be overwritten", err)
                for before in "", begins:
                    path.write_text(before)
                    recording = pathlib.Path(folder, "recording")
                    recording.write_text(self.LINE)
                    self.assertEqual(in_process("--load", str(recording), option, str(path))[0], 0)
                    self.assertTrue(path.read_text().startswith(begins))

    def test_a_recording_is_not_overwritten(self) -> None:
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write(self.LINE)
            file.flush()
            for options in ["-o", file.name], ["--trace", file.name], ["--html", file.name]:
                status, _, err = in_process("--load", file.name, *options)
                self.assertEqual((status, err.count("\n")), (2, 1))
            self.assertEqual(pathlib.Path(file.name).read_text(), self.LINE)

    def record(self, event: str, when: int, pid: int, parent: int, host: str = "vm", *command: str) -> str:
        """A line of a recording."""
        record = {**json.loads(self.LINE), "event": event, "timestamp_ns": when * 10**9, "host": host, "pid": pid,
                  "tid": pid, "parent_pid": parent, "parent_tid": parent, "exit_code": 0, "returncode": 0,
                  "duration": None, "start_ns": None, "cmdline": command or None, "truncated": False,
                  "time": f"2026-11-22T14:32:{when:02}.000000Z"}
        return json.dumps(record) + "\n"

    def test_of_a_recording_only_some_processes_and_their_descendants(self) -> None:
        r = self.record
        forks = [r("fork", 1, 20, 10), r("fork", 2, 30, 20), r("fork", 2, 40, 10), r("fork", 2, 41, 40)]
        text = "".join([*forks, r("exec", 3, 20, 10, "vm", "make"), r("exec", 3, 40, 10, "vm", "other"),
                        r("exec", 4, 30, 20, "vm", "cc", "x.c"), r("exit", 5, 20, 10),
                        r("exec", 6, 30, 1, "vm", "late"),
                        *(r("exit", 6, pid, 1) for pid in range(100, 200)),  # the first to end are forgotten
                        r("fork", 7, 50, 30), r("exec", 8, 50, 30, "vm", "last"), r("exit", 9, 50, 30)])
        for pids, said in ((["20"], "make|cc x.c|late|last"), (["30"], "cc x.c|late|last"), (["41"], ""),
                           (["50", "40"], "other|last"), (["10"], "make|other|cc x.c|late|last")):
            status, out, err = self.load(text, "-e", "exec", *pids)
            self.assertEqual((status, err, "|".join(line[38:] for line in out.splitlines())), (0, "", said))
        self.assertEqual(self.load(text, "-e", "exec", "99", "40"), (
            1, self.load(text, "-e", "exec", "40")[1], "python3 cnproc.py: no process 99 in the recording\n"))
        self.assertEqual(self.load(text, "--tree", "40")[1].count("\n"), 4)  # the head, two rows and the sum
        lines = self.load(text, "-j", "40")[1].splitlines()
        self.assertEqual([json.loads(line)["pid"] for line in lines], [40, 41, 40])
        # Without forks, who started a process is known from its exec.
        self.assertEqual(self.load("".join(text.splitlines(True)[4:]), "-e", "exec", "20")[1].count("\n"), 4)

    def test_recordings_come_in_the_order_given_packed_or_not(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            plain, packed, cut = (os.path.join(folder, name) for name in ("plain", "packed", "cut"))
            pathlib.Path(plain).write_text(self.record("exec", 5, 5, 1, "a", "one") + "x\n")
            data = b"".join(gzip.compress(self.record("exec", 5, 5, 1, host, "two").encode()) for host in "bc")
            pathlib.Path(packed).write_bytes(data)
            pathlib.Path(cut).write_bytes(data[:-4])
            status, out, err = in_process("--load", packed, "--load", plain, "-e", "exec")
            self.assertEqual([line.split()[-1] for line in out.splitlines()], ["two", "two", "one"])
            self.assertEqual((status, err), (2, f"python3 cnproc.py: {plain}: line 2 is not an event\n"))
            self.assertIn("3 processes", in_process("--load", packed, "--load", plain, "--tree")[1])
            status, out, err = in_process("--load", plain, "--load", cut, "-e", "exec")
            self.assertEqual((status, out.count("\n"), err.count("\n")), (2, 3, 2))
            self.assertIn(f"{cut}: its gzip data is cut short", err)
            with open(packed, "rb") as file:
                run = subprocess.run([*CNPROC, "--load", "-"], stdin=file, stdout=subprocess.PIPE, timeout=PATIENCE)
            self.assertEqual((run.returncode, run.stdout.count(b"two")), (0, 2))

    def test_broken_lines_are_named_and_the_rest_is_read(self) -> None:
        for broken in ("x", "[]", "{}", "5", "null", '"a"', '{"event": "exec"}', "[" * 9999,
                       '{"event": "what", "timestamp_ns": 5}', self.LINE.replace("1792", '"1792"').strip(),
                       self.LINE.replace('"2026', '"x').strip(), self.LINE.replace("1.5", '"x"').strip(),
                       self.LINE.replace("1.5", "NaN").strip(), self.LINE.replace('["sh", "-c"]', "5").strip(),
                       self.LINE.replace('"vm"', "[1]").strip(), self.LINE.replace('"vm"', '"\x00').strip(),
                       self.LINE.replace("3479470001204", "null").strip(),
                       self.LINE.replace("3479470001204", str(1 << 63)).strip(),
                       '{"event": "lost", "timestamp_ns": 36893488147419103232, "count": 1}'):
            with self.subTest(broken=broken[:50]):
                status, out, err = self.load(self.LINE + broken + "\n" + self.LINE)
                self.assertEqual((status, out.count("\n")), (2, 2))
                self.assertRegex(err, r"^python3 cnproc\.py: \S+: line 2 is not an event\n$")
        self.assertIn("line 1 is not an event, and 1 more", self.load("x\n\n" + self.LINE)[2])

    def test_a_recording_is_shown_as_it_comes(self) -> None:
        run = subprocess.Popen([sys.executable, str(HERE / "cnproc.py"), "--load", "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
        with run:
            assert run.stdin and run.stdout
            for _ in range(2):
                run.stdin.write(self.LINE)
                run.stdin.flush()
                self.assertIn("exit 7 after", run.stdout.readline())
            run.stdin.write(self.LINE.strip())  # and no newline
            run.stdin.close()
            self.assertIn("exit 7 after", run.stdout.read())

    def test_costs_that_cannot_be_break_a_line(self) -> None:
        for name, value in (("cpu_ns", -1), ("max_rss", 1 << 100), ("cpu_ns", 1.5), ("max_rss_exact", 1),
                            ("read_bytes", "x")):
            line = json.dumps({**json.loads(self.LINE), name: value}) + "\n"
            status, _, err = self.load(line, "--tree")
            self.assertEqual((status, "line 1 is not an event" in err), (2, True), (name, value))

    def test_a_line_alone_says_what_it_knows(self) -> None:
        status, out, err = self.load(self.LINE, "-e", "exit")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"^\d\d:\d\d:08\.525738       5       4  exit 7 after 1\.500 s: sh -c\n$")
        self.assertEqual(json.loads(self.load(self.LINE, "-j")[1]), json.loads(self.LINE))

    def trace(self, text: str) -> tuple[list[Any], str]:
        """The trace of a recording, and what was said of it."""
        status, out, err = self.load(text, "--trace", "-")
        self.assertEqual(status, 0)
        return json.loads(out), err

    def drawn(self, text: str) -> list[tuple[Any, ...]]:
        """The slices of its trace: group, name, kind, begin and end in s; ends by their track."""
        trace, _ = self.trace(text)
        groups = {record["pid"]: record["args"]["name"] for record in trace if record["name"] == "process_name"}
        ends = {record["tid"]: record["ts"] for record in trace if record["ph"] == "E"}
        return [(groups[record["pid"]], record["name"], record["cat"], round(record["ts"] / 1e6),
                 round(ends[record["tid"]] / 1e6)) for record in trace if record["ph"] == "B"]

    def exits(self) -> list[str]:
        return [json.dumps({**json.loads(self.record("exit", end, pid, parent, "vm", *words)), "duration": duration,
                            "max_rss": 1 << 20}) + "\n"
                for end, duration, pid, parent, words in ((8, 2.0, 6, 5, ["cc", "a.c"]), (9, 4.0, 5, 4, ["make"]))]

    def test_a_trace_of_exits_alone_has_their_slices(self) -> None:
        self.assertEqual(self.drawn("".join(self.exits())), [
            ("ended on vm", "cc", "exec", 6, 8), ("ended on vm", "make", "exec", 5, 9)])
        counted = [record for record in self.trace("".join(self.exits()))[0] if record["ph"] == "C"]
        self.assertEqual([record["ts"] / 1e6 for record in counted], [5, 6, 8, 9])  # memory; nobody knows how many ran

    def test_a_trace_of_forks_and_exits_has_names(self) -> None:
        forks = self.record("fork", 5, 5, 4), self.record("fork", 6, 6, 5)
        self.assertEqual(self.drawn("".join([*forks, *self.exits()])), [
            ("make on vm", "cc", "exec", 6, 8), ("make on vm", "make", "exec", 5, 9)])
        trace, _ = self.trace("".join([*forks, *self.exits()]))
        self.assertEqual([record["ph"] for record in trace if record["ph"] in "sf"], ["s", "f"])

    def test_where_no_ends_were_recorded_only_starts_are_shown(self) -> None:
        starts = [self.record("fork", 1, 5, 4), self.record("exec", 1, 5, 4, "vm", "make"),
                  *(self.record(kind, 2 + i, 10 + i, 5, "vm", "cc") for i in range(30) for kind in ("fork", "exec"))]
        for text in "".join(starts), "".join(starts[1::2]):
            trace, said = self.trace(text)
            self.assertEqual(said, "python3 cnproc.py: no ends were recorded on vm, so only starts are shown: "
                                   "nothing had ended, or -e left ends out\n")
            self.assertEqual([record for record in trace if record["ph"] in "Csf"], [])
            for _, name, kind, begin, end in self.drawn(text):
                self.assertTrue(begin == end or kind == "fork", name)
            for option in "--tree", "--stats":
                _, out, err = self.load(text, option)
                self.assertEqual(err, said)
                self.assertNotRegex(out, "at once|nothing failed|running|TIME .*SHARE")
                self.assertRegex(out, r"31 processes began in 30\.000 s; 0|31 starts of 2 programs in 30\.000 s; 0")
            rows = self.load(text, "--tree")[1].splitlines()[1:3]
            self.assertEqual([row.split()[:2] for row in rows], [["?", "?"]] * 2)
        _, said = self.trace("".join([*starts, self.record("exit", 40, 5, 4)]))
        self.assertEqual(said, "")

    def test_a_trace_of_several_hosts_names_them(self) -> None:
        drawn = self.drawn("".join(self.record(kind, when, 5, 4, host, "make")
                                   for when, kind in ((5, "fork"), (6, "exec"), (7, "exit")) for host in "ab"))
        self.assertEqual({(group, name) for group, name, *_ in drawn},
                         {("make on a", "?"), ("make on b", "?"), ("make on a", "make"), ("make on b", "make")})

    def test_what_happened_before_the_boot_of_the_first_machine_is_in_its_place(self) -> None:
        first = "".join(self.record(kind, when, 5, 4, "a", "make")
                        for when, kind in ((5, "fork"), (6, "exec"), (8, "exit")))
        text = first + first.replace('"a"', '"b"').replace("T14:32", "T13:32")
        for option, said in ("--tree", "2 processes in 1:00:03; at most 1 at once"), (
                "--stats", "2 starts of 1 program in 1:00:03"):
            self.assertIn(said, self.load(text, option)[1])
        self.assertEqual([drawn for drawn in self.drawn(text) if drawn[1] == "make"], [
            (f"make on {host}", "make", "exec", 6 - before, 8 - before) for host, before in (("a", 0), ("b", 3600))])
        trace, said = self.trace(text.replace("000000Z", "000001Z").replace("8000000000", "8000000007"))
        self.assertIn("load first what was recorded on the machine that booted first", said)
        self.assertIn(-3592 * 10**6 + 0.007, [record.get("ts") for record in trace])

    def test_of_many_failed_roots_each_summary_names_the_same(self) -> None:
        lines = "".join(self.record("exit", i, 100 + i, 4, "vm", "make", str(i)).replace(
            '"exit_code": 0, ', '"exit_code": 256, ').replace('"returncode": 0', '"returncode": 1') for i in range(60))
        tree, stats = ([line for line in self.load(lines, option)[1].splitlines() if line.startswith("exit 1")]
                       for option in ("--tree", "--stats"))
        self.assertGreater(len(tree), 9)
        self.assertEqual(stats, tree)

    def test_a_line_of_its_own_says_what_a_process_ran_that_began_as_its_parent(self) -> None:
        thread = self.record("exit", 1, 5, 4, "vm", "make").replace('"tid": 5', '"tid": 6')
        lines = [thread, self.record("exit", 2, 7, 5, "vm", "sleep", "1"), self.record("exit", 3, 8, 5, "vm", "make")]
        said = [line.split("  ")[-1] for line in self.load("".join(lines))[1].splitlines()]
        self.assertEqual(said, ["thread 6 exit 0: make", "exit 0: sleep 1", "exit 0: (make)"])

    def test_what_is_said_of_one_event_of_a_host_without_a_name_and_of_a_dash(self) -> None:
        loss = json.dumps({"event": "lost", "time": "2026-11-22T14:32:01.000000Z", "timestamp_ns": 10**9, "count": 1})
        lines = loss + "\n" + self.record("exec", 2, 5, 4, "vm", "x").replace('"vm"', "null").replace('"b"', "null")
        self.assertIn("lost 1 event;", self.load(lines)[1])
        _, out, err = self.load(lines, "--tree", "--compile-commands", "-")
        self.assertIn("; 1 event lost\n", out)
        self.assertIn(" no ends were recorded, so only starts are shown", err)
        self.assertIn(" events were lost: the database may lack ", err)
        self.assertIn("1 event lost", [record["name"] for record in self.trace(lines)[0]])
        run = subprocess.run(["sh", "-c", '"$@" <&-', "-", *CNPROC, "--load", "-"], stderr=subprocess.PIPE, text=True,
                             timeout=PATIENCE)
        self.assertEqual((run.returncode, run.stderr), (2, "python3 cnproc.py: standard input is closed\n"))

    def test_how_many_ran_at_once_is_not_said_of_recordings_of_the_same_time(self) -> None:
        def lives(host: str, begin: int) -> str:
            return "".join(self.record(kind, when, 5, 4, host, "make")
                           for when, kind in ((begin, "fork"), (begin + 1, "exec"), (begin + 2, "exit")))

        with tempfile.TemporaryDirectory() as folder:
            one, same, later, page = (pathlib.Path(folder, name) for name in ("one", "same", "later", "page"))
            for path, text in (one, lives("a", 1)), (same, lives("b", 2)), (later, lives("a", 3)):
                path.write_text(text)
            for other, known in (same, 0), (later, 1):
                said = in_process("--load", str(one), "--load", str(other), "--tree", "--html", str(page))[1]
                self.assertEqual((said.count("; at most 1 at once"), page.read_text().count("up to 1 at once")),
                                 (known, known))

    def test_a_step_of_the_second_machine_s_clock_is_no_run_time(self) -> None:
        lives = [self.record(kind, when, 5, 4, host, "make") for host, begin in (("a", 1), ("b", 5))
                 for when, kind in ((begin, "fork"), (begin + 1, "exec"), (begin + 2, "exit"))]
        lives[5] = lives[5].replace("T14", "T15")  # its time of day, while its timestamp_ns goes on
        self.assertIn("2 starts of 1 program in 6.000 s", self.load("".join(lives), "--stats")[1])
        # A broken line does not tell how far the clock is.
        broken = lives[3].replace("T14", "T11").replace('"pid": 5', '"pid": "x"')
        self.assertIn("in 6.000 s", self.load("".join([*lives[:3], broken, *lives[3:]]), "--stats")[1])

    def test_a_page_and_a_database_are_utf_8_on_any_standard_output(self) -> None:
        line = json.loads(self.record("exec", 1, 5, 4, "b", "cc", "-c", "Ö.c"))
        text = json.dumps({**line, "cwd": "/ö", "exe": None, "cgroup": None, "ruid": 0, "euid": 0}) + "\n"
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "recording")
            path.write_text(text)
            for encoding in "ascii", "latin-1", "utf-8":
                page, database = (subprocess.check_output(
                    [*CNPROC, "--load", path, option, "-"], timeout=PATIENCE, stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONIOENCODING": encoding}).decode() for option in (
                        "--html", "--compile-commands"))
                self.assertEqual([entry["file"] for entry in json.loads(database)], ["/ö/Ö.c"])
                self.assertEqual(page_data(page)["run"]["command"], ["cc -c 'Ö.c'"])
                script = page.split("<script>")[1].split("</script>")[0]
                digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
                self.assertIn(f"script-src 'sha256-{digest}'", page)

    def page(self, text: str, *args: str) -> tuple[dict[str, Any], list[str]]:
        """What the page of a recording says, and what stands on top of it."""
        with tempfile.NamedTemporaryFile("r") as file:
            self.load(text, "--html", file.name, *args)
            data = page_data(file.read())
        return data, [" ".join(tile) for tile in data["tiles"]]

    def test_a_page_is_of_all_that_was_recorded(self) -> None:
        runs = [self.record(kind, when, pid, 4, "vm", name) for pid, name, begin in ((5, "make", 1), (6, "pytest", 3))
                for when, kind in ((begin, "fork"), (begin, "exec"), (begin + 1, "exit"))]
        many = [self.record(kind, 4, pid, 6) for pid in range(100, 200) for kind in ("fork", "exit")]
        data, tiles = self.page("".join([*runs[:5], *many, runs[5]]))  # make has been forgotten by the end
        self.assertEqual((data["title"], tiles[0]), ("what ran on vm", "3.000 s in all"))
        data, tiles = self.page("".join(runs[:3]))
        self.assertEqual((data["title"], tiles[0]), ("make", "1.000 s exit 0"))
        self.assertEqual(tiles[1], "0.001 s of CPU time")
        data, tiles = self.page("".join(runs), "--only", "pytest")
        self.assertEqual((data["title"], data["process"]["pid"]), ("what ran on vm", [6]))
        data, tiles = self.page("")
        self.assertEqual((data["notes"], tiles), ("", ["0.000 s in all", "0 processes"]))
        data, tiles = self.page(runs[0])
        self.assertEqual((data["wall"], tiles), (1, ["0.000 s in all", "1 process"]))  # else no bar has a place

    def test_an_output_that_nobody_reads_does_not_end_the_others(self) -> None:
        receive, send = os.pipe()
        os.close(receive)
        with open(send, "w") as closed, tempfile.TemporaryDirectory() as folder:
            recording, page = (pathlib.Path(folder, name) for name in ("recording", "page"))
            recording.write_text("".join(self.exits()))
            # The first output fails while it is written, or at its end.
            for options, written in (["-j", "--html"], "</script>\n"), (["--tree", "--compile-commands"], "[]\n"):
                run = subprocess.run([*CNPROC, "--load", recording, *options, page], stdout=closed,
                                     stderr=subprocess.DEVNULL, timeout=PATIENCE)
                self.assertEqual((run.returncode, page.read_text()[-len(written):]), (0, written))
                page.unlink()

    def test_a_page_of_ends_alone_does_not_take_them_for_the_whole(self) -> None:
        data, tiles = self.page("".join(self.exits()))
        self.assertEqual(tiles[:2], ["1.000 s in all", "0.002 s of CPU time"])  # make took 4 s
        self.assertIn("from the left edge on: 2.", data["notes"])
        self.assertEqual(data["process"]["took"], [4 * 10**9, 2 * 10**9])

    def test_on_a_page_only_what_has_ends_is_drawn_to_the_end(self) -> None:
        ends = "".join(self.record(kind, when, 5, 4, "a", "make")
                       for when, kind in ((5, "fork"), (6, "exec"), (9, "exit")))
        starts = "".join(self.record("exec", 7, pid, 4, "b", "cc") for pid in (6, 7))
        data, tiles = self.page(ends + starts)
        self.assertEqual((data["process"]["end"], tiles[-2]), ([4 * 10**9, 2 * 10**9, 2 * 10**9], "3 processes"))
        self.assertEqual(data["run"]["label"][0], "a: make")

    def test_of_an_end_that_was_not_recorded_only_the_next_use_of_the_pid_is_known(self) -> None:
        text = "".join(self.record(kind, when, 5, 4, "vm", name)
                       for when, kind, name in ((1, "fork", ""), (1, "exec", "one"), (4, "fork", ""),
                                                (5, "exec", "two"), (9, "exit", "two")))
        data, _ = self.page(text)
        self.assertEqual((data["process"]["end"], data["process"]["took"]), ([3 * 10**9, 8 * 10**9], [None, 5 * 10**9]))
        self.assertEqual([drawn[1:] for drawn in sorted(self.drawn(text)) if drawn[2] == "exec"],
                         [("one", "exec", 1, 4), ("two", "exec", 5, 9)])
        self.assertRegex(self.load(text, "--stats")[1], r"(?m)^one +1 .* 3\.000 s +3\.000 s ")

    def test_without_forks_a_pid_that_comes_again_is_another_process(self) -> None:
        lives = [(self.record("exec", begin, 5, 4, "vm", name), json.dumps({
            **json.loads(self.record("exit", begin + 1, 5, 4, "vm", name)), "start_ns": begin * 10**9,
            "duration": 1.0}) + "\n") for begin, name in ((1, "one"), (3, "two"))]
        for text in "".join(map("".join, lives)), "".join(end for _, end in lives):
            self.assertIn("2 processes in", self.load(text, "--tree")[1])
            self.assertIn("of 2 programs", self.load(text, "--stats")[1])
            self.assertEqual(self.page(text)[0]["run"]["name"], ["one", "two"])
            self.assertEqual([drawn[1:] for drawn in self.drawn(text)], [("one", "exec", 1, 2), ("two", "exec", 3, 4)])
        self.assertIn("1 process in", self.load(2 * lives[0][1], "--tree")[1])  # the same one twice

    def test_a_start_that_nobody_knows_is_not_made_up(self) -> None:
        text = self.record("exit", 7, 6, 5, "vm", "cc") + self.record("exec", 8, 5, 4, "vm", "make").replace(
            '"rebuilt": false', '"rebuilt": true') + self.record("exit", 9, 5, 4, "vm", "make")
        self.assertEqual([line[33:] for line in self.load(text)[1].splitlines()], [
            "exit 0: cc", "exec make  (from /proc)", "exit 0: make"])
        durations = [json.loads(line).get("duration") for line in self.load(text, "-j")[1].splitlines()]
        self.assertEqual(durations, [None, None, None])

    def test_recordings_of_older_versions_are_read(self) -> None:
        old = self.LINE.replace('"signal": ""', '"signal": null')
        self.assertEqual(self.load(old, "-j"), self.load(self.LINE, "-j"))

    @live
    def test_a_recording_of_execs_and_exits_has_the_tree_too(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trees: list[list[str]] = []
            for options in [], ["-e", "exec,exit"]:
                path = os.path.join(folder, "run.jsonl")
                script = "sleep 0.2; sh -c 'sleep 0.3; sleep 0.1'; exit 2"
                in_process("-j", *options, "-o", path, "--", "sh", "-c", script)
                _, out, _ = in_process("--load", path, "--tree")
                rows = re.sub(r"[░▒▓█]|\d+\.\d+ s|(<=)?\d+[KM] |(?<=^5 processes) .*", "", out, flags=re.M).splitlines()
                trees.append([re.sub(" +", " ", row) for row in rows])
            self.assertEqual(trees[0], trees[1])
            self.assertIn(" 0 └─ sleep 0.1", trees[0])

    def test_machines_are_kept_apart(self) -> None:
        one = {"event": "fork", "time": "2026-11-22T14:32:08.525738Z", "timestamp_ns": 1, "host": "a", "boot_id": "b",
               "pid": 5, "tid": 5, "parent_pid": 4, "parent_tid": 4, "rebuilt": False}
        text = "".join(json.dumps({**one, "host": host, "pid": pid, "tid": pid, "parent_pid": parent}) + "\n"
                       for host in "ab" for pid, parent in ((5, 4), (6, 5)))
        _, out, _ = self.load(text, "--tree")
        self.assertEqual(out.count("  └─ ?\n"), 2)
        self.assertIn("4 processes", out)


@pure
class CompileCommands(unittest.TestCase):
    """--compile-commands: which compiles it has, and how."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)
        self.path = os.path.join(self.folder, "compile_commands.json")

    def record(self, *execs: tuple[int, int, str | None], **changed: Any) -> str:
        """A recording of execs in /b: pid, parent, command line; None if that is not known."""
        return "".join(json.dumps({
            "event": "exec", "timestamp_ns": 1000 + at, "pid": pid, "tid": pid, "parent_pid": parent, "cwd": "/b",
            "cmdline": line and line.split(), "truncated": False, "rebuilt": False, "host": "elsewhere",
            **changed}) + "\n"
            for at, (pid, parent, line) in enumerate(execs))

    def load(self, text: str, *args: str) -> tuple[int, str, list[dict[str, Any]]]:
        """The status, what is said, and what is written of a recording."""
        recording = os.path.join(self.folder, "recording")
        pathlib.Path(recording).write_text(text)
        status, out, err = in_process("--load", recording, "--compile-commands", self.path, *args)
        self.assertEqual(out, "")
        return status, err, json.loads(pathlib.Path(self.path).read_text())

    def files(self, *execs: tuple[int, int, str]) -> list[str]:
        """Which files a recording compiles."""
        pathlib.Path(self.path).write_text("")
        return [entry["file"] for entry in self.load(self.record(*execs))[2]]

    def test_a_source_is_what_the_compiler_takes_for_one(self) -> None:
        for line, files in (
            ("gcc -c a.c", "a.c"), ("cc -o p a.c sub/b.cc x.o -lm", "a.c sub/b.cc"), ("g++ -c ../x/./a.C", "/x/a.C"),
            ("/usr/bin/c++ -S a.cpp", "a.cpp"), ("gcc-12 -c a.i", "a.i"), ("gcc a.S", "a.S"),
            ("x86_64-linux-gnu-gcc-12.2 -c a.c", "a.c"), ("clang++-14 -c a.cc", "a.cc"),
            ("aarch64-linux-gnu-g++ -c a.cc", "a.cc"), ("i686-w64-mingw32-gcc-posix -c a.c", "a.c"),
            ("ccache gcc -c a.c", "a.c"), ("/usr/bin/ccache distcc /opt/clang -c a.c", "a.c"),
            ("gcc -c -x c a.txt -x none b.c b.txt -xc++ c.txt", "a.txt b.c c.txt"), ("gcc -c a.c -x", "a.c"),
            ("gcc -include x.c -I y.c -D z.c -MF w.c -MT v.c -isystem u.c -Xclang t.c -L s.c -o r.c -c a.c", "a.c"),
            ("gcc -c -Ix.c -Dy.c -oz.c -Wp,-MF,w.c --param=v.c -- a.c", "a.c"), ("gcc -c h.h", "h.h"),
            ("gcc -fsyntax-only @args a.c", "a.c"), ("gcc -c @args.c", ""), ("gcc -x c -c -", ""), ("gcc -o", ""),
            ("gcc -E a.c", ""), ("gcc -M a.c", ""), ("gcc -MM -c a.c", ""), ("gcc -### -c a.c", ""), ("gcc a.o", ""),
            ("clang -cc1 -emit-obj a.c", ""), ("clang -cc1as a.s", ""), ("gcc --version", ""), ("gcc", ""),
            ("ccache -s a.c", ""), ("ccache", ""), ("gcc-ar -c a.c", ""), ("clang-format a.c", ""), ("cpp a.c", ""),
            ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1 a.c", ""), ("cc1plus a.cc", ""), ("as a.s", ""), ("ld a.c", ""),
            ("collect2 a.c", ""), ("sh gcc -c a.c", ""), ("rustcc a.c", ""), ("gfortran -c a.f", ""),
        ):
            with self.subTest(line):
                self.assertEqual(self.files((5, 1, line)),
                                 [name if name[0] == "/" else f"/b/{name}" for name in files.split()])

    def test_an_entry_compiles_its_source_alone(self) -> None:
        text = self.record((5, 1, "ccache gcc -Wall a.c -o p b.c x.o -lm -Wl,-s -L /x -Ly -Xlinker z"),
                           (6, 1, "g++ -c ../\u00e4.cc"))
        entries: list[dict[str, Any]] = [
            {"directory": "/b", "file": f"/b/{one}.c", "output": "/b/p",
             "arguments": ["gcc", "-c", "-Wall", *arguments]} for one, arguments in (
                ("a", ["a.c", "-o", "p"]), ("b", ["-o", "p", "b.c"]))]
        entries.append({"directory": "/b", "file": "/\u00e4.cc", "arguments": ["g++", "-c", "../\u00e4.cc"]})
        self.assertEqual(self.load(text), (0, "", entries))
        self.assertIn('"/\u00e4.cc"', pathlib.Path(self.path).read_text(encoding="utf-8"))

    def test_an_option_keeps_its_word(self) -> None:
        for words in ("-G 0", "-A x", "-dumpbase-ext .c", "--config x.cfg", "-Xarch_host -O3", "-isystem-after d",
                      "-Xanalyzer x", "-serialize-diagnostics x.dia", "--include-directory d", "-specs x.specs"):
            found = self.load(self.record((5, 1, f"clang {words} -c a.c x.o")))[2]
            self.assertEqual([entry["arguments"] for entry in found], [["clang", *words.split(), "-c", "a.c"]])

    @unittest.skipUnless(cnproc._rooted(), "the kernel's paths are not those of a chroot")
    def test_a_file_of_two_names_has_one_entry_and_a_link_on_the_way_is_followed(self) -> None:
        os.makedirs(os.path.join(self.folder, "sub/deep"))
        os.symlink("sub/deep", os.path.join(self.folder, "link"))
        for name in "a.c", "sub/a.c":
            pathlib.Path(self.folder, name).touch()
        lines = "gcc -c -DX a.c", "gcc -c ./a.c", "gcc -c -DY a.c", "gcc -c link/../a.c -o link/../a.o"
        for host, other in (os.uname().nodename, "link/../a"), ("elsewhere", "a"):
            found = self.load(self.record(*((at, 1, line) for at, line in enumerate(lines, 5)), host=host,
                                          cwd=self.folder))[2]
            first, second = found
            self.assertEqual((first["arguments"][2], first["file"]), ("-DY", os.path.join(self.folder, "a.c")))
            self.assertEqual((second["file"], second["output"]),
                             tuple(os.path.join(self.folder, f"{other}.{kind}") for kind in "co"))

    def test_what_a_compiler_runs_belongs_to_its_compile(self) -> None:
        for execs in (
            [(5, 1, "ccache gcc -c a.c"), (6, 5, "/usr/bin/gcc -c b.c"), (7, 6, "/x/cc1 b.c")],
            [(5, 1, "ccache gcc -c a.c"), (5, 1, "/usr/bin/gcc -c b.c")],
            [(5, 1, "/usr/lib/ccache/gcc -c a.c"), (6, 5, "gcc -E a.c"), (7, 5, "gcc -c -o x.o b.c")],
            [(5, 1, "distcc gcc -c a.c"), (6, 5, "sh -c x"), (7, 6, "gcc -c b.c")],
            [(4, 1, "sh /usr/bin/gcc -c b.c"), (4, 1, "gcc-12 -c a.c"), (5, 4, "clang -c b.c")],
            [(4, 1, "make gcc"), (5, 4, "sh -c x"), (5, 4, "gcc -c a.c")],
        ):
            with self.subTest(execs=execs):
                self.assertEqual(self.files(*execs), ["/b/a.c"])

    def test_the_last_compile_to_an_output_counts(self) -> None:
        lines = "gcc -DX -c a.c", "gcc -DX -c a.c -o 1", "gcc -c a.c", "gcc -DY -c a.c -o 1", "gcc -c a.c -o 2"
        found = self.load(self.record(*((at, 1, line) for at, line in enumerate(lines, 5))))[2]
        self.assertEqual([" ".join(entry["arguments"]) for entry in found], [*lines[2:]])

    def test_what_is_missing_is_said(self) -> None:
        good, lost = self.record((5, 1, "gcc -c a.c")), json.dumps({"event": "lost", "timestamp_ns": 5, "count": 3})
        for text, status, said in (
            (good + self.record((6, 1, "gcc -c b.c"), (7, 1, "gcc -c c.c"), (8, 1, "gcc c.o"), cwd=None), 1,
             f"{self.path} lacks 2 compiles: the recording does not say in which folder (record with -j --paths)"),
            (good + self.record((6, 1, "gcc -c"), (7, 6, "gcc -c b.c"), (8, 1, "as"), truncated=True), 1,
             f"{self.path} lacks 1 compile: "),
            (good + self.record((6, 1, None), (7, 5, None)), 1, f"{self.path} may lack compiles: the command line of 1 "
             "program is not in the recording"),  # the other is the compiler's own
            (good + self.record(*((pid, 1, name) for pid, name in enumerate(
                ("[gcc]", "[x86_64-linux-gn]", "[ccache]", "[sh]", "[cc1]", "[gcc"), 6))), 1,
             f"{self.path} may lack compiles: the command line of 3 programs is not in the recording"),
            (good + lost, 1, f"events were lost: {self.path} may lack what was compiled then"),
            (good + lost + "\nx", 2, "line 3 is not an event"), (good + "x", 2, "line 2 is not an event"),
        ):
            with self.subTest(said):
                self.assertEqual((said in (found := self.load(text))[1], found[0], len(found[2])), (True, status, 1))
        cases: list[tuple[str, str, str, list[Any]]] = [
            ("", "is empty", "", []), ("[{}]", "has nothing new", ", and is as it was", [{}])]
        for before, said, kept, entries in cases:
            pathlib.Path(self.path).write_text(before)
            self.assertEqual(self.load(self.record((5, 1, "make"))), (
                0, f"python3 cnproc.py: {self.path} {said}: no compiler was started (is all built already?){kept}\n",
                entries))

    def test_filters_choose_what_is_in_it(self) -> None:
        text = self.record((5, 1, "gcc -c a.c"), (6, 1, "gcc -c b.c"))
        for args in ["--only", "b.c"], ["6"]:
            self.assertEqual([entry["file"] for entry in self.load(text, *args)[2]], ["/b/b.c"])
        for args in (["--longer", "1", "true"], ["--wait", "5"], ["--load", self.path], ["-o", self.path, "true"]):
            self.assertEqual(in_process("--compile-commands", self.path, *args)[0], 2)

    @live
    @unittest.skipUnless(cnproc._rooted(), "the kernel's paths are not those of a chroot")
    def test_sources_that_are_there_at_the_end_and_folders(self) -> None:
        script = """
import os, sys
def compile(*words):  # a shell that is called gcc
    os.spawnve(os.P_WAIT, "/bin/sh", ["gcc", "-c", ":", *words], {})
for name in "a.c", "sub/b.c", "sub/c.c", "conftest.c":
    open(name, "w").close()
os.symlink("sub/deep", "link")
compile("conftest.c")
os.remove("conftest.c")
compile("./a.c", "missing.c")
os.chdir("sub")
compile("b.c", "../a.c", "-o", "1")
compile("../link/../c.c")
sys.exit(3)
"""
        os.makedirs(os.path.join(self.folder, "sub/deep"))
        exact = [] if SOURCE == "ebpf" else ["--ptrace"]  # the shells are short
        run = subprocess.run([*CNPROC, "--compile-commands", self.path, *exact, "--", *PYTHON, "-c", script],
                             cwd=self.folder, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        self.assertEqual((run.returncode, run.stderr), (3, ""))
        self.assertEqual([
            (os.path.relpath(entry["directory"], self.folder),
             os.path.relpath(os.path.realpath(entry["file"]), self.folder), "output" in entry)
            for entry in json.loads(pathlib.Path(self.path).read_text())],
            [(".", "a.c", False), ("sub", "sub/b.c", True), ("sub", "a.c", True), ("sub", "sub/c.c", False)])

    @live
    @unittest.skipUnless(SOURCE == "ebpf", f"source {SOURCE} knows the folder")
    def test_a_folder_that_the_kernel_did_not_tell_makes_it_fail(self) -> None:
        deep = os.path.join(self.folder, *["deep"] * 64)
        os.makedirs(deep)
        script = 'import os; os.chdir("' + deep + '"); os.spawnv(os.P_WAIT, "/bin/sh", ["gcc", "-c", ":", "a.c"])'
        run = subprocess.run([*CNPROC, "--compile-commands", self.path, *PYTHON, "-c", script],
                             stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        self.assertEqual((run.returncode, pathlib.Path(self.path).read_text()), (1, "[]\n"))
        self.assertIn(f"{self.path} lacks 1 compile: its folder or command line could not be read", run.stderr)


class Answers(Case):
    """What the command makes of real processes."""

    def setUp(self) -> None:
        super().setUp()
        if EMULATED:
            self.skipTest("it starts many programs, which takes minutes where the processor is emulated")

    @live
    @unittest.skipUnless(SOURCE == "ebpf", "names and folders of short programs are not always known")
    def test_the_file_that_broke_a_build_is_named_first(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in "a", "b", "c":
                os.mkdir(os.path.join(folder, name))
                rules = "".join(f"f{i}.o:\n\t@sh -c 'test f{i}.c != {name}.c -a {name}{i} != b7 || exit 4'\n"
                                for i in range(20))
                names = " ".join(f"f{i}.o" for i in range(20))
                pathlib.Path(folder, name, "Makefile").write_text(f"all: {names}\n{rules}")
            pathlib.Path(folder, "Makefile").write_text("all: a b c\na b c: FORCE\n\t@$(MAKE) -C $@\nFORCE:\n")
            status, out, _ = in_process("--why", "-o", "-", "--", "make", "-s", "-k", "-j2", "-C", folder)
            self.assertEqual(status, 2)
            lines = out.splitlines()
            self.assertRegex(lines[0], rf"^exit 4 after .*test f7.c != b.c.*  \(in {folder}/b\)$")
            self.assertRegex(lines[1], rf"^→ exit 2 after .*make -C b  \(in {folder}\)$")
            _, out, _ = in_process("--tree", "-o", "-", "--", "make", "-s", "-k", "-j2", "-C", folder)
            self.assertRegex(out, "(?m)^.* 4 .*─ sh -c 'test f7.c != b.c")
            self.assertEqual(in_process("--why", "-o", "-", "--", "sh", "-c", "false; true")[:2], (0, ""))

    @live
    def test_bars_and_cpu_show_what_proc_says(self) -> None:
        work = textwrap.dedent("""
            import os, sys, time
            begin, share = time.monotonic(), float(sys.argv[1])
            while time.monotonic() - begin < 0.6:
                turn = time.monotonic()
                while time.monotonic() - turn < 0.02 * share: pass
                time.sleep(0.02 * (1 - share))
            print(sys.argv[1], sum(os.times()[:2]), time.monotonic() - begin, flush=True)
        """)
        with tempfile.TemporaryDirectory() as folder:
            path, tree = os.path.join(folder, "work.py"), os.path.join(folder, "tree")
            pathlib.Path(path).write_text(work)
            run = self.listener(*CNPROC, "--tree", "-o", tree, "--", "sh", "-c", f"""
                for share in 0 0.5 1; do {shlex.join(PYTHON)} {path} $share; done""", stdout=subprocess.PIPE, text=True)
            out, _ = run.communicate(timeout=PATIENCE)
            rows = [line for line in pathlib.Path(tree).read_text().splitlines() if "work.py" in line and "─ " in line]
        self.assertEqual(len(rows), 3)
        for row, told in zip(rows, out.splitlines()):
            cpu, wall = map(float, told.split()[1:])
            bar = re.search("[░▒▓█]+", row)
            assert bar
            if SOURCE == "ebpf":
                self.assertLess(abs(float(row.split()[2]) - cpu), 0.05)
                level = "░▒▓█".index(bar[0][len(bar[0]) // 2])
                self.assertLessEqual(abs(level - min(3, int(4 * cpu / wall))), 1, (row, told))
            else:
                self.assertEqual({*bar[0]}, {"█"})

    @live
    def test_a_recording_names_what_was_there_before_and_has_only_forked(self) -> None:
        daemon = self.python("""
            for line in sys.stdin:
                pid = os.fork()
                if not pid: os._exit(5)
                os.waitpid(pid, 0)
                print(flush=True)
        """)
        self.go(daemon)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "all.jsonl")
            run = self.listener(*CNPROC, "-j", "-o", path)
            eventually(lambda: run.poll() is not None or waits(run.pid, 4))
            self.go(daemon)
            self.ready(daemon)
            eventually(lambda: '"returncode": 5' in pathlib.Path(path).read_text())
            run.send_signal(signal.SIGINT)
            self.assertEqual(run.wait(PATIENCE), 130)
            _, out, _ = in_process("--load", path, "--only", "import ctypes, os, signal")
            self.assertRegex(out, rf"(?m) {daemon.pid} +{os.getpid()}  running for .*import ctypes, os, signal")
            self.assertRegex(out, rf"(?m) {daemon.pid}  exit 5 after .*: \(python")
            _, out, _ = in_process("--load", path, "--stats", "--all")
            self.assertRegex(out, r"(?m)^\(python\S*\) +1 +1 .*← python\S* -c ×1$")

    @live
    def test_statistics_count_the_failure_of_what_was_there_before(self) -> None:
        child = self.start("was-there-before", "1000", executable=shutil.which("sleep"))
        witness = self.watcher(child.pid)  # it is older, so the kernel tells it later
        run = self.listener(*CNPROC, "--stats", "--all", stdout=subprocess.PIPE, text=True)
        eventually(lambda: run.poll() is not None or waits(run.pid, 4))
        child.kill()
        self.until(witness, lambda event: isinstance(event, Exit))
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=PATIENCE)
        self.assertRegex(out, r"(?m)^was-there-before +0 +1 ")
        shares = [int(share) for share in re.findall(r" (\d+)%", out)]
        self.assertTrue(all(share <= 100 for share in shares), out)

    @live
    @unittest.skipUnless(SOURCE == "ebpf", "names of short programs are not always known")
    def test_an_exit_whose_exec_had_no_line_has_the_whole_command_line(self) -> None:
        _, out, _ = in_process("-e", "nonzero_exit", "-o", "-", "--", "sh", "-c", "sh -c 'exit 3' a b.c; exit 4")
        self.assertEqual([line.split(": ", 1)[1] for line in out.splitlines()],
                         ["sh -c 'exit 3' a b.c", "sh -c $'sh -c \\'exit 3\\' a b.c; exit 4'"])


class CommandLine(Case):
    """python3 cnproc.py, as a user runs it."""

    program: tuple[str, ...] = ()
    in_guests = {"test_a_command_s_output_and_status_are_its_own", "test_json_and_the_same_tree_from_the_recording",
                 "test_text_of_processes_that_are_there", "test_wait_for_several_ends_with_the_last_that_failed",
                 "test_programs_of_the_whole_machine_have_their_parents", "test_ctrl_c",
                 "test_ctrl_c_on_a_terminal_reaches_the_command_once"}

    def setUp(self) -> None:
        super().setUp()
        if EMULATED and self._testMethodName not in self.in_guests:
            self.skipTest("it starts many programs, which takes minutes where the processor is emulated")

    def cnproc(self, *args: object, **options: Any) -> subprocess.Popen[Any]:
        def as_from_a_terminal() -> None:  # a shell ignores some for what it starts in the background, as does nohup
            for number in signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP:
                signal.signal(number, signal.SIG_DFL)

        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
                   "preexec_fn": as_from_a_terminal, **options}
        return self.listener(*(self.program or CNPROC), *map(str, args), **options)

    def output(self, *args: object, status: int = 0, **options: Any) -> tuple[str, str]:
        run = self.cnproc(*args, **options)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual(run.returncode, status, err)
        return out, err

    def follow(self, script: str, *args: str) -> tuple[subprocess.Popen[Any], list[str]]:
        """The lines for a script, from its start on."""
        child = self.shell(script)
        run = self.cnproc(*args, child.pid)
        self.settle(run)
        self.go(child)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err), (0, ""))
        return child, out.splitlines()

    def settle(self, run: subprocess.Popen[Any]) -> None:
        """Wait until it waits for events. Twice a second it looks whether anybody reads what it writes."""
        eventually(lambda: run.poll() is not None or waits(run.pid, 4))
        self.assertIsNone(run.poll())

    def in_terminal(self, *args: str, keys: Iterable[tuple[bytes, bytes]] = (), late: bool = False,
                    **environ: str) -> tuple[str, int]:
        """What it writes to a terminal, and its status; keys are typed when the text before them has come.

        late: it learns of the first keys when they have ended its command.
        """
        master, slave = os.openpty()
        env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        env.update({"TERM": "xterm", "COLUMNS": "80", **environ})
        run = self.start(*(self.program or CNPROC), *args, stdin=slave, stdout=slave, stderr=slave, env=env,
                         start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        shown = b""
        with open(master, "r+b", buffering=0) as terminal:
            for text, typed in (*keys, (None, b"")):
                while text is None or text not in shown:
                    self.assertTrue(select.select([terminal], [], [], PATIENCE)[0], shown)
                    try:
                        part = terminal.read(4096)
                    except OSError:  # it has closed the terminal
                        part = b""
                    if not part:
                        break
                    shown += part
                with self.held(run) if late else contextlib.nullcontext():
                    terminal.write(typed)
                late = False
            return shown.decode(), run.wait(PATIENCE)

    @staticmethod
    @contextlib.contextmanager
    def held(run: subprocess.Popen[Any]) -> Generator[None, None, None]:
        """Stop it, and let it go on when its command has ended."""
        command, = children(run.pid)
        run.send_signal(signal.SIGSTOP)
        eventually(lambda: state(run.pid) == "T")
        yield
        eventually(lambda: state(command) == "Z")
        run.send_signal(signal.SIGCONT)

    def test_wrong_arguments_get_one_line_and_status_2(self) -> None:
        with tempfile.NamedTemporaryFile() as mark:
            for args in (["0"], ["-e", "fork,nothing", "1"], ["--what"], ["-d", "x"], ["-d", "-1"], ["-5"], [""],
                         ["1.5"], ["1,2"], ["--"], ["1", "--", "rm", mark.name], ["1", "rm", mark.name],
                         ["-o"], ["-o", "--", "rm", mark.name],
                         ["-o", "/nonexistent/x", "rm", mark.name], ["--trace", "/nonexistent/x", "rm", mark.name],
                         ["--wait"], ["--wait", "--tree", "1"], ["--wait", "rm", mark.name], ["--wait", "--why", "1"],
                         ["--load", "/nonexistent"], ["--load", mark.name, "rm", mark.name],
                         ["--load", mark.name, "--load", mark.name], ["--load", "-", "--load", "-"],
                         ["--t", "rm", mark.name], ["-jx", "rm", mark.name], ["-j=1", "rm", mark.name],
                         ["-v", "1"], ["--all"], ["--all", "-j", "rm", mark.name], ["--sort", "cpu", "--tree", "1"],
                         ["--stats", "--sort", "x", "rm", mark.name], ["--why"], ["--why", "1"], ["--no-leftovers"],
                         ["--no-leftovers", "--no-follow", "rm", mark.name],
                         ["--no-leftovers", "-d", "0", "rm", mark.name], ["--live", "rm", mark.name],
                         ["--live", "--tree", "1"], ["--live", "--tree", "rm", mark.name],
                         ["--only", "(", "rm", mark.name], ["--only", f"a{{{9 ** 99}}}", "rm", mark.name],
                         ["--cgroup", "(" * 9999 + ")" * 9999, "rm", mark.name]):
                with self.subTest(args=args):
                    status, out, err = in_process(*args)
                    self.assertEqual((status, out, err.count("\n")), (2, "", 1))
                    self.assertTrue(err.startswith("python3 cnproc.py: "), err)
            self.assertTrue(os.path.exists(mark.name))

    @live
    def test_errors_have_no_control_characters(self) -> None:
        for args in ["--load", "/no/\x1b[31m\n"], ["-o", "/no/\x1b[31m\n", "true"], ["--what\x1b[31m\n"]:
            status, _, err = in_process(*args)
            self.assertEqual((status, err.count("\n"), err[:-1].isprintable()), (2, 1, True))
            self.assertIn(r"\x1b[31m\n", err)
        _, err = self.output("no\x1b[31m", status=127)
        self.assertEqual(err, "python3 cnproc.py: no\\x1b[31m: command not found\n")
        for words, hint in (
            (["cd", "/"], ": a shell has it: sh -c 'cd /'"), (["no-such", "a b"], ""),
            (["source", "x"], ": a shell has it: bash -c 'source x'"), (["FOO=1", "true"], ": write env FOO=1 true"),
            (["echo hi; false"], ": leave out the quotes, or have a shell take it: sh -c 'echo hi; false'"),
        ):
            with unittest.mock.patch.dict(os.environ, {"PATH": "/nowhere"}):
                status, _, err = in_process(*words)
            self.assertEqual((status, err), (127, f"python3 cnproc.py: {words[0]}: command not found{hint}\n"))

    def test_version_and_help(self) -> None:
        said = subprocess.check_output([sys.executable, str(HERE / "cnproc.py"), "-V"], text=True, timeout=PATIENCE)
        self.assertEqual(said, f"cnproc {cnproc.__version__}\n")
        self.output("--what", status=2)
        _, out, _ = in_process("-h")
        for part in "--no-follow", "nonzero_exit", "--duration", "usage: python3 cnproc.py", "COMMAND [ARG":
            self.assertIn(part, out)
        self.assertEqual([line for line in out.splitlines() if len(line) > 79], [])
        examples = re.findall(r"(?m)^  python3 cnproc\.py (.*?)  ", out)
        self.assertEqual(len(examples), 5)
        for example in examples:
            cnproc._arguments(example.split())
        self.assertLess(out.index("examples:"), out.index("--events"))

    @live
    def test_a_command_s_output_and_status_are_its_own(self) -> None:
        for script, status in ("echo x; exit 3", 3), ("echo x; kill -TERM $$", 128 + 15), ("echo x", 0):
            out, err = self.output("--", "sh", "-c", script, status=status)
            self.assertEqual(out, "x\n")
            said = {3: "exit 3", 0: "exit 0"}.get(status, "killed by SIGTERM")
            lines = [line[33:] for line in err.splitlines()]
            lines = [line for line in lines if line != "fork: (cnproc)"]  # the exec took over 0.1 s
            known = SOURCE == "ebpf"  # else it can have ended before its name was read
            self.assertRegex(lines[0], "^exec " + (re.escape(f"sh -c '{script}'") + "$" if known else ""))
            self.assertRegex(lines[1], f"^{said} after \\S+ s: " + ("sh$" if known else ""))
            self.assertEqual(len(lines), 2)
        run = self.cnproc("--", "cat", stdin=subprocess.PIPE)
        out, err = run.communicate("through\n", timeout=PATIENCE)
        self.assertEqual((run.returncode, out), (0, "through\n"))

    @live
    def test_a_command_that_cannot_be_started(self) -> None:
        for command, status in ("/nonexistent", 127), ("nonexistent-command", 127), ("/etc/passwd", 126), ("/", 126):
            out, err = self.output("--", command, status=status,
                                   env={**os.environ, "PATH": os.defpath})
            self.assertEqual((out, err.count("\n")), ("", 1))
            self.assertIn(command, err)
            self.assertEqual("command not found" in err, command == "nonexistent-command")
        with tempfile.TemporaryDirectory() as folder:
            for text, said in (("#!/no/such -x\n", "its interpreter /no/such is missing"),
                               ("#! \t/bin/sh\r\n", r"its interpreter /bin/sh\r is missing")):
                script = pathlib.Path(folder, "script")
                script.write_text(text)
                script.chmod(0o755)
                for command, path in (str(script), os.defpath), ("script", folder):
                    _, err = self.output(command, status=127, env={**os.environ, "PATH": path})
                    self.assertEqual(err, f"python3 cnproc.py: {command}: {said}\n")

    @live
    def test_a_command_needs_no_dashes_and_has_its_options(self) -> None:
        for args, shown in ((["-e", "exit", "sh", "-c", "echo $0 $*; exit 3", "--tree", "-d", "--", "-j"],
                             "--tree -d -- -j\n"), (["sh", "-c", "echo $*; exit 3", "--", "-h"], "-h\n")):
            out, err = self.output(*args, status=3)
            self.assertEqual(out, shown)
            self.assertIn("exit 3 after", err)
        with tempfile.TemporaryDirectory() as folder:
            number = pathlib.Path(folder, "1234")
            number.write_text("#!/bin/sh\nexit 7\n")
            number.chmod(0o755)
            self.output("--", "1234", status=7, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})

    @live
    def test_who_goes_on_when_the_command_has_ended_is_named(self) -> None:
        runs: list[tuple[subprocess.Popen[str], int, int, int, str]] = []
        for script, status, said in ("exit 4", 4, "has ended with 4"), ("kill $$", 143, "was killed by SIGTERM"):
            for number in 1, 7:
                read, write = os.pipe()
                starts = f"cat <&{read} >/dev/null 2>&1 & echo $!; " * number
                run = self.cnproc("-o", os.devnull, "sh", "-c", starts + script, pass_fds=[read])
                os.close(read)
                runs.append((run, write, number, status, said))
        for run, write, number, status, said in runs:
            assert run.stdout and run.stderr
            pids = [int(run.stdout.readline()) for _ in range(number)]
            line = run.stderr.readline()
            more = "" if number == 1 else " and 2 more"
            self.assertEqual(line, f"python3 cnproc.py: sh {said}; waiting for {number}: " + ", ".join(
                f"{pid} cat" for pid in pids[:5]) + f"{more} (ctrl-C ends this, --no-follow avoids it)\n")
            self.assertIsNone(run.poll())
            os.close(write)
            self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (status, ""))

    @live
    def test_json_on_standard_error_is_not_disturbed(self) -> None:
        read, write = os.pipe()
        run = self.cnproc("-j", "sh", "-c", f"(read x; sleep 1.2; exit 6) <&{read} & exit 0", pass_fds=[read])
        os.close(read)
        os.write(write, b"\n")  # longer than the second after which others are told
        os.close(write)
        _, err = run.communicate(timeout=PATIENCE)
        self.assertIn(6, [json.loads(line).get("returncode") for line in err.splitlines()])
        run = self.cnproc("-j", "-d", "0")
        self.assertEqual((run.communicate(timeout=PATIENCE)[1], run.returncode), ("", 0))
        self.assertIn("no PID and no COMMAND: watching every", self.output("-d", "0")[1])

    @live
    def test_with_threads_the_end_has_the_command_s_status(self) -> None:
        code = "import ctypes, os, sys, threading, time\nlibc = ctypes.CDLL(None)\n" + ALONE
        run = self.cnproc("-t", "-e", "exit", *PYTHON, "-c", code, stdin=subprocess.PIPE)
        self.ready(run)
        _, err = run.communicate("\n", timeout=PATIENCE)
        self.assertEqual(run.returncode, 7)
        self.assertRegex(err.splitlines()[-1], r"  exit 7 after \d")

    @live
    def test_no_leftovers_fails_if_a_process_outlives_the_command(self) -> None:
        for code, status in (0, 1), (4, 4):
            read, write = os.pipe()
            options = "-o", os.devnull, "--no-leftovers", "sh", "-c"
            out, err = self.output(*options, f"cat <&{read} >/dev/null 2>&1 & echo $!; exit {code}", pass_fds=[read],
                                   status=status)
            os.close(read)
            self.assertEqual(err, f"python3 cnproc.py: left behind by sh: {int(out)} cat\n")
            self.assertEqual(state(int(out)), "S")  # it runs on
            os.close(write)
            # Who ends with the command, or soon, is not left behind.
            _, err = self.output(*options, f"sleep 0.2 & exit {code}", status=code)
            self.assertEqual(err, "")

    @live
    def test_who_is_about_to_end_is_no_leftover_but_who_it_starts_is(self) -> None:
        read, write = os.pipe()
        os.set_inheritable(read, True)
        real = cnproc._stat
        looked: list[int] = []

        def stat(pid: int) -> Any:
            found = real(pid)
            if found and b"cat" in (cnproc._raw_cmdline(pid) or b""):
                looked.append(pid)
                found = found._replace(flags=found.flags | cnproc._PF_EXITING * (len(looked) == 1))
            return found

        with unittest.mock.patch.object(cnproc, "_stat", stat):
            status, _, err = in_process("-e", "sid", "--no-leftovers", "sh", "-c", f"cat <&{read} & exit 0")
        os.close(read)
        os.close(write)
        self.assertEqual((status, len(looked)), (1, 2))
        self.assertRegex(err, rf"left behind by sh: {looked[0]} cat\n$")

    @live
    def test_an_early_ctrl_c_is_quiet(self) -> None:
        ctrl_c = "import os\nos.write(1, b'here')\nos.kill(os.getpid(), 2)\n"
        for module in "ctypes", "mmap", "argparse":  # while each is imported
            with self.subTest(module), tempfile.TemporaryDirectory() as folder:
                pathlib.Path(folder, module + ".py").write_text(ctrl_c)
                code = f"import runpy, sys; sys.argv[1:] = ['-V']; sys.path.insert(0, {folder!r})\n" \
                       f"sys.modules.pop({module!r}, 0); runpy.run_path({CNPROC[-1]!r}, run_name='__main__')"
                run = subprocess.run([*PYTHON, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     timeout=PATIENCE)
                self.assertEqual((run.returncode, run.stdout, run.stderr), (-signal.SIGINT, b"here", b""))

    @live
    def test_ctrl_c_leaves_the_summary_a_line_of_its_own(self) -> None:
        def lines(shown: str, width: int) -> list[str]:
            """What a terminal shows of it: a line that is full is continued only by one more character."""
            rows, column = [""], 0
            for char in re.sub(r"\x1b\[[\d;]*[mK]", "", shown):
                if char == "\n":
                    rows.append("")
                elif char == "\r":
                    column = 0
                else:
                    if column == width:
                        rows.append("")
                        column = 0
                    rows[-1] = rows[-1][:column].ljust(column) + char + rows[-1][column + 1:]
                    column += 1
            return [row.rstrip() for row in rows]

        for script, ready, above in (("echo rea''dy", b"ready\r\n", "^C"),
                                     ("stty -echo; echo rea''dy", b"ready\r\n", "ready"),
                                     ("printf rea''dy", b"ready", "ready^C")):
            shown, status = self.in_terminal("--tree", "sh", "-c", f"{script}; exec sleep 100",
                                             keys=[(ready, b"\x03")])
            rows = lines(shown, 80)
            at = next(i for i, row in enumerate(rows) if re.match(" +TIME .*COMMAND$", row))
            self.assertEqual((rows[at - 1], status), (above, 130), rows)

    @live
    def test_it_ends_with_the_last_descendant_or_with_no_follow_with_the_command(self) -> None:
        for options, ends in ([], 2), (["--no-follow"], 1):
            _, err = self.output(*options, "--", "sh", "-c", "sleep 0.3 >/dev/null 2>&1 & exit 4", status=4)
            self.assertEqual(len(re.findall("  exit ", err)), ends)
            self.assertIn("exit 4 after", err)

    @live
    def test_the_command_has_the_descriptors_that_we_were_given(self) -> None:
        read, write = os.pipe()
        with open(read) as file, open(write, "w"):
            self.output("--", "sh", "-c", f"echo through >&{write}", pass_fds=[write])
            self.assertEqual(file.readline(), "through\n")

    @live
    def test_signals_go_to_the_command_which_decides(self) -> None:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT:
            with self.subTest(number=number):
                code = (f"signal.signal({int(number)}, lambda *_: sys.exit(9))\nprint(flush=True)\n"
                        "while True: time.sleep(0.1)")
                run = self.cnproc("--", *PYTHON, "-c", "import signal, sys, time\n" + code,
                                  start_new_session=True)
                self.ready(run)
                run.send_signal(number)
                _, err = run.communicate(timeout=PATIENCE)
                self.assertEqual(run.returncode, 9, err)
                self.assertIn("exit 9", err)

    @live
    def test_ctrl_c_on_a_terminal_reaches_the_command_once(self) -> None:
        code = ("import signal, time; n = []; signal.signal(2, lambda *_: n.append(1)); print('ready', flush=True)\n"
                "while not n: time.sleep(0.01)\n"
                "time.sleep(0.5) or print('got', len(n), flush=True)")
        shown, status = self.in_terminal("--", *PYTHON, "-c", code, keys=[(b"ready", b"\x03")])
        self.assertIn("got 1", shown)
        self.assertEqual(status, 0)
        shown, status = self.in_terminal("--", "sleep", "100", keys=[(b"exec sleep 100", b"\x03")])
        self.assertIn("killed by SIGINT", shown)
        self.assertEqual(status, 130)

    @live
    def test_ctrl_c_while_the_command_is_being_started_reaches_it_once(self) -> None:
        code = ("import signal, time; n = []; signal.signal(2, lambda *_: n.append(1)); print('ready', flush=True)\n"
                "while not n: time.sleep(0.01)\n"
                "time.sleep(0.5) or print('got', len(n), flush=True)")
        slow = textwrap.dedent(f"""
            import os, sys, time
            sys.path.insert(0, {str(HERE)!r})
            import cnproc
            popen, on_signal, heard = cnproc.Watcher.popen, cnproc._Command.on_signal, []
            def slow(*args, **options):  # returns when a signal has come
                process = popen(*args, **options)
                end = time.monotonic() + {PATIENCE}
                while not heard and time.monotonic() < end:
                    time.sleep(0.01)
                return process
            cnproc.Watcher.popen = slow
            cnproc._Command.on_signal = lambda *args: [on_signal(*args), heard.append(1)]
            os._exit(cnproc.main())""")
        with unittest.mock.patch.object(self, "program", (*PYTHON, "-c", slow)):
            shown, status = self.in_terminal("--", *PYTHON, "-c", code, keys=[(b"ready", b"\x03")])
        self.assertIn("got 1", shown)
        self.assertEqual(status, 0)

    @live
    def test_ctrl_c_that_ends_the_command_leaves_who_ignores_it_followed(self) -> None:
        script = "trap '' INT; (read x </dev/tty; exit 4) & trap - INT; echo rea''dy; exec sleep 100"
        shown, status = self.in_terminal("--", "sh", "-c", script, late=True,
                                         keys=[(b"ready", b"\x03"), (b"killed by SIGINT", b"\n")])
        self.assertIn("exit 4", shown.partition("killed by SIGINT")[2])
        self.assertEqual(status, 130)

    @live
    def test_a_signal_ends_it_once_the_command_s_end_has_been_heard(self) -> None:
        for again in False, True:
            with cnproc.Watcher() as watcher, unittest.mock.patch.object(cnproc, "_on_terminal", lambda: False):
                command, processes = cnproc._Command(["true"]), cnproc._Processes(None, None, look=False)
                self.assertEqual(command.start(watcher, processes, What.LIFE, True), 0)
                assert command.process
                command.process.wait()
                command.watcher = unittest.mock.Mock(waiting=True)
                command.on_signal(signal.SIGTERM, None)
                command.stop()
                if not again:
                    for event in self.until(watcher, lambda event: isinstance(event, Exit)):
                        processes.add(event)
                with self.assertRaises(SystemExit) as end:
                    if again:
                        command.on_signal(signal.SIGTERM, None)
                    command.stop()
                self.assertEqual(end.exception.code, 128 + signal.SIGTERM)

    @live
    def test_once_the_command_has_ended_a_signal_leaves_its_descendants_alone(self) -> None:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            with self.subTest(number=number), tempfile.NamedTemporaryFile() as events:
                run = self.cnproc("-o", events.name, "--", "sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!; exit 4",
                                  start_new_session=True)
                assert run.stdout
                pid = int(run.stdout.readline())
                try:
                    eventually(lambda: b"exit 4 after" in events.read() or events.seek(0))
                    run.send_signal(number)
                    _, err = run.communicate(timeout=PATIENCE)
                    self.assertEqual((run.returncode, err, state(pid) in ("R", "S")), (4, "", True))
                finally:
                    os.kill(pid, signal.SIGKILL)

    @live
    def test_the_status_is_the_command_s_though_its_first_thread_left_with_another(self) -> None:
        code = "import ctypes, os, threading\nlibc = ctypes.CDLL(None)\n" + THREADS + """
def run():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    os._exit(9)
thread(run)
leave()
"""
        self.output("-t", "--", *PYTHON, "-c", code, status=9)

    @live
    def test_the_status_is_the_command_s_though_sigchld_is_ignored(self) -> None:
        for script, status in ("exit 5", 5), ("kill -9 $$", 137):
            self.output("--", "sh", "-c", script, status=status,
                        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))

    @live
    def test_with_threads_ctrl_c_reaches_a_command_whose_first_thread_has_left_once(self) -> None:
        with cnproc.Watcher() as watcher, unittest.mock.patch.object(cnproc, "_on_terminal", lambda: True):
            command, processes = cnproc._Command(["sleep", "60"]), cnproc._Processes(None, None, look=False)
            self.assertEqual(command.start(watcher, processes, What.LIFE, True), 0)
            assert command.process
            processes.add(ended(command.process.pid))
            command.on_signal(signal.SIGINT, None)
            command.process.terminate()
            self.assertEqual(command.status(), 128 + signal.SIGTERM)

    @live
    def test_ctrl_c_before_the_command_is_there_is_sent_on(self) -> None:
        with cnproc.Watcher() as watcher, unittest.mock.patch.object(cnproc, "_on_terminal", lambda: True):
            command, popen = cnproc._Command(["sleep", "60"]), watcher.popen

            def interrupted(*args: Any, **options: Any) -> Any:
                command.on_signal(signal.SIGINT, None)
                return popen(*args, **options)

            with unittest.mock.patch.object(watcher, "popen", interrupted):
                self.assertEqual(command.start(watcher, cnproc._Processes(None, None, look=False), What.LIFE, True), 0)
            self.assertEqual(command.status(), 128 + signal.SIGINT)

    @live
    def test_a_signal_before_the_command_is_started_ends_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            runs = [(self.cnproc(option, fifo, "echo", "x"), number) for option, number in (
                ("-o", signal.SIGINT), ("--trace", signal.SIGTERM), ("--html", signal.SIGHUP))]
            eventually(lambda: all(
                "wait_for_partner" in pathlib.Path(f"/proc/{run.pid}/wchan").read_text() for run, _ in runs))
            for run, number in runs:
                run.send_signal(number)
                self.assertEqual((run.communicate(timeout=PATIENCE), run.returncode), (("", ""), 128 + number))

    @live
    def test_a_live_tree_changes_in_place_and_ends_as_the_usual_one(self) -> None:
        script = "echo one; read x; echo two; exit 3"
        text, status = self.in_terminal("--tree", "--live", "sh", "-c", script, LINES="24", keys=[(b"running", b"\n")])
        self.assertEqual(status, 3)
        grown, _, final = text.rpartition("\x1b[r")  # the terminal is whole again
        self.assertIn("\x1b[1;12r", grown)            # what the command writes scrolls above the tree
        self.assertRegex(grown, r"running.*  sh -c 'echo one; read x")
        self.assertRegex(re.sub(r"\x1b\[\d*m", "", final), r"(?s)COMMAND\r\n.* 3  .*  sh -c 'echo one.*failed")
        self.assertNotIn("running", final)

    @live
    def test_a_full_screen_program_has_the_terminal(self) -> None:
        code = ("import sys, termios, tty; old = termios.tcgetattr(0); tty.setraw(0); "
                "print('raw', end='', flush=True); key = sys.stdin.read(1); termios.tcsetattr(0, 0, old); "
                "sys.exit(ord(key))")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "events")
            shown, status = self.in_terminal("-o", path, "--", *PYTHON, "-c", code, keys=[(b"raw", b"\x03")])
            self.assertEqual((shown, status), ("raw", 3))
            self.assertIn("exit 3 after", pathlib.Path(path).read_text())

    @live
    def test_a_terminal_gets_a_header_colours_and_lines_cut_to_its_width(self) -> None:
        shown, status = self.in_terminal("--", "sh", "-c", "exit 3" + " " * 100)
        lines = shown.replace("\r\n", "\n").splitlines()
        self.assertEqual((len(lines), status), (3, 3))
        self.assertRegex(lines[0], "TIME +PID +PARENT  EVENT")
        self.assertIn("\x1b[31mexit 3\x1b[0m", lines[2])
        plain = [re.sub("\x1b\\[\\d*m", "", line) for line in lines]
        self.assertLessEqual(len(plain[1]), 80)
        if SOURCE == "ebpf":  # else it can have ended before its name was read
            self.assertTrue(plain[1].endswith("…"), plain)

    @live
    def test_stopping_and_going_on_as_a_job(self) -> None:
        run = self.cnproc("--", "sh", "-c", "echo; read x", stdin=subprocess.PIPE, start_new_session=True)
        self.ready(run)
        os.killpg(run.pid, signal.SIGSTOP)
        eventually(lambda: state(run.pid) in "Tt")  # t while its first thread is traced, as it starts the command
        os.killpg(run.pid, signal.SIGCONT)
        run.communicate("x\n", timeout=PATIENCE)
        self.assertEqual(run.returncode, 0)

    @live
    def test_text_of_processes_that_are_there(self) -> None:
        child, lines = self.follow("sh -c 'sleep 0.6; exit 3' ' a b\x1b[31m'; kill -9 $$")
        said = [re.findall(r"^\d\d:\d\d:\d\d\.\d{6} +(\d+) +(\d+)  (.*)$", line)[0] for line in lines]
        self.assertRegex(said[0][2], r"^running for \d+\.\d{3} s: sh -c \$'echo; read go; ")
        self.assertEqual((int(said[0][0]), int(said[0][1])), (child.pid, os.getpid()))
        self.assertEqual(said[1][1:], (str(child.pid), r"exec sh -c 'sleep 0.6; exit 3' $' a b\e[31m'"))
        self.assertEqual(said[2][2], "exec sleep 0.6")
        ends = "\n".join(sorted(end for _, _, end in said[3:]))  # a parent can be woken before its child's end is told
        self.assertRegex(ends, r"\Aexit 0 after \d\.\d{3} s: sleep\nexit 3 after \d\.\d{3} s: sh\n"
                               r"killed by SIGKILL after \d+\.\d{3} s: sh\Z")

    @live
    def test_what_is_there_comes_first_in_the_order_of_the_tree(self) -> None:
        child = self.shell("sleep 99 & sh -c 'sleep 98 & sleep 97' & echo; read go")
        self.go(child)
        self.ready(child)
        eventually(lambda: sorted(len(children(pid)) for pid in children(child.pid)) == [0, 2])
        run = self.cnproc("-d", "0.2", child.pid)
        out, _ = run.communicate(timeout=PATIENCE)
        said = [line.split()[1:3] for line in out.splitlines()]
        self.assertEqual(len(said), 5)
        seen = {said[0][1]}
        for pid, parent in said:
            self.assertIn(parent, seen)
            seen.add(pid)
        times = [line.split()[0] for line in out.splitlines()]
        self.assertEqual(times, sorted(times))
        for pid in (pid for pid, _ in said[1:]):
            os.kill(int(pid), signal.SIGKILL)

    @live
    def test_json_and_the_same_tree_from_the_recording(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "run.jsonl")
            script = "/bin/true; (exit 3); sh -c 'sleep 0.5; kill -9 $$' & wait; exec sleep 0.6"
            out, err = self.output("-j", "-o", path, "--tree", "--stats", "--", "sh", "-c", script)
            lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
            for shown in lines:
                self.assertIsNone(conforms(shown), shown)
                self.assertEqual(shown["host"], socket.gethostname())
            again, _ = self.output("--load", path, "--tree", "--stats")
            self.assertEqual(again, err)
            self.assertRegex(err, r"(?m) 0  [░▒▓█]+ *  sh -c \$'.* → sleep 0.6$")
            self.assertEqual(out, "")
        execs = {shown["pid"]: shown for shown in lines if shown["event"] == "exec"}
        ends = {shown["pid"]: shown for shown in lines if shown["event"] == "exit"}
        killed = next(end for end in ends.values() if end["signal"])
        self.assertEqual((killed["signal"], killed["returncode"], killed["cmdline"][:2]), ("SIGKILL", -9, ["sh", "-c"]))
        begin, end = (next(shown for shown in lines if (shown["event"], shown["pid"]) == (kind, killed["pid"]))
                      for kind in ("fork", "exit"))
        self.assertAlmostEqual(killed["duration"], (end["timestamp_ns"] - begin["timestamp_ns"]) / 1e9)
        self.assertEqual(execs[killed["pid"]]["parent_pid"], begin["parent_pid"])

    @live
    @unittest.skipIf(EMULATED or not (shutil.which("gcc") and shutil.which("make")), "takes gcc, make and time")
    def test_every_program_of_a_build_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for i in range(40):
                pathlib.Path(folder, f"f{i}.c").write_text(f"int f{i}(int x) {{ return x * {i}; }}\n")
            pathlib.Path(folder, "Makefile").write_text(
                "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\tgcc -c -o $@ $<\n")
            path = os.path.join(folder, "run.jsonl")
            _, err = self.output("-j", "-o", path, "--tree", "--", "make", "-C", folder, "-j2")
            lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
        self.assertRegex(err, rf"(?m) 0  [░{'█' * (SOURCE != 'ebpf')}]+  make -C ")
        self.assertRegex(err, r"(?m)gcc ×\d+")
        self.assertRegex(err, r"(?m)^\d+ processes in .*; nothing failed; 0 events lost$")
        names = [shown["cmdline"] for shown in lines if shown["event"] == "exec"]
        gcc = sorted(" ".join(words) for words in names if words and words[0] == "gcc")
        if SOURCE == "ebpf":
            self.assertNotIn(None, names)
            self.assertEqual(gcc, sorted(f"gcc -c -o f{i}.o f{i}.c" for i in range(40)))
        self.assertGreaterEqual(len(names), 121)

    @live
    def test_a_trace_is_whole_or_was_killed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "trace")
            self.output("--trace", path, "--", "sh", "-c", "/bin/true; /bin/false", status=1)
            self.assertEqual(sum(record["ph"] == "B" for record in json.loads(path.read_text())), 6)

    @live
    def test_a_command_that_cannot_be_started_leaves_the_files_as_they_were(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for option, begins in (
                    ("--html", "<!doctype html>"), ("--trace", "["), ("--compile-commands", "["), ("-o", "")):
                old, new, kept = (pathlib.Path(folder, f"{name}{option}") for name in ("old", "new", "kept"))
                for path in old, kept:
                    path.write_text(begins + "what was there before " * 9000)
                for path in old, new:
                    self.output(option, path, "--", "/nonexistent", status=127)
                self.assertEqual((old.read_text()[len(begins):][:8], new.exists()), ("what was", False))
                self.output(option, kept, "--", "true")
                self.assertEqual("there before" in kept.read_text(), option == "--compile-commands")  # it has nothing

    @live
    def test_a_page_has_every_process(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "page")
            self.output("--html", path, "--", "sh", "-c", "/bin/true; /bin/sh -c 'exit 5'; exit $?", status=5)
            data = page_data(path.read_text())
        codes = dict(zip(data["process"]["pid"], data["process"]["code"]))
        self.assertEqual(sorted(codes.values()), [0, 5 << 8, 5 << 8])
        self.assertEqual([len(chain) for chain in data["chains"]], [2])
        self.assertEqual(data["open"], "still running when the watch ended")
        if SOURCE == "ebpf":
            self.assertEqual(sorted(data["run"]["command"])[:2], ["/bin/sh -c 'exit 5'", "/bin/true"])

    @live
    def test_statistics_on_interrupt(self) -> None:
        child = self.shell("for i in 1 2 3; do /bin/false; done; echo done; sleep 60")
        run = self.cnproc("--stats", child.pid)
        self.settle(run)
        self.go(child)
        self.ready(child)
        eventually(lambda: children(child.pid))
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err), (130, ""))
        if SOURCE == "ebpf":
            self.assertRegex(out, r"(?m)^false +3 +3 .*← sh -c ×3$")

    @live
    def test_wait_is_silent_and_ends_with_the_process_s_status(self) -> None:
        for script, status, said in (
                ("exit 7", 7, "exit 7"), ("kill -9 $$", 137, "killed by SIGKILL"), ("exit 0", 0, "exit 0")):
            for verbose in False, True:
                child = self.shell(script)
                run = self.cnproc("--wait", *["-v"] * verbose, child.pid)
                self.settle(run)
                self.go(child)
                child.wait()
                out, err = run.communicate(timeout=PATIENCE)
                self.assertEqual((run.returncode, out, err), (status, f"{child.pid} {said}\n" * verbose, ""))

    @live
    def test_wait_for_several_ends_with_the_last_that_failed(self) -> None:
        children = [self.shell(f"exit {code}") for code in (3, 5, 0)]
        run = self.cnproc("--wait", "-v", *(child.pid for child in children))
        assert run.stdout
        for i, child in enumerate(children):
            self.settle(run)
            self.go(child)
            child.wait()
            self.assertEqual(run.stdout.readline(), f"{child.pid} exit {(3, 5, 0)[i]}\n")
        self.assertEqual(run.wait(PATIENCE), 5)
        _, err = self.output("--wait", children[0].pid, status=1)
        self.assertEqual(err, f"python3 cnproc.py: no process {children[0].pid}: it has ended, or never was\n")
        child = self.shell("exit")
        _, err = self.output("--wait", "-d", "0.1", child.pid, status=124)
        self.assertIn("has not ended within 0.1 seconds", err)

    @live
    def test_kinds_can_be_chosen(self) -> None:
        child, lines = self.follow("sh -c 'exit 3'; sh -c 'exit 0'; exit 0", "-e", "nonzero_exit")
        self.assertEqual(len(lines), 1)
        self.assertIn("  exit 3 after ", lines[0])
        child, lines = self.follow("sh -c 'exit 3'; exit 0", "--no-follow", "-e", "exec,exit")
        self.assertEqual([line.split()[1] for line in lines], [str(child.pid)] * 2)

    @live
    def test_programs_of_the_whole_machine_have_their_parents(self) -> None:
        run = self.cnproc("-e", "exec")
        self.settle(run)
        child = self.start("sh", "-c", "sleep 0.61; exit 3")
        words: list[str] = []
        assert run.stdout
        while words[3:] != ["exec", "sleep", "0.61"]:  # other tests run beside this one
            words = run.stdout.readline().split()
            self.assertTrue(words)
        self.assertEqual(words[2], str(child.pid))

    @live
    def test_a_pid_that_is_gone_is_an_error_and_the_others_are_watched(self) -> None:
        gone, child = self.start("true"), self.shell("exit 0")
        gone.wait()
        _, err = self.output(gone.pid, status=1)
        self.assertEqual(err, f"python3 cnproc.py: no process {gone.pid}: it has ended, or never was\n")
        run = self.cnproc(gone.pid, child.pid)
        self.settle(run)
        self.go(child)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err.count("\n"), out.count("\n")), (1, 1, 2))
        self.assertIn(f"no process {gone.pid}", err)
        self.assertIn(f" {child.pid} ", out)

    @live
    def test_a_closed_pipe_ends_it_quietly_though_nothing_happens(self) -> None:
        child = self.shell("exit")
        run = self.cnproc(child.pid)
        assert run.stdout and run.stderr
        self.assertTrue(run.stdout.readline())
        run.stdout.close()
        self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (0, ""))
        run = self.cnproc("--", "sh", "-c", "sleep 1; echo x; exit 5")
        assert run.stdout and run.stderr
        self.assertTrue(run.stderr.readline())
        run.stderr.close()
        self.assertEqual((run.stdout.read(), run.wait(PATIENCE)), ("x\n", 5))  # that is not the command's affair

    @live
    def test_an_output_that_nobody_reads_does_not_end_the_others(self) -> None:
        receive, send = os.pipe()
        os.close(receive)
        with open(send, "w") as closed, tempfile.TemporaryDirectory() as folder:
            page, lines, trace = (pathlib.Path(folder, name) for name in ("page", "lines", "trace"))
            self.output("-j", "--html", page, "sh", "-c", "exit 5", status=5, stderr=closed)  # it fails as it writes
            self.assertEqual(page_data(page.read_text())["process"]["code"], [5 << 8])
            options = "-j", "-o", lines, "--trace", trace, "--tree"  # it is found out before there is a tree to write
            self.output(*options, "sh", "-c", "exit 5", status=5, stderr=closed)
            self.assertEqual(json.loads(lines.read_text().splitlines()[-1])["exit_code"], 5 << 8)
            json.loads(trace.read_text())

    @live
    def test_a_process_that_is_older_than_a_suspend_has_its_age(self) -> None:
        child, week = self.shell("exit"), 7 * 86400
        clock = time.clock_gettime_ns

        def after_a_suspend(number: int) -> int:
            return clock(number) + week * 10**9 * (number == time.CLOCK_BOOTTIME)

        def show(*args: object, load: str = "") -> str:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(cnproc.main([*map(str, args)]), 0)
            return out.getvalue()

        with unittest.mock.patch("time.clock_gettime_ns", after_a_suspend), tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "run.jsonl")
            age = r"168:\d\d:\d\d"
            for option, shown in ((), f"running for {age}: sh -c"), (["--tree"], rf"(?m)^ *{age} .*  sh -c 'echo"), (
                    ["--stats"], r"(?m)^sh -c +0 +0 +0\.\d{3} s "):
                self.assertRegex(show(*option, "-d", "0", child.pid), shown)
            show("-j", "-o", path, "--trace", path + ".trace", "-d", "0", child.pid)
            for line in pathlib.Path(path).read_text().splitlines():
                self.assertLess(abs(json.loads(line)["timestamp_ns"]), (week + time.monotonic()) * 1e9)
            self.assertRegex(show("--load", path), r"running for 168:\d\d:\d\d: sh -c")
            for record in json.loads(pathlib.Path(path + ".trace").read_text()):
                self.assertLess(record.get("ts", 0), (time.monotonic() + 1) * 1e6)

    @live
    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_a_command_runs_as_another_user_and_cnproc_does_not(self) -> None:
        with tempfile.TemporaryDirectory() as folder:  # which only root may enter
            path = os.path.join(folder, "run.jsonl")
            out, err = self.output("-j", "-o", path, "-u", "nobody", "--", "sh", "-c",
                                   "id -u; id -G; echo $HOME $USER $LOGNAME; sleep 0.5; exit 3", status=3)
            nobody = pwd.getpwnam("nobody")
            groups = os.getgrouplist("nobody", nobody.pw_gid)
            self.assertEqual((err, out.splitlines()), ("", [
                str(nobody.pw_uid), " ".join(map(str, groups)), f"{nobody.pw_dir} nobody nobody"]))
            records = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
            names = [record["cmdline"] for record in records if record["event"] == "exec"]
            self.assertEqual(len(names), 4)
            self.assertIn(["sleep", "0.5"], names)  # over netlink, that of a shorter program can be None

    @live
    def test_who_cannot_run_a_command_as_another_user_is_told_so(self) -> None:
        self.assertIn("no user 'nosuch'", self.output("-u", "nosuch", "--", "true", status=2)[1])
        self.assertIn("-u needs a command", self.output("-u", "root", status=2)[1])
        if os.geteuid() != 0:
            self.assertIn("-u root takes root", self.output("-u", "root", "--", "true", status=126)[1])

    @live
    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_under_sudo_a_line_says_how_to_run_the_command_as_oneself(self) -> None:
        environ = {**os.environ, "SUDO_USER": "nobody"}
        told = 'python3 cnproc.py: the command runs as root; -u nobody runs it as nobody\n'
        for options in [], ["-u", "root"], ["-u", "nobody"]:
            self.assertEqual(self.output("-o", os.devnull, *options, "--", "sh", "-c", ":", env=environ)[1],
                             "" if options else told)
        for line in self.output("-j", "--", "sh", "-c", ":", env=environ)[1].splitlines():
            json.loads(line)  # it is not told in the middle of that

    @live
    def test_without_pid_and_command_a_terminal_is_told_what_is_watched(self) -> None:
        shown, status = self.in_terminal("-e", "sid", keys=[(b"every process", b"\x03")])
        self.assertTrue(shown.startswith("python3 cnproc.py: no PID and no COMMAND"), shown)
        self.assertEqual(status, 130)

    @live
    def test_the_end_of_the_command_is_not_delayed_so_that_events_gather(self) -> None:
        with unittest.mock.patch.object(cnproc, "_GATHER", 1e5), contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertEqual(cnproc.main(["--", "sh", "-c", "exit 3"]), 3)
        self.assertIn("exit 3 after", err.getvalue())

    @live
    def test_with_threads_a_process_outlives_its_leader(self) -> None:
        code = "import ctypes, os, threading, time\nlibc = ctypes.CDLL(None)\n" + THREADS + """
def run():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    os.closerange(0, 3)
    time.sleep(0.1)
    os._exit(0)
thread(run)
leave()
"""
        _, err = self.output("-t", "--", *PYTHON, "-c", code)
        leader, end = re.findall(r"(?m)^\S+ +(\d+) +\d+  (.*exit .*)$", err)[::2]
        self.assertEqual(leader[1].split(":")[0], f"thread {leader[0]} exit 0")
        self.assertRegex(end[1], r"^exit 0 after \d\.[1-9]")

    @live
    def test_a_name_that_a_process_takes_has_no_line_but_on_request(self) -> None:
        code = "import ctypes, os\nif not os.fork():\n ctypes.CDLL(None).prctl(15, b'fresh')\n os._exit(3)\nos.wait()"
        _, err = self.output("--", *PYTHON, "-c", code)
        self.assertNotIn("named", err)
        self.assertRegex(err, r"exit 3 after \S+ s: \(fresh\)")

    @live
    def test_threads_have_their_lines(self) -> None:
        child = self.python(THREADS + "os.setsid(); libc.prctl(15, b'fresh'); thread(int).join(); os._exit(3)")
        run = self.cnproc("-e", "all", "--threads", child.pid)
        self.settle(run)
        self.go(child)
        out, err = run.communicate(timeout=PATIENCE)
        expected = ("PID +OUR  running for", "PID +OUR  leads a new session: python", "PID +OUR  named 'fresh': python",
                    r"PID +OUR  thread \d+ started: python", r"PID +OUR  thread \d+ exit [03]: python",
                    r"PID +OUR  exit 3 after \d+\.\d{3} s: python")
        for pattern in expected:
            self.assertRegex(out, pattern.replace("PID", str(child.pid)).replace("OUR", str(os.getpid())))
        # From Python 3.14 on a new thread takes a name, which is an event, too.
        # A thread that has been joined may still end after the leader, which then has a line, too.
        lines = [line for line in out.splitlines() if not re.search(rf"thread (\d+ named|{child.pid} exit)", line)]
        self.assertEqual((len(lines), err), (len(expected) + 1, ""), out)  # and the fork of what was there

    @live
    def test_a_write_error_is_shown(self) -> None:
        child = self.start("sh", "-c", "while :; do true & wait; done")
        with open("/dev/full", "w") as full:
            run = self.cnproc(child.pid, stdout=full)
            assert run.stderr
            self.assertEqual((run.wait(PATIENCE), run.stderr.read()),
                             (1, "python3 cnproc.py: standard output: No space left on device\n"))
            quick = self.start("sh", "-c", "read x", stdin=subprocess.PIPE)
            buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
            for args in ["-h"], ["--wait", "-v", quick.pid]:
                run = self.cnproc(*args, stdout=full, env=buffered)
                if args[0] == "--wait":
                    self.settle(run)
                    self.go(quick)
                assert run.stderr
                self.assertEqual((run.wait(PATIENCE), run.stderr.read()),
                                 (1, "python3 cnproc.py: standard output: No space left on device\n"))
        run = self.cnproc(child.pid, stdout=None, preexec_fn=lambda: os.close(1))
        assert run.stderr
        self.assertEqual((run.wait(PATIENCE), run.stderr.read()),
                         (2, "python3 cnproc.py: standard output is closed\n"))
        for code, status in (3, 3), (0, 1):  # the command goes on all the same
            for option in "-o", "--trace", "--html":
                script = f"/bin/true; sleep 0.2; echo on; exit {code}"
                out, err = self.output(option, "/dev/full", "--", "sh", "-c", script, status=status)
                self.assertEqual(out, "on\n")
                self.assertIn("python3 cnproc.py: /dev/full: No space left on device\n", err)

    def test_ctrl_c_is_quiet_with_unwritten_output_and_a_closed_pipe(self) -> None:
        code = """if True:
            import cnproc
            def run(*args):
                print("in hand")
                raise KeyboardInterrupt
            cnproc._watch_live = run
            raise SystemExit(cnproc.main([]))
        """
        receive, send = os.pipe()
        os.close(receive)
        run = subprocess.run([sys.executable, "-E", "-c", code], cwd=HERE, stdout=send, stderr=subprocess.PIPE,
                             timeout=PATIENCE)
        os.close(send)
        self.assertEqual((run.returncode, run.stderr), (130, b""))

    @live
    def test_no_follow_shows_no_forks_whose_execs_are_not_heard(self) -> None:
        _, err = self.output("--no-follow", "--tree", "--", "sh", "-c", "/bin/true; /bin/true; exit 3", status=3)
        self.assertIn("\n1 process in ", err)
        with tempfile.TemporaryDirectory() as folder:
            page, trace = os.path.join(folder, "page"), os.path.join(folder, "trace")
            self.output("--no-follow", "--html", page, "--trace", trace, "sh", "-c", "/bin/true; exit 3", status=3)
            data = page_data(pathlib.Path(page).read_text())
            self.assertEqual((len(data["process"]["pid"]), data["notes"].count("no end")), (1, 0))
            drawn = [record["name"] for record in json.loads(pathlib.Path(trace).read_text()) if record["ph"] == "B"]
            self.assertEqual(drawn[1:], ["sh -c"])  # behind the fork
        _, err = self.output("--no-follow", "--", "sh", "-c", "/bin/true; /bin/true; exit 3", status=3)
        self.assertEqual([line[33:37] for line in err.splitlines()], ["exec", "exit"])

    @live
    def test_after_its_duration_the_command_goes_on_and_has_its_status(self) -> None:
        out, err = self.output("-d", "0.1", "--", "sh", "-c", "sleep 0.5; echo x; exit 3", status=3)
        self.assertEqual(out, "x\n")
        self.assertNotIn("  exit 3 after", err)

    @live
    @unittest.skipUnless(SOURCE == "ebpf", "an ordinary user's buffer is too small for it")
    def test_a_signal_while_nobody_reads_breaks_no_line(self) -> None:
        child = self.shell("i=0; while [ $i -lt 3000 ]; do (exit $i); i=$((i+1)); done; echo; read go")
        run = self.cnproc("-j", "-e", "exit", child.pid)
        self.settle(run)
        self.go(child)
        self.ready(child)
        # The pipe is full, and it waits for room.
        eventually(lambda: "pipe_write" in pathlib.Path(f"/proc/{run.pid}/wchan").read_text())
        run.send_signal(signal.SIGINT)
        assert run.stdout
        lines = [json.loads(run.stdout.readline()) for _ in range(2990)]
        self.assertEqual(len({line["timestamp_ns"] for line in lines}), 2990)
        self.go(child)
        run.communicate(timeout=PATIENCE)
        self.assertEqual(run.returncode, 130)

    @live
    def test_the_status_is_the_command_s_whatever_happens_to_the_output(self) -> None:
        for script, status in (
            ("trap '' CHLD; {0} -- sh -c 'exit 3'", 3),
            ("exec 3>&1; {{ {0} --tree -- sh -c 'sleep 0.3; exit 3' 2>&1; echo $? >&3; }} | true", 3),
            ("exec 3>&1; {{ {0} -- /nonexistent 2>&1; echo $? >&3; }} | true", 127),
        ):
            run = subprocess.run(["sh", "-c", script.format(shlex.join(CNPROC)) + "; echo $?"], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True, timeout=PATIENCE)
            self.assertEqual(run.stdout.split()[0], str(status), script)

    @live
    def test_a_dash_is_no_file_if_standard_output_is_closed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for option in "-o", "--trace", "--html":
                _, err = self.output(option, "-", "true", status=2, stdout=None, cwd=folder,
                                     preexec_fn=lambda: os.close(1))
                self.assertEqual(err, "python3 cnproc.py: standard output is closed\n")
            self.assertEqual(os.listdir(folder), [])

    @live
    def test_a_dash_is_standard_output(self) -> None:
        out, _ = self.output("-j", "-o", "-", "--", "true")
        self.assertEqual([json.loads(line)["event"] for line in out.splitlines()], ["fork", "exec", "exit"])

    @live
    def test_it_ends_after_its_duration(self) -> None:
        _, err = self.output("-d", "0.2", os.getpid())
        self.assertEqual(err, "")

    @live
    def test_ctrl_c(self) -> None:
        run = self.cnproc(os.getpid())
        self.settle(run)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err), (130, ""))

    @live
    def test_main_can_be_called_by_a_program(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertEqual(cnproc.main(["--", "sh", "-c", "exit 3"]), 3)
        self.assertIn("exit 3 after", err.getvalue())
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)


@pure
class Typing(unittest.TestCase):
    """What editors, type checkers and help() see."""

    KINDS: tuple[Any, ...] = Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit, Lost

    def test_annotations_are_the_fields(self) -> None:
        tree = ast.parse(inspect.getsource(cnproc))
        found: dict[str, list[tuple[str, str]]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                annotated = [item for part in node.body for item in (part.body if isinstance(part, ast.If) else [part])
                             if isinstance(item, ast.AnnAssign)]
                found[node.name] = [(ast.unparse(item.target), ast.unparse(item.annotation)) for item in annotated]
        base = [("what", "int"), ("cpu", "int"), ("timestamp_ns", "int")]
        self.assertEqual(found["ProcEvent"], base)
        for kind in self.KINDS:
            names = [name for name, _ in base + found[kind.__name__]]
            self.assertEqual([name for name in names if name != "returncode"], list(cnproc._names(kind)), kind)
            self.assertEqual(kind.__match_args__, tuple(names))
            event = kind()
            self.assertEqual(kind(*(getattr(event, name) for name in names)), event)
            for name, annotation in base + found[kind.__name__]:
                self.assertIn(type(getattr(event, name)).__name__, annotation.replace("None", "NoneType"), (kind, name))

    def test_an_unknown_argument_is_a_type_error(self) -> None:
        for kind in self.KINDS:
            with self.assertRaisesRegex(TypeError, f"{kind.__name__} has no pidd"):
                kind(pidd=3)
        for values, named in [([], dict(returncode=3)), ([0] * 8, {}), ([1], dict(what=1))]:
            with self.assertRaises(TypeError):
                Fork(*values, **named)
        for code, status in (7, 0x700), (-9, 9), (None, -1), (0, 0):
            event = Exit(returncode=code)
            self.assertEqual((event.exit_code, event.returncode), (status, code))

    def test_repr_says_what_it_is(self) -> None:
        for event in every_kind(5):
            self.assertEqual(eval(repr(event)), event)
        self.assertEqual(repr(Exit(What.EXIT, 1, 5, 7, 7, 139, 17, 1, 1)),
                         "Exit(what=What.EXIT, cpu=1, timestamp_ns=5, tid=7, pid=7, exit_code=139, exit_signal=17, "
                         "parent_tid=1, parent_pid=1, returncode=-11)")
        self.assertEqual(Comm(What.COMM, 0, 0, 7, 7, "x").comm, "x")
        self.assertIn("cmdline=['a']", repr(Exec(cmdline=["a"])))

    def test_help_is_a_manual_page(self) -> None:
        text = pydoc.plain(pydoc.render_doc(cnproc))
        # From Python 3.13 on a long signature has a line for each parameter.
        self.assertLess(re.sub(r"\((\n[ |]+[^()\n]*,?)+\n[ |]+\)", "()", text).count("\n"), 650)
        self.assertNotRegex(text, r"(?m)^\s+\|?\s+_(?!_?ctypes\b)\w+(?<!__)\b")
        self.assertNotIn("Structure/Union member", text)
        for name in cnproc.__all__:
            self.assertIn(name, text)
        self.assertEqual({name for name in dir(cnproc) if not name.startswith("__")}, set(cnproc.__all__))
        others = {name for name, value in vars(cnproc).items() if not name.startswith("_")
                  and not isinstance(value, types.ModuleType)} - {*cnproc.__all__}
        annotations = {name for name in others if hasattr(collections.abc, name)}
        self.assertEqual(others - annotations, {"annotations", "TYPE_CHECKING", "Any", *{"Union"} & others})
        self.assertIn("returncode", dir(Exit()))
        self.assertEqual(typing.get_args(cnproc.Event), self.KINDS)
        with self.assertRaises(AttributeError):
            getattr(cnproc, "nothing")  # noqa: B009

    def test_every_public_thing_is_documented(self) -> None:
        for name in cnproc.__all__:
            thing = getattr(cnproc, name)
            self.assertTrue(name == "Event" or thing.__doc__, name)
            if inspect.isclass(thing):
                for method, value in vars(thing).items():
                    if callable(value) and not method.startswith("_"):
                        self.assertTrue(value.__doc__, (name, method))


@unittest.skipIf(EMULATED, "it starts many programs, which takes minutes where the processor is emulated")
class Vendored(unittest.TestCase):
    """One file, wherever it lies."""

    def run_python(self, *args: str, cwd: str) -> str:
        run = subprocess.run([sys.executable, *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=PATIENCE)
        self.assertEqual(run.returncode, 0, run.stdout)
        return run.stdout

    def test_in_a_package_in_a_zip_and_under_m(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            inner = pathlib.Path(folder, "package", "_vendor")
            inner.mkdir(parents=True)
            for path in inner.parent, inner:
                (path / "__init__.py").touch()
            shutil.copy(cnproc.__file__, inner)
            check = ("import pickle, {0} as c; e = c.Exec(cmdline=['a']); assert pickle.loads(pickle.dumps(e)) == e; "
                     "print(c.__name__, c.__version__)")
            name = "package._vendor.cnproc"
            self.assertEqual(self.run_python("-c", check.format(name), cwd=folder), f"{name} {cnproc.__version__}\n")
            self.assertEqual(self.run_python("-m", name, "-V", cwd=folder), f"cnproc {cnproc.__version__}\n")
            with zipfile.ZipFile(os.path.join(folder, "lib.zip"), "w") as archive:
                archive.write(cnproc.__file__, "cnproc.py")
            code = "import sys; sys.path.insert(0, 'lib.zip'); " + check.format("cnproc")
            self.assertEqual(self.run_python("-I", "-S", "-c", code, cwd=folder), f"cnproc {cnproc.__version__}\n")

    def test_as_a_zipapp_and_with_every_switch(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            inner = pathlib.Path(folder, "app")
            inner.mkdir()
            shutil.copy(cnproc.__file__, inner)
            zipapp.create_archive(inner, os.path.join(folder, "app.pyz"), main="cnproc:main")
            self.assertEqual(self.run_python("app.pyz", "-V", cwd=folder), f"cnproc {cnproc.__version__}\n")
            for switches in (["-I", "-OO", "-bb"], ["-S", "-W", "error", "-X", "dev"]):
                out = self.run_python(*switches, "app/cnproc.py", "-h", cwd=folder)
                self.assertIn("examples:", out)
                if SOURCE != "none":
                    out = self.run_python(*switches, "app/cnproc.py", "--", "true", cwd=folder)
                    self.assertIn("exit 0 after", out)

    def test_the_licence_is_in_the_file(self) -> None:
        with open(cnproc.__file__) as file:
            self.assertIn("SPDX-License-Identifier: MIT", file.read(3000))


@live
class WatchAsync(Case):
    """async for, on asyncio's event loop."""

    def run_async(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            before = self.readers()
            await asyncio.wait_for(function(), PATIENCE)
            await asyncio.sleep(0)
            self.assertEqual(self.readers(), before)
        asyncio.run(bounded())

    @staticmethod
    def readers() -> int:
        """How many descriptors the event loop waits for."""
        loop: Any = asyncio.get_running_loop()
        return len(loop._selector.get_map())

    def test_it_ends_with_the_last_process(self) -> None:
        async def check() -> None:
            child = self.shell("/bin/true; exit 3")
            watching = cnproc.watch_async(child.pid)
            self.go(child)
            events = [event async for event in watching]
            self.assertEqual(kinds(events, child.pid), [Exit])
            self.assertEqual(statuses(events), [0, 3])
            self.assertEqual(threading.active_count(), 1)
        self.run_async(check)

    def test_it_ends_after_its_timeout(self) -> None:
        async def check() -> None:
            self.assertEqual([event async for event in cnproc.watch_async(os.getpid(), timeout=0.2)], [])
        self.run_async(check)

    def test_cancellations_lose_nothing_and_leave_no_reader(self) -> None:
        number = 30 if EMULATED else scale(1000)

        async def check() -> None:
            watcher = self.watcher(os.getpid())
            events: list[Any] = []

            async def read() -> None:
                async for event in watcher:
                    events.append(event)

            async def cancelled(pause: float) -> None:
                task = asyncio.ensure_future(read())
                await asyncio.sleep(pause)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            before = self.readers()
            for i in range(number):
                await cancelled(0 if i % 2 else 0.0001)
            self.assertEqual(self.readers(), before)
            children: list[subprocess.Popen[bytes]] = []
            for _ in range(number):
                children.append(subprocess.Popen(["true"]))
                await cancelled(0)
            for child in children:
                child.wait()
            task = asyncio.ensure_future(read())
            await asyncio.sleep(0.01)
            while sum(isinstance(event, Exit) for event in events) < number:
                await asyncio.sleep(0.01)
            watcher.close()
            await task
            expected = [(kind, child.pid) for child in children for kind in (Fork, Exec, Exit)]
            self.assertCountEqual([(type(event), event.pid) for event in events], expected)
        self.run_async(check)

    def test_however_the_iteration_ends_no_reader_is_left(self) -> None:
        async def check() -> None:
            child = self.shell("while read x; do /bin/true; done")
            watcher, before = self.watcher(child.pid), self.readers()
            self.go(child)  # into the loop

            async def once(how: Any) -> None:
                self.go(child)
                async for event in watcher:
                    if isinstance(event, Exit):
                        if how is break_:
                            break
                        raise how
            break_ = object()
            await once(break_)
            self.assertEqual(self.readers(), before)
            with self.assertRaises(KeyError):
                await once(KeyError())
            self.assertEqual(self.readers(), before)
            self.go(child)
            self.assertIsInstance(await watcher.__aiter__().__anext__(), Fork)
        self.run_async(check)

    def test_waits_that_share_a_watcher_end_each_for_itself(self) -> None:
        async def check() -> None:
            one, other = self.shell("exit 1"), self.shell("exit 2")
            first = asyncio.ensure_future(cnproc.wait_async(one.pid, float("inf")))
            for _ in range(20):  # come and go while another waits
                with self.assertRaises(TimeoutError):
                    await cnproc.wait_async(other.pid, 0.01)
            self.go(one)
            self.assertEqual(await first, 1)
            second = asyncio.ensure_future(cnproc.wait_async(other.pid))
            for _ in range(9):  # until it waits
                await asyncio.sleep(0)
            self.go(other)
            self.assertEqual(await second, 2)
        with unittest.mock.patch.object(cnproc, "_pidfd_has_status", lambda: False):
            self.run_async(check)

    def test_a_slow_reader_lets_other_tasks_run(self) -> None:
        async def check() -> None:
            child = self.shell("while :; do /bin/true; done")
            ticks: list[int] = []
            watcher = self.watcher(child.pid)
            self.go(child)

            async def tick() -> None:
                while True:
                    await asyncio.sleep(0.01)
                    ticks.append(1)

            task = asyncio.ensure_future(tick())
            events = 0
            async for _ in watcher:
                time.sleep(0.005)
                events += 1
                if events == 100:
                    break
            child.kill()
            self.assertGreater(len(ticks), 3)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
        self.run_async(check)

    def test_what_is_closed_before_its_first_event_closes_its_watcher(self) -> None:
        events, stream = cnproc.watch(os.getpid()), cnproc.watch_async(os.getpid())

        async def close() -> None:
            await stream.aclose()

        with unittest.mock.patch.object(cnproc.Watcher, "close", autospec=True,
                                        side_effect=cnproc.Watcher.close) as closed:
            events.close()
            asyncio.run(close())
        self.assertEqual(len({id(call.args[0]) for call in closed.call_args_list}), 2)
        self.assertEqual([*events], [])

    def test_close_ends_it_from_a_task_and_from_a_thread(self) -> None:
        async def check() -> None:
            closes: list[Callable[[cnproc.Watcher], None]] = [
                lambda watcher: watcher.close(), lambda watcher: threading.Thread(target=watcher.close).start()]
            for close in closes:
                watcher = self.watcher(os.getpid())

                async def read() -> list[cnproc.Event]:
                    return [event async for event in watcher]
                task = asyncio.ensure_future(read())
                await asyncio.sleep(0.01)
                before = time.monotonic()
                close(watcher)
                self.assertEqual(await task, [])
                self.assertLess(time.monotonic() - before, PATIENCE / 2)
        self.run_async(check)

    def test_many_waits_without_pidfds_share_one_watcher(self) -> None:
        number = 25 if EMULATED else 100

        async def check() -> None:
            children = [self.shell(f"exit {i}") for i in range(number)]
            count = len(os.listdir("/proc/self/fd"))
            tasks = [asyncio.ensure_future(cnproc.wait_async(child.pid)) for child in children]
            twice = asyncio.ensure_future(cnproc.wait_async(children[5].pid))
            given_up = asyncio.ensure_future(cnproc.wait_async(children[6].pid))
            await asyncio.sleep(0.01)
            self.assertLess(len(os.listdir("/proc/self/fd")) - count, 20)
            given_up.cancel()
            for child in children:
                self.go(child)
            self.assertEqual(await asyncio.gather(*tasks, twice), [*range(number), 5])
            self.assertEqual(len(os.listdir("/proc/self/fd")), count)
            with self.assertRaisesRegex(TimeoutError, "has not ended within 0.05 seconds"):
                await cnproc.wait_async(os.getpid(), 0.05)
            self.assertEqual(len(cnproc._SharedWaits._of), 0)
        with unittest.mock.patch.object(cnproc, "_pidfd_has_status", lambda: False):
            self.run_async(check)


@live
@once
class FromThreads(Case):
    """What may be called from any thread is."""

    def test_watch_unwatch_and_pids_from_eight_threads_while_one_reads(self) -> None:
        number = 20 if EMULATED else scale(500)
        old = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, old)
        sys.setswitchinterval(1e-6)
        events: list[Any] = []
        failures: list[BaseException] = []
        started: list[int] = []
        watcher, sentinel = self.watcher(), self.shell("exit 1")

        def work() -> None:
            try:
                for i in range(number):
                    child = watcher.popen([TRUE], What.FORK | What.EXIT)
                    started.append(child.pid)
                    watcher.watch(sentinel.pid, What.EXIT if i % 2 else What.EXEC)
                    self.assertIsInstance(watcher.pids, frozenset)
                    self.assertEqual(watcher.lost, 0)
                    if i % 10 == 0:
                        with contextlib.suppress(KeyError):
                            watcher.unwatch(sentinel.pid)
                    child.wait()
            except BaseException as error:
                failures.append(error)

        def read() -> None:
            for event in watcher:
                events.append(event)

        reader = threading.Thread(target=read)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in (reader, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        eventually(lambda: sum(event.pid != sentinel.pid for event in events) >= 16 * number)
        watcher.close()
        reader.join(PATIENCE)
        self.assertFalse(reader.is_alive())
        self.assertEqual(len(started), 8 * number)
        # A pid may be another's that a thread has just started, but each process has one of each.
        self.assertCountEqual([(type(event), event.pid) for event in events if event.pid != sentinel.pid],
                              [(kind, pid) for pid in started for kind in (Fork, Exit)])


# A tree of processes as a seed has it. On standard output each process says whom it has forked, what it is about to
# execute, what it is, and how those ended for whom it has waited.
TREE = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int idle;                    /* threads that end only with the process */
static char path[4096];             /* ends with a digit: the program has several names */
static __thread unsigned long state;

static unsigned chance(unsigned n)  /* a random number below n */
{
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % n;
}

static void say(const char *kind, int pid, const char *rest)  /* one write: whole, and in order */
{
    static __thread char line[65536];
    int length = snprintf(line, sizeof line, "%s %d %s\n", kind, pid, rest);
    if (write(1, line, length) != length)
        abort();
}

static void number(const char *kind, int pid, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    say(kind, pid, text);
}

static char *join(char **words)
{
    static __thread char text[60000];
    char *end = text;
    for (*text = 0; *words; words++)
        end += sprintf(end, end == text ? "%s" : " %s", *words);
    return text;
}

static void run(int depth, int again)  /* execute; again: and do so at once, so many times */
{
    static __thread char name[4096], seed[32], level[16], count[16], words[3][3000], *argv[9];
    unsigned i, n = chance(4);
    strcpy(name, path);
    name[strlen(name) - 1] = '0' + chance(4);
    sprintf(seed, "%lu", state);
    sprintf(level, "%d", depth + 1);
    sprintf(count, "%d", again);
    argv[0] = name, argv[1] = seed, argv[2] = level, argv[3] = count;
    for (i = 0; i < n && i < 3; i++) {
        unsigned length = chance(10) ? chance(30) : chance(2900);
        memset(words[i], 'a' + chance(26), length);
        words[i][length] = 0;
        argv[4 + i] = words[i];
    }
    argv[4 + i] = 0;
    say("try", getpid(), join(argv));
    if (again == 9)
        execv("/nonexistent", argv);
    else
        execv(name, argv);
    say("not", getpid(), join(argv));
}

static void play(int depth);
static void end(int depth);

static int wait_for(int pid)  /* -1: for any child; whether there was one */
{
    int status;
    if ((pid = waitpid(pid, &status, 0)) > 0)
        number("end", pid, status);
    return pid > 0;
}

static void child(int depth, int daemon)
{
    int parent = getpid(), pid;
    unsigned long next = state ^ chance(1u << 30);
    pid = fork();
    if (!pid) {
        state = next, idle = 0;
        number("fork", getpid(), parent);
        if (daemon) {
            setsid();
            child(depth + 1, 0);
            _exit(chance(256));
        }
        play(depth + 1);
        end(depth + 1);
    }
    number("fork", pid, parent);
    if (!chance(8)) {
        usleep(chance(400));
        kill(pid, chance(2) ? SIGKILL : SIGTERM);
    }
    if (chance(2))
        wait_for(pid);
}

static void spawned(int depth)  /* as posix_spawn() does it */
{
    int parent = getpid(), pid = vfork();
    if (!pid) {
        number("fork", getpid(), parent);
        run(depth + 1, 0);
        _exit(127);
    }
    number("fork", pid, parent);
    if (chance(2))
        wait_for(pid);
}

enum job { RETURN, FORK, EXEC, IDLE, EXIT_GROUP, EXIT, CRASH };
struct work { enum job job; int depth; unsigned long seed; };

static void raw_exit(int code) { syscall(SYS_exit, code); }

static void crash(void)
{
    if (chance(2)) {
        struct rlimit limit;
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
    }
    kill(getpid(), SIGSEGV);
    for (;;)
        pause();
}

static void *work(void *given)
{
    struct work mine = *(struct work *)given;
    free(given);
    state = mine.seed;
    usleep(chance(2) ? chance(300) : 0);
    switch (mine.job) {
    case RETURN: break;
    case FORK: child(mine.depth, 0); break;
    case EXEC: run(mine.depth, chance(3) ? 0 : 1 + chance(2)); _exit(126);
    case IDLE: for (;;) pause();
    case EXIT_GROUP: _exit(chance(256));
    case EXIT: raw_exit(chance(256));
    case CRASH: crash();
    }
    return 0;
}

static pthread_t thread(enum job job, int depth)
{
    pthread_t made;
    pthread_attr_t small;
    struct work *given = malloc(sizeof *given);
    given->job = job, given->depth = depth, given->seed = state ^ chance(1u << 30);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    if (pthread_create(&made, &small, work, given))
        abort();
    idle += job == IDLE;
    return made;
}

static void play(int depth)
{
    pthread_t made;
    if (depth > 5)
        return;
    for (unsigned n = 1 + chance(depth ? 4 : 12); n; n--) {
        usleep(chance(3) ? 0 : chance(200));
        switch (chance(depth ? 12 : 9)) {
        case 0: case 1: case 2: child(depth, 0); break;
        case 3: child(depth, 1); break;
        case 4: spawned(depth); break;
        case 5: thread(RETURN, depth); break;
        case 6: case 7: made = thread(FORK, depth); if (!depth || chance(2)) pthread_join(made, 0); break;
        case 8: if (depth) thread(IDLE, depth); break;
        case 9: run(depth, chance(3) ? 0 : chance(4) ? 1 + chance(2) : 9); break;
        case 10: thread(EXEC, depth); for (;;) pause();
        case 11: if (!idle) { thread(EXEC, depth); raw_exit(chance(256)); } break;
        }
    }
}

static void end(int depth)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGUSR1, SIGALRM};
    if (chance(3))
        while (wait_for(-1));
    switch (chance(12)) {
    case 0: kill(getpid(), signals[chance(4)]); for (;;) pause();
    case 1: crash();
    case 2: thread(EXIT_GROUP, depth); for (;;) pause();
    case 3: thread(CRASH, depth); for (;;) pause();
    case 4: thread(EXIT_GROUP, depth); raw_exit(chance(256));
    case 5: thread(CRASH, depth); raw_exit(chance(256));
    case 6: if (!idle) { thread(EXIT, depth); raw_exit(chance(256)); }
    case 7: if (!idle) raw_exit(chance(256));
    }
    _exit(chance(256));
}

int main(int argc, char **argv)
{
    char go;
    int depth = atoi(argv[2]), again = atoi(argv[3]);
    strcpy(path, argv[0]);
    state = strtoul(argv[1], 0, 10);
    if (!depth) {  /* the root of the tree: it waits for orphans, too */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        if (write(2, "\n", 1) < 1 || read(0, &go, 1) < 1)  /* now it can be watched */
            return 1;
        play(0);
        while (wait_for(-1));
        return 0;
    }
    say("ran", getpid(), join(argv));
    if (again && again < 9)
        run(depth, again - 1);
    play(depth);
    end(depth);
}
"""


class TreeCase(Case):
    """Has the program whose processes are random trees, and say what they do."""

    folder: Any

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        os.chmod(cls.folder.name, 0o777)
        if (HERE / "tree").exists():  # .ci/kernels has built it for the guest
            shutil.copy(HERE / "tree", f"{cls.folder.name}/tree0")
        elif shutil.which("gcc"):
            cls.build(f"{cls.folder.name}/tree0")
        else:
            return
        for i in 1, 2, 3:
            os.link(f"{cls.folder.name}/tree0", f"{cls.folder.name}/tree{i}")

    @staticmethod
    def build(path: str) -> None:
        for static in ["-static"], []:  # a static program starts faster, where there is a static libc
            gcc = subprocess.run(["gcc", "-O2", "-pthread", *static, "-x", "c", "-o", path, "-"], input=TREE, text=True,
                                 stderr=subprocess.PIPE)
            if not gcc.returncode:
                return
        raise AssertionError(gcc.stderr)

    @staticmethod
    def said(log: IO[str]) -> dict[str, dict[int, list[str]]]:
        """What the processes have said of themselves: by kind and pid."""
        log.seek(0)
        said: dict[str, dict[int, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
        for line in log:
            kind, pid, value = line[:-1].split(" ", 2)
            said[kind][int(pid)].append(value)
        return said


@live
@unittest.skipUnless(shutil.which("gcc") or (HERE / "tree").exists(), "takes gcc")
class RandomTrees(TreeCase):
    """What is reported of random trees is what their processes say of themselves.

    Forks, threads, execs in a row and by threads, leaders that end first, signals, core dumps, daemons, raw exits.
    In the environment, CNPROC_SEEDS says how many trees. With CNPROC_SOAK=1 it shows how much was unknown.
    """

    seeds = range(int(os.environ.get("CNPROC_SEEDS") or max(3, scale(25))))
    netlink = False  # whether that is the source

    def play(self, seed: int) -> tuple[list[str], collections.Counter[str]]:
        """What is reported wrongly of a tree, and how much there is of what."""
        with tempfile.TemporaryFile("a+") as log:
            child = subprocess.Popen(["./tree0", str(seed), "0", "0"], cwd=self.folder.name,
                                     stdin=subprocess.PIPE, stdout=log, stderr=subprocess.PIPE)
            try:
                assert child.stderr
                child.stderr.readline()
                stream = cnproc.watch(child.pid, timeout=PATIENCE)
                self.go(child)
                events: list[Any] = list(stream)
                child.wait(PATIENCE)
            finally:
                self.end(child)
            said = self.said(log)
        said["end"][child.pid] = [str(child.returncode)]
        wrong, counts = self.compare(events, said, self.netlink)
        return [f"seed {seed}: {text[:300]}" for text in wrong], counts

    @staticmethod
    def compare(events: list[Any], said: Any, netlink: bool = False) -> tuple[list[str], collections.Counter[str]]:
        lost = any(isinstance(event, Lost) for event in events)
        counts = collections.Counter({"trees": 1, "losses": int(lost), "processes": len(said["end"])})
        wrong: list[str] = []
        names: collections.defaultdict[int, list[Any]] = collections.defaultdict(list)
        for kind, pids in (Fork, said["fork"].keys()), (Exit, said["fork"].keys() | said["end"].keys()):
            told = collections.Counter(event.pid for event in events if type(event) is kind)
            wrong += [f"{kind.__name__} of {pid} {told[pid]} times" for pid in pids | told.keys()
                      if told[pid] != (pid in pids) and not (lost and not told[pid])]
        for event in events:
            if isinstance(event, Fork) and not event.rebuilt and {*said["fork"][event.pid]} != {str(event.parent_pid)}:
                wrong.append(f"Fork of {event.pid} by {event.parent_pid}, not {said['fork'][event.pid]}")
            elif isinstance(event, Exec):
                names[event.pid].append(event.cmdline)
            elif isinstance(event, Exit):
                counts["unknown statuses"] += event.returncode is None
                for status in said["end"][event.pid]:  # none, if who waited was killed then
                    if event.returncode is not None and event.exit_code != int(status):
                        # By exit(2), and a fatal signal as it began: no EXIT tells. README, Limits.
                        if netlink and not event.exit_code & 0x7F and 0 < int(status) < 0x80:
                            counts["signals at an exit"] += 1
                            continue
                        wrong.append(f"Exit of {event.pid} with {event.exit_code:#x}, not {int(status):#x}")
        for pid in names.keys() | said["try"].keys():
            ran, tried = said["ran"][pid], [words for words in said["try"][pid] if words not in said["not"][pid]]
            counts["execs"] += len(names[pid])
            if not lost and not len(ran) <= len(names[pid]) <= len(tried):
                wrong.append(f"{len(names[pid])} Execs of {pid}, which ran {ran} and tried {tried}")
            for i, cmdline in enumerate(names[pid]):
                # Who was killed in between has not said what it is.
                right = [ran[i]] if len(ran) == len(names[pid]) and not lost else tried
                bracketed = {f"[{os.path.basename(words.split(' ')[0])}]" for words in right}
                counts["unknown names"] += cmdline is None
                counts["names of zombies"] += cmdline is not None and cmdline[0] in bracketed
                if cmdline is not None and " ".join(cmdline) not in {*right, *bracketed}:
                    wrong.append(f"Exec of {pid}: {cmdline}, not {right}")
        return wrong, counts

    def check(self, *, loaded: bool, datagrams: bool = False, uid: int | None = None) -> None:
        def trees() -> str:
            played = [self.play(seed) for seed in self.seeds]
            return json.dumps([[text for wrong, _ in played for text in wrong], [counts for _, counts in played]])

        for _ in range(2 * loaded):
            self.start("sh", "-c", "while :; do :; done")
        sources = (cnproc._DatagramSource,) if datagrams else self.sources
        self.netlink = datagrams or uid is not None or SOURCE == "netlink"
        with unittest.mock.patch.object(cnproc.Watcher, "_sources", sources):
            wrong, each = json.loads(trees() if uid is None else forked(trees, uid=uid))
        counts: collections.Counter[str] = collections.Counter()
        for more in each:
            counts.update(more)
        if SOAK:
            print(f"{self._testMethodName}: {', '.join(f'{n} {name}' for name, n in counts.items())}", file=sys.stderr)
        if wrong:
            self.fail("\n".join(wrong))
        self.assertLessEqual(counts["signals at an exit"], 1 + counts["processes"] // 10_000)
        if SOURCE == "ebpf" and not datagrams and uid is None:
            self.assertEqual([counts[name] for name in ("losses", "unknown names", "unknown statuses")], [0, 0, 0])

    def test_idle(self) -> None:
        self.check(loaded=False)

    @unittest.skipIf(EMULATED, "it is slow enough")
    def test_loaded(self) -> None:
        self.check(loaded=True)

    @unittest.skipUnless(SOURCE == "ebpf", "the source is netlink anyhow")
    def test_idle_over_netlink(self) -> None:
        self.check(loaded=False, datagrams=True)

    @unittest.skipUnless(SOURCE == "ebpf" and not EMULATED, "the source is netlink anyhow")
    def test_loaded_over_netlink(self) -> None:
        self.check(loaded=True, datagrams=True)

    @root
    @unittest.skipIf(EMULATED or RELEASE < (6, 6), "the guest's ordinary user does it, from Linux 6.6 on")
    def test_idle_as_an_ordinary_user(self) -> None:
        self.check(loaded=False, uid=65534)

    @root
    @unittest.skipIf(EMULATED or RELEASE < (6, 6), "the guest's ordinary user does it, from Linux 6.6 on")
    def test_loaded_as_an_ordinary_user(self) -> None:
        self.check(loaded=True, uid=65534)


YAMA = "/proc/sys/kernel/yama/ptrace_scope"


@functools.lru_cache(maxsize=None)
def trace_refusal() -> str:
    """Why this process cannot be traced, if so."""
    try:
        cnproc.Watcher(source="ptrace").close()
    except OSError as refusal:
        return f"it cannot be traced: {refusal.strerror}"
    return ""


# What a process sees of signals and job control: a leader of a session on a terminal, with children in the background.
JOBS = """
import fcntl, os, signal, sys, termios, time
def child(function, group=False):
    pid = os.fork()
    if not pid:
        if group:
            os.setpgid(0, 0)
        os._exit(function() or 0)
    return pid
def told(pid, name="", more=0):
    status = os.waitpid(pid, os.WUNTRACED | more)[1]
    print(name, os.WIFSTOPPED(status) and signal.Signals(os.WSTOPSIG(status)).name, os.WIFCONTINUED(status),
          os.WIFSIGNALED(status) and os.WTERMSIG(status), os.WIFEXITED(status) and os.WEXITSTATUS(status), flush=True)
def stops():
    os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGTSTP)
    return 3
pid = child(stops, True)
for name in "stop", "tstp":
    told(pid, name)
    os.kill(pid, signal.SIGCONT)
told(pid, "end")
def reads():
    return len(os.read(0, 10))
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = child(reads, True)
told(pid, "ttin"); os.tcsetpgrp(0, pid); os.kill(pid, signal.SIGCONT); told(pid, "cont", os.WCONTINUED)
print("type", flush=True)
told(pid, "read"); os.tcsetpgrp(0, os.getpgrp())
pid = child(lambda: time.sleep(60), True)
os.kill(pid, signal.SIGSTOP); told(pid, "stop"); os.kill(pid, signal.SIGKILL); told(pid, "kill")
count = [0, 0]
def alarm(number, frame):
    count[number == signal.SIGALRM] += 1
signal.signal(signal.SIGUSR1, alarm)
for _ in range(500):
    os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while count[1] < 50:
    time.sleep(1)
signal.setitimer(signal.ITIMER_REAL, 0)
print("signals", count[0], count[1] >= 50)
signal.signal(signal.SIGWINCH, lambda *_: print("winch", flush=True))
fcntl.ioctl(0, termios.TIOCSWINSZ, b"\\7\\0\\7\\0\\0\\0\\0\\0")
try:
    print("press", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.exit(5)
"""


@unittest.skipIf(trace_refusal(), trace_refusal())
class Traced(TreeCase):
    """Source "ptrace": commands that we start, of any user, in any namespace."""

    in_guests = {"test_forks_execs_and_exits_of_a_command_are_exact", "test_random_trees",
                 "test_what_it_cannot_give_is_refused",
                 "test_threads_are_reported_where_they_are_asked_for",
                 "test_several_commands_at_once_and_one_after_the_other",
                 "test_yama_lets_who_may_trace", "test_cpu_time_is_that_of_wait4",
                 "test_peak_memory_is_exact_and_none_in_anothers_memory",
                 "test_input_and_output_are_without_the_childrens", "test_threads_have_their_own_costs",
                 "test_the_helper_ends_with_its_caller_and_the_command_goes_on"}

    def setUp(self) -> None:
        super().setUp()
        if EMULATED and self._testMethodName not in self.in_guests:
            self.skipTest("it starts many programs, which takes minutes where the processor is emulated")

    def traced(self, *args: str, **options: Any) -> list[Any]:
        return [*cnproc.run(args, source="ptrace", timeout=PATIENCE, **options)]

    def test_forks_execs_and_exits_of_a_command_are_exact(self) -> None:
        long = "x" * 100_000
        events = self.traced("sh", "-c", f"/bin/echo a '' {long}; (exit 4); kill -9 $$", stdout=subprocess.DEVNULL,
                             paths=True, cwd="/tmp")
        root, echo, sub = (event.pid for event in events if isinstance(event, Fork))
        self.assertEqual([(type(event), event.pid) for event in events], [
            (Fork, root), (Exec, root), (Fork, echo), (Exec, echo), (Exit, echo), (Fork, sub), (Exit, sub),
            (Exit, root)])
        self.assertEqual([event.parent_pid for event in events[:4]], [os.getpid(), os.getpid(), root, root])
        self.assertEqual(events[3].cmdline, ["/bin/echo", "a", "", long])
        self.assertEqual((events[3].ruid, events[3].euid), os.getresuid()[:2])
        self.assertEqual((events[3].exe, events[3].cwd), (os.path.realpath("/bin/echo"), os.path.realpath("/tmp")))
        with open("/proc/self/cgroup") as file:
            own = [line[3:-1] for line in file if line.startswith("0::")]
        self.assertEqual([events[3].cgroup], own or [None])
        self.assertEqual([event.exit_code for event in events if isinstance(event, Exit)], [0, 0x400, 9])
        self.assertEqual(events[-1].start_ns, events[0].timestamp_ns)
        stamps = [event.timestamp_ns for event in events]
        self.assertEqual(stamps, sorted(stamps))
        self.assertLess(stamps[-1], time.monotonic_ns())
        self.assertFalse(any(event.rebuilt or event.what == 0 for event in events))

    def test_threads_are_reported_where_they_are_asked_for(self) -> None:
        code = "import threading as t; a = [t.Thread(target=int) for _ in range(3)]; [x.start() for x in a]"
        events = self.traced(*PYTHON, "-c", code, threads=True)
        pid = events[0].pid
        self.assertEqual({event.pid for event in events}, {pid})
        forks = {event.tid for event in events if isinstance(event, Fork)}
        self.assertEqual(len(forks), 4)
        self.assertCountEqual([event.tid for event in events if isinstance(event, Exit)], forks)
        self.assertEqual([(type(event), event.tid) for event in (events[0], events[1], events[-1])],
                         [(Fork, pid), (Exec, pid), (Exit, pid)])
        self.assertEqual(kinds(self.traced(*PYTHON, "-c", code)), [Fork, Exec, Exit])

    def used(self, code: str, *args: str, **options: Any) -> tuple[list[list[str]], dict[int, Any]]:
        """The words of each line that a program of Python writes, and the Exits, of it and its descendants, by tid."""
        prelude = "import ctypes, os, signal, sys, threading, time\nlibc = ctypes.CDLL(None)\n" + COSTLY
        run = cnproc.run([*PYTHON, "-c", prelude + code, TRUE, *args], source="ptrace", timeout=PATIENCE,
                         stdout=subprocess.PIPE, text=True, **{"usage": True, **options})
        ends = {event.tid: event for event in run if isinstance(event, Exit)}
        return [line.split() for line in run.process.communicate()[0].splitlines()], ends

    def test_cpu_time_is_that_of_wait4(self) -> None:
        for usage in True, False:
            lines, ends = self.used("""
for function in true, short, long, four_threads, leader_first, exit_group, exec_by_a_thread:
    for _ in range(int(sys.argv[2])):
        ran(function)
""", str(scale(50)), usage=usage)
            away = [(kind, ends[int(pid)].cpu_ns / 1000 - int(cpu)) for kind, pid, cpu, *_ in lines]
            self.assertEqual(len({kind for kind, _ in away}), 7)
            far = [(kind, by) for kind, by in away if abs(by) > (100_000 if EMULATED else 200)]
            self.assertLessEqual(len(far), len(lines) / 20, far)

    def test_peak_memory_is_exact_and_none_in_anothers_memory(self) -> None:
        code = PEAKS + """
def killed():
    b"x" * (20 << 20)
    said()
    os.kill(os.getpid(), 9)
def shares():
    stack = ctypes.create_string_buffer(1 << 16)
    pid = libc.clone(libc._exit, ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16)), 0x100 | signal.SIGCHLD, None)
    print("shared", pid, os.waitpid(pid, 0)[1], flush=True)  # CLONE_VM
    try:
        os.posix_spawn("/nowhere", ["nowhere"], os.environ)  # by vfork()
    except FileNotFoundError:
        pass
    said()
for function in worker, grown, killed, several, shares, true, exec_by_a_thread:
    ran(function)
said()
"""
        def check(asked: bool) -> None:
            lines, ends = self.used(code)
            peaks = {int(pid): int(peak) << 10 for kind, pid, peak, *_ in lines if kind == "peak"}
            shared = [int(pid) for kind, pid, *_ in lines if kind == "shared"]
            kinds = {int(pid): kind for kind, pid, *_, in lines if kind not in ("peak", "shared")}
            self.assertEqual((len(peaks), len(kinds), len(shared), len(ends)), (6, 7, 1, 10))
            for pid, end in ends.items():
                if pid in peaks or pid in kinds:
                    exact = asked or kinds.get(pid) in (None, "true", "exec_by_a_thread")
                    self.assertEqual(end.max_rss_exact, exact, kinds.get(pid))
                    self.assertLess(abs(end.max_rss - peaks.get(pid, 0)), (2 if pid in peaks else 10) << 20)
                elif asked or pid not in shared:
                    self.assertEqual((end.max_rss, end.max_rss_exact), (None, None))
                else:
                    self.assertEqual((end.max_rss > 40 << 20, end.max_rss_exact), (True, False))

        def unasked() -> None:
            self.forbid({"x86_64": 312, "s390x": 343}.get(os.uname().machine, 272))
            check(False)

        check(True)
        # Where nobody says whose the memory is, that of who has executed nothing is a bound.
        self.assertEqual(forked(unasked), "None")

    def test_input_and_output_are_without_the_childrens(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder.name) as folder:
            lines, ends = self.used("""
import mmap
def work(name, size):
    with open(name, "w+b", 0) as file:
        file.write(os.urandom(size << 20))
        memory = mmap.mmap(file.fileno(), 0)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        file.read()
        memory[:] = bytes(len(memory))
def say(*kind):
    fields = dict(line.split(": ") for line in open("/proc/self/io"))
    print(os.getpid(), int(fields["read_bytes"]), int(fields["write_bytes"]), flush=True)
def parent():
    if os.fork():
        os.wait()
        thread(lambda: work("one", 1)).join()
        work("two", 2)
        say()
    else:
        work("four", 4)
        say()
def by_a_thread():
    work("eight", 8)
    say()
    thread(lambda: os.execv("/bin/true", ["true"])).join()
os.chdir(sys.argv[2])
ran(parent)
ran(by_a_thread)
""", folder)
        inner, outer, other = ([int(word) for word in line] for line in lines if len(line) == 3)
        outer[1:] = outer[1] - inner[1], outer[2] - inner[2]
        for pid, read, written in inner, outer, other:
            self.assertEqual(ends[pid].write_bytes, written)
            self.assertGreaterEqual(ends[pid].read_bytes, read)
            self.assertLess(ends[pid].read_bytes - read, 1 << 20)  # pages of the program that it came to need since
            self.assertIsInstance(ends[pid].major_faults, int)

    def test_threads_have_their_own_costs(self) -> None:
        lines, ends = self.used("""
print(os.getpid(), flush=True)
thread(lambda: (busy(9), print(threading.get_native_id(), flush=True))).join()
busy(3)
""", threads=True)
        leader, worker = (ends[int(pid)] for (pid,) in lines)
        self.assertGreaterEqual((worker.cpu_ns, leader.cpu_ns), (9_000_000, 3_000_000))
        self.assertEqual([(end.max_rss, end.write_bytes) for end in ends.values()], [(None, 0)] * 2)

    def test_memory_and_io_are_known_where_they_are_asked_for(self) -> None:
        end = self.traced("true")[-1]
        self.assertEqual([name for name in Exit._extra if getattr(end, name) is not None], ["cpu_ns", "start_ns"])
        for option, known in ("-j", '"max_rss": [1-9].*"write_bytes": 0'), ("--tree", r" \d+K +0 .* true"), (
                "--stats", r"true +1 +0 .*\d s +\d+K"):
            run = subprocess.run([*CNPROC, "--ptrace", option, "true"], capture_output=True, text=True, check=True)
            self.assertRegex(run.stderr, known)

    def test_what_it_cannot_give_is_refused(self) -> None:
        watcher = self.watcher(source="ptrace")
        for pid in None, os.getpid(), 1:
            with self.assertRaisesRegex(OSError, "popen.*ebpf") as caught:
                watcher.watch(pid)
            self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        for mask, names in (What.ALL, "Uid, .*Coredump"), (What.EXIT | What.COMM, "no Comm:"):
            with self.assertRaisesRegex(OSError, names):
                watcher.popen(["true"], mask)
        with self.assertRaises(ValueError):
            cnproc.Watcher(source="strace")
        self.assertEqual((watcher.pids, watcher.read(0), watcher.lost, watcher.source), (set(), None, 0, "ptrace"))

    def test_sources_can_be_chosen(self) -> None:
        for source in {"netlink", SOURCE} - {"none"} if not REFUSED else ():
            self.assertEqual(self.watcher(source=source).source, source)

    def test_several_commands_at_once_and_one_after_the_other(self) -> None:
        watcher = self.watcher(source="ptrace")
        children = [watcher.popen(["sh", "-c", f"sleep 0.0{i}; exit {i}"]) for i in range(5)]
        self.assertEqual({child.pid: child.wait(PATIENCE) for child in children}, {
            event.pid: event.returncode for event in self.rest(watcher)
            if isinstance(event, Exit) and event.pid in {child.pid for child in children}})
        child = watcher.popen(["true"], What.NONZERO_EXIT | What.EXEC)
        child.wait()
        self.assertEqual(kinds(self.rest(watcher)), [Exec])
        for _ in range(scale(150)):  # who knows of an end finds it reported
            watcher.popen(["true"]).wait()
            self.assertEqual(kinds(iter(lambda: watcher.read(0), None)), [Fork, Exec, Exit])
        self.assert_nothing_kept(watcher)

    def test_a_slow_reader_neither_loses_events_nor_holds_the_command_up(self) -> None:
        watcher = self.watcher(source="ptrace")
        child = watcher.popen(["sh", "-c", "i=0; while [ $i -lt 900 ]; do i=$((i+1)); (:) & wait $!; done"])
        child.wait(PATIENCE)  # without a reader
        events = self.rest(watcher)
        self.assertEqual(collections.Counter(kinds(events)), {Fork: 901, Exec: 1, Exit: 901})

    def play(self, seed: int) -> list[str]:
        """What is reported wrongly of a tree: see RandomTrees."""
        with tempfile.TemporaryFile("a+") as log, cnproc.Watcher(source="ptrace") as watcher:
            words = ["./tree0", str(seed), "0", "0"]
            child = watcher.popen(words, cwd=self.folder.name, stdin=subprocess.PIPE, stdout=log,
                                  stderr=subprocess.DEVNULL)
            self.go(child)
            events: list[Any] = [*watcher._stream(watcher._deadline(PATIENCE), ending=True)]
            watched = watcher.pids
            child.communicate(timeout=PATIENCE)
            said = self.said(log)
        said["fork"][child.pid] = [str(os.getpid())]
        for kind in "try", "ran":
            said[kind][child.pid].insert(0, " ".join(words))
        wrong, counts = RandomTrees.compare(events, said)
        ends = [event.returncode for event in events if isinstance(event, Exit) and event.pid == child.pid]
        stamps = [event.timestamp_ns for event in events]
        for name, right in (("the command's end", ends == [child.returncode]), ("order", stamps == sorted(stamps)),
                            ("watched at the end", not watched),
                            ("something is unknown", not counts["losses"] + counts["unknown statuses"]),
                            # Of who is killed at its exec nobody can read the command line any more.
                            ("names are unknown", counts["unknown names"] <= 1)):
            wrong += [] if right else [name]
        return [f"seed {seed}: {text[:300]}" for text in wrong]

    def test_who_is_killed_as_it_forks_leaves_nobody_unwatched(self) -> None:
        for usage in False, True:  # with usage who is killed stops once more
            with self.subTest(usage=usage), tempfile.TemporaryFile("a+") as log:
                self.kill_as_it_forks(log, usage)

    def kill_as_it_forks(self, log: IO[str], usage: bool) -> None:
        events = self.traced(*PYTHON, "-c", """if True:
            import os, random, time
            for _ in range(200):
                pid = os.fork()
                if not pid:
                    os.setpgid(0, 0)
                while not pid:
                    if not os.fork():
                        os.write(1, b"%d\\n" % os.getpid())
                        os.execv("/bin/true", ["true"]) if random.random() < 0.5 else os._exit(0)
                time.sleep(random.random() / 500)
                try:
                    os.kill(random.choice([pid, -pid]), 9)
                except ProcessLookupError:
                    os.kill(pid, 9)
                os.waitpid(pid, 0)""", stdout=log, usage=usage)
        log.seek(0)
        forks, ends = (collections.Counter(event.pid for event in events if type(event) is kind)
                       for kind in (Fork, Exit))
        self.assertEqual((forks - ends, ends - forks, {*forks.values()}), ({}, {}, {1}))
        self.assertEqual({int(pid) for pid in log} - forks.keys(), set())
        rebuilt = [event for event in events if event.rebuilt]
        self.assertLess(len(rebuilt), 201)
        self.assertEqual({type(event) for event in rebuilt} - {Fork}, set())

    def trees(self) -> str:
        if not os.path.exists(f"{self.folder.name}/tree0"):
            self.skipTest("takes gcc")
        return "\n".join(text for seed in range(scale(50)) for text in self.play(seed))

    def test_random_trees(self) -> None:
        self.assertEqual(self.trees(), "")

    @unittest.skipUnless(shutil.which("python3", path="/usr/bin"), "no Python that anybody may run")
    def test_random_trees_of_an_ordinary_user(self) -> None:
        def trees() -> str:
            ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, which a change of the user takes away
            return self.trees()

        with self.interpreter():
            self.assertEqual(forked(trees, uid=65534), "")

    @staticmethod
    def forbid(number: int) -> None:
        """Have this system call fail with EPERM from now on, here and in children."""
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in (
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))))
        libc = ctypes.CDLL(None)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        libc.prctl(22, 2, struct.pack("@HP", 4, ctypes.addressof(program)))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    @staticmethod
    def interpreter() -> contextlib.AbstractContextManager[Any]:
        """One that other users may run, if it is of this version."""
        path = "/usr/bin/python3"
        run = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], stdout=subprocess.PIPE,
                             text=True, check=True)
        if run.stdout.strip() != str(sys.version_info[:2]):
            raise unittest.SkipTest(f"{path} is another version")
        return unittest.mock.patch.object(sys, "executable", path)

    def in_container(self, code: str) -> str:
        """What Python code writes in user, PID, network and mount namespaces of its own."""
        run = subprocess.run(["unshare", "-Urpfn", "--mount-proc", *PYTHON, "-c", "import sys\n" + code],
                             cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=PATIENCE * 4)
        if run.stdout.startswith("unshare:"):
            self.skipTest(run.stdout)
        return run.stdout

    def test_random_trees_in_a_container(self) -> None:
        self.assertEqual(self.in_container(
            "import test_cnproc\ntest = test_cnproc.Traced()\ntest.setUpClass()\nprint(test.trees(), end='')\n"
            "test.doClassCleanups()"), "")

    def test_a_command_in_a_container_is_traced_unless_that_is_forbidden(self) -> None:
        for options, says in ("", 3), ("--no-ptrace", 1):
            run = subprocess.run(["unshare", "-Urpfn", "--mount-proc", *CNPROC, *options.split(), "sh", "-c",
                                  "/bin/true; exit 3"], capture_output=True, text=True, timeout=PATIENCE)
            if run.stderr.startswith("unshare:"):
                self.skipTest(run.stderr)
            first, *lines = run.stderr.splitlines()
            self.assertEqual(run.returncode, says)
            if options:
                self.assertRegex(first, r"namespace only: .*--ptrace")
            else:
                self.assertRegex(first, "so the command is traced: debuggers.*--no-ptrace")
                self.assertEqual([line.split("  ")[-1].strip() for line in lines if "exec" in line],
                                 ["exec sh -c '/bin/true; exit 3'", "exec /bin/true"])

    @unittest.skipUnless((HERE / "README.md").exists(), "the README is not here")
    def test_the_readme_s_examples_and_every_view_in_a_container(self) -> None:
        examples = [tuple(block.split("\n", 1)) for block in Readme.blocks("console")]
        self.assertGreater(len(examples), 5)
        with tempfile.NamedTemporaryFile("r") as trace:
            examples += [("$ python3 cnproc.py --why sh -c '/bin/true; sh -c \"exit 4\"'",
                          f"exit 4 after 0.1 s: sh -c 'exit 4'  (in {HERE})\n"
                          "→ exit 4 after 0.1 s: sh -c '/bin/true; sh -c \"exit 4\"'  (in "
                          f"{HERE})\nsh -c 'exit 4' failed\n"),
                         (f"$ python3 cnproc.py --trace {trace.name} -o /dev/null sh -c 'exec /bin/true'", "")]
            runs = [self.start("unshare", "-Urpfn", "--mount-proc", "sh", "-c", command[2:], cwd=HERE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                               env=Readme.environ()) for command, _ in examples]
            for run, (command, shown) in zip(runs, examples):
                said, _ = run.communicate(timeout=PATIENCE)
                if said.startswith("unshare:"):
                    self.skipTest(said)
                said, shown = (re.sub(r'"parent_tid": \w+, ', "", text) for text in (said, shown))  # which is not known
                lines = Readme.lasting(said)
                self.assertEqual([line for line in lines if "so the command is traced" in line],
                                 [] if " -j " in command else lines[:1])
                self.assertCountEqual([line for line in lines if "is traced" not in line], Readme.lasting(shown))
            traced = {event.get("args", {}).get("cmdline") for event in json.load(trace)}
        self.assertLessEqual({"/bin/true", "sh -c 'exec /bin/true'"}, traced)

    @unittest.skipUnless(SOURCE == "ebpf", "it takes eBPF")
    def test_ebpf_and_ptrace_report_the_same(self) -> None:
        known: collections.Counter[str] = collections.Counter()
        for seed in range(scale(15)):
            watchers = [self.watcher(source=source, usage=True) for source in ("ebpf", "ptrace")]
            with tempfile.TemporaryFile() as log:
                watchers[0].watch(os.getpid())
                child = watchers[1].popen(["./tree0", str(seed), "0", "0"], cwd=self.folder.name,
                                          stdin=subprocess.PIPE, stdout=log, stderr=subprocess.DEVNULL)
                self.go(child)
                traced = self.rest(watchers[1])
                child.communicate(timeout=PATIENCE)
            pids = {event.pid for event in traced}
            left = {event.pid for event in traced if isinstance(event, Exit)}
            self.assertEqual(pids, left)
            told: list[Any] = []
            while left:
                told += self.until(watchers[0], lambda event: isinstance(event, Exit))
                left.discard(told[-1].pid)
            values = [collections.Counter(self.value(event) for event in events if event.pid in pids)
                      for events in (told, traced)]
            # Who is killed at its exec does not stop there any more.
            killed = {end.pid for end in traced if isinstance(end, Exit) and end.exit_code & 0x7F == signal.SIGKILL}
            untold = [value for value in values[0] - values[1] if value[0] is not Exec or value[1] not in killed]
            self.assertEqual((untold, values[1] - values[0]), ([], {}))
            others: dict[int, Any] = {event.pid: event for event in told if isinstance(event, Exit)}
            for end in traced:
                if isinstance(end, Exit):
                    known.update(self.same_costs(end, others[end.pid]))
            for watcher in watchers:
                watcher.close()
        # Who was killed as it ended does not stop any more, so that its memory is not known.
        self.assertLess(known["ends"] - known["max_rss"], known["ends"] / 10)
        self.assertGreater(min(known[name] for name in ("cpu_ns", "read_bytes", "major_faults")), known["ends"] / 2)

    def same_costs(self, end: Exit, other: Exit) -> list[str]:
        """Which costs of a process both sources know."""
        self.assertNotIn(None, (end.cpu_ns, end.major_faults))
        known = ["ends"]
        for name, by in ("cpu_ns", 1_000_000), ("read_bytes", 0), ("write_bytes", 0), ("major_faults", 0), (
                "max_rss", 1 << 20 if other.max_rss_exact else 1 << 40):
            mine, its = getattr(end, name), getattr(other, name)
            if None not in (mine, its):
                self.assertLessEqual(abs(mine - its), by, name)
                known.append(name)
        return known

    @staticmethod
    def value(event: Any) -> Any:
        if isinstance(event, Exec):
            return Exec, event.pid, tuple(event.cmdline or ()), event.ruid, event.cgroup
        return type(event), event.pid, event.exit_code if isinstance(event, Exit) else 0

    # A script that forks, executes and is sent signals, which it counts.
    signalled = ("trap 'n=$((n+1))' USR1; i=0; n=0; while [ $i -lt 15 ]; do i=$((i+1)); kill -USR1 $$; /bin/true & "
                 "wait; done; wait; echo $i $n; exit 7")

    def test_who_is_traced_goes_on_when_the_helper_is_killed(self) -> None:
        chance = random.Random(1)
        lost: list[int | None] = []
        for _ in range(25):
            watchers = [self.watcher(source="ptrace") for _ in range(4)]
            children = [watcher.popen(["sh", "-c", self.signalled], stdout=subprocess.PIPE, text=True)
                        for watcher in watchers]
            for watcher in watchers:
                time.sleep(chance.random() / 100)
                os.kill(watcher._subscription.pid, signal.SIGKILL)
            for watcher, child in zip(watchers, children):
                out, _ = child.communicate(timeout=PATIENCE)
                self.assertEqual((out, child.returncode), ("15 15\n", 7))
                events: list[Any] = [*watcher._stream(watcher._deadline(PATIENCE), ending=True)]
                lost += [event.count for event in events[-1:] if isinstance(event, Lost)]
                if not isinstance(events[-1], Lost):  # it was killed when all was over
                    self.assertEqual((type(events[-1]), events[-1].pid), (Exit, child.pid))
                    self.assertIsInstance(watcher.read(PATIENCE), Lost)
                self.assertEqual(watcher.pids, set())
                for use in lambda: watcher.read(0), lambda: watcher.popen(["true"]):
                    for _ in range(3):
                        with self.assertRaisesRegex(ConnectionResetError, "killed"):
                            use()
                watcher.close()
        self.assertGreater(len(lost), 50)
        self.assertEqual({*lost}, {None})

    def test_the_helper_ends_with_its_caller_and_the_command_goes_on(self) -> None:
        chance = random.Random(1)
        for _ in range(scale(50)):
            with tempfile.NamedTemporaryFile() as log:
                receive, send = os.pipe()
                caller = os.fork()
                if not caller:
                    os.setpgid(0, 0)
                    watcher = cnproc.Watcher(source="ptrace")
                    if os.fork():  # a child that holds all descriptors
                        os.write(send, b"%6d" % watcher._subscription.pid)
                        self.command = watcher.popen(["sh", "-c", self.signalled], stdout=log)
                        os.write(send, b"began")
                    time.sleep(PATIENCE)
                    os._exit(0)
                try:
                    helper = int(os.read(receive, 6))
                    time.sleep(chance.random() / 30)
                    os.kill(caller, signal.SIGKILL)
                    os.waitpid(caller, 0)
                    eventually(lambda: cnproc._ended(helper, cnproc._stat(helper)))
                    if select.select([receive], [], [], 0)[0]:
                        eventually(lambda: os.pread(log.fileno(), 9, 0) == b"15 15\n")
                finally:
                    os.killpg(caller, signal.SIGKILL)
                    os.close(receive)
                    os.close(send)

    def test_the_helper_ends_when_its_answer_has_not_been_read(self) -> None:
        helper = self.watcher(source="ptrace")._subscription
        helper._control.sendall((9 << 32).to_bytes(8, sys.byteorder))
        self.assertTrue(select.select([helper._control], [], [], PATIENCE)[0])
        helper._control.close()  # as by the end of this process
        eventually(lambda: cnproc._ended(helper.pid, cnproc._stat(helper.pid)))

    def test_the_helper_is_no_child_and_holds_nothing(self) -> None:
        watcher = self.watcher(source="ptrace")
        child = watcher.popen(["sleep", "0.1"])
        self.assertEqual(os.wait(), (child.pid, 0))
        child.returncode = 0
        with self.assertRaises(ChildProcessError):
            os.wait()
        helper = watcher._subscription.pid
        self.assertLessEqual(len([*links(helper)]), 5)
        self.assertNotEqual(os.getsid(helper), os.getsid(0))
        self.assertEqual(stat(helper)[4], "0")  # tty_nr
        watcher.close()
        eventually(lambda: cnproc._ended(helper, cnproc._stat(helper)))

    def test_a_refusal_says_what_is_in_the_way_and_what_helps(self) -> None:
        def dumpable() -> cnproc.Watcher:
            return cnproc.Watcher(source="ptrace")

        def seccomp() -> cnproc.Watcher:
            self.forbid({"x86_64": 101, "s390x": 26}.get(os.uname().machine, 117))
            return cnproc.Watcher(source="ptrace")

        def traced() -> cnproc.Watcher:
            outer = cnproc.Watcher(source="ptrace")
            child = outer.popen([*PYTHON, "-c", "import cnproc; cnproc.Watcher(source='ptrace')"], cwd=HERE,
                                stderr=subprocess.PIPE, text=True)
            raise OSError(child.communicate()[1].splitlines()[-1])

        self.assertRegex(forked(seccomp), r"^PermissionError 1 .*seccomp.*--cap-add=SYS_PTRACE")
        self.assertRegex(forked(traced), r"PermissionError: \[Errno 1\] .*process \d+ traces this one already")
        if os.geteuid() == 0:
            with self.interpreter():
                self.assertRegex(forked(dumpable, uid=65534), r"^PermissionError 1 .*not dumpable.*PR_SET_DUMPABLE")
        with unittest.mock.patch.object(sys, "executable", "/bin/false"), (
                self.assertRaisesRegex(OSError, "interpreter")):
            cnproc.Watcher(source="ptrace")
        with unittest.mock.patch.object(sys, "executable", "/nonexistent/py"), (
                self.assertRaisesRegex(FileNotFoundError, "helper with /nonexistent/py")):
            cnproc.Watcher(source="ptrace")
        self.assertRegex(self.in_container("import cnproc; libc = cnproc._libc(); libc.umount2(b'/proc', 2)\n"
                                           "cnproc.Watcher(source='ptrace')"), "FileNotFoundError.*--mount-proc")

    @unittest.skipUnless(os.geteuid() == 0 and os.path.exists(YAMA), "takes Yama, and root to set it")
    def test_yama_lets_who_may_trace(self) -> None:
        before = pathlib.Path(YAMA).read_text()
        self.addCleanup(pathlib.Path(YAMA).write_text, before)
        code = "import cnproc; print(len([*cnproc.run(['true'], source='ptrace')]))"
        for scope, root, said in (("1", False, "^3\n$"), ("2", True, "^3\n$"),
                                  ("2", False, "kernel.yama.ptrace_scope is 2: run as root, or with CAP_SYS_PTRACE")):
            pathlib.Path(YAMA).write_text(scope)
            user: dict[str, Any] = {} if root else {"user": 65534, "group": 65534, "extra_groups": []}
            run = subprocess.run([*PYTHON, "-c", code], cwd=HERE, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, **user)
            self.assertRegex(run.stdout, said)

    def test_the_command_goes_on_when_the_helper_is_killed(self) -> None:
        run = self.start(*CNPROC, "--ptrace", "sh", "-c", "echo; read x; exit 3", stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.ready(run)
        command, = children(run.pid)
        with open(f"/proc/{command}/status") as file:
            helper = next(int(line.split()[1]) for line in file if line.startswith("TracerPid:"))
        os.kill(helper, signal.SIGKILL)
        assert run.stderr
        said = b""
        while b"unwatched" not in said:
            said += run.stderr.readline()
        self.assertEqual((state(command), run.poll()), ("S", None))
        self.go(run)
        self.assertEqual(run.wait(PATIENCE), 3)

    def on_terminal(self, *command: str) -> str:
        """What a program that handles jobs writes; keys are typed when it asks for them."""
        master, slave = os.openpty()
        mode = termios.tcgetattr(slave)
        mode[3] = mode[3] & ~termios.ECHO | termios.NOFLSH
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        run = self.start(*command, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        shown = b""
        with open(master, "r+b", buffering=0) as terminal:
            for text, typed in (b"type\r\n", b"abc\n"), (b"press\r\n", b"\x03"), (None, b""):
                while text is None or text not in shown:
                    self.assertTrue(select.select([terminal], [], [], PATIENCE)[0], shown)
                    try:
                        shown += terminal.read(4096)
                    except OSError:  # it has closed the terminal
                        break
                terminal.write(typed)
        return f"{shown.decode()}status {run.wait(PATIENCE)}"

    def test_signals_and_jobs_are_as_without_it(self) -> None:
        command = *PYTHON, "-c", JOBS
        plain, traced = self.on_terminal(*command), self.on_terminal(*CNPROC, "--ptrace", *command)
        self.assertEqual(traced, plain)
        self.assertIn("interrupted", plain)


@unittest.skipIf(trace_refusal(), trace_refusal())
class StartingTraced(Starting):
    """The same by source "ptrace"."""

    def setUp(self) -> None:
        super().setUp()
        for function in cnproc.Watcher.__init__, cnproc.run:
            patch = unittest.mock.patch.dict(function.__kwdefaults__, source="ptrace")
            patch.start()
            self.addCleanup(patch.stop)

    def test_a_run_that_is_closed_waits_until_its_tracer_has_let_the_zombie_go(self) -> None:
        run = cnproc.run(["cat"], stdin=subprocess.PIPE)
        assert run.process.stdin
        with open(f"/proc/{run.process.pid}/status") as file:
            tracer = next(int(line.split()[1]) for line in file if line.startswith("TracerPid:"))
        eventually(lambda: state(run.process.pid) == "S")  # it reads
        os.kill(tracer, signal.SIGSTOP)
        going_on = threading.Timer(0.3, os.kill, (tracer, signal.SIGCONT))
        try:
            eventually(lambda: state(tracer) == "T")
            run.process.stdin.close()
            eventually(lambda: state(run.process.pid) == "Z")
        finally:
            going_on.start()
        run.close()
        self.assertEqual(run.process.returncode, 0)
        going_on.join()

    def test_an_exception_as_a_command_is_started_leaves_this_thread_untraced(self) -> None:
        watcher = self.watcher()
        original, raised = watcher._subscription._command, list[int]()

        def command(tid: int) -> int:
            if not tid and not raised:
                raised.append(tid)
                raise KeyboardInterrupt  # of a signal handler
            return int(original(tid))

        started: list[Any] = []

        class Popen(subprocess.Popen[bytes]):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                started.append(self)

        with unittest.mock.patch.object(watcher._subscription, "_command", command), \
                unittest.mock.patch.object(subprocess, "Popen", Popen), self.assertRaises(KeyboardInterrupt):
            watcher.popen(["sleep", "60"])
        self.assertEqual([process.returncode for process in started], [-9])  # the caller has not got it
        self.assertIn("TracerPid:\t0\n", pathlib.Path("/proc/thread-self/status").read_text())
        child = watcher.popen(["sh", "-c", "exit 3"])
        child.wait()
        self.assertIn(3, statuses(self.rest(watcher)))

    def test_what_other_threads_watch_meanwhile_stays_watched(self) -> None:
        self.skipTest("it watches a process that is there already")

    def test_a_watch_of_this_process_stays_as_it_was(self) -> None:
        self.skipTest("it watches a process that is there already")


class CommandLineOver(CommandLine):
    """The same by another source."""

    name = patch = ""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if os.environ.get("CNPROC_SOURCES") != "1":
            raise unittest.SkipTest("it takes CNPROC_SOURCES=1, and half a minute")
        cls.program = (*PYTHON, "-c", f"import os, sys\nsys.path.insert(0, {str(HERE)!r})\nimport cnproc\n"
                       f"{textwrap.dedent(cls.patch)}\nos._exit(cnproc.main())")
        patch = unittest.mock.patch.object(sys.modules[__name__], "SOURCE", cls.name)
        patch.start()
        cls.addClassCleanup(patch.stop)


class CommandLineDatagram(CommandLineOver):
    """The same by source "netlink"."""

    name, patch = "netlink", "cnproc.Watcher._sources = cnproc._DatagramSource,"


@unittest.skipIf(trace_refusal(), trace_refusal())
class CommandLineTraced(CommandLineOver):
    """The same by source "ptrace", where there is a COMMAND."""

    name, patch = SOURCE, """
        def watcher(args):
            args.ptrace = args.ptrace is not False and bool(args.command)
            return original(args)
        original, cnproc._watcher = cnproc._watcher, watcher"""

    def test_with_threads_a_process_outlives_its_leader(self) -> None:
        self.skipTest("a tracer learns of the first thread's end when all have ended")

    def test_a_name_that_a_process_takes_has_no_line_but_on_request(self) -> None:
        self.skipTest("it does not report the names that processes take")


del CommandLineOver


# The same behaviour with the other source.
globals().update({
    f"{case.__name__}Datagram": type(f"{case.__name__}Datagram", (case,), {"sources": (cnproc._DatagramSource,)})
    for case in (() if EMULATED or SOURCE != "ebpf" else (Life, Threads, Kinds, Statuses, Reading, Silence, Starting))})


@live
@unittest.skipUnless((HERE / "README.md").exists(), "the README is not here")
@unittest.skipUnless(SOURCE == "ebpf", f"with source {SOURCE} some names are not known")
class Readme(Case):
    """The README's commands and examples do what it shows."""

    def test_the_schema_for_other_readers_has_each_key(self) -> None:
        types = {"integer": "BIGINT", "string": "VARCHAR", "boolean": "BOOLEAN", "array": "VARCHAR[]",
                 "number": "DOUBLE"}
        wanted: dict[str, set[str]] = collections.defaultdict(set)
        for schema in SCHEMA.values():
            for name, rule in schema.items():
                kind = rule["type"] if isinstance(rule["type"], str) else rule["type"][0]
                wanted[name].add("TIMESTAMPTZ" if name == "time" else types[kind])
        shown = {name: {kind} for name, kind in json.loads(*self.blocks("json")).items()}
        self.assertEqual(shown, wanted)  # a key has one type in all kinds

    def test_no_viewer_is_named_that_does_not_open_traces(self) -> None:
        for text in self.text, cnproc._HELP, pydoc.plain(pydoc.render_doc(cnproc)):
            self.assertNotIn("chrome://", text)

    text = (HERE / "README.md").read_text() if (HERE / "README.md").exists() else ""

    @classmethod
    def blocks(cls, language: str) -> list[str]:
        found = re.findall(rf"^```{language}\n(.*?)^```$", cls.text, re.M | re.S)
        assert found
        return found

    @staticmethod
    def environ() -> dict[str, str]:
        """With `python3` what runs the tests."""
        return {**os.environ, "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"],
                "PYTHONIOENCODING": "utf-8"}

    @unittest.skipUnless(SOURCE == "ebpf", "without eBPF less is known")
    def test_the_commands_print_what_it_shows(self) -> None:
        runs: list[tuple[str, subprocess.Popen[str]]] = []
        for block in self.blocks("console"):
            command, _, shown = block.partition("\n")
            runs.append((shown, self.start("sh", "-c", command[2:], cwd=HERE, stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, encoding="utf-8", env=self.environ())))
        for shown, run in runs:
            # A parent's Exit can come before that of its last child.
            self.assertCountEqual(self.lasting(run.communicate(timeout=PATIENCE)[0]), self.lasting(shown))

    @staticmethod
    def lasting(text: str) -> list[str]:
        """The lines without what differs between runs: times, bars, the host and its boot. PIDs are numbered."""
        pids: dict[str, str] = {}

        def number(found: re.Match[str]) -> str:
            return found[1] + pids.setdefault(found[2], f"PID{len(pids)}")

        text = re.sub(r'"(host|boot_id|time|timestamp_ns|duration|start_ns|cpu_ns|max_rss(_exact)?|(read|write)_bytes|'
                      r'major_faults)": [^,}]*|[░▒▓█]', "", text)
        text = re.sub(r"\d\d:\d\d:\d\d\.\d+|\d+\.\d+ s\b|\d+ ?%", "TIME", text)
        text = re.sub(r" +", " ", re.sub(r"(<=)?\b\d+[KMG]\b", "MEMORY", text))
        for _ in "pid", "parent":
            text = re.sub(r'(?m)(^TIME (?:PID\d+ )?|[pt]id": |left behind by sh: |waiting for 1: )(\d+)', number, text)
        return [line.strip() for line in text.splitlines()]

    def test_the_examples_print_what_they_should(self) -> None:
        expected = (
            ("wait(child.pid)", ""),
            ('print("runs"', "runs ['sh', '-c', 'sleep 0.1; exit 3']\nruns ['sleep', '0.1']\n"
             "PID ended with 0\nPID ended with 3\n"),
            ("tree.failures()", "Counter({'true': 2, 'sh -c': 1, 'ls': 1})\nfailed: ls /nonexistent 2 for sh -c "
             "'/bin/true; /bin/true; ls /nonexistent 2>&1'\n"),
            ("import trio", ""),
            ("left behind", "left behind: sleep 0.5\nexit status 1\n"),
            ("dumps core", "dumps core: PID sh -c 'ulimit -c 0; kill -SEGV $$'\n"),
            ("supervise", "exit 1 ended with 1\n" * 2 + "sleep 0.1; exit 2 ended with 2\n" * 2),
        )
        blocks = self.blocks("python")
        self.assertEqual(len(blocks), len(expected))
        for block, (part, output) in zip(blocks, expected):
            with self.subTest(part):
                self.assertIn(part, block)
                run = subprocess.run([sys.executable, "-c", block], cwd=HERE, stdout=subprocess.PIPE, text=True,
                                     stderr=subprocess.PIPE, timeout=PATIENCE, env={**os.environ, "LC_ALL": "C"})
                said = re.sub(r"(?m)^ls: .*\n|^((?:dumps core: |(?:Fork|Exec|Exit) )?)\d+\b", self.pid, run.stdout)
                self.assertCountEqual(said.splitlines(), output.splitlines())
                self.assertEqual((run.returncode, run.stderr), (0, ""))

    @staticmethod
    def pid(found: re.Match[str]) -> str:
        return "" if found[1] is None else found[1] + "PID"


class Runner(unittest.TextTestRunner):
    """Runs in four processes at once what starts commands of its own and waits for them: it saves a third of the time.

    What is left runs alone behind that: it fills buffers with the events of the machine, counts its listeners, or
    reuses pids.
    """

    TRACED = Traced, StartingTraced  # they change what the machine allows to tracers
    TOGETHER = (*TRACED, CommandLine, CompileCommands, Costs, Failures, Kinds, Layout, Loading, Options, OverFake, Page,
                Readme, Rebuilding, Rows, Starting, Statuses, Table, Threads, Traces, Tracker, Typing, Vendored, Views)

    def run(self, test: Any) -> Any:
        tests = [*each_test(test)]
        together: list[unittest.TestCase] = [test for test in tests if isinstance(test, self.TOGETHER)]
        traced: list[unittest.TestCase] = [test for test in together if isinstance(test, self.TRACED)]
        others: list[unittest.TestCase] = [test for test in together if not isinstance(test, self.TRACED)]
        with contextlib.ExitStack() as stack:
            workers = [self.fork(share, stack.enter_context(tempfile.TemporaryFile("w+")))
                       for share in (traced, *(others[i::3] for i in range(3)))]
            failed: list[str] = []
            for pid, output in workers:
                status = os.waitpid(pid, 0)[1]
                output.seek(0)
                said = output.read()
                self.stream.write(said)
                failed += [said] * bool(status)
        result: Any = super().run(unittest.TestSuite(test for test in tests if test not in together))
        result.errors += [(test, said) for said in failed]
        return result

    def fork(self, tests: list[unittest.TestCase], output: IO[str]) -> tuple[int, IO[str]]:
        """Run these in a process of their own, which writes into the output. Its pid."""
        pid = os.fork()
        if not pid:
            failed = True
            try:
                runner = unittest.TextTestRunner(output, verbosity=self.verbosity, failfast=self.failfast)
                failed = not runner.run(unittest.TestSuite(tests)).wasSuccessful()
            finally:
                output.flush()
                os._exit(failed)
        return pid, output


def each_test(test: Any) -> Iterator[unittest.TestCase]:
    """The tests of a suite of suites."""
    if isinstance(test, unittest.TestCase):
        yield test
    else:
        for part in test:
            yield from each_test(part)


if __name__ == "__main__":
    print(f"source: {SOURCE}", file=sys.stderr)
    every = all(word.startswith("-") for word in sys.argv[1:])
    unittest.main(testRunner=Runner if every and not EMULATED else None)
