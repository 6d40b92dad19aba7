#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Report every process start, exec and exit on Linux, live from the kernel's process connector.

    python3 cnproc.py PID                  # a process and its descendants, until the last has ended
    status = cnproc.wait(pid)              # wait for any process, not only for a child
    for event in cnproc.watch(pid): ...    # what a process and its descendants do, as it happens

One file, standard library only, no compiler: copy it into your project. wait() works everywhere on Linux 6.15.
Everything else needs the initial PID, user and network namespaces, and before Linux 6.6 CAP_NET_ADMIN.

`pid` is always a process and `tid` a thread, the words of ps, /proc and Python. The kernel's structs say tgid for
the first and pid for the second.
"""
# The file reads from the kernel to the user: kernel ABI, events, /proc and pidfd, subscription, kernel program,
# sources, table, watcher, functions, command line. Each part uses only those above it. Nothing happens at import.
# What begins with _ belongs to this module, and not to one class of it:
# pyright: reportPrivateUsage=false
from __future__ import annotations

import collections
import contextlib
import ctypes
import enum
import errno
import functools
import itertools
import mmap
import operator
import os
import select
import socket
import struct
import sys
import threading
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import subprocess
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any, ClassVar, NamedTuple, Union

__all__ = [
    "Comm", "Coredump", "Event", "Exec", "Exit", "Fork", "Gid", "Lost", "ProcEvent", "Ptrace", "Sid", "Uid",
    "Watcher", "What", "cmdline", "main", "run", "wait", "wait_async", "watch", "watch_async",
]
__version__ = "3.0.0"

_u8, _u16, _u32, _s32, _u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64

# ---------------------------------------------------------------------------------------------- kernel ABI

# linux/netlink.h, linux/socket.h
_AF_NETLINK, _NETLINK_CONNECTOR, _NLMSG_DONE = 16, 11, 3

class _sockaddr_nl(ctypes.Structure):
    """The address of a netlink socket: netlink(7)."""
    _fields_ = [
        ("nl_family", _u16),    # __kernel_sa_family_t nl_family
        ("nl_pad", _u16),       # unsigned short nl_pad
        ("nl_pid", _u32),       # __u32 nl_pid: the sender's port, 0 for the kernel
        ("nl_groups", _u32),    # __u32 nl_groups
    ]

class _nlmsghdr(ctypes.Structure):
    """The header of a netlink message."""
    _fields_ = [
        ("nlmsg_len", _u32),    # __u32 nlmsg_len: with this header
        ("nlmsg_type", _u16),   # __u16 nlmsg_type
        ("nlmsg_flags", _u16),  # __u16 nlmsg_flags
        ("nlmsg_seq", _u32),    # __u32 nlmsg_seq
        ("nlmsg_pid", _u32),    # __u32 nlmsg_pid
    ]

# linux/connector.h, linux/cn_proc.h
_CN_IDX_PROC, _CN_VAL_PROC = 1, 1
_PROC_CN_MCAST_LISTEN, _PROC_CN_MCAST_IGNORE = 1, 2

class _cn_msg(ctypes.Structure):
    """The header of a connector message, after nlmsghdr."""
    _fields_ = [
        ("idx", _u32),          # struct cb_id id { __u32 idx;
        ("val", _u32),          #                   __u32 val; }
        ("seq", _u32),          # __u32 seq
        ("ack", _u32),          # __u32 ack: in an answer, that of the request plus 1
        ("len", _u16),          # __u16 len: of what follows
        ("flags", _u16),        # __u16 flags
    ]

class _request(ctypes.Structure):
    """What LISTEN and IGNORE are sent in: three structs in a row."""
    _fields_ = [("nl", _nlmsghdr), ("cn", _cn_msg), ("op", _u32)]  # op: enum proc_cn_mcast_op

# linux/uio.h, linux/socket.h: recvmmsg(2) takes many datagrams at a call
class _iovec(ctypes.Structure):
    """A piece of memory: readv(2)."""
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]

class _user_msghdr(ctypes.Structure):
    """struct msghdr as recvmsg(2) has it."""
    _fields_ = [
        ("msg_name", ctypes.c_void_p),          # void *msg_name
        ("msg_namelen", ctypes.c_int),          # int msg_namelen
        ("msg_iov", ctypes.POINTER(_iovec)),     # struct iovec *msg_iov
        ("msg_iovlen", ctypes.c_size_t),        # __kernel_size_t msg_iovlen
        ("msg_control", ctypes.c_void_p),       # void *msg_control
        ("msg_controllen", ctypes.c_size_t),    # __kernel_size_t msg_controllen
        ("msg_flags", ctypes.c_uint),           # unsigned int msg_flags
    ]

class _mmsghdr(ctypes.Structure):
    """One datagram of recvmmsg(2)."""
    _fields_ = [("msg_hdr", _user_msghdr), ("msg_len", ctypes.c_uint)]  # msg_len: as received

# asm-generic/socket.h, linux/sock_diag.h (SO_MEMINFO gives a u32[9]), linux/proc_ns.h, linux/prctl.h, linux/sched.h
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_ATTACH_BPF, _SO_MEMINFO = 33, 26, 50, 55
_SK_MEMINFO_DROPS, _SK_MEMINFO_VARS = 8, 9
_PROC_PID_INIT_INO, _PROC_USER_INIT_INO = 0xEFFFFFFC, 0xEFFFFFFD
_PR_SET_NAME, _PR_GET_NAME, _SIGCHLD = 15, 16, 17
_PF_FORKNOEXEC, _SIGNAL_GROUP_EXIT = 0x40, 4

# linux/bpf_common.h, linux/filter.h
_BPF_LD, _BPF_JMP, _BPF_RET, _BPF_MISC = 0x00, 0x05, 0x06, 0x07
_BPF_W, _BPF_ABS, _BPF_LEN, _BPF_TAX = 0x00, 0x20, 0x80, 0x00
_BPF_JEQ, _BPF_JSET, _BPF_X = 0x10, 0x40, 0x08

class _sock_filter(ctypes.Structure):
    """One instruction of classic BPF."""
    _fields_ = [
        ("code", _u16),         # __u16 code
        ("jt", _u8),            # __u8 jt: instructions to skip if true
        ("jf", _u8),            # __u8 jf: instructions to skip if false
        ("k", _u32),            # __u32 k
    ]

class _sock_fprog(ctypes.Structure):
    """A program of classic BPF: SO_ATTACH_FILTER in socket(7)."""
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_sock_filter))]

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info)
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT, _PIDFD_THREAD = 0xC040FF0B, 1 << 3, os.O_EXCL if hasattr(os, "O_EXCL") else 0o200

class _pidfd_info(ctypes.Structure):
    """What PIDFD_GET_INFO answers, in the 64 bytes of its first version (Linux 6.13)."""
    _fields_ = [
        ("mask", _u64),         # __u64 mask: what is asked for; what is answered
        ("cgroupid", _u64),     # __u64 cgroupid
        ("ids", _u32 * 11),     # __u32 pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid
        ("exit_code", _s32),    # __s32 exit_code: a wait status, once the process has been reaped (Linux 6.15)
    ]

@functools.lru_cache(maxsize=None)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

# -------------------------------------------------------------------------------------------------- events

if TYPE_CHECKING:
    from abc import ABCMeta as _TupleType
    from enum import EnumMeta as _FlagType

    from typing_extensions import dataclass_transform

    class _EventType(type): ...

    @dataclass_transform(eq_default=False)
    class _Event:
        """For type checkers: an event's annotations are what its constructor takes, and it has nothing else."""

        def __bytes__(self) -> bytes: ...

    class _Lost(NamedTuple):
        count: int | None  # type: ignore[assignment]  # it hides tuple.count()
        timestamp_ns: int

    class _EndFields(NamedTuple):
        what: int
        pid: int
        timestamp_ns: int

    class _Stat(NamedTuple):
        state: str
        ppid: int
        flags: int
        threads: int
        start_ns: int
        exit_code: int
else:
    def _short_dir(base):
        """A metaclass for such classes. help() and completion show what dir() has: here what a class adds itself."""
        class Short(type(base)):
            def __dir__(cls):
                names = {*vars(cls), *getattr(cls, "__members__", ())} - {*_names(cls)}
                return sorted(name for name in names if not name.startswith("_"))

        return Short

    _EventType, _FlagType, _TupleType = map(_short_dir, (ctypes.Structure, enum.IntFlag, tuple))
    _Event = ctypes.Structure
    _Lost = collections.namedtuple("Lost", ("count", "timestamp_ns"))
    _EndFields = collections.namedtuple("_EndFields", ("what", "pid", "timestamp_ns"))
    # Fields of /proc/PID/stat (proc_pid_stat(5)). start_ns: of CLOCK_MONOTONIC, cut to a tick.
    _Stat = collections.namedtuple("_Stat", ("state", "ppid", "flags", "threads", "start_ns", "exit_code"))

class What(enum.IntFlag, metaclass=_FlagType):
    """Kinds of events: the kernel's PROC_EVENT_* without the prefix (linux/cn_proc.h). Combine them with |.

    LIFE is FORK, EXEC and EXIT, the default everywhere. ALL is every kind. NONZERO_EXIT asks for exits with a status
    other than 0; it never stands in an event's `what`.
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

_REBUILT = 0xFFFFFFFF  # stands for the cpu in an event that was put together after a loss

class ProcEvent(_Event, metaclass=_EventType):
    """What all events share: struct proc_event (linux/cn_proc.h). Each kind has a class that adds the rest.

    what            the kind, one of What
    cpu             the CPU that it happened on; 0xffffffff if it was put together after a loss
    timestamp_ns    when: CLOCK_MONOTONIC, in nanoseconds

    An event is an independent copy of the kernel's struct. It can be kept, compared, hashed, pickled and matched:
    `case cnproc.Exit(pid=p)`. pid is always a process and tid a thread.
    """

    _fields_: ClassVar[Any] = [
        ("what", _u32),          # __u32 what
        ("cpu", _u32),           # __u32 cpu
        ("timestamp_ns", _u64),  # __u64 __attribute__((aligned(8))) timestamp_ns
    ]
    if TYPE_CHECKING:
        what: int = 0
        cpu: int = 0
        timestamp_ns: int = 0
    else:
        def __init__(self, *values, **named):
            kind, names = type(self).__name__, self.__match_args__
            if named.keys() - {*names}:
                raise TypeError(f"{kind} has no {', '.join(sorted(named.keys() - {*names}))}")
            if len(values) > len(names):
                raise TypeError(f"{kind} has {len(names)} values, not {len(values)}")
            super().__init__(**dict(zip(names, values)), **named)

        def __dir__(self):
            return sorted({*dir(ProcEvent), *dir(type(self)), *_names(type(self))})

    @property
    def rebuilt(self) -> bool:
        """Whether this event was put together after a loss, from what /proc and the kernel's maps say."""
        return bool(self.cpu == _REBUILT)

    def asdict(self) -> dict[str, Any]:
        """What `--json` prints of it, but for the machine and the time of day. None: nobody knows the value."""
        kind: Any = type(self)
        fields = {name: getattr(self, name) for name in _names(kind)[3:]}
        fields = {name: None if value == 0 and name.startswith("parent_") else value for name, value in fields.items()}
        shown = {"event": type(self).__name__.lower(), "timestamp_ns": self.timestamp_ns,
                 "pid": fields.pop("pid", None), "tid": fields.pop("tid", None), **fields}
        if isinstance(self, Exec):
            shown.update(cmdline=_texts(self.cmdline), truncated=self.truncated)
        elif isinstance(self, Comm):
            shown.update(comm=_text(self.comm))
        elif isinstance(self, Exit):
            code = self.returncode
            shown.update(exit_code=None if code is None else self.exit_code, returncode=code,
                         signal=_signal_name(-code) if code and code < 0 else None)
        return {**shown, "rebuilt": self.rebuilt}

    def __repr__(self) -> str:
        kind: Any = type(self)
        values = {name: repr(getattr(self, name)) for name in _names(kind)}
        if self.what in _EVENTS:
            values["what"] = f"What.{What(self.what).name}"
        if isinstance(self, Exit):
            values["returncode"] = repr(self.returncode)
        return f"{type(self).__name__}({', '.join(map('='.join, values.items()))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcEvent) and type(self) is type(other) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

@functools.lru_cache(maxsize=None)
def _names(kind: type) -> list[str]:
    """The names of an event's values, those that it inherits first."""
    names = [name.strip("_") for part in reversed(kind.__mro__) for name, *_ in vars(part).get("_fields_", ())]
    return [*names, "cmdline"] if kind is Exec else names

class Fork(ProcEvent):
    """A process was forked. With threads=True: or a thread was created; the parent is then that of its process.

    pid, tid                  the new process; with threads=True the new thread
    parent_pid, parent_tid    who forked it
    """

    _fields_ = [
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
        ("tid", _s32),           # __kernel_pid_t child_pid
        ("pid", _s32),           # __kernel_pid_t child_tgid
    ]
    if TYPE_CHECKING:
        parent_tid: int = 0
        parent_pid: int = 0
        tid: int = 0
        pid: int = 0

# All other kinds begin with __kernel_pid_t process_pid, process_tgid.
_TASK: list[Any] = [("tid", _s32), ("pid", _s32)]
_UNKNOWN: Any = None

class Exec(ProcEvent):
    """A process runs another program.

    pid, tid     the process
    cmdline      its command line at the moment of the exec, as os.fsdecode has it; None if it could not be read
    truncated    whether cmdline lacks its end: it has over 16 KiB, and the process was gone before /proc could be read
    With source "netlink", cmdline of a process that is a zombie already is its name in brackets, as in ps: ["[mkdir]"].
    """

    _fields_ = _TASK
    _words = _UNKNOWN       # bytes: the arguments, each with a NUL behind it; written by the source that made the event
    _length = 0             # bytes that the kernel has of them
    _parent_pid = _UNKNOWN  # where the source knows it; no part of the value
    _comm = _UNKNOWN
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        cmdline: list[str] | None = None
    else:
        @property
        def cmdline(self):
            """The arguments of the program."""
            return _split(self._words)

        @cmdline.setter
        def cmdline(self, words):
            self._words = None if words is None else b"".join(os.fsencode(word) + b"\0" for word in words)
            self._length = len(self._words or b"")

    @property
    def truncated(self) -> bool:
        """Whether cmdline lacks its end."""
        return self._words is not None and len(self._words) < self._length

    def __eq__(self, other: object) -> bool:
        return (super().__eq__(other) and isinstance(other, Exec)
                and (self._words, self.truncated) == (other._words, other.truncated))

    def __hash__(self) -> int:
        return hash((bytes(self), self._words))

class Uid(ProcEvent):
    """A thread's user ids have changed.

    pid, tid      the process and its thread
    ruid, euid    the real and the effective user id that it has now
    """

    _fields_ = [*_TASK, ("ruid", _u32), ("euid", _u32)]  # union { __u32 ruid; } r; union { __u32 euid; } e
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        ruid: int = 0
        euid: int = 0

class Gid(ProcEvent):
    """A thread's group ids have changed.

    pid, tid      the process and its thread
    rgid, egid    the real and the effective group id that it has now
    """

    _fields_ = [*_TASK, ("rgid", _u32), ("egid", _u32)]  # union { __u32 rgid; } r; union { __u32 egid; } e
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        rgid: int = 0
        egid: int = 0

class Sid(ProcEvent):
    """A process, pid and tid, leads a new session: setsid(2)."""

    _fields_ = _TASK
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0

class Ptrace(ProcEvent):
    """A thread is traced from now on, or no longer. PTRACE_TRACEME makes no event.

    pid, tid                  the process and its thread
    tracer_pid, tracer_tid    who traces it; 0 if it is traced no longer
    """

    _fields_ = [
        *_TASK,
        ("tracer_tid", _s32),    # __kernel_pid_t tracer_pid
        ("tracer_pid", _s32),    # __kernel_pid_t tracer_tgid
    ]
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        tracer_tid: int = 0
        tracer_pid: int = 0

class Comm(ProcEvent):
    """A thread took a name: prctl(PR_SET_NAME), or a write to its /proc/PID/comm. An exec makes no Comm.

    pid, tid    the process and its thread
    comm        the name, as os.fsdecode has it. The kernel keeps 15 bytes, and may cut a letter
    """

    _fields_ = [*_TASK, ("_comm_", ctypes.c_char * 16)]  # char comm[16]
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        comm: str = ""
    else:
        @property
        def comm(self):
            """The name."""
            return os.fsdecode(self._comm_)

        @comm.setter
        def comm(self, name):
            self._comm_ = os.fsencode(name)

class Coredump(ProcEvent):
    """A process is about to dump core, even where no core is kept.

    pid, tid                  the process and the thread that failed
    parent_pid, parent_tid    its parent; 0 where the kernel does not know it any longer
    """

    _fields_ = [
        *_TASK,
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
    ]
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        parent_tid: int = 0
        parent_pid: int = 0

class Exit(ProcEvent):
    """A process has ended: its last thread has. Its files are closed, and its parent has been notified.

    pid, tid                  the process. With threads=True: a thread has ended, with its own exit_code
    exit_code                 the status of wait(2); -1 if nobody can know it any more
    returncode                the exit status, or -N for death by signal N, as subprocess has it; None for -1
    exit_signal               what the parent was sent: SIGCHLD as a rule; 0xffffffff for a thread
    parent_pid, parent_tid    its parent; often 0: the kernel does not always know it any longer
    """

    _fields_ = [
        *_TASK,
        ("exit_code", _s32),     # __u32 exit_code; an int in wait(2), and so here
        ("exit_signal", _u32),   # __u32 exit_signal
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
    ]
    _comm = _UNKNOWN
    if TYPE_CHECKING:
        tid: int = 0
        pid: int = 0
        exit_code: int = 0
        exit_signal: int = 0
        parent_tid: int = 0
        parent_pid: int = 0
        returncode: int | None = None
    else:
        @property
        def returncode(self):
            """The exit status, or -N for death by signal N, as subprocess has it; None if it is not known."""
            return _returncode(self.exit_code)

        @returncode.setter
        def returncode(self, code):
            if code is not None and not -128 < code < 256:
                raise ValueError(f"a returncode is from -127 to 255, not {code}")
            if code != self.returncode:
                self.exit_code = -1 if code is None else -code if code < 0 else code << 8

def _returncode(status: int) -> int | None:
    """A wait status in subprocess's form; None for -1."""
    return None if status < 0 else -(status & 0x7F) or status >> 8

@functools.lru_cache(maxsize=None)
def _signal_name(number: int) -> str:
    import signal

    if number in signal.valid_signals():
        with contextlib.suppress(ValueError):
            return signal.Signals(number).name
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return f"SIG{number}"  # 32 and 33 are the C library's own

def _text(text: str) -> str:
    r"""The text with \xff for a byte that is no UTF-8: to many readers a lone surrogate is no JSON."""
    return text if text.isascii() else os.fsencode(text).decode(errors="backslashreplace")

def _texts(words: list[str] | None) -> list[str] | None:
    return None if words is None else [_text(word) for word in words]

class _Ack(ctypes.Structure):
    _fields_ = [*ProcEvent._fields_, ("err", _u32)]  # struct { __u32 err; } ack, with what 0

_END = -1

class _End(_EndFields):
    """With threads=True a source puts it behind the last Exit of a process. It is never reported."""
    __slots__ = ()

class Lost(_Lost, metaclass=_TupleType):
    """The kernel dropped events here, because they were read too slowly. It has no pid.

    count           how many; None: nobody knows
    timestamp_ns    when that was noticed: CLOCK_MONOTONIC, in nanoseconds
    """

    __slots__ = ()
    what = What.NONE

    def asdict(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        return {"event": "lost", "timestamp_ns": self.timestamp_ns, "count": self.count}

if TYPE_CHECKING:
    Event = Union[Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit, Lost]

def __getattr__(name: str) -> Any:
    if name == "Event":  # for annotations: what watch() yields
        import typing

        union: Any = typing.Union
        kinds = *_EVENTS.values(), Lost
        return union[kinds]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]

_FORK, _EXEC, _COMM, _EXIT, _NONZERO_EXIT, _LIFE = map(int, (
    What.FORK, What.EXEC, What.COMM, What.EXIT, What.NONZERO_EXIT, What.LIFE))
_ENDS = _EXIT | _NONZERO_EXIT
_LONGEST: Any = Exit
_EVENTS: dict[int, Any] = {
    int(What[kind.__name__.upper()]): kind for kind in (Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit)}
for _kind in (ProcEvent, *_EVENTS.values()):  # as in a dataclass, and so type checkers know it
    setattr(_kind, "__match_args__", (*_names(_kind), *(["returncode"] if _kind is Exit else [])))  # noqa: B010

_COPIES = {what: kind.from_buffer_copy for what, kind in _EVENTS.items()}

# Where the parts of a datagram lie, and how long it is with one event: Exit is the longest.
_CN_MSG = ctypes.sizeof(_nlmsghdr)
_PROC_EVENT = _CN_MSG + ctypes.sizeof(_cn_msg)
_SIZE = _PROC_EVENT + ctypes.sizeof(_LONGEST)

def _decode(buffer: bytearray, start: int, end: int) -> Iterator[ProcEvent]:
    """Copies of the events in the datagram buffer[start:end]: of every message that is whole and of a known kind."""
    while end - start >= _PROC_EVENT:
        nl = _nlmsghdr.from_buffer(buffer, start)
        cn = _cn_msg.from_buffer(buffer, start + _CN_MSG)
        if not _CN_MSG <= nl.nlmsg_len <= end - start:
            return
        size = min(cn.len, nl.nlmsg_len - _PROC_EVENT)
        if (nl.nlmsg_type, cn.idx, cn.val) == (_NLMSG_DONE, _CN_IDX_PROC, _CN_VAL_PROC) and size >= 4:
            kind = _EVENTS.get(_u32.from_buffer(buffer, start + _PROC_EVENT).value)
            if kind and size >= ctypes.sizeof(kind):
                yield kind.from_buffer_copy(buffer, start + _PROC_EVENT)
        start += nl.nlmsg_len + 3 & ~3  # NLMSG_ALIGN

# ----------------------------------------------------------------------------------------- /proc and pidfd

_TICK = 1_000_000_000 // 100  # USER_HZ is 100 wherever the connector is

def _stat(pid: int) -> _Stat | None:
    """What /proc says of a process; None if it is gone, or hidden (hidepid)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    slept = -time.monotonic_ns() + time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # rather too much than too little
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[6]), int(fields[17]),
                 int(fields[19]) * _TICK - slept, int(fields[49]))

def _pids() -> list[int]:
    """All processes that /proc shows, zombies too."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]

def _task_files(pid: int, name: str) -> Iterator[tuple[int, bytes]]:
    """The threads that /proc lists of a process, with this file of each; a thread that is gone meanwhile has none."""
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for tid in tids:
        try:
            with open(f"/proc/{pid}/task/{tid}/{name}", "rb") as file:
                yield int(tid), file.read()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass

def _tids(pid: int) -> dict[int, bool]:
    """The threads that /proc lists of a process, and whether the EXIT of each is still to come."""
    return {tid: stat.rpartition(b") ")[2][:1] not in b"ZX" for tid, stat in _task_files(pid, "stat")}

def _ended(pid: int, stat: _Stat | None) -> bool:
    """Whether a process has ended with all its threads: a leader can be a zombie while they live."""
    looked = None
    while stat and stat.state in "ZX" and stat.threads > 1:
        tids = _tids(pid)
        if any(tids.values()):
            return False
        if tids and tids == looked:
            return True  # a tracer has yet to release its threads
        # While a thread takes its leader's place in an exec, a look can find nobody alive, or nobody at all.
        looked, stat = tids, _stat(pid)
    return not stat or stat.state in "ZX"

def _children(pid: int) -> list[int]:
    """The children of a process: proc_pid_task_children(5), or without CONFIG_PROC_CHILDREN all of /proc."""
    if os.path.exists("/proc/thread-self/children"):
        return [int(child) for _, children in _task_files(pid, "children") for child in children.split()]
    stats = ((child, _stat(child)) for child in _pids())
    return [child for child, stat in stats if stat and stat.ppid == pid]

def _leader(tid: int) -> int | None:
    """The process that a thread belongs to: /proc/TID is there for any thread, though it is not listed."""
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
    except OSError:
        return None

def _hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show."""
    if _stat(pid):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True

def _missing(pid: int) -> OSError:
    """Why a process cannot be watched that /proc does not show alive."""
    if _hidden(pid) and not _stat(os.getpid()):
        return OSError(errno.EPERM, f"cannot look after process {pid}: /proc is not mounted, or not this one's")
    if _hidden(pid):
        return OSError(errno.EPERM, f"process {pid} exists, but /proc hides it (hidepid): run as root or as its "
                       "owner, or mount /proc with hidepid=0")
    leader = _leader(pid)
    if leader is None:
        return OSError(errno.ESRCH, f"no process {pid}: it has ended, or never was")
    if leader != pid:
        return OSError(errno.ESRCH, f"{pid} is a thread of process {leader}: watch that")
    return OSError(errno.ESRCH, f"process {pid} has ended; it is a zombie until its parent waits for it")

def _check_pid(pid: int) -> None:
    """Raises TypeError and ValueError for what cannot be a pid."""
    if isinstance(pid, (list, tuple, set, frozenset)):
        raise TypeError("pids are separate arguments: watch(1, 2), not watch([1, 2])")
    if isinstance(pid, (bool, What)) or not hasattr(pid, "__index__"):
        raise TypeError(f"a pid is a number, not {pid!r}")
    if operator.index(pid) < 1:
        raise ValueError(f"a pid is 1 or more, not {pid}")

def _check_events(events: int) -> int:
    if isinstance(events, str):
        name = events.upper() if events.upper() in What.__members__ else "EXEC"
        raise TypeError(f"events are of What: use What.{name}, not {events!r}")
    mask = operator.index(events)
    if not mask or mask & ~int(What.ALL):
        raise ValueError(f"events must be of What, and at least one of them, not {mask:#x}")
    return mask

def _raw_cmdline(pid: int) -> bytes | None:
    """The raw command line of a process; of a zombie its name in brackets, as ps has it; None if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
        if not words:
            with open(f"/proc/{pid}/comm", "rb") as file:
                words = b"[%s]\0" % file.read().rstrip(b"\n")
        return words
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None

def _split(words: bytes | None) -> list[str] | None:
    """The arguments of a raw command line."""
    if words is None:
        return None
    return [os.fsdecode(word) for word in words.removesuffix(b"\0").split(b"\0")] if words else []

def cmdline(pid: int) -> list[str]:
    """The command line of a live process, from /proc/PID/cmdline; empty for a kernel thread or a zombie.

    Raises ProcessLookupError if there is no such process, PermissionError where /proc hides it (hidepid), and
    ValueError for a pid below 1.
    """
    _check_pid(pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _split(file.read()) or []
    except FileNotFoundError:
        raise _missing(pid) from None

@functools.lru_cache(maxsize=None)
def _kernel() -> tuple[int, ...]:
    """The kernel's version: (6, 12)."""
    return tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2] if number.isdigit())

def _zombie_status(pid: int) -> int | None:
    """The wait status of a zombie, where /proc shows it: to root and its owner."""
    stat = _stat(pid)
    # Before 5.17 it is the leader's own, which is not the process's where the leader ended first.
    if not stat or not _ended(pid, stat) or _kernel() < (5, 17):
        return None
    if not stat.exit_code:  # others see 0; whether we are others shows here (ptrace_may_access() in both)
        try:
            os.readlink(f"/proc/{pid}/ns/user")
        except OSError:
            return None
    return int(stat.exit_code)

def _reaped_status(pidfd: int) -> int | None:
    """The wait status of a process that has been reaped, from its pidfd: Linux 6.15, for anybody."""
    import fcntl

    info = _pidfd_info(mask=_PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    return int(info.exit_code) if info.mask & _PIDFD_INFO_EXIT else None

@functools.lru_cache(maxsize=None)
def _pidfd_has_status() -> bool:
    """Whether _reaped_status() works here. Only something that ends can show it: a thread that lives for 0.2 ms."""
    if not hasattr(os, "pidfd_open"):
        return False
    pidfd = -1

    def ask() -> None:
        nonlocal pidfd
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(threading.get_native_id(), _PIDFD_THREAD)

    try:
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join()
    except RuntimeError:  # no more threads, or the interpreter is ending
        return False
    if pidfd < 0:
        return False
    try:
        reaped = select.poll()
        reaped.register(pidfd, 0)  # POLLHUP
        return bool(reaped.poll(1000)) and _reaped_status(pidfd) is not None
    finally:
        os.close(pidfd)

# -------------------------------------------------------------------------------------------- subscription

def _foreign() -> list[str]:
    """Which of this process's namespaces are not the initial ones."""
    found: list[str] = []
    for name, initial in ("pid", _PROC_PID_INIT_INO), ("user", _PROC_USER_INIT_INO):
        try:
            if os.stat(f"/proc/self/ns/{name}").st_ino != initial:
                found.append(name)
        except OSError:
            pass
    return found

def _refusal(number: int) -> OSError:
    """Why this process may not listen, and what to do about it. number: the kernel's errno, 0 for no answer."""
    foreign = _foreign() + ["network"] * (number == errno.ECONNREFUSED)
    if foreign and number in (0, errno.EPERM, errno.ECONNREFUSED):
        options = {"pid": "--pid=host", "user": "--userns=host", "network": "--network=host"}
        return OSError(number or errno.EPERM, f"the kernel reports process events in the initial {', '.join(foreign)} "
                       "namespace only: run on the host, or in its namespaces "
                       f"(docker run {' '.join(options[name] for name in foreign)})")
    if number == errno.EPERM:
        return OSError(number, "before Linux 6.6 it takes CAP_NET_ADMIN to listen to process events: run as root, or "
                       "give the program the capability (AmbientCapabilities=CAP_NET_ADMIN in a systemd unit)")
    if number in (0, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return OSError(errno.EPROTONOSUPPORT, "this kernel does not report process events: it takes Linux with "
                       "CONFIG_CONNECTOR and CONFIG_PROC_EVENTS")
    return OSError(number, f"cannot listen to process events: {os.strerror(number)}")

class _Subscription:
    """A socket that the kernel counts among the listeners of the process connector.

    The constructor returns when the kernel has acknowledged it. Raises OSError, with the cause and the remedy.
    """

    sock: Any = None  # _subscribe()

    def __init__(self, rcvbuf: int) -> None:
        self.skew = 0  # ns by which our CLOCK_MONOTONIC is ahead of the kernel's, in a time namespace; _acknowledged()
        self.rcvbuf = rcvbuf
        self._counted = False  # whether the kernel counts us; _ask()
        try:
            deadline = time.monotonic() + 1
            patience = 200
            while not self._subscribe(patience):
                # An ordinary user can have run the kernel's count of listeners below zero: it answers none then.
                # Each LISTEN on a fresh socket adds one, and close() takes none away.
                self.sock.close()
                patience = 0
                if time.monotonic() > deadline or _foreign():
                    raise OSError(0, "")
        except OSError as error:
            raise _refusal(error.errno or 0) from None
        except BaseException:
            self.close()
            raise

    def _subscribe(self, patience: int) -> bool:
        """Open a socket and LISTEN; whether the kernel acknowledges it, which it does before send() returns."""
        if not hasattr(socket, "AF_NETLINK"):
            raise OSError(errno.EAFNOSUPPORT, "")
        self.sock = socket.socket(_AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
        self._counted = False
        try:
            for option in _SO_RCVBUFFORCE, socket.SO_RCVBUF:  # only the second is limited by net.core.rmem_max
                try:
                    self.sock.setsockopt(socket.SOL_SOCKET, option, self.rcvbuf)
                    break
                except OSError:
                    pass
            self.attach(_classic_filter(0))  # acks alone, so that no storm can crowd ours out
            self.sock.bind((0, _CN_IDX_PROC))
            token, before = int.from_bytes(os.urandom(4), "little"), time.monotonic_ns()
            self._ask(_PROC_CN_MCAST_LISTEN, token)
            answer = select.poll()
            answer.register(self.sock, select.POLLIN)
            while answer.poll(patience):
                data, (sender, _) = self.sock.recvfrom(1024)
                if not sender and self._acknowledged(data, token, before):
                    return True
            return False
        except BaseException:
            self.close()
            raise

    def _acknowledged(self, data: bytes, token: int, before: int) -> bool:
        """Whether this is the answer to our LISTEN. Acks are multicast: others see theirs and ours."""
        if len(data) != _SIZE:
            return False
        cn, ack = _cn_msg.from_buffer_copy(data, _CN_MSG), _Ack.from_buffer_copy(data, _PROC_EVENT)
        if ack.what or cn.ack != (token + 1) & 0xFFFFFFFF:
            return False
        if not before <= ack.timestamp_ns <= time.monotonic_ns():
            self.skew = time.monotonic_ns() - ack.timestamp_ns
        if ack.err:
            raise OSError(ack.err, "")
        return True

    def _ask(self, op: int, token: int = 0) -> None:
        message = self._request(op, token)
        self._counted = op == _PROC_CN_MCAST_LISTEN  # and no call between, in which a ctrl-C could come
        self.sock.send(message)

    @staticmethod
    def _request(op: int, token: int = 0) -> _request:
        """LISTEN or IGNORE; the ack of it carries token + 1."""
        size = ctypes.sizeof(_request)
        return _request(_nlmsghdr(nlmsg_len=size, nlmsg_type=_NLMSG_DONE),
                       _cn_msg(idx=_CN_IDX_PROC, val=_CN_VAL_PROC, ack=token, len=size - _PROC_EVENT), op)

    def renew(self, again: bool) -> None:
        """Make the kernel count us again, where its count has been run down.

        A LISTEN on our own socket is enough if it was our own that somebody took back. If the count is lower still,
        each LISTEN on another socket adds one (again): Linux 6.6 and newer count one for each.
        """
        if not again:
            self._ask(_PROC_CN_MCAST_LISTEN)
            return
        with socket.socket(_AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR) as sock:
            sock.bind((0, _CN_IDX_PROC))
            sock.send(self._request(_PROC_CN_MCAST_LISTEN))

    def attach(self, program: list[tuple[int, ...]] | int) -> None:
        """Put a filter before the socket: classic BPF, or the descriptor of an eBPF program. Nothing is lost by it."""
        if isinstance(program, int):
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program)
        else:
            code = (_sock_filter * len(program))(*(_sock_filter(*instruction) for instruction in program))
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_sock_fprog(len(program), code)))

    def send_to_self(self, data: bytes) -> None:
        """Run the filter on a datagram of our own, in our own context."""
        self.sock.sendto(data, (self.port, 0))

    @property
    def port(self) -> int:
        """The netlink port of the socket."""
        return int(self.sock.getsockname()[0])

    @property
    def dropped(self) -> int:
        """How many messages the kernel has dropped so far, the buffer being full."""
        info = self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO_VARS * 4)
        return int(memoryview(info).cast("I")[_SK_MEMINFO_DROPS])

    def was_there(self, pid: int, timestamp_ns: int) -> bool:
        """Whether the process that /proc shows was there at that time: not a later one with its pid."""
        stat = _stat(pid)
        return stat is not None and stat.start_ns - self.skew <= timestamp_ns

    def now(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds, as the kernel stamps events with it."""
        return time.monotonic_ns() - self.skew

    def close(self, *, ignore: bool = True) -> None:
        """Take back the LISTEN, but not from a forked child (ignore=False), and close the socket."""
        try:
            if ignore and self._counted:
                self._ask(_PROC_CN_MCAST_IGNORE)
        except OSError:
            pass  # there is nobody left to listen
        if self.sock:
            self.sock.close()

# What the headers of every event say: the offsets and values of their 32-bit words, but seq, pid and ack.
_WORDS = memoryview(bytes(_nlmsghdr(_SIZE, _NLMSG_DONE)) + bytes(
    _cn_msg(_CN_IDX_PROC, _CN_VAL_PROC, len=_SIZE - _PROC_EVENT))).cast("I")
_HEADERS = tuple((4 * i, _WORDS[i]) for i in (0, 1, 4, 5, 8))

def _classic_filter(kinds: int, pids: Iterable[int] | None = None, forks: bool = False) -> list[tuple[int, ...]]:
    """A filter in classic BPF: it lets pass acks, other lengths, this process's own COMM, and `kinds`.

    pids: only of these processes (None: of all). forks: with the FORKs of their children. Constants are swapped,
    since BPF_LD reads big-endian.
    """
    keep, drop = (_BPF_RET, 0, 0, 0xFFFFFFFF), (_BPF_RET, 0, 0, 0)
    what, tgid, child_pid, child_tgid = (_PROC_EVENT + vars(kind)[name].offset for kind, name in (
        (ProcEvent, "what"), (Exec, "pid"), (Fork, "tid"), (Fork, "pid")))

    def load(offset: int) -> tuple[int, ...]:
        """The word of the datagram that is there."""
        return _BPF_LD | _BPF_W | _BPF_ABS, 0, 0, offset

    def jump(test: int, value: int, true: int, false: int) -> tuple[int, ...]:
        """Compare the word with a constant, and skip so many instructions."""
        return _BPF_JMP | test, true, false, socket.htonl(value)

    program = [
        (_BPF_LD | _BPF_W | _BPF_LEN, 0, 0, 0),
        (_BPF_JMP | _BPF_JEQ, 1, 0, _SIZE), keep,
        *(part for offset, number in _HEADERS for part in (load(offset), jump(_BPF_JEQ, number, 1, 0), drop)),
        load(what),
        jump(_BPF_JEQ, 0, 0, 1), keep,
        jump(_BPF_JEQ, _COMM, 0, 3), load(tgid), jump(_BPF_JEQ, os.getpid(), 0, 1), keep,
        load(what),
        jump(_BPF_JSET, kinds, 1, 0), drop,
    ]
    if pids is None:
        return [*program, keep]
    program += [
        jump(_BPF_JEQ, _FORK, 0, 5),
        load(child_pid), (_BPF_MISC | _BPF_TAX, 0, 0, 0), load(child_tgid),
        (_BPF_JMP | _BPF_JEQ | _BPF_X, 0, 2, 0),  # not equal: a thread of the process that is loaded now
        load(tgid) if forks else drop,
        load(tgid),
    ]
    for pid in pids:
        program += [jump(_BPF_JEQ, pid, 0, 1), keep]
    return [*program, drop]

# ------------------------------------------------------------------------------------------ kernel program

# linux/bpf.h: commands of bpf(2), types of maps and programs, helper functions
_BPF_MAP_CREATE, _BPF_MAP_LOOKUP_ELEM, _BPF_MAP_UPDATE_ELEM, _BPF_MAP_DELETE_ELEM, _BPF_PROG_LOAD = 0, 1, 2, 3, 5
_BPF_MAP_LOOKUP_BATCH, _BPF_MAP_LOOKUP_AND_DELETE_BATCH = 24, 25
_BPF_MAP_TYPE_HASH, _BPF_MAP_TYPE_ARRAY, _BPF_MAP_TYPE_PERCPU_ARRAY, _BPF_MAP_TYPE_RINGBUF = 1, 2, 6, 27
_BPF_ANY, _BPF_NOEXIST, _BPF_EXIST = 0, 1, 2
_BPF_F_NO_PREALLOC, _BPF_F_MMAPABLE = 1, 1 << 10
_BPF_PROG_TYPE_SOCKET_FILTER, _BPF_PSEUDO_MAP_FD, _BPF_PSEUDO_MAP_VALUE = 1, 1, 2
_BPF_RINGBUF_BUSY_BIT, _BPF_RINGBUF_HDR_SZ = 1 << 31, 8
# linux/bpf_common.h, linux/bpf.h: parts of an instruction's code
_BPF_LDX, _BPF_ST, _BPF_STX, _BPF_ALU64, _BPF_MEM, _BPF_ATOMIC, _BPF_FETCH = 0x01, 0x02, 0x03, 0x07, 0x60, 0xC0, 0x01
_BPF_DW, _BPF_JMP32, _BPF_CALL, _BPF_EXIT = 0x18, 0x06, 0x80, 0x90
_HELPERS = {"map_lookup_elem": 1, "map_update_elem": 2, "map_delete_elem": 3, "skb_load_bytes": 26,
            "get_current_task": 35, "probe_read_user": 112, "probe_read_kernel": 113, "ringbuf_output": 130}
# asm/unistd.h: libc has no function for bpf(2)
_NR_BPF = {"x86_64": 321, "aarch64": 280, "s390x": 351}

class _bpf_insn(ctypes.Structure):
    """One eBPF instruction."""
    _fields_ = [
        ("code", _u8),             # __u8 code
        ("dst_reg", _u8, 4),       # __u8 dst_reg:4
        ("src_reg", _u8, 4),       # __u8 src_reg:4
        ("off", ctypes.c_int16),  # __s16 off
        ("imm", _s32),             # __s32 imm
    ]

class _bpf_map_create(ctypes.Structure):
    """union bpf_attr of BPF_MAP_CREATE: bpf(2)."""
    _fields_ = [(name, _u32) for name in ("map_type", "key_size", "value_size", "max_entries", "map_flags")]

class _bpf_map_elem(ctypes.Structure):
    """union bpf_attr of BPF_MAP_*_ELEM; the pointers are __aligned_u64."""
    _fields_ = [("map_fd", _u32), ("pad", _u32), ("key", _u64), ("value", _u64), ("flags", _u64)]

class _bpf_map_batch(ctypes.Structure):
    """union bpf_attr of BPF_MAP_*_BATCH."""
    _fields_ = [("in_batch", _u64), ("out_batch", _u64), ("keys", _u64), ("values", _u64), ("count", _u32),
                ("map_fd", _u32), ("elem_flags", _u64), ("flags", _u64)]

class _bpf_prog_load(ctypes.Structure):
    """union bpf_attr of BPF_PROG_LOAD."""
    _fields_ = [("prog_type", _u32), ("insn_cnt", _u32), ("insns", _u64), ("license", _u64), ("log_level", _u32),
                ("log_size", _u32), ("log_buf", _u64), ("kern_version", _u32), ("prog_flags", _u32)]

def _bpf(command: int, attribute: ctypes.Structure) -> int:
    """bpf(2). Raises OSError."""
    caller = os.uname().machine if sys.maxsize > 1 << 32 else "a 32-bit Python"
    number = _NR_BPF.get(caller)
    if number is None:
        raise OSError(errno.ENOSYS, f"no eBPF program for {caller}")
    result = _libc().syscall(ctypes.c_long(number), command, ctypes.byref(attribute), ctypes.sizeof(attribute))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)

# The program's own structs. Values of the maps:
class _process_entry(ctypes.Structure):
    """processes[tgid]: a watched process, or with watch(None) any; until it has ended."""
    _fields_ = [
        ("kinds", _u32),           # events to send to user space
        ("inherited", _u32),       # what its children get for their kinds; 0: they are not followed
        ("tasks", _u32),           # EXITs still to come: one for each FORK; from _UNCOUNTED on if it was there before
        ("threads", _u32),         # not 0: it has, or may have had, more than one
        ("ended", _u32),           # threads=True: the process has ended, and some thread's EXIT may still come
        ("since_ns", _u64),        # when it was forked, or the watch began
    ]

class _program_control(ctypes.Structure):
    """control[0], in memory shared with the kernel: what Python asks of the program, and the counters of losses."""
    _fields_ = [
        ("everything", _u32),      # kinds that are wanted of every process
        ("passing", _u32),         # kinds that the program must see of every process for that
        ("self", _u32),            # this process: its COMM always passes, see _Feed.probe()
        ("sender", _u32),          # netlink port to listen to: 0, the kernel; our own during _prove()
        ("lost", _u32),            # records that found the ring full, and processes that found the map full
        ("unsaved", _u32),         # those of them that are not in the overflow map and should be
    ]

class _program_record(ctypes.Structure):
    """A record in the ring, behind struct bpf_ringbuf_hdr { u32 len, pg_off; }; and a value of overflow[number]."""
    _fields_ = [
        ("lost", _u32),            # program_control.lost at that moment
        ("note", _u32),            # EXEC: bytes in the whole command line; else 0, _FINAL, _DOUBTFUL or _PROBE
        ("event", _LONGEST),      # struct proc_event. EXEC: parent_pid, and the words behind
    ]

_UNCOUNTED, _COUNTED = 1 << 30, 1 << 29  # tasks that are not counted begin there; as many at most are
# The process has ended; the datagram's status is another than ours; a Comm of our own that nobody wants, see _probe().
_FINAL, _DOUBTFUL, _PROBE = 1, 2, 3
_CMDLINE_MAX = 16 << 10
_PLAIN = ctypes.sizeof(_program_record)
_STRIDE = _BPF_RINGBUF_HDR_SZ + _PLAIN

# The program, in the kernel's assembly of eBPF (Documentation/bpf/standardization, LLVM). It runs for each event of
# the machine, in the thread that causes it. `read(SLOT, size, base + offset)` stands for probe_read_kernel to the
# stack; struct.member is an offset in the running kernel's structs, from BTF, or in the structs above.
_PROGRAM = """
    skb = r1                                            # int filter(struct __sk_buff *skb)
    r1 = *(u32 *)(skb + 0)                              # if (skb->len != sizeof(datagram)) return DROP;
    if r1 != DATAGRAM_SIZE goto drop
    r1 = skb; r2 = 0; r3 = fp; r3 += DATAGRAM           # bpf_skb_load_bytes(skb, 0, &datagram, sizeof(datagram));
    r4 = DATAGRAM_SIZE; call skb_load_bytes
    if r0 != 0 goto drop
    r1 = *(u32 *)(fp + NLMSG_LEN)                       # if (nlmsg_len != 76 || nlmsg_type != NLMSG_DONE ||
    if r1 != DATAGRAM_SIZE goto drop
    r1 = *(u16 *)(fp + NLMSG_TYPE)
    if r1 != NLMSG_DONE goto drop
    r1 = *(u32 *)(fp + CN_IDX)                          #     id.idx != CN_IDX_PROC || id.val != CN_VAL_PROC)
    if r1 != CN_IDX_PROC goto drop
    r1 = *(u32 *)(fp + CN_VAL)                          #     return DROP;
    if r1 != CN_VAL_PROC goto drop
    what = *(u32 *)(fp + WHAT)                          # if (what == PROC_EVENT_NONE) return DROP;  // an ack
    if what == 0 goto drop

    r1 = *(u32 *)(fp + TGID)                            # whose = process_tgid, or parent_tgid of a fork;
    if what != FORK goto look
    r2 = *(u32 *)(fp + CHILD_PID)
    r3 = *(u32 *)(fp + CHILD_TGID)
    if r2 == r3 goto look
    r1 = r3                                             # if (what == FORK && child_pid != child_tgid)
look:                                                   #     whose = child_tgid;  // a thread
    *(u32 *)(fp + KEY) = r1
    control = &control
    r1 = map processes; r2 = fp; r2 += KEY; call map_lookup_elem
    entry = r0                                          # entry = processes[whose];
    r1 = *(u32 *)(control + program_control.everything)         # kinds = control.everything;
    r2 = *(u32 *)(control + program_control.passing)            # passing = control.passing;
    if entry == 0 goto sum
    r3 = *(u32 *)(entry + process_entry.kinds)                  # if (entry)
    r1 |= r3; r2 |= r3                                  #     kinds |= entry->kinds, passing |= entry->kinds;
sum:
    *(u32 *)(fp + KINDS) = r1
    if w2 & what goto wanted                            # if (!(passing & what) &&
    if what != COMM goto drop                           #     !(what == COMM && whose == control.self))
    r1 = *(u32 *)(fp + KEY)
    r2 = *(u32 *)(control + program_control.self)               #     return DROP;  // most of the machine's events
    if r1 != r2 goto drop
wanted:
    read(WORD, 4, skb + netlink_skb_parms.portid)       # if (NETLINK_CB(skb).portid != control.sender)
    if r0 != 0 goto drop
    r1 = *(u32 *)(fp + WORD)
    r2 = *(u32 *)(control + program_control.sender)
    if r1 != r2 goto drop                               #     return DROP;  // somebody forged it
    *(u32 *)(fp + NOTE) = 0
    if what == FORK goto fork                           # switch (what)
    if what == EXIT goto exit
    if what == EXEC goto exec
    if what != COMM goto send
    r1 = *(u32 *)(fp + KINDS)                           # if (what == COMM && !(kinds & COMM)) record.note = PROBE;
    if r1 & COMM goto send
    *(u32 *)(fp + NOTE) = PROBE
    goto send

fork:                                                   # case FORK:
    r1 = *(u32 *)(fp + CHILD_PID)
    r2 = *(u32 *)(fp + CHILD_TGID)
    if r1 != r2 goto thread
    r1 = 0
    if entry == 0 goto inherit
    r1 = *(u32 *)(entry + process_entry.inherited)              # inherited = entry ? entry->inherited : 0;
inherit:
    if r1 != 0 goto add                                 # if (inherited || control.everything & ENDS)
    r2 = *(u32 *)(control + program_control.everything)
    if w2 & ENDS goto add
    goto ask
add:
    *(u32 *)(fp + VALUE_KINDS) = r1                     #     processes[child_tgid] = (struct entry) {
    *(u32 *)(fp + VALUE_INHERITED) = r1                 #         .kinds = inherited, .inherited = inherited,
    *(u32 *)(fp + VALUE_TASKS) = 1                      #         .tasks = 1, .since_ns = timestamp_ns};
    *(u32 *)(fp + VALUE_THREADS) = 0
    *(u32 *)(fp + VALUE_ENDED) = 0
    *(u32 *)(fp + VALUE_PAD) = 0
    r1 = *(u32 *)(fp + TIMESTAMP); *(u32 *)(fp + VALUE_SINCE) = r1
    r1 = *(u32 *)(fp + TIMESTAMP_HIGH); *(u32 *)(fp + VALUE_SINCE_HIGH) = r1
    r1 = map processes; r2 = fp; r2 += CHILD_TGID; r3 = fp; r3 += VALUE; r4 = BPF_ANY; call map_update_elem
    if r0 == 0 goto ask                                 #     if it is full:
    r1 = 1
    lock *(u32 *)(control + program_control.lost) += r1         #         control.lost++, control.unsaved++;
    goto unsaved                                        #         return DROP;
thread:
    if entry == 0 goto counted                          # a thread: if (entry) entry->tasks++, entry->threads++;
    r1 = 1
    lock *(u32 *)(entry + process_entry.tasks) += r1
    lock *(u32 *)(entry + process_entry.threads) += r1
counted:
    THREAD_FORK                                         # if (!threads) return DROP;  // see _instructions()
ask:
    r1 = *(u32 *)(fp + KINDS)                           # if (!(kinds & FORK)) return DROP; else goto send;
    if r1 & FORK goto send
    goto drop

exec:                                                   # case EXEC:
    *(u32 *)(fp + KEY) = 0
    r1 = map scratch; r2 = fp; r2 += KEY; call map_lookup_elem
    if r0 == 0 goto drop
    # send_msg() in cn_proc.c holds a local lock, so nobody else uses this CPU's scratch
    entry = r0                                          # record = &scratch[this CPU];
    r1 = skb; r2 = EVENT_AT; r3 = entry                 # record->event = event;
    r3 += SCRATCH_EVENT; r4 = EVENT_SIZE; call skb_load_bytes
    r1 = *(u32 *)(control + program_control.lost)       # record->lost = control.lost;
    *(u32 *)(entry + 0) = r1
    call get_current_task
    r6 = r0
    read(POINTER, 8, r6 + task_struct.real_parent)      # record->event.parent_tgid = current->real_parent->tgid;
    r7 = *(u64 *)(fp + POINTER)                         # // in the place where an EXIT has it
    read(WORD, 4, r7 + task_struct.tgid)
    r1 = *(u32 *)(fp + WORD)
    *(u32 *)(entry + SCRATCH_PARENT) = r1
    read(POINTER, 8, r6 + task_struct.mm)               # mm = current->mm;
    r6 = *(u64 *)(fp + POINTER)
    read(POINTER, 8, r6 + mm_struct.arg_start)          # start = mm->arg_start;  // in pages that exec has written
    r7 = *(u64 *)(fp + POINTER)
    read(POINTER, 8, r6 + mm_struct.arg_end)            # length = mm->arg_end - start;
    r6 = *(u64 *)(fp + POINTER)
    r6 -= r7
    *(u32 *)(entry + 4) = r6                            # record->note = length;
    if r6 <= CMDLINE_MAX goto fits
    r6 = CMDLINE_MAX                                    # length = min(length, CMDLINE_MAX);
fits:
    r1 = entry; r1 += PLAIN; r2 = r6; r3 = r7; call probe_read_user
    if r0 == 0 goto readable                            # if (bpf_probe_read_user(record->cmdline, length, start))
    r6 = 0                                              #     length = 0;
readable:
    r1 = map ring; r2 = entry; r3 = PLAIN; r3 += r6; r4 = 0; call ringbuf_output
    if r0 == 0 goto drop
    r1 = 1
    lock *(u32 *)(control + program_control.lost) += r1         # if it does not fit: control.lost++;
    goto drop

exit:                                                   # case EXIT:
    call get_current_task
    task = r0
    read(POINTER, 8, task + task_struct.signal)         # signal = current->signal;
    signal = *(u64 *)(fp + POINTER)
    read(LIVE, 4, signal + signal_struct.live)          # live = atomic_read(&signal->live);
    read(NR_THREADS, 4, signal + signal_struct.nr_threads)
    read(FLAGS, 4, signal + signal_struct.flags)
    read(STATUS, 4, signal + signal_struct.group_exit_code)
    read(PTRACE, 4, task + task_struct.ptrace)
    read(POINTER, 8, task + task_struct.group_leader)   # leader = current->group_leader;
    task = *(u64 *)(fp + POINTER)
    read(EXIT_STATE, 4, task + task_struct.exit_state)
    read(WORD, 4, task + task_struct.ptrace)
    r1 = *(u32 *)(control + program_control.sender)
    if r1 != 0 goto prove                               # if (control.sender) goto prove;
    if entry == 0 goto drop                             # if (!entry) return DROP;
    r7 = -1
    r7 = atomic_fetch_add((u32 *)(entry + process_entry.tasks), r7)
    r7 -= 1                                             # left = --entry->tasks;
    r1 = *(u32 *)(fp + LIVE)                            # if (live) goto alive;
    if r1 != 0 goto alive
    if w7 == 0 goto ended                               # if (!left) goto ended;
    if w7 <= COUNTED goto alive                         # if (left is counted) goto alive;
    r1 = *(u32 *)(fp + NR_THREADS)                      # // not counted: threads leave nr_threads when released, and
    if r1 == 0 goto ended                               # // that comes before their events, see kernel/exit.c
    if r1 != 1 goto traced                              # if (nr_threads == 0 ||
    r1 = *(u32 *)(fp + EXIT_STATE)                      #     nr_threads == 1 && leader->exit_state ||
    if r1 != 0 goto ended
traced:
    r1 = *(u32 *)(fp + PTRACE)                          #     current->ptrace || leader->ptrace) goto ended;
    r2 = *(u32 *)(fp + WORD)                            # // a tracer releases threads later
    r1 |= r2
    if r1 != 0 goto ended
    goto alive
EXIT_BODY                                               # see _EXIT_OF_PROCESS and _EXIT_OF_THREAD
nonzero:
    r1 = *(u32 *)(fp + KINDS)                           # if (kinds & EXIT || kinds & NONZERO_EXIT && exit_code)
    if w1 & EXIT goto send                              #     goto send;
    r1 = *(u32 *)(fp + EXIT_CODE)                       # return DROP;
    if r1 != 0 goto send
    goto drop

prove:                                                  # a forged EXIT: send what we have read, see _prove()
    r1 = *(u32 *)(fp + LIVE); *(u32 *)(fp + EXIT_CODE) = r1
    r1 = *(u32 *)(fp + NR_THREADS); *(u32 *)(fp + EXIT_SIGNAL) = r1
    r1 = *(u32 *)(fp + EXIT_STATE); *(u32 *)(fp + EXIT_PARENT_PID) = r1
    r1 = *(u32 *)(fp + FLAGS); *(u32 *)(fp + EXIT_PARENT_TGID) = r1

send:
    r1 = *(u32 *)(control + program_control.lost)               # record.lost = control.lost;
    *(u32 *)(fp + RECORD) = r1
    r1 = map ring; r2 = fp; r2 += RECORD; r3 = PLAIN; r4 = 0; call ringbuf_output
    if r0 == 0 goto drop                                # if (!bpf_ringbuf_output(ring, &record)) return DROP;
    r1 = *(u32 *)(fp + NOTE)
    if r1 == PROBE goto drop                             # if (record.note == PROBE) return DROP;
    r1 = 1                                              # number = ++control.lost;
    r1 = atomic_fetch_add((u32 *)(control + program_control.lost), r1)
    r1 += 1
    *(u32 *)(fp + KEY) = r1
    r1 = *(u32 *)(fp + WHAT)                            # if (what is neither FORK nor EXIT) return DROP;
    if r1 == FORK goto save
    if w1 != EXIT goto drop
save:                                                   # overflow[number] = record;
    r1 = map overflow; r2 = fp; r2 += KEY; r3 = fp; r3 += RECORD; r4 = BPF_ANY; call map_update_elem
    if r0 == 0 goto drop
unsaved:                                                # it is full, or processes is:
    r1 = 1
    lock *(u32 *)(control + program_control.unsaved) += r1      # control.unsaved++;
drop:
    r0 = 0; exit                                        # return DROP;  // the socket itself stays empty
"""

# The end of a process is reported once, by the thread that deletes the entry, with the status of wait_task_zombie().
_EXIT_OF_PROCESS = """
alive:
    goto drop                                           # a thread has ended, no process: return DROP;
ended:
    r1 = *(u32 *)(fp + FLAGS)                           # status = signal->flags & SIGNAL_GROUP_EXIT ?
    if r1 & SIGNAL_GROUP_EXIT goto known                #     signal->group_exit_code : leader->exit_code;
    read(STATUS, 4, task + task_struct.exit_code)
known:
    r8 = *(u32 *)(entry + process_entry.threads)
    r1 = map processes; r2 = fp; r2 += KEY; call map_delete_elem
    if r0 != 0 goto drop                                # if (delete processes[tgid] fails) return DROP;
    r1 = *(u32 *)(fp + EXIT_CODE)
    r2 = *(u32 *)(fp + STATUS)
    *(u32 *)(fp + EXIT_CODE) = r2                       # event.exit_code = status;
    if r8 != 0 goto sure                                # if (it only ever had one thread &&
    if r1 == r2 goto sure                               #     the kernel's event says another status)
    *(u32 *)(fp + NOTE) = DOUBTFUL                      #     record.note = DOUBTFUL;
sure:
    control = &control
    r1 = *(u32 *)(fp + TID)
    r2 = *(u32 *)(fp + TGID)
    if r1 == r2 goto nonzero                            # if (current is not the leader)
    *(u32 *)(fp + TID) = r2                             #     event.tid = tgid,
    read(EXIT_SIGNAL, 4, task + task_struct.exit_signal)  #   event.exit_signal = leader->exit_signal;
"""

# threads=True: each thread's EXIT passes, and the last one is FINAL. The entry of a process that is not counted stays:
# an EXIT of a thread that was released before may yet come.
_EXIT_OF_THREAD = """
ended:
    *(u32 *)(fp + NOTE) = FINAL                         # record.note = FINAL;
    r1 = 1
    *(u32 *)(entry + process_entry.ended) = r1          # entry->ended = 1;
alive:
    if w7 != 0 goto nonzero
    r1 = map processes; r2 = fp; r2 += KEY; call map_delete_elem  # if (!left) delete processes[tgid];
"""

# Where things are on the stack. The datagram is at -80; the record overlays the end of its headers.
_STACK = {
    "DATAGRAM": -80, "NLMSG_LEN": -80, "NLMSG_TYPE": -76, "CN_IDX": -64, "CN_VAL": -60,
    "RECORD": -52, "NOTE": -48, "WHAT": -44, "TIMESTAMP": -36, "TIMESTAMP_HIGH": -32, "TID": -28, "TGID": -24,
    "CHILD_PID": -20, "CHILD_TGID": -16,
    "EXIT_CODE": -20, "EXIT_SIGNAL": -16, "EXIT_PARENT_PID": -12, "EXIT_PARENT_TGID": -8,
    "POINTER": -88, "KEY": -92, "WORD": -96,
    "VALUE": -128, "VALUE_KINDS": -128, "VALUE_INHERITED": -124, "VALUE_TASKS": -120, "VALUE_THREADS": -116,
    "VALUE_ENDED": -112, "VALUE_PAD": -108, "VALUE_SINCE": -104, "VALUE_SINCE_HIGH": -100,
    "LIVE": -128, "NR_THREADS": -124, "FLAGS": -120, "STATUS": -116, "EXIT_STATE": -112, "PTRACE": -108, "KINDS": -132,
}
_REGISTERS = {**{f"r{n}": n for n in range(11)}, "fp": 10,
              **{f"w{n}": n for n in range(11)},  # the lower half, for comparisons
              "skb": 6, "task": 6, "what": 7, "signal": 7, "control": 8, "entry": 9}
_LOWER = {"what", *(f"w{n}" for n in range(11))}
_ALU = {"=": 0xB0, "+=": 0x00, "-=": 0x10, "|=": 0x40}
_JUMPS = {"==": 0x10, "!=": 0x50, "&": 0x40, "<=": 0xB0}
_WIDTHS = {"u16": 0x08, "u32": 0x00, "u64": 0x18}

def _forms() -> list[tuple[Any, str]]:
    """The statements of a listing: a pattern and a name for each."""
    import re

    word = r"(-?[\w.]+)"
    memory = rf"\*?\((u16|u32|u64) \*\)\({word} \+ {word}\)"
    return [(re.compile(pattern), kind) for pattern, kind in (
        (rf"read\({word}, {word}, {word} \+ {word}\)", "read"),
        (rf"{word} = {memory}", "load"),
        (rf"{memory} = {word}", "store"),
        (rf"lock {memory} \+= {word}", "add"),
        (rf"{word} = atomic_fetch_add\({memory}, \1\)", "fetch_add"),
        (rf"{word} = map {word}", "map"),
        (rf"{word} = &{word}", "value"),
        (rf"if {word} (\S+) {word} goto {word}", "jump"),
        (rf"goto {word}", "goto"),
        (rf"{word} (\S*=) {word}", "alu"),
        (rf"call {word}", "call"),
        (rf"{word}:", "label"),
        (r"exit", "exit"),
    )]

def _encode(kind: str, parts: Any, symbols: dict[str, int]) -> list[Any]:
    """The instructions of a statement: code, dst, src, off (of a jump, its label) and imm (of a map, its name)."""
    def value(word: str) -> int:
        return symbols[word] if word in symbols else int(word, 0)

    def operand(word: str) -> tuple[int, int, int]:
        """BPF_X, the register, 0; or BPF_K, 0, the constant."""
        return (_BPF_X, _REGISTERS[word], 0) if word in _REGISTERS else (0, 0, value(word))

    if kind == "load":
        to, width, base, offset = parts
        return [(_BPF_LDX | _BPF_MEM | _WIDTHS[width], _REGISTERS[to], _REGISTERS[base], value(offset), 0)]
    if kind == "store":
        width, base, offset, right = parts
        register, source, number = operand(right)
        code = (_BPF_STX if register else _BPF_ST) | _BPF_MEM | _WIDTHS[width]
        return [(code, _REGISTERS[base], source, value(offset), number)]
    if kind in ("add", "fetch_add"):
        width, base, offset, right = parts if kind == "add" else (*parts[1:], parts[0])
        code = _BPF_STX | _BPF_ATOMIC | _WIDTHS[width]
        return [(code, _REGISTERS[base], _REGISTERS[right], value(offset), _BPF_FETCH if kind == "fetch_add" else 0)]
    if kind in ("map", "value"):
        what = _BPF_PSEUDO_MAP_FD if kind == "map" else _BPF_PSEUDO_MAP_VALUE
        return [(_BPF_LD | _BPF_DW, _REGISTERS[parts[0]], what, 0, parts[1]), (0, 0, 0, 0, 0)]  # 64 bits take two
    if kind == "jump":
        left, test, right, label = parts
        register, source, number = operand(right)
        code = _BPF_JMP32 if left in _LOWER else _BPF_JMP
        return [(code | _JUMPS[test] | register, _REGISTERS[left], source, label, number)]
    if kind == "alu":
        to, operation, right = parts
        register, source, number = operand(right)
        return [(_BPF_ALU64 | _ALU[operation] | register, _REGISTERS[to], source, 0, number)]
    if kind == "goto":
        return [(_BPF_JMP, 0, 0, parts[0], 0)]
    code, number = (_BPF_CALL, _HELPERS[parts[0]]) if kind == "call" else (_BPF_EXIT, 0)
    return [(_BPF_JMP | code, 0, 0, 0, number)]

def _assemble(listing: str, symbols: dict[str, int]) -> list[tuple[int, int, int, int, Any]]:
    """The instructions of a listing: code, dst, src, off and imm; for a map, imm is its name."""
    forms, labels = _forms(), {}
    code: list[Any] = []
    statements = [statement.strip() for line in listing.splitlines() for statement in line.partition("#")[0].split(";")]
    statements = statements[::-1]
    while statements:
        statement = statements.pop()
        matches = ((kind, form.fullmatch(statement)) for form, kind in forms)
        nothing: tuple[str, Any] = "", None
        match: Any = next(((kind, found) for kind, found in matches if found), nothing)
        kind, found = match
        if kind == "read":
            slot, size, base, offset = found.groups()
            statements += ["call probe_read_kernel", f"r2 = {size}", f"r1 += {slot}", "r1 = fp", f"r3 += {offset}",
                           f"r3 = {base}"]
        elif kind == "label":
            labels[found[1]] = len(code)
        elif kind:
            code += _encode(kind, found.groups(), symbols)
        elif statement:
            raise SyntaxError(statement)
    return [(op, to, source, labels[off] - at - 1 if isinstance(off, str) else off, number)
            for at, (op, to, source, off, number) in enumerate(code)]

# The members of the kernel's own structs that the program reads.
_MEMBERS = {
    "task_struct": ("signal", "mm", "group_leader", "real_parent", "tgid", "exit_state", "exit_code", "exit_signal",
                    "ptrace"),
    "signal_struct": ("live", "nr_threads", "flags", "group_exit_code"),
    "mm_struct": ("arg_start", "arg_end"),
    "sk_buff": ("cb",),
    "netlink_skb_parms": ("portid",),
}

class _Btf:
    """The types of the running kernel: Documentation/bpf/btf.rst. They are searched by name, never walked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        magic, _, _, length, types, types_length, strings, strings_length = struct.unpack_from("=HBBIIIII", data)
        if magic != 0xEB9F:
            raise OSError(errno.EINVAL, "/sys/kernel/btf/vmlinux is no BTF")
        self._types = length + types, length + types + types_length
        self._strings = length + strings, length + strings + strings_length

    def offsets(self, name: str, members: Iterable[str]) -> dict[str, int]:
        """The offsets of these members of a struct, in bytes, those of an unnamed first member of it included."""
        for at in self._uses(name):
            found = self._struct(at)
            if found:
                if "" in found and found[""] == 0 and not found.keys() >= set(members):
                    found = self._unnamed(next(iter(members)))
                return {member: found[member] // 8 for member in members}
        raise KeyError(name)

    def _uses(self, name: str) -> Iterator[int]:
        """Where the offset of a name stands in the type section."""
        start, end = self._strings
        word = struct.pack("=I", self._data.index(b"\0%s\0" % name.encode(), start, end) + 1 - start)
        start, end = self._types
        at = self._data.find(word, start, end)
        while at >= 0:
            if not (at - start) % 4:
                yield at
            at = self._data.find(word, at + 1, end)

    def _struct(self, at: int) -> dict[str, int]:
        """The bit offsets of the members of the struct btf_type that begins there; nothing if it is none."""
        _, info, _ = struct.unpack_from("=III", self._data, at)
        count, kind = info & 0xFFFF, info >> 24 & 0x1F
        if kind != 4 or info >> 16 & 0xFF or at + 12 + 12 * count > self._types[1]:  # BTF_KIND_STRUCT
            return {}
        members = struct.iter_unpack("=III", self._data[at + 12:at + 12 + 12 * count])
        return {self._name(name): offset & (0xFFFFFF if info >> 31 else 0xFFFFFFFF) for name, _, offset in members}

    def _unnamed(self, member: str) -> dict[str, int]:
        """The unnamed struct that has this member."""
        for at in self._uses(member):
            for begin in range(at - 12, at - 12 * 500, -12):  # back over the members before it
                name, info, _ = struct.unpack_from("=III", self._data, begin)
                found = self._struct(begin) if info >> 24 & 0x1F == 4 and begin + 12 * (info & 0xFFFF) >= at else {}
                if member in found:
                    if not name:
                        return found
                    break
        raise KeyError(member)

    def _name(self, offset: int) -> str:
        start = self._strings[0] + offset
        end = self._data.find(b"\0", start)
        return self._data[start:end].decode() if 0 <= end < self._strings[1] and end - start < 128 else "?"

@functools.lru_cache(maxsize=None)
def _layout() -> dict[str, int]:
    """Where the members of the kernel's structs are. Raises OSError. It takes 12 ms, once."""
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            btf = _Btf(file.read())
        layout = {f"{name}.{member}": offset for name, members in _MEMBERS.items()
                  for member, offset in btf.offsets(name, members).items()}
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, "the kernel has no BTF: /sys/kernel/btf/vmlinux") from error
    except (KeyError, ValueError, struct.error) as error:
        raise OSError(errno.EINVAL, f"the kernel's BTF lacks {error}") from error
    layout["netlink_skb_parms.portid"] += layout["sk_buff.cb"]  # NETLINK_CB(skb)
    return layout

@functools.lru_cache(maxsize=None)
def _instructions(threads: bool) -> list[tuple[int, int, int, int, Any]]:
    """The program, for this kernel."""
    def signed(number: int) -> int:
        return number - (1 << 32) if number >> 31 else number

    own = {f"{kind.__name__[1:]}.{field[0]}": getattr(kind, field[0]).offset
           for kind in (_process_entry, _program_control) for field in kind._fields_}
    constants = {"FORK": _FORK, "EXEC": _EXEC, "COMM": _COMM, "EXIT": signed(_EXIT), "ENDS": signed(_ENDS),
                 "DATAGRAM_SIZE": _SIZE, "EVENT_AT": _PROC_EVENT, "EVENT_SIZE": ctypes.sizeof(_LONGEST),
                 "NLMSG_DONE": _NLMSG_DONE, "CN_IDX_PROC": _CN_IDX_PROC, "CN_VAL_PROC": _CN_VAL_PROC,
                 "SIGNAL_GROUP_EXIT": _SIGNAL_GROUP_EXIT, "CMDLINE_MAX": _CMDLINE_MAX, "PLAIN": _PLAIN,
                 "BPF_ANY": _BPF_ANY,
                 "SCRATCH_EVENT": _program_record.event.offset,
                 "SCRATCH_PARENT": _program_record.event.offset + vars(Exit)["parent_pid"].offset,
                 "FINAL": _FINAL, "DOUBTFUL": _DOUBTFUL, "PROBE": _PROBE, "COUNTED": _COUNTED}
    listing = _PROGRAM.replace("EXIT_BODY ", _EXIT_OF_THREAD if threads else _EXIT_OF_PROCESS)
    listing = listing.replace("THREAD_FORK", "goto ask" if threads else "goto drop")
    return _assemble(listing, {**_layout(), **_STACK, **own, **constants})

class _Program:
    """The eBPF program and its maps, loaded. Raises OSError; the last lines of the verifier are in its text."""

    def __init__(self, threads: bool, ring_size: int, entries: int) -> None:
        self.fds: dict[str, int] = {}
        try:
            for name, kind, key, value, room, flags in (
                ("processes", _BPF_MAP_TYPE_HASH, 4, ctypes.sizeof(_process_entry), entries, _BPF_F_NO_PREALLOC),
                ("overflow", _BPF_MAP_TYPE_HASH, 4, _PLAIN, entries, _BPF_F_NO_PREALLOC),
                ("control", _BPF_MAP_TYPE_ARRAY, 4, ctypes.sizeof(_program_control), 1, _BPF_F_MMAPABLE),
                ("scratch", _BPF_MAP_TYPE_PERCPU_ARRAY, 4, _PLAIN + _CMDLINE_MAX, 1, 0),
                ("ring", _BPF_MAP_TYPE_RINGBUF, 0, 0, ring_size, 0),
            ):
                self.fds[name] = _bpf(_BPF_MAP_CREATE, _bpf_map_create(kind, key, value, room, flags))
            code = b"".join(bytes(_bpf_insn(op, to, source, off, self.fds[imm] if isinstance(imm, str) else imm))
                            for op, to, source, off, imm in _instructions(threads))
            self.fds["program"] = self._load(code)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _load(code: bytes) -> int:
        insns, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
        attribute = _bpf_prog_load(_BPF_PROG_TYPE_SOCKET_FILTER, len(code) // ctypes.sizeof(_bpf_insn),
                                  ctypes.addressof(insns), ctypes.addressof(licence))
        try:
            return _bpf(_BPF_PROG_LOAD, attribute)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise
            log = ctypes.create_string_buffer(1 << 20)
            attribute.log_level, attribute.log_size, attribute.log_buf = 1, len(log), ctypes.addressof(log)
            with contextlib.suppress(OSError):
                os.close(_bpf(_BPF_PROG_LOAD, attribute))
            last = "; ".join(log.value.decode(errors="replace").strip().splitlines()[-4:])
            raise OSError(error.errno, f"the kernel refuses the eBPF program: {error.strerror}: {last}") from None

    def element(self, command: int, name: str, key: int, value: Any = None, flags: int = _BPF_ANY) -> bool:
        """BPF_MAP_*_ELEM; False where there is no such entry (or with BPF_NOEXIST, where there is one)."""
        word = _u32(key)
        try:
            _bpf(command, _bpf_map_elem(self.fds[name], 0, ctypes.addressof(word),
                                       ctypes.addressof(value) if value is not None else 0, flags))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EEXIST):
                return False
            if error.errno == errno.E2BIG:
                raise OSError(errno.E2BIG, "too many processes are watched: the map in the kernel is full") from None
            raise
        return True

    def all(self, name: str, kind: type[ctypes.Structure], *, take: bool = False) -> dict[int, Any]:
        """What is in a map; take: and empty it."""
        found: dict[int, Any] = {}
        room, cursor, first = 1024, _u64(), True
        while True:
            keys, values = (_u32 * room)(), (kind * room)()
            batch = _bpf_map_batch(0 if first else ctypes.addressof(cursor), ctypes.addressof(cursor),
                                  ctypes.addressof(keys), ctypes.addressof(values), room, self.fds[name])
            try:
                _bpf(_BPF_MAP_LOOKUP_AND_DELETE_BATCH if take else _BPF_MAP_LOOKUP_BATCH, batch)
                done = False
            except OSError as error:
                if error.errno == errno.ENOSPC:  # one bucket has more
                    room *= 2
                    continue
                if error.errno != errno.ENOENT:  # the end
                    raise
                done = True
            found.update(zip(keys[:batch.count], values[:batch.count]))
            first = False
            if done:
                return found

    def close(self) -> None:
        """Let go of all; a program that is attached keeps its maps."""
        while self.fds:
            os.close(self.fds.popitem()[1])

# ------------------------------------------------------------------------------------------------- sources

# Both sources give process-level events in order, a Lost where it happened, and with threads=True an _End behind a
# process's last Exit. They have the same methods and attributes, all of which the Watcher calls under its lock:
#   add(pid, kinds, inherited)  report these kinds of a process, and `inherited` of its children to come, too
#   remove(pid)                 the contrary of add()
#   watch_all(kinds)            report these kinds of every process, too; 0: no longer
#   read(most) -> list          about so many events at most; it never waits
#   known() -> {pid: ns}        the processes whose Exit is still to come, and since when each is known
#   columns                     of what read() gave, the columns of _Ring.take(); None if it is not all wanted
#   ready                       whether read() may find something at once; also set by who has waited
#   recount(live, gone)         after a loss: these processes are still there, those are not
#   status(pid, since_ns)       the wait status of one that is gone and was there then; -1 if nobody knows
#   forget(pid)                 its end has been reported
#   look_at_socket() -> list    the socket is readable: what it says of losses
#   unsure                      whether read() has found a loss after which only /proc says what is true
#   failed                      why this source is not to be trusted any more, or None
#   lost                        how many events the kernel has dropped so far
#   gather                      seconds that a reader may let a storm gather
#   descriptors                 what to wait on

class _Ring:
    """The memory of a ring buffer map, shared with the kernel: Documentation/bpf/ringbuf.rst."""

    def __init__(self, fd: int, size: int) -> None:
        shared = mmap.mmap(fd, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        self._consumer_pos = _u64.from_buffer(mmap.mmap(fd, mmap.PAGESIZE))
        self._producer_pos = memoryview(shared)[:8].cast("Q")
        self._data = memoryview(shared)[mmap.PAGESIZE:]  # twice, so that no record is cut at the end
        self._words = self._data.cast("I")
        self._size = size
        self._taken = 0  # bytes since the beginning; take()
        self.doubtful: Exit | None = None  # an Exit whose status the kernel's own event contradicts; take()
        # x86-64 and s390x see loads in order. Elsewhere libbpf has smp_load_acquire() for producer_pos and for each
        # length, and smp_store_release() for consumer_pos: here a lock that is taken and released stands for each.
        self._fence = None if os.uname().machine in ("x86_64", "s390x") else threading.Lock()

    def next_lost(self) -> int | None:
        """How many were lost before the next record; None if there is none, or it is still being written."""
        at = self._taken % self._size >> 2
        if self._producer_pos[0] == self._taken or self._words[at] & _BPF_RINGBUF_BUSY_BIT:
            return None
        return self._words[at + 2]

    @property
    def empty(self) -> bool:
        """Whether nothing is in it, not even a record that is still being written."""
        return bool(self._producer_pos[0] == self._taken)

    def take(self, most: int, lost: int) -> tuple[list[Any], Any]:
        """The oldest events, about `most` at most. Stops before the first record that counts more losses than `lost`.

        The second value is None, or three columns if nothing but plain records are there: each event's `what`, whose
        event it is (of a FORK the parent's), and the child of a FORK. A number of a column costs 10 ns, a field of an
        event 35.
        """
        words, data, fence = self._words, self._data, self._fence or contextlib.nullcontext()
        begin = at = self._taken % self._size
        last = at + self._producer_pos[0] - self._taken
        with fence:
            pass
        events: list[Any] = []
        columns = None
        first, count = at >> 2, min(most, (last - at) // _STRIDE)
        end = first + count * _STRIDE // 4

        def column(word: int) -> list[int]:
            return words[first + word:end:_STRIDE // 4].tolist()

        if count and column(0).count(_PLAIN) == count:
            with fence:
                pass
            whats = column(4)
            if column(2).count(lost) == count and not any(column(3)) and _EXEC not in whats:
                columns = whats, column(9), column(11)
                events = [_COPIES[what](data, start) for what, start in zip(whats, range(at + 16, last, _STRIDE))]
                at += count * _STRIDE
        while at < last and len(events) < most and not columns:
            word = at >> 2
            length = words[word]
            if length & _BPF_RINGBUF_BUSY_BIT:
                break
            with fence:
                pass
            if words[word + 2] != lost and not (words[word + 2] - lost) & 0x80000000:
                break
            what, note = words[word + 4], words[word + 3]
            event: Any = _COPIES[what](data, at + 16)
            events.append(event)
            if what == _EXEC:
                event._words, event._length = bytes(data[at + 56:at + 8 + length]), note
                event._parent_pid = words[word + 13]
                if len(event._words) < note:
                    _complete(event)
            elif note == _FINAL:
                events.append(_End(_END, event.pid, event.timestamp_ns))
            elif note == _DOUBTFUL:
                self.doubtful = event
            at += length + 15 & ~7
        self._taken += at - begin
        with fence:
            pass
        self._consumer_pos.value = self._taken
        return events, columns

def _complete(event: Exec) -> None:
    """Read what the kernel did not, from /proc: all of it, or the rest if it is still the same command line."""
    words = _raw_cmdline(event.pid)
    if not event._words:
        event._words, event._length = words, len(words or b"")
    elif words and len(words) == event._length and words.startswith(event._words):
        event._words = words

class _RingSource:
    """The events as the eBPF program has decided on them, in the context of the processes themselves."""

    name = "ebpf"
    gather = 0.002                 # nothing is missed by waiting: the kernel has read the names
    failed: OSError | None = None  # read()
    columns: Any = None            # read()
    ready = True                   # read()
    unsure = False                 # read(); reset by _Feed.resync()

    def __init__(self, subscription: _Subscription, threads: bool) -> None:
        """Raises OSError where the kernel does not let us, or is not laid out as its BTF says."""
        self._subscription, self._threads = subscription, threads
        # An event takes 56 bytes here and some 800 in the socket's buffer: a ring of 1/8 holds at least as many.
        size = max(1 << 16, 1 << (subscription.rcvbuf >> 3).bit_length() >> 1)
        self._program = _Program(threads, size, self._room())
        self._saved: dict[int, _program_record] = {}  # by their numbers: what was lost and has been kept; _recover()
        self._lost = self._unsaved = 0            # as far as they are reported; read()
        self._late = False                        # whether more of what was lost may come to be kept; read()
        try:
            fds = self._program.fds
            self._control = _program_control.from_buffer(mmap.mmap(fds["control"], mmap.PAGESIZE))
            self._control.self = os.getpid()
            self._ring = _Ring(fds["ring"], size)
            self._drops = subscription.dropped    # of the socket, as far as they are reported; look_at_socket()
            subscription.attach(fds["program"])
            self._prove()
        except BaseException:
            self._program.close()
            raise
        self.descriptors = fds["ring"], subscription.sock.fileno()

    @staticmethod
    def _room() -> int:
        """How many entries the maps may have: twice the tasks that there are, or more. Unused they take 16 bytes."""
        with open("/proc/loadavg") as file:
            return max(1 << 16, 2 * int(file.read().split()[3].partition("/")[2]))

    def _prove(self) -> None:
        """Have the program read what we know: our own command line and threads, by datagrams to ourselves."""
        control, port, me = self._control, self._subscription.port, os.getpid()
        forged = [_WORDS.tobytes() + bytes(event).ljust(ctypes.sizeof(_LONGEST), b"\0") for event in (
            Exec(_EXEC, _REBUILT, 0, me, me), Exit(_EXIT, _REBUILT, 0, me, me))]
        control.sender = port ^ 1 << 30  # somebody else: neither we nor the kernel
        control.everything = control.passing = _EXEC | _EXIT
        self._subscription.send_to_self(forged[0])
        if self._ring.take(9, 0)[0]:
            raise OSError(errno.EINVAL, "the eBPF program takes others for the kernel")
        control.sender = port
        for _ in range(10):  # threads come and go
            for datagram in forged:
                self._subscription.send_to_self(datagram)
            with open("/proc/self/stat", "rb") as file:
                stat = file.read().rpartition(b") ")[2].split()
            found, _ = self._ring.take(9, 0)
            begin, end = int(stat[45]), int(stat[46])  # arg_start, arg_end
            words = ctypes.string_at(begin, min(end - begin, _CMDLINE_MAX)) if begin else None
            if ([event.what for event in found] == [_EXEC, _EXIT]
                    and (found[0]._words, found[0]._parent_pid) == (words, os.getppid())
                    and found[1].exit_code == found[1].exit_signal == int(stat[17])
                    and (found[1].parent_tid, found[1].parent_pid & _SIGNAL_GROUP_EXIT) == (0, 0)):
                break
        else:
            raise OSError(errno.EINVAL, "the kernel's structs are not as its BTF says")
        control.everything = control.passing = control.sender = 0

    def add(self, pid: int, kinds: int, inherited: int) -> None:
        kinds, inherited = (kinds and kinds | _EXIT) | (inherited and _FORK), inherited and inherited | _FORK | _EXIT
        value = _process_entry(kinds=kinds, inherited=inherited, tasks=_UNCOUNTED, threads=1,
                              since_ns=self._subscription.now())
        while not self._element(_BPF_MAP_UPDATE_ELEM, pid, value, _BPF_NOEXIST):
            old = _process_entry()
            if self._element(_BPF_MAP_LOOKUP_ELEM, pid, old):
                value.kinds, value.inherited = kinds | old.kinds, inherited | old.inherited
                value.since_ns = old.since_ns
                if self._element(_BPF_MAP_UPDATE_ELEM, pid, value, _BPF_EXIST):
                    break
        if self._threads:  # count, so that the last EXIT is known as such: unless threads come and go meanwhile
            live = sum(_tids(pid).values())
            if live and self._element(_BPF_MAP_LOOKUP_ELEM, pid, value) and value.tasks == _UNCOUNTED:
                value.tasks = live
                self._element(_BPF_MAP_UPDATE_ELEM, pid, value, _BPF_EXIST)

    def remove(self, pid: int) -> None:
        if self._control.everything & _ENDS:
            self._element(_BPF_MAP_UPDATE_ELEM, pid, _process_entry(
                tasks=_UNCOUNTED, threads=1, since_ns=self._subscription.now()), _BPF_EXIST)
        else:
            self._element(_BPF_MAP_DELETE_ELEM, pid)

    def watch_all(self, kinds: int) -> None:
        self._control.passing = kinds | (_FORK | _EXIT if kinds & _ENDS else 0)
        self._control.everything = kinds
        if not kinds & _ENDS:
            for pid, process in self._program.all("processes", _process_entry).items():
                if not process.kinds:
                    self._element(_BPF_MAP_DELETE_ELEM, pid)

    def known(self) -> dict[int, int]:
        return {pid: process.since_ns for pid, process in self._program.all("processes", _process_entry).items()
                if not process.ended}

    def _element(self, command: int, pid: int, value: Any = None, flags: int = _BPF_ANY) -> bool:
        return self._program.element(command, "processes", pid, value, flags)

    @property
    def lost(self) -> int:
        return int(self._control.lost) + self._subscription.dropped

    def read(self, most: int) -> list[Any]:
        ring, control = self._ring, self._control
        events, columns = ring.take(most, self._lost)
        self.columns = None if self._threads else columns  # in which a thread's FORK looks like a process's
        self.ready = len(events) >= most
        if self.ready:
            return events
        number = ring.next_lost()
        if number is None and ring.empty:
            lost = control.lost
            number = lost if ring.empty else None  # nothing has come between, so all from before the loss is read
            if self._late:
                self._late, self.columns = False, None
                events += self._recover(0)
        count = 0 if number is None else (number - self._lost) & 0xFFFFFFFF
        if 0 < count < 1 << 31:  # else it is of a record that had been numbered before others were lost
            self.columns = None
            events.append(Lost(count, self._subscription.now()))
            events += self._recover(count)
            self.ready = self._late = True
        if control.unsaved != self._unsaved:
            self._unsaved, self.unsure = control.unsaved, True
        if ring.doubtful and not self.failed:
            self.failed = OSError(errno.EINVAL, f"the kernel reported another status than the eBPF program read: "
                                  f"{ring.doubtful}")
        return events

    def _recover(self, count: int) -> list[Any]:
        """The forks and exits among the next `count` lost ones, and those that came to be kept too late before."""
        self._saved.update(self._program.all("overflow", _program_record, take=True))
        self._lost = (self._lost + count) & 0xFFFFFFFF
        events: list[Any] = []
        for number in sorted(self._saved):
            if not (self._lost - number) & 0x80000000:
                saved = self._saved.pop(number)
                event = _EVENTS[saved.event.what].from_buffer_copy(saved.event)
                event.cpu = _REBUILT
                events.append(event)
                if saved.note == _FINAL:
                    events.append(_End(_END, event.pid, event.timestamp_ns))
        return events

    def recount(self, live: Iterable[int], gone: Iterable[int]) -> None:
        pass  # the kernel counts

    def status(self, pid: int, since_ns: int) -> int:
        status = _zombie_status(pid) if self._subscription.was_there(pid, since_ns) else None
        return -1 if status is None else status

    def forget(self, pid: int) -> None:
        self._element(_BPF_MAP_DELETE_ELEM, pid)

    def look_at_socket(self) -> list[Any]:
        """Where the kernel had no memory to copy an event for us, it says so here. Nothing else comes here."""
        try:
            self._subscription.sock.recv(1024, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            before, self._drops = self._drops, self._subscription.dropped
            self.unsure = self.ready = True
            return [Lost(self._drops - before, self._subscription.now())]
        return []

    def close(self) -> None:
        self._program.close()
        del self._ring, self._control  # and with them the memory

class _Process:
    """What the thread tracker knows of a process."""

    __slots__ = ("codes", "doubtful", "inherited", "kinds", "last", "leader", "pidfd", "since_ns", "tasks", "tids")

    def __init__(self, kinds: int, inherited: int, since_ns: int) -> None:
        self.kinds, self.inherited, self.since_ns = kinds, inherited, since_ns
        self.tasks = 1                      # EXITs still to come
        self.tids: set[int] | None = None   # of a process that was there before: whose they can be
        self.codes: set[int] | None = None  # exit codes of its threads; None: it never had several
        self.last = 0                       # the exit code of the last of them
        self.leader = 0                     # the exit code of its leader
        self.doubtful = False               # some of its events are lost, and it has ended since
        self.pidfd = -1                     # held since it had its second thread, to ask for its status

class _ThreadTracker:
    """Folds the events of threads into events of processes. Pure: what asks the kernel is given to it.

    The kernel makes one FORK and one EXIT for each task, whatever execs are between: an exec by another thread swaps
    ids, and their EXITs come in any order. So a process has ended when there were as many EXITs as tasks.

    It is given: tids(pid, ns), its live threads, if it is the process that was there then; status(pid, pidfd, ns), its
    wait status or None; hold(pid, ns), a pidfd or -1; release(pidfd). _DatagramSource has the real ones.
    """

    leader_decides = False  # in doubt, a process's status is its leader's own code: before Linux 5.17

    def __init__(self, threads: bool, tids: Callable[[int, int], set[int]],
                 status: Callable[[int, int, int], int | None],
                 hold: Callable[[int, int], int], release: Callable[[int], None]) -> None:
        self._threads, self._tids, self._status, self._hold, self._release = threads, tids, status, hold, release
        self.everything = 0                          # kinds of all processes; the source
        self.processes: dict[int, _Process] = {}     # whose Exit is still to come; all methods

    def add(self, pid: int, kinds: int, inherited: int, now: int) -> bool:
        """Track a process that is there, to be counted; or widen what is wanted of it. Whether it is new."""
        new = pid not in self.processes
        process = self.processes.setdefault(pid, _Process(0, 0, now))
        process.kinds |= kinds
        process.inherited |= inherited
        return new

    def count(self, pid: int) -> None:
        """Take from /proc how many EXITs are still to come."""
        process = self.processes[pid]
        tids = self._tids(pid, process.since_ns)
        if not tids:  # it has just ended, or /proc has come to hide it
            return
        process.tids, process.tasks = tids, len(tids)
        if tids != {pid}:
            self._has_several(pid, process, process.since_ns)

    def _has_several(self, pid: int, process: _Process, timestamp_ns: int) -> None:
        if process.codes is None:
            process.codes = set()
            process.pidfd = self._hold(pid, timestamp_ns)

    def remove(self, pid: int) -> None:
        """Track a process no longer."""
        process = self.processes.pop(pid, None)
        if process and process.pidfd >= 0:
            self._release(process.pidfd)

    def fold(self, event: Any) -> list[Any]:
        """What one event of the kernel means: none, one, or with threads=True an Exit and an _End."""
        what, pid = event.what, event.pid
        if what == _FORK:
            return self._fork(event) if event.tid == pid else self._thread(event)
        process = self.processes.get(pid)
        if what == _EXIT:
            return self._exit(process, event) if process else []
        if what == _EXEC and process and process.tids is not None:
            process.tids.add(pid)  # who called it has the leader's id from now on
        return [event]

    def _fork(self, event: Any) -> list[Any]:
        parent = self.processes.get(event.parent_pid)
        inherited = parent.inherited if parent else 0
        if inherited or self.everything & _ENDS:
            process = self.processes.get(event.pid)
            if process and process.since_ns > event.timestamp_ns:  # it was found in /proc before its FORK was read
                process.kinds |= inherited
                process.inherited |= inherited
            else:
                self.remove(event.pid)
                self.processes[event.pid] = _Process(inherited, inherited, event.timestamp_ns)
        return [event]

    def _thread(self, event: Any) -> list[Any]:
        process = self.processes.get(event.pid)
        if process and not (process.tids and event.tid in process.tids):
            process.tasks += 1
            if process.tids is not None:
                process.tids.add(event.tid)
            self._has_several(event.pid, process, event.timestamp_ns)
        return [event] if self._threads else []

    def _exit(self, process: _Process, event: Any) -> list[Any]:
        pid, tid = event.pid, event.tid
        if process.tids is not None:
            if tid not in process.tids:  # it had ended before it was counted
                return [event] if self._threads else []
            if tid != pid:
                process.tids.discard(tid)
        process.tasks -= 1
        if process.codes is not None:
            process.last = event.exit_code
            process.codes.add(process.last)
            if tid == pid:
                process.leader = process.last
        if not process.tasks and process.tids is not None:
            self.count(pid)  # threads came and went while it was taken, so look whether any is left
        if process.tasks:
            return [event] if self._threads else []
        if self._threads:
            self.remove(pid)
            return [event, _End(_END, pid, event.timestamp_ns)]
        if process.codes is not None:
            event.exit_code = self.end_status(pid, event.timestamp_ns)
            if tid != pid:
                event.tid, event.exit_signal = pid, _SIGCHLD
        self.remove(pid)
        return [event]

    def end_status(self, pid: int, timestamp_ns: int) -> int:
        """The wait status of a process that had several threads; -1 in doubt.

        It is signal->group_exit_code, which no event carries, so ask. Where nobody can be asked any more, infer: a
        thread that ends by itself has 0, the others have the status of the process; of a core dump only the thread
        that dumped has the bit 0x80. Where the codes say anything else, a thread has ended by a raw exit(2), the
        process was killed while it dumped, or two ends have crossed. Then nobody knows.
        """
        process = self.processes[pid]
        status = self._status(pid, process.pidfd, timestamp_ns)
        if status is not None:
            return status
        codes = process.codes or set()
        status = next((code for code in codes if code & 0x80), process.last)
        if self.leader_decides and process.leader != status and not status & 0x7F:
            return -1  # exit_group(2) by another thread, or only a raw exit(2)
        return status if codes and not process.doubtful and codes <= {status, status & ~0x80, 0} else -1

class _DatagramSource:
    """The events as datagrams of the kernel: for ordinary users and old kernels. What the eBPF program does there is
    done here, behind a filter in classic BPF."""

    name = "netlink"
    gather = 0.0004
    failed = columns = None
    ready = True     # read()
    unsure = False   # read(); reset by _Feed.resync()
    before = 0       # what another source had lost before; _Feed._fall_back()

    _SLOTS = 64      # datagrams at a call: 0.84 us each; 16 at a call cost 1.0, 256 no less than 64
    _SLOT = 4 + 4 * 76 + 12  # bytes for each, with room for four messages: the kernel sends one, and near is fast
    _PIDFDS = 256    # that may be held at a time: a program has 1,024 descriptors by default

    def __init__(self, subscription: _Subscription, threads: bool) -> None:
        self._subscription = subscription
        self._tracker = _ThreadTracker(threads, self._live_tids, self._status, self._hold, self._release)
        self._tracker.leader_decides = _kernel() < (5, 17)
        self._held = 0                       # pidfds; _hold() and _release()
        self._behind: list[Any] = []         # events behind a Lost, to be given by the next read()
        self._gap: int | None = None         # after an overrun: when it was noticed; read()
        self._drops = subscription.dropped   # as far as they are reported; read()
        self._filter: Any = None             # what the filter was made from; _sieve()
        self.descriptors = (subscription.sock.fileno(),)
        # What recvmmsg(2) fills. proc_event, 36 bytes into a datagram, lies at a multiple of 8.
        self._buffer = bytearray(self._SLOTS * self._SLOT)
        self._words = memoryview(self._buffer).cast("I")
        self._messages = (_mmsghdr * self._SLOTS)()
        self._senders = (_sockaddr_nl * self._SLOTS)()
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        for i, message in enumerate(self._messages):
            vector = _iovec(address + i * self._SLOT + 4, self._SLOT - 4)
            message.msg_hdr = _user_msghdr(ctypes.addressof(self._senders[i]), ctypes.sizeof(_sockaddr_nl),
                                          ctypes.pointer(vector), 1)

        # What the headers and senders are when each slot holds one event of the kernel: one comparison checks all.
        for message, sender in zip(self._messages, self._senders):
            message.msg_len, sender.nl_family, sender.nl_groups = _SIZE, _AF_NETLINK, _CN_IDX_PROC
        self._usual = [(memoryview(array).cast("B"), bytes(array), ctypes.sizeof(array) // self._SLOTS)
                       for array in (self._messages, self._senders)]
        self._sieve()

    def _sieve(self) -> None:
        """Make the kernel drop what nobody wants, as far as a filter in classic BPF can see that."""
        tracker, pids = self._tracker, None
        processes = tracker.processes
        kinds = tracker.everything
        for process in processes.values():
            kinds |= process.kinds | process.inherited
        if not tracker.everything and len(processes) < 1000 and not any(p.inherited for p in processes.values()):
            pids = tuple(processes)
        wanted = (kinds and kinds | _LIFE, pids, bool(kinds & _FORK))
        if wanted != self._filter:
            try:
                self._subscription.attach(_classic_filter(*wanted))
            except OSError:  # too many pids for net.core.optmem_max
                self._subscription.attach(_classic_filter(wanted[0]))
            self._filter = wanted

    def add(self, pid: int, kinds: int, inherited: int) -> None:
        new = self._tracker.add(pid, kinds, inherited, self._subscription.now())
        passing, pids, _ = self._filter
        if pids is not None or (kinds | inherited) & ~passing:
            self._sieve()
        if new:
            self._tracker.count(pid)  # listen first, look second, so that nothing falls between

    def remove(self, pid: int) -> None:
        process = self._tracker.processes.get(pid)
        if process and self._tracker.everything & _ENDS:
            process.kinds = process.inherited = 0
        else:
            self._tracker.remove(pid)
        self._sieve()

    def watch_all(self, kinds: int) -> None:
        self._tracker.everything = kinds
        if not kinds & _ENDS:
            for pid in [pid for pid, process in self._tracker.processes.items() if not process.kinds]:
                self._tracker.remove(pid)
        self._sieve()

    def known(self) -> dict[int, int]:
        return {pid: process.since_ns for pid, process in self._tracker.processes.items()}

    @property
    def lost(self) -> int:
        return self.before + self._subscription.dropped

    def read(self, most: int) -> list[Any]:
        events, self._behind = self._behind, []
        if not events:
            events = self._receive(min(most, self._SLOTS))
        lost = []
        if self._gap is not None:
            # What was queued when the overrun was noticed is older than that. The kernel queues nothing more until
            # all of it has been read, so what comes then is younger.
            cut = next((i for i, event in enumerate(events) if event.timestamp_ns > self._gap), len(events))
            if cut < len(events) or not self.ready:
                events, self._behind = events[:cut], events[cut:]
                before, self._drops, self._gap = self._drops, self._subscription.dropped, None
                lost = [Lost(self._drops - before, self._subscription.now())]
                self.unsure = self.ready = True
        folded = [part for event in events for part in (self._tracker.fold(event) if event.what else [event])]
        for event in folded:
            if event.what == _EXEC:
                process = self._tracker.processes.get(event.pid)
                if (process.kinds if process else 0) & _EXEC or self._tracker.everything & _EXEC:
                    event._words = _raw_cmdline(event.pid)
                    event._length = len(event._words or b"")
        return folded + lost

    def _receive(self, most: int) -> list[Any]:
        """What is in at most so many datagrams. Only those of the kernel count."""
        count = _libc().recvmmsg(self._subscription.sock.fileno(), self._messages, most, socket.MSG_DONTWAIT, None)
        number = ctypes.get_errno() if count < 0 else 0
        self.ready = count == most or number == errno.ENOBUFS
        if number == errno.ENOBUFS:
            self._gap = self._subscription.now()
        elif number and number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
        if count <= 0:
            return []
        buffer, starts = self._buffer, range(4 + _PROC_EVENT, len(self._buffer), self._SLOT)
        if all(array[:size * count].tobytes() == usual[:size * count] for array, usual, size in self._usual):
            try:
                return [_COPIES[self._words[start >> 2]](buffer, start) for start in starts[:count]]
            except KeyError:
                pass  # an ack, or a kind that we do not know
        events: list[Any] = []
        for message, sender, start in zip(self._messages[:count], self._senders, starts):
            if not sender.nl_pid:
                events += _decode(buffer, start - _PROC_EVENT, start - _PROC_EVENT + message.msg_len)
                if message.msg_hdr.msg_flags & socket.MSG_TRUNC:  # more messages than there is room for
                    events.append(Lost(None, self._subscription.now()))
                    self.unsure = True
            # What the kernel does not write stays as it is: so that it is usual again.
            sender.nl_pid, sender.nl_groups = 0, _CN_IDX_PROC
        return events

    def _status(self, pid: int, pidfd: int, timestamp_ns: int) -> int | None:
        """The wait status of a process whose last EXIT was at that time, if anybody can be asked."""
        status = _reaped_status(pidfd) if pidfd >= 0 else None
        if status is None and self._subscription.was_there(pid, timestamp_ns):
            status = _zombie_status(pid)
        return status

    def _live_tids(self, pid: int, timestamp_ns: int) -> set[int]:
        if not self._subscription.was_there(pid, timestamp_ns):
            return set()
        return {tid for tid, live in _tids(pid).items() if live}

    def _hold(self, pid: int, timestamp_ns: int) -> int:
        if self._held < self._PIDFDS and _pidfd_has_status():
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(pid)
                if self._subscription.was_there(pid, timestamp_ns):
                    self._held += 1
                    return pidfd
                os.close(pidfd)
        return -1

    def _release(self, pidfd: int) -> None:
        self._held -= 1
        os.close(pidfd)

    def look_at_socket(self) -> list[Any]:
        return []  # read() does

    def recount(self, live: Iterable[int], gone: Iterable[int]) -> None:
        for pid in live:
            self._tracker.count(pid)
        for pid in gone:
            self._tracker.processes[pid].doubtful = True

    def status(self, pid: int, since_ns: int) -> int:
        return self._tracker.end_status(pid, since_ns)

    def forget(self, pid: int) -> None:
        self._tracker.remove(pid)

    def close(self) -> None:
        for pid in list(self._tracker.processes):
            self._tracker.remove(pid)

# --------------------------------------------------------------------------------------------------- table

# What is wanted of a process: kinds of its own events, and of those of its children to come.
_Watch = tuple[int, int]
_NOBODY: _Watch = (0, 0)

class _Table:
    """Who is watched, and which events are reported. Pure: it knows no kernel, no clock and no lock."""

    def __init__(self, threads: bool) -> None:
        self._threads = threads
        self.everything = 0                      # kinds wanted of every process; _Feed
        self.watched: dict[int, _Watch] = {}     # one by one, or followed; watch(), unwatch() and sift()
        self.births: dict[int, int] | None = None  # each followed child's parent, while somebody asks; sift(), _Feed
        self.ends = False
        self.ended: set[int] = set()             # of them, those that have ended while everything was watched too, and
        # whose events may still be in the queue; sift(), cleared by _Feed.unwatch() and by the reader of an empty queue

    def watch(self, pid: int, kinds: int, inherited: int) -> None:
        """Watch a process, or widen its watch."""
        before = self.watched.get(pid, _NOBODY)
        self.watched[pid] = before[0] | kinds, before[1] | inherited

    def covers(self, pid: int, kinds: int) -> bool:
        """Whether these kinds are wanted of a process and of its children already."""
        own, inherited = self.watched.get(pid, _NOBODY)
        return not kinds & ~(own & inherited)

    def sift(self, events: list[Any], columns: Any = None) -> list[Any]:
        """Those of a source's events that are to be reported. Forks are followed, and ends are noted, on the way."""
        watched, everything = self.watched, self.everything
        if columns and not watched and not any(what & ~everything for what in set(columns[0])):
            return events  # the program has decided already
        whats, whose, children = columns or zip(*map(_key, events)) if events else ((), (), ())
        own_of, end = watched.get, _END if self._threads else _EXIT
        reported: list[Any] = []
        for what, pid, child, event in zip(whats, whose, children, events):
            if what == _FORK:
                own = own_of(pid, _NOBODY)
                if child and own[1]:
                    if self.births is not None:
                        self.births[child] = pid
                    if own[0] == own[1] and child not in watched:
                        watched[child] = own
                    else:  # the child differs, or it was found in /proc before its FORK was read
                        self.watch(child, own[1], own[1])
            elif what == end:
                own = watched.pop(pid, _NOBODY)
                if everything and own is not _NOBODY:
                    self.ended.add(pid)
                if what == _END:
                    if self.ends:
                        reported.append(event)
                    continue
            else:
                own = own_of(pid, _NOBODY)
            if (everything | own[0]) & what or not what or _wanted_exit(everything | own[0], event):
                reported.append(event)
        return reported

    def unwanted(self, event: Any, pid: int | None) -> bool:
        """Whether only the watch wanted an event that is being removed: that of a process, or (None) of everything."""
        what, whose, _ = _key(event)
        if not what or (pid is not None and whose != pid) or whose in self.ended:
            return False
        kinds = self.watched.get(whose, _NOBODY)[0] if pid is None else self.everything
        return not (kinds & what or _wanted_exit(kinds, event))

def _wanted_exit(kinds: int, event: Any) -> bool:
    """Whether an event is an Exit that NONZERO_EXIT asks for."""
    return bool(kinds & _NONZERO_EXIT and event.what == _EXIT and event.exit_code)

def _key(event: Any) -> tuple[int, int, int]:
    """What an event is, whose it is (a fork of a process is the parent's), and the child of such a fork."""
    what = event.what
    if what == _FORK and event.tid == event.pid:
        return _FORK, event.parent_pid, event.pid
    return what, event.pid if what else 0, 0

# ------------------------------------------------------------------------------------------------- watcher

# Events nearer to each other than this (ns) are a storm, in which an iteration lets them gather for a moment: to be
# woken for each would cost twice the CPU. No fork and exec of one process are so near.
_STORM = 60_000
_QUIET = 3_000_000_000  # ns without any event after which a waiting reader tests its subscription: 0.1 ms of CPU
_BATCH = 256            # events to take in at a time, in an iteration

class _Waiter:
    """What a reader waits on: one epoll over the source's descriptors and over a pipe, by which others wake it."""

    def __init__(self) -> None:
        self.waiting = False  # whether wait() is at it; wait()
        self._epoll = select.epoll()
        self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll.register(self._pipe[0], select.EPOLLIN)
        self._napping = select.poll()
        self._napping.register(self._pipe[0], select.POLLIN)
        self._set = False  # whether a byte is in the pipe; set() and clear()

    def follow(self, new: Iterable[int], old: Iterable[int] = ()) -> None:
        """Wait on these descriptors, and no longer on the old ones."""
        for fd in old:
            self._epoll.unregister(fd)
        for fd in new:
            self._epoll.register(fd, select.EPOLLIN)

    def wait(self, seconds: float) -> set[int]:
        """Which descriptors are readable, after so many seconds at most."""
        self.waiting = True
        try:
            return {fd for fd, _ in self._epoll.poll(seconds)}
        finally:
            self.waiting = False

    def also(self, new: int | None, old: int | None) -> None:
        if old is not None:
            self._napping.unregister(old)
        if new is not None:
            self._napping.register(new, select.POLLIN)

    def nap(self, seconds: float) -> None:
        """Wait, unless somebody calls set()."""
        self._napping.poll(seconds * 1000)

    def set(self) -> None:
        """Wake the reader, and be readable until clear()."""
        if not self._set:
            self._set = True
            os.write(self._pipe[1], b"\0")

    def clear(self) -> None:
        """Be readable only if the source is."""
        if self._set:
            self._set = False
            os.read(self._pipe[0], 1)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        for fd in self._pipe:
            os.close(fd)

class _Pulse:
    """How the events come: whether there are any, and whether thick and fast. Written under the Watcher's lock."""

    def __init__(self, now: int) -> None:
        self.heard = now                          # when something last came; note() and _Feed.probe()
        self.newest = now                         # when that had happened
        self.storm = False                        # whether events come thick and fast
        self.due = now + _QUIET // 2              # when to look again whether all that are known live
        self.cost = 0                             # what the last look took of the CPU, in ns
        self.missed: set[tuple[int, int]] = set() # those that had ended at the last look, and since when known
        self.resyncing = False                    # _Feed.resync()

    def note(self, events: list[Any], now: int) -> None:
        """Some events have come."""
        newest = events[-1].timestamp_ns
        self.storm = newest - self.newest < _STORM * len(events)
        self.heard, self.newest = now, newest

def _ended_and_forked(events: list[Any], threads: bool) -> tuple[set[int], set[int]]:
    """Of which processes these events report the end, and of which the fork. One that comes after a fork of the same
    pid is the end of a later process."""
    ended: set[int] = set()
    forked: set[int] = set()
    for event in events:
        if isinstance(event, Fork) and event.tid == event.pid:
            forked.add(event.pid)
        elif event.what == (_END if threads else _EXIT) and event.pid not in forked:
            ended.add(event.pid)
    return ended, forked

def _newest(events: list[Any]) -> int:
    """When the newest of them happened. A Lost says when it was noticed, so older events may come behind it."""
    return next((event.timestamp_ns for event in reversed(events) if event.what), 0)

def _release(parts: list[Any], owner: int) -> None:
    """Close all; the subscription is the first. A forked child shares the socket, and leaves that to its parent."""
    while len(parts) > 1:
        parts.pop().close()
    if parts:
        parts.pop().close(ignore=os.getpid() == owner)

class _Feed:
    """From the source through the table into the queue; and after a loss from /proc.

    It neither waits nor locks: the Watcher calls it under its lock, and owns the subscription and the waiter.
    """

    def __init__(self, subscription: Any, waiter: _Waiter, threads: bool) -> None:
        self._subscription, self._waiter, self._threads = subscription, waiter, threads
        self.table = _Table(threads)
        self.queue: collections.deque[Any] = collections.deque()  # to be handed out, behind `batch`; under the lock
        # What iterations hand out, without the lock: a list's iterator gives each event once, whoever asks for it.
        self.batch: Iterator[Any] = iter(())
        self.pulse = _Pulse(subscription.now())
        self.error: OSError | None = None  # why the first kind of source does not serve; open() and _fall_back()
        self.source: Any = None            # open()

    @property
    def in_hand(self) -> bool:
        """Whether there is something to hand out."""
        return bool(self.queue or operator.length_hint(self.batch))

    def next_batch(self) -> bool:
        """Put what is in the queue into `batch`, unless there is still some; False if there is nothing in hand."""
        if self.queue and not operator.length_hint(self.batch):
            self.batch = iter([*self.queue])
            self.queue.clear()
        return self.in_hand

    def next(self) -> Any:
        """The next event to hand out, or None."""
        event = next(self.batch, None)
        return self.queue.popleft() if event is None and self.queue else event

    def _recall(self) -> None:
        """Take back into the queue what has not been handed out."""
        self.queue.extendleft(reversed([*self.batch]))

    def watch(self, pid: int | None, mask: int, follow: bool) -> None:
        """Watcher.watch(), its arguments checked."""
        self.drain()
        if pid is None:
            self._watch_all(mask)
        else:
            if _leader(pid) != pid or not self._take_up(pid, mask, mask if follow else 0):
                raise _missing(pid)
            if follow:
                self._follow(pid)

    def unwatch(self, pid: int | None) -> None:
        """Watcher.unwatch()."""
        self.drain()
        if pid is None:
            if not self.table.everything:
                raise KeyError(pid)
            self.table.everything = 0
            self.source.watch_all(0)
        else:
            del self.table.watched[pid]
            self.source.remove(pid)
        self._keep(lambda event: not self.table.unwanted(event, pid))
        if pid is None:
            self.table.ended.clear()

    def adopt(self, mask: int) -> tuple[_Watch | None, frozenset[int]]:
        """Follow what this process forks from now on, until adopted() with what this returns."""
        self.drain()
        me, table = os.getpid(), self.table
        before = table.watched.get(me), frozenset(table.watched)
        self.source.add(me, mask & _FORK, mask)
        table.watch(me, mask & _FORK, mask)
        table.births = {}
        return before

    def adopted(self, before: tuple[_Watch | None, frozenset[int]], mask: int, child: int, follow: bool) -> None:
        """Let go of all that was forked since adopt(), but for the child (0: nobody) and its descendants."""
        me, table, (own, watched) = os.getpid(), self.table, before
        try:
            self.drain()
            if not own:  # else the source goes on with more than that, and the table drops it
                self.source.remove(me)
                self.drain()  # what was forked in between
        finally:
            births, table.births = table.births or {}, None
            table.watched.pop(me, None)
            if own:
                table.watched[me] = own
        inherited = own[1] if own else 0  # by the others; all of it was so before

        def ancestor(pid: int) -> int:
            """The child, this process, or one that was watched before: whichever comes first."""
            while pid not in known:
                stat = None if pid in births else _stat(pid)  # after a resync
                pid = births.get(pid, stat.ppid if stat else 0)
            return pid

        known = watched | {child, me, 0}
        others = {pid for pid in births.keys() | (table.watched.keys() - watched - {me}) if ancestor(pid) == me}
        if not follow:  # the source follows them all the same: only the kernel could stop that in time
            others |= {pid for pid in births if pid != child and ancestor(pid) == child}
            if child in table.watched:
                table.watched[child] = mask | inherited, inherited
        for pid in others & table.watched.keys():
            if inherited:
                table.watched[pid] = inherited, inherited
            else:
                del table.watched[pid]
                self.source.remove(pid)
        wanted = table.everything | inherited
        if wanted != wanted | mask:
            def let_go(event: Any) -> bool:
                what, whose, born = _key(event)
                return bool(what and not wanted & what and (whose in others or (whose == me and born in others)))

            self._keep(lambda event: not let_go(event))

    def _keep(self, wanted: Callable[[Any], bool]) -> None:
        """Hand out no more than what is wanted of what is in hand."""
        self._recall()
        kept = [event for event in self.queue if wanted(event)]
        self.queue.clear()
        self.queue.extend(kept)

    def open(self, kinds: tuple[Any, ...]) -> None:
        """Take the first kind of source that the kernel allows."""
        for kind in kinds:
            try:
                self.source = kind(self._subscription, self._threads)
            except OSError as error:
                if kind is kinds[-1]:
                    raise
                self.error = OSError(error.errno, error.strerror)  # without its traceback, which refers to us
            else:
                self._waiter.follow(self.source.descriptors)
                return

    def _watch_all(self, mask: int) -> None:
        self.table.everything |= mask
        self.source.watch_all(self.table.everything)  # listen first, look second, so that nothing falls between
        if mask & _ENDS:
            for pid in _pids():
                self._take_up(pid, 0, 0)

    def _take_up(self, pid: int, mask: int, inherited: int) -> bool:
        """Have the source and the table watch a process that is there; False if it has ended."""
        try:
            self.source.add(pid, mask, inherited)
        except OSError as error:
            if error.errno == errno.E2BIG and self.pulse.resyncing:
                return False  # it has been counted as lost
            raise
        stat = _stat(pid)
        if _ended(pid, stat):
            if pid not in self.table.watched:
                self.source.forget(pid)
            return False
        if mask:
            self.table.watch(pid, mask, inherited)
        return True

    def _follow(self, pid: int) -> list[tuple[int, int]]:
        """Take up the descendants of a followed process that are there; those that were new, with their parents.

        The source has the parent already, so it follows what forks from now on: a process is done when a look at its
        children finds nobody new. This process is never taken up: who watches what it lives under would never end.
        """
        table, parents = self.table, [pid]
        found: list[tuple[int, int]] = []
        for parent in parents:
            seen = {os.getpid()}
            while parent in table.watched:
                new = [child for child in _children(parent) if child not in seen]
                if not new:
                    break
                seen.update(new)
                self.drain()  # who was forked after its parent was taken up is in the table then
                mask = table.watched.get(parent, _NOBODY)[1]
                for child in new:
                    if mask and not table.covers(child, mask):
                        known = child in table.watched
                        if self._take_up(child, mask, mask):
                            parents.append(child)
                            if not known:
                                found.append((child, parent))
        return found

    def take(self, most: int) -> int:
        """Take in what there is; when the newest of it happened."""
        events = self.source.read(most)
        self.accept(events, self.source.columns)
        return _newest(events)

    def accept(self, events: list[Any], columns: Any = None) -> None:
        """Put into the queue what is to be reported of it, and look at /proc where the source is not sure."""
        if events:
            self.pulse.note(events, self._subscription.now())
            self.queue.extend(self.table.sift(events, columns))
        else:
            self.pulse.storm = False
        if self.source.failed:
            self._fall_back()
        if self.source.unsure and not self.pulse.resyncing:
            self.resync([])

    def drain(self) -> None:
        """Take in all that has happened by now: what is decided next is about what comes after it."""
        until = self._subscription.now()
        while self.take(_BATCH) <= until and self.source.ready:
            pass

    def _read_all(self) -> list[Any]:
        """What the source has by now, as it is."""
        until, events = self._subscription.now(), []
        while True:
            part = self.source.read(_BATCH)
            events += part
            if not self.source.ready or _newest(part) > until:
                return events

    def resync(self, pending: list[Any]) -> None:
        """After a loss: report the ends and forks that must have been among it, and know again what is there.

        pending: events from behind the loss that have been read already. A process that is gone has its Exit here,
        unless that comes behind the loss; a descendant that nobody knows has its Fork here, likewise.
        """
        source, table, queue = self.source, self.table, self.queue
        self.pulse.resyncing = True
        try:
            known = source.known()
            gone = self._gone(known) - _ended_and_forked(pending, self._threads)[0]
            source.recount(known.keys() - gone, gone)
            now = self._subscription.now()
            statuses = {pid: source.status(pid, known.get(pid, now)) for pid in sorted(gone)}
            there = _pids() if table.everything & _ENDS else []
            source.unsure = False  # what is read from here on may be behind another loss
            pending += self._read_all()
            ended, forked = _ended_and_forked(pending, self._threads)
            exits: list[Any] = []
            for pid in statuses.keys() - ended:
                exits.append(Exit(_EXIT, _REBUILT, now, pid, pid, statuses[pid], _SIGCHLD, 0, 0))
                if self._threads:
                    exits.append(_End(_END, pid, now))
                source.forget(pid)
            queue.extend(table.sift(exits))
            behind = len(queue)
            queue.extend(table.sift(pending))
            listed = (known.keys() - gone) | forked
            found = [(pid, 0) for pid in there if pid not in listed and self._take_up(pid, 0, 0)]
            for pid in [pid for pid in known if pid in table.watched]:
                found += self._follow(pid)
            forks = [self._rebuilt_fork(pid, parent, known) for pid, parent in found]
            for fork in reversed(table.sift([fork for fork in forks if fork])):
                queue.insert(behind, fork)
        except BaseException:
            source.unsure = True
            raise
        finally:
            self.pulse.resyncing = False

    def _rebuilt_fork(self, pid: int, parent: int, known: dict[int, int]) -> Fork | None:
        """The Fork of a process that was found in /proc; parent: 0 if /proc has to say."""
        stat = _stat(pid)
        if not stat:
            return None
        started = max(stat.start_ns - self._subscription.skew, known.get(parent, 0))
        return Fork(_FORK, _REBUILT, started, parent or stat.ppid, parent or stat.ppid, pid, pid)

    def _gone(self, known: dict[int, int]) -> set[int]:
        """Which of these processes, each known since then, and of the watched ones have ended."""
        # The eBPF program forgets a process as it sends its Exit, even if there was no room for that.
        return (self.table.watched.keys() - known.keys()) | {
            pid for pid, since_ns in known.items() if self._is_gone(pid, since_ns)}

    def _is_gone(self, pid: int, since_ns: int) -> bool:
        """Whether a process that was there at that time has ended: though its pid may be another's now."""
        stat = _stat(pid)
        if not stat:
            return not _hidden(pid)
        return _ended(pid, stat) or stat.start_ns - self._subscription.skew > since_ns + _TICK

    def look(self) -> None:
        """Find out whether all that are known live: an EXIT that the kernel had no memory for is not even counted."""
        began, pulse = time.thread_time_ns(), self.pulse
        known = self.source.known()
        missed = {(pid, known.get(pid, 0)) for pid in self._gone(known)}
        # The Exit of one that has just ended comes in a moment: it is lost if it was missed the last time, too.
        lost, pulse.missed = missed & pulse.missed, missed
        if lost:
            self.queue.append(Lost(None, self._subscription.now()))
            self.resync([])
        # At most a thousandth of the time is spent on this, however many are watched. One look that takes 0.1 s, as on
        # a virtual machine that is starved, says nothing of the next.
        before, pulse.cost = pulse.cost, time.thread_time_ns() - began
        pulse.due = self._subscription.now() + max(_QUIET // 2, 1000 * min(before, pulse.cost))

    def probe(self) -> None:
        """It is quiet: find out whether the kernel still reports anything, and make it do so.

        An ordinary user can have run the kernel's count of listeners down (6.6 and newer).
        """
        deadline, again = time.monotonic() + 1, False
        events = self._send_probe()
        while events is None:
            if time.monotonic() > deadline:
                raise _refusal(0)
            self._subscription.renew(again)
            again = True
            events = self._send_probe()
        self.pulse.heard = self._subscription.now()
        if again:
            self.queue.append(Lost(None, self._subscription.now()))
            self.resync(events)
        else:
            self.accept(events)

    def _send_probe(self) -> list[Any] | None:
        """Make an event, and read what there is: without that event, or None if nothing at all came.

        The event is a Comm of this thread, which takes the name that it has: that changes nothing.
        """
        name, tid = ctypes.create_string_buffer(16), threading.get_native_id()
        _libc().prctl(_PR_GET_NAME, name)
        began = self._subscription.now()
        _libc().prctl(_PR_SET_NAME, name)
        ended = self._subscription.now()
        events = self._read_all()
        others = [event for event in events if not (
            isinstance(event, Comm) and event.tid == tid and began <= event.timestamp_ns <= ended)]
        return others if events or self.source.unsure else None

    def _fall_back(self) -> None:
        """Go on with datagrams: the present source is not to be trusted."""
        old, table = self.source, self.table
        self.error = old.failed
        self._waiter.follow((), old.descriptors)
        self.open((_DatagramSource,))
        self.source.before = old.lost - self._subscription.dropped
        old.close()
        for pid, watch in table.watched.items():
            self.source.add(pid, *watch)
        if table.everything:
            self._watch_all(table.everything)
        self.queue.append(Lost(None, self._subscription.now()))
        self.source.unsure = True

    def close(self) -> None:
        """Let go of the source."""
        if self.source:
            self.source.close()

def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

async def _readable(fd: int | None, seconds: float, woken: asyncio.Future[None] | None = None) -> None:
    """Wait on asyncio's event loop until a descriptor is readable, or so many seconds, or until `woken` is set."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = woken or loop.create_future()
    timer = loop.call_later(seconds, _wake, future)
    if fd is not None:
        loop.add_reader(fd, _wake, future)
    try:
        await future
    finally:
        if fd is not None:
            loop.remove_reader(fd)
        timer.cancel()

class Watcher:
    """A subscription to process events, and the table of who is watched.

    threads: report every thread's start and end in place of the processes'.
    rcvbuf: bytes that the kernel may queue, about 800 an event. With source "ebpf" it is an eighth of that, at 56
    bytes an event. An ordinary user gets no more than net.core.rmem_max.
    delay: seconds to wait after being woken, so that events gather: less CPU, later news.

    Raises OSError, with the cause and the remedy in its text, where the kernel does not let this process listen:
    PermissionError, ConnectionRefusedError, or errno EPROTONOSUPPORT. Raises ValueError for a bad rcvbuf or delay.

    Close it, or use it in a with statement: to watch, unwatch or read raises ValueError then, and in a forked child.
    One thread or task at a time reads; everything else may be called from any thread.
    """

    # Seams for tests: what listens, and the sources to be tried in this order.
    _subscribe = _Subscription
    _sources = _RingSource, _DatagramSource

    def __init__(self, *, threads: bool = False, rcvbuf: int = 32 << 20, delay: float = 0.0) -> None:
        if not 0 < rcvbuf < 1 << 31:
            raise ValueError(f"rcvbuf must be above 0 and below 2 GiB, not {rcvbuf}")
        if not 0 <= delay < 1 << 20:
            raise ValueError(f"delay must be a number of seconds, not {delay}")
        self._delay = delay
        self._lock = threading.RLock()     # held to use the feed; never to wait
        self._reading = threading.Lock()   # held by the reader, also while it waits
        self._reader = 0                   # the thread that holds it; _fill()
        self._wakers: set[Callable[[], object]] = set()  # wake those who wait on an event loop; _woken() and close()
        self._starting = threading.RLock() # held while a command is started, and to change what is watched; popen()
        self._closed = False               # close()
        self._selected = False             # whether fileno() has been asked for; fileno()
        self._lost = 0                     # what the source had lost when it was closed; close()
        self._owner = os.getpid()
        parts: list[Any] = []              # what _release() closes
        self._finish = weakref.finalize(self, _release, parts, self._owner)
        try:
            self._subscription = self._subscribe(rcvbuf)
            parts.append(self._subscription)
            self._waiter = _Waiter()
            parts.append(self._waiter)
            self._feed = _Feed(self._subscription, self._waiter, threads)
            parts.append(self._feed)
            self._feed.open(self._sources)
        except BaseException:
            self._finish()
            raise

    @property
    def source(self) -> str:
        """Where the events come from: "ebpf", or "netlink" where the kernel does not allow that."""
        return str(self._feed.source.name)

    @property
    def source_error(self) -> OSError | None:
        """Why the source is "netlink": the kernel's errno, and the last lines of its verifier if that refused."""
        return self._feed.error

    def watch(self, pid: int | None = None, events: int = What.LIFE, *, follow: bool = True) -> None:
        """Report events of a process from now on, or (None) of every process on the machine.

        events: a combination of What. follow: of its descendants too, of those there are and of those to come. A
        second watch of a process adds to the first.
        Raises ProcessLookupError if the process has ended, PermissionError if /proc hides it (hidepid), ValueError
        for a pid below 1 or an unknown event.
        """
        mask = _check_events(events)
        if pid is not None:
            _check_pid(pid)
        with self._changes():
            self._feed.watch(pid, mask, follow)

    def popen(self, args: str | bytes | Sequence[str | bytes | os.PathLike[str]], events: int = What.LIFE, *,
              follow: bool = True, **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a command and watch it from its birth: its Fork and its Exec are reported.

        args and kwargs are those of subprocess.Popen, whose object this returns; events and follow are those of
        watch(). Raises what these two raise. This process is watched meanwhile; what its other threads start then is
        let go again.
        """
        import subprocess

        mask = _check_events(events)
        with self._starting:
            with self._changes():
                before = self._feed.adopt(mask)
            child = 0
            try:
                process = subprocess.Popen(args, **kwargs)
                child = process.pid
            finally:
                with self._lock:
                    if not self._closed:
                        self._feed.adopted(before, mask, child, follow)
                        self._show()
        return process

    def unwatch(self, pid: int | None = None) -> None:
        """Report a process's events no longer, or (None) those of processes not watched one by one or followed.
        Its followed descendants stay watched: each has its own watch. Raises KeyError if it is not watched.
        """
        with self._changes():
            self._feed.unwatch(pid)

    @contextlib.contextmanager
    def _changes(self) -> Generator[None, None, None]:
        """Hold the locks to change what is watched. If a signal handler closes the watcher meanwhile, say that."""
        self._check()
        with self._starting, self._lock:
            self._check()
            try:
                yield
            except Exception:
                self._check()
                raise
            finally:
                self._show()

    def _show(self) -> None:
        """Wake a reader for what is in hand, and be readable for it if anybody has asked for the descriptor."""
        if self._closed:
            return
        if self._feed.in_hand and (self._selected or self._reader):
            self._waiter.set()
        else:
            self._waiter.clear()

    def read(self, timeout: float | None = None) -> Event | None:
        """The next event; None when `timeout` seconds have passed, or when the watcher is closed meanwhile.
        Raises ValueError for a timeout below 0, OSError if a subscription that has gone silent cannot be had again.
        """
        self._check()
        deadline = self._deadline(timeout)
        if not self._feed.in_hand:
            self._fill(deadline, 1)
        with self._lock:
            event: Event | None = self._feed.next()
            if self._selected:
                self._show()
        return event

    def __iter__(self) -> Iterator[Event]:
        """The events, until the watcher is closed."""
        self._check()
        return self._stream(None)

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until the watcher is closed, on asyncio's event loop: without a thread."""
        self._check()
        return self._stream_async(None)

    def _deadline(self, timeout: float | None) -> int | None:
        if timeout is None:
            return None
        if not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0, or None, not {timeout}")
        return None if timeout > 1 << 30 else self._subscription.now() + int(timeout * 1_000_000_000)

    def _stream(self, deadline: int | None, *, ending: bool = False) -> Iterator[Event]:
        """The events up to the deadline; ending: until no process is watched any longer."""
        feed = self._feed
        while True:
            yield from feed.batch
            with self._lock:
                if feed.next_batch():
                    continue
            if not self._fill(deadline, _BATCH, ending=ending):
                return

    async def _stream_async(self, deadline: int | None, *, ending: bool = False) -> AsyncIterator[Event]:
        """As _stream(). It waits where it holds no event, so who is cancelled there loses none."""
        import asyncio

        while True:
            now = self._subscription.now()
            over = deadline is not None and now >= deadline
            turn = time.monotonic() + 0.01
            for event in self._stream(deadline if over else now, ending=ending):
                yield event
                if time.monotonic() > turn:  # a slow reader of many events: other tasks have their turn
                    await asyncio.sleep(0)
                    turn = time.monotonic() + 0.01
            if over or self._closed or (ending and not self._feed.table.watched and not self._feed.in_hand):
                return
            seconds = min(_QUIET / 2, deadline - now if deadline is not None else _QUIET) / 1e9
            await asyncio.sleep(0)
            storm = self._feed.pulse.storm
            if storm or self._delay:
                await self._woken(min(seconds, max(self._feed.source.gather, self._delay)), look=False)
            if not storm and not self._feed.in_hand:
                await self._woken(max(0.0, seconds), look=True)

    async def _woken(self, seconds: float, *, look: bool) -> None:
        """Wait until the watcher is closed, or so many seconds; look: or until there is something to read."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def waker() -> None:
            loop.call_soon_threadsafe(_wake, future)

        with self._lock:
            if self._closed:
                return
            self._selected = True
            self._show()
            fd = os.dup(self._waiter.fileno())  # who closes the watcher closes the descriptor
            self._wakers.add(waker)
        try:
            await _readable(fd if look else None, seconds, future)
        finally:
            with self._lock:
                self._wakers.discard(waker)
            os.close(fd)

    _also: int | None = None

    def _take(self, deadline: int | None, ending: bool = False) -> list[Any] | None:
        events: list[Any] = []
        for event in self._stream(deadline, ending=ending):
            events += [event, *self._feed.batch]
            if not self._feed.in_hand:
                break
        over = self._closed or (ending and not self._feed.table.watched)
        return events if events or not over else None

    @property
    def _ends(self) -> bool:
        return self._feed.table.ends

    @_ends.setter
    def _ends(self, ends: bool) -> None:
        self._feed.table.ends = ends

    @property
    def waiting(self) -> bool:
        return self._waiter.waiting

    def _wait_also(self, fd: int | None) -> None:
        self._waiter.also(fd, self._also)
        self._also = fd

    def _fill(self, deadline: int | None, most: int, *, ending: bool = False) -> bool:
        """Take in events until some are to be handed out.

        False if the deadline passes, the watcher is closed, or (ending) no process is watched any longer.
        """
        if os.getpid() != self._owner:
            self._check()
        try:
            with self._reading:
                self._reader = threading.get_ident()
                try:
                    return self._wait(deadline, most, ending)
                finally:
                    self._reader = 0
        except OSError:
            if not self._closed:
                raise
            return False
        finally:
            if self._closed:
                self._finish()

    def _wait(self, deadline: int | None, most: int, ending: bool) -> bool:
        feed = self._feed
        while True:
            with self._lock:
                if self._closed:
                    return False
                more = feed.source.ready or feed.source.unsure
                newest = feed.take(most) if more and not feed.queue else 0
                if feed.queue:  # also by another thread's watch()
                    late = deadline is not None and feed.queue[0].timestamp_ns > deadline
                    if late:  # it stays in hand
                        self._show()
                    return not late
                if ending and not feed.table.watched:
                    return False
                if not feed.in_hand:
                    feed.table.ended.clear()
                self._show()
            if not more:
                if not self._sleep(deadline, most):
                    return False
            elif deadline is not None and newest > deadline:
                return False

    def _sleep(self, deadline: int | None, most: int) -> bool:
        """Wait until there may be something to take in; False if the deadline has passed."""
        feed, pulse, now = self._feed, self._feed.pulse, self._subscription.now()
        if now >= pulse.due:
            with self._lock:
                if not self._closed:
                    feed.look()
            return True
        alarm = pulse.heard + _QUIET
        until = alarm if deadline is None else min(alarm, deadline)
        # In a storm do not wait to be woken: by the end of the pause there is more, or the next look ends the storm.
        patient = until > now  # an event loop does not let us sleep
        gather = feed.source.gather if pulse.storm and most > 1 and patient else 0.0
        more = gather or (pulse.storm and self._delay and patient)
        woken: set[int] = set() if more else self._waiter.wait(max(0, until - now) / 1e9)
        if not more and not woken:
            if until == deadline:
                return False
            with self._lock:
                if not self._closed:
                    feed.probe()
            return True
        if self._delay:
            self._waiter.nap(self._delay if deadline is None else min(self._delay, max(0, deadline - now) / 1e9))
        elif gather:
            time.sleep(gather)
        with self._lock:
            if not self._closed:
                if self._subscription.sock.fileno() in woken:
                    lost = self._feed.source.look_at_socket()
                    if lost:
                        self._feed.accept(lost)
                self._feed.source.ready = True
        return True

    def close(self) -> None:
        """Unsubscribe. A reader that is blocked in another thread returns at once."""
        if os.getpid() != self._owner:
            self._closed = True
            self._finish()
            return
        with self._lock:
            if self._closed:
                return
            if self._finish.alive:  # else the interpreter is ending, and has closed it
                self._lost = self._feed.source.lost
                self._waiter.set()
            self._closed = True
            while self._feed.next():
                pass
            for wake in [*self._wakers]:
                with contextlib.suppress(RuntimeError):  # its event loop is closed
                    wake()
        # A reader does the rest on its way out: also the one that this call, from a signal handler, interrupts.
        reader = self._reader
        if self._reading.acquire(blocking=False) or (
                reader not in (0, threading.get_ident()) and self._reading.acquire(timeout=1)):
            self._reading.release()
            self._finish()

    def _check(self) -> None:
        if self._closed:
            raise ValueError("the watcher is closed")
        if os.getpid() != self._owner:  # whose socket and ring it shares: what one reads the other does not
            raise ValueError("the watcher is another process's: make one after the fork")

    @property
    def pids(self) -> frozenset[int]:
        """The processes watched now, one by one or because followed; those of watch(None) are not among them."""
        return frozenset(self._feed.table.watched.copy())

    @property
    def lost(self) -> int:
        """How many events the kernel has dropped so far. They are reported as Lost when the reader gets there."""
        if self._closed or os.getpid() != self._owner:
            return self._lost
        with self._lock:
            return self._lost if self._closed else int(self._feed.source.lost)

    @property
    def closed(self) -> bool:
        """Whether close() has been called."""
        return self._closed

    def fileno(self) -> int:
        """A file descriptor that is readable when there is something to read; read(0) may find it unwanted.
        Read every few seconds though it is not readable: only then is a subscription that has gone silent noticed.
        """
        self._check()
        with self._changes():
            self._selected = True
        return self._waiter.fileno()

    def __enter__(self) -> Watcher:
        self._check()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

# ----------------------------------------------------------------------------------------------- functions

def _watching(pids: tuple[int, ...], events: int, follow: bool, threads: bool,
              timeout: float | None) -> tuple[Watcher, int | None]:
    """A Watcher of these processes, or of all, and the deadline."""
    for number in pids:
        _check_pid(number)
    watcher = Watcher(threads=threads)
    try:
        deadline = watcher._deadline(timeout)
        for pid in pids or (None,):
            watcher.watch(pid, events, follow=follow)
    except BaseException:
        watcher.close()
        raise
    return watcher, deadline

def watch(*pids: int, events: int = What.LIFE, follow: bool = True, threads: bool = False,
          timeout: float | None = None) -> Generator[Event, None, None]:
    """Events of these processes from now on, and (follow) of their descendants; without pids, of every process.

    Ends when the last of them has ended, or after `timeout` seconds. It subscribes when called. Raises what Watcher
    and Watcher.watch raise, and ValueError for a timeout below 0.

    >>> for event in cnproc.watch(pid, events=cnproc.What.EXIT):
    ...     print(event)
    """
    watcher, deadline = _watching(pids, events, follow, threads, timeout)

    def stream() -> Generator[Event, None, None]:
        with watcher:
            yield from watcher._stream(deadline, ending=bool(pids))

    return stream()

def watch_async(*pids: int, events: int = What.LIFE, follow: bool = True, threads: bool = False,
                timeout: float | None = None) -> AsyncGenerator[Event, None]:
    """As watch(), for `async for` on asyncio's event loop. It subscribes when called. It takes no thread.

    >>> async for event in cnproc.watch_async(pid, events=cnproc.What.EXIT):
    ...     print(event)
    """
    watcher, deadline = _watching(pids, events, follow, threads, timeout)

    async def stream() -> AsyncGenerator[Event, None]:
        with watcher:
            async for event in watcher._stream_async(deadline, ending=bool(pids)):
                yield event

    return stream()

def run(args: str | bytes | Sequence[str | bytes | os.PathLike[str]], *, events: int = What.LIFE, follow: bool = True,
        threads: bool = False, timeout: float | None = None, **kwargs: Any) -> Generator[Event, None, None]:
    """Start a command, and iterate over its events and (follow) those of its descendants.

    args and kwargs are those of subprocess.Popen. The command starts when this is called. The iteration ends when the
    last process has ended, or after `timeout` seconds. It kills nobody: if it is left early, the command runs on.
    Raises what Watcher and subprocess.Popen raise, and ValueError for a timeout below 0.

    >>> for event in cnproc.run(["make", "-j2"], events=cnproc.What.EXEC):
    ...     print(event.cmdline)
    """
    watcher = Watcher(threads=threads)
    try:
        deadline = watcher._deadline(timeout)
        process = watcher.popen(args, events, follow=follow, **kwargs)
    except BaseException:
        watcher.close()
        raise

    def stream() -> Generator[Event, None, None]:
        try:
            with watcher:
                yield from watcher._stream(deadline, ending=True)
        finally:
            process.poll()  # one that has ended is no zombie then

    return stream()

class _Waiting:
    """A wait for the end of a process, a step at a time: wait for fileno() for rest() seconds, until it is over()."""

    def __init__(self, pid: int, timeout: float | None, *, listen: bool = True) -> None:
        """Raises what wait() raises. listen: here, if it has not ended; else `left` says so."""
        _check_pid(pid)
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0, or None, not {timeout}")
        self._pid, self._timeout = pid, timeout
        self._deadline = time.monotonic() + timeout if timeout is not None and timeout < 1 << 30 else None
        self._by: Any = None                    # a pidfd, or the Watcher
        self._reaped: select.epoll | None = None # waits for the parent to wait; over()
        self.returncode: int | None = None      # over()
        self.left = False                       # whether somebody else has to listen
        stat = _stat(pid)
        if _ended(pid, stat):
            status = _zombie_status(pid)
            if status is None:
                raise _missing(pid)
            self.returncode = _returncode(status)
        elif not listen:
            self.left = True
        elif _pidfd_has_status():
            try:
                self._by = os.pidfd_open(pid)
            except OSError as error:
                if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):  # the last two: a thread
                    raise
                raise _missing(pid) from None
        else:
            self._by = Watcher(rcvbuf=1 << 20)
            try:
                self._by.watch(pid, What.EXIT, follow=False)
            except BaseException:
                self._by.close()
                raise

    def over(self) -> bool:
        """Whether it is; returncode has the result then. Raises TimeoutError."""
        if self._by is None:
            return True
        if isinstance(self._by, Watcher):
            event = self._by.read(0)
            while event is not None and not isinstance(event, Exit):
                event = self._by.read(0)
            self.returncode = event.returncode if event else None
            over = event is not None or not self._by.pids
        else:
            status = self._ask()
            self.returncode = None if status is None else _returncode(status)
            over = status is not None
        if not over and self.rest() == 0:
            raise self.late()
        return over

    def late(self) -> TimeoutError:
        """What says that the time is over."""
        return TimeoutError(errno.ETIMEDOUT, f"process {self._pid} has not ended within {self._timeout} seconds")

    def _ask(self) -> int | None:
        ended = select.poll()
        ended.register(self._by, select.POLLIN)
        if not ended.poll(0):
            return None
        status = _reaped_status(self._by)
        if status is None:
            status = _zombie_status(self._pid)
        if status is None and not self._reaped:  # another user's: its status is known when its parent has waited for it
            self._reaped = select.epoll()
            self._reaped.register(self._by, 0)  # EPOLLHUP; EPOLLIN is there already
            status = _reaped_status(self._by)
        return status

    def rest(self) -> float:
        """How many seconds are left, and at most so many that a Watcher notices a subscription that has gone silent."""
        most = _QUIET / 1e9 if isinstance(self._by, Watcher) else 1e6
        return most if self._deadline is None else min(most, max(0.0, self._deadline - time.monotonic()))

    def fileno(self) -> int:
        """A descriptor that is readable when over() is worth another look."""
        by = self._reaped or self._by
        return int(by if isinstance(by, int) else by.fileno())

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if isinstance(self._by, Watcher):
            self._by.close()
        elif self._by is not None:
            os.close(self._by)
        if self._reaped:
            self._reaped.close()

def wait(pid: int, timeout: float | None = None) -> int | None:
    """Wait for the end of any process, not only of a child.

    Returns what subprocess calls its returncode: the exit status, or -N for death by signal N. A zombie's status is
    returned where /proc shows it: to root and its owner.

    From Linux 6.15 on it takes no privileges, and works in any namespace (PIDFD_GET_INFO in linux/pidfd.h). The status
    of another user's process is known there once its parent has waited for it. Before, it listens as a Watcher does;
    then None says that the process is gone, and that nobody can know its status any more.

    Raises ProcessLookupError if there is no such process, TimeoutError after `timeout` seconds, ValueError for one
    below 0, and before Linux 6.15 what Watcher and Watcher.watch raise.

    >>> cnproc.wait(pid)
    0
    """
    with _Waiting(pid, timeout) as waiting:
        while not waiting.over():
            woken = select.poll()
            woken.register(waiting.fileno(), select.POLLIN)
            woken.poll(waiting.rest() * 1000)
        return waiting.returncode

class _Ends:
    """One Watcher for all who wait on an event loop, where pidfds do not tell the status."""

    _shared: ClassVar[dict[Any, _Ends]] = {}  # by event loop

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._watcher = loop, Watcher(rcvbuf=1 << 20)
        self._waiting: dict[int, list[asyncio.Future[int | None]]] = {}
        loop.add_reader(self._watcher.fileno(), self._read)
        self._timer = loop.call_later(_QUIET / 1e9, self._tick)

    @classmethod
    async def wait(cls, pid: int) -> int | None:
        """The returncode of a process that is there."""
        import asyncio

        loop = asyncio.get_running_loop()
        for other in [other for other in cls._shared if other.is_closed()]:  # with somebody still waiting
            cls._shared.pop(other)._watcher.close()
        ends = cls._shared.get(loop)
        if not ends:
            ends = cls._shared[loop] = cls(loop)
        future: asyncio.Future[int | None] = loop.create_future()
        ends._waiting.setdefault(pid, []).append(future)
        try:
            ends._watcher.watch(pid, What.EXIT, follow=False)
            return await future
        finally:
            ends._remove(pid, future)

    def _remove(self, pid: int, future: asyncio.Future[int | None]) -> None:
        futures = self._waiting.get(pid, [])
        if future in futures:
            futures.remove(future)
        if not futures and self._waiting.pop(pid, None) is not None:
            with contextlib.suppress(KeyError):
                self._watcher.unwatch(pid)
        if not self._waiting and self._shared.get(self._loop) is self:
            del self._shared[self._loop]
            self._timer.cancel()
            self._loop.remove_reader(self._watcher.fileno())
            self._watcher.close()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_QUIET / 1e9, self._tick)
        self._read()  # which notices a subscription that has gone silent

    def _read(self) -> None:
        try:
            for event in self._watcher._stream(self._watcher._subscription.now()):
                if isinstance(event, Exit):
                    self._tell(event.pid, "set_result", event.returncode)
            if not self._watcher._feed.in_hand:  # else their Exit may be there
                for pid in self._waiting.keys() - self._watcher.pids:
                    self._tell(pid, "set_result", None)
        except OSError as error:
            for pid in [*self._waiting]:
                self._tell(pid, "set_exception", error)

    def _tell(self, pid: int, how: str, what: Any) -> None:
        for future in self._waiting.get(pid, ()):
            if not future.done():
                getattr(future, how)(what)

async def wait_async(pid: int, timeout: float | None = None) -> int | None:
    """As wait(), for asyncio. From Linux 6.15 on a wait takes one file descriptor: no thread, no subscription.

    Before, all who wait on an event loop share one subscription. Returns and raises what wait() does.
    """
    import asyncio

    with _Waiting(pid, timeout, listen=_pidfd_has_status()) as waiting:
        if waiting.left:
            try:
                return await asyncio.wait_for(_Ends.wait(pid), None if timeout is None else waiting.rest())
            except asyncio.TimeoutError:
                raise waiting.late() from None
        while not waiting.over():
            await _readable(waiting.fileno(), waiting.rest())
        return waiting.returncode

# -------------------------------------------------------------------------------------------- command line

# Events come from _watch_live() or _load(), pass through _Processes, which knows the processes, and go to the views.
# A new view is a subclass of _View, a line in _views() and an option.

_PROG = "python3 cnproc.py"
_EXAMPLES = """examples:
  python3 -m cnproc -- make -j2               report all that a command starts
  python3 -m cnproc --tree -- make -j2        draw at the end what ran when, and for how long
  python3 -m cnproc 1234                      a process and its descendants, until the last has ended
  python3 -m cnproc --stats                   what is started on this machine, until ctrl-C
  python3 -m cnproc -e nonzero_exit           what fails
  python3 -m cnproc --wait 1234               wait for a process, and exit with its status
  python3 -m cnproc -j -o run.jsonl -- make   record
  python3 -m cnproc --load run.jsonl --tree   and look later
-m takes cnproc.py from the current folder or the path, and starts faster than python3 cnproc.py: it is compiled once.
"""

_DESCRIPTIONS: dict[Any, str] = {  # of the kinds of events that take no more than a format
    Comm: "named {0.comm!r}", Sid: "leads a new session", Uid: "user {0.ruid}, effective {0.euid}",
    Gid: "group {0.rgid}, effective {0.egid}", Coredump: "dumps core", Ptrace: "traced by {0.tracer_pid}",
}
_NEVER = 1 << 63
_FORK_NS = 100_000_000   # a process that has executed nothing for so long is shown as forked
_CHECK_NS = 500_000_000  # how often to check for a closed pipe
_GATHER = 0.05           # seconds that events may gather where the kernel has read the names: a third of the CPU
_FEW, _ROWS = 4, 20      # so many short siblings become one row of a tree; the rows of the statistics
_NO_SIGNAL = 0xFFFFFFFF  # exit_signal of a thread: its end is not the end of the process
# In a command line of these bytes no word needs quotes.
_UNQUOTED = b"\0%+,-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

def _printable(text: str) -> str:
    """The text with \\x1b for a control character: a name may hold anything, and a terminal obeys it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

def _seconds(ns: int) -> str:
    if ns < 100_000_000_000:
        return f"{ns / 1e9:.3f} s"
    minutes, seconds = divmod(ns // 1_000_000_000, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

@functools.lru_cache(maxsize=256)
def _exit_text(status: int) -> str:
    """How a process ended, by its wait status."""
    code = _returncode(status)
    if code is None:
        return "exit status unknown"
    return f"exit {code}" if code >= 0 else f"killed by {_signal_name(-code)}{' (core dumped)' * (status >> 7 & 1)}"

@functools.lru_cache(maxsize=4096)
def _program_name(path: bytes) -> str:
    """What to call a program, by its first argument. A title such as "sshd: user@pts/0" is no path."""
    name, colon, title = path.decode(errors="backslashreplace").partition(": ")
    return _printable((name if name.startswith("[") else name.rpartition("/")[2] or name) + colon + title) or "?"

def _plain(argv: bytes) -> str | None:
    """The command line with a blank between two words, if no word takes quotes."""
    if argv.translate(None, _UNQUOTED) or b"\0\0" in argv or argv.startswith(b"\0"):
        return None
    return argv.removesuffix(b"\0").replace(b"\0", b" ").decode()

def _when(event: Any) -> int:
    """An event's time. It is negative for a process that was forked before the clock began: _Stat.start_ns."""
    when: int = event.timestamp_ns
    return when - (1 << 64) if when >> 63 else when

class _ProcInfo:
    """A process, as far as its events are known."""

    __slots__ = ("_name", "argv", "comm", "end_ns", "executed", "exit_code", "label", "parent", "parent_pid", "pid",
                 "renamed", "root", "start_ns", "titled")

    def __init__(self, pid: int, parent: _ProcInfo | None, parent_pid: int | None, start_ns: int | None) -> None:
        self.pid, self.parent, self.parent_pid, self.start_ns = pid, parent, parent_pid, start_ns
        self.root: int = parent.root if parent else pid                # the oldest ancestor that is known
        self.argv: bytes | None = parent.argv if parent else None      # its command line, as in Exec._words
        self.executed = self.titled = False                            # whether argv is its own; and may be a title
        self.label: str | None = parent.label if parent else None      # its name, where that is not in argv
        self.comm: str | None = parent.comm if parent else None        # the kernel's name of it, if known from an exec
        self.renamed: bool = parent.renamed if parent else True        # whether the kernel's name of it may be another
        self.end_ns: int | None = None
        self.exit_code = 0                                             # once it has ended
        self._name = ""                                                # the cache of `name`

    def found(self, stat: _Stat) -> None:
        """Take from /proc what it runs."""
        self.executed, self.titled, self.renamed = not stat.flags & _PF_FORKNOEXEC, True, True
        self.argv, self.label, self._name = _raw_cmdline(self.pid), None, ""

    def exec(self, event: Any) -> None:
        """It has executed a program."""
        self.argv, self.executed, self.titled, self._name = event._words, True, event.cpu == _REBUILT, ""
        self.comm, self.renamed = event._comm, self.titled
        self.label = f"[{self.comm}]" if self.argv == b"" and self.comm else None  # as ps has it

    def named(self, comm: str) -> None:
        """Its main thread has taken a name: that of the program that it is, if it has been forked for that."""
        self.renamed = True
        if not self.executed:
            self.label, self._name = _text(comm), ""

    def ended(self, event: Any) -> None:
        """It has ended. A signal kills who fails in an exec when its own program is gone already, and comm remains."""
        self.end_ns, self.exit_code, comm = event.timestamp_ns, event.exit_code, event._comm
        if comm and (self.comm or self.argv) and not (self.executed or self.renamed) and comm not in (
                [self.comm] if self.comm else [os.fsdecode(word.rpartition(b"/")[2].lstrip(b"-")[:15])
                                               for word in (self.argv or b"").split(b"\0")]):
            self.argv, self.label, self.executed, self._name = None, f"{_text(comm)} (exec failed)", True, ""

    @property
    def words(self) -> list[str] | None:
        """Its command line, by _texts()."""
        return _texts(_split(self.argv))

    @property
    def name(self) -> str:
        """The name of its program; in parentheses that of its parent, while it has executed none."""
        if not self._name:
            name = _printable(self.label) if self.label else "?"
            if self.argv and not self.label:
                name = _program_name(self.argv.partition(b"\0")[0])
            self._name = name if self.executed or name == "?" else f"({name})"
        return self._name

    @property
    def command(self) -> str:
        """Its command line, as a shell would take it; a title as it is."""
        if not (self.argv and self.executed):
            return self.name
        plain = _plain(self.argv)
        if plain:
            return plain
        import shlex

        words = self.words or []
        return _printable(words[0] if self.titled and len(words) == 1 else shlex.join(words))

class _Processes:
    """The processes of one machine, as their events tell. Forgets a process soon after its end."""

    def __init__(self, host: str | None, boot_id: str | None, *, look: bool, children: bool = True,
                 threads: bool = False, number: int = 0) -> None:
        self.host, self.boot_id = host, boot_id
        self.number = number       # of the machine, if there are several
        self.known: dict[int, _ProcInfo] = {}
        self.offset_ns = 0         # from the events' clock to the time of day
        self.command = 0           # the pid of the command, and its end
        self.command_exit: Exit | None = None
        self._look = look          # whether /proc is that of these processes
        self._children = children  # whether there will be an Exit of each process that is forked
        self._gone: collections.deque[_ProcInfo] = collections.deque()  # ended, but events of theirs may still come
        self._kept = 64 if threads else 1                               # so many of them
        self._me = os.getpid() if look else 0

    @property
    def alive(self) -> int:
        """How many processes are known and have not ended."""
        return len(self.known) - len(self._gone)

    def update(self, event: Any) -> _ProcInfo | None:
        """Whose event it is; None for a Lost. Of a Fork it is the child."""
        what = event.what
        if not what:
            return None
        pid = event.pid
        if what == _FORK and event.tid == pid:
            return self._fork(event, pid)
        info = self.known.get(pid)
        if info is None:  # its Fork has not been reported
            parent_pid = event._parent_pid if what == _EXEC else None
            info = _ProcInfo(pid, self.known.get(parent_pid or 0), parent_pid, None)
            if self._children:
                self.known[pid] = info
        if what == _EXEC:
            info.exec(event)
        elif what == _EXIT:
            if event.tid == pid and event.exit_signal != _NO_SIGNAL:
                self._exit(info, event)
        elif what == _COMM:
            if event.tid == pid:
                info.named(event.comm)
            info.renamed = True
        return info

    def _fork(self, event: Any, pid: int) -> _ProcInfo:
        parent_pid = event.parent_pid
        info = _ProcInfo(pid, self.known.get(parent_pid), parent_pid, _when(event))
        rebuilt = event.cpu == _REBUILT
        if self._look:
            stat = _stat(pid) if rebuilt else None
            if stat:
                info.found(stat)
            if parent_pid == self._me and not info.argv:
                info.argv = b"cnproc\0"
                with open("/proc/thread-self/comm", "rb") as file:
                    info.comm, info.renamed = os.fsdecode(file.read().removesuffix(b"\n")), False
        if self._children or rebuilt or pid == self.command:
            self.known[pid] = info
        return info

    def _exit(self, info: _ProcInfo, event: Any) -> None:
        info.ended(event)
        if info.pid == self.command and not self.command_exit:
            self.command_exit = event
        self._gone.append(info)
        if len(self._gone) > self._kept:
            gone = self._gone.popleft()
            gone.parent = None  # else the last of a chain of daemons would keep them all
            if self.known.get(gone.pid) is gone:
                del self.known[gone.pid]

class _Out:
    """A file for a view. It writes whole lines, and knows what the reader can see."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lines: list[str] = []
        self.tty = file.isatty()
        # By the conventions of NO_COLOR and FORCE_COLOR; Python's own tools do the same.
        self.colour = not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or (
            self.tty and os.environ.get("TERM") != "dumb"))
        self.more, self.times, self.arrow, self.bar = "…", "×", "←", "█"
        self.branches = "├─ ", "└─ ", "│  "
        self._encoding = getattr(file, "encoding", None) or "utf-8"
        try:
            "…×←█├─└│".encode(getattr(file, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            self.more, self.times, self.arrow, self.bar = "...", "x", "<-", "#"
            self.branches = "|- ", "`- ", "|  "
        self._closed = select.poll()
        self._fd: int | None = None
        try:
            self._fd = file.fileno()
            self._closed.register(file.fileno(), 0)  # POLLERR and POLLHUP
        except (OSError, ValueError):  # a file that exists in memory only
            pass

    @property
    def width(self) -> int | None:
        """The columns of the terminal, or None."""
        if not self.tty:
            return None
        try:
            return int(os.environ.get("COLUMNS") or os.get_terminal_size(self._file.fileno()).columns) or None
        except (OSError, ValueError):
            return 80

    def cut(self, text: str, width: int) -> str:
        """The text in so many columns at most, as it will be written."""
        text = self.encodable(text)
        if _columns(text) <= width:
            return text
        room = width - len(self.more)
        while text and _columns(text) > room:
            text = text[:max(room, 0)] if len(text) > room else text[:-1]
        return (text + self.more)[:max(width, 0)]

    def encodable(self, text: str) -> str:
        """The text with \\xf6 for what the file's encoding lacks."""
        return text if text.isascii() else text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def fit(self, text: str, width: int) -> str:
        """The text in just so many columns."""
        text = self.cut(text, width)
        return text + " " * (width - _columns(text))

    def paint(self, text: str, style: str) -> str:
        """The text in a colour: "31" is red, "2" dim, "" none."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and style else text

    def row(self, text: str) -> None:
        """Write a line, truncated to the terminal's width. It may be painted."""
        if not text.isascii():
            text = self.encodable(text)
        width = self.width if self.tty else None
        if width is not None:
            import re

            parts = re.split("(\x1b\\[\\d*m)", text)  # every second one is a colour
            plain, at = self.cut("".join(parts[::2]), width), 0
            for i in range(0, len(parts), 2):
                at, parts[i] = at + len(parts[i]), plain[at:at + len(parts[i])]
            text = "".join(parts)
        self.line(text)

    def line(self, text: str) -> None:
        """Write a line as it is."""
        self._lines.append(text + "\n")
        if len(self._lines) > 1000:
            self.flush()

    def transient(self, text: str) -> None:
        """Show a line in the place of the one before, until something else is written."""
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._file.write("\r\x1b[K" + self.cut(text, (self.width or 80) - 1))
            self._file.flush()

    def flush(self) -> None:
        """Whole lines at once: who is killed, or finds the disk full, leaves no half line."""
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            if self._fd is None:
                self._file.write(text)
                return
            # Python's own files lose the rest of a write into a full pipe that a signal interrupts: seen with 3.11.
            self._file.flush()
            rest = memoryview(text.encode(self._encoding, "backslashreplace"))
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest):]
                except BlockingIOError:  # somebody who shares it has made it so
                    select.select([], [self._fd], [])

    def check(self) -> None:
        """Raises BrokenPipeError if nobody reads it any longer."""
        if self._closed.poll(0):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

class _View:
    """A way of showing events."""

    due = _NEVER  # when on_time() is to be called, on the events' clock

    def __init__(self, out: _Out, args: Any) -> None:
        self.out, self.args = out, args
        self._kinds = int(args.events or (What.ALL if args.load else _LIFE))
        self._second, self._clock = -1, ""

    def time_of_day(self, ns: int, form: str, split: Callable[[int], Any]) -> str:
        """A time in microseconds. split: time.localtime or time.gmtime, which is asked once a second."""
        second, rest = divmod(ns, 1_000_000_000)
        if second != self._second:
            self._second, self._clock = second, time.strftime(form, split(second))
        return f"{self._clock}.{rest // 1000:06}"

    def wants(self, event: Any) -> bool:
        """Whether -e asks for it; a Lost is never left out."""
        what = event.what
        return bool(what & self._kinds or not what or _wanted_exit(self._kinds, event))

    def on_start(self, now: int) -> None:
        """The watch begins; not called for a recording."""

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        """An event, and whose it is: None if it is a Lost."""
        raise NotImplementedError

    def on_time(self, now: int, processes: _Processes) -> None:
        """It is `due`."""

    def end(self, now: int) -> None:
        """No more events."""

class _Lines(_View):
    """A line of text for each event."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        # Forks without a line as yet: if an exec follows soon, they get none.
        self._forks: dict[_ProcInfo, tuple[Any, _Processes]] = {}
        self._held = not args.events and (args.follow or not (args.pid or args.command))  # else no exec is reported
        if out.tty:
            out.row(out.paint(f"{'TIME':15} {'PID':>7} {'PARENT':>7}  EVENT", "2"))

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        what, forks = event.what, self._forks
        if what == _FORK and info and not self.args.events and event.tid == event.pid:
            if self._held:
                if info.parent in forks:
                    self._show_fork(info.parent)
                if not forks:
                    self.due = _when(event) + _FORK_NS
                forks[info] = event, processes
            return
        if info in forks:
            if what == _EXEC:
                del forks[info]
            else:
                self._show_fork(info)
            if not forks:
                self.due = _NEVER
        if self.wants(event):
            self._show(event, info, processes)

    def _show_fork(self, info: Any) -> None:
        event, processes = self._forks.pop(info)
        self._show(event, info, processes)

    def on_time(self, now: int, processes: _Processes) -> None:
        self.due = _NEVER
        for info, (event, _) in [*self._forks.items()]:
            due = _when(event) + _FORK_NS
            if due <= now:
                self._show_fork(info)
            else:
                self.due = min(self.due, due)

    def end(self, now: int) -> None:
        for info in [*self._forks]:
            self._show_fork(info)

    def _show(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        out = self.out
        at = out.paint(self.time_of_day(_when(event) + processes.offset_ns, "%H:%M:%S", time.localtime), "2")
        if info:
            parent, tid = "?" if info.parent_pid is None else info.parent_pid, event.tid
            alone = tid != info.pid or (event.what == _EXIT and info.end_ns is None)
            out.row(f"{at} {info.pid:>7} {parent:>7}  {f'thread {tid} ' * alone}{self._text(event, info, alone)}")
        else:
            count = "some events" if event.count is None else f"{event.count} events"
            out.row(at + " " * 18 + out.paint(f"lost {count}; what /proc knows follows", "31"))

    def _text(self, event: Any, info: _ProcInfo, alone: bool) -> str:
        """What happened. alone: to one thread."""
        what, paint = event.what, self.out.paint
        source = paint("  (from /proc)", "2") if event.cpu == _REBUILT else ""
        if what == _EXEC:
            command = f"{info.command} ..." if event.truncated else info.command
            if source and info.start_ns is not None:
                return f"running for {_seconds(event.timestamp_ns - info.start_ns)}: {command}"
            return f"exec {command}{source}"
        if what == _EXIT:
            text = paint(_exit_text(event.exit_code), "31" if event.exit_code else "")
            if not alone and info.start_ns is not None:
                text += paint(f" after {_seconds(event.timestamp_ns - info.start_ns)}", "2")
        elif what == _FORK:
            text = "started" if alone else "fork"
        elif isinstance(event, Ptrace) and not event.tracer_pid:
            return "traced no longer"
        else:
            text = _printable(_DESCRIPTIONS[type(event)].format(event))
        return f"{text}: {info.name}{source}"

class _Json(_View):
    """One JSON object a line: the event's own asdict(), and what is known of its process."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import json

        self._encode = json.JSONEncoder().encode

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        if not self.wants(event):
            return
        name, when, host, boot_id = type(event).__name__.lower(), _when(event), processes.host, processes.boot_id
        at = self.time_of_day(when + processes.offset_ns, "%Y-%m-%dT%H:%M:%S", time.gmtime)
        self.out.line(f'{{"event": "{name}", "time": "{at}Z", "timestamp_ns": {when}, '
                      f'"host": {self._encode(host)}, "boot_id": {self._encode(boot_id)}, '
                      f'{self._fields(event, info, when)}}}')

    def _fields(self, event: Any, info: _ProcInfo | None, when: int) -> str:
        """The rest of the object. The usual kinds by hand: json takes four times as long for them."""
        what = event.what
        if not info or what not in (_FORK, _EXEC, _EXIT):
            shown = event.asdict()
            del shown["event"], shown["timestamp_ns"]
            if info and isinstance(event, Coredump):
                shown["cmdline"] = info.words
            return self._encode(shown)[1:-1]
        task = f'"pid": {event.pid}, "tid": {event.tid}'
        rebuilt = "true" if event.cpu == _REBUILT else "false"
        parent_pid = "null" if info.parent_pid is None else info.parent_pid
        if what == _FORK:
            return (f'{task}, "parent_tid": {event.parent_tid or "null"}, "parent_pid": {event.parent_pid or "null"}, '
                    f'"rebuilt": {rebuilt}')
        plain = _plain(info.argv or b"")
        words = '["' + plain.replace(" ", '", "') + '"]' if plain else self._encode(info.words)
        if what == _EXEC:
            return (f'{task}, "cmdline": {words}, "truncated": {"true" if event.truncated else "false"}, '
                    f'"rebuilt": {rebuilt}, "parent_pid": {parent_pid}')
        status, signal, duration = event.exit_code, "null", "null"
        code = _returncode(status)
        if code and code < 0:
            signal = f'"{_signal_name(-code)}"'
        if info.start_ns is not None and info.end_ns is not None and event.tid == info.pid:
            duration = str((when - info.start_ns) / 1e9)
        return (f'{task}, "exit_code": {"null" if code is None else status}, "exit_signal": {event.exit_signal}, '
                f'"parent_tid": {event.parent_tid or "null"}, "parent_pid": {event.parent_pid or parent_pid}, '
                f'"returncode": {"null" if code is None else code}, "signal": {signal}, "rebuilt": {rebuilt}, '
                f'"cmdline": {words}, "duration": {duration}')

class _Span(_View):
    """What the views that end with a summary have in common: when it all began, and what was lost."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self.begin: int | None = None  # when the watch began, or the first event of the recording happened
        self.last = 0
        self.lost = 0
        self.lost_more = False         # whether more were lost, nobody knows how many

    def on_start(self, now: int) -> None:
        self.begin = now

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        what, when = event.what, event.timestamp_ns
        if what != _FORK or event.cpu != _REBUILT:  # else it may be hours old
            if self.begin is None or when < self.begin:
                self.begin = when
            if when > self.last:
                self.last = when
        if not what:
            self.lost += event.count or 0
            self.lost_more |= event.count is None

    @property
    def losses(self) -> str:
        """What was lost, in words."""
        return f"{self.lost}{'+' if self.lost_more else ''} events lost"

class _Tree(_Span):
    """The tree of processes, with their times as bars on one axis."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self._shown: dict[_ProcInfo, None] = {}  # in the order of their first events
        self._placed: set[_ProcInfo] = set()     # these and their ancestors
        self._roots: list[_ProcInfo] = []
        self._children: dict[_ProcInfo, list[_ProcInfo]] = collections.defaultdict(list)
        self._end = self._bar = 0                # when the axis ends, and its columns: set by end()

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        super().on_event(event, info, processes)
        if not info or info in self._shown or (event.what == _FORK and processes.known.get(info.pid) is not info):
            return  # of the last, no end will be reported
        self._shown[info] = None
        while info and info not in self._placed:
            self._placed.add(info)
            (self._children[info.parent] if info.parent else self._roots).append(info)
            info = info.parent

    def end(self, now: int) -> None:
        out, begin, shown = self.out, now if self.begin is None else self.begin, self._shown
        columns = os.environ.get("COLUMNS", "")
        width = out.width or (max(40, int(columns)) if columns.isdecimal() else 100)
        self._end = max(self.last, now if any(info.end_ns is None for info in shown) else begin)
        self._bar = width * 3 // 10 if width >= 60 else 0
        axis = _seconds(self._end - begin)
        head = f"{'TIME':>14} {'STATUS':>10}  "
        room = max(10, width - len(head) - self._bar)
        scale = f"{'0 s':{max(0, self._bar - len(axis))}}{axis if self._bar else ''}"
        out.row(out.paint(f"{'COMMAND':{room}}{head}{scale}", "2"))
        branch, last, trunk = out.branches
        rows = [(group, "", "") for group in reversed(self._groups(self._roots, fold=False))]
        while rows:
            group, lead, under = rows.pop()
            self._row(group, lead, room)
            children = [child for info in group for child in self._children.get(info, ())]
            turn = last, "   "
            for below in reversed(self._groups(children, fold=len(group) > 1)):
                deep = len(under) > room  # no more of it is seen
                rows.append((below, under + turn[0] * (not deep), under + turn[1] * (not deep)))
                turn = branch, trunk
        failed = sum(info.exit_code > 0 for info in shown)
        failures = out.paint(f"{failed} failed", "31" if failed else "")
        out.row(f"{len(shown)} process{'es' * (len(shown) != 1)}, {failures}, {self.losses}, {axis}, "
                f"at most {self._at_once()} at once")
        out.flush()

    def _span(self, info: _ProcInfo) -> tuple[int, int]:
        """When it began and ended, as far as that is on the axis."""
        begin = self.begin or 0
        start = info.start_ns
        return begin if start is None or start < begin else start, self._end if info.end_ns is None else info.end_ns

    def _groups(self, infos: list[_ProcInfo], *, fold: bool) -> list[list[_ProcInfo]]:
        """What becomes a row each, in the order of their starts. fold: they are children of several processes."""
        infos = sorted(infos, key=self._span)
        count = collections.Counter(info.name for info in infos)
        longest = (self._end - (self.begin or 0)) // 10
        alike: dict[str, list[_ProcInfo]] = collections.defaultdict(list)
        groups: list[list[_ProcInfo]] = []
        for info in infos:
            begin, end = self._span(info)
            if self.args.all or (end - begin > longest and not fold and count[info.name] <= _ROWS):
                groups.append([info])
                continue
            group = alike[info.name]
            if not group:
                groups.append(group)
            group.append(info)
        few = 1 if fold else _FEW
        parts = [[group] if len(group) >= few else [[info] for info in group] for group in groups]
        return sorted((group for part in parts for group in part), key=lambda group: self._span(group[0]))

    def _row(self, group: list[_ProcInfo], lead: str, room: int) -> None:
        out, info, begin = self.out, group[0], self.begin or 0
        failed = sum(one.exit_code > 0 for one in group)
        if len(group) > 1:
            label, status = f"{info.name} {out.times}{len(group)}", f"{failed} failed"
            took = f"{_seconds(sum(end - start for start, end in map(self._span, group)))} total"
        else:
            label, status, code = info.command, "", _returncode(info.exit_code)
            if info.end_ns is not None:
                status = "?" if code is None else str(code) if code >= 0 else _signal_name(-code)
            took = _seconds(self._span(info)[1] - (begin if info.start_ns is None else info.start_ns))
        scale = self._bar / max(1, self._end - begin)
        cells = bytearray(self._bar)
        for start, end in map(self._span, group):
            first = min(int((start - begin) * scale), self._bar - 1)
            after = min(max(first + 1, round((end - begin) * scale)), self._bar)
            cells[first:after] = b"\1" * (after - first)
        bar = "".join(out.bar if cell else " " for cell in cells)
        lead = out.cut(lead, max(0, room - 8))
        out.row(out.fit(lead + label, room) + out.paint(f"{took:>14}", "2")
                + out.paint(f" {status:>10}", "31" if failed else "") + f"  {bar}".rstrip())

    def _at_once(self) -> int:
        """How many of the processes ran at once at most."""
        changes: list[tuple[int, int]] = []
        for info in self._shown:
            begin, end = self._span(info)
            changes += [(begin, 1), (end, -1)]
        return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)

class _Program_Stats:
    """What the statistics know of a program."""

    __slots__ = ("failed", "longest", "parents", "starts", "total")

    def __init__(self) -> None:
        self.starts = self.failed = self.total = self.longest = 0
        self.parents: dict[str, int] = collections.defaultdict(int)

class _Stats(_Span):
    """A table by program: how often it was started, by whom, how long it ran and how often it failed."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self._programs: dict[str, _Program_Stats] = collections.defaultdict(_Program_Stats)
        self._running: dict[_ProcInfo, tuple[_Program_Stats, int]] = {}  # what each process runs, and since when
        self._count = self._counted = self._counted_ns = 0               # events: all, and when last shown; when
        self._status = _Out(sys.stderr) if sys.stderr and sys.stderr.isatty() and not (
            args.command or args.load or args.json) else None

    def on_start(self, now: int) -> None:
        super().on_start(now)
        self._counted_ns = now
        if self._status:
            self.due = now + 1_000_000_000

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        super().on_event(event, info, processes)
        self._count += 1
        if not info:
            return
        what, when = event.what, event.timestamp_ns
        if what == _EXEC:
            self._stop(info, when)
            before = info.start_ns if event.cpu == _REBUILT else None  # it was there when the watch began
            self._start(info, when if before is None else before)
        elif what == _EXIT and event.tid == event.pid and info.end_ns is not None:
            if info not in self._running and (info.start_ns or 0) >= (self.begin or 0):
                self._start(info, info.start_ns or 0)  # it has run what its parent runs
            program = self._stop(info, when)
            if program and info.exit_code > 0:
                program.failed += 1

    def _start(self, info: _ProcInfo, when: int) -> None:
        program = self._programs[info.name]
        program.starts += 1
        program.parents[info.parent.name if info.parent else "?"] += 1
        self._running[info] = program, when

    def _stop(self, info: _ProcInfo, when: int) -> _Program_Stats | None:
        program, since = self._running.pop(info, (None, 0))
        if program:
            program.total += when - since
            program.longest = max(program.longest, when - since)
        return program

    def on_time(self, now: int, processes: _Processes) -> None:
        if self._status:
            rate = (self._count - self._counted) * 1e9 / max(1, now - self._counted_ns)
            self._counted, self._counted_ns, self.due = self._count, now, now + 1_000_000_000
            self._status.transient(f"{rate:.0f} events/s  {processes.alive} processes alive  {self.losses}")

    def end(self, now: int) -> None:
        out = self.out
        if self._status:
            self._status.transient("")
        last = max(self.last, now if self._running else 0)
        for info in [*self._running]:
            self._stop(info, last)
        wall = max(1, last - (last if self.begin is None else self.begin))
        programs = sorted(self._programs.items(), key=lambda item: (-item[1].starts, -item[1].total, item[0]))
        shown = programs if self.args.all else programs[:_ROWS]
        out.row(out.paint(
            f"{'PROGRAM':20} {'STARTS':>7} {'FAILED':>7} {'TOTAL':>11} {'LONGEST':>11}  SHARE  STARTED BY", "2"))
        for name, program in shown:
            parents = sorted(program.parents.items(), key=lambda item: -item[1])
            named = ", ".join(f"{parent} {out.times}{count}" for parent, count in parents[:3])
            others = f" and {len(parents) - 3} more" if len(parents) > 3 else ""
            out.row(f"{out.fit(name, 20)} {program.starts:>7}"
                    + out.paint(f" {program.failed:>7}", "31" if program.failed else "")
                    + out.paint(f" {_seconds(program.total):>11} {_seconds(program.longest):>11}", "2")
                    + f" {program.total / wall:>6.0%}  {out.arrow} {named}{others}")
        starts = sum(program.starts for _, program in programs)
        failed = sum(program.failed for _, program in programs)
        failures = out.paint(f"{failed} failed", "31" if failed else "")
        more = f" ({len(programs) - len(shown)} not shown: --all)" if len(shown) < len(programs) else ""
        out.row(f"{starts} starts of {len(programs)} programs{more}, {failures}, {self.losses}, {_seconds(wall)}")
        out.flush()

class _Trace(_View):
    """Chrome's trace-event format, for ui.perfetto.dev, chrome://tracing and speedscope.

    It is the form of a JSON array, of which the last bracket may be missing: so a file of a run that was killed opens,
    too. A process is a track, a program a slice on it, and a fork an arrow. The tracks are grouped by the process that
    was watched.
    """

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import json

        self._quote = json.JSONEncoder().encode
        self._begin: int | None = None       # when the first event happened
        self._before: list[_ProcInfo] = []   # what was there already, until that is known
        self._open: set[_ProcInfo] = set()   # whose slice has not ended
        self._named: set[int] = set()        # groups that have a name
        self._flows = self._machine = 0
        self._comma = "["

    def on_event(self, event: Any, info: _ProcInfo | None, processes: _Processes) -> None:
        what, when = event.what, _when(event)
        self._machine = processes.number * 10_000_000  # above all pids
        if what == _FORK and event.cpu == _REBUILT and self._begin is None and info:
            self._before.append(info)
            return
        if self._begin is None:
            self._begin = when
            while self._before:
                self._start(self._before.pop(0), when, processes)
        when = max(when, self._begin)
        if info is None:
            self._record("i", 0, 0, when, f', "name": "{event.count or "some"} events lost", "s": "g"')
        elif what == _FORK and event.tid == event.pid:
            parent = info.parent if info.parent in self._open else None
            if parent:
                self._flows += 1
                self._record("s", info.root, parent.pid, when, f', "name": "fork", "cat": "fork", "id": {self._flows}')
            self._start(info, when, processes)
            if parent:
                self._record("f", info.root, info.pid, when,
                             f', "name": "fork", "cat": "fork", "id": {self._flows}, "bp": "e"')
        elif what == _EXEC:
            self._stop(info, when)
            self._start(info, when, processes)
        elif what == _EXIT and event.tid == event.pid and info.end_ns is not None:
            code = "null" if event.returncode is None else event.returncode
            self._stop(info, when, f'"returncode": {code}, "end": "{_exit_text(event.exit_code)}"')
        else:
            self._record("i", info.root, info.pid, when, f', "name": "{type(event).__name__.lower()}", "s": "t"')

    def _start(self, info: _ProcInfo, when: int, processes: _Processes) -> None:
        name, parent = self._quote(info.name), "null" if info.parent_pid is None else info.parent_pid
        if info.pid == info.root or info.root not in self._named:
            self._named.add(info.root)
            root = self._quote(processes.known.get(info.root, info).name)
            self._record("M", info.root, info.root, None, f', "name": "process_name", "args": {{"name": {root}}}')
        self._record("M", info.root, info.pid, None, f', "name": "thread_name", "args": {{"name": {name}}}')
        self._record("B", info.root, info.pid, when,
                     f', "name": {name}, "cat": "{"exec" if info.executed else "fork"}", "args": {{"pid": {info.pid}, '
                     f'"parent_pid": {parent}, "cmdline": {self._quote(info.command)}}}')
        self._open.add(info)

    def _stop(self, info: _ProcInfo, when: int, args: str = "") -> None:
        if info in self._open:
            self._open.remove(info)
            self._record("E", info.root, info.pid, when, f', "args": {{{args}}}')

    def _record(self, phase: str, group: int, track: int, when: int | None, more: str) -> None:
        """more: the rest of the record, in JSON. Each line by hand: json takes three times as long for it."""
        at = "" if when is None else f', "ts": {when / 1000}'
        self.out.line(f'{self._comma}{{"ph": "{phase}", "pid": {group + self._machine}, '
                      f'"tid": {track + self._machine}{at}{more}}}')
        self._comma = ","

    def end(self, now: int) -> None:
        for info in [*self._open]:
            self._stop(info, now)
        self.out.line("]" if self._comma == "," else "[]")
        self.out.flush()

@functools.lru_cache(maxsize=None)
def _form(name: str) -> tuple[Any, Any, Any]:
    """How to make an event of a record: its class, what packs the struct, and what takes the fields from the record."""
    kind = _EVENTS[int(What[name.upper()])]
    fields = [(field, {_s32: "i", _u32: "I"}.get(form, "16s")) for field, form in kind._fields_]
    return kind, struct.Struct("=IIQ" + "".join(form for _, form in fields)).pack, operator.itemgetter(
        *(field.strip("_") for field, _ in fields))

def _from_record(record: dict[str, Any], when: int) -> Any:
    """The event that a line of --json shows. Raises one of _BROKEN if it is none."""
    name = record["event"]
    if name == "lost":
        return Lost(count=None if record["count"] is None else operator.index(record["count"]), timestamp_ns=when)
    kind, pack, take = _form(name)
    values = take(record)
    if name == "comm":
        values = *values[:2], os.fsencode(values[2])[:15]
    elif None in values:
        values = [(-1 if field == "exit_code" else 0) if value is None else value
                  for (field, _), value in zip(kind._fields_, values)]
    event = kind.from_buffer_copy(pack(
        What[name.upper()], _REBUILT if record["rebuilt"] else 0, when & _NEVER * 2 - 1, *values))
    if name == "exec":
        words, event._parent_pid = record["cmdline"], record.get("parent_pid")
        if words is not None:
            event._words = _argv(words)
            event._length = len(event._words) + bool(record["truncated"])
    return event

def _argv(words: list[str]) -> bytes:
    """Exec._words of a cmdline. Raises TypeError for what is none."""
    return "\0".join([*words, ""]).encode(errors="surrogateescape")

_BROKEN = KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, struct.error

class _Recording:
    """What --json has recorded, an event at a time. The clocks of several machines are brought to the first one's."""

    def __init__(self, views: list[_View], align: bool) -> None:
        self._views, self._align = views, align
        from json import JSONDecoder

        self._decode = JSONDecoder().raw_decode
        self._machines: dict[Any, _Processes] = {}  # by host and boot
        self._base: int | None = None               # the offset_ns of the first
        self._day, self._day_ns = "", 0             # a second, and when that was, in ns since 1970
        self.now = 0                                # when the latest event happened

    def add(self, line: str) -> None:
        """Show a line. Raises one of _BROKEN if it is no event."""
        line = line.strip()
        record, end = self._decode(line)
        when, origin = record["timestamp_ns"], (record.get("host"), record.get("boot_id"))
        offset = self._offset(record["time"], when) if "time" in record else 0  # else it comes from asdict()
        processes = self._machines.get(origin)
        number = processes.number if processes else len(self._machines)
        if number and self._align:
            base = self._base or 0
            when, offset = when + offset - base, base
        event = _from_record(record, when)
        words, duration, parent_pid = record.get("cmdline"), record.get("duration"), record.get("parent_pid")
        argv = event._words if event.what == _EXEC else None if words is None else _argv(words)
        if end < len(line) or not (duration is None or 0 <= duration < 1 << 40) or not isinstance(
                parent_pid, (int, type(None))):
            raise ValueError(line)
        if not processes:
            processes = self._machines[origin] = _Processes(*origin, look=False, threads=True, number=number)
            self._base = offset if self._base is None else self._base
        processes.offset_ns = offset
        info = processes.update(event)
        if when > self.now:
            self.now = when
        if info and event.what in (_EXEC, _EXIT):  # perhaps no other kinds were recorded
            if info.parent_pid is None:
                info.parent_pid = parent_pid
            if info.start_ns is None or duration is not None:
                info.start_ns = when - round((duration or 0) * 1e9)
            if info.argv is None and argv and not info.label:
                info.argv, info.executed, info._name = argv, True, ""
        for view in self._views:
            view.on_event(event, info, processes)
            if when >= view.due:
                view.on_time(when, processes)

    def _offset(self, text: str, when: int) -> int:
        """How far the time of day is from the events' clock, in microseconds as the time of day is written."""
        if text[:20] != self._day:
            from datetime import datetime, timezone

            day = datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
            self._day, self._day_ns = text[:20], int(day.timestamp()) * 1_000_000_000
        return self._day_ns + int(text[20:26]) * 1000 - when // 1000 * 1000

def _load(args: Any, views: list[_View], file: Any) -> int:
    """Show what --json has recorded. Broken lines are left out, and the first of them is named."""
    recording, number, rest = _Recording(views, align=not args.json), 0, b""
    broken: list[int] = []
    try:
        while True:
            part = file.read(1 << 18)
            whole, newline, rest = (rest + part).rpartition(b"\n") if part else (rest, rest, b"")
            for line in whole.decode(errors="backslashreplace").split("\n") if newline else ():
                number += 1
                try:
                    recording.add(line)
                except _BROKEN:
                    broken.append(number)
            for view in views:
                view.out.flush()
            if not part:
                break
    finally:  # also on ctrl-C
        _end(views, recording.now)
    if broken:
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        name = "standard input" if args.load == "-" else args.load
        _complain(OSError(errno.EINVAL, f"{name}: line {broken[0]} is no event{more}"))
    return 2 if broken else 0

class _Command:
    """The command that is run, and the signals that are sent to it by way of us."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.process: subprocess.Popen[Any] | None = None
        self._processes: _Processes | None = None
        self._early: list[int] = []     # signals that came before it was started
        self._stopped = 0               # a signal that is to end us at the next good moment
        self.watcher: Watcher | None = None  # set while events are shown: a good moment is when this one waits

    def start(self, watcher: Watcher, processes: _Processes, events: int, follow: bool) -> int:
        """0, or the status of a command that cannot be started, as a shell has it."""
        try:
            # Descriptors that we were given are the command's, as if it had been run directly: make's job server.
            self.process = watcher.popen(self.words, events, follow=follow, close_fds=False)
        except OSError as error:
            _complain(OSError(error.errno, f"{self.words[0]}: {error.strerror}"))
            return 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
        self._processes, processes.command = processes, self.process.pid
        for number in self._early:
            self.process.send_signal(number)
        return 0

    @property
    def exit(self) -> Exit | None:
        """Its end, once reported. The kernel wakes who waits for a process before it reports the end."""
        return self._processes.command_exit if self._processes else None

    def on_signal(self, number: int, frame: object) -> None:
        """While the command runs it gets the signal, and decides what becomes of that.

        Else the signal ends us: at once if we are waiting, and not in the middle of an event or of a line, or if it is
        the second; but not before the command's end has been reported.
        """
        import signal

        running = self.process and self.process.poll() is None
        if self.words and not self.process:
            self._early.append(number)
        elif (running or (self.process and not self.exit)) and (
                number in (signal.SIGINT, signal.SIGQUIT) and _on_terminal()):
            pass  # the terminal has sent it to the command itself, which it may have ended by now
        elif self.process and running:
            self.process.send_signal(number)
        else:
            first, self._stopped = not self._stopped, number
            if not (first and self.watcher) or self.watcher.waiting:
                self.stop(at_once=not first)

    def stop(self, *, at_once: bool = False) -> None:
        """End as the signal asks for, if there was one."""
        if self._stopped and (at_once or not self.process or self.exit):
            import signal

            raise KeyboardInterrupt if self._stopped == signal.SIGINT else SystemExit(128 + self._stopped)

    def status(self) -> int:
        """Its exit status, as a shell has it."""
        import signal

        assert self.process
        code = self.process.wait()
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # then subprocess says 0
            code = (self.exit and self.exit.returncode) or 0
        return code if code >= 0 else 128 - code

def _on_terminal() -> bool:
    """Whether ctrl-C on a terminal reaches this process and those that it has started."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False

class _ThreadExits:
    """With --threads: makes of the ends of threads what the views take. Pure.

    The Exit of a leader that leaves threads behind gets _NO_SIGNAL, as those of other threads have. An _End stands
    right behind the last Exit of its process. It becomes the Exit of the process, or the leader's Exit before it does.
    """

    def __init__(self, me: int) -> None:
        self._me = me                          # the process whose threads are not reported, or 0
        self._codes: dict[int, set[int]] = {}  # exit codes of threads that have ended, by process

    def convert(self, events: list[Any]) -> list[Any]:
        converted: list[Any] = []
        leader: Any = None  # the Exit of a leader that was the last of its process
        cpu = 0             # of the Exit before
        for event, after in zip(events, [*events[1:], None]):
            what, pid = event.what, event.pid if event.what else 0
            if what == _END:
                codes = self._codes.pop(pid, set())
                status = getattr(event, "exit_code", -1)
                if status < 0 and (len(codes) == 1 or (leader and leader.exit_code)):
                    status = leader.exit_code if leader else codes.pop()
                event = leader or Exit(_EXIT, cpu, event.timestamp_ns, pid, pid, -1, _SIGCHLD)
                event.exit_code, leader = status, None
            elif pid and pid == self._me and event.tid != pid:
                continue
            elif what == _EXIT:
                cpu = event.cpu
                self._codes.setdefault(pid, set()).add(event.exit_code)
                if event.tid == pid:
                    if after is not None and after.what == _END and after.pid == pid:
                        leader = event
                        continue
                    event.exit_signal = _NO_SIGNAL
            converted.append(event)
        return converted

def _there(watcher: Watcher, pids: Iterable[int], *, execs: bool = True) -> Iterator[Any]:
    """Processes as they are, in the order of the tree, the first of `pids` first: a Fork and an Exec each."""
    now, skew_ns = watcher._subscription.now, watcher._subscription.skew
    found = {pid: stat for pid, stat in ((pid, _stat(pid)) for pid in dict.fromkeys(pids)) if stat}
    children: dict[int, list[int]] = collections.defaultdict(list)
    for pid in sorted(found, key=lambda pid: (found[pid].start_ns, pid), reverse=True):
        children[found[pid].ppid].append(pid)
    rest = [pid for pid in reversed(found) if found[pid].ppid not in found]
    while rest:
        pid = rest.pop()
        stat = found[pid]
        yield Fork(_FORK, _REBUILT, stat.start_ns - skew_ns, stat.ppid, stat.ppid, pid, pid)
        if execs and not stat.flags & _PF_FORKNOEXEC:
            yield Exec(_EXEC, _REBUILT, now(), pid, pid, cmdline=_split(_raw_cmdline(pid)))
        rest += children.pop(pid, ())

class _Live:
    """Brings the events of a watcher to the views."""

    def __init__(self, watcher: Watcher, processes: _Processes, views: list[_View], command: _Command,
                 comms: bool) -> None:
        self._watcher, self._processes, self._views, self._command = watcher, processes, views, command
        self._comms = comms            # whether a Comm is to be shown, too: it is always asked for, for the names
        self._now = watcher._subscription.now
        self._threads = _ThreadExits(os.getpid() if command.process else 0) if watcher._ends else None
        self._found: set[int] = set()  # were there, but their Fork may come all the same: they were born just now
        self._pidfd = -1  # of the command, whose end must not wait until more has gathered
        if command.process and watcher._delay:
            with contextlib.suppress(OSError):  # it has been reaped already: SIGCHLD is ignored
                self._pidfd = os.pidfd_open(command.process.pid)
                watcher._wait_also(self._pidfd)
        self._update_offset()
        for view in views:
            view.on_start(self._now())

    def close(self) -> None:
        """Let events gather again."""
        if self._pidfd >= 0:
            self._watcher._wait_also(None)
            os.close(self._pidfd)
            self._pidfd = -1

    def _update_offset(self) -> None:
        self._processes.offset_ns = time.time_ns() - self._now()

    def begin(self, there: Iterable[Any]) -> None:
        """Show processes that are there."""
        for event in there:
            self._found.add(event.pid)
            self._show(event)

    def run(self, deadline: int | None, *, ending: bool = False, stoppable: bool = False) -> None:
        """Show what happens until the deadline, or (ending) until no process is watched any longer."""
        now_ns, views, outs = self._now, self._views, {view.out for view in self._views}
        check = 0
        while True:
            now = now_ns()
            for view in views:
                if view.due <= now:
                    view.on_time(now, self._processes)
            for out in outs:
                out.flush()
            if check <= now:
                check = now + _CHECK_NS
                for out in outs:
                    out.check()
            if stoppable:
                self._command.stop()
            until = min(check, *(view.due for view in views))
            events = self._watcher._take(until if deadline is None else min(until, deadline), ending)
            self._update_offset()
            if events:
                for event in self._threads.convert(events) if self._threads else events:
                    if not self._found or event.pid not in self._found or not self._found_again(event):
                        self._show(event)
                if self._processes.command_exit:
                    self.close()
            elif events is None or (deadline is not None and now_ns() >= deadline):
                return

    def _show(self, event: Any) -> None:
        info = self._processes.update(event)
        if event.what != _COMM or self._comms:
            for view in self._views:
                view.on_event(event, info, self._processes)

    def _found_again(self, event: Any) -> bool:
        """Whether it is the Fork of a process that has been found already."""
        if event.what in (_FORK, _EXIT) and event.tid == event.pid:
            self._found.discard(event.pid)
            return bool(event.what == _FORK and event.cpu != _REBUILT)
        return False

def _watch_live(args: Any, views: list[_View], command: _Command) -> int:
    """Show what happens until it is over, or a signal ends it."""
    with Watcher(threads=args.threads) as watcher:
        exact = watcher.source == "ebpf"
        now, named = watcher._subscription.now, bool(args.pid or args.command)
        watcher._ends, watcher._delay = args.threads, _GATHER if exact else 0.0
        # The kernel says all that a line of an Exec shows, so of all the machine no forks and exits are needed.
        alone = args.events == _EXEC and exact and not (named or args.tree or args.stats or args.trace)
        with open("/proc/sys/kernel/random/boot_id") as file:
            processes = _Processes(os.uname().nodename, file.read().strip(), look=True, threads=args.threads,
                                   children=(args.follow or not named) and not alone)
        deadline, mask = watcher._deadline(args.duration), args.events | (0 if alone else _LIFE | _COMM)
        there: Iterator[Any] = iter(())
        if args.command:
            status = command.start(watcher, processes, mask, args.follow)
            if status:
                return status
        else:
            if not named and sys.stderr and sys.stderr.isatty():
                print(f"{_PROG}: no PID and no COMMAND: watching every process on this machine", file=sys.stderr)
            for pid in args.pid or [None]:
                try:
                    watcher.watch(pid, mask, follow=args.follow)
                except OSError as error:
                    if pid is None:
                        raise
                    _complain(error)
            if args.pid and not watcher.pids:
                return 1
            if args.pid:
                there = _there(watcher, [*(pid for pid in args.pid if pid in watcher.pids), *watcher.pids])
            elif not alone:
                for event in _there(watcher, _pids(), execs=False):
                    processes.update(event)
        failed = 0
        live = _Live(watcher, processes, views, command, bool(args.events & _COMM))
        try:
            command.watcher = watcher
            try:
                live.begin(there)
                live.run(deadline, ending=named, stoppable=True)
            except (KeyboardInterrupt, SystemExit):
                command.watcher = None
                live.run(now())  # what has happened by now
                _end(views, now())
                if not command.process:
                    raise
            else:
                _end(views, now())
        except OSError as error:
            if not command.process:
                raise
            if not isinstance(error, BrokenPipeError):
                _complain(error)
                failed = 1
        finally:
            command.watcher = None
            live.close()
    # Whatever became of the views: the command goes on, and its status is ours.
    return command.status() or failed if command.process else 0

def _end(views: list[_View], now: int) -> None:
    for view in views:
        view.end(now)
        view.out.flush()

def _wait_for(args: Any) -> int:
    """--wait: the status of the last that failed, or 0."""
    status = 0
    with contextlib.ExitStack() as stack:
        waitings: list[tuple[int, _Waiting]] = []
        for pid in args.pid:
            try:
                waitings.append((pid, stack.enter_context(_Waiting(pid, args.duration))))
            except OSError as error:
                _complain(error)
                status = 1
        while waitings:
            for pid, waiting in [pair for pair in waitings if pair[1].over()]:
                waitings.remove((pid, waiting))
                code = waiting.returncode
                if code is None:
                    _complain(OSError(errno.ESRCH, f"process {pid} has ended; its exit status is unknown"))
                elif args.verbose:
                    with contextlib.suppress(BrokenPipeError):
                        print(pid, _exit_text(code << 8 if code >= 0 else -code), flush=True)
                if code != 0:
                    status = 1 if code is None else code if code > 0 else 128 - code
            woken = select.poll()
            for _, waiting in waitings:
                woken.register(waiting.fileno(), select.POLLIN)
            if waitings:
                woken.poll(min(waiting.rest() for _, waiting in waitings) * 1000)
    return status

def _parser() -> Any:
    """The options. A wrong one ends the program with one line and status 2."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            self.exit(2, f"{_PROG}: {message} (-h has help)\n")

    def pid(text: str) -> int:
        if not text.isdecimal() or not int(text):
            raise argparse.ArgumentTypeError(f"a PID is a number from 1, not {text!r}; a command stands behind --")
        return int(text)

    def events(text: str) -> int:
        words = [word.strip() for word in text.upper().split(",")]
        unknown = [word.lower() for word in words if word not in (*kinds, "ALL")]
        if unknown:
            raise argparse.ArgumentTypeError(f"no event {unknown[0]!r}; there are {', '.join(kinds).lower()}, all")
        mask = 0
        for word in words:
            mask |= What[word]
        return mask

    def seconds(text: str) -> float:
        number = float(text)
        if not number >= 0:
            raise ValueError
        return number

    kinds = [*(kind.__name__.upper() for kind in _EVENTS.values()), "NONZERO_EXIT"]
    parser = Parser(
        prog=_PROG, usage=f"{_PROG} [options] [PID ...]\n       {_PROG} [options] -- COMMAND [ARG ...]",
        description="Reports process starts, execs and exits, live from the Linux kernel: of a command and all that\n"
        "it starts, of processes and their descendants, or of the whole machine.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pid", nargs="*", type=pid, metavar="PID", help="these processes, until the last has ended (default: all)")
    add("--tree", action="store_true", help="at the end, draw the tree of processes and when each ran")
    add("--stats", action="store_true", help="at the end, count starts, failures and times by program")
    add("--trace", metavar="FILE", help="write a trace for ui.perfetto.dev, chrome://tracing or speedscope")
    add("-j", "--json", action="store_true", help="one JSON object a line")
    add("--load", metavar="FILE", help="show what -j has recorded (-: standard input), instead of what happens now")
    add("--wait", action="store_true", help="print nothing, and end with PID's exit status; of several, the last not 0")
    add("-v", "--verbose", action="store_true", help="with --wait: print how each process ends")
    add("-e", "--events", type=events, action="append", metavar="KIND,...",
        help=f"of {', '.join(kinds).lower()}, all (default: exec, exit, and a fork that no exec follows)")
    add("-t", "--threads", action="store_true", help="report the start and end of every thread")
    add("--no-follow", dest="follow", action="store_false", help="leave out the descendants")
    add("-d", "--duration", type=seconds, metavar="SECONDS", help="end after so long")
    add("-o", "--output", metavar="FILE",
        help="write there, not to standard output (with COMMAND: standard error)")
    add("--all", action="store_true", help="with --tree and --stats: show every row")
    add("-V", "--version", action="version", version=f"cnproc {__version__}")
    return parser

def _arguments(argv: list[str]) -> Any:
    """The arguments, checked; what excludes what is a wrong option, too."""
    parser = _parser()
    cut = (*argv, "--").index("--")
    args = parser.parse_args(argv[:cut])
    args.command = argv[cut + 1:]
    if cut < len(argv) and not args.command:
        parser.error("there is no command behind --")
    for one, other, what in (
        (args.command, args.pid, "a command and PIDs"), (args.load, args.pid, "--load and PIDs"),
        (args.load, args.command, "--load and a command"), (args.wait, args.command, "--wait and a command"),
        (args.wait, args.load or args.tree or args.stats or args.trace or args.json, "--wait and other output"),
    ):
        if one and other:
            parser.error(f"{what} exclude each other")
    files = [os.path.realpath(name) for name in (args.load, args.output, args.trace) if name and name != "-"]
    if len({*files}) < len(files):
        parser.error("--load, -o and --trace take different files")
    if args.wait and not args.pid:
        parser.error("--wait takes a PID")
    masks, args.events = args.events, 0
    for mask in masks or ():
        args.events |= mask
    return args

def _views(args: Any, stack: contextlib.ExitStack) -> list[_View]:
    """The views that are asked for, each with its file."""
    import io

    standard: Any = sys.stderr if args.command else sys.stdout
    if standard is None and not args.output:
        raise OSError(errno.EBADF, f"standard {'error' if args.command else 'output'} is closed")

    def create(path: str) -> _Out:
        if path == "-" and sys.stdout:
            return _Out(sys.stdout)
        file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

        @stack.callback
        def close() -> None:
            with contextlib.suppress(OSError):  # of what could not be written, which flush() has said
                file.close()

        return _Out(file)

    if isinstance(standard, io.TextIOWrapper):
        standard.reconfigure(errors="backslashreplace")
    given = create(args.output) if args.output else None
    summary = _Out(standard) if args.json and standard else given or _Out(standard)  # -o has the lines, if any
    views: list[_View] = []
    if args.json:
        views.append(_Json(given or _Out(standard), args))
    if args.trace:
        views.append(_Trace(create(args.trace), args))
    if args.tree:
        views.append(_Tree(summary, args))
    if args.stats:
        views.append(_Stats(summary, args))
    return views or [_Lines(summary, args)]

def _complain(error: OSError) -> None:
    with contextlib.suppress(OSError):  # of a standard error that nobody reads
        if not sys.stderr:  # print() would take standard output
            return
        name = f"{error.filename}: " if error.filename else ""
        print(f"{_PROG}: {name}{error.strerror or error}", file=sys.stderr)

def main(argv: list[str] | None = None) -> int:
    """The command: `python3 cnproc.py`. argv: its arguments, without its name; by default those of sys.argv.
    Returns the exit status. While it runs it handles SIGTERM, SIGHUP and SIGINT, unless they are ignored: it
    unsubscribes before it ends.
    """
    import signal

    handlers: dict[int, Any] = {}
    try:
        args = _arguments(sys.argv[1:] if argv is None else argv)
        command = _Command(args.command)
        if threading.current_thread() is threading.main_thread():
            for name in "SIGTERM", "SIGHUP", "SIGINT", *(["SIGQUIT"] if args.command else []):
                number = getattr(signal, name)
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    handlers[number] = signal.signal(number, command.on_signal)
        if args.wait:
            try:
                return _wait_for(args)
            except TimeoutError as error:
                _complain(error)
                return 124  # as timeout(1)
        with contextlib.ExitStack() as stack:
            try:
                # What is read is opened before what is written, so that a mistake destroys nothing.
                file = stack.enter_context(open(0 if args.load == "-" else args.load, "rb", buffering=0,
                                                closefd=args.load != "-")) if args.load else None
                views = _views(args, stack)
            except OSError as error:
                _complain(error)
                return 2
            return _load(args, views, file) if args.load else _watch_live(args, views, command)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except SystemExit as end:
        return int(end.code or 0)
    except OSError as error:
        _complain(error)
        return 1
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # else it was set by C
                signal.signal(number, handler)
        for stream in sys.stdout, sys.stderr:
            try:
                if stream:
                    stream.flush()
            except OSError:  # the interpreter tries once more at its end, and would complain
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)

globals().pop("__annotations__", None)  # of private names: help() would show them

if __name__ == "__main__":
    os._exit(main())  # main() has closed and flushed all; the interpreter would take 5 ms more to clean up
