"""The truth about processes: every fork, exec and exit, as the Linux kernel reports it.

    python3 cnproc.py PID                  # a process and all its descendants, until the last has ended
    status = cnproc.wait(pid)              # any process's end, not only a child's, and how it ended
    for event in cnproc.watch(pid): ...    # what a process and its descendants do, as it happens

One file, the standard library, no compiler: copy it into your project. It subscribes to the kernel's process
connector (netlink; drivers/connector/cn_proc.c), and so needs Linux, the initial PID, user and network
namespaces and, before Linux 6.6, CAP_NET_ADMIN.

`pid` is always a process and `tid` a thread of it, the words of ps, /proc and Python. The kernel's structs say
tgid for the first and pid for the second: Fork.pid is their child_tgid, Exit.tid their process_pid.

The file reads in the order the data flows: kernel ABI, events, socket filter, connector, /proc, watcher,
watch and wait, command line. Nothing happens at import.
"""
from __future__ import annotations

import collections
import copy
import ctypes
import enum
import errno
import functools
import itertools
import operator
import os
import select
import socket
import threading
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = [
    "Comm", "Coredump", "Exec", "Exit", "Fork", "Gid", "Lost", "ProcEvent", "Ptrace", "Sid", "Uid",
    "Watcher", "What", "cmdline", "wait", "watch",
]
__version__ = "1.0.0"

u8, u16, u32, s32, u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64

# ---------------------------------------------------------------------------------------------- kernel ABI

# linux/netlink.h, linux/socket.h
AF_NETLINK, NETLINK_CONNECTOR, NLMSG_DONE = 16, 11, 3

class sockaddr_nl(ctypes.Structure):
    _fields_ = [
        ("nl_family", u16),    # __kernel_sa_family_t nl_family
        ("nl_pad", u16),       # unsigned short nl_pad
        ("nl_pid", u32),       # __u32 nl_pid: the sender's port, 0 for the kernel
        ("nl_groups", u32),    # __u32 nl_groups
    ]

class nlmsghdr(ctypes.Structure):
    _fields_ = [
        ("nlmsg_len", u32),    # __u32 nlmsg_len: with this header
        ("nlmsg_type", u16),   # __u16 nlmsg_type
        ("nlmsg_flags", u16),  # __u16 nlmsg_flags
        ("nlmsg_seq", u32),    # __u32 nlmsg_seq
        ("nlmsg_pid", u32),    # __u32 nlmsg_pid
    ]

# linux/connector.h, linux/cn_proc.h
CN_IDX_PROC, CN_VAL_PROC = 1, 1
PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE = 1, 2

class cn_msg(ctypes.Structure):
    _fields_ = [
        ("idx", u32),          # struct cb_id id { __u32 idx;
        ("val", u32),          #                   __u32 val; }
        ("seq", u32),          # __u32 seq
        ("ack", u32),          # __u32 ack: in an answer, that of the request plus 1
        ("len", u16),          # __u16 len: of what follows
        ("flags", u16),        # __u16 flags
    ]

class request(ctypes.Structure):
    _fields_ = [("nl", nlmsghdr), ("cn", cn_msg), ("op", u32)]  # op: enum proc_cn_mcast_op

# linux/uio.h, linux/socket.h: recvmmsg(2) takes in many datagrams at a call
class iovec(ctypes.Structure):
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]

class user_msghdr(ctypes.Structure):
    _fields_ = [
        ("msg_name", ctypes.c_void_p),          # void *msg_name
        ("msg_namelen", ctypes.c_int),          # int msg_namelen
        ("msg_iov", ctypes.POINTER(iovec)),     # struct iovec *msg_iov
        ("msg_iovlen", ctypes.c_size_t),        # __kernel_size_t msg_iovlen
        ("msg_control", ctypes.c_void_p),       # void *msg_control
        ("msg_controllen", ctypes.c_size_t),    # __kernel_size_t msg_controllen
        ("msg_flags", ctypes.c_uint),           # unsigned int msg_flags
    ]

class mmsghdr(ctypes.Structure):
    _fields_ = [("msg_hdr", user_msghdr), ("msg_len", ctypes.c_uint)]  # msg_len: as received

# asm-generic/socket.h, linux/sock_diag.h (SO_MEMINFO gives a u32[9]), linux/proc_ns.h, linux/sched.h
SO_RCVBUFFORCE, SO_ATTACH_FILTER, SO_MEMINFO = 33, 26, 55
SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_DROPS, SK_MEMINFO_VARS = 0, 8, 9
PROC_PID_INIT_INO, PROC_USER_INIT_INO = 0xEFFFFFFC, 0xEFFFFFFD
PR_SET_NAME, PR_GET_NAME, SIGCHLD = 15, 16, 17  # linux/prctl.h, asm-generic/signal.h
PF_FORKNOEXEC = 0x40  # in /proc/PID/stat's flags: forked, and has not run a program of its own yet

@functools.lru_cache(maxsize=None)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

# -------------------------------------------------------------------------------------------------- events

class What(enum.IntFlag):
    """Kinds of events: the kernel's PROC_EVENT_* without the prefix (linux/cn_proc.h).

    NONZERO_EXIT asks for the exits with a status other than 0; it never stands in an event's `what`.
    """

    NONE = 0
    FORK = 0x1
    EXEC = 0x2
    UID = 0x4
    GID = 0x40
    SID = 0x80
    PTRACE = 0x100
    COMM = 0x200
    NONZERO_EXIT = 0x20000000
    COREDUMP = 0x40000000
    EXIT = 0x80000000
    LIFE = FORK | EXEC | EXIT
    ALL = LIFE | UID | GID | SID | PTRACE | COMM | NONZERO_EXIT | COREDUMP

REBUILT = 0xFFFFFFFF  # stands for the cpu in an event that was put together from /proc

class ProcEvent(ctypes.Structure):
    """struct proc_event (linux/cn_proc.h) as far as all kinds share it; a class for each kind adds the rest.

    An event is a copy of the kernel's struct, to be read and kept: it can be compared, hashed, pickled and
    matched (`case cnproc.Exit(pid=p)`). timestamp_ns is CLOCK_MONOTONIC in nanoseconds.
    """

    _fields_ = [
        ("what", u32),         # __u32 what: one of What
        ("cpu", u32),          # __u32 cpu
        ("timestamp_ns", u64)  # __u64 __attribute__((aligned(8))) timestamp_ns
    ]

    @property
    def rebuilt(self) -> bool:
        """Whether the kernel lost this event, and it was put together from /proc."""
        return bool(self.cpu == REBUILT)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in _fields(type(self)))
        return f"{type(self).__name__}({values})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcEvent) and type(self) is type(other) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

def _fields(kind: type) -> list[str]:
    """The names of a struct's fields, those that it inherits first."""
    return [name.strip("_") for part in reversed(kind.__mro__) for name, *_ in vars(part).get("_fields_", ())]

class Fork(ProcEvent):
    """A process was born (with threads=True: or a thread, the parent being that of its process)."""
    _fields_ = [
        ("parent_tid", s32),   # __kernel_pid_t parent_pid
        ("parent_pid", s32),   # __kernel_pid_t parent_tgid
        ("tid", s32),          # __kernel_pid_t child_pid
        ("pid", s32),          # __kernel_pid_t child_tgid
    ]

class _Task(ProcEvent):
    _fields_ = [
        ("tid", s32),          # __kernel_pid_t process_pid
        ("pid", s32),          # __kernel_pid_t process_tgid
    ]

class Exec(_Task):
    """A process runs another program now. The new image is loaded: cmdline(pid) tells its name."""

class Uid(_Task):
    """A thread's user ids have changed: the real and the effective one that it has now."""
    _fields_ = [("ruid", u32), ("euid", u32)]  # union { __u32 ruid; } r; union { __u32 euid; } e

class Gid(_Task):
    """A thread's group ids have changed: the real and the effective one that it has now."""
    _fields_ = [("rgid", u32), ("egid", u32)]  # union { __u32 rgid; } r; union { __u32 egid; } e

class Sid(_Task):
    """A process leads a new session: setsid(2)."""

class Ptrace(_Task):
    """A thread is traced from now on, or no longer (tracer 0). Not told for PTRACE_TRACEME."""
    _fields_ = [
        ("tracer_tid", s32),   # __kernel_pid_t tracer_pid
        ("tracer_pid", s32),   # __kernel_pid_t tracer_tgid
    ]

class Comm(_Task):
    """A thread took a name: prctl(PR_SET_NAME), or a write to its /proc/PID/comm. Not told on exec."""
    _fields_ = [("_comm_", ctypes.c_char * 16)]  # char comm[16]

    @property
    def comm(self) -> str:
        """The name; where the 15 bytes cut a letter, or are no UTF-8, as os.fsdecode has it."""
        return os.fsdecode(self._comm_)

    @comm.setter
    def comm(self, name: str) -> None:
        self._comm_ = os.fsencode(name)

class Coredump(_Task):
    """A process is about to dump core; told even where no core is kept."""
    _fields_ = [
        ("parent_tid", s32),   # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", s32),   # __kernel_pid_t parent_tgid
    ]

class Exit(_Task):
    """A process has ended, and with it its last thread (with threads=True: or a thread has).

    Without threads=True tid is pid, whichever thread was the last. exit_code is a status as wait(2) has it, -1 if
    the kernel lost it. The parent's fields are often 0.
    """
    _fields_ = [
        ("exit_code", s32),    # __u32 exit_code; an int in wait(2), and so here
        ("exit_signal", u32),  # __u32 exit_signal: SIGCHLD; 0xffffffff for a thread
        ("parent_tid", s32),   # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", s32),   # __kernel_pid_t parent_tgid
    ]

    @property
    def returncode(self) -> int | None:
        """The exit status, or -N for death by signal N, as subprocess has it; None if it was lost."""
        code = int(self.exit_code)
        return None if code < 0 else -(code & 0x7F) or code >> 8

class _Ack(ProcEvent):
    _fields_ = [("err", u32)]  # struct { __u32 err; } ack, with what 0

class Lost(collections.namedtuple("Lost", ("count", "timestamp_ns"))):
    """The kernel dropped `count` messages here, its buffer being full; None if it cannot be known how many."""
    __slots__ = ()
    what = What.NONE

FORK, EXEC, COMM, EXIT, NONZERO_EXIT = map(int, (What.FORK, What.EXEC, What.COMM, What.EXIT, What.NONZERO_EXIT))
_EVENTS: dict[int, type[ProcEvent]] = {
    int(What[kind.__name__.upper()]): kind for kind in (Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit)}

# Where the parts lie in a datagram, and how long one event is: Exit is the longest.
_CN_MSG = ctypes.sizeof(nlmsghdr)
_PROC_EVENT = _CN_MSG + ctypes.sizeof(cn_msg)
_SIZE = _PROC_EVENT + ctypes.sizeof(Exit)

def _decode(buffer: bytearray, start: int, end: int) -> Iterator[ProcEvent]:
    """Copies of the events in the datagram buffer[start:end]: of every message in it that is whole and known."""
    while end - start >= _PROC_EVENT:
        nl = nlmsghdr.from_buffer(buffer, start)
        cn = cn_msg.from_buffer(buffer, start + _CN_MSG)
        if not _CN_MSG <= nl.nlmsg_len <= end - start:
            return
        size = min(cn.len, nl.nlmsg_len - _PROC_EVENT)
        if (nl.nlmsg_type, cn.idx, cn.val) == (NLMSG_DONE, CN_IDX_PROC, CN_VAL_PROC) and size >= 4:
            kind = _EVENTS.get(u32.from_buffer(buffer, start + _PROC_EVENT).value)
            if kind and size >= ctypes.sizeof(kind):
                yield kind.from_buffer_copy(buffer, start + _PROC_EVENT)
        start += nl.nlmsg_len + 3 & ~3  # NLMSG_ALIGN


# ------------------------------------------------------------------------------------------- socket filter

# linux/bpf_common.h, linux/filter.h
BPF_LD, BPF_JMP, BPF_RET, BPF_MISC = 0x00, 0x05, 0x06, 0x07
BPF_W, BPF_ABS, BPF_LEN, BPF_TAX = 0x00, 0x20, 0x80, 0x00
BPF_JA, BPF_JEQ, BPF_JSET, BPF_X = 0x00, 0x10, 0x40, 0x08


class sock_filter(ctypes.Structure):
    _fields_ = [
        ("code", u16),  # __u16 code
        ("jt", u8),  # __u8 jt: instructions to skip if true
        ("jf", u8),  # __u8 jf: instructions to skip if false
        ("k", u32),  # __u32 k
    ]


class sock_fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(sock_filter))]


# Where a filter finds a field: from the datagram's start. For all kinds but FORK the thread's and the process's
# ids are the first two; a FORK has its parent's there.
_WHAT, _TID, _TGID, _CHILD_TID, _CHILD_TGID = (_PROC_EVENT + at for at in (0, 16, 20, 24, 28))


def _classic_filter(kinds: int, births: bool = False, pids: Iterable[int] | None = ()) -> list[tuple[int, ...]]:
    """The sieve in classic BPF: acks pass, datagrams of another length, this process's own COMM, and `kinds`.

    pids: those of these processes alone (None: of all); births: with those of their children. Constants are
    swapped, since BPF_LD reads big-endian.
    """
    keep, drop, to_x = (BPF_RET, 0, 0, 0xFFFFFFFF), (BPF_RET, 0, 0, 0), (BPF_MISC | BPF_TAX, 0, 0, 0)

    def load(offset: int) -> tuple[int, ...]:
        return BPF_LD | BPF_W | BPF_ABS, 0, 0, offset

    def jump(test: int, value: int, true: int, false: int) -> tuple[int, ...]:
        return BPF_JMP | test, true, false, socket.htonl(value)

    program = [
        (BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
        (BPF_JMP | BPF_JEQ, 1, 0, _SIZE), keep,
        load(_WHAT),
        jump(BPF_JEQ, 0, 0, 1), keep,
        jump(BPF_JEQ, COMM, 0, 3), load(_TGID), jump(BPF_JEQ, os.getpid(), 0, 1), keep,
        load(_WHAT),
        jump(BPF_JSET, kinds, 1, 0), drop,
    ]
    if pids is None:
        return [*program, keep]
    program += [
        jump(BPF_JEQ, FORK, 0, 7),
        load(_CHILD_TID), to_x, load(_CHILD_TGID),
        (BPF_JMP | BPF_JEQ | BPF_X, 0, 4, 0),  # not equal: a thread of the process that is loaded now
        load(_TGID) if births else drop,
        (BPF_JMP | BPF_JA, 0, 0, 2),
        drop,
        load(_TGID),
    ]
    for pid in pids:
        program += [jump(BPF_JEQ, pid, 0, 1), keep]
    return [*program, drop]


# ----------------------------------------------------------------------------------------------- connector

_SLOTS = 64  # datagrams at a call: 0.84 us each; 16 at a call cost 1.0, 256 no less than 64
_SLOT = 2048 + 64  # bytes for each: no power of two, so that they do not contend for one line of the cache


def _refusal(number: int) -> OSError:
    """Why this process may not listen, in words; number: the kernel's errno, 0 where it did not answer."""
    foreign = _foreign()
    if number == errno.ECONNREFUSED:
        return OSError(number, "process events are told in the initial network namespace only: run on the host, or "
                       "with its network (docker run --network=host)")
    if foreign and number in (0, errno.EPERM):
        options = " ".join({"pid": "--pid=host", "user": "--userns=host"}[name] for name in foreign)
        return OSError(errno.EPERM, f"process events are told in the initial {' and '.join(foreign)} namespace only: "
                       f"run on the host, or in its namespace (docker run {options})")
    if number == errno.EPERM:
        return OSError(number, "before Linux 6.6 it takes CAP_NET_ADMIN to listen to process events: run as root, or "
                       "give the program the capability (AmbientCapabilities=CAP_NET_ADMIN in a systemd unit)")
    if number in (0, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return OSError(errno.EPROTONOSUPPORT, "this kernel does not tell process events: it takes Linux with "
                       "CONFIG_CONNECTOR and CONFIG_PROC_EVENTS")
    return OSError(number, f"cannot listen to process events: {os.strerror(number)}")


def _foreign() -> list[str]:
    """Which of this process's namespaces are not the initial ones."""
    found = []
    for name, initial in ("pid", PROC_PID_INIT_INO), ("user", PROC_USER_INIT_INO):
        try:
            if os.stat(f"/proc/self/ns/{name}").st_ino != initial:
                found.append(name)
        except OSError:
            pass
    return found


class _Connector:
    """A subscription to the process connector: the socket, its filter, and the buffer that it is read into."""

    sock: socket.socket
    ready = True  # whether something may be queued
    before = 0  # what was dropped before the socket was last renewed
    skew = 0  # by how much this process's CLOCK_MONOTONIC is ahead of the kernel's: in a time namespace

    def __init__(self, rcvbuf: int) -> None:
        self._buffer = bytearray(_SLOTS * _SLOT)
        self._messages = (mmsghdr * _SLOTS)()
        self._slots = []
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        for i, message in enumerate(self._messages):
            start = i * _SLOT + 4  # so that proc_event, 36 bytes further, lies at a multiple of 8
            name, vector = sockaddr_nl(), iovec(address + start, _SLOT - 4)
            message.msg_hdr = user_msghdr(ctypes.addressof(name), ctypes.sizeof(name), ctypes.pointer(vector), 1)
            self._slots.append((
                message, name, nlmsghdr.from_buffer(self._buffer, start),
                cn_msg.from_buffer(self._buffer, start + _CN_MSG),
                ProcEvent.from_buffer(self._buffer, start + _PROC_EVENT), start))
        self._rcvbuf = rcvbuf
        self._open()

    def _open(self) -> None:
        try:
            deadline = time.monotonic() + 1
            patience = 200
            while not self._subscribe(patience):
                # An ordinary user can have run the kernel's count of listeners below zero: it answers none then,
                # and counts a LISTEN on another socket only. Those closed here make up for what was taken.
                self.sock.close()
                patience = 0
                if time.monotonic() > deadline or _foreign():
                    raise OSError(0, "")
        except OSError as error:
            raise _refusal(error.errno or 0) from None

    def renew(self) -> None:
        """Subscribe anew, with the same file descriptor."""
        old, self.before = self.sock, self.dropped()
        self._open()
        os.dup2(self.sock.fileno(), old.fileno(), False)
        self.sock.close()
        self.sock = old

    def _subscribe(self, patience: int) -> bool:
        """Open a socket and LISTEN; whether the kernel acknowledges it, which it does before send() returns."""
        if not hasattr(socket, "AF_NETLINK"):
            raise OSError(errno.EAFNOSUPPORT, "")
        self.sock = socket.socket(AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
        try:
            for option in SO_RCVBUFFORCE, socket.SO_RCVBUF:  # only the second is limited by net.core.rmem_max
                try:
                    self.sock.setsockopt(socket.SOL_SOCKET, option, self._rcvbuf)
                    break
                except OSError:
                    pass
            self.attach(_classic_filter(0))  # acks alone, so that no storm can crowd ours out
            self.sock.bind((0, CN_IDX_PROC))
            token, before = int.from_bytes(os.urandom(4), "little"), time.monotonic_ns()
            self.send(PROC_CN_MCAST_LISTEN, token)
            answer = select.poll()
            answer.register(self.sock, select.POLLIN)
            while answer.poll(patience):
                self.receive(1)
                message, sender, _, cn, event, start = self._slots[0]
                if message.msg_len == _SIZE and not sender.nl_pid and cn.ack == (token + 1) & 0xFFFFFFFF:
                    if not before <= event.timestamp_ns <= time.monotonic_ns():
                        self.skew = time.monotonic_ns() - event.timestamp_ns
                    number = _Ack.from_buffer(self._buffer, start + _PROC_EVENT).err
                    if number:
                        raise OSError(number, "")
                    return True
            return False
        except BaseException:
            self.sock.close()
            raise

    def send(self, op: int, token: int = 0) -> None:
        """Ask the kernel to LISTEN or IGNORE; its ack carries token + 1."""
        size = ctypes.sizeof(request)
        self.sock.send(request(
            nlmsghdr(nlmsg_len=size, nlmsg_type=NLMSG_DONE),
            cn_msg(idx=CN_IDX_PROC, val=CN_VAL_PROC, ack=token, len=size - _PROC_EVENT), op))

    def attach(self, program: list[tuple[int, ...]]) -> None:
        """Put a filter before the socket in place of the one that is there; nothing is lost by it."""
        code = (sock_filter * len(program))(*(sock_filter(*instruction) for instruction in program))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(sock_fprog(len(program), code)))

    def receive(self, most: int) -> list[ProcEvent]:
        """The events in at most so many of the datagrams that are there; sets `ready` if there may be more.

        Raises OSError: ENOBUFS, once, when the kernel has dropped some, ahead of what was queued before.
        """
        count = _libc().recvmmsg(self.sock.fileno(), self._messages, most, socket.MSG_DONTWAIT, None)
        number = ctypes.get_errno() if count < 0 else 0
        self.ready = count == most or number == errno.ENOBUFS
        if number and number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
        events = []
        for message, sender, nl, cn, event, start in self._slots[:max(count, 0)]:
            if sender.nl_pid:
                continue  # not from the kernel
            # One event of the one size there has been since Linux 3.2 is the straight way.
            if (message.msg_len == _SIZE == nl.nlmsg_len and nl.nlmsg_type == NLMSG_DONE
                    and cn.idx == CN_IDX_PROC and cn.val == CN_VAL_PROC and cn.len == _SIZE - _PROC_EVENT):
                kind = _EVENTS.get(event.what)
                if kind:
                    events.append(kind.from_buffer_copy(self._buffer, start + _PROC_EVENT))
            else:
                events += _decode(self._buffer, start, start + message.msg_len)
        return events

    def dropped(self) -> int:
        """How many messages the kernel has dropped so far."""
        return self.before + self.meminfo(SK_MEMINFO_DROPS)

    def meminfo(self, index: int) -> int:
        """One of the kernel's figures on the socket."""
        info = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, SK_MEMINFO_VARS * 4)
        return int(memoryview(info).cast("I")[index])

    def now(self) -> int:
        """CLOCK_MONOTONIC as the kernel stamps events with it, in nanoseconds."""
        return time.monotonic_ns() - self.skew


# --------------------------------------------------------------------------------------------------- /proc


class _Stat(collections.namedtuple("_Stat", ("state", "ppid", "flags", "start"))):
    """Of /proc/PID/stat (proc_pid_stat(5)): start is CLOCK_MONOTONIC, in nanoseconds, cut to a clock tick."""

    __slots__ = ()


PR_SET_NAME, PR_GET_NAME, SIGCHLD = 15, 16, 17  # linux/prctl.h, asm-generic/signal.h
PF_FORKNOEXEC = 0x40  # linux/sched.h, a flag of _Stat: forked, but has run no program of its own


_TICK = 1_000_000_000 // 100  # USER_HZ is 100 wherever the connector is


def _stat(pid: int, tid: int | None = None) -> _Stat | None:
    """What /proc tells of a process or a thread; None if it is gone, or hidden (hidepid)."""
    try:
        with open(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    slept = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    start = int(fields[19]) * _TICK - slept
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[6]), start)


def _processes() -> dict[int, _Stat]:
    """All processes that /proc shows, zombies too."""
    stats = ((int(name), _stat(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: stat for pid, stat in stats if stat}


def _descendants(pid: int, stats: dict[int, _Stat]) -> list[int]:
    """Children, their children and so on, but not this process: who watches what it lives under would never end."""
    children = collections.defaultdict(list)
    for child, stat in stats.items():
        if child != os.getpid():
            children[stat.ppid].append(child)
    found = children[pid]
    for child in found:
        found += children[child]
    return found


def _live_threads(pid: int, since: int) -> set[int]:
    """The threads of a process that have not ended: none if it is gone, a zombie, or born after `since`."""
    stat = _stat(pid)
    if not stat or stat.start > since:
        return set()
    try:
        tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()
    # A leader that ended first and a traced thread stay listed as zombies: their EXIT is behind them.
    return {tid for tid in tids if (_stat(pid, tid) or stat._replace(state="X")).state not in "ZX"}


def _leader(tid: int) -> int | None:
    """The process that a thread belongs to: /proc/TID is there for any thread, though it is not listed."""
    try:
        with open(f"/proc/{tid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except OSError:
        return None


def cmdline(pid: int) -> list[str]:
    """The command line of a live process, from /proc/PID/cmdline; empty for a kernel thread or a zombie.

    Raises ProcessLookupError if there is no such process, and PermissionError where /proc hides it (hidepid).

    >>> cnproc.cmdline(1)[0]
    '/sbin/init'
    """
    try:
        with open(f"/proc/{operator.index(pid)}/cmdline", "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from None
    return [os.fsdecode(word) for word in text.removesuffix(b"\0").split(b"\0")] if text else []


# ------------------------------------------------------------------------------------------------- watcher

# What the table knows of a process: the events wanted of it, those that its children inherit, since when (an
# earlier event is not reported), and the entry that was valid before then. A tuple, made at every birth: 0.05 us.
if TYPE_CHECKING:
    _Entry = tuple[int, int, int, Any]
_NOTHING: _Entry = (0, 0, 0, None)
_QUIET = 3_000_000_000  # ns without any event after which a waiting reader tests its subscription: 0.1 ms of CPU


def _add(entry: _Entry, mask: int, inherit: int, now: int, dry: int) -> _Entry:
    """The entry with further events wanted from now on; nothing is queued any more from before `dry`."""
    before = None if entry is _NOTHING else entry if entry[2] > dry else (*entry[:3], None)
    return entry[0] | mask, entry[1] | inherit, now, before


def _at(entry: _Entry | None, when: int) -> _Entry:
    """What was wanted at that time."""
    while entry and when < entry[2]:
        entry = entry[3]
    return entry or _NOTHING


def _missing(pid: int) -> OSError:
    """Why a process that is not found in /proc, or has no live threads there, cannot be watched."""
    if _stat(pid) and _leader(pid) != pid:
        return OSError(errno.ESRCH, f"{pid} is a thread of process {_leader(pid)}: watch that")
    if _stat(pid):
        return OSError(errno.ESRCH, f"process {pid} has ended; it is a zombie until its parent waits for it")
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return OSError(errno.ESRCH, f"no process {pid}: it has ended, or never was")
    return OSError(errno.EPERM, f"process {pid} exists, but /proc hides it (hidepid): run as root or as its owner, "
                   "or mount /proc with hidepid=0")


def _hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return _stat(pid) is None
    except OSError:
        pass
    return False


def _release(connector: _Connector, waker: tuple[int, int], owner: int) -> None:
    """Unsubscribe. A forked child shares the socket, and leaves the subscription to its parent."""
    if os.getpid() == owner:
        try:
            connector.send(PROC_CN_MCAST_IGNORE)
        except OSError:
            pass  # nobody is left to be told
    connector.sock.close()
    for fd in waker:
        os.close(fd)


class Watcher:
    """A subscription to process events, and the table of who is watched.

    threads: report every thread's birth and end in place of the processes'.
    rcvbuf: bytes that the kernel may queue, about 800 an event; cut to what the kernel allows.
    delay: seconds to wait after being woken, so that events gather: less CPU, later news.

    Raises OSError, with the cause and the remedy in its text, where the kernel does not let this process listen:
    PermissionError, ConnectionRefusedError, or errno EPROTONOSUPPORT. To be closed, or used in a with statement.
    One thread at a time reads; all else may be called from any thread.

    >>> with cnproc.Watcher() as watcher:
    ...     watcher.watch(pid, cnproc.What.EXEC | cnproc.What.EXIT)
    ...     for event in watcher:
    ...         print(event)
    """

    def __init__(self, *, threads: bool = False, rcvbuf: int = 32 << 20, delay: float = 0.0) -> None:
        if not 0 < rcvbuf < 1 << 31:
            raise ValueError(f"rcvbuf must be above 0 and below 2 GiB, not {rcvbuf}")
        if not 0 <= delay < 1 << 20:
            raise ValueError(f"delay must be a number of seconds, not {delay}")
        self._threads = threads
        self._delay = delay * 1000
        self._table: dict[int, _Entry] = {}
        self._everything = _NOTHING
        # The live threads of each process that has had several or that was there before; others have their leader.
        self._live: dict[int, set[int]] = {}
        self._leaders: dict[int, Any] = {}  # the Exit of each leader that ended before the rest of its threads
        self._pending: collections.deque[ProcEvent | Lost] = collections.deque()
        self._gap: int | None = None  # after an overrun: bytes that were queued before it and are still to be read
        self._loss: Lost | None = None  # an overrun to be told and repaired when what was queued before is told
        self._lost = 0
        self._newest = 0  # when the event that was received last happened
        self._dry = 0  # when the queue was last seen empty
        self._closed = False
        self._changing = threading.Lock()
        self._reading = threading.Lock()
        self._reader = 0
        self._connector = _Connector(rcvbuf)
        self._heard = self._connector.now()  # when something last came
        self._quiet = _QUIET  # how long nothing may come before the subscription is tested
        self._missed: set[int] = set()  # those that had ended untold at the last test
        self._waker = os.pipe()
        self._finish = weakref.finalize(self, _release, self._connector, self._waker, os.getpid())
        self._woken, self._nap = select.poll(), select.poll()
        self._woken.register(self._connector.sock, select.POLLIN)
        self._woken.register(self._waker[0], select.POLLIN)
        self._nap.register(self._waker[0], select.POLLIN)

    def watch(self, pid: int | None = None, events: int = What.LIFE, *, follow: bool = True) -> None:
        """Report events of a process from now on, or (None) of every process on the machine.

        events: a combination of What. follow: of its descendants too, of those there are and of those to come. A
        second watch of a process adds to the first.

        Raises ProcessLookupError if the process has ended, PermissionError if /proc hides it (hidepid),
        ValueError for a pid below 1 or an unknown event.
        """
        mask = operator.index(events)
        if not mask or mask & ~What.ALL:
            raise ValueError(f"events must be of What, and at least one of them, not {mask:#x}")
        if pid is not None and operator.index(pid) < 1:
            raise ValueError(f"a pid is 1 or more, not {pid}")
        with self._changing:
            self._check()
            self._sieve(mask)  # hear first, look second, so that nothing falls between
            try:
                now = self._connector.now()
                if pid is None:
                    self._everything = _add(self._everything, mask, 0, now, self._dry)
                    self._know(_processes(), 0, 0, now)
                else:
                    if _leader(pid) != pid or not self._know([pid], mask, mask if follow else 0, now):
                        raise _missing(pid)
                    if follow:
                        self._know(_descendants(pid, _processes()), mask, mask, now)
            finally:
                self._sieve()

    def _know(self, pids: Iterable[int], mask: int, inherit: int, now: int) -> set[int]:
        """Take the live ones of these processes into the table, with their threads; which those are."""
        known = set()
        for pid in pids:
            live = _live_threads(pid, now + self._connector.skew)
            if live:
                self._live[pid] = live
                self._table[pid] = _add(self._table.get(pid, _NOTHING), mask, inherit, now, self._dry)
                known.add(pid)
        return known

    def unwatch(self, pid: int | None = None) -> None:
        """Report a process's events no longer, or (None) those of processes not watched one by one or followed.

        Its followed descendants stay watched: each has its own watch. Raises KeyError if it is not watched.
        """
        with self._changing:
            self._check()
            if not (self._everything if pid is None else self._table.get(pid, _NOTHING))[0]:
                raise KeyError(pid)
            if pid is None:
                self._everything = _NOTHING
            else:
                self._table[pid] = 0, 0, self._table[pid][2], None
            if not self._everything[0]:
                for known in [known for known, entry in self._table.items() if not entry[0]]:
                    self._forget(known)
            self._sieve()

    def _forget(self, pid: int) -> None:
        self._table.pop(pid, None)
        self._live.pop(pid, None)
        self._leaders.pop(pid, None)

    def _sieve(self, looking: int = 0) -> None:
        """Tell the kernel what may pass; while watch() is looking into /proc, that is every process's `looking`."""
        entries = self._table.values()
        kinds = functools.reduce(operator.or_, {entry[0] for entry in entries}, self._everything[0] | looking)
        if not kinds:
            self._connector.attach(_classic_filter(0))
            return
        births = bool(kinds & FORK)
        kinds |= FORK | EXEC | EXIT  # what it takes to know when a process has ended
        if not looking and not self._everything[0] and not any(entry[1] for entry in entries):
            try:
                self._connector.attach(_classic_filter(kinds, births, self._table))
                return
            except OSError:
                pass  # too many for net.core.optmem_max, or for the 4096 instructions
        self._connector.attach(_classic_filter(kinds, births, None))

    def read(self, timeout: float | None = None) -> ProcEvent | Lost | None:
        """The next event; None when `timeout` seconds have passed, or when the watcher is closed meanwhile.

        Takes one datagram at a time from the socket, so that after a select on the watcher one read is enough.
        """
        self._check()
        return next(self._stream(self._deadline(timeout), 1), None)

    def __iter__(self) -> Iterator[ProcEvent | Lost]:
        return self._stream(None, _SLOTS)

    def _deadline(self, timeout: float | None) -> int | None:
        if timeout is None:
            return None
        if not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0, or None, not {timeout}")
        return None if timeout > 1 << 30 else self._connector.now() + int(timeout * 1_000_000_000)

    def _stream(self, deadline: int | None, most: int, ending: bool = False) -> Iterator[ProcEvent | Lost]:
        """The events that are wanted, in the kernel's order, and the table kept by them.

        most: datagrams to take in at a time. ending: end when no process is watched any longer.
        """
        pending, table, live = self._pending, self._table, self._live
        while True:
            while pending:
                event = pending.popleft()
                what = event.what
                if isinstance(event, Lost):
                    yield event
                    continue
                pid, stamp = event.pid, event.timestamp_ns
                born = what == FORK and event.tid == pid
                mask, inherit, since, before = table.get(event.parent_pid if born else pid, _NOTHING)
                if stamp < since:
                    mask, inherit, since, before = _at(before, stamp)
                everything = self._everything[0]
                if everything and stamp < self._everything[2]:
                    everything = _at(self._everything, stamp)[0]
                mask |= everything
                if not mask:
                    continue  # a stranger, or from before it was watched
                if born:
                    if inherit or everything:
                        table[pid] = inherit, inherit, stamp, None
                        live.pop(pid, None)
                        if event.cpu == REBUILT:
                            live[pid] = self._threads_of(pid)
                elif what == FORK:
                    live.setdefault(pid, {pid}).add(event.tid)
                    if not self._threads:
                        continue
                elif what == EXEC:
                    if pid in live:
                        live[pid] = {pid}  # the others are gone, and the one that called has the leader's id now
                        self._leaders.pop(pid, None)
                elif what == EXIT:
                    end = self._end(event if not self._threads else copy.copy(event))
                    if end:
                        self._forget(pid)
                    if not self._threads:
                        if not end:
                            continue
                        event = end
                    if mask & NONZERO_EXIT and event.exit_code:
                        mask |= EXIT
                if mask & what:
                    yield event
            if (ending and not table and self._gap is None and not self._loss) or not self._fill(deadline, most):
                return

    def _end(self, event: Any) -> Any:
        """The process's Exit, if it has ended with this one of a thread of it; else None."""
        pid = event.pid
        if pid not in self._live:
            return event if event.tid == pid else None
        left = self._live[pid]
        left.discard(event.tid)
        if event.tid == pid:
            self._leaders[pid] = event
        leader = self._leaders.setdefault(pid, event) if pid not in left else event
        # A thread that was ending by itself when the process ended can be told last, with its own status: 0.
        leader.exit_code = event.exit_code or leader.exit_code
        if not left:
            # After an exec by a thread the old leader can be told late, and looks like the last: look, then tell.
            left |= self._threads_of(pid)
        if left:
            return None
        leader.tid, leader.cpu, leader.timestamp_ns = pid, event.cpu, event.timestamp_ns
        return leader

    def _threads_of(self, pid: int) -> set[int]:
        """The live threads of a process in the table; none if it is gone, though its pid may be another's now."""
        return _live_threads(pid, self._table.get(pid, self._everything)[2] + self._connector.skew)

    def _fill(self, deadline: int | None, most: int) -> bool:
        """Wait for datagrams and take some in; False if the deadline has passed, or the watcher is closed."""
        connector, pending = self._connector, self._pending
        with self._reading:
            self._reader = threading.get_ident()
            try:
                while not self._closed:
                    if self._loss:
                        self._repair()
                        return True
                    if connector.ready:
                        self._receive(most)
                        if pending:
                            # What happened before the deadline still counts, and what came later can wait.
                            return deadline is None or pending[0].timestamp_ns <= deadline
                        continue
                    alarm = self._heard + self._quiet
                    until = alarm if deadline is None else min(alarm, deadline)
                    if self._woken.poll(max(0, until - connector.now()) / 1_000_000):
                        if self._delay:
                            self._nap.poll(self._delay)
                        connector.ready = True
                    elif until == deadline:
                        return False
                    else:
                        self._test()
                return False
            finally:
                self._reader = 0
                if self._closed:
                    self._finish()

    def _receive(self, most: int) -> None:
        """Take datagrams in, and tell a loss where it happened: between what was queued by then and the rest.

        During an overrun the kernel queues nothing until the queue has been read empty, so from reading to reading
        fewer bytes are queued. When there are not, all from before the loss has been read.
        """
        connector, gap = self._connector, self._gap
        now = connector.now()
        try:
            self._pending.extend(connector.receive(most if gap is None else 1))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            gap = 1 << 32
        if not connector.ready:
            self._dry = now
        if self._pending:
            self._heard, self._newest = now, self._pending[-1].timestamp_ns
        if gap is not None:
            queued = connector.meminfo(SK_MEMINFO_RMEM_ALLOC)
            self._gap = queued if 0 < queued < gap else None
            if self._gap is None:
                dropped = connector.dropped()
                self._loss = Lost(dropped - self._lost, connector.now())
                self._lost = dropped

    def _repair(self) -> None:
        """Put into the stream the loss, and what /proc tells about it; all from before has been told.

        An Exit for each process of the table that is gone, unless the queue has the kernel's own; a Fork for each
        descendant that is new, likewise. The live threads of all are read again.
        """
        connector, table, pending, skew = self._connector, self._table, self._pending, self._connector.skew
        loss, since, self._loss = self._loss or Lost(None, connector.now()), self._newest, None
        stats = _processes()
        live = {pid: self._threads_of(pid) for pid in list(table) if not _hidden(pid)}
        looked = connector.now()
        connector.ready = True
        while connector.ready and not self._loss and (not pending or pending[-1].timestamp_ns < looked):
            self._receive(_SLOTS)
        ends = collections.defaultdict(set)
        for event in pending:
            if isinstance(event, Exit):
                ends[event.pid].add(event.tid)
        rebuilt: list[ProcEvent] = []
        for pid, threads in live.items():
            if threads or pid in ends:
                self._live[pid] = threads or ends[pid]
            else:
                self._live.pop(pid, None)
                rebuilt.append(Exit(EXIT, REBUILT, looked, pid, pid, -1, SIGCHLD, 0, 0))
        known = {pid for pid, threads in live.items() if threads}
        known.update(event.pid for event in pending if isinstance(event, Fork))
        parents = {pid for pid in known if self._everything[0] or table.get(pid, _NOTHING)[1]}
        for pid, stat in sorted(stats.items(), key=lambda item: item[1].start):
            if (pid not in known and (self._everything[0] or stat.ppid in parents) and stat.state not in "ZX"
                    and stat.start - skew + _TICK > since):
                parents.add(pid)
                rebuilt.append(Fork(FORK, REBUILT, max(stat.start - skew, since), stat.ppid, stat.ppid, pid, pid))
        pending.extendleft(reversed([loss, *rebuilt]))

    def _test(self) -> None:
        """It is quiet: find out whether the kernel still tells us anything, and whether all that we watch lives.

        To set this thread's name to what it is makes an event, and changes nothing. An ordinary user can have run
        the kernel's count of listeners down (6.6 and newer), and an event that the kernel had no memory for is not
        even counted.
        """
        connector, pending, began = self._connector, self._pending, time.monotonic_ns()
        name, tid = ctypes.create_string_buffer(16), threading.get_native_id()
        _libc().prctl(PR_GET_NAME, name)
        _libc().prctl(PR_SET_NAME, name)
        connector.ready = True
        self._receive(_SLOTS)
        mine = [event for event in pending if isinstance(event, Comm) and event.tid == tid]
        if mine:
            pending.remove(mine[-1])
        elif self._gap is None and not self._loss:
            with self._changing:
                connector.renew()
                self._finish.detach()
                self._finish = weakref.finalize(self, _release, connector, self._waker, os.getpid())
                self._sieve()
            self._loss = Lost(None, connector.now())
        # A process that has ended may be told in a moment: it is missed when it was so the last time, too.
        missed = {pid for pid in list(self._table) if not self._threads_of(pid) and not _hidden(pid)}
        if missed & self._missed:
            self._loss = self._loss or Lost(None, connector.now())
        self._missed = missed
        # At most a thousandth of the time is spent on this, however many are watched.
        self._heard = connector.now()
        self._quiet = max(_QUIET, 1000 * (time.monotonic_ns() - began))

    def close(self) -> None:
        """Unsubscribe. A reader that is blocked in another thread returns at once."""
        if self._closed:
            return
        self._lost = self.lost
        self._closed = True
        self._pending.clear()
        if self._reader:
            os.write(self._waker[1], b"\0")
        if self._reader == threading.get_ident():
            return  # from a signal handler within a read: the reader does it on its way out
        with self._reading:
            self._finish()

    def _check(self) -> None:
        if self._closed:
            raise ValueError("the watcher is closed")

    @property
    def pids(self) -> frozenset[int]:
        """The processes watched now, one by one or because followed; those of watch(None) are not among them."""
        return frozenset(pid for pid, entry in list(self._table.items()) if entry[0])

    @property
    def lost(self) -> int:
        """How many messages the kernel has dropped so far; they are told as Lost when the reader gets there."""
        return self._lost if self._closed else self._connector.dropped()

    @property
    def closed(self) -> bool:
        """Whether close() has been called."""
        return self._closed

    def fileno(self) -> int:
        """The socket's file descriptor, readable when read(0) may have something."""
        self._check()
        return self._connector.sock.fileno()

    def __enter__(self) -> Watcher:
        self._check()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


# ------------------------------------------------------------------------------------------ watch and wait


def watch(*pids: int, events: int = What.LIFE, follow: bool = True, threads: bool = False,
          timeout: float | None = None) -> Iterator[ProcEvent | Lost]:
    """What these processes do from now on, and (follow) their descendants; without pids, every process.

    Ends when the last of them has ended, or after `timeout` seconds. It subscribes when called. Raises what
    Watcher and Watcher.watch raise.

    >>> for event in cnproc.watch(pid, events=cnproc.What.EXEC):
    ...     print(event.pid, cnproc.cmdline(event.pid))
    """
    watcher = Watcher(threads=threads)
    try:
        deadline = watcher._deadline(timeout)
        for pid in pids or (None,):
            watcher.watch(pid, events, follow=follow)
    except BaseException:
        watcher.close()
        raise

    def stream() -> Iterator[ProcEvent | Lost]:
        with watcher:
            yield from watcher._stream(deadline, _SLOTS, ending=bool(pids))

    return stream()


def wait(pid: int, timeout: float | None = None) -> int | None:
    """Wait for the end of any process, not only of a child.

    Returns what subprocess calls its returncode: the exit status, or -N for death by signal N; None if the
    process is gone, but its status was lost. Raises ProcessLookupError if it has ended already, TimeoutError
    after `timeout` seconds, and what Watcher raises.

    >>> cnproc.wait(pid)
    0
    """
    with Watcher() as watcher:
        deadline = watcher._deadline(timeout)
        watcher.watch(pid, What.EXIT, follow=False)
        for event in watcher._stream(deadline, 1, ending=True):
            if isinstance(event, Exit):
                return event.returncode
        if watcher.pids:
            raise TimeoutError(errno.ETIMEDOUT, f"process {pid} has not ended within {timeout} seconds")
    return None


# -------------------------------------------------------------------------------------------- command line

_EXAMPLES = """examples:
  cnproc.py 1234                 a process and all its descendants, until the last has ended
  cnproc.py                      every process on the machine, until ctrl-C
  cnproc.py -e exec              what is started on this machine
  cnproc.py -e nonzero_exit      what fails
  cnproc.py -j 1234 | jq .       one JSON object a line
"""


_SAYS = {  # of each kind of event, in a line of text
    Fork: "child of {0.parent_pid}", Exec: "", Uid: "user {0.ruid}, effective {0.euid}", Comm: "named {0.comm!r}",
    Gid: "group {0.rgid}, effective {0.egid}", Sid: "leads a new session", Coredump: "dumps core",
    Ptrace: "traced by {0.tracer_pid}", Lost: "{0.count} events: they came faster than they were read",
}


class _Narrator:
    """Tells events as lines of text or JSON; keeps each process's command line and birth for that."""

    def __init__(self, watcher: Watcher, wanted: int, as_json: bool) -> None:
        import json
        import shlex
        import signal

        self._dumps, self._join, self._signals = json.dumps, shlex.join, {int(n): n.name for n in signal.Signals}
        self._watcher, self._wanted, self._json = watcher, wanted, as_json
        self._clock = watcher._connector
        self._names: dict[int, list[str]] = {}
        self._births: dict[int, int] = {}

    def meet(self, pid: int) -> _Stat | None:
        """Learn of a process that was there before."""
        stat = _stat(pid)
        if stat:
            self._births[pid], self._names[pid] = stat.start - self._clock.skew, _name(pid)
        return stat

    def found(self, pid: int) -> Iterator[str]:
        """Tell of a descendant that was there before: of its birth, and if it has run one, of its program."""
        stat = self.meet(pid)
        if stat:
            yield self.hear(Fork(FORK, REBUILT, self._births[pid], stat.ppid, stat.ppid, pid, pid))
            if not stat.flags & PF_FORKNOEXEC:
                yield self.hear(Exec(EXEC, REBUILT, self._clock.now(), pid, pid))

    def hear(self, event: Any) -> str:
        """Learn from an event; the line that tells it, empty if it is not wanted."""
        if isinstance(event, Lost):
            return self._object(event, [], None) if self._json else self._line(event, [], None)
        pid, wanted, ran = event.pid, self._wanted, None
        if isinstance(event, Fork) and event.tid == pid:
            self._births[pid], self._names[pid] = event.timestamp_ns, self._names.get(event.parent_pid, [])
        elif isinstance(event, Exec):
            self._names[pid] = _name(pid)
        name = self._names.get(pid, [])
        if isinstance(event, Exit):
            wanted |= EXIT if wanted & NONZERO_EXIT and event.exit_code else 0
            if event.tid == pid and pid in self._births:
                ran = (event.timestamp_ns - self._births[pid]) / 1e9
            if pid not in self._watcher._table:
                self._names.pop(pid, None)
                self._births.pop(pid, None)
        if not event.what & wanted:
            return ""
        return self._object(event, name, ran) if self._json else self._line(event, name, ran)

    def _object(self, event: Any, name: list[str], ran: float | None) -> str:
        day, fraction = self._time(event, time.gmtime, "%Y-%m-%dT%H:%M:%S")
        told = {"event": type(event).__name__.lower(), "time": f"{day}.{fraction}Z",
                "timestamp_ns": event.timestamp_ns, "host": socket.gethostname()}
        if isinstance(event, Lost):
            told["count"] = event.count
        else:
            told.update(pid=event.pid, tid=event.tid)
            told.update({field: getattr(event, field) for field in _fields(type(event))[3:]})
            if isinstance(event, Comm):
                told["comm"] = _utf8(event.comm)
            if isinstance(event, (Exec, Exit)):
                told["cmdline"] = [_utf8(word) for word in name]
            if isinstance(event, Exit):
                told.update(returncode=event.returncode, duration=ran)
            if event.rebuilt:
                told["rebuilt"] = True
        return self._dumps(told)

    def _line(self, event: Any, name: list[str], ran: float | None) -> str:
        said = self._status(event) if isinstance(event, Exit) else _SAYS[type(event)].format(event)
        if ran is not None:
            said += f" after {ran:.3f} s"
        if name:
            said += f"{': ' if said else ''}{self._join(name)}"
        if not isinstance(event, Lost):
            thread = "" if event.tid == event.pid else f"thread {event.tid} "
            said = f"{thread}{said or '?'}{'  (from /proc)' if event.rebuilt else ''}"
        if not said.isprintable():  # a name may hold anything, and a terminal obeys it
            said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
        clock, kind = ".".join(self._time(event, time.localtime, "%H:%M:%S")), type(event).__name__.lower()
        return f"{clock} {kind:8} {getattr(event, 'pid', '-'):>7}  {said}"

    def _status(self, event: Exit) -> str:
        status = event.returncode
        if status is None or status >= 0:
            return "status lost" if status is None else str(status)
        return self._signals.get(-status, f"signal {-status}") + (", core dumped" if event.exit_code & 0x80 else "")

    def _time(self, event: Any, zone: Any, form: str) -> tuple[str, str]:
        """The time of day of an event, and the microseconds."""
        seconds, rest = divmod(event.timestamp_ns + time.time_ns() - self._clock.now(), 1_000_000_000)
        return time.strftime(form, zone(seconds)), f"{rest // 1000:06}"


def _name(pid: int) -> list[str]:
    """The command line; the name in brackets if there is none, as with a kernel thread; [] if it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return cmdline(pid) or [f"[{os.fsdecode(file.read()).rstrip()}]"]
    except OSError:
        return []


def _utf8(text: str) -> str:
    """The text with \\xff for a byte that is no UTF-8: to many readers a lone surrogate is no JSON."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _arguments(argv: list[str] | None) -> Any:
    import argparse

    def pid(text: str) -> int:
        if not text.isdecimal() or not int(text):
            raise argparse.ArgumentTypeError(f"a PID is a number from 1, not {text!r}")
        return int(text)

    def events(text: str) -> int:
        words = text.upper().split(",")
        unknown = [word for word in words if word not in (*kinds, "ALL")]
        if unknown:
            raise argparse.ArgumentTypeError(f"no event {unknown[0].lower()!r}")
        return functools.reduce(operator.or_, (What[word] for word in words))

    def seconds(text: str) -> float:
        number = float(text)
        if not number >= 0:
            raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
        return number

    kinds = [*(kind.__name__.upper() for kind in _EVENTS.values()), "NONZERO_EXIT"]
    parser = argparse.ArgumentParser(
        prog="cnproc", description="Tells what processes do, as the Linux kernel reports it.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pid", nargs="*", type=pid, metavar="PID", help="these processes, until the last has ended (default: all)")
    add("-e", "--events", type=events, default=What.LIFE, metavar="KIND,...",
        help=f"of {', '.join(kinds).lower()}, all (default: fork,exec,exit)")
    add("-t", "--threads", action="store_true", help="tell every thread's birth and end")
    add("--no-follow", dest="follow", action="store_false", help="leave out the descendants")
    add("-j", "--json", action="store_true", help="one JSON object a line")
    add("-d", "--duration", type=seconds, metavar="SECONDS", help="end after so long")
    add("-V", "--version", action="version", version=f"cnproc {__version__}")
    return parser.parse_args(argv)


def _run(args: Any) -> int:
    with Watcher(threads=args.threads) as watcher:
        deadline = watcher._deadline(args.duration)
        narrator = _Narrator(watcher, args.events, args.json)
        for pid in args.pid or [None]:
            try:
                watcher.watch(pid, args.events | What.LIFE, follow=args.follow)
            except OSError as error:
                _complain(error)
        if args.pid and not watcher.pids:
            return 1
        for pid in args.pid or list(watcher._table):
            narrator.meet(pid)
        before = (line for pid in sorted(watcher.pids.difference(args.pid)) for line in narrator.found(pid))
        after = map(narrator.hear, watcher._stream(deadline, _SLOTS, ending=bool(args.pid)))
        for line in itertools.chain(before, after):
            if line:
                print(line, flush=True)
    return 0


def _complain(error: OSError) -> None:
    import sys

    print(f"cnproc: {error.strerror or error}", file=sys.stderr)


def _main(argv: list[str] | None = None) -> int:
    import signal

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)  # so that the watcher unsubscribes first

    args = _arguments(argv)
    try:
        for number in signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, stop)
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # since the interpreter flushes once more at its end
        return 0
    except OSError as error:
        _complain(error)
        return 1


if __name__ == "__main__":
    raise SystemExit(_main())
