"""Tests of cnproc on the kernel that runs them: real children, threads, signals and namespaces, no fake kernel.

    python3 test_cnproc.py [-v] [CLASS[.TEST]]

Where the kernel does not let this process listen, the live tests are skipped, with its reason. In the environment,
CNPROC_EMULATED=1 makes the storms smaller, for a machine that is emulated.
"""
from __future__ import annotations

import collections
import contextlib
import copy
import ctypes
import errno
import faulthandler
import gc
import itertools
import json
import os
import pathlib
import pickle
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
import unittest.mock

import cnproc
from cnproc import Comm, Coredump, Exec, Exit, Fork, Gid, Lost, Ptrace, Sid, Uid, What

HERE = pathlib.Path(__file__).resolve().parent
EMULATED = os.environ.get("CNPROC_EMULATED") == "1"
PATIENCE = 120 if EMULATED else 30  # seconds after which what should have come counts as missing
RELEASE = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])

try:
    cnproc.Watcher().close()
    REFUSED = ""
except OSError as refusal:
    REFUSED = f"the kernel does not let this process listen: {refusal.strerror}"
live = unittest.skipIf(REFUSED, REFUSED)
root = unittest.skipUnless(os.geteuid() == 0, "takes root")


def scale(number: int) -> int:
    return number // 20 if EMULATED else number


def eventually(condition, pause=0.0):
    """What the condition says as soon as it holds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError("what was waited for did not come")
        time.sleep(pause)


def datagram(what, *payload, cpu=3, stamp=123456789, seq=7):
    """A process event as the kernel sends it, packed without the module's help."""
    body = struct.pack("=IIQ", what, cpu, stamp) + struct.pack(f"={len(payload)}I", *(n & 0xFFFFFFFF for n in payload))
    body = body.ljust(40, b"\0")
    return struct.pack("=IHHII", 76, 3, 0, seq, 0) + struct.pack("=IIIIHH", 1, 1, seq, 0, 40, 0) + body


def decode(data):
    return list(cnproc._decode(bytearray(data), 0, len(data)))


class Layout(unittest.TestCase):
    """What stands where, on any machine."""

    def test_structs_are_as_long_as_the_kernels(self):
        sizes = {cnproc.nlmsghdr: 16, cnproc.cn_msg: 20, cnproc.sockaddr_nl: 12, cnproc.sock_filter: 8,
                 cnproc.request: 40, Fork: 32, Exec: 24, Exit: 40,
                 Uid: 32, Gid: 32, Sid: 24, Ptrace: 32, Comm: 40, Coredump: 32}
        self.assertEqual({kind: ctypes.sizeof(kind) for kind in sizes}, sizes)

    def test_kinds_have_the_kernels_values(self):
        values = dict(NONE=0, FORK=1, EXEC=2, UID=4, GID=0x40, SID=0x80, PTRACE=0x100, COMM=0x200,
                      NONZERO_EXIT=0x20000000, COREDUMP=0x40000000, EXIT=0x80000000, LIFE=0x80000003, ALL=0xE00003C7)
        self.assertEqual({name: int(What[name]) for name in values}, values)

    def test_each_kind_is_decoded_from_its_own_fields(self):
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
                self.assertIs(type(event), kind)
                fields.update(cpu=3, timestamp_ns=123456789, rebuilt=False)
                self.assertEqual({name: getattr(event, name) for name in fields}, fields)

    def test_several_messages_in_a_datagram_all_count(self):
        data = datagram(1, 1, 1, 2, 2) + datagram(2, 2, 2) + datagram(0x80000000, 2, 2, 0, 17, 1, 1)
        self.assertEqual([type(event) for event in decode(data)], [Fork, Exec, Exit])

    def test_what_is_malformed_or_foreign_is_dropped(self):
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

    def test_ten_thousand_random_datagrams_raise_nothing(self):
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

    def test_events_are_values(self):
        one, same = decode(datagram(2, 10, 11) * 2)
        other, = decode(datagram(0x80, 10, 11))
        self.assertIsNot(one, same)
        self.assertEqual((one, hash(one)), (same, hash(same)))
        self.assertNotEqual(one, other)
        self.assertNotEqual(one, Exec())
        self.assertNotEqual(one, 2)
        for twin in pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one), eval(repr(one)):
            self.assertEqual((type(twin), twin), (Exec, one))
        self.assertEqual(repr(one), "Exec(what=2, cpu=3, timestamp_ns=123456789, tid=10, pid=11)")
        comm = Comm(pid=1, comm="naïve")
        self.assertEqual(pickle.loads(pickle.dumps(comm)), eval(repr(comm)))
        lost = Lost(3, 5)
        self.assertEqual(pickle.loads(pickle.dumps(lost)), lost)
        self.assertEqual((lost.count, lost.timestamp_ns, repr(lost)), (3, 5, "Lost(count=3, timestamp_ns=5)"))

    @unittest.skipIf(sys.version_info < (3, 10), "takes the match statement")
    def test_events_can_be_matched(self):
        names = {"event": decode(datagram(2, 10, 11))[0], "cnproc": cnproc, "found": None}
        exec("match event:\n case cnproc.Exec(pid=p): found = p", names)
        self.assertEqual(names["found"], 11)

    def test_a_comm_cut_within_a_letter_is_still_text(self):
        event, = decode(datagram(0x200, 1, 1, *struct.unpack("=4I", "fünfzehn-bytes€".encode()[:15] + b"\0")))
        self.assertEqual(os.fsencode(event.comm), "fünfzehn-bytes€".encode()[:15])

    def test_returncode_is_subprocess_s(self):
        for code, returncode in ((0, 0), (0x300, 3), (0xFF00, 255), (9, -9), (0x8B, -11), (0x86, -6), (-1, None)):
            with self.subTest(hex(code)):
                self.assertEqual(Exit(exit_code=code).returncode, returncode)

    def test_import_is_light_and_does_nothing(self):
        run = subprocess.run([sys.executable, "-S", "-X", "importtime", "-c", "import cnproc, threading, signal; "
                              "assert threading.active_count() == 1; assert signal.getsignal(15) is signal.SIG_DFL"],
                             cwd=HERE, stderr=subprocess.PIPE, text=True, check=True, timeout=PATIENCE)
        loaded = {line.split("|")[-1].strip() for line in run.stderr.splitlines()}
        self.assertIn("cnproc", loaded)
        self.assertFalse(loaded & {"argparse", "asyncio", "json", "subprocess", "logging", "shlex"})

    def test_bad_arguments_are_value_errors(self):
        for options in dict(rcvbuf=0), dict(rcvbuf=1 << 31), dict(delay=-1), dict(delay=float("nan")):
            with self.subTest(str(options)), self.assertRaises(ValueError):
                cnproc.Watcher(**options)

    def test_what_is_no_pid_is_a_type_error(self):
        for pid in None, True, What.EXIT, "1", 1.0:
            for use in cnproc.wait, cnproc.watch, cnproc.cmdline:
                with self.subTest(f"{use.__name__}({pid!r})"), self.assertRaises(TypeError):
                    use(pid)

    def test_cmdline(self):
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        self.assertEqual(cnproc.cmdline(os.getpid()), [os.fsdecode(word) for word in words])
        with self.assertRaises(ProcessLookupError):
            cnproc.cmdline(1 << 22 | 1)
        for pid in 0, -1:
            with self.assertRaises(ValueError):
                cnproc.cmdline(pid)


def setUpModule():
    # A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Case(unittest.TestCase):
    """Children that end with the test, and waiting with a deadline."""

    sieves = cnproc.Watcher._sieves

    def setUp(self):
        faulthandler.dump_traceback_later(20 * PATIENCE, exit=True)  # a deadline for all that has none of its own
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        patch = unittest.mock.patch.object(cnproc.Watcher, "_sieves", self.sieves)
        patch.start()
        self.addCleanup(patch.stop)

    def start(self, *command, **options):
        child = subprocess.Popen(command, **options)
        self.addCleanup(self.end, child)
        return child

    @staticmethod
    def end(child):
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in filter(None, (child.stdin, child.stdout, child.stderr)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def listener(self, *command, **options):
        """A child that uses cnproc, and so must not be killed: it would leave its subscription behind."""
        child = self.start(*command, **options)
        self.addCleanup(lambda: child.poll() is None and (child.send_signal(signal.SIGINT), child.wait(PATIENCE)))
        return child

    def shell(self, script, **options):
        """A shell, past its exec, that waits for go() before it runs the script."""
        return self.ready(self.start("sh", "-c", "echo; read go; " + script, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, **options))

    def again(self, pid, *command, **options):
        """A process that gets the pid of one that is gone."""
        time.sleep(0.03)  # start times are in hundredths of a second
        for _ in range(100):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
            child = self.start(*command, **options)
            if child.pid == pid:
                return child
            self.end(child)
        return self.skipTest("the pid was not to be had again")

    @staticmethod
    def ready(child):
        child.stdout.readline()
        return child

    def python(self, code, *args):
        """A Python child with the usual modules, that waits for go(); its code runs as a program of its own."""
        prelude = "import ctypes, os, signal, sys, threading, time\nlibc = ctypes.CDLL(None)\nprint(flush=True)\n"
        return self.ready(self.start(sys.executable, "-c", f"{prelude}sys.stdin.readline()\n{textwrap.dedent(code)}",
                                     *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    @staticmethod
    def go(child):
        child.stdin.write(b"\n")
        child.stdin.flush()

    def watcher(self, *pids, events=What.LIFE, follow=True, **options):
        watcher = cnproc.Watcher(**options)
        self.addCleanup(watcher.close)
        for pid in pids:
            watcher.watch(pid, events, follow=follow)
        return watcher

    def until(self, watcher, last, patience=PATIENCE):
        """The events up to the one for which last(event) holds."""
        events = []
        deadline = time.monotonic() + patience
        while not events or not last(events[-1]):
            event = watcher.read(max(0, deadline - time.monotonic()))
            if event is None:
                self.fail(f"not all came; of {len(events)} the latest: {events[-8:]}")
            events.append(event)
        return events

    def stream(self, watcher):
        """As iter(watcher), but not for ever."""
        return watcher._stream(watcher._deadline(PATIENCE), cnproc._SLOTS)

    def life(self, child, watcher=None, **options):
        """All that is reported of a child from go() to its end, and that of the last of its descendants."""
        watcher = watcher or self.watcher(child.pid, **options)
        family, ended = set(watcher.pids) - {os.getpid()}, set()

        def over(event):
            if isinstance(event, Fork):
                family.add(event.pid)
            elif isinstance(event, Exit):
                ended.add(event.pid)
            return child.pid in ended and not family & watcher.pids

        self.go(child)
        return self.until(watcher, over)

    @staticmethod
    def at_the_first_wait(function):
        """Call it when a reader is about to wait."""
        original, called = cnproc.Watcher._fill, []

        def fill(*args):
            if not called:
                called.append(True)
                function()
            return original(*args)

        return unittest.mock.patch.object(cnproc.Watcher, "_fill", fill)


def statuses(events):
    """In order of number: the kernel may tell of a parent's end ahead of that of its last child."""
    return sorted(event.returncode for event in events if isinstance(event, Exit))


def kinds(events, pid=None):
    return [type(event) for event in events if pid in (None, event.pid)]


@live
class Life(Case):
    """Fork, exec and exit, as they are told."""

    def test_fork_exec_and_exit_of_a_child(self):
        watcher = self.watcher(os.getpid())
        child = self.start("sh", "-c", "exit 3")
        fork, run, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([type(event) for event in (fork, run, end)], [Fork, Exec, Exit])
        self.assertEqual({(event.pid, event.tid) for event in (fork, run, end)}, {(child.pid, child.pid)})
        self.assertEqual((fork.parent_pid, fork.parent_tid), (os.getpid(), threading.get_native_id()))
        self.assertEqual((end.exit_code, end.returncode, end.exit_signal), (0x300, 3, signal.SIGCHLD))
        self.assertLess(fork.timestamp_ns, end.timestamp_ns)
        self.assertEqual(child.wait(), 3)

    def test_exit_statuses(self):
        for script, returncode in (("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", -9),
                                   ("kill -TERM $$", -15)):
            with self.subTest(script):
                child = self.shell(script)
                *_, end = self.life(child)
                self.assertEqual((end.returncode, child.wait()), (returncode, returncode))

    def test_a_core_dump_is_told_and_the_signal_found(self):
        with tempfile.TemporaryDirectory() as folder:
            child = self.shell("ulimit -c unlimited; kill -SEGV $$", cwd=folder)
            *_, dump, end = self.life(child, events=What.COREDUMP | What.EXIT)
            status = child.wait()
        self.assertEqual((type(dump), dump.pid), (Coredump, child.pid))
        self.assertEqual((end.returncode, status, end.exit_code & 0x7F), (-11, -11, 11))

    def test_follow_reaches_the_third_generation(self):
        child = self.shell("(sh -c 'sh -c \"exit 5\"; exit 6'; exit 7) & wait $!; exit 8")
        events = self.life(child)
        self.assertEqual(statuses(events), [5, 6, 7, 8])
        born = {event.pid: event.parent_pid for event in events if isinstance(event, Fork)}
        self.assertEqual(len(born), 3)
        self.assertLessEqual(set(born.values()), {child.pid, *born})

    def test_follow_reaches_a_daemon(self):
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

    def test_descendants_that_were_there_before_are_followed(self):
        child = self.start("sh", "-c", "exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5",
                           stdin=subprocess.PIPE)
        grandchild, = eventually(lambda: cnproc._descendants(child.pid, cnproc._processes()))
        watcher = self.watcher(child.pid, events=What.FORK | What.EXIT)
        self.assertEqual(watcher.pids, {child.pid, grandchild})
        events = self.life(child, watcher)
        self.assertEqual((kinds(events), statuses(events)), ([Exit, Exit], [4, 5]))

    def test_without_follow_children_are_born_but_not_watched(self):
        child = self.shell("sh -c 'exit 4'; exit 5")
        events = self.life(child, follow=False)
        self.assertEqual(kinds(events), [Fork, Exit])
        self.assertEqual(events[-1].returncode, 5)

    def test_two_watches_of_a_process_add_up(self):
        child = self.shell("sh -c 'exit 4'; exec sh -c 'exit 5'")
        watcher = self.watcher(child.pid, events=What.EXEC, follow=False)
        watcher.watch(child.pid, What.EXIT, follow=False)
        self.assertEqual(kinds(self.life(child, watcher)), [Exec, Exit])

    def test_a_second_watch_does_not_reach_back(self):
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
        child.stdout.readline()
        watcher.watch(child.pid, What.FORK, follow=False)
        self.go(child)
        child.stdout.readline()
        self.assertEqual(kinds(self.life(child, watcher)), [Fork, Exit])

    def test_a_birth_that_is_read_late_leaves_the_child_s_own_watch_alone(self):
        for everything in False, True:
            watcher = self.watcher()
            watcher.watch(None if everything else os.getpid(), What.EXEC)
            child = self.python("libc.prctl(15, b'fresh')")
            watcher.watch(child.pid, What.COMM | What.EXIT)
            events = self.life(child, watcher)
            self.assertEqual([kind for kind in kinds(events, child.pid) if kind is not Exec], [Comm, Exit])

    @root
    def test_a_pid_used_again_while_the_end_is_unread_is_watched_again(self):
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
            print(pid == first, flush=True)
            os.wait()
        """)
        watcher = self.watcher(child.pid)
        self.go(child)
        if child.stdout.readline() != b"True\n":
            self.skipTest("the pid was not to be had again")
        while watcher.read(0):
            pass
        self.assertEqual(len(watcher.pids), 2)
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [0, 7])

    @root
    def test_the_end_is_the_processs_own_though_its_pid_has_run_another_program_since(self):
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid, events=What.EXIT, follow=False)
        self.go(child)
        child.wait()
        self.again(child.pid, "sh", "-c", "exit 4").wait()
        self.assertEqual(statuses(watcher._stream(watcher._deadline(PATIENCE), 64, ending=True)), [3])

    @root
    def test_a_process_is_watched_whose_pid_was_anothers_that_is_yet_to_be_told_to_have_ended(self):
        for wait in False, True:
            child = self.shell("sh -c 'exit 2'; exit 3")
            watcher = self.watcher(child.pid)
            self.go(child)
            child.wait()
            other = self.again(child.pid, "sh", "-c", "echo; read go; exit 4", stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
            watcher.watch(self.ready(other).pid)
            if wait:
                self.go(other)
                other.wait()
            events = self.until(watcher, lambda event: not watcher._former and watcher.pids == {other.pid})
            self.assertEqual(statuses(events), [2, 3])
            if not wait:
                self.go(other)
            self.assertEqual(statuses(self.until(watcher, lambda event: isinstance(event, Exit))), [4])
            self.assertEqual(watcher.pids, set())

    def test_unwatch(self):
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
        for pid in child.pid, other.pid, None, 1:
            with self.assertRaises(KeyError):
                watcher.unwatch(pid)

    def test_unwatch_of_everything_leaves_the_single_watches(self):
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid)
        watcher.watch()
        watcher.unwatch()
        self.start("true").wait()
        self.assertEqual({event.pid for event in self.life(child, watcher)}, {child.pid})
        self.assertEqual((watcher._table, watcher._live), ({}, {}))

    def test_what_cannot_be_watched(self):
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
        for pid, events in ("1", What.EXIT), (1.0, What.EXIT), (1, "exit"):
            with self.assertRaises(TypeError):
                watcher.watch(pid, events)
        self.assertEqual((watcher.pids, watcher._table), (set(), {}))
        with self.assertRaises(ProcessLookupError):
            cnproc.wait(zombie.pid)
        with self.assertRaises(ProcessLookupError):
            cnproc.watch(os.getpid(), gone.pid)

    def test_a_thread_is_not_a_process(self):
        tids, stop = [], threading.Event()
        thread = threading.Thread(target=lambda: (tids.append(threading.get_native_id()), stop.wait()))
        thread.start()
        try:
            eventually(lambda: tids)
            with self.assertRaisesRegex(ProcessLookupError, f"{tids[0]} is a thread of process {os.getpid()}"):
                self.watcher().watch(tids[0])
        finally:
            stop.set()
            thread.join()

    def test_what_happened_before_the_watch_is_not_told(self):
        watcher = self.watcher(os.getpid(), events=What.COMM)  # so that something is queued
        watcher.watch(events=What.SID)
        for _ in range(10):
            self.start("true").wait()
        watcher.watch(os.getpid())
        child = self.start("true")
        events = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([(type(event), event.pid) for event in events if not isinstance(event, Sid)],
                         [(kind, child.pid) for kind in (Fork, Exec, Exit)])

    def test_everything(self):
        watcher = self.watcher()
        watcher.watch()
        child = self.start("sh", "-c", "sh -c 'exit 2'; exit 1")
        ended = set()

        def over(event):  # a parent can be told ahead of its last child
            if isinstance(event, Exit):
                ended.add(child if event.pid == child.pid else event.returncode)
            return {child, 2} <= ended

        events = self.until(watcher, over)
        self.assertEqual(kinds(events, child.pid), [Fork, Exec, Exit])
        self.assertEqual(watcher.pids, set())

    def test_nonzero_exit_is_only_that(self):
        child = self.shell("sh -c 'exit 0'; sh -c 'exit 6'; kill -9 $$")
        stream = cnproc.watch(child.pid, events=What.NONZERO_EXIT, timeout=PATIENCE)
        self.go(child)
        self.assertEqual(statuses(stream), [-9, 6])

    def test_a_list_of_events_holds_different_events(self):
        child = self.shell("sh -c 'exit 1'; sh -c 'exit 2'; exit 3")
        stream = cnproc.watch(child.pid, timeout=PATIENCE)
        self.go(child)
        events = list(stream)
        self.assertEqual(len(set(events)), len(events))
        self.assertEqual(len({id(event) for event in events}), len(events))
        self.assertEqual(statuses(events), [1, 2, 3])

    def test_ten_thousand_short_processes_each_told_once(self):
        number = scale(10_000)
        child = self.python("""
            number = int(sys.argv[1])
            for i in range(number):
                pid = os.fork()
                if not pid:
                    os._exit(i % 256)
                if i % 3:
                    os.waitpid(pid, 0)
        """, str(number))
        stream = cnproc.watch(child.pid, timeout=PATIENCE * 4)
        self.go(child)
        events = list(stream)
        self.assertEqual([event for event in events if isinstance(event, Lost)], [])
        births = [event.pid for event in events if isinstance(event, Fork)]
        ends = [(event.pid, event.returncode) for event in events if isinstance(event, Exit)]
        ends.remove((child.pid, 0))
        status = dict(ends)
        self.assertEqual((len(births), len(set(births)), len(ends), len(status)), (number, number, number, number))
        wrong = [(i, pid, status[pid]) for i, pid in enumerate(births) if status.get(pid) != i % 256]
        self.assertEqual(wrong[:5], [])
        self.assertEqual([event for event in events if event.tid != event.pid], [])


THREADS = """
def thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread
def leave():
    libc.pthread_exit(None)
"""


@live
class Threads(Case):
    """KERNEL: a thread's birth is a FORK and its end an EXIT; the process's are told of it."""

    def test_births_and_ends_of_threads_are_not_told(self):
        child = self.python(THREADS + "for _ in range(50): thread(int).join()\nos._exit(3)")
        events = self.life(child)
        self.assertEqual([(type(event), event.tid, event.returncode) for event in events], [(Exit, child.pid, 3)])

    def test_births_and_ends_of_threads_are_told_when_asked_for(self):
        child = self.python(THREADS + "for _ in range(50): thread(int).join()\nos._exit(3)")
        watcher = self.watcher(child.pid, threads=True)
        self.go(child)
        events = self.until(watcher, lambda event: not watcher.pids)
        births = [event.tid for event in events if isinstance(event, Fork)]
        ends = [event.tid for event in events if isinstance(event, Exit)]
        self.assertEqual({event.pid for event in events}, {child.pid})
        self.assertEqual((len(births), sorted(births + [child.pid])), (50, sorted(ends)))
        self.assertEqual(watcher.pids, set())

    def test_a_leader_that_ends_first_is_no_end(self):
        child = self.python(THREADS + """
def rest():
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    print("alone", flush=True)
    sys.stdin.readline()
    os._exit(7)
thread(rest)
leave()
""")
        watcher = self.watcher(child.pid)
        self.go(child)
        self.assertEqual(child.stdout.readline(), b"alone\n")
        self.assertIsNone(watcher.read(0))
        self.assertEqual(watcher.pids, {child.pid})
        late = self.watcher(child.pid)  # and one that sees it only in this state
        for each in watcher, late:
            events = self.life(child, each) if each is watcher else self.until(each, lambda event: True)
            self.assertEqual([(type(event), event.pid, event.tid, event.returncode) for event in events],
                             [(Exit, child.pid, child.pid, 7)])

    def test_threads_that_were_there_before_the_watch(self):
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
        child.stdout.readline()
        self.assertEqual([(type(event), event.returncode) for event in self.life(child)], [(Exit, 2)])

    def test_an_exec_by_another_thread_is_no_end(self):
        for _ in range(10):
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
            self.assertEqual(events[-1].returncode, 5)

    def test_a_leader_that_ends_before_an_exec_by_another_thread(self):
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

    def test_a_late_exit_after_an_exec_by_another_thread_is_no_end(self):
        # The kernel tells the leader's EXIT after it let go of it, so now and then after the EXEC. By hand, on a
        # watcher with a live process in its table, since the race cannot be had for the asking.
        child = self.shell("exit 4")
        watcher = self.watcher(child.pid)
        now = time.monotonic_ns()
        tid = child.pid + 1
        watcher._pending.extend((
            Fork(What.FORK, 0, now, 1, 1, tid, child.pid), Exec(What.EXEC, 0, now, child.pid, child.pid),
            Exit(What.EXIT, 0, now, child.pid, child.pid, 0, 17, 0, 0),
            Exit(What.EXIT, 0, now, tid, child.pid, 0, 17, 0, 0)))
        self.assertIsInstance(watcher.read(0), Exec)
        self.assertIsNone(watcher.read(0))
        self.assertEqual([(type(event), event.returncode) for event in self.life(child, watcher)], [(Exit, 4)])

    def test_the_status_is_the_one_that_ended_the_process(self):
        # Who is ending by itself, with 0, while another calls exit(2), can be told after or before that. By hand, on a
        # process that has ended, since the race cannot be had for the asking.
        long = 1_000_000_000  # between two that did not end together
        for leads, later, first, second, status in (
                (False, 100_000, 13 << 8, 0, 13 << 8), (False, 100_000, 0, 13 << 8, 13 << 8), (False, long, 31, 0, 0),
                (True, 100_000, 0, 13 << 8, 13 << 8), (True, 100_000, 13 << 8, 0, 13 << 8), (True, long, 5 << 8, 0, 0),
                (True, 100_000, 6, 0x86, 0x86), (True, 100_000, 0x86, 6, 0x86)):  # one of them dumped core
            child = self.shell("exit 0")
            watcher = self.watcher(child.pid)
            self.go(child)
            eventually(lambda: any(isinstance(event, Exit) for event in watcher._connector.receive(64)))
            child.wait()
            now, tids = time.monotonic_ns(), [child.pid + 1, child.pid]
            watcher._pending.append(Fork(What.FORK, 0, now, 1, 1, tids[0], child.pid))
            for tid, stamp, code in zip(tids[::-1] if leads else tids, (now, now + later), (first, second)):
                watcher._pending.append(Exit(What.EXIT, 0, stamp, tid, child.pid, code, 17, 0, 0))
            with self.subTest(leads=leads, later=later, first=first, second=second):
                self.assertEqual([event.exit_code for event in iter(lambda: watcher.read(0), None)], [status])

    def test_a_process_is_not_gone_while_a_thread_takes_its_leaders_place(self):
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
        tid, look = int(child.stdout.readline()), cnproc._stat

        def late(pid, thread=None):  # between the look at the leader, which is dead, and that at the thread
            if thread == tid and os.path.exists(f"/proc/{pid}/task/{tid}"):
                self.go(child)
                eventually(lambda: not os.path.exists(f"/proc/{pid}/task/{tid}"))
            return look(pid, thread)

        with unittest.mock.patch.object(cnproc, "_stat", late):
            watcher = self.watcher(child.pid)
        self.assertEqual(statuses(self.life(child, watcher)), [5])

    def test_an_old_leader_that_is_told_late_is_no_end_though_all_is_over(self):
        child = self.shell("exit 0")
        watcher = self.watcher(child.pid)
        self.go(child)
        eventually(lambda: any(isinstance(event, Exit) for event in watcher._connector.receive(64)))
        child.wait()
        now, pid = time.monotonic_ns(), child.pid
        watcher._pending.extend((
            Fork(What.FORK, 0, now, 1, 1, pid + 1, pid), Exec(What.EXEC, 0, now, pid, pid),
            Exit(What.EXIT, 0, now, pid, pid, 9, 17, 0, 0), Exit(What.EXIT, 0, now, pid, pid, 3 << 8, 17, 0, 0)))
        events = list(iter(lambda: watcher.read(0), None))
        self.assertEqual((kinds(events), statuses(events)), ([Exec, Exit], [3]))

    def test_the_end_of_a_stranger_that_got_the_pid_is_not_the_process_s(self):
        child = self.shell("exit 0")
        watcher = self.watcher(child.pid)
        self.go(child)
        eventually(lambda: any(isinstance(event, Exit) for event in watcher._connector.receive(64)))
        child.wait()
        now, pid = time.monotonic_ns(), child.pid
        watcher._pending.extend(Exit(What.EXIT, 0, now, pid, pid, status, 17, 0, 0) for status in (9, 5 << 8))
        self.assertEqual(statuses(iter(lambda: watcher.read(0), None)), [-9])

    def test_a_fork_by_a_thread_is_followed(self):
        child = self.python(THREADS + """
def born():
    if not os.fork():
        os._exit(6)
    os.wait()
thread(born).join()
os._exit(0)
""")
        fork, *ends = self.life(child)
        self.assertEqual({end.pid: end.returncode for end in ends}, {fork.pid: 6, child.pid: 0})
        self.assertEqual(fork.parent_pid, child.pid)
        self.assertNotEqual(fork.parent_tid, child.pid)

    def test_no_bookkeeping_is_left(self):
        child = self.python(THREADS + """
for i in range(int(sys.argv[1])):
    if not os.fork():
        if i % 2:
            thread(int)
        if i % 3:
            os.execv("/bin/true", ["true"])
        os._exit(0)
    os.wait()
""", str(scale(2000)))
        watcher = self.watcher(child.pid)
        watcher.watch()
        self.life(child, watcher)
        watcher.unwatch()
        self.assertEqual((watcher._known, watcher._live, len(watcher._pending)), ({}, {}, 0))


@live
class Kinds(Case):
    """Every other kind of event."""

    def told(self, kind, code, events=None):
        child = self.python(code)
        watcher = self.watcher(child.pid, events=(events or What[kind.__name__.upper()]) | What.EXIT)
        *events, end = self.life(child, watcher)
        self.assertEqual({type(event) for event in events}, {kind})
        self.assertEqual({event.pid for event in events}, {child.pid})
        self.assertEqual(end.returncode, 0, child.communicate())
        return child, events

    @root
    def test_uid(self):
        _, events = self.told(Uid, "os.setreuid(1000, 1001)")
        self.assertEqual([(event.ruid, event.euid) for event in events], [(1000, 1001)])

    @root
    def test_gid(self):
        _, events = self.told(Gid, "os.setregid(1000, 1001)")
        self.assertEqual([(event.rgid, event.egid) for event in events], [(1000, 1001)])

    def test_sid(self):
        child, events = self.told(Sid, "os.setsid()")
        self.assertEqual([event.tid for event in events], [child.pid])

    def test_comm(self):
        _, events = self.told(Comm, "libc.prctl(15, b'fresh name'); libc.prctl(15, b'\\xff\\x1b')")
        self.assertEqual([event.comm for event in events], ["fresh name", "\udcff\x1b"])

    @unittest.skipIf(RELEASE < (5, 11), "Linux 5.10 does not tell it")
    def test_comm_written_to_proc(self):
        _, events = self.told(Comm, "open('/proc/self/comm', 'w').write('by file')")
        self.assertEqual([event.comm for event in events], ["by file"])

    def test_ptrace(self):
        child = self.python("""
            libc.prctl(0x59616d61, ctypes.c_ulong(-1))  # PR_SET_PTRACER_ANY, where Yama asks for it
            print(flush=True)
            sys.stdin.readline()
        """)
        self.go(child)
        child.stdout.readline()
        watcher = self.watcher(child.pid, events=What.PTRACE | What.EXIT)
        tracer = self.start(sys.executable, "-c", textwrap.dedent("""
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

    def test_coredump(self):
        child = self.python("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()")
        watcher = self.watcher(child.pid, events=What.COREDUMP | What.EXIT)
        self.assertEqual(kinds(self.life(child, watcher)), [Coredump, Exit])


@live
class Reading(Case):
    """read(), iteration, close(), what is lost."""

    def test_wait(self):
        child = self.shell("exit 6")
        with self.at_the_first_wait(lambda: self.go(child)):
            self.assertEqual(cnproc.wait(child.pid, PATIENCE), 6)

    def test_wait_times_out(self):
        child = self.shell("")
        for timeout in 0, 0.0005, 0.05:
            with self.assertRaisesRegex(TimeoutError, str(child.pid)):
                cnproc.wait(child.pid, timeout)
        for timeout in -1, float("nan"):
            with self.assertRaises(ValueError):
                cnproc.wait(child.pid, timeout)

    def test_read_times_out_without_spinning(self):
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

    def test_read_of_what_is_queued_takes_no_time(self):
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid, events=What.EXIT, follow=False)
        self.go(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        select.select([watcher], [], [], PATIENCE)
        self.assertIsInstance(watcher.read(0), Exit)
        self.assertIsNone(watcher.read(0))

    def test_what_makes_the_descriptor_readable_is_not_told(self):
        watcher = self.watcher(os.getpid(), events=What.FORK | What.COMM, follow=False)
        storm(3)
        first = next(iter(watcher))  # the others are in hand: no datagram makes the descriptor readable
        self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
        cnproc._libc().prctl(cnproc.PR_SET_NAME, b"seen")
        events = [first, *self.until(watcher, lambda event: isinstance(event, Comm) and event.comm == "seen")]
        self.assertEqual([type(event) for event in events], [Fork, Fork, Fork, Comm])

    def test_one_read_after_each_select_misses_nothing(self):
        child = self.shell("sh -c 'exit 1'; sh -c 'exit 2'; exit 3")
        watcher = self.watcher(child.pid)
        self.go(child)
        child.wait()
        events = []
        while watcher.pids:
            self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
            events.append(watcher.read(0))
        self.assertEqual(statuses(events), [1, 2, 3])

    def test_the_generator_subscribes_when_called(self):
        child = self.shell("exit 2")
        stream = cnproc.watch(child.pid, timeout=PATIENCE)
        self.go(child)
        child.wait()
        self.assertEqual(kinds(stream), [Exit])

    def test_the_generator_of_everything_ends_after_its_timeout(self):
        self.ready(self.start("sh", "-c", "echo; while :; do true & wait; done", stdout=subprocess.PIPE))
        self.assertTrue(list(cnproc.watch(timeout=PATIENCE / 100)))

    def test_close_ends_a_blocked_read_and_a_blocked_iteration(self):
        for block in (lambda watcher: watcher.read(), list, lambda watcher: watcher.read(PATIENCE)):
            watcher = self.watcher(os.getpid(), events=What.SID)
            results = []
            thread = threading.Thread(target=lambda: results.append(block(watcher)))
            thread.start()
            eventually(lambda: watcher._reader)
            watcher.close()
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
            self.assertIn(results[0], (None, []))

    def test_close_in_a_signal_handler_ends_the_read_it_interrupts(self):
        watcher = self.watcher(os.getpid(), events=What.SID)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: watcher.close()))
        before = time.monotonic()
        with self.at_the_first_wait(lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)):
            self.assertIsNone(watcher.read(PATIENCE))
        self.assertLess(time.monotonic() - before, PATIENCE / 2)
        self.assertEqual(watcher._connector.sock.fileno(), -1)

    def test_close_in_a_forked_child_leaves_a_reading_parent_alone(self):
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid)
        results = []
        thread = threading.Thread(target=lambda: results.append(watcher.read(PATIENCE)))
        thread.start()
        eventually(lambda: watcher._reader)
        pid = os.fork()
        if not pid:
            watcher.close()
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertTrue(thread.is_alive())
        self.go(child)
        thread.join(PATIENCE)
        self.assertEqual(results[0].returncode, 3)

    def test_after_close(self):
        watcher = self.watcher(os.getpid())
        watcher.close()
        watcher.close()
        self.assertTrue(watcher.closed)
        for use in watcher.read, watcher.watch, watcher.unwatch, watcher.fileno, watcher.__enter__, watcher.__iter__:
            with self.assertRaises(ValueError):
                use()
        self.assertEqual(watcher.lost, 0)

    def test_an_overrun_is_told_with_the_kernels_count_where_it_happened(self):
        child = self.python("""
            for i in range(300):
                if not os.fork():
                    os._exit(1)
                os.wait()
            print(flush=True)
            sys.stdin.readline()
            if not os.fork():
                os._exit(2)
            os.wait()
        """)
        watcher = self.watcher(child.pid, rcvbuf=4096)
        self.go(child)
        child.stdout.readline()
        dropped = drops(watcher)
        self.assertGreater(dropped, 100)
        self.assertEqual(watcher.lost, dropped)
        early = self.until(watcher, lambda event: isinstance(event, Lost))
        self.assertEqual([event for event in early if isinstance(event, Lost)], [Lost(dropped, early[-1].timestamp_ns)])
        self.assertGreater(len(early), 2)
        self.assertNotIn(2, [event.returncode for event in early if isinstance(event, Exit)])
        self.go(child)
        late = self.until(watcher, lambda event: not watcher.pids)
        self.assertIn(2, [event.returncode for event in late if isinstance(event, Exit)])

    def test_without_the_right_to_a_large_buffer_the_allowed_one_serves(self):
        watcher = self.watcher(rcvbuf=1 << 30)
        self.assertGreater(watcher._connector.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 100_000)

    def test_a_spoofed_event_is_no_event(self):
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid)
        watcher.watch()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as liar:
            liar.bind((0, 0))
            try:
                lie = datagram(0x80000000, child.pid, child.pid, 0x700, 17, 1, 1, stamp=time.monotonic_ns())
                for data in lie, lie * 2:
                    liar.sendto(data, (0, 1))
                    liar.sendto(data, (watcher._connector.sock.getsockname()[0], 0))
            except PermissionError:
                self.skipTest("only root may send")
        events = self.life(child, watcher)
        ends = [event for event in events if isinstance(event, Exit) and event.pid == child.pid]
        self.assertEqual([event.returncode for event in ends], [1])

    def test_ctrl_c_works_in_a_blocked_read(self):
        watcher = self.watcher(os.getpid(), events=What.SID)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, signal.default_int_handler))
        for block in (watcher.read, lambda: list(watcher)):
            with self.assertRaises(KeyboardInterrupt), self.at_the_first_wait(
                    lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)):
                block()
        self.start("setsid", "true").wait()
        self.assertIsInstance(watcher.read(PATIENCE), Sid)  # and it goes on as if nothing had been

    def test_events_gather_during_the_delay(self):
        child = self.shell("exit 1")
        watcher = self.watcher(child.pid, delay=0.2)
        self.assertIsNone(watcher.read(0))
        before = time.monotonic()
        self.go(child)
        self.assertIsInstance(watcher.read(PATIENCE), Exit)
        self.assertGreaterEqual(time.monotonic() - before, 0.1)

    def test_a_delay_ends_with_the_timeout(self):
        child = self.shell("sh -c 'exit 1'; read x")
        watcher = self.watcher(child.pid, delay=PATIENCE)
        self.go(child)
        select.select([watcher], [], [], PATIENCE)
        before = time.monotonic()
        watcher.read(0.1)
        self.assertLess(time.monotonic() - before, PATIENCE / 2)

    def test_strangers_do_not_wake_a_waiter(self):
        child = self.shell("")
        waiter = self.listener(sys.executable, "-c", f"import cnproc; cnproc.wait({child.pid})", cwd=HERE,
                               stderr=subprocess.DEVNULL)
        eventually(lambda: waits(waiter.pid))
        before, began = switches(waiter.pid), time.monotonic()
        storm(scale(5000))
        tests = (time.monotonic() - began) // 3  # of its subscription: it hears nothing
        self.assertLessEqual(switches(waiter.pid) - before, 5 + 5 * tests)


def waits(pid):
    """Whether a process waits for events: it has the socket, and sleeps on and on."""
    before = switches(pid)
    time.sleep(1 if EMULATED else 0.1)
    return cnproc._stat(pid).state == "S" and switches(pid) == before and any(
        link.startswith("socket:") for link in links(pid))


def switches(pid):
    """How often a process has gone to sleep."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M).group(1))


def links(pid):
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def drops(watcher):
    """The kernel's own count for the socket."""
    inode = os.fstat(watcher.fileno()).st_ino
    with open("/proc/net/netlink") as file:
        rows = [line.split() for line in file][1:]
    return next(int(row[8]) for row in rows if int(row[9]) == inode)


def storm(number):
    """Children of this process, one after the other; their pids."""
    pids = []
    for _ in range(number):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        pids.append(pid)
    return pids


@contextlib.contextmanager
def unfiltered(rcvbuf=32 << 20, quiet=None):
    """Watchers that get every event of the machine, in a buffer of this size."""
    def sieve(watcher, looking=0):
        watcher._connector.attach([(cnproc.BPF_RET, 0, 0, 0xFFFFFFFF)])

    with contextlib.ExitStack() as stack:
        patch = lambda *args: stack.enter_context(unittest.mock.patch.object(*args))  # noqa: E731
        patch(cnproc.Watcher, "_sieve", sieve)
        patch(cnproc.Watcher.__init__, "__kwdefaults__", dict(threads=False, rcvbuf=rcvbuf, delay=0.0))
        if quiet is not None:
            patch(cnproc, "_QUIET", quiet)
        yield


@live
class Loss(Case):
    """What the kernel dropped is told, and repaired from /proc."""

    def test_wait_returns_though_the_exit_was_lost(self):
        with unfiltered(rcvbuf=4096):
            for _ in range(scale(50) or 2):
                child = self.shell("exit 3")

                def die(child=child):  # while the reader sleeps; and strangers are born
                    storm(20)
                    self.go(child)
                    child.wait()
                    storm(20)

                with self.at_the_first_wait(die):
                    self.assertIsNone(cnproc.wait(child.pid, PATIENCE))

    def test_the_generator_over_a_tree_ends_though_exits_were_lost(self):
        with unfiltered(rcvbuf=4096):
            for _ in range(scale(50) or 2):
                child = self.shell("sh -c 'read x; exit 1' & sh -c 'sh -c \"exit 2\"; exit 3'; exit 4")
                stream = cnproc.watch(child.pid, timeout=PATIENCE)
                self.go(child)
                child.wait()
                storm(20)
                events = list(stream)
                last = [event for event in events if isinstance(event, Exit) and event.pid == child.pid]
                self.assertEqual(len(last), 1)
                self.assertLess(events[-1].timestamp_ns, time.monotonic_ns())
                ends = [event.pid for event in events if isinstance(event, Exit)]
                self.assertEqual(len(ends), len(set(ends)))

    def overrun(self, watcher):
        before = drops(watcher)
        eventually(lambda: storm(20) and drops(watcher) != before)
        storm(20)

    def test_a_rebuilt_exit_says_that_it_is(self):
        with unfiltered(rcvbuf=4096):
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            self.overrun(watcher)
            self.go(child)
            child.wait()
            lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual(lost.count, drops(watcher))
        self.assertEqual((end.pid, end.returncode, end.exit_code, end.cpu, end.rebuilt),
                         (child.pid, None, -1, 0xFFFFFFFF, True))
        self.assertEqual(watcher.pids, set())

    def test_a_status_that_is_doubtful_after_a_further_loss_is_not_told(self):
        with unfiltered(rcvbuf=4096):
            child = self.python(THREADS + """
leaving = threading.Event()
def rest():
    print(flush=True)
    sys.stdin.readline()
    leaving.set()
    while "Z" not in open(f"/proc/{os.getpid()}/stat").read():
        pass
    print(flush=True)
    sys.stdin.readline()
    os._exit(7)
thread(rest)
leaving.wait()
leave()
""")
            self.go(child)
            child.stdout.readline()
            watcher = self.watcher(child.pid)
            self.overrun(watcher)
            while not watcher._loss:  # which is not repaired yet
                watcher._receive(1)
            self.go(child)
            child.stdout.readline()  # the leader's EXIT is queued, and that of the other will be lost
            self.overrun(watcher)
            self.go(child)
            child.wait()
            end = self.until(watcher, lambda event: isinstance(event, Exit))[-1]
        self.assertEqual((end.pid, end.returncode, end.rebuilt, watcher.pids), (child.pid, None, True, set()))

    def test_a_child_born_in_the_gap_is_told_and_followed(self):
        with unfiltered(rcvbuf=4096):
            child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5")
            watcher = self.watcher(child.pid)
            self.overrun(watcher)
            self.go(child)
            grandchild, = eventually(lambda: cnproc._descendants(child.pid, cnproc._processes()))
            lost, fork = self.until(watcher, lambda event: isinstance(event, Fork))
            self.assertIsInstance(lost, Lost)
            self.assertEqual((fork.pid, fork.parent_pid, fork.rebuilt), (grandchild, child.pid, True))
            events = self.life(child, watcher)
        self.assertEqual({event.pid: event.returncode for event in events if isinstance(event, Exit)},
                         {grandchild: 4, child.pid: 5})

    def test_threads_are_known_again_after_a_gap(self):
        with unfiltered(rcvbuf=4096):
            child = self.python(THREADS + """
                threads = [thread(sys.stdin.readline) for _ in range(3)]
                print(flush=True)
                leave()
            """.replace("                ", ""))
            watcher = self.watcher(child.pid)
            self.overrun(watcher)
            self.go(child)
            child.stdout.readline()
            eventually(lambda: cnproc._stat(child.pid).state == "Z", 0.001)
            self.until(watcher, lambda event: isinstance(event, Lost))
            self.assertIsNone(watcher.read(0))
            self.assertEqual(watcher.pids, {child.pid})
            child.kill()
            end, = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual((end.pid, end.returncode, end.rebuilt), (child.pid, -9, False))

    @root
    def test_a_pid_taken_over_in_the_gap_is_another_process(self):
        with unfiltered(rcvbuf=4096):
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            self.overrun(watcher)
            self.go(child)
            child.wait()
            self.again(child.pid, "sleep", "60")
            _, end = self.until(watcher, lambda event: isinstance(event, Exit))
            self.assertEqual((end.pid, end.rebuilt, watcher.pids), (child.pid, True, set()))

    def test_a_watcher_of_everything_is_repaired_too(self):
        child = self.shell("exit 3")
        watcher = self.watcher(rcvbuf=4096)
        watcher.watch()
        self.overrun(watcher)
        born = self.shell("exit 4")
        self.go(child)
        child.wait()
        events = self.until(watcher, lambda event: isinstance(event, Fork) and event.pid == born.pid)
        gap = next(i for i, event in enumerate(events) if isinstance(event, Lost))
        self.assertTrue(events[-1].rebuilt)
        self.assertIn((child.pid, True), [(e.pid, e.rebuilt) for e in events[gap + 1:] if isinstance(e, Exit)])
        self.assertNotIn(child.pid, [event.pid for event in events[:gap] if isinstance(event, Exit)])


    def test_a_process_that_ends_during_the_repair_is_told_once(self):
        child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; read go; exit 5")
        watcher = self.watcher(child.pid, events=What.FORK | What.EXIT)
        self.go(child)
        fork, = self.until(watcher, lambda event: isinstance(event, Fork))
        look = cnproc._processes

        def last_seen():
            stats = look()
            self.go(child)
            eventually(lambda: not cnproc._descendants(child.pid, look()))
            return stats

        watcher._loss = Lost(None, time.monotonic_ns())
        with unittest.mock.patch.object(cnproc, "_processes", last_seen):
            lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual((lost.count, end.pid), (None, fork.pid))
        self.assertEqual(kinds(self.life(child, watcher)), [Exit])

    def test_the_end_of_a_later_process_with_the_pid_does_not_hide_that_of_the_lost_one(self):
        child = self.shell("exit 0")
        watcher = self.watcher(child.pid, os.getpid())
        self.go(child)
        eventually(lambda: any(isinstance(event, Exit) for event in watcher._connector.receive(64)))
        child.wait()
        now, pid, me = time.monotonic_ns(), child.pid, os.getpid()
        watcher._pending.extend((Fork(What.FORK, 0, now, me, me, pid, pid),
                                 Exit(What.EXIT, 0, now + 1, pid, pid, 5 << 8, 17, 0, 0)))
        watcher._loss = Lost(1, now)
        with watcher._changing:
            watcher._repair()
        events = [watcher.read(0) for _ in range(4)]
        self.assertEqual([type(event) for event in events], [Lost, Exit, Fork, Exit])
        self.assertEqual([events[1].rebuilt, events[3].returncode], [True, 5])

    def test_an_exit_that_comes_during_the_repair_is_the_kernels(self):
        with unfiltered():
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            self.assertIsNone(watcher.read(0))

            def pause(seconds):
                storm(1)
                if seconds:
                    self.go(child)
                    child.wait()

            watcher._loss = Lost(None, time.monotonic_ns())
            with unittest.mock.patch.object(watcher, "_threads_of", lambda pid: set()), \
                    unittest.mock.patch.object(cnproc.time, "sleep", pause):
                lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual((end.returncode, end.rebuilt), (3, False))

    def test_a_process_that_is_found_may_start_a_little_later_at_the_next_look(self):
        # The start is in ticks since the boot, and when that was, two readings of clocks tell, never quite the same.
        child = self.python(THREADS + """
if not os.fork():
    thread(sys.stdin.readline).join()
    print(flush=True)
    sys.stdin.readline()
    os._exit(4)
os.wait()
os._exit(5)
""")
        watcher = self.watcher(child.pid)
        time.sleep(0.03)  # start times are in hundredths of a second
        self.go(child)
        eventually(lambda: len(cnproc._live_threads((cnproc._descendants(child.pid, cnproc._processes()) or [0])[0],
                                                    time.monotonic_ns())) == 2)
        watcher._connector.receive(64)  # as if they had not come
        stats = {pid: stat._replace(start=stat.start - 1_000_000) for pid, stat in cnproc._processes().items()}
        watcher._loss = Lost(None, time.monotonic_ns())
        with unittest.mock.patch.object(cnproc, "_processes", lambda: stats):
            lost, fork = self.until(watcher, lambda event: isinstance(event, Fork))
        self.go(child)
        child.stdout.readline()
        self.assertIsNone(watcher.read(0))
        self.assertEqual(statuses(self.life(child, watcher)), [4, 5])

    def test_a_repair_that_fails_is_made_up_for(self):
        child = self.shell("exit 3")
        watcher = self.watcher(child.pid)
        watcher._loss = Lost(7, time.monotonic_ns())
        too_many = OSError(errno.EMFILE, "Too many open files")
        with unittest.mock.patch.object(cnproc, "_processes", side_effect=too_many), self.assertRaises(OSError):
            watcher.read(0)
        self.assertEqual(watcher.read(0).count, 7)
        self.go(child)
        events = []
        with unittest.mock.patch.object(cnproc, "_live_threads", side_effect=too_many), self.assertRaises(OSError):
            events += self.until(watcher, lambda event: isinstance(event, Exit))
        events += self.until(watcher, lambda event: isinstance(event, Exit))
        self.assertEqual([(event.returncode, event.rebuilt) for event in events], [(3, False)])

    def test_what_is_not_watched_any_longer_is_not_taken_up_by_a_repair(self):
        child = self.shell("exec 3<&0; sh -c 'read go <&3; exit 4' & wait $!; exit 5")
        watcher = self.watcher(child.pid, events=What.FORK | What.EXIT)
        self.go(child)
        fork, = self.until(watcher, lambda event: isinstance(event, Fork))
        time.sleep(0.03)  # start times are in hundredths of a second
        watcher.watch(os.getpid(), What.COMM, follow=False)
        ctypes.CDLL(None).prctl(15, b"later")
        self.assertIsInstance(watcher.read(PATIENCE), Comm)
        watcher.unwatch(fork.pid)
        watcher._loss = Lost(None, time.monotonic_ns())
        self.assertIsInstance(watcher.read(0), Lost)
        self.assertEqual(kinds(self.life(child, watcher)), [Exit])

    def test_an_exit_that_is_late_after_a_loss_is_not_told_again(self):
        child = self.shell("exit 3")
        watcher = self.watcher()
        watcher.watch()
        self.go(child)
        late = []
        eventually(lambda: late.extend(watcher._connector.receive(64)) or any(
            isinstance(event, Exit) and event.pid == child.pid for event in late))
        child.wait()
        watcher._loss = Lost(None, time.monotonic_ns())
        self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid and event.rebuilt)
        watcher._pending.extend(late)
        again = self.start("true")
        events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == again.pid)
        self.assertEqual([event for event in events if isinstance(event, Exit) and event.pid == child.pid], [])


def ask(*operations):
    """Ask the kernel for these, as a new listener; whether it answers, as long as it counts one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 11) as sock:
        sock.bind((0, 1))
        for op in operations:
            sock.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, op))
        try:
            while struct.unpack_from("=I", sock.recv(4096), 36) != (0,):
                pass  # of a process, which the kernel may have begun to tell before it counted none
            return True
        except BlockingIOError:
            return False


def run_down(more=2):
    """What any user can do since Linux 6.6: take away what all listeners have added, and one, and more; how many."""
    taken = 0
    while more >= 0:
        taken += 1
        if not ask(99, 2):  # an unknown one is answered too, as long as there is a listener
            more -= 1
    return taken


def give_back(number):
    for _ in range(number):
        ask(1)


def listeners():
    """How many there are, as the kernel counts: those that were killed count on."""
    taken = run_down(0)
    give_back(taken)
    return taken - 1


@live
class Silence(Case):
    """A subscription that has gone deaf, and one that is well."""

    def test_quiet_but_well_shows_nothing(self):
        with unittest.mock.patch.object(cnproc, "_QUIET", 10_000_000):
            watcher = self.watcher(os.getpid(), events=What.COMM, follow=False)
            fd = os.readlink(f"/proc/self/fd/{watcher.fileno()}")
            for timeout in 0.3, 0.03, 0.03:
                self.assertIsNone(watcher.read(timeout))
            self.assertEqual(os.readlink(f"/proc/self/fd/{watcher.fileno()}"), fd)
            ctypes.CDLL(None).prctl(15, b"seen")
            self.assertEqual(watcher.read(PATIENCE).comm, "seen")

    @unittest.skipIf(RELEASE < (6, 6), "before Linux 6.6 only root can")
    def test_a_listener_count_run_down_by_an_ordinary_user_is_noticed(self):
        child = self.shell("sh -c 'read go'; sh -c 'exit 2'; exit 3")
        watcher = self.watcher(child.pid)
        self.assertIsNone(watcher.read(0))
        inode = os.fstat(watcher.fileno()).st_ino
        taken = int(forked(run_down, uid=65534))
        self.addCleanup(give_back, taken - 4)  # three were none, and one is ours
        self.go(child)  # a fork that is not heard
        eventually(lambda: cnproc._descendants(child.pid, cnproc._processes()))
        lost, fork = self.until(watcher, lambda event: isinstance(event, Fork))
        self.assertEqual((lost.count, fork.rebuilt, fork.parent_pid), (None, True, child.pid))
        self.assertEqual(os.fstat(watcher.fileno()).st_ino, inode)  # so that an epoll that has it keeps it
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [0, 2, 3])
        self.assertFalse(any(event.rebuilt for event in events))

    @unittest.skipIf(RELEASE < (6, 6), "before Linux 6.6 only root can")
    def test_a_listener_count_below_zero_is_made_up_for_at_the_start(self):
        self.addCleanup(give_back, int(forked(run_down, uid=65534)) - 3)
        child = self.shell("exit 3")
        self.assertEqual([event.returncode for event in self.life(child)], [3])

    def test_an_exit_that_the_kernel_lost_without_counting_it_is_noticed(self):
        with unittest.mock.patch.object(cnproc, "_QUIET", 50_000_000):
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            self.go(child)
            eventually(lambda: any(  # as if it had not come
                isinstance(event, Exit) and event.pid == child.pid for event in watcher._connector.receive(64)))
            child.wait()
            lost, end = self.until(watcher, lambda event: isinstance(event, Exit))
            self.assertEqual((lost.count, end.pid, end.rebuilt), (None, child.pid, True))

    def test_an_uncounted_loss_is_noticed_though_strangers_are_heard(self):
        with unfiltered(quiet=100_000_000):
            child = self.shell("exit 3")
            watcher = self.watcher(child.pid)
            self.go(child)
            eventually(lambda: any(
                isinstance(event, Exit) and event.pid == child.pid for event in watcher._connector.receive(64)))
            child.wait()
            self.start("sh", "-c", "while :; do sleep 0.02; done")
            lost, end = itertools.islice(self.stream(watcher), 2)
        self.assertEqual((lost.count, end.pid, end.rebuilt), (None, child.pid, True))

    def test_a_forked_child_can_only_close_the_watcher(self):
        watcher = self.watcher()
        watcher.watch(os.getpid(), What.ALL)
        begun = iter(watcher)
        uses = [watcher.read, watcher.watch, watcher.unwatch, watcher.fileno, watcher.__enter__, lambda: next(begun),
                lambda: iter(watcher)]

        def child():
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


def forked(function, uid=None, unshare=0, caps=0):
    """What the function says, run in a child elsewhere: as another user, in other namespaces."""
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if unshare and libc.unshare(unshare):
                os.write(send, b"not to be had: unshare: " + os.strerror(ctypes.get_errno()).encode())
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
    if "not to be had" in result:
        raise unittest.SkipTest(result)
    return result


@live
@root
class Elsewhere(Case):
    """Other users and namespaces: who is refused is told why, and what to do."""

    @staticmethod
    def follows():
        """Whether a whole watch works, from here."""
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

    def test_another_network_namespace(self):
        said = forked(cnproc.Watcher, unshare=CLONE_NEWNET)
        self.assertRegex(said, r"^ConnectionRefusedError 111 .*network namespace.*--network=host")

    def test_another_pid_namespace(self):
        said = forked(cnproc.Watcher, unshare=CLONE_NEWPID)
        self.assertRegex(said, r"^PermissionError 1 .*pid namespace.*--pid=host")

    def test_another_user_namespace(self):
        said = forked(cnproc.Watcher, unshare=CLONE_NEWUSER)
        self.assertRegex(said, r"^PermissionError 1 .*user namespace.*--userns=host")

    def test_a_container_of_all_three(self):
        said = forked(cnproc.Watcher, unshare=CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
        self.assertRegex(said, r"Error \d+ .*namespace.*run on the host")

    def test_an_ordinary_user(self):
        said = forked(self.follows, uid=65534)
        if RELEASE < (6, 6):
            self.assertRegex(said, r"^PermissionError 1 .*CAP_NET_ADMIN.*run as root")
        else:
            self.assertEqual(said, "[5, 6]")

    def test_the_capability_alone(self):
        self.assertEqual(forked(self.follows, uid=65534, caps=CAP_NET_ADMIN), "[5, 6]")

    def test_a_process_that_proc_hides(self):
        def hidden():
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
            if libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2"):
                return f"not to be had: mount: {os.strerror(ctypes.get_errno())}"
            child = self.shell("")
            said = [forked(lambda use=use: use(child.pid), uid=65534, caps=CAP_NET_ADMIN)
                    for use in (cnproc.wait, cnproc.cmdline)]
            return "; ".join([*said, forked(own, uid=65534, caps=CAP_NET_ADMIN)])

        def own():  # a process that comes to be hidden from its own user, who may signal it
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
                watcher._loss = Lost(None, time.monotonic_ns())
                events = list(iter(lambda: watcher.read(0), None))
                os.write(going, b"\n")
                return f"{events[0].count} lost, {len(events)} told, then {watcher.read(PATIENCE).returncode}"

        said = forked(hidden, unshare=CLONE_NEWNS)
        refused = r"PermissionError 1 .*hides it \(hidepid\)[^;]*"
        self.assertRegex(said, f"^{refused}; {refused}; None lost, 1 told, then 0$")

    def test_a_time_namespace(self):
        run = subprocess.run(
            ["unshare", "-T", "--monotonic", "1000", "--boottime", "1000", sys.executable, "-c",
             "import cnproc, subprocess; p = subprocess.Popen(['sh', '-c', 'read x; exit 3'], stdin=subprocess.PIPE); "
             "s = cnproc.watch(p.pid, events=cnproc.What.EXIT, timeout=20); p.stdin.close(); "
             "print([event.returncode for event in s])"],
            cwd=HERE, capture_output=True, text=True, timeout=PATIENCE)
        if "unshare" in run.stderr:
            self.skipTest(f"no time namespace to be had: {run.stderr.strip()}")
        self.assertEqual((run.stdout, run.stderr), ("[3]\n", ""))


@live
class Soak(Case):
    """Storms, and nothing left behind by them. CNPROC_SOAK=1 makes them long."""

    times = 20 if os.environ.get("CNPROC_SOAK") == "1" else 1

    @staticmethod
    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def test_births_leave_no_memory_behind(self):
        number = scale(10_000) * self.times
        child = self.python("""
            for _ in range(int(sys.argv[1])):
                if not os.fork():
                    os._exit(0)
                os.wait()
        """, str(number))
        births, start = 0, 0
        with cnproc.Watcher() as watcher:
            watcher.watch(child.pid)
            self.go(child)
            for event in watcher._stream(watcher._deadline(PATIENCE * 10), 64, ending=True):
                births += isinstance(event, Fork)
                if births == 1000:  # so many that there is no more to be had for the first time
                    start = start or self.resident()
            self.assertEqual((births, watcher._table, watcher._live, watcher._ending), (number, {}, {}, {}))
        self.assertLess(self.resident() - start, 2 << 20 if start else 1 << 40)

    def test_watchers_opened_and_closed_leave_nothing(self):
        before = len(os.listdir("/proc/self/fd"))
        start = 0
        for i in range(scale(400) * self.times):
            watcher = cnproc.Watcher(rcvbuf=4096)
            watcher.watch(os.getpid(), follow=False)
            if i % 2:
                watcher.close()
            if i == 100:
                start = self.resident()
        del watcher
        self.assertLess(self.resident() - start, 2 << 20 if start else 1 << 40)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_storms_of_threads_and_processes_on_all_processors(self):
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
        number = scale(300) * self.times
        child = self.python(code, str(number))
        stream = cnproc.watch(child.pid, timeout=PATIENCE * 10)
        self.go(child)
        events = list(stream)
        births = [event.pid for event in events if isinstance(event, Fork)]
        ends = {event.pid: event.returncode for event in events if isinstance(event, Exit)}
        self.assertEqual(len(births), len(set(births)))
        self.assertEqual(sorted([*births, child.pid]), sorted(event.pid for event in events if isinstance(event, Exit)))
        self.assertEqual(sorted(ends.values()), [3] * (len(ends) - 4) + [4] * 4)
        self.assertEqual(len(ends), 4 * number + 4)

    def test_a_reader_that_is_stopped_for_a_while_goes_on(self):
        child = self.shell("i=0; while [ $i -lt 200 ]; do true & wait; i=$((i+1)); done; exit 3")
        code = f"import cnproc; s = cnproc.watch({child.pid}); print(flush=True); "
        code += f"print([e.returncode for e in s if type(e) is cnproc.Exit and e.pid == {child.pid}])"
        reader = self.ready(self.listener(sys.executable, "-c", code, cwd=HERE, stdout=subprocess.PIPE))
        reader.send_signal(signal.SIGSTOP)
        self.go(child)
        child.wait()
        reader.send_signal(signal.SIGCONT)
        self.assertEqual(reader.communicate(timeout=PATIENCE)[0], b"[3]\n")


@live
class Traces(Case):
    """What is left behind: nothing."""

    def setUp(self):
        super().setUp()
        if RELEASE < (6, 6) and os.geteuid():
            self.skipTest("before Linux 6.6 it takes root to count the listeners")
        self.others = listeners()

    def ours(self):
        return listeners() - self.others

    def test_close_is_the_end_of_the_subscription(self):
        watcher = cnproc.Watcher()
        self.assertEqual(self.ours(), 1)
        watcher.close()
        self.assertEqual(self.ours(), 0)

    def test_a_watcher_that_is_garbage_is_closed(self):
        before = len(os.listdir("/proc/self/fd"))
        watcher = cnproc.Watcher()
        watcher.watch(os.getpid())
        stream = cnproc.watch(os.getpid())
        started = cnproc.watch(os.getpid(), timeout=0.01)
        next(started, None)
        self.assertEqual(self.ours(), 2)
        del watcher, stream, started
        gc.collect()
        self.assertEqual(self.ours(), 0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_the_end_of_the_interpreter_is_the_end_of_the_subscription(self):
        for code in "", "1/0", "w.self = w; raise SystemExit":
            subprocess.run([sys.executable, "-c", "import cnproc; w = cnproc.Watcher(); " + code], cwd=HERE,
                           stderr=subprocess.DEVNULL, timeout=PATIENCE)
            self.assertEqual(self.ours(), 0)

    def test_a_forked_child_leaves_the_subscription_to_its_parent(self):
        with cnproc.Watcher() as watcher:
            watcher.watch(os.getpid(), What.EXIT)
            code = "import cnproc, os; w = cnproc.Watcher(); os.fork() or exit(); os.wait(); w.watch(os.getpid()); "
            code += "pid = os.fork(); pid or os._exit(3); print(w.read(30).pid == pid)"
            run = subprocess.run([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, timeout=PATIENCE)
            self.assertEqual(run.stdout, b"True\n")
            pid = os.fork()
            if not pid:
                watcher.close()
                os._exit(5)
            os.waitpid(pid, 0)
            self.assertEqual(self.until(watcher, lambda event: event.pid == pid)[-1].returncode, 5)
        self.assertEqual(self.ours(), 0)

    def test_a_constructor_that_fails_leaves_nothing(self):
        before = len(os.listdir("/proc/self/fd"))
        with self.assertRaises(ProcessLookupError):
            cnproc.watch(os.getpid(), 1 << 30)
        with self.assertRaises(ValueError):
            cnproc.watch(0)
        for name in "open", "_ask":  # a ctrl-C in them, after what they do
            original = getattr(cnproc._Connector, name)

            def interrupted(*args, original=original):
                original(*args)
                raise KeyboardInterrupt

            with unittest.mock.patch.object(cnproc._Connector, name, interrupted), \
                    self.assertRaises(KeyboardInterrupt):
                cnproc.Watcher()
        gc.collect()
        self.assertEqual(self.ours(), 0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_the_command_line_ended_by_a_signal_leaves_nothing(self):
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            run = self.listener(sys.executable, str(HERE / "cnproc.py"), stdout=subprocess.PIPE)
            eventually(lambda: storm(1) and select.select([run.stdout], [], [], 0.05)[0])
            run.send_signal(number)
            run.communicate(timeout=PATIENCE)
            self.assertEqual(run.returncode, status)
            self.assertEqual(self.ours(), 0)


class CommandLine(Case):
    """python3 cnproc.py, as a user has it."""

    def cnproc(self, *args, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return self.listener(sys.executable, str(HERE / "cnproc.py"), *map(str, args), **options)

    def output(self, *args, status=0):
        run = self.cnproc(*args)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual(run.returncode, status, err)
        return out, err

    def follow(self, script, *args):
        """What is told of a script's run, from before it on; a `read` in it returns when an exec or exit was told."""
        child = self.shell(script)
        run = self.cnproc(*args, child.pid)
        self.settle(run)
        self.go(child)
        lines = []
        for line in run.stdout:
            lines.append(line.rstrip("\n"))
            if re.match(r'(\S+|{"event":) "?(exec|exit)', line):
                with contextlib.suppress(BrokenPipeError):
                    self.go(child)
        self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (0, ""))
        return child, lines

    def settle(self, run):
        """Wait until it waits for events."""
        eventually(lambda: run.poll() is not None or waits(run.pid))
        self.assertIsNone(run.poll())

    def test_usage(self):
        for args in (["0"], ["-e", "fork,nothing", "1"], ["x"], ["--what"], ["-d", "x"], ["-d", "-1"], ["-5"], ["1.5"]):
            with self.subTest(args=args):
                _, err = self.output(*args, status=2)
                self.assertIn("usage: cnproc", err)
                self.assertNotIn("Traceback", err)

    def test_version_and_help(self):
        self.assertEqual(self.output("-V")[0], f"cnproc {cnproc.__version__}\n")
        out, _ = self.output("-h")
        for part in "examples:", "--no-follow", "nonzero_exit", "--duration":
            self.assertIn(part, out)

    @live
    def test_text(self):
        child, lines = self.follow("sh -c 'read x; exit 3' ' a b\x1b[31m'; read x; kill -9 $$")
        told = [re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6} (\w+) +(\d+)  (.*)", line).groups() for line in lines]
        self.assertEqual([kind for kind, _, _ in told], ["fork", "exec", "exit", "exit"])
        self.assertEqual(len({pid for _, pid, _ in told}), 2)
        self.assertTrue(told[0][2].startswith(f"child of {child.pid}: sh -c "))
        self.assertEqual(told[1][2], r"sh -c 'read x; exit 3' ' a b\x1b[31m'")
        self.assertRegex(told[2][2], r"^3 after \d\.\d{3} s: sh -c 'read x; exit 3' ' a b\\x1b\[31m'$")
        self.assertRegex(told[3][2], r"^SIGKILL after \d+\.\d{3} s: sh -c 'echo; read go; ")

    @live
    def test_json(self):
        child, lines = self.follow("sh -c 'read x; exit 3'; read x; exit 4", "--json")
        fork, run, end, last = map(json.loads, lines)
        for told, kind in ((fork, "fork"), (run, "exec"), (end, "exit"), (last, "exit")):
            self.assertEqual((told["event"], told["host"]), (kind, socket.gethostname()))
            self.assertRegex(told["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertGreater(told["timestamp_ns"], 0)
        self.assertEqual((fork["parent_pid"], fork["pid"], fork["tid"]), (child.pid, run["pid"], run["pid"]))
        self.assertEqual((run["cmdline"], end["cmdline"]), (["sh", "-c", "read x; exit 3"],) * 2)
        self.assertEqual((end["returncode"], end["exit_code"]), (3, 0x300))
        self.assertEqual((last["returncode"], last["pid"]), (4, child.pid))
        self.assertAlmostEqual(end["duration"], (end["timestamp_ns"] - fork["timestamp_ns"]) / 1e9)
        self.assertGreater(last["duration"], end["duration"])

    @live
    def test_the_first_example(self):
        child = self.start("sh", "-c", f"sleep {8 if EMULATED else 1}; exit 7")  # longer than Python takes to start
        out, _ = self.output(child.pid)
        told = [line.split(maxsplit=3)[1:] for line in out.splitlines()]
        self.assertEqual([kind for kind, _, _ in told], ["fork", "exec", "exit", "exit"])
        ends = sorted(said for _, _, said in told[2:])  # a parent can be told ahead of its last child
        self.assertTrue(ends[0].startswith("0 after ") and ends[1].startswith("7 after "), out)

    @live
    def test_kinds_can_be_chosen(self):
        child, lines = self.follow("sh -c 'exit 3'; sh -c 'exit 0'; exit 0", "-e", "nonzero_exit")
        self.assertEqual(len(lines), 1)
        self.assertIn(" 3 after ", lines[0])
        child, lines = self.follow("sh -c 'exit 3'; exit 0", "--no-follow", "-e", "exec,exit")
        self.assertEqual([line.split()[1:3] for line in lines], [["exit", str(child.pid)]])

    @live
    def test_a_pid_that_is_gone(self):
        gone, child = self.start("true"), self.shell("exit 0")
        gone.wait()
        _, err = self.output(gone.pid, status=1)
        self.assertEqual(err, f"cnproc: no process {gone.pid}: it has ended, or never was\n")
        run = self.cnproc(gone.pid, child.pid)
        self.settle(run)
        self.go(child)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err.count("\n"), out.count("\n")), (0, 1, 1))
        self.assertIn(f"no process {gone.pid}", err)
        self.assertIn(f" {child.pid} ", out)

    @live
    def test_a_pipe_that_closes_ends_it_quietly(self):
        child = self.start("sh", "-c", "while :; do true & wait; done")
        run = self.cnproc(child.pid)
        self.assertTrue(run.stdout.readline())
        run.stdout.close()
        self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (0, ""))

    @live
    def test_every_kind_has_its_line(self):
        code = THREADS + "os.setsid(); libc.prctl(15, b'fresh'); thread(int).join(); os._exit(3)"
        child = self.python(code)
        run = self.cnproc("-e", "all", "--threads", child.pid)
        self.settle(run)
        self.go(child)
        out, err = run.communicate(timeout=PATIENCE)
        expected = ("sid +PID  leads a new session", "comm +PID  named 'fresh'", r"fork +PID  thread \d+ born",
                    r"exit +PID  thread \d+ [03]", r"exit +PID  3 after \d+\.\d{3} s")  # these two in any order
        for pattern in expected:
            self.assertRegex(out, pattern.replace("PID", str(child.pid)) + ": ")
        self.assertEqual(out.count("\n"), len(expected), out)
        self.assertEqual(err, "")

    @live
    def test_what_comes_seldom_has_its_line_too(self):
        args = cnproc._arguments(["-e", "all", str(os.getpid())])
        now = time.monotonic_ns()
        for event, said in (
            (Lost(12, now), "12 events; what /proc knows follows"),
            (Lost(None, now), "some events; what /proc knows follows"),
            (Uid(What.UID, 0, now, 1, 1, 2, 3), "user 2, effective 3"),
            (Gid(What.GID, 0, now, 1, 1, 2, 3), "group 2, effective 3"),
            (Ptrace(What.PTRACE, 0, now, 1, 1, 2, 2), "traced by 2"),
            (Ptrace(What.PTRACE, 0, now, 1, 1), "traced no longer"),
            (Coredump(What.COREDUMP, 0, now, 1, 1), "dumps core"),
            (Exit(What.EXIT, cnproc.REBUILT, now, 1, 1, -1), "status lost  (from /proc)"),
        ):
            with self.subTest(event=event):
                self.assertEqual(cnproc._Narrator(self.watcher(), args).hear(event).split(maxsplit=3)[3], said)
        args.json = True
        told = json.loads(cnproc._Narrator(self.watcher(), args).hear(Lost(None, now)))
        self.assertEqual((told["event"], told["count"], told["timestamp_ns"]), ("lost", None, now))

    @live
    def test_children_that_are_not_followed_are_not_kept(self):
        for options, kept in (["--no-follow"], 1), ([], 2):
            watcher = self.watcher(os.getpid())
            narrator = cnproc._Narrator(watcher, cnproc._arguments([*options, str(os.getpid())]))
            narrator.meet(os.getpid())
            narrator.hear(Fork(What.FORK, 0, time.monotonic_ns(), os.getpid(), os.getpid(), 2, 2))
            self.assertEqual((len(narrator._names), len(narrator._births)), (kept, kept))

    @live
    def test_what_cannot_be_written_is_said(self):
        child = self.start("sh", "-c", "while :; do true & wait; done")
        with open("/dev/full", "w") as full:
            run = self.cnproc(child.pid, stdout=full)
            self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (1, "cnproc: No space left on device\n"))
        run = self.cnproc(child.pid, stdout=None, preexec_fn=lambda: os.close(1))
        self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (1, "cnproc: standard output is closed\n"))

    def test_ctrl_c_is_quiet_though_the_pipe_is_closed_and_something_is_unsaid(self):
        code = """if True:
            import cnproc
            def run(args):
                print("in hand")
                raise KeyboardInterrupt
            cnproc._run = run
            raise SystemExit(cnproc._main([]))
        """
        receive, send = os.pipe()
        os.close(receive)
        run = subprocess.run([sys.executable, "-E", "-c", code], cwd=HERE, stdout=send, stderr=subprocess.PIPE,
                             timeout=PATIENCE)
        os.close(send)
        self.assertEqual((run.returncode, run.stderr), (130, b""))

    @live
    def test_it_ends_after_its_duration(self):
        out, err = self.output("-d", "0.2", os.getpid())
        self.assertEqual(err, "")

    @live
    def test_ctrl_c(self):
        run = self.cnproc(os.getpid())
        self.settle(run)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, err), (130, ""))


# The whole behaviour once more with classic BPF, and with no filter at all.
globals().update({
    case.__name__ + name: type(case.__name__ + name, (case,), {"sieves": sieves})
    for case in (() if EMULATED else (Life, Threads, Kinds, Silence))
    for name, sieves in (("Classic", ("classic",)), ("Unfiltered", ()))})


@live
class Sieves(Case):
    """What passes in the kernel makes no difference to what is told."""

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

    def mapped(self, pid):
        watcher = self.watcher(pid)
        if not watcher._connector.map:
            self.skipTest("no eBPF to be had")
        return watcher

    def test_three_watchers_see_the_same(self):
        total = 0
        for seed in range(3 if EMULATED else 15):
            with self.subTest(seed=seed):
                child = self.python(self.FAMILY, str(seed))
                watchers = []
                for sieves in ("ebpf", "classic"), ("classic",), ():
                    watchers.append(self.watcher())
                    watchers[-1]._sieves = sieves
                    watchers[-1].watch(child.pid, What.ALL)
                self.go(child)
                told = [list(watcher._stream(watcher._deadline(PATIENCE), 64, ending=True)) for watcher in watchers]
                self.assertEqual([watcher.pids for watcher in watchers], [set()] * 3)
                # Two processors tell two sockets of two events in any order.
                first, *others = (sorted(map(repr, events)) for events in told)
                total += len(first)
                for other in others:
                    self.assertEqual(set(first) ^ set(other), set())
        self.assertGreater(total, 100)

    @root
    def test_a_full_map_lets_everything_pass_and_is_replaced_by_a_larger_one(self):
        with unittest.mock.patch.object(cnproc._Map, "LEAST", 8):
            child = self.python("""
                pids = []
                for i in range(100):
                    pid = os.fork()
                    if not pid:
                        signal.pause()
                    pids.append(pid)
                print(flush=True)
                sys.stdin.readline()
                for i, pid in enumerate(pids):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                os._exit(2)
            """)
            watcher = self.mapped(child.pid)
            self.assertEqual(watcher._connector.map.size, 8)
            self.go(child)
            child.stdout.readline()
            self.assertTrue(watcher._connector.map.open)
            storm(100)
            births = [event for event in iter(lambda: watcher.read(0), None) if isinstance(event, Fork)]
            self.assertEqual((len(births), len(watcher.pids)), (100, 101))
            self.assertGreater(watcher._connector.map.size, 100)
            self.assertIsNone(watcher.read(0))
            self.assertFalse(watcher._connector.map.open)
            self.go(child)
            events = self.until(watcher, lambda event: not watcher.pids)  # a parent can be told ahead of its last child
        self.assertEqual(statuses(events), [-9] * 100 + [2])

    @root
    def test_the_map_forgets_who_has_ended_and_whom_nobody_watches(self):
        child = self.shell("sh -c 'exit 4'; read go; sh -c 'exec sleep 60' & wait $!; exit 5",
                           stderr=subprocess.DEVNULL)
        watcher = self.mapped(child.pid)
        watcher.watch(os.getpid(), What.COMM, follow=False)
        self.go(child)
        gone = self.until(watcher, lambda event: isinstance(event, Exit))[-1].pid
        self.go(child)
        sleeper, = eventually(lambda: cnproc._descendants(child.pid, cnproc._processes()))
        self.assertTrue(watcher._connector.map.get(sleeper).passing)
        watcher.unwatch(child.pid)  # before its birth is read
        while watcher.read(0):
            pass
        for pid in gone, child.pid, sleeper:
            with self.assertRaises(FileNotFoundError):
                watcher._connector.map.get(pid)
        os.kill(sleeper, signal.SIGKILL)

    @root
    def test_the_map_is_closed_before_watch_returns_and_keeps_strangers_out(self):
        child = self.shell("sh -c 'exit 4'; exit 5")
        watcher = self.mapped(child.pid)
        self.assertFalse(watcher._connector.map.open)
        storm(100)
        self.assertFalse(select.select([watcher], [], [], 0)[0])
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [4, 5])

    @root
    def test_watching_again_and_again_forgets_nothing_that_is_in_hand(self):
        child = self.shell("sh -c 'exit 1'; sh -c 'exit 2'; echo; read go; exit 3")
        watcher = self.mapped(child.pid)
        self.go(child)
        child.stdout.readline()
        stream = self.stream(watcher)
        events = [next(stream)]
        for kind in What.UID, What.GID, What.SID:
            watcher.watch(child.pid, kind)
        self.go(child)
        while watcher.pids:  # a parent can be told ahead of its last child
            events.append(next(stream))
        self.assertEqual(statuses(events), [1, 2, 3])

    def test_a_reader_does_not_sleep_on_what_another_thread_took_in(self):
        child, other = self.shell("exit 1"), self.shell("exit 2")
        watcher = self.watcher(child.pid)

        def elsewhere():
            self.go(child)
            child.wait()
            watcher.watch(other.pid)  # which empties the socket

        before = time.monotonic()
        with unittest.mock.patch.object(cnproc, "_QUIET", 1 << 50), self.at_the_first_wait(elsewhere):
            self.assertEqual(watcher.read(PATIENCE).returncode, 1)
        self.assertLess(time.monotonic() - before, PATIENCE / 2)

    @root
    def test_a_birth_after_the_last_look_and_before_the_map_closes_is_followed(self):
        child = self.shell("sh -c 'read x; exit 4'; exit 5")
        watcher = self.mapped(child.pid)
        watcher._connector.map.open = True
        self.go(child)
        self.until(watcher, lambda event: isinstance(event, Exec))
        watcher._connector.map.open = False  # and nobody has put the birth that passed into it
        events = self.life(child, watcher)
        self.assertEqual(statuses(events), [4, 5])

    @root
    def test_a_watch_beside_a_reader_does_not_leave_the_map_open(self):
        child, other = self.shell("exit 1"), self.shell("exit 2")
        watcher = self.mapped(child.pid)
        told = []
        reader = threading.Thread(target=lambda: told.extend(watcher))
        reader.start()
        eventually(lambda: watcher._reader)
        watcher.watch(other.pid)
        eventually(lambda: storm(1) and not watcher._connector.map.open)
        self.go(child)
        self.go(other)
        eventually(lambda: not watcher.pids, 0.001)
        watcher.close()
        reader.join(PATIENCE)
        self.assertEqual(statuses(told), [1, 2])

    def test_many_processes_without_follow(self):
        for sieves in ("ebpf", "classic"), ("classic",), ():
            watcher = self.watcher()
            watcher._sieves = sieves
            children = [self.shell("exit 3") for _ in range(10)]
            others = [pid for pid in cnproc._processes() if cnproc._live_threads(pid, time.monotonic_ns())]
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    watcher.watch(pid, What.EXIT, follow=False)
            for child in children:
                self.go(child)
            events = self.until(watcher, lambda event: not watcher.pids & {child.pid for child in children})
            self.assertLessEqual({child.pid for child in children}, {event.pid for event in events})


@live
@root
class Shared(Case):
    """All processes' events through memory shared with the kernel."""

    def sharing(self, **options):
        watcher = self.watcher(**options)
        watcher.watch()
        if not watcher._connector.sharing:
            self.skipTest("no ring buffer to be had")
        return watcher

    def lives(self, watcher, number):
        """What is told of each process of a storm; fails where births are told out of their order."""
        pids = set(storm(number))
        lives = collections.defaultdict(list)
        newest, stream = 0, self.stream(watcher)
        while pids:
            event = next(stream)
            self.assertNotIsInstance(event, Lost)
            if isinstance(event, Fork) and event.parent_pid == os.getpid():
                self.assertGreater(event.timestamp_ns, newest)
                newest = event.timestamp_ns
            if isinstance(event, (Fork, Exit)) and event.pid in pids:
                lives[event.pid].append(type(event))
                if isinstance(event, Exit):
                    pids.remove(event.pid)
        return lives

    def test_every_process_is_told_once_however_often_the_ring_goes_round(self):
        watcher = self.sharing(rcvbuf=2 << 20)
        for _ in range(2 if EMULATED else 4):
            lives = self.lives(watcher, 350)
            self.assertEqual((len(lives), set(map(tuple, lives.values()))), (350, {(Fork, Exit)}))
        self.assertTrue(watcher._connector.sharing)
        self.assertGreater(watcher._connector.ring._taken, watcher._connector.ring._size)

    def test_what_the_ring_has_no_room_for_comes_through_the_socket_in_order(self):
        watcher = self.sharing(rcvbuf=2 << 20)
        for number in 650, 50, 50:
            lives = self.lives(watcher, number)
            self.assertEqual((len(lives), set(map(tuple, lives.values()))), (number, {(Fork, Exit)}))
        self.assertLess(watcher._connector.ring._taken, 1300 * cnproc._RECORD)

    @unittest.skipIf(EMULATED, "takes too long where the processor is emulated")
    def test_an_overrun_of_both_is_told_where_it_happened(self):
        watcher = self.sharing(rcvbuf=2 << 20)
        storm(5000)
        dropped = drops(watcher)
        self.assertGreater(dropped, 1000)
        early = self.until(watcher, lambda event: isinstance(event, Lost))
        self.assertEqual((early[-1].count, watcher.lost), (dropped, dropped))
        stamps = [event.timestamp_ns for event in early]
        self.assertLess(max(stamps[:-1]), stamps[-1])
        self.assertGreater(len(early), 4000)
        lives = self.lives(watcher, 100)
        self.assertEqual(set(map(tuple, lives.values())), {(Fork, Exit)})

    def test_a_filter_that_cannot_tell_the_kernel_from_others_is_not_used(self):
        with unittest.mock.patch.object(cnproc, "NETLINK_CB_PORTID", cnproc.NETLINK_CB_PORTID + 4):
            watcher = self.watcher()
            watcher.watch()
        self.assertFalse(watcher._connector.sharing)
        self.assertEqual(set(map(tuple, self.lives(watcher, 10).values())), {(Fork, Exit)})

    def test_close_while_the_ring_is_made_unsubscribes(self):
        original = cnproc._Connector.share
        watcher = self.watcher()

        def share(connector, kinds):
            ring = original(connector, kinds)
            thread = threading.Thread(target=watcher.close)
            thread.start()
            thread.join(PATIENCE)
            return ring

        with unittest.mock.patch.object(cnproc._Connector, "share", share), contextlib.suppress(ValueError):
            watcher.watch()
        self.assertEqual(watcher._connector.sock.fileno(), -1)

    def test_what_others_send_is_not_told(self):
        watcher = self.sharing()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as liar:
            liar.bind((0, 0))
            for port, group in (0, 1), (watcher._connector.sock.getsockname()[0], 0):
                liar.sendto(datagram(0x80000000, 1, 1, 0x700, 17, 1, 1, stamp=time.monotonic_ns()), (port, group))
        child = self.start("true")
        events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid)
        self.assertNotIn(1, [event.pid for event in events])

    def test_a_name_of_our_own_is_told_only_if_it_is_wanted(self):
        for kinds, told in (What.LIFE, 0), (What.LIFE | What.COMM, 1):
            watcher = self.watcher()
            watcher.watch(None, kinds)
            cnproc._libc().prctl(cnproc.PR_SET_NAME, b"cnproc test")
            child = self.start("true")
            events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid)
            self.assertEqual(sum(isinstance(event, Comm) and event.pid == os.getpid() for event in events), told)

    def test_threads_of_all_processes_are_known(self):
        watcher = self.sharing()
        child = self.python(THREADS + "thread(int).join()\nos._exit(3)")
        self.go(child)
        child.wait(PATIENCE)
        events = self.until(watcher, lambda event: isinstance(event, Exit) and event.pid == child.pid)
        self.assertEqual([kind for kind in kinds(events, child.pid) if kind is not Exec], [Fork, Exit])
        self.assertEqual(events[-1].returncode, 3)

    def test_an_iteration_left_in_the_middle_goes_on_where_it_was(self):
        watcher = self.sharing()
        expected = {(pid, kind) for pid in storm(50) for kind in (Fork, Exit)}
        while expected:
            event = next(self.stream(watcher))  # one that is dropped, and not closed
            expected.discard((event.pid, type(event)))

    def test_unwatch_and_close_hush_what_is_in_hand(self):
        watcher = self.sharing()
        storm(20)
        stream = self.stream(watcher)
        next(stream)
        watcher.unwatch()
        watcher.watch(None, What.SID)
        self.start("setsid", "true").wait()
        self.assertIsInstance(next(stream), Sid)
        watcher = self.sharing()
        storm(20)
        stream = self.stream(watcher)
        next(stream)
        watcher.close()
        self.assertEqual(list(stream), [])

    def test_an_iteration_within_an_iteration_takes_its_share(self):
        watcher = self.sharing()
        expected = {(pid, kind) for pid in storm(100) for kind in (Fork, Exit)}
        last = self.start("true").pid, Exit
        told = set()
        for event in self.stream(watcher):
            told.add((event.pid, type(event)))
            if isinstance(event, Exit) and last not in told:
                event = next(self.stream(watcher))
                told.add((event.pid, type(event)))
            if last in told and expected <= told:
                break
        self.assertEqual(expected - told, set())

    def test_the_delay_looks_at_the_socket_too(self):
        watcher = self.sharing(delay=0.01)
        watcher.unwatch()
        child = self.shell("exit 1")
        watcher.watch(child.pid)  # which the ring is not for: what comes now comes through the socket
        self.assertIsNone(watcher.read(0))
        self.go(child)
        self.assertTrue(select.select([watcher._connector.sock], [], [], PATIENCE)[0])
        watcher._storm, watcher._nap = True, unittest.mock.Mock()
        self.assertEqual(watcher.read(PATIENCE).returncode, 1)
        watcher._nap.poll.assert_called_once()

    def test_what_is_in_the_ring_shows_in_a_descriptor_asked_for_later(self):
        watcher = self.sharing()
        while watcher.read(0):
            pass
        child = self.start("true")
        child.wait(PATIENCE)
        self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
        pids = [event.pid for event in iter(lambda: watcher.read(0), None) if isinstance(event, Exit)]
        self.assertIn(child.pid, pids)

    def test_who_asks_for_the_descriptor_gets_datagrams(self):
        watcher = self.sharing()
        storm(10)
        self.assertGreater(watcher.fileno(), 0)
        self.assertFalse(watcher._connector.sharing)
        pids = set(storm(10))
        while pids:
            self.assertTrue(select.select([watcher], [], [], PATIENCE)[0])
            for event in iter(lambda: watcher.read(0), None):
                pids -= {event.pid} if isinstance(event, Exit) else set()
        self.assertIsNone(watcher.read(0))


@live
@unittest.skipUnless((HERE / "README.md").exists(), "the README is not here")
class Readme(Case):
    """What the README shows happens."""

    text = (HERE / "README.md").read_text() if (HERE / "README.md").exists() else ""

    def blocks(self, language):
        found = re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)
        self.assertTrue(found)
        return found

    def test_the_commands_print_what_is_shown(self):
        for block in self.blocks("console"):
            command, _, shown = block.partition("\n")
            run = subprocess.run(command[2:], shell=True, cwd=HERE, stdout=subprocess.PIPE, text=True, timeout=PATIENCE,
                                 env={**os.environ, "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]})
            # A parent can be told to have ended ahead of its last child.
            self.assertCountEqual(self.shape(run.stdout).splitlines(), self.shape(shown).splitlines())

    @staticmethod
    def shape(text):
        """The text without what differs from run to run: numbers, blanks, the host's name."""
        return re.sub(r"\d+(\.\d+)?", "N", re.sub(r" +", " ", re.sub(r'"host": "[^"]*"', "", text)))

    def test_the_examples_run(self):
        for number, block in enumerate(self.blocks("python"), 1):
            with self.subTest(number):
                run = subprocess.run([sys.executable, "-c", block], cwd=HERE, stdout=subprocess.PIPE, text=True,
                                     stderr=subprocess.PIPE, timeout=PATIENCE)
                self.assertEqual((run.returncode, run.stderr), (0, ""))
                if "ended with" in block:
                    self.assertIn("runs ['sleep', '0.1']\n", run.stdout)
                    self.assertIn("ended with 3\n", run.stdout)


if __name__ == "__main__":
    unittest.main()
