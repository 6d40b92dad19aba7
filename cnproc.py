#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Report every process start, exec and exit on Linux, live from the kernel's process connector.

    python3 cnproc.py --why make           # what made a command fail
    python3 cnproc.py --tree make -j2      # what it ran, and what took the time and the memory
    status = cnproc.wait(pid)              # wait for any process, not only for a child
    for event in cnproc.watch(pid): ...    # what a process and its descendants do, as it happens

One file, standard library only, no compiler: copy it into your project. wait() works everywhere on Linux 6.15.
A command can be traced anywhere: run(..., source="ptrace"). Everything else needs the initial PID, user and network
namespaces, and before Linux 6.6 CAP_NET_ADMIN.

`pid` is always a process and `tid` a thread, the words of ps, /proc and Python. The kernel's structs say tgid for
the first and pid for the second.
"""
# The file reads from the kernel to the user: kernel ABI, events, /proc and pidfd, subscription, kernel program,
# sources, table, watcher, functions, tree, command line. Each part uses only those above it. Nothing happens at import.
# What begins with _ belongs to this module, and not to one class of it:
# pyright: reportPrivateUsage=false
from __future__ import annotations

if __name__ == "__main__":  # until main() handles it, ctrl-C ends this without a traceback, unless it is ignored
    _early = __import__("_signal")  # signal itself takes milliseconds to import
    if _early.getsignal(_early.SIGINT) is _early.default_int_handler:
        _early.signal(_early.SIGINT, _early.SIG_DFL)
    __import__("gc").disable()  # until the watch begins: there is no garbage yet, and to look for some takes 2 ms

import _socket  # socket itself takes 2.5 ms to import
import collections
import contextlib
import ctypes
import enum
import errno
import functools
import io
import itertools
import mmap
import operator
import os
import select
import struct
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    import asyncio
    import marshal
    import resource
    import signal as _signal
    import subprocess
    from typing import Any, ClassVar, NamedTuple

__all__ = [
    "Comm", "Coredump", "Event", "Exec", "Exit", "Fork", "Gid", "Lost", "ProcEvent", "Process", "Program", "Ptrace",
    "Sid", "Tree", "Uid", "Watcher", "What", "cmdline", "main", "run", "wait", "wait_async", "watch", "watch_async",
]
__version__ = "3.4.4"

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
_PF_EXITING, _PF_FORKNOEXEC, _SIGNAL_GROUP_EXIT = 0x04, 0x40, 4

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

# linux/exportfs.h, linux/fcntl.h
_FILEID_KERNFS = 254

class _file_handle(ctypes.Structure):
    """What open_by_handle_at(2) opens: a directory of kernfs, by its id."""
    _fields_ = [
        ("handle_bytes", ctypes.c_uint),    # unsigned int handle_bytes: of f_handle
        ("handle_type", ctypes.c_int),      # int handle_type
        ("id", _u64),                       # unsigned char f_handle[]: kernfs_node.id
    ]

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info)
_PIDFD_GET_INFO, _PIDFD_INFO_CGROUPID, _PIDFD_INFO_EXIT = 0xC040FF0B, 1 << 2, 1 << 3
_PIDFD_THREAD = os.O_EXCL if hasattr(os, "O_EXCL") else 0o200

class _pidfd_info(ctypes.Structure):
    """What PIDFD_GET_INFO answers, in the 64 bytes of its first version (Linux 6.13)."""
    _fields_ = [
        ("mask", _u64),         # __u64 mask: what is asked for; what is answered
        ("cgroupid", _u64),     # __u64 cgroupid
        ("ids", _u32 * 11),     # __u32 pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid
        ("exit_code", _s32),    # __s32 exit_code: a wait status, once the process has been reaped (Linux 6.15)
    ]

# linux/ptrace.h, linux/wait.h, linux/prctl.h
_PTRACE_CONT, _PTRACE_DETACH, _PTRACE_GETEVENTMSG = 7, 17, 0x4201
_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_LISTEN = 0x4206, 0x4207, 0x4208
_PTRACE_OPTIONS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4  # PTRACE_O_TRACEFORK, _TRACEVFORK, _TRACECLONE, _TRACEEXEC
_PTRACE_O_TRACEEXIT = 1 << 6
_PTRACE_EVENT_VFORK, _PTRACE_EVENT_CLONE, _PTRACE_EVENT_EXEC = 2, 3, 4  # PTRACE_EVENT_FORK is 1
_PTRACE_EVENT_EXIT, _PTRACE_EVENT_STOP = 6, 128
_PTRACE_WALL = 0x40000000  # __WALL: children of every kind
_PR_GET_DUMPABLE, _PR_SET_PTRACER = 3, 0x59616D61

@functools.lru_cache(maxsize=None)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

# -------------------------------------------------------------------------------------------------- events

if TYPE_CHECKING:
    from enum import EnumMeta as _FlagType

    from typing_extensions import dataclass_transform

    class _EventType(type): ...

    @dataclass_transform(eq_default=False)
    class _Event:
        """For type checkers: an event's annotations are what its constructor takes, and it has nothing else."""

        _extra: ClassVar[tuple[str, ...]]

        def __bytes__(self) -> bytes: ...

    class _ProcessEnd(NamedTuple):
        what: int
        pid: int
        timestamp_ns: int

    class _Options(NamedTuple):
        program: str
        value: str
        attached: str
        long: tuple[str, ...]

    class _Stat(NamedTuple):
        state: str
        ppid: int
        flags: int
        threads: int
        start_ns: int
        age_ns: int
        exit_code: int
else:
    def _short_dir(base):
        """A metaclass for such classes. help() and completion show what dir() has: here what a class adds itself."""
        class Short(type(base)):
            def __dir__(cls):
                names = {*vars(cls), *getattr(cls, "__members__", ())} - {*_names(cls)}
                return sorted(name for name in names if not name.startswith("_"))

        return Short

    _EventType, _FlagType = map(_short_dir, (ctypes.Structure, enum.IntFlag))
    _Event = ctypes.Structure
    Any = object  # for typing.get_type_hints(); to import typing takes 5 ms
    _Options = collections.namedtuple("_Options", ("program", "value", "attached", "long"))  # of an interpreter
    # With threads=True a source puts it behind the last Exit of a process. It is never reported.
    _ProcessEnd = collections.namedtuple("_ProcessEnd", ("what", "pid", "timestamp_ns"))
    # Fields of /proc/PID/stat (proc_pid_stat(5)). start_ns: on CLOCK_MONOTONIC, cut to a tick; too early if the machine
    # has been suspended since. age_ns: how long ago that is, with the time that it was suspended.
    _Stat = collections.namedtuple("_Stat", ("state", "ppid", "flags", "threads", "start_ns", "age_ns", "exit_code"))

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

    what: int = 0
    cpu: int = 0
    timestamp_ns: int = 0
    _fields_ = [
        ("what", _u32),          # __u32 what
        ("cpu", _u32),           # __u32 cpu
        ("timestamp_ns", _u64),  # __u64 __attribute__((aligned(8))) timestamp_ns
    ]
    if not TYPE_CHECKING:
        _extra = ()  # names of values that the kernel's struct has not. None: nobody knows it

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
        fields: dict[str, Any] = {name: getattr(self, name) for name in _names(kind)[3:]}
        fields = {name: None if value == 0 and name.startswith("parent_") else value for name, value in fields.items()}
        shown = {"event": type(self).__name__.lower(), "timestamp_ns": self.timestamp_ns,
                 "pid": fields.pop("pid", None), "tid": fields.pop("tid", None), **fields}
        if isinstance(self, Exec):
            paths = {name: fields[name] and _encoded(fields[name]) for name in ("cgroup", "exe", "cwd")}
            shown.update(paths, cmdline=_all_encoded(self.cmdline), truncated=self.truncated)
        elif isinstance(self, Lost):
            shown.update(count=self.count)
        elif isinstance(self, Comm):
            shown.update(comm=_encoded(self.comm))
        elif isinstance(self, Exit):
            code = self.returncode
            shown.update(exit_code=None if code is None else self.exit_code, returncode=code,
                         signal=None if code is None else _signal_name(-code) if code < 0 else "")
        return {**shown, "rebuilt": self.rebuilt}

    def __repr__(self) -> str:
        kind: Any = type(self)
        values = {name: repr(getattr(self, name)) for name in _names(kind)}
        for name, value in zip(kind._extra, self._values()):
            if value is None:
                del values[name]
        if self.what in _EVENTS or not self.what:
            values["what"] = f"What.{What(self.what).name}"
        if isinstance(self, Exit):
            values["returncode"] = repr(self.returncode)
        return f"{type(self).__name__}({', '.join(map('='.join, values.items()))})"

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, ProcEvent) and type(self) is type(other)
                and self._kernel_bytes() == other._kernel_bytes() and self._values() == other._values())

    def __hash__(self) -> int:
        return hash(self._kernel_bytes())

    def _kernel_bytes(self) -> bytes:
        """The kernel's struct."""
        return bytes(self)[:_EVENT_SIZE]

    def _values(self) -> list[Any]:
        """The values of _extra."""
        return [getattr(self, name) for name in self._extra]

@functools.lru_cache(maxsize=None)
def _names(kind: type) -> list[str]:
    """The names of an event's values, those that it inherits first."""
    names = [name.strip("_") for part in reversed(kind.__mro__) for name, *_ in vars(part).get("_fields_", ())
             if name != "_cost_"]
    return [*names, *(["cmdline"] if kind is Exec else []), *getattr(kind, "_extra", ())]

class Fork(ProcEvent):
    """A process was forked. With threads=True: or a thread was created; the parent is then that of its process.

    pid, tid                  the new process; with threads=True the new thread
    parent_pid, parent_tid    who forked it
    """

    parent_tid: int = 0
    parent_pid: int = 0
    tid: int = 0
    pid: int = 0
    _fields_ = [
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
        ("tid", _s32),           # __kernel_pid_t child_pid
        ("pid", _s32),           # __kernel_pid_t child_tgid
    ]

_COMM_FIELD: Any = ("_comm_", ctypes.c_char * 16)
# All other kinds begin with __kernel_pid_t process_pid, process_tgid.
_TASK: list[Any] = [("tid", _s32), ("pid", _s32)]
_UNKNOWN: Any = None

class Exec(ProcEvent):
    """A process runs another program.

    pid, tid      the process
    cmdline       its command line at the moment of the exec, as os.fsdecode has it; None if it could not be read
    truncated     whether cmdline lacks its end: it has over 16 KiB, and the process was gone before /proc could be read
    parent_pid    its parent
    ruid, euid    the real and the effective user id that it has now
    cgroup        its cgroup, as the line 0:: of /proc/PID/cgroup has it; None if that was gone when the event was read
    exe, cwd      with Watcher(paths=True): the program's file, and the working directory, from the root of the mount
                  namespace; of what has been deleted, where it was. None of a memfd, of a path of over 62 names and
                  mounts, and if both together have over 7,900 bytes
    With source "netlink", cmdline of a process that is a zombie already is its name in brackets, as in ps: ["[mkdir]"].
    cgroup, exe and cwd are those of when the event was read, and parent_pid is known if it is still who forked it.
    The values after `truncated` are None where nobody knows them.
    """

    tid: int = 0
    pid: int = 0
    _fields_ = _TASK
    _words = _UNKNOWN       # bytes: the arguments, each with a NUL behind it; written by the source that made the event
    _length = 0             # bytes that the kernel has of them
    _comm = _UNKNOWN        # the kernel's name of it, where the first argument is empty; no part of the value
    _extra = "parent_pid", "ruid", "euid", "cgroup", "exe", "cwd"
    _more = (_UNKNOWN,) * 6  # their values
    if TYPE_CHECKING:
        cmdline: list[str] | None = None
        parent_pid: int | None = None
        ruid: int | None = None
        euid: int | None = None
        cgroup: str | None = None
        exe: str | None = None
        cwd: str | None = None
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

    def _values(self) -> list[Any]:
        return [*self._more]

class _ExecValue:
    """One of Exec._extra."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __get__(self, event: Any, _: object = None) -> Any:
        return self if event is None else event._more[self._number]

    def __set__(self, event: Any, value: Any) -> None:
        event._more = *event._more[:self._number], value, *event._more[self._number + 1:]

class Uid(ProcEvent):
    """A thread's user ids have changed.

    pid, tid      the process and its thread
    ruid, euid    the real and the effective user id that it has now
    """

    tid: int = 0
    pid: int = 0
    ruid: int = 0
    euid: int = 0
    _fields_ = [*_TASK, ("ruid", _u32), ("euid", _u32)]  # union { __u32 ruid; } r; union { __u32 euid; } e

class Gid(ProcEvent):
    """A thread's group ids have changed.

    pid, tid      the process and its thread
    rgid, egid    the real and the effective group id that it has now
    """

    tid: int = 0
    pid: int = 0
    rgid: int = 0
    egid: int = 0
    _fields_ = [*_TASK, ("rgid", _u32), ("egid", _u32)]  # union { __u32 rgid; } r; union { __u32 egid; } e

class Sid(ProcEvent):
    """A process, pid and tid, leads a new session: setsid(2)."""

    tid: int = 0
    pid: int = 0
    _fields_ = _TASK

class Ptrace(ProcEvent):
    """A thread is traced from now on, or no longer. PTRACE_TRACEME makes no event.

    pid, tid                  the process and its thread
    tracer_pid, tracer_tid    who traces it; 0 if it is traced no longer
    """

    tid: int = 0
    pid: int = 0
    tracer_tid: int = 0
    tracer_pid: int = 0
    _fields_ = [
        *_TASK,
        ("tracer_tid", _s32),    # __kernel_pid_t tracer_pid
        ("tracer_pid", _s32),    # __kernel_pid_t tracer_tgid
    ]

class Comm(ProcEvent):
    """A thread took a name: prctl(PR_SET_NAME), or a write to its /proc/PID/comm. An exec makes no Comm.

    pid, tid    the process and its thread
    comm        the name, as os.fsdecode has it. The kernel keeps 15 bytes, and may cut a letter
    A Watcher that hears nothing for 3 s takes the name that it has: so it finds out whether it hears. Others see that.
    """

    tid: int = 0
    pid: int = 0
    _fields_ = [*_TASK, _COMM_FIELD]  # char comm[16]
    if TYPE_CHECKING:
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

    tid: int = 0
    pid: int = 0
    parent_tid: int = 0
    parent_pid: int = 0
    _fields_ = [
        *_TASK,
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
    ]

class _exit_cost(ctypes.Structure):
    """What the eBPF program adds to an EXIT. Not the kernel's."""
    _fields_ = [
        ("known", _u32),           # which of the others count, by bits: the first is 1
        ("max_rss_exact", _u32),
        ("max_rss", _u64),
        ("cpu_ns", _u64),
        ("read_bytes", _u64),
        ("write_bytes", _u64),
        ("major_faults", _u64),
        ("start_ns", _u64),
    ]

_COST_FIELD: Any = ("_cost_", _exit_cost)
_COSTS = struct.Struct("=II6Q").unpack_from  # an _exit_cost
_COST_BITS = 4, 2, 1, 8, 16, 32, 64  # of `known`, in the order of Exit._extra; _KNOWS_CPU and so on
_ALL_COSTS = sum(_COST_BITS)

class _ExitValue:
    """One of Exit._extra."""

    def __init__(self, name: str) -> None:
        self._name, self._kind = name, bool if name == "max_rss_exact" else int
        self._bit = 1 << [field for field, *_ in _exit_cost._fields_].index(name) - 1

    def __get__(self, event: Any, _: object = None) -> Any:
        if event is None:
            return self
        cost = event._cost_
        return self._kind(getattr(cost, self._name)) if cost.known & self._bit else None

    def __set__(self, event: Any, value: int | None) -> None:
        cost = event._cost_
        setattr(cost, self._name, value or 0)
        cost.known = cost.known & ~self._bit if value is None else cost.known | self._bit

class Exit(ProcEvent):
    """A process has ended: its last thread has. Its files are closed, and its parent has been notified.

    pid, tid                  the process. With threads=True: a thread has ended, with its own exit_code
    exit_code                 the status of wait(2); -1 if nobody can know it any more
    returncode                the exit status, or -N for death by signal N, as subprocess has it; None for -1
    exit_signal               what the parent was sent: SIGCHLD as a rule; 0xffffffff for a thread
    parent_pid, parent_tid    its parent; often 0: the kernel does not always know it any longer
    What the process cost, without its children. A value is None where nobody knows it. With source "netlink" only these
    are known: start_ns if its fork was watched; cpu_ns and major_faults of a zombie that never had a second thread.
    With source "ptrace" these: start_ns and cpu_ns; with usage=True all.
    cpu_ns                    CPU time of all its threads, user and system together, in ns; the last 0.2 ms may be
                              missing. None of threads that are traced
    max_rss                   the most memory that it had resident, in bytes, as ru_maxrss has it: pages that it shares
                              count, too, and Linux 6.2 and newer count in steps of 128 KiB. None for a process that ran
                              in its parent's memory: by vfork(), without an exec
    max_rss_exact             whether that is the figure of the program that it ran last, as on Linux 6.16 and newer
                              and with "ptrace". If False, it had no more than that: an earlier program, as the parent's
                              before the exec, had so much
    read_bytes, write_bytes   what it had read from storage, and what it has changed in files that go there, in bytes.
                              None for a process that was there before the watch, or before a second one
    major_faults              page faults that had to wait for storage
    start_ns                  when it was forked: CLOCK_MONOTONIC, in ns
    With threads=True they are those of the thread, and max_rss is None.
    """

    tid: int = 0
    pid: int = 0
    exit_code: int = 0
    exit_signal: int = 0
    parent_tid: int = 0
    parent_pid: int = 0
    _fields_ = [
        *_TASK,
        ("exit_code", _s32),     # __u32 exit_code; an int in wait(2), and so here
        ("exit_signal", _u32),   # __u32 exit_signal
        ("parent_tid", _s32),    # __kernel_pid_t parent_pid (since 4.18)
        ("parent_pid", _s32),    # __kernel_pid_t parent_tgid
        _COST_FIELD,             # behind the kernel's struct
    ]
    _comm = _UNKNOWN             # the kernel's name of a process that a signal killed; no part of the value
    _extra = "cpu_ns", "max_rss", "max_rss_exact", "read_bytes", "write_bytes", "major_faults", "start_ns"
    if TYPE_CHECKING:
        returncode: int | None = None
        cpu_ns: int | None = None
        max_rss: int | None = None
        max_rss_exact: bool | None = None
        read_bytes: int | None = None
        write_bytes: int | None = None
        major_faults: int | None = None
        start_ns: int | None = None
    else:
        def _values(self):
            known, exact, rss, cpu_ns, *others = _COSTS(self, _EVENT_SIZE)
            values = [cpu_ns, rss, exact > 0, *others]
            if known == _ALL_COSTS:
                return values
            return [value if known & bit else None for value, bit in zip(values, _COST_BITS)]

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
    r"""The text with \xff for a byte that is no UTF-8, for people."""
    return text if text.isascii() else os.fsencode(text).decode(errors="backslashreplace")

@functools.lru_cache(maxsize=None)
def _patterns() -> tuple[Any, Any]:
    """The backslashes that _encoded() escapes, and what _decoded() takes back."""
    import re

    byte = "x[89a-f][0-9a-f]"  # as _text() writes it, behind the backslash
    return re.compile(rf"\\(?=(?:x5c)*{byte})"), re.compile(rf"\\(x5c(?=(?:x5c)*{byte})|{byte})")

def _encoded(text: str) -> str:
    r"""The text for JSON: many readers refuse a lone surrogate. A byte that is no UTF-8 is \xff. Where the text itself
    has these four characters, its backslash is \x5c, so that _decoded() can tell.
    """
    return _text(_patterns()[0].sub(r"\\x5c", text) if "\\x" in text else text)

def _decoded(text: str) -> str:
    """What _encoded() has made of this."""
    return text if "\\x" not in text else "".join(
        part if i % 2 == 0 else "\\" if part == "x5c" else chr(0xDC00 + int(part[1:], 16))
        for i, part in enumerate(_patterns()[1].split(text)))

def _all_encoded(words: list[str] | None) -> list[str] | None:
    return None if words is None else [_encoded(word) for word in words]

class _Ack(ctypes.Structure):
    _fields_ = [*ProcEvent._fields_, ("err", _u32)]  # struct { __u32 err; } ack, with what 0

class Lost(ProcEvent):
    """The kernel dropped events here, because they were read too slowly.

    pid, tid        0
    count           how many; None if nobody knows. Forks and exits that nobody asked for can be among them
    timestamp_ns    when that was noticed
    """

    tid: int = 0
    pid: int = 0
    _fields_ = [*_TASK, ("_count_", ctypes.c_int64)]
    if TYPE_CHECKING:
        count: int | None = None
    else:
        @property
        def count(self):
            """How many; None if nobody knows."""
            return None if self._count_ < 0 else self._count_

        @count.setter
        def count(self, number):
            self._count_ = -1 if number is None else number

def _lost_event(count: int | None, timestamp_ns: int) -> Lost:
    return Lost(timestamp_ns=timestamp_ns, count=count)

# Any of the events, for annotations: what watch() yields.
if TYPE_CHECKING or sys.version_info < (3, 10):
    from typing import Union

    Event = Union[Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit, Lost]
else:
    Event = Fork | Exec | Uid | Gid | Sid | Ptrace | Comm | Coredump | Exit | Lost

def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]

_FORK, _EXEC, _UID, _COMM, _EXIT, _NONZERO_EXIT, _LIFE = map(int, (
    What.FORK, What.EXEC, What.UID, What.COMM, What.EXIT, What.NONZERO_EXIT, What.LIFE))
_ANY_EXIT = _EXIT | _NONZERO_EXIT
_PROCESS_END = 1 << 32  # the `what` of a _ProcessEnd, which no mask asks for
_EXIT_CLASS: Any = Exit
_EVENT_SIZE = _EXIT_CLASS._cost_.offset  # of the kernel's struct: Exit's is the longest
_EVENTS: dict[int, Any] = {
    int(What[kind.__name__.upper()]): kind for kind in (Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit)}
for _kind in (ProcEvent, *_EVENTS.values(), Lost):  # as in a dataclass, and so type checkers know it
    _arguments_of = [name for name in _names(_kind) if name not in _kind._extra]
    setattr(_kind, "__match_args__", (  # noqa: B010
        *_arguments_of, *(["returncode"] if _kind is Exit else []), *_kind._extra))
    for _number, _extra_name in enumerate(_kind._extra):
        setattr(_kind, _extra_name, _ExecValue(_number) if _kind is Exec else _ExitValue(_extra_name))

_COPIES = {what: kind.from_buffer_copy for what, kind in _EVENTS.items()}

# Where the parts of a datagram lie, and how long it is with one event.
_CN_MSG = ctypes.sizeof(_nlmsghdr)
_PROC_EVENT = _CN_MSG + ctypes.sizeof(_cn_msg)
_SIZE = _PROC_EVENT + _EVENT_SIZE

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
            if kind and size >= min(ctypes.sizeof(kind), _EVENT_SIZE):
                event = buffer[start + _PROC_EVENT:start + _PROC_EVENT + size]
                yield kind.from_buffer_copy(event[:_EVENT_SIZE].ljust(ctypes.sizeof(kind), b"\0"))
        start += nl.nlmsg_len + 3 & ~3  # NLMSG_ALIGN

# ----------------------------------------------------------------------------------------- /proc and pidfd

_TICK = 1_000_000_000 // 100  # USER_HZ is 100 wherever the connector is

def _contents(path: str, most: int) -> bytes:
    """What one read(2) of a file of /proc gives. In three system calls: open() and io.FileIO take more."""
    opened: list[int] = []
    try:
        opened.extend(map(os.open, (path,), (os.O_RDONLY,)))  # in one step, which no ctrl-C interrupts
        return os.read(opened[0], most)
    finally:
        if opened:
            os.close(opened[0])

def _stat_fields(pid: int | str) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on; None if it is gone, or hidden (hidepid). Or of "PID/task/TID"."""
    try:
        return _contents(f"/proc/{pid}/stat", 4096).rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None

def _stat(pid: int) -> _Stat | None:
    """What /proc says of a process; None if it is gone, or hidden (hidepid)."""
    fields = _stat_fields(pid)
    return _stat_of(fields) if fields else None

def _stat_of(fields: list[bytes]) -> _Stat:
    """What these fields of /proc/PID/stat say."""
    now, since_boot = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    age = since_boot - int(fields[19]) * _TICK
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[6]), int(fields[17]), now - age, age, int(fields[49]))

def _went_on(before: list[bytes], now: list[bytes] | None) -> bool:
    """Whether a process has run since, sleeps or has ended, by its /proc/PID/stat: its exec has been reported.

    The kernel counts page faults at once. A process has many of them after an exec, and few before its report. CPU time
    is shown in ticks: one can end in the exec, two cannot.
    """
    return (not now or now[0] in b"SZX" or int(now[7]) > int(before[7]) + 4
            or int(now[11]) + int(now[12]) > int(before[11]) + int(before[12]) + 1)

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

def _proc_ids(pid: int) -> tuple[int | None, int | None, int | None, str | None]:
    """Exec's parent_pid, ruid, euid and cgroup of a process as it is now; None for each that cannot be read."""
    try:
        text = _contents(f"/proc/{pid}/status", 1 << 14)
    except OSError:
        return None, None, None, _proc_cgroup(pid)
    ppid, = text.partition(b"\nPPid:\t")[2].split(None, 1)[:1]
    ruid, euid = text.partition(b"\nUid:\t")[2].split(None, 2)[:2]
    return int(ppid), int(ruid), int(euid), _proc_cgroup(pid)

def _pidfd_ids(pid: int, cgroups: dict[int, str]) -> tuple[int | None, int | None, int | None, str | None] | None:
    """As _proc_ids(), for a third of the CPU time: from Linux 6.13 on. cgroups: known paths, by their ids.

    Without the struct pidfd_info: _Tracer has functions only.
    """
    import fcntl

    info = memoryview(bytearray(64)).cast("Q")  # mask, cgroupid, and from byte 16 on the ids
    info[0] = _PIDFD_INFO_CGROUPID
    opened: list[int] = []
    try:
        try:
            opened.extend(map(os.pidfd_open, (pid,)))  # as in _contents()
            fcntl.ioctl(opened[0], _PIDFD_GET_INFO, info)
            cgroup = info[1]
            path = cgroups.get(cgroup)
            if path is None and info[0] & _PIDFD_INFO_CGROUPID:
                path = _proc_cgroup(pid)
                fcntl.ioctl(opened[0], _PIDFD_GET_INFO, info)
                if path and info[1] == cgroup:  # it has not been moved meanwhile
                    if len(cgroups) > 4096:
                        cgroups.clear()
                    cgroups[cgroup] = path
        finally:
            if opened:
                os.close(opened[0])
    except ProcessLookupError:
        return None, None, None, None
    except (AttributeError, OSError):  # the kernel is older
        return None
    ids = info.cast("B")[16:].cast("I")
    return ids[2], ids[3], ids[5], path

def _proc_cgroup(pid: int) -> str | None:
    """Its control group in the unified hierarchy: proc_pid_cgroup(5). None if that has been removed."""
    try:
        for line in _contents(f"/proc/{pid}/cgroup", 1 << 14).splitlines():
            if line.startswith(b"0::") and not line.endswith(b" (deleted)"):
                return os.fsdecode(line[3:])
    except OSError:
        pass
    return None

def _proc_link(pid: int, name: str) -> str | None:
    """Where exe or cwd of a process is, or was before it was deleted; None of a memfd, and of what we may not see."""
    link = f"/proc/{pid}/{name}"
    try:
        path = os.readlink(link)
    except OSError:
        return None
    if not path.endswith(" (deleted)"):
        return path
    try:
        if os.path.samestat(os.stat(link), os.stat(path)):
            return path  # it is called so
    except OSError:
        pass
    return None if path.startswith("/memfd:") else path.removesuffix(" (deleted)")

_SCARCE = errno.EMFILE, errno.ENFILE, errno.ENOMEM

@contextlib.contextmanager
def _put_off() -> Generator[None, None, None]:
    """For what is done again later: no harm if no descriptor or memory is free now."""
    try:
        yield
    except OSError as error:
        if error.errno not in _SCARCE:
            raise

def _has_own_proc() -> bool:
    """Whether /proc is mounted, and is that of this process's PID namespace: else its pids are those of others."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False

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
    if not _has_own_proc():
        return OSError(errno.ENOENT, f"nothing is known of process {pid}: /proc is not mounted, or is another PID "
                       "namespace's: unshare --mount-proc mounts it")
    if _hidden(pid):
        return OSError(errno.EPERM, f"process {pid} exists, but /proc hides it (hidepid): run as root or as its "
                       "owner, or mount /proc with hidepid=0")
    leader = _leader(pid)
    if leader is None:
        return OSError(errno.ESRCH, f"no process {pid}: it has ended, or never was")
    if leader != pid:
        return OSError(errno.ESRCH, f"{pid} is a thread of process {leader}: watch that")
    return OSError(errno.ESRCH, f"process {pid} has ended; it is a zombie until its parent waits for it")

def _check_pid(pid: int) -> int:
    """The pid as an int. Raises TypeError and ValueError for what cannot be one."""
    if isinstance(pid, (list, tuple, set, frozenset)):
        raise TypeError("pids are separate arguments: watch(1, 2), not watch([1, 2])")
    if isinstance(pid, (bool, What)) or not hasattr(pid, "__index__"):
        raise TypeError(f"a pid is a number, not {pid!r}")
    number = operator.index(pid)
    if number < 1:
        raise ValueError(f"a pid is 1 or more, not {number}")
    return number

def _check_events(events: int) -> int:
    """The mask as an int. Raises TypeError and ValueError for what cannot be one."""
    if isinstance(events, (str, bool)):
        name = str(events).upper() if str(events).upper() in What.__members__ else "EXEC"
        raise TypeError(f"events are of What: use What.{name}, not {events!r}")
    mask = operator.index(events)
    if not mask or mask & ~int(What.ALL):
        raise ValueError(f"events must be of What, and at least one of them, not {mask:#x}")
    return mask

def _read_cmdline(task: str) -> tuple[bytes, bool]:
    """The command line that a folder of /proc shows, and whether it is whole.

    One read(2) is one look at the process's memory. Several could begin before its end and go on behind it.
    """
    opened: list[int] = []
    try:
        opened.extend(map(os.open, (task + "/cmdline",), (os.O_RDONLY,)))  # as in _contents()
        size, words = 1 << 14, os.read(opened[0], 1 << 14)
        while len(words) == size:
            size *= 8
            again = os.pread(opened[0], size, 0)
            if len(again) < len(words):
                return words, False
            words = again
        return words, True
    finally:
        if opened:
            os.close(opened[0])

def _other_cmdline(pid: int) -> tuple[bytes, bool]:
    """The command line of a process whose first thread has ended: another thread still has it."""
    for tid, live in _tids(pid).items():
        if live and tid != pid:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words, whole = _read_cmdline(f"/proc/{pid}/task/{tid}")
                if words:
                    return words, whole
    return b"", True

def _live_cmdline(pid: int) -> tuple[bytes, bool]:
    """The raw command line of a process from /proc, and whether it is whole; empty for a kernel thread or a zombie."""
    words, whole = _read_cmdline(f"/proc/{pid}")
    return (words, whole) if words else _other_cmdline(pid)

def _bracketed(pid: int) -> bytes:
    """What ps shows of a process that has no command line: its name in brackets."""
    with open(f"/proc/{pid}/comm", "rb") as file:
        return b"[%s]\0" % file.read().rstrip(b"\n")

def _proc_cmdline(pid: int) -> tuple[bytes | None, bool]:
    """The raw command line, or else the name in brackets, and whether that is whole; None if it cannot be read."""
    try:
        words, whole = _live_cmdline(pid)
        return words or _bracketed(pid), whole
    except OSError:
        return None, True

def _title(words: bytes) -> bytes:
    """A raw command line without the NULs that pad a title: setproctitle(3) and its like write over the arguments."""
    title, _, rest = words.partition(b"\0")
    padded = not rest.strip(b"\0") and (len(rest) > 3 or (rest and (b" " in title or b":" in title)))
    return title + b"\0" if padded else words

def _raw_cmdline(pid: int) -> bytes | None:
    """What a process is called now, as _proc_cmdline() has it, or its title."""
    words, _ = _proc_cmdline(pid)
    return words and _title(words)

def _split(words: bytes | None) -> list[str] | None:
    """The arguments of a raw command line."""
    if words is None:
        return None
    return [os.fsdecode(word) for word in words.removesuffix(b"\0").split(b"\0")] if words else []

def cmdline(pid: int) -> list[str]:
    """The command line of a live process, from /proc/PID/cmdline, or its title; empty for a kernel thread or a zombie.

    Raises ProcessLookupError if there is no such process, PermissionError where /proc hides it (hidepid), and
    ValueError for a pid below 1.
    """
    pid = _check_pid(pid)
    if not _has_own_proc():
        raise _missing(pid)
    try:
        words, _ = _live_cmdline(pid)
    except FileNotFoundError:
        raise _missing(pid) from None
    return _split(_title(words)) or []

@functools.lru_cache(maxsize=None)
def _kernel() -> tuple[int, ...]:
    """The kernel's version: (6, 12)."""
    return tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2] if number.isdigit())

def _zombie_status(pid: int) -> int | None:
    """The wait status of a zombie, where /proc shows it: to root and its owner."""
    stat = _stat(pid)
    # Before 5.17 it is the leader's own, which is not the process's where the leader ended first. Likewise now and then
    # while the process is being reaped: no thread is counted any more (do_task_stat() in fs/proc/array.c).
    if not stat or not stat.threads or not _ended(pid, stat) or _kernel() < (5, 17):
        return None
    if stat.threads > 1:  # while others lived, it was that of the first thread
        stat = _stat(pid)
        if not stat or not stat.threads:
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

@functools.lru_cache(maxsize=None)  # of what it returns, not of what it raises
def _pidfd_has_status() -> bool:
    """Whether _reaped_status() works here. Raises OSError if that cannot be found out now.

    Only something that ends can show it: a thread that lives for 0.2 ms.
    """
    if not hasattr(os, "pidfd_open"):
        return False
    opened: list[int | OSError] = []

    def ask() -> None:
        try:
            opened.append(os.pidfd_open(threading.get_native_id(), _PIDFD_THREAD))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, "no thread can be started: see RLIMIT_NPROC, and pids.max of the control group"
                      ) from None
    thread.join()
    pidfd, = opened
    if isinstance(pidfd, OSError):
        if pidfd.errno in (errno.EINVAL, errno.ENOSYS):
            return False
        raise pidfd
    try:
        reaped = select.poll()
        reaped.register(pidfd, 0)  # POLLHUP
        if not reaped.poll(1000):
            raise OSError(errno.EAGAIN, "a thread has not ended within a second: this machine is very busy")
        return _reaped_status(pidfd) is not None
    finally:
        os.close(pidfd)

# -------------------------------------------------------------------------------------------- subscription

_OR_TRACE = '; or trace a command, by run(..., source="ptrace"), or on the command line by --ptrace'
_LISTENS = 8  # how often a subscription is tried; the waits for an answer double from 4 ms, to 1 s in all

def _foreign() -> list[str]:
    """Which of this process's namespaces are not the initial ones."""
    found: list[str] = []
    for name, initial in ("pid", _PROC_PID_INIT_INO), ("user", _PROC_USER_INIT_INO):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/self/ns/{name}").st_ino != initial:
                found.append(name)
    return found

def _has_connector() -> bool:
    """Whether the kernel was built with the process connector."""
    try:
        with open("/proc/net/connector") as file:
            return "cn_proc" in file.read()
    except OSError:
        return False

def _refusal(number: int) -> OSError:
    """Why the kernel refuses a subscription, and what to do about it. number: its errno, 0 if it did not answer."""
    foreign = _foreign() + ["network"] * (number == errno.ECONNREFUSED)
    if foreign and number in (0, errno.EPERM, errno.ECONNREFUSED):
        options = {"pid": "--pid=host", "user": "--userns=host", "network": "--network=host"}
        return OSError(number or errno.EPERM, f"the kernel reports process events in the initial {', '.join(foreign)} "
                       "namespace only: run on the host, or in its namespaces "
                       f"(docker run {' '.join(options[name] for name in foreign)}){_OR_TRACE}")
    if number == errno.EPERM:
        return OSError(number, "before Linux 6.6, process events require CAP_NET_ADMIN: run as root, or give the "
                       f"program the capability (AmbientCapabilities=CAP_NET_ADMIN in a systemd unit){_OR_TRACE}")
    if number == 0 and _has_connector():
        return OSError(errno.ETIMEDOUT, f"the kernel did not answer {_LISTENS} subscriptions to process events: other "
                       "programs have unsubscribed more often than they subscribed, so it counts no listener; "
                       "restart the machine")
    if number in (0, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return OSError(errno.EPROTONOSUPPORT, "this kernel does not report process events: use a Linux kernel with "
                       f"CONFIG_CONNECTOR and CONFIG_PROC_EVENTS{_OR_TRACE}")
    return OSError(number, f"cannot subscribe to process events: {os.strerror(number)}")

class _Subscription:
    """A socket that the kernel counts among the listeners of the process connector.

    The constructor returns when the kernel has acknowledged the subscription. It raises OSError with cause and remedy.

    The kernel answers and reports events only while it counts a listener. Since Linux 6.6 an ordinary user can bring
    the count below zero. A LISTEN on a fresh socket adds one. IGNORE takes it away, close() does not.
    """

    skew = 0          # ns by which our CLOCK_MONOTONIC is ahead of the kernel's: not 0 in a time namespace
    sock: Any = None  # set by _subscribe()

    def __init__(self, rcvbuf: int) -> None:
        self.rcvbuf = rcvbuf
        self._listening: list[Any] = []  # the sockets that have sent LISTEN, and no IGNORE since
        try:
            if not any(self._subscribe(4 << attempt) for attempt in range(1 if _foreign() else _LISTENS)):
                raise OSError(0, "")
            self.revived()
        except OSError as error:
            self.close()
            raise _refusal(error.errno or 0) from None
        except BaseException:
            self.close()
            raise

    def _subscribe(self, patience: int) -> bool:
        """Subscribe on a fresh socket; whether the kernel acknowledges it within so many milliseconds."""
        if not hasattr(_socket, "AF_NETLINK"):
            raise OSError(errno.EAFNOSUPPORT, "")
        self.sock = _socket.socket(_AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
        for option in _SO_RCVBUFFORCE, _socket.SO_RCVBUF:  # only the second is limited by net.core.rmem_max
            try:
                self.sock.setsockopt(_socket.SOL_SOCKET, option, self.rcvbuf)
                break
            except OSError:
                pass
        self.attach(_classic_filter(0))  # acks alone, so that no storm can crowd ours out
        self.sock.bind((0, _CN_IDX_PROC))
        token, before = int.from_bytes(os.urandom(4), "little"), time.monotonic_ns()
        self._ask(self.sock, _PROC_CN_MCAST_LISTEN, token)
        answer = select.poll()
        answer.register(self.sock, select.POLLIN)
        while answer.poll(patience):
            data, (sender, _) = self.sock.recvfrom(1024)
            if not sender and self._acknowledged(data, token, before):
                return True
        return False

    def _acknowledged(self, data: bytes, token: int, before: int) -> bool:
        """Whether this is the answer to our LISTEN. Acks are multicast: every listener receives every ack."""
        if len(data) != _SIZE:
            return False
        cn, ack = _cn_msg.from_buffer_copy(data, _CN_MSG), _Ack.from_buffer_copy(data, _PROC_EVENT)
        if ack.what or cn.ack != (token + 1) & 0xFFFFFFFF:
            return False
        if not before <= ack.timestamp_ns <= time.monotonic_ns():
            self.skew = before - ack.timestamp_ns  # rather too little: then drain() reads too much
        if ack.err:
            raise OSError(ack.err, "")
        return True

    def _ask(self, sock: Any, op: int, token: int = 0) -> None:
        """Send LISTEN or IGNORE. Its ack will carry token + 1."""
        size = ctypes.sizeof(_request)
        message = _request(_nlmsghdr(nlmsg_len=size, nlmsg_type=_NLMSG_DONE),
                           _cn_msg(idx=_CN_IDX_PROC, val=_CN_VAL_PROC, ack=token, len=size - _PROC_EVENT), op)
        if op == _PROC_CN_MCAST_LISTEN:
            self._listening = [*self._listening, sock]  # no call until the next line, in which a ctrl-C could come
        sock.send(message)

    def revive(self, attempt: int) -> float:
        """Raise the kernel's count of listeners by one; how many seconds to wait before the next attempt.

        Call it with attempt = 0, 1, 2... until an event is received, and then revived(). After _LISTENS attempts it
        lowers the count again and raises OSError.
        """
        if attempt >= _LISTENS:
            self._unlisten(1)
            raise _refusal(0)
        sock = _socket.socket(_AF_NETLINK, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, 0)  # nobody reads what it receives
        sock.bind((0, _CN_IDX_PROC))
        self._ask(sock, _PROC_CN_MCAST_LISTEN)
        return (4 << attempt) / 1000

    def revived(self) -> None:
        """Leave the kernel's count as it is. The attempts were needed, so nothing takes them back."""
        others, self._listening = self._listening, [self.sock]
        for sock in others:
            if sock is not self.sock:
                sock.close()

    def _unlisten(self, kept: int = 0) -> None:
        """Send the IGNOREs of all sockets but the first `kept`, and close these sockets."""
        while len(self._listening) > kept:
            *self._listening, sock = self._listening
            with contextlib.suppress(OSError):  # a network namespace that never let us subscribe
                self._ask(sock, _PROC_CN_MCAST_IGNORE)
            sock.close()

    def attach(self, program: list[tuple[int, ...]] | int) -> None:
        """Put a filter before the socket: classic BPF, or the descriptor of an eBPF program. Nothing is lost by it."""
        if isinstance(program, int):
            self.sock.setsockopt(_socket.SOL_SOCKET, _SO_ATTACH_BPF, program)
        else:
            code = (_sock_filter * len(program))(*(_sock_filter(*instruction) for instruction in program))
            self.sock.setsockopt(_socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_sock_fprog(len(program), code)))

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
        info = self.sock.getsockopt(_socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO_VARS * 4)
        return int(memoryview(info).cast("I")[_SK_MEMINFO_DROPS])

    def was_there(self, pid: int, timestamp_ns: int) -> bool:
        """Whether the process that /proc shows was there at that time: not a later one with its pid."""
        stat = _stat(pid)
        return stat is not None and self.is_from(stat, timestamp_ns)

    def is_from(self, stat: _Stat, timestamp_ns: int) -> bool:
        """Likewise, of what /proc/PID/stat says."""
        return stat.start_ns - self.skew <= timestamp_ns

    def now(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds, as the kernel stamps events with it."""
        return time.monotonic_ns() - self.skew

    def close(self, *, ignore: bool = True) -> None:
        """Unsubscribe and close the socket. ignore=False: in a forked child, whose parent stays subscribed."""
        if ignore:
            if self.sock:
                with contextlib.suppress(OSError):  # it is closed already
                    self.attach([(_BPF_RET, 0, 0, 0)])  # for a forked child, which may keep it open
            self._unlisten()
        if self.sock:
            self.sock.close()

# What the headers of every event say: the offsets and values of their 32-bit words, but seq, pid and ack.
_HEADER_WORDS = memoryview(bytes(_nlmsghdr(_SIZE, _NLMSG_DONE)) + bytes(
    _cn_msg(_CN_IDX_PROC, _CN_VAL_PROC, len=_SIZE - _PROC_EVENT))).cast("I")
_HEADERS = tuple((4 * i, _HEADER_WORDS[i]) for i in (0, 1, 4, 5, 8))

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
        return _BPF_JMP | test, true, false, _socket.htonl(value)

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
_BPF_RAW_TRACEPOINT_OPEN, _BPF_MAP_LOOKUP_BATCH, _BPF_MAP_LOOKUP_AND_DELETE_BATCH = 17, 24, 25
_BPF_MAP_TYPE_HASH, _BPF_MAP_TYPE_ARRAY, _BPF_MAP_TYPE_PERCPU_ARRAY, _BPF_MAP_TYPE_RINGBUF = 1, 2, 6, 27
_BPF_ANY, _BPF_NOEXIST, _BPF_EXIST = 0, 1, 2
_BPF_F_NO_PREALLOC, _BPF_F_MMAPABLE = 1, 1 << 10
_BPF_PROG_TYPE_SOCKET_FILTER, _BPF_PROG_TYPE_RAW_TRACEPOINT = 1, 17
_BPF_PSEUDO_MAP_FD, _BPF_PSEUDO_MAP_VALUE = 1, 2
_BPF_RINGBUF_BUSY_BIT, _BPF_RINGBUF_HDR_SZ = 1 << 31, 8
# linux/bpf_common.h, linux/bpf.h: parts of an instruction's code
_BPF_LDX, _BPF_STX, _BPF_ALU, _BPF_ALU64, _BPF_MEM, _BPF_ATOMIC, _BPF_FETCH = 0x01, 0x03, 0x04, 0x07, 0x60, 0xC0, 0x01
_BPF_DW, _BPF_CALL, _BPF_EXIT, _BPF_MOV, _BPF_JNE, _BPF_JSGE, _BPF_JLE = 0x18, 0x80, 0x90, 0xB0, 0x50, 0x70, 0xB0
_WIDTHS = {2: 0x08, 4: 0x00, 8: 0x18}  # BPF_H, BPF_W, BPF_DW
_ALU = {"Add": 0x00, "Sub": 0x10, "Mult": 0x20, "BitOr": 0x40, "BitAnd": 0x50}
_HELPERS = {"map_lookup_elem": 1, "map_update_elem": 2, "map_delete_elem": 3, "skb_load_bytes": 26,
            "get_current_task": 35, "probe_read_user": 112, "probe_read_kernel": 113, "probe_read_kernel_str": 115,
            "ringbuf_output": 130}
_INSTRUCTION = struct.Struct("=BBhI").pack  # struct bpf_insn
# asm/unistd.h: libc has no function for bpf(2)
_NR_BPF = {"x86_64": 321, "aarch64": 280, "s390x": 351}

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

class _bpf_raw_tracepoint(ctypes.Structure):
    """union bpf_attr of BPF_RAW_TRACEPOINT_OPEN."""
    _fields_ = [("name", _u64), ("prog_fd", _u32), ("pad", _u32)]

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

class _sk_buff_context(ctypes.Structure):
    """struct __sk_buff: what a filter is called with; its first member."""
    _fields_ = [("len", _u32)]

class _sched_process_exit(ctypes.Structure):
    """What a program at this tracepoint is called with: its arguments, since Linux 6.16."""
    _fields_ = [("task", _u64), ("group_dead", _u64)]

# The program's own structs. Values of the maps:
class _process_entry(ctypes.Structure):
    """processes[tgid]: a watched process, or with watch(None) any; until it has ended."""
    _fields_ = [
        ("kinds", _u32),           # events to send to user space
        ("inherited", _u32),       # what its children get for their kinds; 0: they are not followed
        ("tasks", _u32),           # EXITs still to come: one for each FORK; from _UNCOUNTED on if it was there before
        ("ended", _u32),           # threads=True: the process has ended, and some thread's EXIT may still come
        ("since_ns", _u64),        # when it was forked, or the watch began
        ("memory", _u32),          # what base_rss tells: 0, _OWN_MEMORY, _SHARED_MEMORY or _EXACT_MEMORY
        ("pad", _u32),
        ("base_rss", _u64),        # pages: signal->maxrss at its last EXEC; with _EXACT_MEMORY its peak since
        ("read_bytes", _u64),      # by those of its threads that have ended
        ("write_bytes", _u64),     # likewise
    ]

class _program_control(ctypes.Structure):
    """controls[0], in memory shared with the kernel: what Python asks of the program, and the counters of losses."""
    _fields_ = [
        ("everything", _u32),      # kinds that are wanted of every process
        ("passing", _u32),         # kinds to look at for every process: these, and FORK and EXIT if ends are wanted
        ("self", _u32),            # this process: its COMM always passes, see _Recovery.probe()
        ("sender", _u32),          # netlink port to listen to: 0, the kernel; our own during _prove()
        ("lost", _u32),            # records that found the ring full, and processes that found the map full
        ("unsaved", _u32),         # those of them that are not in the overflow map and should be
    ]

class _program_record(ctypes.Structure):
    """A record in the ring, behind struct bpf_ringbuf_hdr { u32 len, pg_off; }; and a value of overflow[number]."""
    _fields_ = [
        ("lost", _u32),            # program_control.lost at that moment
        ("note", _u32),            # EXEC: bytes in the whole command line; else 0, _FINAL, _PROBE or _NAME
        # struct proc_event, EXEC: with the parent_pid of an EXIT. Behind it: EXIT: its cost; EXEC: an _exec_ids; else
        # zeros, so that all records are of one length.
        ("event", _EXIT_CLASS),
    ]

class _exec_ids(ctypes.Structure):
    """What the program adds to an EXEC, where an EXIT has its cost."""
    _fields_ = [
        ("known", _u32),           # _KNOWS_IDS and so on
        ("pad", _u32),
        ("cgroup", _u64),          # kernfs_node.id: the inode number of its directory
        ("ruid", _u32),
        ("euid", _u32),
    ]

_CMDLINE_MAX = 16 << 10

class _exec_record(ctypes.Structure):
    """scratches[0] of each CPU: the record of an EXEC. In the ring it ends where the command line does.

    paths=True: it is longer by _PATHS_MAX, and the command line comes behind the names in exe and in cwd. Each of them
    has a NUL behind it. The last name of a path comes first.
    """
    _fields_ = [
        ("record", _program_record),
        ("comm", ctypes.c_char * 16),
        ("exe_size", _u32),        # bytes of the names in exe
        ("paths_size", _u32),      # bytes of the names in exe and cwd
        ("whole_exe", _u32),       # whether all names are there
        ("whole_cwd", _u32),
        ("cmdline", ctypes.c_char * _CMDLINE_MAX),
    ]

_MINUS_1 = 0xFFFFFFFF
# Where `tasks` begins if threads are not counted. EXITs lower it, but one of the two bits stays set.
_UNCOUNTED, _UNCOUNTED_BITS = 1 << 30, 3 << 29
# The process has ended; a Comm of our own that nobody wants, see _Recovery.probe(); the Comm of a process that a signal
# killed, which precedes its Exit.
_FINAL, _PROBE, _NAME = 1, 2, 3
# process_entry.memory. 0: signal->maxrss may be that of a program from before the watch. OWN: it began with base_rss.
# SHARED: it is the parent's, after vfork() without an exec; or that cannot be ruled out. EXACT: _PEAK_PROGRAM has run.
_OWN_MEMORY, _SHARED_MEMORY, _EXACT_MEMORY = 1, 2, 3
# How many names and mounts of a path are looked at, and bytes that the names in two paths may take.
_STEPS, _PATHS_MAX = 64, 8 << 10
_NAME_MAX = 256  # bytes of a name with its NUL
_PATHS_FIT = _PATHS_MAX - _NAME_MAX
_PAGE_SIZE, _COST_LEN, _ENTRY_LEN = mmap.PAGESIZE, ctypes.sizeof(_exit_cost), ctypes.sizeof(_process_entry)
_RECORD_LEN, _COMM_LEN, _EXEC_LEN = ctypes.sizeof(_program_record), _exec_record.comm.size, _exec_record.cmdline.offset
_BARE_LEN = _program_record.event.offset + _EVENT_SIZE  # a record without cost
# Bits of `known` in an _exit_cost, and in an _exec_ids.
_KNOWS_RSS, _KNOWS_CPU, _KNOWS_IO, _KNOWS_FAULTS, _KNOWS_START = 3, 4, 24, 32, 64
_KNOWS_IDS, _KNOWS_CGROUP = 1, 2
_KNOWS_SUMS = _KNOWS_CPU | _KNOWS_FAULTS
_KNOWS_OF_THREAD = _KNOWS_SUMS | _KNOWS_IO | _KNOWS_START
_STRIDE = _BPF_RINGBUF_HDR_SZ + _RECORD_LEN

# The program, in a small part of Python's syntax: see _Compiler. The kernel runs it for each event, in the thread that
# causes the event. Its result is the length to which the datagram is cut for the socket: always 0, so the socket stays
# empty. `ref` is C's &. Functions are eBPF's helpers without bpf_ (bpf-helpers(7)), and return 0 on success, or the
# pointer or the number asked for; atomic_add() returns the former value. A constant is this module's _CONSTANT.
_PROGRAM = """
def filter(skb):
    if skb.len != SIZE or skb_load_bytes(skb, 0, nl, SIZE):
        return
    if nl.nlmsg_len != SIZE or nl.nlmsg_type != NLMSG_DONE or cn.idx != CN_IDX_PROC or cn.val != CN_VAL_PROC:
        return
    what = event.what
    if not what:
        return  # an ack
    pid = exit.pid  # whose event it is; of a FORK, the parent's pid lies there
    if what == FORK and fork.tid != fork.pid:
        pid = fork.pid  # a new thread
    control = controls
    entry = map_lookup_elem(processes, ref(pid))
    kinds = control.everything
    passing = control.passing
    if entry:
        kinds = kinds | entry.kinds
        passing = passing | entry.kinds | EXEC
    if not passing & what and (what != COMM or pid != control.self):
        return  # most of the machine's events
    cb = skb
    if cb.portid != control.sender:
        return  # forged
    record.note = 0
    probe_read_kernel(cost, COST_LEN, 0)  # which fails, and makes it all zeros

    if what == FORK:
        if fork.tid != fork.pid:
            if entry:
                atomic_add(entry.tasks, 1)
            if not THREADS:
                return
        else:
            probe_read_kernel(child, ENTRY_LEN, 0)
            if entry:
                child.kinds = entry.inherited
            if child.kinds or control.everything & ANY_EXIT:
                child.inherited = child.kinds
                child.tasks = 1
                child.since_ns = event.timestamp_ns
                child.memory = SHARED_MEMORY
                task = get_current_task()
                newest = task.children_prev
                if newest.tgid == fork.pid and newest.mm != task.mm:
                    child.memory = OWN_MEMORY
                if map_update_elem(processes, ref(fork.pid), child, BPF_ANY):
                    atomic_add(control.lost, 1)
                    atomic_add(control.unsaved, 1)
                    return
        if not kinds & FORK:
            return

    elif what == EXEC:
        task = get_current_task()
        if entry:
            signal = task.signal
            entry.base_rss = signal.maxrss  # bprm->mm has replaced the old memory, which is counted: exec_mmap()
            entry.memory = OWN_MEMORY
        if not kinds & EXEC:
            return
        parent = task.real_parent
        mm = task.mm
        start = mm.arg_start
        length = mm.arg_end - start
        size = min(length, CMDLINE_MAX)
        record.lost = control.lost
        record.note = length
        exit.parent_pid = parent.tgid
        cred = task.real_cred
        ids.ruid = cred.uid
        ids.euid = cred.euid
        css_set = task.cgroups
        cgroup = css_set.dfl_cgrp
        node = cgroup.kn
        ids.cgroup = node.id
        ids.known = KNOWN_IDS
        zero = 0
        scratch = map_lookup_elem(scratches, ref(zero))  # nobody else uses it: send_msg() in cn_proc.c holds a lock
        if not scratch:
            return
        scratch.whole_exe = 0
        scratch.whole_cwd = 0
        scratch.paths_size = 0
        if PATHS:
            file = mm.exe_file
            mnt = file.mnt
            dentry = file.dentry
            WALK EXE
            scratch.exe_size = scratch.paths_size
            fs = task.fs
            mnt = fs.mnt
            dentry = fs.dentry
            WALK CWD
        at = min(scratch.paths_size, PATHS_ROOM)
        probe_read_kernel(scratch, RECORD_LEN, record)
        probe_read_kernel(ref(scratch.comm), COMM_LEN, ref(task.comm))
        if probe_read_user(ref(scratch.cmdline) + at, size, start):
            size = 0
        if ringbuf_output(ring, scratch, EXEC_LEN + size + at, 0):
            atomic_add(control.lost, 1)
        return

    elif what == EXIT:
        task = get_current_task()
        signal = task.signal
        # The first thread's task_struct may be another's by now. The parent may have reaped the process before its last
        # thread reports its EXIT: then nr_threads is 0. Or a thread has taken the first one's place in an exec: who was
        # killed by that still points to the old one, and may report its EXIT late.
        leader = task.group_leader
        there = 1
        if leader != task:
            there = 0
            if signal.nr_threads and leader.signal == signal and leader.pid == pid:
                there = 1
        if control.sender:  # a datagram of our own: say what is read, see _RingSource._prove()
            event.cpu = task.ptrace | leader.ptrace
            exit.exit_code = signal.live
            exit.exit_signal = signal.nr_threads
            exit.tid = leader.exit_signal
            exit.parent_pid = leader.tgid
            exit.parent_tid = leader.exit_state | leader.exit_code | signal.group_exit_code
            exit.parent_tid = exit.parent_tid | signal.flags & SIGNAL_GROUP_EXIT
            status = 1
            memory = control.sender  # not a number here: the verifier would look at what follows again for that
            base_rss = memory
            known = KNOWS_START
        else:
            if not entry:
                return
            if not THREADS:
                atomic_add(entry.read_bytes, task.read_bytes)
                atomic_add(entry.write_bytes, task.write_bytes)
            left = atomic_add(entry.tasks, MINUS_1) - 1
            # `live` is 0 when every thread has begun to end. Threads leave nr_threads when they are released, which
            # comes before their events, but a tracer can release them later: kernel/exit.c.
            ended = 0
            known = KNOWS_START
            if not signal.live:
                if not left:
                    ended = 1
                    known = KNOWS_START | KNOWS_IO  # the EXITs of all its threads have come
                elif left & UNCOUNTED_BITS:
                    count = signal.nr_threads
                    if not count or count == 1 and (not there or leader.exit_state) or task.ptrace or leader.ptrace:
                        ended = 1
            status = 0
            if ended:
                status = MINUS_1
                if signal.flags & SIGNAL_GROUP_EXIT:
                    status = signal.group_exit_code
                elif there:
                    status = leader.exit_code  # as wait_task_zombie() has it
            if THREADS:
                if ended:
                    if atomic_add(entry.ended, 1):
                        status = 0
                    else:
                        record.note = FINAL
                if not left:
                    map_delete_elem(processes, ref(pid))
            else:
                if not ended:
                    return
                memory = entry.memory
                base_rss = entry.base_rss
                cost.read_bytes = entry.read_bytes
                cost.write_bytes = entry.write_bytes
                if map_delete_elem(processes, ref(pid)):
                    return  # another thread has reported its end
                exit.exit_code = status
                if exit.tid != exit.pid:
                    exit.tid = exit.pid
                    exit.exit_signal = SIGCHLD
                    if there:
                        exit.exit_signal = leader.exit_signal
            if not kinds & EXIT and not exit.exit_code:
                return
        if THREADS:
            cost.cpu_ns = task.sum_exec_runtime
            cost.read_bytes = task.read_bytes
            cost.write_bytes = task.write_bytes
            cost.major_faults = task.maj_flt
            cost.start_ns = task.start_time
            cost.known = KNOWN & KNOWS_OF_THREAD
        else:
            # __exit_signal() adds what a thread has used to `signal` when it is released, and then takes it from
            # nr_threads. So what was read before nr_threads lacks the leader if that is still to be released.
            cost.cpu_ns = signal.sum_sched_runtime
            cost.major_faults = signal.maj_flt
            count = signal.nr_threads
            if not count:
                cost.cpu_ns = signal.sum_sched_runtime
                cost.major_faults = signal.maj_flt
                known = known | KNOWS_SUMS
            elif count == 1 and there:  # else a tracer holds threads
                cost.cpu_ns = cost.cpu_ns + leader.sum_exec_runtime
                cost.major_faults = cost.major_faults + leader.maj_flt
                known = known | KNOWS_SUMS
            pages = signal.maxrss
            if memory == EXACT_MEMORY:
                pages = base_rss
            if pages and memory != SHARED_MEMORY:
                known = known | KNOWS_RSS
                cost.max_rss = pages * PAGE_SIZE
                if memory == EXACT_MEMORY or memory == OWN_MEMORY and pages != base_rss:  # it has grown since
                    cost.max_rss_exact = 1
            cost.start_ns = leader.start_time
            if not there:
                known = known - KNOWS_START
            cost.known = known & KNOWN
        # Killed by a signal, perhaps half-way through an exec that has no event: say what it ran.
        if status & 0x7F and there:
            record.lost = control.lost
            probe_read_kernel(name, BARE_LEN, record)
            name.note = NAME
            comm.what = COMM
            comm.tid = exit.pid
            probe_read_kernel(ref(comm._comm_), COMM_LEN, ref(leader.comm))
            ringbuf_output(ring, name, BARE_LEN, 0)

    elif what == COMM and not kinds & COMM:
        record.note = PROBE

    record.lost = control.lost
    if not ringbuf_output(ring, record, RECORD_LEN, 0) or record.note == PROBE:
        return
    number = atomic_add(control.lost, 1) + 1
    if (what == FORK or what == EXIT) and map_update_elem(overflow, ref(number), record, BPF_ANY):
        atomic_add(control.unsaved, 1)
"""

# What stands for WALK: the names from dentry up to the root, as d_path() has them. It goes from a mount's root on to
# where that is mounted. A name that is not below the root of its mount, as of a memfd, has no path. The verifier knows
# nothing of what is in `scratch`, so that every step is the same to it. It looks first at what stays in the loop: else
# it would look at what comes later once for every step.
_WALK = """
            steps = STEPS
            while steps:
                steps = steps - 1
                if dentry != mnt.mnt_root:
                    upper = dentry.d_parent
                    text = dentry.name
                    at = min(scratch.paths_size, PATHS_FIT)
                    got = probe_read_kernel_str(ref(scratch.cmdline) + at, NAME_MAX, text)
                    size_of_name = min(got, NAME_MAX)
                    if size_of_name == got and at == scratch.paths_size and upper != dentry:
                        dentry = upper
                    else:
                        steps = 0
                    scratch.paths_size = at + size_of_name
                else:
                    outer = mnt.mnt_parent + MNT
                    if outer != mnt:
                        dentry = mnt.mnt_mountpoint
                        mnt = outer
                    else:
                        steps = 0
                        scratch.whole = 1
"""

# What runs in the last thread of a process as it begins to end, when its memory is still there. Before Linux 6.16 the
# tracepoint came too late, and lacked group_dead: such a kernel refuses to attach this. The peak is what taskstats has
# as hiwater_rss. signal->maxrss has it, too, but with that of what the process ran before its last exec.
_PEAK_PROGRAM = """
def sched_process_exit(arguments):
    if not arguments.group_dead:
        return  # other threads live
    task = get_current_task()
    pid = task.tgid
    entry = map_lookup_elem(processes, ref(pid))
    if not entry or entry.memory == SHARED_MEMORY:
        return
    mm = task.mm
    parent = task.real_parent
    if parent.mm == mm:
        entry.memory = SHARED_MEMORY  # vfork() before the watch
        return
    pages = max(mm.file_pages, 0) + max(mm.anon_pages, 0) + max(mm.shmem_pages, 0)
    entry.base_rss = max(mm.hiwater_rss, pages)
    entry.memory = EXACT_MEMORY
"""

# The structs on its stack, by their offsets from the frame pointer. `event`, `fork` and `exit` are what the datagram
# ends with, and `record` is that with a header, which lies over the end of cn, and with `cost` or `ids` behind it.
_COST_AT = -8 - ctypes.sizeof(_exit_cost)
_EVENT_AT = _COST_AT - _EVENT_SIZE
_LOWEST_AT = (_EVENT_AT - _PROC_EVENT & ~7) - ctypes.sizeof(_process_entry)
_ON_STACK: dict[str, tuple[int, Any]] = {
    "nl": (_EVENT_AT - _PROC_EVENT, _nlmsghdr), "cn": (_EVENT_AT - _PROC_EVENT + _CN_MSG, _cn_msg),
    "event": (_EVENT_AT, ProcEvent), "fork": (_EVENT_AT, Fork), "exit": (_EVENT_AT, Exit),
    "record": (_EVENT_AT - _program_record.event.offset, _program_record),
    "cost": (_COST_AT, _exit_cost), "ids": (_COST_AT, _exec_ids), "child": (_LOWEST_AT, _process_entry),
    "name": (_LOWEST_AT, _program_record), "comm": (_LOWEST_AT + _program_record.event.offset, Comm)}
# What its pointers point to: values of maps, the program's context, and structs of the kernel's own.
_POINTERS: dict[str, Any] = {
    "control": _program_control, "entry": _process_entry, "scratch": _exec_record, "skb": _sk_buff_context,
    "arguments": _sched_process_exit, "task": "task_struct", "parent": "task_struct", "leader": "task_struct",
    "signal": "signal_struct", "mm": "mm_struct", "cb": "netlink_skb_parms", "newest": "sibling", "cred": "cred",
    "css_set": "css_set", "cgroup": "cgroup", "node": "kernfs_node", "file": "file", "fs": "fs_struct",
    "mnt": "vfsmount", "dentry": "dentry"}
_MAPS = {"processes", "overflow", "controls", "scratches", "ring"}

class _Compiler:
    """Compiles a program to eBPF: Documentation/bpf/standardization/instruction-set.rst.

    Each statement is compiled by itself. Variables are u64 on the stack. Registers 6 to 9 hold what a statement
    computes, and a call takes its arguments in registers 1 to 5. Whether to compile what is under THREADS and PATHS is
    decided here.
    """

    def __init__(self, threads: bool, paths: bool) -> None:
        self._layout = layout = _layout(paths)
        known, known_ids = (sum(bit for bit, members in optional.items() if members <= layout.keys())
                            for optional in (_OPTIONAL_COSTS, _OPTIONAL_IDS))
        self._decided = {
            "THREADS": threads, "PATHS": paths and layout.keys() >= _PATH_MEMBERS, "PATHS_ROOM": paths and _PATHS_MAX,
            "KNOWN": known, "KNOWN_IDS": known_ids, "MNT": layout.get("mount.mnt", 0)}
        self._variables: dict[str, int] = {}  # their offsets from the frame pointer
        self._code = bytearray()              # one struct bpf_insn after the other
        self._maps: list[tuple[int, str]] = []

    def compile(self, source: str) -> tuple[bytes, list[tuple[int, str]]]:
        """The instructions of this function, and where among them the descriptor of which map is to be."""
        tree: Any = compile(source, "<eBPF>", "exec", 0x400)  # ast.PyCF_ONLY_AST; to import ast takes 2 ms
        self._emit(_BPF_STX | _BPF_MEM | _BPF_DW, 10, 1, self._variable(tree.body[0].args.args[0].arg))
        self._block(tree.body[0].body, outermost=True)
        self._return()
        return bytes(self._code), self._maps

    def _emit(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> int:
        """Add an instruction. Returns where it stands."""
        registers = dst << 4 | src if sys.byteorder == "big" else src << 4 | dst
        self._code += _INSTRUCTION(code, registers, off, imm & 0xFFFFFFFF)
        return len(self._code) - 8

    def _land(self, jumps: list[int]) -> None:
        """Let these jumps lead to the next instruction."""
        for at in jumps:
            struct.pack_into("=h", self._code, at + 2, (len(self._code) - at) // 8 - 1)

    def _return(self) -> None:
        self._emit(_BPF_ALU64 | _BPF_MOV, 0)
        self._emit(_BPF_JMP | _BPF_EXIT)

    def _variable(self, name: str) -> int:
        return self._variables.setdefault(name, _LOWEST_AT - 8 * len(self._variables) - 8)

    def _statements(self, statements: list[Any]) -> Iterator[Any]:
        """These, with what is under a condition that is decided here in its place."""
        for node in statements:
            decided = self._decide(node.test) if type(node).__name__ == "If" else None
            if decided is None:
                yield node
            else:
                yield from self._statements(node.body if decided else node.orelse)

    def _block(self, statements: list[Any], *, outermost: bool = False) -> str:
        """Compile these. Returns what kind the last is. What an outermost `if` or `elif` introduces ends with it."""
        kind = ""
        for node in self._statements(statements):
            kind = type(node).__name__
            if kind == "If":
                jumps = self._branch(node.test, False)
                before = [*self._variables.items()]
                last = self._block(node.body)
                self._variables = dict(before) if outermost else self._variables
                if node.orelse:
                    ends = [] if last == "Return" else [self._emit(_BPF_JMP)]
                    self._land(jumps)
                    self._block(node.orelse, outermost=outermost)
                    self._variables = dict(before) if outermost else self._variables
                    jumps = ends
                self._land(jumps)
            elif kind == "While":
                top = len(self._code)
                jumps = self._branch(node.test, False)
                self._block(node.body)
                self._emit(_BPF_JMP, off=(top - len(self._code)) // 8 - 1)
                self._land(jumps)
            elif kind == "Return":
                self._return()
            elif kind == "Assign":
                self._assign(node.targets[0], node.value)
            else:
                self._value(node.value, 6)
        return kind

    def _assign(self, target: Any, value: Any) -> None:
        member = self._member(value)
        if member and (type(target).__name__ == "Name" or target.value.id in _ON_STACK):
            _, offset, size = self._place(target, 7)
            if size == _SIZES[member]:
                self._read(value, offset)
                return
        self._value(value, 6)
        base, offset, size = self._place(target, 7)
        self._emit(_BPF_STX | _BPF_MEM | _WIDTHS[size], base, 6, offset)

    def _read(self, node: Any, to: int) -> int:
        """Copy a member of one of the kernel's structs to a place on the stack. Returns its size."""
        _, offset, size = self._place(node, 3)
        self._add(3, offset, 3)
        self._add(10, to, 1)
        self._emit(_BPF_ALU | _BPF_MOV, 2, imm=size)
        self._emit(_BPF_JMP | _BPF_CALL, imm=_HELPERS["probe_read_kernel"])
        return size

    def _decide(self, node: Any) -> int | None:
        """Whether a condition holds, if that is known by now."""
        if type(node).__name__ == "UnaryOp":
            decided = self._decide(node.operand)
            return None if decided is None else not decided
        return self._decided.get(getattr(node, "id", ""))

    def _branch(self, node: Any, wanted: bool) -> list[int]:
        """Jumps that are taken if the truth of a condition is as wanted."""
        kind = type(node).__name__
        if kind == "UnaryOp":  # not
            return self._branch(node.operand, not wanted)
        if kind == "BoolOp":
            if (type(node.op).__name__ == "Or") == wanted:
                return [jump for part in node.values for jump in self._branch(part, wanted)]
            skips = [jump for part in node.values[:-1] for jump in self._branch(part, not wanted)]
            jumps = self._branch(node.values[-1], wanted)
            self._land(skips)
            return jumps
        if kind != "Compare":
            self._value(node, 6)
            return [self._emit(_BPF_JMP | (_BPF_JNE if wanted else _BPF_JEQ), 6)]
        jump = _BPF_JEQ if (type(node.ops[0]).__name__ == "Eq") == wanted else _BPF_JNE  # the other is NotEq
        return [self._operation(_BPF_JMP | jump, node.left, node.comparators[0], 6)]

    def _value(self, node: Any, to: int) -> None:
        """Put a value into a register."""
        kind, name = type(node).__name__, getattr(node, "id", "")
        if kind == "Call":
            self._call(node.func.id, node.args, to)
        elif kind == "BinOp":
            self._operation(_BPF_ALU64 | _ALU[type(node.op).__name__], node.left, node.right, to)
        elif (number := self._constant(node)) is not None:
            self._emit(_BPF_ALU | _BPF_MOV, to, imm=number)  # as u32
        elif name in _MAPS:
            what = _BPF_PSEUDO_MAP_VALUE if name == "controls" else _BPF_PSEUDO_MAP_FD
            self._maps.append((self._emit(_BPF_LD | _BPF_DW, to, what) + 4, name))
            self._emit(0)  # 64 bits take two
        elif name in _ON_STACK:
            self._add(10, _ON_STACK[name][0], to)
        elif self._member(node):
            if to < 6:
                raise SyntaxError(f"{node.attr} is read by a call, so it cannot be an argument of one")
            self._emit(_BPF_LDX | _BPF_MEM | _WIDTHS[self._read(node, self._variable(""))], to, 10, self._variable(""))
        else:
            base, offset, size = self._place(node, to)
            self._emit(_BPF_LDX | _BPF_MEM | _WIDTHS[size], to, base, offset)

    def _operation(self, code: int, left: Any, right: Any, to: int) -> int:
        """Compute one of two values, or compare them. Returns where that stands."""
        self._value(left, to)
        number = self._constant(right)
        if number is not None and number < 1 << 31:  # else it would be a negative one
            return self._emit(code, to, imm=number)
        self._value(right, to + 1)
        return self._emit(code | _BPF_X, to, to + 1)

    def _constant(self, node: Any) -> int | None:
        name = getattr(node, "id", "")
        if name.isupper():
            return self._decided.get(name, globals().get(f"_{name}"))
        return node.value if type(node).__name__ == "Constant" else None

    def _add(self, base: int, offset: int, to: int) -> None:
        if base != to:
            self._emit(_BPF_ALU64 | _BPF_MOV | _BPF_X, to, base)
        if offset:
            self._emit(_BPF_ALU64 | _ALU["Add"], to, imm=offset)

    def _member(self, node: Any) -> str:
        """Which member of one of the kernel's structs this is; "" if it is something else."""
        struct_ = _POINTERS.get(node.value.id) if type(node).__name__ == "Attribute" else None
        return f"{struct_}.{node.attr}" if isinstance(struct_, str) else ""

    def _place(self, node: Any, register: int) -> tuple[int, int, int]:
        """Where a variable or a member is: a base register, which may be the one given; an offset; and the size."""
        if type(node).__name__ == "Name":
            return 10, self._variable(node.id), 8
        name, member = node.value.id, self._member(node)
        if member:
            offset, size = self._layout.get(member, 0), _SIZES[member]  # KNOWN says whether it is there
        else:
            start, struct_ = _ON_STACK.get(name) or (0, _POINTERS[name])
            offset, size = start + getattr(struct_, node.attr).offset, getattr(struct_, node.attr).size
        if name in _ON_STACK:
            return 10, offset, size
        self._emit(_BPF_LDX | _BPF_MEM | _BPF_DW, register, 10, self._variables[name])
        return register, offset, size

    def _call(self, name: str, arguments: list[Any], to: int) -> None:
        if name == "ref":
            base, offset, _ = self._place(arguments[0], to)
            low = 4 if sys.byteorder == "big" and type(arguments[0]).__name__ == "Name" else 0  # all keys are u32
            self._add(base, offset + low, to)
        elif name in ("min", "max"):  # of unsigned and of signed numbers
            self._value(arguments[0], to)
            self._value(arguments[1], to + 1)
            self._emit(_BPF_JMP | (_BPF_JLE if name == "min" else _BPF_JSGE) | _BPF_X, to, to + 1, 1)
            self._emit(_BPF_ALU64 | _BPF_MOV | _BPF_X, to, to + 1)
        elif name == "atomic_add":
            base, offset, size = self._place(arguments[0], to + 1)
            self._value(arguments[1], to)
            self._emit(_BPF_STX | _BPF_ATOMIC | _WIDTHS[size], base, to, offset, _BPF_FETCH)
        else:
            for register, argument in enumerate(arguments, 1):
                self._value(argument, register)
            self._emit(_BPF_JMP | _BPF_CALL, imm=_HELPERS[name])
            self._emit(_BPF_ALU64 | _BPF_MOV | _BPF_X, to, 0)

# The members of the kernel's own structs that the program reads, and their sizes.
_MEMBERS: dict[str, dict[str, int]] = {
    "task_struct": {"signal": 8, "mm": 8, "group_leader": 8, "real_parent": 8, "pid": 4, "tgid": 4, "exit_state": 4,
                    "exit_code": 4, "exit_signal": 4, "ptrace": 4, "comm": 16, "se": 0, "ioac": 0, "maj_flt": 8,
                    "start_time": 8, "children": 0, "sibling": 0, "real_cred": 8, "cgroups": 8},
    "signal_struct": {"live": 4, "nr_threads": 4, "flags": 4, "group_exit_code": 4, "sum_sched_runtime": 8,
                      "maj_flt": 8, "maxrss": 8},
    "mm_struct": {"arg_start": 8, "arg_end": 8, "hiwater_rss": 8, "rss_stat": 0},
    "percpu_counter": {"count": 8, "counters": 8},
    "sk_buff": {"cb": 48},
    "sched_entity": {"sum_exec_runtime": 8},
    "task_io_accounting": {"read_bytes": 8, "write_bytes": 8},
    "cred": {"uid": 4, "euid": 4},
    "css_set": {"dfl_cgrp": 8},
    "cgroup": {"kn": 8},
    "kernfs_node": {"id": 8},
}
# Members of members, and what is reached from a member in the middle: their sizes, and how their offsets are made up.
_DERIVED = {
    "netlink_skb_parms.portid": (4, "sk_buff.cb", 1, "netlink_skb_parms.portid"),  # NETLINK_CB(skb)
    "task_struct.sum_exec_runtime": (8, "task_struct.se", 1, "sched_entity.sum_exec_runtime"),
    "task_struct.read_bytes": (8, "task_struct.ioac", 1, "task_io_accounting.read_bytes"),
    "task_struct.write_bytes": (8, "task_struct.ioac", 1, "task_io_accounting.write_bytes"),
    "task_struct.children_prev": (8, "task_struct.children", 1, "list_head.prev"),
    # mm->rss_stat[MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES].count, since Linux 6.2
    "percpu_counter.end": (0, "percpu_counter.counters", 1, "list_head.prev"),
    "mm_struct.file_pages": (8, "mm_struct.rss_stat", 1, "percpu_counter.count"),
    "mm_struct.anon_pages": (8, "mm_struct.file_pages", 1, "percpu_counter.end"),
    "mm_struct.swap_entries": (8, "mm_struct.anon_pages", 1, "percpu_counter.end"),
    "mm_struct.shmem_pages": (8, "mm_struct.swap_entries", 1, "percpu_counter.end"),
    "sibling.tgid": (4, "task_struct.tgid", -1, "task_struct.sibling"),  # list_entry(prev, struct task_struct, sibling)
    "sibling.mm": (8, "task_struct.mm", -1, "task_struct.sibling"),
}
# Likewise, for paths. Some kernels have dentry.d_name and file.f_path in unnamed unions, behind d_parent and f_owner.
# What was found is proven: see _RingSource._prove().
_PATHS_MEMBERS: dict[str, dict[str, int]] = {
    "mm_struct": {"exe_file": 8}, "file": {"f_path": 0, "f_owner": 0}, "path": {"mnt": 8, "dentry": 8},
    "task_struct": {"fs": 8}, "fs_struct": {"pwd": 0}, "vfsmount": {"mnt_root": 8},
    "mount": {"mnt": 0, "mnt_parent": 0, "mnt_mountpoint": 0}, "dentry": {"d_parent": 8}, "qstr": {"name": 0},
}
_PATHS_DERIVED = {
    "file.f_path": (0, "file.f_owner", 1, "list_head.prev"),
    "file.mnt": (8, "file.f_path", 1, "path.mnt"), "file.dentry": (8, "file.f_path", 1, "path.dentry"),
    "fs_struct.mnt": (8, "fs_struct.pwd", 1, "path.mnt"), "fs_struct.dentry": (8, "fs_struct.pwd", 1, "path.dentry"),
    "dentry.d_name": (0, "dentry.d_parent", 1, "list_head.prev"), "dentry.name": (8, "dentry.d_name", 1, "qstr.name"),
    "vfsmount.mnt_parent": (8, "mount.mnt_parent", -1, "mount.mnt"),
    "vfsmount.mnt_mountpoint": (8, "mount.mnt_mountpoint", -1, "mount.mnt"),
}
_SIZES = {f"{name}.{member}": size for table in (_MEMBERS, _PATHS_MEMBERS) for name, members in table.items()
          for member, size in members.items()}
_SIZES.update((member, size) for table in (_DERIVED, _PATHS_DERIVED) for member, (size, *_) in table.items())
_PATH_MEMBERS = {"mm_struct.exe_file", "task_struct.fs", "vfsmount.mnt_root", *_PATHS_DERIVED}
_PEAK_MEMBERS = {"mm_struct.hiwater_rss", "mm_struct.shmem_pages"}
# Those that it can do without, by the bit that KNOWN or KNOWN_IDS lacks then.
_OPTIONAL_COSTS: dict[int, set[str]] = {
    _KNOWS_CPU: {"signal_struct.sum_sched_runtime", "task_struct.sum_exec_runtime"},
    _KNOWS_RSS: {"signal_struct.maxrss", "task_struct.children_prev", "sibling.tgid", "sibling.mm"},
    _KNOWS_IO: {"task_struct.read_bytes", "task_struct.write_bytes"},
    _KNOWS_FAULTS: {"signal_struct.maj_flt", "task_struct.maj_flt"},
    _KNOWS_START: {"task_struct.start_time"},
}
_OPTIONAL_IDS: dict[int, set[str]] = {
    _KNOWS_IDS: {"task_struct.real_cred", "cred.uid", "cred.euid"},
    _KNOWS_CGROUP: {"task_struct.cgroups", "css_set.dfl_cgrp", "cgroup.kn", "kernfs_node.id"},
}
_NEEDED = {f"{name}.{member}" for name, member in (
    ("task_struct", "signal mm group_leader real_parent pid tgid exit_state exit_code exit_signal ptrace comm"),
    ("signal_struct", "live nr_threads flags group_exit_code"), ("mm_struct", "arg_start arg_end"),
    ("netlink_skb_parms", "portid"), ("sk_buff", "cb")) for member in member.split()}

class _Btf:
    """The types of the running kernel: Documentation/bpf/btf.rst.

    They are searched by name instead of walked. The structs of the kernel's core stand near the beginning.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        magic, _, _, length, types, types_length, strings, strings_length = struct.unpack_from("=HBBIIIII", data)
        if magic != 0xEB9F:
            raise OSError(errno.EINVAL, "/sys/kernel/btf/vmlinux is no BTF")
        self._types = length + types, length + types + types_length
        self._strings = length + strings, length + strings + strings_length

    def offsets(self, name: str, members: Iterable[str]) -> dict[str, int]:
        """The offsets of those of these members that a struct has, in bytes. They may be in an unnamed struct at its
        beginning. Raises KeyError if it has none of them."""
        for at in self._uses(name):
            found = self._struct(at)
            if found:
                if found.get("") == 0 and not found.keys() >= set(members):
                    found = self._unnamed(next(iter(members)))
                offsets = {member: found[member] // 8 for member in members if member in found}
                if offsets:
                    return offsets
        raise KeyError(name)

    def _uses(self, name: str) -> Iterator[int]:
        """Where the number of a name stands in the type section."""
        at = self._data.find(b"\0%s\0" % name.encode(), *self._strings)
        if at < 0:
            raise KeyError(name)
        number, (at, end) = struct.pack("=I", at + 1 - self._strings[0]), self._types
        while True:
            at = self._data.find(number, at, end)
            if at < 0:
                return
            if not (at - self._types[0]) % 4:
                yield at
            at += 1

    def _struct(self, at: int) -> dict[str, int]:
        """The bit offsets of the members of the struct btf_type that begins there; nothing if it is none."""
        info, = struct.unpack_from("=I", self._data, at + 4)
        end = at + 12 + 12 * (info & 0xFFFF)
        if info >> 16 & 0x1FFF != 4 << 8 or end > self._types[1]:  # BTF_KIND_STRUCT
            return {}
        return {self._name(name): offset & (0xFFFFFF if info >> 31 else 0xFFFFFFFF)
                for name, _, offset in struct.iter_unpack("=III", self._data[at + 12:end])}

    def _unnamed(self, member: str) -> dict[str, int]:
        """The unnamed struct that has this member."""
        for at in self._uses(member):
            for begin in range(at - 12, max(at - 12 * 500, self._types[0]), -12):  # back over the members before it
                found = self._struct(begin)
                if member in found:
                    if not struct.unpack_from("=I", self._data, begin)[0]:
                        return found
                    break
        raise KeyError(member)

    def _name(self, number: int) -> str:
        start = self._strings[0] + number
        return self._data[start:start + 128].partition(b"\0")[0].decode("latin-1")

@functools.lru_cache(maxsize=None)
def _layout(paths: bool = False) -> dict[str, int]:
    """Where the members of the kernel's structs are. Raises OSError."""
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            try:
                btf = _Btf(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
            except OSError:  # before Linux 6.16
                btf = _Btf(file.read())
        # struct netlink_skb_parms is not looked up: it stands far behind, and _RingSource._prove() proves this offset.
        layout = {"list_head.prev": 8, "netlink_skb_parms.portid": 12}
        for name, members in [*_MEMBERS.items(), *(_PATHS_MEMBERS.items() if paths else ())]:
            with contextlib.suppress(KeyError):
                layout.update((f"{name}.{member}", offset) for member, offset in btf.offsets(name, members).items())
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, "the kernel has no BTF: /sys/kernel/btf/vmlinux") from error
    except (ValueError, struct.error) as error:
        raise OSError(errno.EINVAL, f"the kernel's BTF is broken: {error}") from error
    for name, (_, outer, sign, inner) in [*_DERIVED.items(), *(_PATHS_DERIVED.items() if paths else ())]:
        if outer in layout and inner in layout and (name not in layout or name in _DERIVED):
            layout[name] = layout[outer] + sign * layout[inner]
    missing = _NEEDED - layout.keys()
    if missing:
        raise OSError(errno.EINVAL, f"the kernel's BTF lacks {', '.join(sorted(missing))}")
    return layout

@functools.lru_cache(maxsize=None)
def _instructions(threads: bool, paths: bool, *, peak: bool = False) -> tuple[bytes, list[tuple[int, str]]]:
    """The program for this kernel; peak: the other one."""
    source = _PEAK_PROGRAM if peak else _PROGRAM
    for name in "exe", "cwd":
        walk = _WALK.replace("whole", f"whole_{name}") if paths else ""
        source = source.replace(f"            WALK {name.upper()}\n", walk)
    return _Compiler(threads, paths).compile(source)

class _Program:
    """The eBPF program and its maps, loaded. Raises OSError; the last lines of the verifier are in its text."""

    def __init__(self, threads: bool, paths: bool, ring_size: int, entries: int) -> None:
        self.fds: dict[str, int] = {}
        try:
            for name, kind, key, value, room, flags in (
                ("processes", _BPF_MAP_TYPE_HASH, 4, ctypes.sizeof(_process_entry), entries, _BPF_F_NO_PREALLOC),
                ("overflow", _BPF_MAP_TYPE_HASH, 4, _RECORD_LEN, entries, _BPF_F_NO_PREALLOC),
                ("controls", _BPF_MAP_TYPE_ARRAY, 4, ctypes.sizeof(_program_control), 1, _BPF_F_MMAPABLE),
                ("scratches", _BPF_MAP_TYPE_PERCPU_ARRAY, 4,
                 ctypes.sizeof(_exec_record) + (_PATHS_MAX if paths else 0), 1, 0),
                ("ring", _BPF_MAP_TYPE_RINGBUF, 0, 0, ring_size, 0),
            ):
                self.fds[name] = _bpf(_BPF_MAP_CREATE, _bpf_map_create(kind, key, value, room, flags))
            self._load("program", _BPF_PROG_TYPE_SOCKET_FILTER, *_instructions(threads, paths))
        except BaseException:
            self.close()
            raise
        self._paths = paths
        self._can_keep_peaks = not threads and _layout(paths).keys() >= _PEAK_MEMBERS  # and has not been asked to yet

    def keep_peaks(self) -> None:
        """Have the peaks of memory kept until close(), where the kernel can."""
        if self._can_keep_peaks:
            try:
                self._attach_to_exits()
            except OSError as error:  # before Linux 6.16; max_rss_exact says so
                if error.errno in (errno.EAGAIN, *_SCARCE):
                    return  # the next watch tries it again
            self._can_keep_peaks = False

    def _attach_to_exits(self) -> None:
        name = ctypes.create_string_buffer(b"sched_process_exit")
        try:
            self._load("peak", _BPF_PROG_TYPE_RAW_TRACEPOINT, *_instructions(False, self._paths, peak=True))
            self.fds["exits"] = _bpf(
                _BPF_RAW_TRACEPOINT_OPEN, _bpf_raw_tracepoint(ctypes.addressof(name), self.fds["peak"]))
        finally:
            if "peak" in self.fds:
                os.close(self.fds.pop("peak"))

    def _load(self, program: str, kind: int, instructions: bytes, maps: list[tuple[int, str]]) -> None:
        """Load a program, as `fds` shall call it."""
        code = bytearray(instructions)
        for at, name in maps:
            struct.pack_into("=I", code, at, self.fds[name])
        insns, licence = (_u8 * len(code)).from_buffer(code), ctypes.create_string_buffer(b"GPL")
        attribute = _bpf_prog_load(kind, len(code) // 8, ctypes.addressof(insns), ctypes.addressof(licence))
        signals: Any = __import__("_signal")  # signal itself takes milliseconds to import
        before = signals.pthread_sigmask(signals.SIG_BLOCK, ())
        try:
            # The verifier gives up if a signal is pending: bpf_check(). What cannot be held back, as SIGSTOP, can make
            # it give up all the same, but hardly five times.
            signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
            for _ in range(4):
                with contextlib.suppress(BlockingIOError):
                    self.fds[program] = _bpf(_BPF_PROG_LOAD, attribute)
                    return
            self.fds[program] = _bpf(_BPF_PROG_LOAD, attribute)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS, errno.EAGAIN, *_SCARCE):
                raise
            log = ctypes.create_string_buffer(1 << 20)
            attribute.log_level, attribute.log_size, attribute.log_buf = 1, len(log), ctypes.addressof(log)
            with contextlib.suppress(OSError):
                os.close(_bpf(_BPF_PROG_LOAD, attribute))
            why = "; ".join(log.value.decode(errors="replace").strip().splitlines()[-4:])
            raise OSError(error.errno, f"the kernel refuses the eBPF program: {error.strerror}: {why}") from None
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, before)

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

_Read = tuple[list[Any], bool, bool]
_NOTHING: _Read = ([], False, False)

class _Source:
    """Where events come from. Its methods are called only under Watcher._lock, but for birth(); `due` is read without.

    A source gives the same events for the same workload as the others: of processes (threads=True: of threads), in
    order, a Lost where events were dropped, and with threads=True a _ProcessEnd behind a process's last Exit.

    fds            what to wait on
    pending        what has been received already: the next read() gives it, `fds` do not show it
    unnamed        by pid, Execs whose names are still being read: they must wait, and all events behind them
    gather         how long a reader may pause so that events gather, in seconds
    patient        whether it always may; else only in a storm
    only_commands  why it watches nothing but the commands that popen() starts; "" if it watches anything
    may_go_silent  whether it can stop giving events without saying so
    over           whether it gives no more events
    """

    name = ""
    fds: tuple[int, ...] = ()
    pending: Any = ()
    unnamed: dict[int, Any] = {}
    gather, patient = 0.0, False
    only_commands = ""
    may_go_silent, over = True, False

    @property
    def lost(self) -> int:
        """How many events the kernel has dropped so far."""
        return 0

    @property
    def due(self) -> int:
        """When to call read() again for what is unnamed, though `fds` show nothing."""
        return 0

    def read(self, most: int) -> _Read:
        """About so many events at most, in order; whether another read() may find something at once; whether events are
        lost that only /proc can tell of.
        """
        raise NotImplementedError

    def check(self) -> _Read:
        """The same for what read() does not notice; to be called now and then."""
        return _NOTHING

    def add(self, pid: int, kinds: int, inherited: int) -> bool:
        """Report these kinds of a process, and `inherited` of its children to come, too. Returns whether it is new."""
        raise NotImplementedError

    def remove(self, pid: int) -> None:
        """The contrary of add()."""

    def watch_all(self, kinds: int) -> None:
        """Report these kinds of every process, too; 0: no longer."""

    def birth(self, mask: int) -> Any:
        """A context in which this thread starts a command whose events are wanted."""
        return contextlib.nullcontext()

    def expect(self, pid: int, words: bytes | None) -> None:
        """Use this command line for our child's next Exec, unless the exact one is known."""

    def known(self) -> dict[int, int]:
        """The processes whose Exit is still to come, and since when each is known, in ns."""
        raise NotImplementedError

    def recount(self, live: Iterable[int], gone: Iterable[int]) -> None:
        """After a loss: of the known processes, these are still there, and those are not."""

    def status(self, pid: int, since_ns: int) -> int:
        """The wait status of a process that is gone and was there then; -1 if nobody knows."""
        raise NotImplementedError

    def forget(self, pid: int) -> None:
        """The end of a process has been reported."""

    def close(self) -> None:
        """Let go of all that it holds."""

def _order_loads() -> None:
    """Keep the loads before the call before the loads and stores after it, on aarch64.

    One acquire and release would not do: the accesses on both sides may move in between and pass each other there. Two
    in a row do: what precedes a release stays before it, what follows an acquire stays after it, and a store-release
    stays before a later load-acquire. See "Barrier-ordered-before" in section B2.3 of the Arm Architecture Reference
    Manual, https://developer.arm.com/documentation/ddi0487.
    """
    lock = threading.Lock()
    with lock:
        pass
    with lock:
        pass

# x86-64 and s390x never reorder loads.
_fence = None if sys.platform != "linux" or os.uname().machine in ("x86_64", "s390x") else _order_loads

# Where an EXEC has its words, in bytes from the start of its struct bpf_ringbuf_hdr, and its parent_pid, in words.
_CMDLINE_AT = _BPF_RINGBUF_HDR_SZ + _exec_record.cmdline.offset
_PARENT_PID_AT = (_BPF_RINGBUF_HDR_SZ + _program_record.event.offset + vars(Exit)["parent_pid"].offset) // 4
_IDS_AT, _EXEC_IDS = _BPF_RINGBUF_HDR_SZ + _BARE_LEN, struct.Struct("=I4xQII").unpack_from
_SIZES_AT, _PATH_SIZES = _BPF_RINGBUF_HDR_SZ + _exec_record.exe_size.offset, struct.Struct("=4I").unpack_from

def _path(names: bytes) -> str:
    """The path of these names, the last of them first."""
    return os.fsdecode(b"/" + b"/".join(names.split(b"\0")[-2::-1]))

class _Cgroups(dict[int, "str | None"]):
    """The paths of cgroups by their ids, as far as they have been asked for; None for one that cannot be resolved."""

    def __missing__(self, number: int) -> str | None:
        if len(self) >= 4096:
            self.clear()
        try:
            path = self._path(number)
        except OSError as error:
            if error.errno in _SCARCE:
                return None  # the next time it may be found
            path = None  # ESTALE: it has been removed
        except AttributeError:  # the C library is older than 2.14
            path = None
        self[number] = path
        return path

    @staticmethod
    def _path(number: int) -> str | None:
        root = _cgroup2()
        mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            handle = _file_handle(8, _FILEID_KERNFS, number)
            fd = _libc().open_by_handle_at(mount, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
            if fd < 0:
                raise OSError(ctypes.get_errno(), "open_by_handle_at")
        finally:
            os.close(mount)
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        # Not if it has been removed by now (" (deleted)"), or lies outside of what is mounted there.
        return path[len(root.rstrip("/")):] or "/" if os.stat(path).st_ino == number else None

def _cgroup2() -> str:
    """Where the unified hierarchy of cgroups is mounted; "" if it is not: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            left, _, right = line.partition(b" - ")
            fields = left.split()
            if right.startswith(b"cgroup2 ") and fields[3] == b"/":
                path = fields[4]
                for code in b"\\040", b"\\011", b"\\012", b"\\134":  # blank, tab, newline and backslash
                    path = path.replace(code, bytes([int(code[1:], 8)]))
                return os.fsdecode(path)
    return ""

class _Ring:
    """The memory of a ring buffer map, shared with the kernel: Documentation/bpf/ringbuf.rst."""

    def __init__(self, fd: int, size: int) -> None:
        # The kernel would give the ring twice. It is enough that no record is cut at the end: ps counts what is mapped.
        longest = _BPF_RINGBUF_HDR_SZ + ctypes.sizeof(_exec_record) + _PATHS_MAX
        length = mmap.PAGESIZE + size + -(-longest // mmap.PAGESIZE) * mmap.PAGESIZE
        shared = mmap.mmap(fd, length, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        self._consumer_pos = _u64.from_buffer(mmap.mmap(fd, mmap.PAGESIZE))
        self._producer_pos = memoryview(shared)[:8].cast("Q")
        self._data = memoryview(shared)[mmap.PAGESIZE:]
        self._u32s = self._data.cast("I")
        self._size = size
        self._taken = 0  # bytes since the beginning; take()
        self._behind = 0  # likewise, up to the record after the one that _finish() is given
        self._comms: dict[int, str] = {}  # names of processes whose Exit comes next
        self.cgroups: dict[int, str | None] = collections.defaultdict(lambda: None)  # until _prove() is over
        self.tids: dict[int, set[int]] = {}  # threads=True: see ended()

    def next_lost(self) -> int | None:
        """How many were lost before the next record; None if there is none, or it is still being written."""
        at = self._taken % self._size >> 2
        if self._producer_pos[0] == self._taken:
            return None
        if _fence:
            _fence()
        if self._u32s[at] & _BPF_RINGBUF_BUSY_BIT:
            return None
        if _fence:
            _fence()
        return self._u32s[at + 2]

    @property
    def empty(self) -> bool:
        """Whether nothing is in it, not even a record that is still being written."""
        return bool(self._producer_pos[0] == self._taken)

    def take(self, most: int, lost: int) -> list[Any]:
        """The oldest events, about `most` at most. Stops before the first record that counts more losses."""
        taken = self._taken
        available = self._producer_pos[0] - taken
        events: list[Any] = []
        if not available:
            return events
        words, data, fence = self._u32s, self._data, _fence
        if fence:
            fence()  # the lengths after producer_pos: smp_load_acquire() in libbpf
        size = self._size
        begin = at = taken % size
        last = at + available
        if available >= 8 * _STRIDE and not self._comms and not self.tids:  # look at whole columns: 10 ns a number
            first, count = at >> 2, min(most, available // _STRIDE, (len(data) - at) // _STRIDE)
            end, step = first + count * _STRIDE // 4, _STRIDE // 4
            if words[first:end:step].tolist().count(_RECORD_LEN) == count:
                if fence:
                    fence()  # what is in the records after their lengths: likewise
                whats = words[first + 4:end:step].tolist()
                if (words[first + 2:end:step].tolist().count(lost) == count and _EXEC not in whats
                        and not any(words[first + 3:end:step].tolist())):
                    events = [_COPIES[what](data, start) for what, start in zip(whats, range(at + 16, last, _STRIDE))]
                    at += count * _STRIDE
        while at < last and len(events) < most:
            if at >= size:
                at, begin, last = at - size, begin - size, last - size
            word = at >> 2
            length = words[word]
            if length & _BPF_RINGBUF_BUSY_BIT:
                break
            if fence:
                fence()
            number = words[word + 2]
            if number != lost and not (number - lost) & 0x80000000:
                self._comms.clear()  # their Exits may be lost
                break
            note, what = words[word + 3], words[word + 4]
            event: Any = _COPIES[what](data, at + 16)
            if what == _EXEC:
                known, cgroup, ruid, euid = _EXEC_IDS(data, at + _IDS_AT)
                exe_size, paths_size, whole_exe, whole_cwd = _PATH_SIZES(data, at + _SIZES_AT)
                text = event._words = bytes(data[at + _CMDLINE_AT + paths_size:at + 8 + length])
                event._length, exe, cwd = note, None, None
                if whole_exe or whole_cwd:
                    names = bytes(data[at + _CMDLINE_AT:at + _CMDLINE_AT + paths_size])
                    exe = _path(names[:exe_size]) if whole_exe else None
                    cwd = _path(names[exe_size:]) if whole_cwd else None
                event._more = (words[word + _PARENT_PID_AT], *((ruid, euid) if known & _KNOWS_IDS else (None, None)),
                               self.cgroups[cgroup] if known & _KNOWS_CGROUP else None, exe, cwd)
                odd = len(text) < note or not (text and text[0])
            else:
                odd = bool(note or self._comms)
            if odd or self.tids:
                self._behind = taken + at - begin + (length + 15 & ~7)
                self._finish(event, note, data[at + 8:at + 8 + length], events)
            else:
                events.append(event)
            at += length + 15 & ~7
        self._taken = taken = taken + at - begin
        if fence:
            fence()  # consumer_pos after the records have been read: smp_store_release() in libbpf
        self._consumer_pos.value = taken
        return events

    def _finish(self, event: Any, note: int, record: memoryview, events: list[Any]) -> None:
        """Give an event what its record says besides, and add it to the events."""
        what = event.what
        if what == _COMM and note == _NAME:
            if len(self._comms) >= 64:
                self._comms.clear()
            self._comms[event.pid] = event.comm
            return
        events.append(event)
        if what == _EXEC:
            if len(event._words) < note:
                self._complete(event)
            elif not event._words.partition(b"\0")[0]:
                comm = _exec_record.comm
                event._comm = os.fsdecode(bytes(record[comm.offset:comm.offset + comm.size]).partition(b"\0")[0])
        elif what == _EXIT and self._comms:
            event._comm = self._comms.pop(event.pid, None)
        if (note == _FINAL or self.tids) and self.ended(event, note):
            events.append(_ProcessEnd(_PROCESS_END, event.pid, event.timestamp_ns))

    def _complete(self, event: Any) -> None:
        """Read the rest of a long command line from /proc, if that still shows the same one."""
        pid = event.pid
        words, _ = _proc_cmdline(pid)
        if not event._words:  # the kernel could not read it, and by now it may be another
            event._words, event._length = None, 0
        elif words and len(words) == event._length and words.startswith(event._words):
            # The next one may be as long, and begin alike. So it must be seen that the process has not executed it: as
            # in _Namer.
            stat = _stat_fields(pid)
            for _ in range(20):
                if not stat or pid == os.getpid() or _went_on(stat, _stat_fields(pid)):
                    if not self._executes_again(pid):
                        event._words = words
                    break
                time.sleep(0.0002)

    def _executes_again(self, pid: int) -> bool:
        """Whether there may be an EXEC of the process behind the record that _finish() is given."""
        at, end, words = self._behind, self._producer_pos[0], self._u32s
        if _fence:
            _fence()
        while at < end:
            word = at % self._size >> 2
            if words[word] & _BPF_RINGBUF_BUSY_BIT or (words[word + 4] == _EXEC and words[word + 9] == pid):  # its pid
                return True
            at += words[word] + 15 & ~7
        return False

    def ended(self, event: Any, note: int) -> bool:
        """threads=True: whether this event is the last of its process.

        If the program has counted the threads, FINAL comes with the last EXIT. Otherwise it comes with an EXIT once no
        thread lives, and other EXITs can follow 14 ms later. So of each process that was there before the watch,
        tids[pid] has the threads whose EXIT is still to come, and 0 for FINAL.
        """
        final, tids = event.what == _EXIT and note == _FINAL, self.tids.get(event.pid)
        if tids is None:
            return final
        if event.what == _FORK and event.tid == event.pid:
            del self.tids[event.pid]  # a new process with the pid of one whose last events were lost
            return False
        if event.what == _FORK:
            tids.add(event.tid)
        elif event.what == _EXEC:  # the other threads have ended, and who called it is the first now
            tids.add(event.pid)
            tids.intersection_update((0, event.pid))
        elif final and event.tid == event.pid and event.pid not in tids:
            tids.clear()  # a thread had taken the place of the first, in an exec that failed
        elif event.what == _EXIT:
            tids.difference_update((event.tid, 0) if final else (event.tid,))
        if not tids:
            del self.tids[event.pid]
        return not tids

def _same_path(path: str | None, name: str) -> bool:
    """Whether /proc says the same of this process, which may have another root."""
    said = os.readlink(f"/proc/self/{name}") if path else ""
    return not path or said.endswith(" (deleted)") or path.endswith(said.rstrip("/"))

class _RingSource(_Source):
    """The events as the eBPF program has decided on them, in the context of the processes themselves."""

    name = "ebpf"
    gather, patient = 0.01, True  # nothing is missed by waiting: the kernel has read the names

    def __init__(self, subscription: _Subscription, threads: bool, paths: bool) -> None:
        """Raises OSError where the kernel does not let us, or is not laid out as its BTF says."""
        self._subscription, self._threads = subscription, threads
        # A fork or exit takes 112 bytes here and some 800 in the socket's buffer: a ring of 1/8 holds about as many.
        size = max(1 << 16, 1 << (subscription.rcvbuf >> 3).bit_length() >> 1)
        self._program = _Program(threads, paths, size, self._room())
        self._saved: dict[int, _program_record] = {}  # by their numbers: what was lost and has been kept
        self._lost = self._unsaved = 0  # program_control's, as far as they are reported
        self._gone: set[int] = set()  # whose entries forget_ended() has found ended once
        self._late = False  # whether more of what was lost may come to be kept
        try:
            fds = self._program.fds
            control = mmap.mmap(fds["controls"], mmap.PAGESIZE)
            self._control = _program_control.from_buffer(control)
            self._counters = memoryview(control)[_program_control.lost.offset:].cast("I")  # lost, unsaved
            self._control.self = os.getpid()
            self._ring = _Ring(fds["ring"], size)
            self._drops = subscription.dropped  # of the socket, as far as they are reported
            subscription.attach(fds["program"])
            self._prove()
            self._ring.cgroups = _Cgroups()
        except BaseException:
            self._program.close()
            raise
        self.fds = (fds["ring"],)

    @staticmethod
    def _room() -> int:
        """How many entries the maps may have: twice the tasks that there are, or more. Unused they take 16 bytes."""
        with open("/proc/loadavg") as file:
            return max(1 << 16, 2 * int(file.read().split()[3].partition("/")[2]))

    def _prove(self) -> None:
        """Have the program read what we know: our own command line and threads, by datagrams to ourselves."""
        control, port, me = self._control, self._subscription.port, os.getpid()
        forged = [_HEADER_WORDS.tobytes() + bytes(event)[:_EVENT_SIZE].ljust(_EVENT_SIZE, b"\0") for event in (
            Exec(_EXEC, _REBUILT, 0, me, me), Exit(_EXIT, _REBUILT, 0, me, me))]
        control.sender = port ^ 1 << 30  # somebody else: neither we nor the kernel
        control.everything = control.passing = _EXEC | _EXIT
        self._subscription.send_to_self(forged[0])
        if self._ring.take(9, 0):
            raise OSError(errno.EINVAL, "the eBPF program takes others for the kernel")
        control.sender = port
        with open("/proc/self/comm", "rb") as file:
            comm = os.fsdecode(file.read()[:-1])
        with open("/proc/self/status", "rb") as file:
            traced = b"\nTracerPid:\t0\n" not in file.read()
        for _ in range(10):  # threads come and go
            used = 0 if self._threads else time.process_time_ns()
            for datagram in forged:
                self._subscription.send_to_self(datagram)
            with open("/proc/self/stat", "rb") as file:
                stat = file.read().rpartition(b") ")[2].split()
            found = self._ring.take(9, 0)
            begin, end = int(stat[45]), int(stat[46])  # arg_start, arg_end
            words = ctypes.string_at(begin, end - begin)[:_CMDLINE_MAX] if begin else b""
            if ([event.what for event in found] == [_EXEC, _EXIT]
                    and (found[0]._words or b"")[:_CMDLINE_MAX] == words  # _complete() may have read the rest
                    and (found[0]._length, found[0].parent_pid) == (end - begin, os.getppid())
                    and found[1].exit_code == found[1].exit_signal == int(stat[17])  # live, nr_threads: num_threads
                    and (found[1].tid, found[1].parent_pid, found[1]._comm) == (int(stat[35]), me, comm)
                    and found[1].parent_tid == 0 and (traced or not found[1].cpu)
                    and _same_path(found[0].exe, "exe") and _same_path(found[0].cwd, "cwd")
                    and (found[0].ruid, found[0].euid) in (os.getresuid()[:2], (None, None))
                    and (found[1].cpu_ns is None or used <= found[1].cpu_ns <= time.process_time_ns())):
                break
        else:
            raise OSError(errno.EINVAL, "the kernel's structs are not as its BTF says")
        control.everything = control.passing = control.sender = 0

    def add(self, pid: int, kinds: int, inherited: int) -> bool:
        if (kinds | inherited) & _ANY_EXIT:
            self._program.keep_peaks()
        own = _EXIT | (_FORK | _EXEC if self._threads else 0)
        kinds, inherited = (kinds and kinds | own) | (inherited and _FORK), inherited and inherited | _FORK | _EXIT
        value = _process_entry(kinds=kinds, inherited=inherited, tasks=_UNCOUNTED, since_ns=self._subscription.now())
        old, new = _process_entry(), True
        while not self._element(_BPF_MAP_UPDATE_ELEM, pid, value, _BPF_NOEXIST):
            if self._element(_BPF_MAP_LOOKUP_ELEM, pid, old):
                new = bool(old.ended)  # of an earlier process with this pid
                if not new:
                    value.kinds, value.inherited = kinds | old.kinds, inherited | old.inherited
                    value.since_ns = old.since_ns
                    # The rest may change between these two calls. A stale SHARED claims nothing.
                    value.memory = old.memory if old.memory == _SHARED_MEMORY else 0
                    if (value.kinds, value.inherited) == (old.kinds, old.inherited):
                        break
                if self._element(_BPF_MAP_UPDATE_ELEM, pid, value, _BPF_EXIST):
                    break
            new = True
        if self._threads and kinds and pid not in self._ring.tids:
            self._ring.tids[pid] = {0, *(tid for tid, alive in _tids(pid).items() if alive or tid != pid)}
        return new

    def forget_ended(self) -> None:
        """threads=True: forget the processes that have ended and were gone at the last call, too.

        The EXITs that are still to come when a process is gone from /proc come some milliseconds later.
        """
        gone = {pid for pid, process in self._program.all("processes", _process_entry).items()
                if process.ended and not self._subscription.was_there(pid, process.since_ns)}
        for pid in gone & self._gone:
            self.forget(pid)
        self._gone = gone

    def remove(self, pid: int) -> None:
        if self._control.everything & _ANY_EXIT:
            self._ring.tids.pop(pid, None)
            self._element(_BPF_MAP_UPDATE_ELEM, pid, _process_entry(
                tasks=_UNCOUNTED, since_ns=self._subscription.now()), _BPF_EXIST)
        else:
            self.forget(pid)

    def watch_all(self, kinds: int) -> None:
        if kinds & _ANY_EXIT:
            self._program.keep_peaks()
        self._control.passing = kinds | (_FORK | _EXIT if kinds & _ANY_EXIT else 0)
        self._control.everything = kinds
        if not kinds & _ANY_EXIT:
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

    def read(self, most: int) -> _Read:
        events, counters = self._ring.take(most, self._lost), self._counters
        more = len(events) >= most
        if more or (counters[0] == self._lost and counters[1] == self._unsaved and not self._late):
            return events, more, False
        ring = self._ring
        number = ring.next_lost()
        if number is None and ring.empty:
            lost = counters[0]
            if _fence:
                _fence()
            number = lost if ring.empty else None  # nothing has come between, so all from before the loss is read
            if self._late:
                self._late = False
                events += self._recover(0)
        count = 0 if number is None else (number - self._lost) & 0xFFFFFFFF
        if 0 < count < 1 << 31:  # else it is of a record that had been numbered before others were lost
            events.append(_lost_event(count, self._subscription.now()))
            events += self._recover(count)
            more = self._late = True
        must_resync = counters[1] != self._unsaved
        self._unsaved = counters[1]
        return events, more, must_resync

    def _recover(self, count: int) -> list[Any]:
        """The forks and exits among the next `count` lost records, and earlier ones that were kept too late."""
        self._saved.update(self._program.all("overflow", _program_record, take=True))
        self._lost = (self._lost + count) & 0xFFFFFFFF
        events: list[Any] = []
        for number in sorted(self._saved):
            if not (self._lost - number) & 0x80000000:
                saved = self._saved.pop(number)
                event = _EVENTS[saved.event.what].from_buffer_copy(saved.event)
                event.cpu = _REBUILT
                events.append(event)
                if self._ring.ended(event, saved.note):
                    events.append(_ProcessEnd(_PROCESS_END, event.pid, event.timestamp_ns))
        return events

    def status(self, pid: int, since_ns: int) -> int:
        status = _zombie_status(pid) if self._subscription.was_there(pid, since_ns) else None
        return -1 if status is None else status

    def forget(self, pid: int) -> None:
        self._ring.tids.pop(pid, None)
        self._element(_BPF_MAP_DELETE_ELEM, pid)

    def check(self) -> _Read:
        """If the kernel had no memory to copy an event for the socket, the socket says so. It receives nothing else."""
        if self._threads:
            with _put_off():
                self.forget_ended()
        try:
            self._subscription.sock.recv(1024, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return _NOTHING
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            before, self._drops = self._drops, self._subscription.dropped
            return [_lost_event(self._drops - before, self._subscription.now())], True, True
        return _NOTHING

    def close(self) -> None:
        self._program.close()
        del self._ring, self._control, self._counters  # and with them the memory

class _Process:
    """What the thread tracker knows of a process."""

    __slots__ = ("code", "codes_differ", "dumped", "incomplete", "inherited", "kinds", "leader_first",
                 "parent_pid", "pidfd", "since_ns", "tasks", "threaded", "tids")

    def __init__(self, kinds: int, inherited: int, since_ns: int, parent_pid: int = 0) -> None:
        self.kinds, self.inherited, self.since_ns = kinds, inherited, since_ns
        self.parent_pid = parent_pid       # who forked it, if that has been seen
        self.tasks = 1                     # EXITs still to come
        self.tids: set[int] | None = None  # of a process that was there before: whose they can be
        self.threaded = False              # whether it has ever had several threads
        self.dumped = False                # whether one of them has dumped core
        self.code = -1                     # that of its first EXIT
        self.codes_differ = False          # whether another had another
        self.leader_first = False          # whether its first thread has ended, and another lived on
        self.incomplete = False            # whether some of its events may be lost
        self.pidfd = -1                    # held since it had its second thread, to ask for its status

# Signals that dump core: signal(7). A wait status has 0x80 besides if there was room for the core.
_CORE_SIGNALS = {3, 4, 5, 6, 7, 8, 11, 24, 25, 31}

class _ThreadTracker:
    """Folds the events of threads into events of processes. Pure: what asks the kernel is given to it.

    The kernel makes one FORK and one EXIT for each task, whatever execs are between: an exec by another thread swaps
    ids, and their EXITs come in any order. So a process has ended when there were as many EXITs as tasks.

    It is given: tids(pid, ns), its live threads, if it is the process that was there then; status(pid, pidfd, ns), its
    wait status or None; open_pidfd(pid, ns), a pidfd or -1; close_pidfd(pidfd). _DatagramSource has the real ones.
    """

    def __init__(self, threads: bool, tids: Callable[[int, int], set[int]],
                 status: Callable[[int, int, int], int | None],
                 open_pidfd: Callable[[int, int], int], close_pidfd: Callable[[int], None]) -> None:
        self._threads, self._tids, self._status = threads, tids, status
        self._open_pidfd, self._close_pidfd = open_pidfd, close_pidfd
        self.everything = 0                       # kinds of all processes
        self.processes: dict[int, _Process] = {}  # whose Exit is still to come

    def add(self, pid: int, kinds: int, inherited: int, now: int) -> bool:
        """Track a process that is there, to be counted; or widen what is wanted of it. Returns whether it is new."""
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

    def recount(self, pid: int, is_ending: Callable[[int], bool]) -> None:
        """Some of its events may be lost. is_ending: whether a process's first thread has begun to end, or is gone.

        If it has when the threads have been counted, another of which nothing is known may have set the status: so ask.
        """
        process = self.processes[pid]
        process.incomplete = True
        self.count(pid)
        process.threaded |= is_ending(pid)

    def _has_several(self, pid: int, process: _Process, timestamp_ns: int) -> None:
        if not process.threaded:
            process.threaded = True
            process.pidfd = self._open_pidfd(pid, timestamp_ns)

    def remove(self, pid: int) -> None:
        """Track a process no longer."""
        process = self.processes.pop(pid, None)
        if process and process.pidfd >= 0:
            self._close_pidfd(process.pidfd)

    def fold(self, event: Any) -> tuple[Any, ...]:
        """What one event of the kernel means: none, one, or with threads=True an Exit and a _ProcessEnd."""
        what, pid = event.what, event.pid
        if what == _EXIT:
            process = self.processes.get(pid)
            return self._exit(process, event) if process else ()
        if what == _FORK:
            return self._fork(event) if event.tid == pid else self._thread(event)
        if what == _EXEC:
            process = self.processes.get(pid)
            if process:  # who called it is the first thread from now on, and has its id
                process.code, process.codes_differ, process.leader_first = -1, False, False
                if process.tids is not None:
                    process.tids.add(pid)
        return (event,)

    def _fork(self, event: Any) -> tuple[Any, ...]:
        parent = self.processes.get(event.parent_pid)
        inherited = parent.inherited if parent else 0
        if inherited or self.everything & _ANY_EXIT:
            process = self.processes.get(event.pid)
            if process and process.since_ns > event.timestamp_ns:  # it was found in /proc before its FORK was read
                process.kinds |= inherited
                process.inherited |= inherited
            else:
                if process:
                    self.remove(event.pid)
                self.processes[event.pid] = _Process(inherited, inherited, event.timestamp_ns, event.parent_pid)
        return (event,)

    def _thread(self, event: Any) -> tuple[Any, ...]:
        process = self.processes.get(event.pid)
        if process and not (process.tids and event.tid in process.tids):
            process.tasks += 1
            if process.tids is not None:
                process.tids.add(event.tid)
            self._has_several(event.pid, process, event.timestamp_ns)
        return (event,) if self._threads else ()

    def _exit(self, process: _Process, event: Any) -> tuple[Any, ...]:
        pid, tid = event.pid, event.tid
        if process.tids is not None:
            if tid not in process.tids:
                if tid != pid or self._tids(pid, process.since_ns):  # it had ended before it was counted
                    return (event,) if self._threads else ()
                process.tasks = 1  # another had taken the place of the first, in an exec that failed
            if tid != pid:
                process.tids.discard(tid)
        elif tid != pid and not process.threaded:  # its FORK was lost, which is still to be noticed
            process.threaded = process.incomplete = True
            process.tasks += 1
        process.tasks -= 1
        process.dumped |= event.exit_code & 0x80 != 0
        process.code = event.exit_code if process.code < 0 else process.code
        process.codes_differ |= process.code != event.exit_code
        if not process.tasks and process.tids is not None:
            self.count(pid)  # threads came and went while it was counted, so look whether any is left
        if process.tasks:
            if tid == pid and process.pidfd >= 0:
                process.leader_first = bool(self._tids(pid, process.since_ns) - {pid})
            return (event,) if self._threads else ()
        if self._threads:
            self.remove(pid)
            return event, _ProcessEnd(_PROCESS_END, pid, event.timestamp_ns)
        if process.threaded:
            event.exit_code = self.end_status(pid, event.timestamp_ns)
            if tid != pid:
                event.tid, event.exit_signal = pid, _SIGCHLD
        self.remove(pid)
        return (event,)

    def end_status(self, pid: int, timestamp_ns: int, *, lost: bool = False) -> int:
        """The wait status of a process that had several threads; -1 if nobody knows. lost: some of its EXITs may be.

        It is signal->group_exit_code, which no event carries: each has its own thread's code. So ask. For a core dump,
        the EXIT of the thread that dumped tells more: on Linux 6.18 PIDFD_GET_INFO lacks the bit in one of three.
        """
        process = self.processes.get(pid, _Process(0, 0, 0))  # unknown if an exception interrupted its end
        # Once reaped, a pidfd has the first thread's code. That is the process's if all are the same, or if that thread
        # was not the last to end: then release_task() in kernel/exit.c sees to it.
        doubtful = (process.codes_differ or process.incomplete or lost) and not process.leader_first
        status = self._status(pid, -1 if doubtful else process.pidfd, timestamp_ns)
        if status is None or (process.incomplete and status in _CORE_SIGNALS):
            return -1
        return status | 0x80 if process.dumped and status in _CORE_SIGNALS else status

# SIGKILL and SIGSEGV: the signals that kill a process whose exec fails past the point of no return.
_FAILED_EXEC = {9, 11}

class _Look:
    """What /proc has shown of the process of an Exec."""

    __slots__ = ("changed", "event", "ids", "length", "read_ns", "stat", "sure", "until_ns", "words", "zombie")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.read_ns = 0                      # when it was read; 0: not yet
        self.words: bytes | None = None       # for Exec._words
        self.length = 0                       # for Exec._length: one too many if `words` are cut
        self.ids: tuple[Any, ...] = ()        # for Exec._more
        self.zombie = False                   # whether the process had ended by then
        self.changed = False                  # whether it has changed its user ids since the exec
        self.stat: list[bytes] | None = None  # its /proc/PID/stat when it was looked at again
        self.until_ns = 0                     # by when it must have gone on
        self.sure = False                     # whether this is right, unless what is received from now on disproves it

class _Namer:
    """Completes the Execs that come as datagrams by what /proc shows: with what is right, or not at all.

    /proc shows what the last exec has brought, and that some microseconds before the kernel reports this exec. So what
    has been read can be of a later exec, until the process is seen past that moment: it ends, sleeps or has run on. If
    no other EXEC of the process has been received by then, it is right.
    """

    _PATIENCE = 50_000_000  # ns for a process to go on behind its exec: first it has to get a processor
    _FIRST = 2_000_000      # ns until it is looked at again: many have ended by then

    def __init__(self, subscription: _Subscription, processes: dict[int, _Process], paths: bool) -> None:
        self._now, self._processes, self._paths = subscription.now, processes, paths
        self._cgroups: dict[int, str] = {}    # their paths by their ids
        self.expected: dict[int, bytes] = {}  # command lines of children that we have started
        self.unnamed: dict[int, _Look] = {}   # of each process: at its last Exec, until that is complete
        self.due = 0                          # when to look at these processes again
        self.sees_forks = True                # whether all FORKs are received: they tell of a pid's new owner

    def on_exec(self, event: Any, wanted: int) -> None:
        """An EXEC. It ends the wait of an earlier one."""
        pid = event.pid
        if wanted:
            self.unnamed[pid] = _Look(event)
        elif pid in self.unnamed:
            del self.unnamed[pid]
        if pid in self.expected:
            event._words = self.expected.pop(pid)
            event._length = len(event._words)

    def on_exit(self, event: Any) -> None:
        """The EXIT of the first thread of a process that is in `unnamed`."""
        pid = event.pid
        look, signal, process = self.unnamed[pid], event.exit_code & 0x7F, self._processes.get(pid)
        if not look.read_ns or look.zombie:
            look.sure = not signal  # the name of the zombie, if it is one: it has not failed in an exec, which kills
        elif not look.sure and event.timestamp_ns >= look.read_ns and signal not in _FAILED_EXEC:
            if process and not process.threaded and not process.incomplete:
                self._complete(look)
            else:  # an exec by another thread ends the first, whose EXIT can come when /proc shows the new command line
                look.sure = self._has_ended(pid)
            return
        if not look.sure:
            del self.unnamed[pid]

    @staticmethod
    def _has_ended(pid: int) -> bool:
        """Whether all threads of a process have ended: its EXECs have been sent."""
        fields = _stat_fields(pid)
        return not fields or (fields[0] in b"ZX" and int(fields[17]) <= 1)

    def read(self) -> bool:
        """Read what has not been read yet. Returns whether some of it is sure: if so, receive again at once."""
        for pid, look in [*self.unnamed.items()]:
            if not look.read_ns:
                with contextlib.suppress(OSError):
                    self._read(pid, look)
                # What is no zombie after its EXIT has the pid next, or has threads that live on.
                if look.words is None or (look.sure and not look.zombie):
                    del self.unnamed[pid]
        return any(look.sure for look in self.unnamed.values())

    def _read(self, pid: int, look: _Look) -> None:
        # The paths first: if they are a later program's, so is the command line, which is guarded.
        paths = (_proc_link(pid, "exe"), _proc_link(pid, "cwd")) if self._paths else (None, None)
        words, whole = _live_cmdline(pid)
        now = look.read_ns = self._now()
        self.due = min(self.due, now + self._FIRST) if len(self.unnamed) > 1 else now + self._FIRST
        if not words:
            fields = _stat_fields(pid)
            # It may be in the middle of its next exec, which another thread can call, or be another process by now.
            if not fields or fields[0] not in b"ZX" or int(fields[17]) > 1 or not self.sees_forks:
                return
            look.zombie, words = True, _bracketed(pid)
        parent_pid, *ids = _pidfd_ids(pid, self._cgroups) or _proc_ids(pid)
        process = self._processes.get(pid)
        if not process or process.parent_pid != parent_pid:  # it may have changed since the exec
            parent_pid = None
        look.words, look.length, look.ids = words, len(words) + (not whole), (parent_pid, *ids, *paths)

    def sure(self) -> list[_Look]:
        """What is right, unless an event that has happened by now, and is still to be received, disproves it."""
        now = self._now()
        if now >= self.due:
            self._look_again(now)
        return [look for look in self.unnamed.values() if look.sure]

    def _look_again(self, now: int) -> None:
        """Find out which of them have gone on. For those that have ended, the EXIT will tell."""
        newest = 0
        for pid, look in [*self.unnamed.items()]:
            look.until_ns = look.until_ns or now + self._PATIENCE
            if now > look.until_ns + look.sure * 20 * self._PATIENCE:  # in a storm there is always more to receive
                del self.unnamed[pid]
                continue
            newest, fields = max(newest, look.read_ns), None
            with contextlib.suppress(OSError):
                fields = _stat_fields(pid)
            if fields and fields[0] not in b"ZX" and not look.zombie:
                look.stat = look.stat or fields
                look.sure = look.sure or _went_on(look.stat, fields)
        self.due = now + min(max(self._FIRST, now - newest), 5 * self._FIRST)

    def complete(self, looks: Iterable[_Look]) -> None:
        """What is sure has not been disproved."""
        for look in looks:
            if self.unnamed.get(look.event.pid) is look:
                self._complete(look)

    def _complete(self, look: _Look) -> None:
        event, ids = look.event, look.ids
        event._more = (ids[0], None, None, *ids[3:]) if look.changed else ids
        if event._words is None:
            event._words, event._length = look.words, look.length
        del self.unnamed[event.pid]  # the last step: an exception before it does no harm

def _newest_forks(events: list[Any]) -> dict[int, int]:
    """When each of the processes was forked whose FORK is among these."""
    return {event.pid: event.timestamp_ns for event in events if event.what == _FORK and event.tid == event.pid}

class _DatagramSource(_Source):
    """The events as datagrams of the kernel: for ordinary users and old kernels. What the eBPF program does there is
    done here, behind a filter in classic BPF."""

    name = "netlink"
    gather = 0.0004  # who waits misses names

    _SLOTS = 64      # datagrams at a call: 0.84 us each; 16 at a call cost 1.0, 256 no less than 64
    _SLOT = 4 + 4 * 76 + 12  # bytes for each, with room for four messages: the kernel sends one, and small is fast
    _PIDFDS = 256    # that may be held at a time: a program has 1,024 descriptors by default

    def __init__(self, subscription: _Subscription, threads: bool, paths: bool) -> None:
        self._subscription, self._threads = subscription, threads
        self._tracker = _ThreadTracker(threads, self._live_tids, self._status, self._open_pidfd, self._close_pidfd)
        self._namer = _Namer(subscription, self._tracker.processes, paths)
        self.unnamed = self._namer.unnamed
        self._pidfds = 0                    # how many are held
        self.pending: list[Any] = []        # events that the next read() will give
        self._gap: int | None = None        # after an overrun: when it was noticed
        self._drops = subscription.dropped  # as far as they are reported
        self._dropped = self._drops         # when a name was last certain
        self._filter: Any = None            # what the filter was made from
        self._folded: list[Any] = []        # what the last read() had to fold
        # Of these and of `pending`, when the newest FORK of each pid was; None until somebody asks.
        self._forks: dict[int, int] | None = None
        self.fds = (subscription.sock.fileno(),)
        # What recvmmsg(2) fills. proc_event, 36 bytes into a datagram, lies at a multiple of 8.
        self._buffer = bytearray(self._SLOTS * self._SLOT)
        self._u32s = memoryview(self._buffer).cast("I")
        self._messages = (_mmsghdr * self._SLOTS)()
        self._senders = (_sockaddr_nl * self._SLOTS)()
        self._recvmmsg = _libc().recvmmsg
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
        length = _mmsghdr.msg_len.offset
        self._length = memoryview(self._messages).cast("B")[length:length + 4].cast("I")  # of the first
        self._port = memoryview(self._senders).cast("B")[4:8].cast("I")                   # its sender's: 0, the kernel
        self._refilter()

    def _refilter(self) -> None:
        """Make the kernel drop what nobody wants, as far as a filter in classic BPF can see that."""
        tracker, pids = self._tracker, None
        processes = tracker.processes
        kinds = tracker.everything
        for process in processes.values():
            kinds |= process.kinds | process.inherited
        if not tracker.everything and len(processes) < 1000 and not any(p.inherited for p in processes.values()):
            pids = tuple(processes)
        self._namer.sees_forks = pids is None
        wanted = (kinds and kinds | _LIFE | (_UID if kinds & _EXEC else 0), pids, bool(kinds & _FORK))
        if wanted != self._filter:
            try:
                self._subscription.attach(_classic_filter(*wanted))
            except OSError:  # too many pids for net.core.optmem_max
                self._subscription.attach(_classic_filter(wanted[0]))
            self._filter = wanted

    def add(self, pid: int, kinds: int, inherited: int) -> bool:
        new = self._tracker.add(pid, kinds, inherited, self._subscription.now())
        passing, pids, _ = self._filter
        wanted = kinds | inherited
        if pids is not None or (wanted | (_UID if wanted & _EXEC else 0)) & ~passing:
            self._refilter()
        if new:
            self._tracker.count(pid)  # listen first, look second, so that nothing falls between
        return new

    def remove(self, pid: int) -> None:
        process = self._tracker.processes.get(pid)
        if process and self._tracker.everything & _ANY_EXIT:
            process.kinds = process.inherited = 0
        else:
            self._tracker.remove(pid)
        self._refilter()

    def watch_all(self, kinds: int) -> None:
        self._tracker.everything = kinds
        if not kinds & _ANY_EXIT:
            for pid in [pid for pid, process in self._tracker.processes.items() if not process.kinds]:
                self._tracker.remove(pid)
        self._refilter()

    def expect(self, pid: int, words: bytes | None) -> None:
        if words is not None:
            self._namer.expected[pid] = words

    @property
    def due(self) -> int:
        return self._namer.due

    def known(self) -> dict[int, int]:
        return {pid: process.since_ns for pid, process in self._tracker.processes.items()}

    @property
    def lost(self) -> int:
        return self._subscription.dropped

    def read(self, most: int) -> _Read:
        tracker, namer, unnamed = self._tracker, self._namer, self.unnamed
        sure = namer.sure() if unnamed else []
        if self.pending:
            most = max(most, self._SLOTS)
            received, self.pending, more = self.pending[:most], self.pending[most:], True
        else:
            self._forks = None
            received, more = self._receive(min(most, self._SLOTS))
        lost: list[Any] = []
        if self._gap is not None:
            # What was queued when the overrun was noticed is older than that. The kernel queues nothing more until
            # all of it has been read, so what comes then is younger.
            unnamed.clear()  # an EXEC may be lost
            cut = next((i for i, event in enumerate(received) if event.timestamp_ns > self._gap), len(received))
            if cut < len(received) or not more:
                received, self.pending = received[:cut], received[cut:] + self.pending
                before, self._drops, self._gap = self._drops, self._subscription.dropped, None
                lost = [_lost_event(self._drops - before, self._subscription.now())]
                more = True
        events: list[Any] = []
        cut_off, self._folded = False, received
        for event in received:
            what = event.what
            if what == _EXEC:
                process = tracker.processes.get(event.pid)
                namer.on_exec(event, ((process.kinds if process else 0) | tracker.everything) & _EXEC)
            elif what == _EXIT:
                process = tracker.processes.get(event.pid)
                if process and (process.kinds | tracker.everything) & _ANY_EXIT:
                    self._add_cost(event, process)
                if namer.expected:
                    namer.expected.pop(event.pid, None)
                if event.pid in unnamed and event.tid == event.pid:
                    namer.on_exit(event)
            elif what == _UID:
                if event.pid in unnamed:
                    unnamed[event.pid].changed = True
            elif not what:  # several messages in a datagram, and no room for all
                cut_off = True
                unnamed.clear()
                events.append(event)
                continue
            elif what == _FORK and event.pid in unnamed and event.tid == event.pid:  # the pid has a new owner
                del unnamed[event.pid]
            events += tracker.fold(event)
        if sure and not more:
            dropped = self._subscription.dropped
            if dropped == self._dropped:
                namer.complete(sure)
            else:  # an overrun behind the first message, which recvmmsg(2) reports at the next call
                self._dropped, more = dropped, True
        if lost:
            unnamed.clear()
        elif unnamed:
            more = namer.read() or more
        return events + lost if lost else events, more or bool(self.pending), cut_off or bool(lost)

    def _add_cost(self, event: Any, process: _Process) -> None:
        """Give an Exit what can be known of the cost of a process that was forked under the watch. And its status, if
        its zombie tells that of a fatal signal, which can come between exit(2) and the EXIT.

        CPU time: of a zombie that never had a second thread, since /proc/PID/schedstat is the leader's own. The sums of
        /proc/PID/io would hold those of its children.
        """
        if process.tids is not None or process.incomplete or (process.threaded and self._threads):
            return
        event.start_ns = process.since_ns
        if process.threaded or not os.access(f"/proc/{event.pid}", os.F_OK):  # most have been reaped by now
            return
        try:
            cpu_ns = int(_contents(f"/proc/{event.pid}/schedstat", 100).split()[0])
        except OSError:
            return
        fields = _stat_fields(event.pid)
        # More than it has lived: of a later process with its pid. 0: the kernel keeps no schedstat.
        if fields and fields[0] in b"ZX" and self._subscription.is_from(_stat_of(fields), event.timestamp_ns) and (
                0 < cpu_ns <= event.timestamp_ns - process.since_ns + 1_000_000) and not self._has_new_owner(
                event.pid, event.timestamp_ns):
            event.cpu_ns, event.major_faults = cpu_ns, int(fields[9])
            if fields[17] != b"0" and int(fields[49]) & 0x7F and not event.exit_code & 0x7F:  # as in _zombie_status()
                event.exit_code = int(fields[49])

    def _has_new_owner(self, pid: int, timestamp_ns: int) -> bool:
        """Whether a pid may be that of a later process than the one of this event.

        /proc has start times in ticks, which can be the same. But a process that has ended has its FORK in the socket.
        """
        if self._forks is None:
            self._forks = _newest_forks(self._folded)
        for _ in range(16):
            events, more = self._receive(self._SLOTS)
            self.pending += events
            self._forks.update(_newest_forks(events))
            if not more:
                return self._forks.get(pid, 0) > timestamp_ns
            if self._gap is not None:
                break
        return True

    def _receive(self, most: int) -> tuple[list[Any], bool]:
        """What is in at most so many datagrams, and whether there may be more. Only those of the kernel count."""
        count = self._recvmmsg(self.fds[0], self._messages, most, _socket.MSG_DONTWAIT, None)
        number = ctypes.get_errno() if count < 0 else 0
        if number == errno.ENOBUFS:
            self._gap = self._subscription.now()
        elif number and number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
        more = count == most or number == errno.ENOBUFS
        if count <= 0:
            return [], more
        buffer = self._buffer
        if count == 1 and self._length[0] == _SIZE and not self._port[0] and self._u32s[10] in _COPIES:
            return [_COPIES[self._u32s[10]](buffer, 40)], more
        starts = range(4 + _PROC_EVENT, len(buffer), self._SLOT)
        if all(array[:size * count].tobytes() == usual[:size * count] for array, usual, size in self._usual):
            try:
                return [_COPIES[self._u32s[start >> 2]](buffer, start) for start in starts[:count]], more
            except KeyError:
                pass  # an ack, or a kind that we do not know
        events: list[Any] = []
        try:
            for message, sender, start in zip(self._messages[:count], self._senders, starts):
                if not sender.nl_pid:
                    events += _decode(buffer, start - _PROC_EVENT, start - _PROC_EVENT + message.msg_len)
                    if message.msg_hdr.msg_flags & _socket.MSG_TRUNC:  # more messages than there is room for
                        events.append(_lost_event(None, self._subscription.now()))
                # What the kernel does not write stays as it is: so that it is usual again.
                sender.nl_pid, sender.nl_groups = 0, _CN_IDX_PROC
        finally:
            buffer[:] = bytes(len(buffer))  # behind an EXIT are zeros: no cost is known
        return events, more

    def _status(self, pid: int, pidfd: int, timestamp_ns: int) -> int | None:
        """The wait status of a process whose last EXIT was at that time, if anybody can be asked."""
        status = _zombie_status(pid) if self._subscription.was_there(pid, timestamp_ns) else None
        if status is not None and self._has_new_owner(pid, timestamp_ns):
            status = None
        return _reaped_status(pidfd) if status is None and pidfd >= 0 else status

    def _live_tids(self, pid: int, timestamp_ns: int) -> set[int]:
        if not self._subscription.was_there(pid, timestamp_ns):
            return set()
        return {tid for tid, live in _tids(pid).items() if live}

    def _open_pidfd(self, pid: int, timestamp_ns: int) -> int:
        pidfd = -1
        with contextlib.suppress(OSError):
            if self._pidfds < self._PIDFDS and _pidfd_has_status():
                pidfd = os.pidfd_open(pid)
                if self._subscription.was_there(pid, timestamp_ns) and not self._has_new_owner(pid, timestamp_ns):
                    self._pidfds += 1
                    return pidfd
        if pidfd >= 0:
            os.close(pidfd)
        return -1

    def _close_pidfd(self, pidfd: int) -> None:
        self._pidfds -= 1
        os.close(pidfd)

    def recount(self, live: Iterable[int], gone: Iterable[int]) -> None:
        for pid in live:
            self._tracker.recount(pid, self._is_ending)
        for pid in gone:
            self._tracker.recount(pid, lambda pid: True)

    @staticmethod
    def _is_ending(pid: int) -> bool:
        stat = _stat(pid)
        return stat.flags & _PF_EXITING != 0 if stat else not _hidden(pid)

    def status(self, pid: int, since_ns: int) -> int:
        return self._tracker.end_status(pid, since_ns, lost=True)

    def forget(self, pid: int) -> None:
        self._tracker.remove(pid)
        self._namer.expected.pop(pid, None)

    def close(self) -> None:
        for pid in list(self._tracker.processes):
            self._tracker.remove(pid)

class _Tracer:
    """What traces a command: the loop of the helper process.

    Its methods, which take no default arguments, run without this file: only with what _Helper sends along. Its first
    thread alone may call ptrace(2). It looks at stops and leaves them in place (WNOWAIT): should it be killed, a signal
    for which a process has stopped is delivered all the same. When it ends, the kernel lets all go.
    """

    def __init__(self, caller: int, threads: bool, paths: bool, usage: bool, old_kernel: bool) -> None:
        self.caller, self.threads, self.paths, self.usage = caller, threads, paths, usage
        self.old_kernel = old_kernel                  # before Linux 5.17
        self.tasks: dict[int, int] = {}               # whose end is still to come: thread -> process
        self.held: dict[int, tuple[int, float]] = {}  # stopped at birth, until its creator's event: signal, since when
        self.told: dict[int, int] = {}                # whose Fork did not wait for that: when it began, in ticks
        self.parents: dict[int, tuple[int, int]] = {}  # thread and process that forked a process
        self.threaded: set[int] = set()               # processes that have had a second thread
        self.killed = False                           # whether somebody was, who may have been forking
        self.cgroups: dict[int, str] = {}             # their paths by their ids
        # With usage:
        self.shared: dict[int, bool] = {}             # who runs in its creator's memory; False: perhaps
        self.peaks: dict[int, int] = {}               # how much of its memory a process has had resident
        self.io: dict[int, tuple[int, int] | None] = {}    # bytes read and written by a thread that is about to end
        self.sums: dict[int, tuple[int, int] | None] = {}  # the same of all threads of a process that have ended
        self.strangers: set[int] = set()              # what `starter` has created that is no process
        self.starter = 0                              # the caller's thread, while it starts a command
        self.leaving = self.waiting = self.writing = False  # release(); wait(); whether write() runs
        self.commands: list[int] = []
        self.number = 0                               # that of the last
        self.backlog: list[bytes] = []                # what the pipe has no room for
        self.lock = _thread.allocate_lock()           # serialises put() and write()
        self.obeyed = _thread.allocate_lock()         # released by obey()
        libc = ctypes.PyDLL(None, use_errno=True)     # which keeps the interpreter's lock: nothing here blocks
        tgkill, kcmp = {"x86_64": (234, 312), "aarch64": (131, 272), "riscv64": (131, 272), "s390x": (241, 343)}.get(
            os.uname().machine if sys.maxsize >> 32 else "", (-1, -1))
        self.kcmp: tuple[Any, ...] = libc.syscall, kcmp
        try:
            self.tgkill: tuple[Any, ...] = (libc.tgkill,)
        except AttributeError:                        # musl, and glibc before 2.30
            self.tgkill = libc.syscall, tgkill
        self.ptrace: Any = libc.ptrace                # with argtypes a call would take twice as long
        self.message = ctypes.c_ulong()               # what PTRACE_GETEVENTMSG fills
        self.address = ctypes.byref(self.message)

    def put(self, what: int, tid: int, pid: int, *more: Any) -> None:
        """Write a record. The command must not wait for its reader."""
        data = marshal.dumps((what, time.monotonic_ns(), tid, pid, *more))
        data = len(data).to_bytes(4, sys.byteorder) + data
        with self.lock:
            if not self.writing:
                try:
                    data = data[os.write(1, data):]
                except BlockingIOError:
                    pass
                if not data:
                    return
                self.writing = True
                _thread.start_new_thread(self.write, ())
            self.backlog.append(data)

    def write(self) -> None:
        """Write the backlog: a thread."""
        ready = select.poll()
        ready.register(1, select.POLLOUT)
        while True:
            with self.lock:
                data, self.backlog = b"".join(self.backlog), []
                self.writing = bool(data)
            if not data:
                return
            rest = memoryview(data)
            while rest:
                ready.poll()
                try:
                    rest = rest[os.write(1, rest):]
                except BlockingIOError:
                    pass

    def listen(self, first: int) -> None:
        """Take the caller's commands: a thread. We end with the caller, or when it closes the socket."""
        heard = select.poll()
        heard.register(0, select.POLLIN)
        try:  # children that it has forked hold the socket, too
            heard.register(os.pidfd_open(self.caller), select.POLLIN)
        except (AttributeError, OSError):  # Linux before 5.3
            pass
        try:
            while [fd for fd, _ in heard.poll()] == [0]:
                command = os.read(0, 8)  # ECONNRESET if it was killed before it has read an answer
                if not command:
                    break
                self.obeyed.acquire(False)
                self.commands.append(int.from_bytes(command, sys.byteorder))
                while self.commands:  # a signal can come just before the system call that it is to interrupt
                    _signal.pthread_kill(first, _signal.SIGUSR1)
                    self.obeyed.acquire(True, 0.001)
        finally:
            os._exit(0)

    def on_signal(self, *_: object) -> None:
        """listen() has a command: end a waitid(2) that is under way."""
        if self.waiting:
            self.waiting = False
            raise InterruptedError  # what waitid(2) may just have told is told again

    def wait(self, flags: int) -> Any:
        """The next stop or end; None if there are commands, if there is nobody, or with WNOHANG nothing."""
        try:
            self.waiting = True
            return None if self.commands else os.waitid(os.P_ALL, 0, flags)
        except ChildProcessError:
            if not self.commands:
                _signal.pause()
            return None
        finally:
            self.waiting = False

    def take(self, tid: int) -> bool:
        """Take a stop; False if there is none any longer, since the task has just been killed."""
        try:
            return bool(os.waitid(os.P_PID, tid, os.WSTOPPED | os.WNOHANG | _PTRACE_WALL))
        except ChildProcessError:
            return False

    def obey(self) -> None:
        """Seize the thread of the caller that is to start a command, or let go of it. The answer is an errno.

        A command is a number by which to know its answer, and the thread, or 0.
        """
        self.number, tid = divmod(self.commands[0], 1 << 32)
        if tid:
            options = _PTRACE_OPTIONS | _PTRACE_O_TRACEEXIT * self.usage
            failed = self.ptrace(_PTRACE_SEIZE, tid, None, options)
            if not failed:
                self.starter = tid
            self.answer(ctypes.get_errno() if failed else 0)
        elif self.starter and not self.ptrace(_PTRACE_INTERRUPT, self.starter, None, None):
            self.leaving = True  # it stops
        else:
            self.answer(errno.ESRCH)
        del self.commands[0]
        self.obeyed.release()

    def answer(self, result: int) -> None:
        """Tell the caller what has become of the command of this number."""
        os.write(0, (self.number << 32 | result).to_bytes(8, sys.byteorder))

    def began(self, tid: int) -> int:
        """When a task began, in ticks; 0 if it is gone."""
        fields = _stat_fields(tid)
        return int(fields[19]) if fields else 0

    def born(self, tid: int, creator: int, event: int) -> None:
        """Tell of a task that has been created; creator: a thread, or 0 if it was killed before it told of that."""
        if creator and tid in self.told:
            told = self.told.pop(tid)
            if self.began(tid) in (0, told):
                return  # the event comes late
        is_ours, late = creator and creator == self.starter, not creator
        tgkill, *first = self.tgkill
        is_process = tgkill(*first, tid, tid, 0) == 0 or ctypes.get_errno() == errno.EPERM
        if not creator:
            process, creator = _leader(tid) or tid, _proc_ids(tid)[0] or 0
            parent = creator
        elif is_ours:
            process = parent = self.caller
        else:
            process = parent = self.tasks.get(creator, creator)
        if is_process:
            self.tasks[tid] = tid
            if self.threads:
                self.parents[tid] = creator, parent
            if self.usage:
                kcmp, *number = self.kcmp
                same = 0 if event == _PTRACE_EVENT_VFORK else kcmp(*number, creator, tid, 1, 0, 0)  # KCMP_VM
                if same <= 0:  # -1: seccomp can forbid to ask
                    self.shared[tid] = same == 0
            self.put(_FORK, tid, tid, creator, parent, late)
        elif is_ours:
            self.strangers.add(tid)
        else:
            self.tasks[tid] = process
            self.threaded.add(process)
            if self.threads:
                self.put(_FORK, tid, process, *self.parents.get(process, (parent, parent)), late)

    def release(self, tid: int) -> None:
        """Have a task run that has waited to be told of."""
        number, _ = self.held.pop(tid)
        if tid in self.strangers:
            self.strangers.remove(tid)
            self.ptrace(_PTRACE_DETACH, tid, None, None)
        else:
            self.ptrace(_PTRACE_CONT if number == _signal.SIGTRAP else _PTRACE_LISTEN, tid, None, None)

    def overdue(self) -> None:
        """The events of some creators have not come: they were killed before."""
        now = time.monotonic()
        for tid in [tid for tid, (_, since) in self.held.items() if now - since > 0.1]:
            self.found(tid)
            self.release(tid)

    def found(self, tid: int) -> None:
        """Tell of a task whose creator has not."""
        self.told[tid] = self.began(tid)
        self.born(tid, 0, 0)

    def find_rest(self) -> None:
        """Nobody is known any longer. Tell of who was being forked as its creator was killed, if there is anybody."""
        while not self.tasks:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT | os.WNOHANG | _PTRACE_WALL)
            except ChildProcessError:
                self.killed = False
                return
            if info is not None:
                self.found(info.si_pid)
            elif self.held:
                tid = next(iter(self.held))
                self.found(tid)
                self.release(tid)
            else:
                time.sleep(0.0001)  # it is about to stop for us

    def executed(self, pid: int) -> None:
        """Tell of an exec. The process is stopped, so all that /proc says is so."""
        former = pid
        if pid in self.threaded:
            self.take(pid)  # else PTRACE_CONT fails with ESRCH if a thread has taken the pid
            if not self.ptrace(_PTRACE_GETEVENTMSG, pid, None, self.address):
                former = self.message.value
        if former != pid:  # a thread has taken the place of the first
            self.tasks.pop(former, None)
            read_written = None
            if self.usage:
                self.io.setdefault(pid, None)  # not known if the first was killed before it stopped at its end
                read_written = self.io_used(pid, pid)
            if self.threads:
                self.put(_EXIT, pid, pid, 0, False, None, None, None, *(read_written or ()))
        self.shared.pop(pid, None)
        try:
            words, _ = _read_cmdline(f"/proc/{pid}")
        except OSError:
            words = b""
        paths = [_proc_link(pid, name) if self.paths else None for name in ("exe", "cwd")]
        # A process that has been killed in this moment has no command line any more.
        ids = _pidfd_ids(pid, self.cgroups) or _proc_ids(pid)
        self.put(_EXEC, pid, pid, words or None, (*ids, *paths))

    def ended(self, tid: int, code: int, status: int) -> None:
        """Tell of an end, and take it. code, status: as waitid(2) has them.

        It is told before it is taken, so that its parent cannot know sooner. Before Linux 5.17 that is too soon for us,
        too, if there were threads: the status is then that of the first.
        """
        if tid not in self.tasks:  # it was killed before it ran
            self.held.pop(tid, None)
            self.found(tid)
        process, threaded = self.tasks.pop(tid, 0), tid in self.threaded
        used = self.used(tid, process)
        reaped = self.old_kernel and threaded
        if reaped:
            status = os.waitpid(tid, _PTRACE_WALL)[1]
        elif code == os.CLD_EXITED:
            status <<= 8
        elif code == os.CLD_DUMPED:
            status |= 0x80
        if threaded:  # one that was killed in its exec has left its old number behind
            self.threaded.remove(tid)
            for other in [other for other, its in self.tasks.items() if its == tid]:
                del self.tasks[other]
        if process == tid:
            self.parents.pop(tid, None)
            self.killed |= threaded or status & 0x7F == _signal.SIGKILL
            # Who reads takes this for the end of all, if nobody else is known.
            if self.killed and not (self.tasks or self.starter):
                if not reaped:
                    os.waitpid(tid, _PTRACE_WALL)
                reaped = True
                self.find_rest()
        if process == tid or (process and self.threads):
            self.put(_EXIT, tid, process, status, process == tid, *used)
        if not reaped:
            os.waitpid(tid, _PTRACE_WALL)

    def about_to_end(self, tid: int) -> None:
        """With usage: read what is gone at the end, and go on. Threads share the memory: who is last says the most."""
        process = self.tasks[tid]
        if tid in self.io:  # that of the first thread, whose place this one has taken in an exec that failed
            self.io_used(tid, process)
        self.io[tid] = self.read_io(tid)  # of a process that has ended only root may
        try:
            status = _contents(f"/proc/{tid}/status", 1 << 14)
            self.peaks[process] = int(status.partition(b"\nVmHWM:")[2].split(None, 1)[0]) << 10
        except (OSError, IndexError):  # it has just been killed
            self.peaks.pop(process, None)
        if self.ptrace(_PTRACE_CONT, tid, None, None):  # likewise: who takes its number in an exec may have been read
            del self.io[tid]
            self.peaks.pop(process, None)

    def read_io(self, tid: int) -> tuple[int, int] | None:
        """Bytes that a thread has read from storage, and changed in files there; None if it is not dumpable."""
        try:
            figures = _contents(f"/proc/{tid}/task/{tid}/io", 1 << 10).split()
        except OSError:
            return None
        return int(figures[9]), int(figures[11])

    def io_used(self, tid: int, process: int) -> tuple[int, int] | None:
        """read_io() of a thread that has ended; without `threads` of all that have of its process."""
        used = self.io.pop(tid)
        if not self.threads:
            sums = self.sums.get(process, (0, 0))
            self.sums[process] = used = used and sums and (sums[0] + used[0], sums[1] + used[1])
        return used

    def used(self, tid: int, process: int) -> list[Any]:
        """What a thread has used that has ended, or without `threads`, if it is the first, its process: CPU time in ns;
        with `usage` peak memory, whether that is exact, bytes read and written, and major faults. None: not known.
        """
        cpu_ns, path = None, f"{tid}/task/{tid}" if self.threads else str(tid)
        try:
            if self.threads:
                cpu_ns = int(_contents(f"/proc/{path}/schedstat", 100).split(None, 1)[0]) or None
            elif tid == process:
                cpu_ns = time.clock_gettime_ns(~tid << 3 | 2)  # CPUCLOCK_SCHED of the process
        except OSError:  # a kernel without
            pass
        if not self.usage:
            return [cpu_ns]
        if tid not in self.io:
            self.io[tid] = self.read_io(tid)
            self.peaks.pop(process, None)  # it may have used more than was read when another was about to end
        read_written = self.io_used(tid, process) or (None, None)
        if tid != process and not self.threads:
            return []
        peak, shared = self.peaks.pop(tid, None), self.shared.pop(tid, None)
        self.sums.pop(tid, None)
        if shared or self.threads:
            peak = None
        stat = _stat_fields(path)
        return [cpu_ns, peak, None if peak is None else shared is None, *read_written, int(stat[9]) if stat else None]

    def run(self) -> None:
        """Never returns."""
        for number in _signal.valid_signals():  # a tracee decides by which signal its end is notified
            if number not in (_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD):
                _signal.signal(number, _signal.SIG_IGN)
        _signal.signal(_signal.SIGUSR1, self.on_signal)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self.answer(os.getpid())
        _thread.start_new_thread(self.listen, (_thread.get_ident(),))
        flags, trapped = os.WEXITED | os.WSTOPPED | os.WNOWAIT | _PTRACE_WALL, os.CLD_TRAPPED
        while True:
            try:
                info = self.wait(flags | os.WNOHANG if self.held else flags)
            except InterruptedError:
                continue
            if info is None:
                if self.commands:
                    self.obey()
                elif self.held:
                    self.overdue()
                    time.sleep(0.0005)
                continue
            tid, code, status = info.si_pid, info.si_code, info.si_status
            if code != trapped:
                self.on_end(tid, code, status)
            elif status < 0x100 and tid in self.tasks:  # for a signal: nothing is to be told
                self.ptrace(_PTRACE_CONT, tid, None, status)
            else:
                self.on_stop(tid, status >> 8, status & 0xFF)

    def on_end(self, tid: int, code: int, status: int) -> None:
        """A task has ended. code, status: as waitid(2) has them."""
        if tid == self.starter:
            self.starter, self.leaving = 0, False
        elif tid in self.strangers:
            self.strangers.remove(tid)
        else:
            return self.ended(tid, code, status)
        os.waitpid(tid, _PTRACE_WALL)
        return None

    def on_stop(self, tid: int, event: int, number: int) -> None:
        """A task has stopped: at a PTRACE_EVENT_, or for a signal of this number."""
        if tid not in self.tasks and tid != self.starter:
            if self.take(tid):  # else nobody else's stop shows
                _, since = self.held.get(tid, (0, time.monotonic()))
                self.held[tid] = number, since  # who is killed meanwhile stops once more, if it is to stop at its end
                if tid in self.strangers:
                    self.release(tid)
            return
        if 0 < event <= _PTRACE_EVENT_CLONE:
            if self.ptrace(_PTRACE_GETEVENTMSG, tid, None, self.address):
                return  # it has just been killed
            new = self.message.value
            if new not in self.tasks or new in self.told:
                self.born(new, tid, event)
            if new in self.held:
                self.release(new)
        elif event == _PTRACE_EVENT_EXEC:
            self.executed(tid)
        elif event == _PTRACE_EVENT_EXIT and tid in self.tasks:
            self.about_to_end(tid)
            return
        if tid == self.starter and self.leaving:
            self.starter, self.leaving = 0, False
            self.ptrace(_PTRACE_DETACH, tid, None, None if event else number)
            self.answer(0)
        elif event == _PTRACE_EVENT_STOP and number != _signal.SIGTRAP:  # a signal has stopped it
            self.ptrace(_PTRACE_LISTEN, tid, None, None)
        else:
            self.ptrace(_PTRACE_CONT, tid, None, None if event else number)

class _Helper:
    """The process that traces for us. It stands where the other sources have their subscription.

    It is an interpreter of its own, since a fork of this one would take along its memory, and locks that other threads
    hold. It is not our child, so that no os.wait() meets it, unless we are process 1, or a child subreaper.
    """

    skew = dropped = 0
    now = staticmethod(time.monotonic_ns)
    _SENT = _contents, _leader, _pidfd_ids, _proc_cgroup, _proc_ids, _proc_link, _read_cmdline, _stat_fields
    _BOOT = """if True:
        import os
        if os.fork():
            os._exit(0)
        import ctypes, errno, marshal, select, sys, time, types, _signal, _thread
        arguments, names, functions, methods = marshal.load(open(0, "rb", closefd=False))
        names.update({name: value for name, value in globals().items() if name not in names})
        names.update({name: types.FunctionType(code, names) for name, code in functions.items()})
        tracer = type("Tracer", (), {name: types.FunctionType(code, names) for name, code in methods.items()})
        tracer(*arguments).run()"""

    def __init__(self, threads: bool, paths: bool, usage: bool) -> None:
        """Raises OSError with cause and remedy where this process cannot be traced."""
        import marshal
        import subprocess

        if getattr(sys, "frozen", False) or "py" not in os.path.basename(sys.executable or ""):
            raise OSError(errno.ENOEXEC, 'source "ptrace" takes a Python interpreter: set sys.executable to the path '
                          f"of one, not {sys.executable!r}")
        if not _has_own_proc():
            raise OSError(errno.ENOENT, 'source "ptrace" takes /proc, which is not mounted, or is another PID '
                          "namespace's: unshare --mount-proc mounts it")
        self._number, self._reaps = 0, False
        self._end = -1  # its pidfd
        self._control, theirs = _socket.socketpair()
        self.fd, out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        names = {name: value for name, value in globals().items()
                 if name.startswith(("_PTRACE_", "_PIDFD_")) or name in ("_FORK", "_EXEC", "_EXIT")}
        functions = {function.__name__: function.__code__ for function in self._SENT}
        methods = {name: method.__code__ for name, method in vars(_Tracer).items() if hasattr(method, "__code__")}
        try:
            try:
                flags = "-Ss" if "PYTHONHOME" in os.environ else "-IS"
                starter = subprocess.Popen([sys.executable, flags, "-c", self._BOOT], stdin=theirs.fileno(), stdout=out,
                                           stderr=subprocess.DEVNULL, cwd="/", start_new_session=True)
            except OSError as error:
                remedy = ". Set sys.executable to a Python that this user may run" * (
                    error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC))
                raise OSError(error.errno, f'source "ptrace" runs a helper with {sys.executable}: {error.strerror}'
                              f"{remedy}") from None
            finally:
                theirs.close()
                os.close(out)
            arguments = os.getpid(), threads, paths, usage, _kernel() < (5, 17)
            with contextlib.suppress(BrokenPipeError):
                self._control.sendall(marshal.dumps((arguments, names, functions, methods)))
            starter.wait()
            self.pid = self._answer()
            with contextlib.suppress(AttributeError, OSError):  # Linux before 5.3
                self._end = os.pidfd_open(self.pid)
            stat = _stat(self.pid)
            self._reaps = bool(stat and stat.ppid == os.getpid())
            self.seize()
            self.release()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> int:
        """What it answers to the last command."""
        while True:
            try:
                answer = self._control.recv(8)
            except ConnectionResetError:
                answer = b""
            if not answer:
                raise OSError(errno.ECONNRESET, _NO_HELPER)
            number, result = divmod(int.from_bytes(answer, sys.byteorder), 1 << 32)
            if number == self._number:  # else that command was interrupted
                return result

    def _command(self, tid: int) -> int:
        self._number += 1
        try:
            self._control.sendall((self._number << 32 | tid).to_bytes(8, sys.byteorder))
        except BrokenPipeError:
            raise OSError(errno.ECONNRESET, _NO_HELPER) from None
        return self._answer()

    def seize(self) -> None:
        """Have it trace what this thread forks."""
        tid = threading.get_native_id()
        number = self._command(tid)
        if number == errno.EPERM:  # another exception may have left it seized
            self.release()
            number = self._command(tid)
        if number == errno.EPERM and _yama() == 1:  # only ancestors may trace, and who is allowed to
            _libc().prctl(_PR_SET_PTRACER, self.pid, 0, 0, 0)
            number = self._command(tid)
            _libc().prctl(_PR_SET_PTRACER, 0, 0, 0, 0)
        if number:
            raise _trace_refusal(number)

    def release(self) -> None:
        """The contrary of seize()."""
        try:
            self._command(0)
        except ConnectionResetError:  # it is gone, which read() reports
            pass
        except BaseException:  # of a signal handler
            self._command(0)
            raise

    def close(self, *, ignore: bool = True) -> None:
        """End it: the kernel lets all go that it traces. ignore=False: in a forked child, whose parent goes on."""
        if ignore:
            with contextlib.suppress(OSError):
                self._control.shutdown(_socket.SHUT_RDWR)
            if self._end >= 0:  # waitpid(2) sees a zombie only when its tracer has let go
                ended = select.poll()
                ended.register(self._end, select.POLLIN)
                ended.poll(1000)
            if self._reaps:
                self._reaps = False
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
        self._control.close()
        opened = self.fd, self._end
        self.fd = self._end = -1
        for fd in opened:
            if fd >= 0:
                os.close(fd)

_NO_HELPER = ("the process that traces for cnproc has been killed, or could not be started: what was traced goes on "
              "unwatched. Make another Watcher")

def _yama() -> int:
    """kernel.yama.ptrace_scope: Documentation/admin-guide/LSM/Yama.rst."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            return int(file.read())
    except OSError:
        return 0

def _trace_refusal(number: int) -> OSError:
    """Why the kernel does not let the calling thread be traced, and what to do about it."""
    with open("/proc/thread-self/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    tracer, scope = int(status.get("TracerPid", 0)), _yama()
    if tracer:
        why = (f"process {tracer} traces this one already: strace, a debugger or another cnproc. Run it inside of the "
               "command, or not at all")
    elif scope > 1:
        why = f"kernel.yama.ptrace_scope is {scope}: " + (
            "run as root, or with CAP_SYS_PTRACE (docker run --cap-add=SYS_PTRACE)" if scope == 2 else
            "nobody may trace until the machine is restarted with another setting")
    elif _libc().prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 1:
        why = ("this process is not dumpable, as after a change of its user: call prctl(PR_SET_DUMPABLE, 1), or "
               "have the command change the user: run(..., user=...)")
    elif int(status.get("Seccomp", 0)):
        why = ("a seccomp filter forbids ptrace(2): run with docker run --cap-add=SYS_PTRACE, or "
               "--security-opt seccomp=unconfined")
    else:
        why = f"{os.strerror(number)}. It takes ptrace(2): run as root, or with CAP_SYS_PTRACE"
    return OSError(number, f"the kernel does not let this process be traced: {why}")

class _TraceSource(_Source):
    """The events of commands that we start, as _Tracer sees them: for any user, in any container. None is lost."""

    name = "ptrace"
    gather, patient = 0.01, True
    may_go_silent = False
    only_commands = ('source "ptrace" watches the commands that it starts, by popen() or run(). To watch what is there '
                     'takes "ebpf" or "netlink"')

    def __init__(self, helper: _Helper, threads: bool, paths: bool) -> None:
        self._helper, self._threads = helper, threads
        self._chunks: collections.deque[bytes] = collections.deque()  # what has been read of the pipe
        self._known: dict[int, int] = {}
        self._statuses: dict[int, int] = {}  # of who ended in the last read()
        self.fds = (helper.fd,)

    @contextlib.contextmanager
    def birth(self, mask: int) -> Generator[None, None, None]:
        others = [kind.__name__ for what, kind in _EVENTS.items() if mask & what & ~_LIFE]
        if others:
            raise OSError(errno.EOPNOTSUPP, f'source "ptrace" gives Fork, Exec and Exit, and no {", ".join(others)}: '
                          'source "ebpf" and "netlink" give every kind')
        me = os.getpid()
        try:
            self._known[me] = self._helper.now()
            self._helper.seize()
            yield
        finally:
            try:
                self._known.pop(me, None)
            finally:
                self._helper.release()

    def add(self, pid: int, kinds: int, inherited: int) -> bool:
        new = pid not in self._known
        self._known.setdefault(pid, self._helper.now())
        return new

    def known(self) -> dict[int, int]:
        return dict(self._known)

    def read(self, most: int) -> _Read:
        import marshal

        if self.over:
            raise OSError(errno.ECONNRESET, _NO_HELPER)
        chunks, more = self._chunks, True
        before = len(chunks)
        try:
            # What is read is in the deque in the same step, so that no ctrl-C comes between.
            chunks.extend(itertools.islice(iter(functools.partial(os.read, self._helper.fd, 1 << 16), b""), 1))
            self.over = len(chunks) == before
        except BlockingIOError:
            more = False
        data, at, known = b"".join(chunks), 4, self._known
        events: list[Any] = []
        statuses: dict[int, int] = {}
        while len(data) >= at:
            end = at + int.from_bytes(data[at - 4:at], sys.byteorder)
            if len(data) < end:
                break
            what, now, tid, pid, *values = marshal.loads(data[at:end])
            at = end + 4
            if what == _FORK:
                parent_tid, parent_pid, late = values
                events.append(Fork(_FORK, _REBUILT * late, now, parent_tid, parent_pid, tid, pid))
                if tid == pid:
                    known[pid] = now
            elif what == _EXEC:
                event: Any = Exec(_EXEC, 0, now, tid, pid)
                event._words, event._more = values
                event._length = len(event._words or b"")
                events.append(event)
            else:
                status, last, *used = values
                event = Exit(_EXIT, 0, now, tid, pid, status, _SIGCHLD if tid == pid else 0xFFFFFFFF)
                for name, value in zip(Exit._extra, used):
                    setattr(event, name, value)
                events.append(event)
                if last:
                    event.start_ns = known.pop(pid, None)
                    statuses[pid] = status
                    if self._threads:
                        events.append(_ProcessEnd(_PROCESS_END, pid, now))
        self._chunks, self._statuses = collections.deque([data[at - 4:]]), statuses
        if self.over:
            events.append(_lost_event(None, self._helper.now()))
        return events, more and not self.over, self.over

    def status(self, pid: int, since_ns: int) -> int:
        return self._statuses.get(pid, -1)

    def forget(self, pid: int) -> None:
        self._known.pop(pid, None)

# --------------------------------------------------------------------------------------------------- table

# What is wanted of a process: kinds of its own events, and of those of its children to come.
_Watch = tuple[int, int]
_NOBODY: _Watch = (0, 0)

class _Table:
    """Who is watched, and which events are reported. Pure: it knows no kernel, no clock and no lock.

    The source holds the same so that unwanted events do not get here. It always wants at least what the table wants:
    the source learns of a new watch first, and is rid of an old one last.
    """

    def __init__(self, threads: bool) -> None:
        self._end_what = _PROCESS_END if threads else _EXIT
        self.everything = 0                         # kinds wanted of every process
        self.watched: dict[int, _Watch] = {}        # one by one, or followed
        # While a command is started: of each pid that is followed, when it was forked, and by whom. Pids come again.
        self.parents: dict[int, list[tuple[int, int]]] | None = None
        self.orphans = _NOBODY                      # the watch of a rebuilt Fork whose parent is not watched
        # Watched processes that have ended, while events of theirs may still be in the queue: _Intake.forget_ended().
        self.ended: set[int] = set()
        self.leaving: dict[int, _Watch] = {}        # those whose end sift() has found: until it is in the queue
        self.extra = 0                              # _PROCESS_END to report these, too; else 0. Only main() sets it

    def watch(self, pid: int, kinds: int, inherited: int) -> None:
        """Watch a process, or widen its watch."""
        before = self.watched.get(pid, _NOBODY)
        self.watched[pid] = before[0] | kinds, before[1] | inherited

    def covers(self, pid: int, kinds: int) -> bool:
        """Whether these kinds are wanted of a process and of its children already."""
        own, inherited = self.watched.get(pid, _NOBODY)
        return not kinds & ~(own & inherited)

    def sift(self, events: list[Any]) -> list[Any]:
        """Those of a source's events that are to be reported. Forks are followed, and ends are noted, on the way."""
        watched, everything = self.watched, self.everything | self.extra
        if not watched:
            return [event for event in events if event.what & everything or not event.what
                    or _wanted_exit(everything, event)]
        own_of, end = watched.get, self._end_what
        reported: list[Any] = []
        for event in events:
            what, pid = event.what, event.pid
            if what == _FORK and event.tid == pid:  # it is the parent's event
                parent = event.parent_pid
                own = own_of(parent, _NOBODY)
                if not own[1] and event.cpu == _REBUILT:
                    own = self.orphans
                if own[1]:
                    if self.parents is not None:
                        self.parents.setdefault(pid, []).append((event.timestamp_ns, parent))
                    if own[0] == own[1] and pid not in watched:
                        watched[pid] = own
                    else:  # the child differs, or it was found in /proc before its FORK was read
                        self.watch(pid, own[1], own[1])
            elif what == end:
                own = own_of(pid, _NOBODY)
                if own is not _NOBODY:
                    self.leaving[pid] = own
                    del watched[pid]
                    self.ended.add(pid)
            else:
                own = own_of(pid, _NOBODY)
            if (everything | own[0]) & what or not what or _wanted_exit(everything | own[0], event):
                reported.append(event)
        return reported

    def unwanted(self, event: Any, pid: int | None) -> bool:
        """Whether an event was wanted only by the watch that is being removed: of `pid`, or (None) of everything."""
        what, whose = event.what, _whose(event)
        if not what or (pid is not None and whose != pid) or whose in self.ended:
            return False
        kinds = self.watched.get(whose, _NOBODY)[0] if pid is None else self.everything
        return not (kinds & what or _wanted_exit(kinds, event))

def _wanted_exit(kinds: int, event: Any) -> bool:
    """Whether an event is an Exit that NONZERO_EXIT asks for."""
    return bool(kinds & _NONZERO_EXIT and event.what == _EXIT and event.exit_code)

def _whose(event: Any) -> int:
    """The process that an event is reported for: of a process's fork it is the parent."""
    return int(event.parent_pid if event.what == _FORK and event.tid == event.pid else event.pid)

# ------------------------------------------------------------------------------------------------- watcher

# An iteration lets events gather for a moment. To be woken for each takes four times the CPU of a bare loop in Python,
# because everything that it touches is out of the caches. Events nearer to each other than this (ns) are a storm, in
# which it does not wait to be woken. A process's fork and exec are farther apart.
_STORM = 60_000
_QUIET = 3_000_000_000  # ns without any event after which a waiting reader tests its subscription: 0.1 ms of CPU
_BATCH = 256            # events to take in at a time

class _Waiter:
    """What a reader waits on: the source, and a pipe by which others wake it. All but the waiting only under _lock."""

    def __init__(self, fds: Iterable[int]) -> None:
        # A reader polls: of two descriptors that costs less than an epoll, which is for fileno() alone.
        self._all, self._woken, self._epoll = select.poll(), select.poll(), select.epoll()
        self._pipe = [*os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)]
        self.poll = self._all.poll  # waits until the source has something, or somebody calls set(), or for milliseconds
        self.is_set = False
        self.waiting = False  # whether a reader sleeps: it writes that, and a signal handler reads it
        for fd in fds:
            self._all.register(fd, select.POLLIN)
            self._epoll.register(fd, select.EPOLLIN)
        self.also(self._pipe[0])
        self._epoll.register(self._pipe[0], select.EPOLLIN)

    def also(self, fd: int, *, wanted: bool = True) -> None:
        """Wait on this descriptor, too, also while events gather; or no longer."""
        for poll in self._all, self._woken:
            if wanted:
                poll.register(fd, select.POLLIN)
            else:
                poll.unregister(fd)

    def pause(self, seconds: float) -> None:
        """Let events gather for so many seconds, unless somebody calls set()."""
        if seconds < 0.003:  # poll(2) counts in milliseconds
            time.sleep(seconds)
            return
        self.waiting = True
        try:
            self._woken.poll(seconds * 1000)
        finally:
            self.waiting = False

    def set(self) -> None:
        """Wake the reader, and be readable until clear()."""
        if not self.is_set and self._pipe:
            self.is_set = True
            os.write(self._pipe[1], b"\0")

    def clear(self) -> None:
        """Be readable only if the source is."""
        if self.is_set and self._pipe:
            self.is_set = False
            os.read(self._pipe[0], 1)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        while self._pipe:
            os.close(self._pipe.pop())

class _Intake:
    """What the source gives goes through the table into the queue. Call everything under Watcher._lock.

    Without the lock, a reader pops from `queue`, sets `more` when it has been woken, and looks whether `held` is empty.
    """

    def __init__(self, source: Any, subscription: Any, threads: bool) -> None:
        self.source, self.now = source, subscription.now
        self.table = _Table(threads)
        self.queue: collections.deque[Any] = collections.deque()  # what is to be handed out
        self.held: collections.deque[Any] = collections.deque()   # what waits: an unnamed Exec, and all behind it
        self.recovery = _Recovery(self, subscription, threads)
        self.more = True          # whether the source may have something at once
        self.must_resync = False  # whether events are lost of which only /proc can tell
        self.in_flight = False    # whether events have left the source, and are neither in `batch` nor in the queue
        self.batch: list[Any] = []   # events that are being sifted; report()
        self.moved: list[None] = []  # not empty: what is to be reported of them is in the queue, or held
        self.resyncing = False    # whether a resync is running
        self.storm = False        # whether events come thick and fast
        self.newest = self.now()  # when the newest event happened
        # From adopt() to adopted(): how this process was watched before, and who else.
        self.before: tuple[_Watch | None, frozenset[int]] | None = None

    def take(self, most: int) -> int:
        """Read the source once. Returns when the newest of what came happened, 0 if nothing came."""
        self.forget_ended()
        self.report_in_flight()
        self.in_flight = True
        events, self.more, must_resync = self.source.read(most)
        self.must_resync |= must_resync
        newest = self.accept(events)
        if self.held:
            self.unhold()
        self.in_flight = self.resyncing
        if self.must_resync and not self.resyncing:
            self.recovery.resync([])
        return newest

    def forget_ended(self) -> None:
        """Once the queue is empty, no ended process has events left."""
        if self.table.ended and not (self.queue or self.held):
            self.table.ended.clear()

    def report_in_flight(self) -> None:
        """If an exception, such as a ctrl-C, came between the source and the queue: sift again, or report a loss."""
        if self.batch:
            if not self.moved:
                self.table.watched.update(self.table.leaving)
            self.report([] if self.moved else self.batch)
        if self.in_flight and not (self.resyncing or self.source.over):
            self.source.unnamed.clear()  # what would have disproved a name may be among them
            self.put([_lost_event(None, self.now())])
            self.must_resync = True
            self.in_flight = False

    def accept(self, events: list[Any]) -> int:
        """Put into the queue what is to be reported. Returns when the newest happened."""
        if not events:
            self.storm = False
            return 0
        self.report(events)
        newest: int = events[-1].timestamp_ns if events[-1].what else _newest(events)
        if newest:
            self.storm, self.newest = newest - self.newest < _STORM * len(events), newest
        return newest

    def report(self, events: list[Any]) -> None:
        """Sift these events. If an exception comes amid that, they stay in `batch`: report_in_flight() begins anew."""
        self.table.leaving.clear()
        self.moved.clear()
        self.batch = events
        self.in_flight = self.resyncing
        self.put(self.table.sift(events))
        self.batch = []

    def put(self, events: list[Any]) -> None:
        """Put into the queue what is to be reported: behind what is held."""
        waits = bool(self.held or self.source.unnamed)
        to = self.held if waits else self.queue
        self.moved.extend(map(to.extend, (events,)))  # moved, and noted: one step, which no ctrl-C interrupts
        if waits:
            self.unhold()

    def unhold(self) -> None:
        """Put into the queue what is no longer held."""
        unnamed, number = self.source.unnamed, 0
        for event in self.held:
            if event.what == _EXEC and event.pid in unnamed and unnamed[event.pid].event is event:
                break
            number += 1
        self.queue.extend(_taken(self.held.popleft, number))  # in one step, which no ctrl-C interrupts

    def drain(self) -> None:
        """Take in all that has happened by now: what is decided next is about what comes after it."""
        until = self.now()
        while self.take(_BATCH) <= until and self.more:
            pass

    def check(self) -> None:
        """Take in what read() does not notice."""
        self.report_in_flight()
        self.in_flight = True
        events, more, must_resync = self.source.check()
        self.accept(events)
        self.more |= more
        self.must_resync |= must_resync
        self.in_flight = False

    def keep(self, wanted: Callable[[Any], bool]) -> None:
        """Drop what is not wanted from the queue, and from what is held."""
        queue, held = self.queue, self.held
        queue.appendleft(None)  # at which a reader in another thread stops, to ask for the lock
        kept = [event for event in queue.copy() if event is not None and wanted(event)]
        behind = [event for event in held if wanted(event)]
        self.in_flight = True
        queue.clear()
        queue.extend(kept)
        held.clear()
        held.extend(behind)
        self.unhold()
        self.in_flight = False

    def watch(self, pid: int | None, mask: int, follow: bool) -> None:
        """Watcher.watch(), its arguments checked."""
        if self.source.only_commands:
            raise OSError(errno.EOPNOTSUPP, self.source.only_commands)
        self.drain()
        if pid is None:
            self._watch_all(mask)
            return
        table, before = self.table, self.table.watched.get(pid)
        found: list[tuple[int, int]] = []
        try:
            if _leader(pid) != pid or not self.take_up(pid, mask, mask if follow else 0):
                raise _missing(pid)
            if follow:
                self.follow(pid, found)
        except BaseException:
            if before:
                table.watched[pid] = before
            new: set[int] = {child for child, _ in found} | ({pid} if not before else set[int]())
            for child in new & table.watched.keys():
                del table.watched[child]
                self.source.remove(child)
            self.keep(lambda event: _whose(event) not in new or not table.unwanted(event, _whose(event)))
            raise

    def _watch_all(self, mask: int) -> None:
        table, before = self.table, self.table.everything
        table.everything |= mask
        try:
            self.source.watch_all(table.everything)  # listen first, look second, so that nothing falls between
            if mask & _ANY_EXIT:
                for pid in _pids():
                    self.take_up(pid, 0, 0)
        except BaseException:
            table.everything = before
            self.source.watch_all(before)
            self.keep(lambda event: not table.unwanted(event, None))
            raise

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
        self.keep(lambda event: not self.table.unwanted(event, pid))
        if pid is None:
            self.table.ended.clear()

    def take_up(self, pid: int, mask: int, inherited: int) -> bool:
        """Have the source and the table watch a process that is there; False if it has ended."""
        try:
            new = self.source.add(pid, mask, inherited)
        except OSError as error:
            if error.errno == errno.E2BIG and self.resyncing:
                return False  # it has been counted as lost
            raise
        stat = _stat(pid)
        if _ended(pid, stat):
            if new:  # else its Exit is still to come
                self.source.forget(pid)
            return False
        if mask:
            self.table.watch(pid, mask, inherited)
        return True

    def follow(self, pid: int, found: list[tuple[int, int]]) -> None:
        """Take up the descendants of a followed process that are there. Adds those that are new, and their parents.

        The source already follows new children. So look for old ones until a look finds nobody new. This process is
        never taken up: a watch of its ancestors would never end.
        """
        table, parents = self.table, [pid]
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
                        if self.take_up(child, mask, mask):
                            parents.append(child)
                            if not known:
                                found.append((child, parent))

    def adopt(self, mask: int) -> None:
        """Follow what this process forks from now on, until adopted()."""
        self.drain()
        me, table = os.getpid(), self.table
        self.before = table.watched.get(me), frozenset(table.watched)
        self.source.add(me, mask & _FORK, mask)
        table.watch(me, mask & _FORK, mask)
        table.parents = {}

    def adopted(self, mask: int, child: int, follow: bool) -> None:
        """Let go of all that was forked since adopt(), but for the child (0: nobody) and its descendants."""
        assert self.before
        me, table, (own, watched) = os.getpid(), self.table, self.before
        self.before = None
        try:
            self.drain()
            if not own:  # else the source goes on with more than that, and the table drops it
                self.source.remove(me)
                self.drain()  # what was forked in between
        finally:
            parents, table.parents = table.parents or {}, None
            table.watched.pop(me, None)
            if own:
                table.watched[me] = own
        inherited = own[1] if own else 0  # what other children of ours had before adopt()
        newest = max(parents.get(child, ()), default=None)
        # Forked since adopt(), or found by a resync.
        recent = parents.keys() | (table.watched.keys() - watched - {me}) | {child} - {0}

        def is_other(pid: int, when: int) -> bool:
            """Whether who had the pid then is to be let go: forked since adopt(), and no descendant of the child."""
            first, seen = pid, set[tuple[int, int]]()
            while pid in recent and (pid, when) not in seen:  # what /proc says after a loss can be a circle
                seen.add((pid, when))
                fork = max((fork for fork in parents.get(pid, ()) if fork[0] <= when), default=None)
                if pid == child and fork == newest:
                    return not follow and pid != first
                stat = None if pid in parents else _stat(pid)
                when, pid = fork or (when, stat.ppid if stat else 0)
            return pid == me != first

        if self.source.only_commands:  # so orphans are of a command, whose process was killed as it forked them
            table.orphans = (mask, mask) if follow else _NOBODY
        if not follow and child in table.watched:  # the source follows all the same: only the kernel could stop in time
            table.watched[child] = mask | inherited, inherited
        now = self.now()
        for pid in [pid for pid in table.watched if is_other(pid, now)]:
            if inherited:
                table.watched[pid] = inherited, inherited
            else:
                del table.watched[pid]
                self.source.remove(pid)
        for_me, for_others = table.everything | (own[0] if own else 0), table.everything | inherited  # as before

        def still_wanted(event: Any) -> bool:
            what, whose, when = event.what, _whose(event), event.timestamp_ns
            if whose == me and (event.pid == me or is_other(event.pid, when)):  # a thread of this process, or a child
                kinds = for_me
            elif is_other(whose, when):
                kinds = for_others
            else:
                return True
            return bool(kinds & what) or not what or _wanted_exit(kinds, event)

        self.keep(still_wanted)

def _newest(events: list[Any]) -> int:
    """When the newest of them happened. A Lost says when it was noticed, so older events may come behind it."""
    return next((event.timestamp_ns for event in reversed(events) if event.what), 0)

def _ended_and_forked(events: list[Any], threads: bool) -> tuple[set[int], set[int]]:
    """Of which processes these events report the end, and of which the fork. An end behind a fork of the same pid is
    that of the new process, and does not count."""
    ended: set[int] = set()
    forked: set[int] = set()
    for event in events:
        if event.what == _FORK and event.tid == event.pid:
            forked.add(event.pid)
        elif event.what == (_PROCESS_END if threads else _EXIT) and event.pid not in forked:
            ended.add(event.pid)
    return ended, forked

class _Recovery:
    """After a loss, reports from /proc what must have been lost; also notices a loss that the kernel does not report.

    Only under Watcher._lock.
    """

    def __init__(self, intake: _Intake, subscription: Any, threads: bool) -> None:
        self._intake, self._subscription, self._threads = intake, subscription, threads
        never = 0 if intake.source.may_go_silent else 1 << 63
        self.due = never or subscription.now() + _QUIET // 2  # when to look again whether all that are known live
        self.heard = never or subscription.now()              # when a probe last came through
        self._cost = 0                               # what the last look took of the CPU, in ns
        self._missed: set[tuple[int, int]] = set()   # those that had ended at the last look, and since when known

    def resync(self, pending: list[Any]) -> None:
        """After a loss: report an Exit for each process that is gone, and a Fork for each new descendant.

        pending: events from behind the loss that have been read already. What they report is not reported twice.
        """
        intake, source, table, queue = self._intake, self._intake.source, self._intake.table, self._intake.queue
        if source.over:  # nobody can know what they do from now on
            table.watched.clear()
            intake.must_resync = False
            return
        intake.resyncing = intake.must_resync = True
        try:
            if intake.held:  # so that what /proc tells goes behind all that came before the loss
                source.unnamed.clear()
                intake.unhold()
            known = source.known()
            gone = self._gone(known) - _ended_and_forked(pending, self._threads)[0]
            source.recount(known.keys() - gone, gone & known.keys())
            now = self._subscription.now()
            statuses = {pid: source.status(pid, known.get(pid, now)) for pid in sorted(gone)}
            there = _pids() if table.everything & _ANY_EXIT else []
            intake.in_flight, intake.must_resync = True, False  # what is read from here on may be behind another loss
            pending += self._read_all()
            ended, forked = _ended_and_forked(pending, self._threads)
            exits: list[Any] = []
            for pid in statuses.keys() - ended:
                exits.append(Exit(_EXIT, _REBUILT, now, pid, pid, statuses[pid], _SIGCHLD, 0, 0))
                if self._threads:
                    exits.append(_ProcessEnd(_PROCESS_END, pid, now))
                if pid not in forked:  # else it is a new process's by now
                    source.forget(pid)
            intake.report(exits)
            queue.appendleft(None)  # at which a reader in another thread stops: no more than this is taken meanwhile
            behind = len(queue)
            intake.report(pending)
            listed = (known.keys() - gone) | forked
            found = [(pid, 0) for pid in there if pid not in listed and intake.take_up(pid, 0, 0)]
            for pid in [pid for pid in known if pid in table.watched]:
                intake.follow(pid, found)
            for fork in reversed(table.sift(self._rebuilt_forks(found, known))):
                queue.insert(behind - (not queue or queue[0] is not None), fork)
            intake.in_flight = False
        finally:
            intake.resyncing = False

    def _read_all(self) -> list[Any]:
        """What the source has by now, as it is."""
        until, intake, events = self._subscription.now(), self._intake, []
        while True:
            part, intake.more, must_resync = intake.source.read(_BATCH)
            intake.must_resync |= must_resync
            events += part
            if not intake.more or _newest(part) > until:
                return events

    def _rebuilt_forks(self, found: list[tuple[int, int]], known: dict[int, int]) -> list[Any]:
        """The Forks of processes that were found in /proc, with their parents, or 0 if /proc has to say. A parent's
        Fork comes first, though pids wrap, and /proc can say of both that they started at the same time.
        """
        stats = {pid: stat for pid, stat in ((pid, _stat(pid)) for pid, _ in found) if stat}
        parents = {pid: parent or stats[pid].ppid for pid, parent in found if pid in stats}
        since = dict(known)
        forks: list[Any] = []
        for pid in sorted(parents, key=lambda pid: stats[pid].start_ns):
            line: list[tuple[int, int]] = []  # it, and those of its ancestors that have no Fork yet
            while pid in parents:
                line.append((pid, parents.pop(pid)))
                pid = line[-1][1]
            for pid, parent in reversed(line):
                since[pid] = max(stats[pid].start_ns - self._subscription.skew, since.get(parent, 0), 0)
                forks.append(Fork(_FORK, _REBUILT, since[pid], parent, parent, pid, pid))
        return forks

    def _gone(self, known: dict[int, int]) -> set[int]:
        """Which known or watched processes have ended. known: since when the source knows each pid."""
        # The eBPF program forgets a process as it sends its Exit, even if there was no room for that.
        return (self._intake.table.watched.keys() - known.keys()) | {
            pid for pid, since_ns in known.items() if self._is_gone(pid, since_ns)}

    def _is_gone(self, pid: int, since_ns: int) -> bool:
        """Whether a process that was there at that time has ended: though its pid may be another's now."""
        stat = _stat(pid)
        if not stat:
            return not _hidden(pid)
        return _ended(pid, stat) or stat.start_ns - self._subscription.skew > since_ns + _TICK

    def look(self) -> None:
        """Find out whether all that are known live: an EXIT that the kernel had no memory for is not even counted."""
        began, intake = time.thread_time_ns(), self._intake
        intake.check()
        if intake.must_resync:
            self.resync([])
        known = intake.source.known()
        missed: set[tuple[int, int]] = set()
        with _put_off():
            missed = {(pid, known.get(pid, 0)) for pid in self._gone(known)}
        # The Exit of one that has just ended comes in a moment: it is lost if it was missed the last time, too.
        lost, self._missed = missed & self._missed, missed
        if lost:
            intake.put([_lost_event(None, self._subscription.now())])
            self.resync([])
        # At most a thousandth of the time is spent on this, however many are watched. One look that takes 0.1 s, as on
        # a virtual machine that is starved, says nothing of the next.
        before, self._cost = self._cost, time.thread_time_ns() - began
        self.due = self._subscription.now() + max(_QUIET // 2, 1000 * min(before, self._cost))

    def probe(self) -> None:
        """It is quiet: find out whether the subscription has gone silent, and renew it then."""
        self._intake.report_in_flight()
        attempt, events = 0, self._send_probe()
        while events is None:
            pause = self._subscription.revive(attempt)
            attempt += 1
            events = self._send_probe()
            if events is None:
                time.sleep(pause)
        self._subscription.revived()
        self.heard = self._subscription.now()
        if attempt:
            self._intake.put([_lost_event(None, self.heard)])
            self.resync(events)
        else:
            self._intake.in_flight = True
            self._intake.accept(events)
            self._intake.in_flight = False

    def _send_probe(self) -> list[Any] | None:
        """Make an event, and read what there is: without that event, or None if nothing at all came.

        The event is a Comm of this thread, which takes the name that it has: that changes nothing.
        """
        name, tid = ctypes.create_string_buffer(16), threading.get_native_id()
        _libc().prctl(_PR_GET_NAME, name)
        began = self._subscription.now()
        _libc().prctl(_PR_SET_NAME, name)
        ended = self._subscription.now()
        self._intake.in_flight = True
        events = self._read_all()
        others = [event for event in events if not (
            isinstance(event, Comm) and event.tid == tid and began <= event.timestamp_ns <= ended)]
        return others if events or self._intake.must_resync else None

_IS_EVENT = functools.partial(operator.is_not, None)

def _taken(popleft: Callable[[], Any], most: int) -> Iterator[Any]:
    """So many events of a queue, up to a None: what another thread does not want any longer ends there.

    One step takes an event and hands it out, so that no ctrl-C comes between.
    """
    return itertools.takewhile(_IS_EVENT, itertools.starmap(popleft, itertools.repeat((), most)))

def _close_all(parts: list[Any], owner: int) -> None:
    """Close all; the subscription is the first. A forked child shares the socket, and leaves that to its parent."""
    raised = None
    while parts:
        for _ in range(3):
            try:
                if len(parts) > 1:
                    parts[-1].close()
                else:
                    parts[0].close(ignore=os.getpid() == owner)
                break
            except BaseException as error:  # of a signal handler: go on, else the kernel goes on making events
                raised = error
        parts.pop()
    if raised:
        raise raised

def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

async def _readable(fd: int | None, seconds: float | None, woken: asyncio.Future[None] | None = None) -> None:
    """Wait on asyncio's event loop until a descriptor is readable, or so many seconds, or until `woken` is set."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = woken or loop.create_future()
    timer = loop.call_later(min(seconds, 1e6), _wake, future) if seconds is not None else None
    if fd is not None:
        loop.add_reader(fd, _wake, future)
    try:
        await future
    finally:
        if fd is not None:
            loop.remove_reader(fd)
        if timer:
            timer.cancel()

class Watcher:
    """A subscription to process events, and the table of who is watched.

    source: "ebpf" or "netlink", which listen to the kernel's process connector; "ptrace", which traces the commands
    that popen() starts, in any container and for any user; None: "ebpf", or where the kernel refuses that "netlink".
    threads: report every thread's start and end in place of the processes'.
    paths: have Exec.exe and Exec.cwd. With source "ebpf" such a Watcher takes a tenth of a second to make.
    usage: with source "ptrace", have memory, I/O and page faults in Exit, too: each thread stops once more.
    rcvbuf: bytes that the kernel may queue, about 800 an event; an ordinary user gets no more than net.core.rmem_max.
    With "ebpf" an eighth: 112 bytes an event, and the command line of an exec. "ptrace" loses none.
    delay: seconds to wait after being woken, so that events gather. It saves CPU time. An iteration lets events gather
    in any case, for 10 ms with source "ebpf". read() without a delay returns each event at once.

    Raises OSError, with the cause and the remedy in its text, where the kernel does not let this process listen:
    PermissionError, ConnectionRefusedError, or errno EPROTONOSUPPORT. Raises ValueError for a bad argument.

    Close it, or use it in a with statement. After that, and in a forked child, to watch, unwatch or read raises
    ValueError. One thread or task at a time reads; everything else may be called from any thread. A signal handler may
    close it; where it has interrupted one of the other methods, they raise RuntimeError.
    """

    # Seams for tests: what listens, and the sources to be tried in this order. A source has the methods that are listed
    # where the sources begin.
    _subscribe = _Subscription
    _sources = _RingSource, _DatagramSource

    def __init__(self, *, threads: bool = False, paths: bool = False, source: str | None = None,
                 usage: bool = False, rcvbuf: int = 32 << 20, delay: float = 0.0) -> None:
        if source not in (None, "ebpf", "netlink", "ptrace"):
            raise ValueError(f'source must be "ebpf", "netlink", "ptrace" or None, not {source!r}')
        if not 0 < rcvbuf < 1 << 31:
            raise ValueError(f"rcvbuf must be above 0 and below 2 GiB, not {rcvbuf}")
        if not 0 <= delay < 1 << 20:
            raise ValueError(f"delay must be a number of seconds, not {delay}")
        self._delay = delay
        # Serialises all that is not the reader's own. Never held while waiting for an event or a name. It is held long
        # while /proc is read after a loss and in _Recovery.look(), during the pauses of _Recovery.probe(), for 4 ms
        # with a command line of over 16 KiB (_Ring._complete()), and once while _pidfd_has_status() finds that out.
        self._lock: Any = threading.RLock()
        self._reading: Any = threading.RLock()  # held by the reader, also while it waits
        self._is_read = False               # whether a thread holds _reading
        self._starting: Any = threading.RLock()  # held while a command is started, and to change what is watched
        self._wakers: set[Callable[[], object]] = set()  # wake those who wait on an event loop; only under _lock
        self._closed = False
        self._selected = False              # whether fileno() has been asked for
        self._lost = 0                      # what the source had lost when it was closed
        self._owner = os.getpid()
        self._error: OSError | None = None  # why the first source does not serve
        parts: list[Any] = []
        self._parts = parts                 # what is to be closed; only under _lock, but in a forked child
        self._finish = weakref.finalize(self, _close_all, parts, self._owner)
        try:
            self._subscription: Any = (
                _Helper(threads, paths, usage) if source == "ptrace" else self._subscribe(rcvbuf))
            parts.append(self._subscription)
            self._source = self._open(source, threads, paths)
            parts.append(self._source)
            self._intake = _Intake(self._source, self._subscription, threads)
            self._waiter = _Waiter(self._source.fds)
            parts.append(self._waiter)
        except BaseException:
            self._finish()
            raise
        self._table, self._queue, self._recovery = self._intake.table, self._intake.queue, self._intake.recovery

    def _open(self, source: str | None, threads: bool, paths: bool) -> Any:
        """The first kind of source that the kernel allows, or the one that is asked for."""
        if source == "ptrace":
            return _TraceSource(self._subscription, threads, paths)
        kinds = [kind for kind in self._sources if source in (None, kind.name)]
        for kind in kinds:
            try:
                return kind(self._subscription, threads, paths)
            except OSError as error:
                if kind is kinds[-1]:
                    raise
                self._error = OSError(error.errno, error.strerror)  # without its traceback, which refers to us
        raise AssertionError("no kind of source")

    @property
    def source(self) -> str:
        """Where the events come from: "ebpf", or "netlink" where the kernel does not allow that; or "ptrace"."""
        return str(self._source.name)

    @property
    def source_error(self) -> OSError | None:
        """Why the source is "netlink": the kernel's errno, and the last lines of its verifier if that refused."""
        return self._error

    def watch(self, pid: int | None = None, events: int = What.LIFE, *, follow: bool = True) -> None:
        """Report events of a process from now on, or (None) of every process on the machine.

        events: a combination of What. follow: of its descendants too, of those there are and of those to come. A
        second watch of a process adds to the first.
        Raises ProcessLookupError if the process has ended, PermissionError if /proc hides it (hidepid), ValueError
        for a pid below 1 or an unknown event.
        """
        mask = _check_events(events)
        number = None if pid is None else _check_pid(pid)
        self._refuse_handler()
        with self._changes():
            self._intake.watch(number, mask, follow)

    def popen(self, args: str | bytes | Sequence[str | bytes | os.PathLike[str]], events: int = What.LIFE, *,
              follow: bool = True, **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a command and watch it from its birth: its Fork and its Exec are reported.

        args and kwargs are those of subprocess.Popen, whose object this returns; events and follow are those of
        watch(). Raises what these two raise; then the command does not run. This process is watched meanwhile; what its
        other threads start then is let go again.
        """
        import subprocess

        process: subprocess.Popen[Any] = self._popen(subprocess.Popen, args, events, follow, kwargs)
        return process

    def _popen(self, popen: Any, args: Any, events: int, follow: bool, kwargs: dict[str, Any]) -> Any:
        mask = _check_events(events)
        several = not isinstance(args, (str, bytes, os.PathLike))
        given: list[Any] = [*args] if several else [args]
        words = _first_words(given, kwargs)
        process = None
        self._check()
        self._refuse_handler()
        try:
            with self._starting, self._source.birth(mask):
                try:
                    with self._changes():
                        self._intake.adopt(mask)
                    process = popen(given if several else args, **kwargs)
                finally:
                    with self._lock:
                        if self._intake.before and not self._closed:
                            # If another thread has read its Fork already, it may have read its Exec, too.
                            if process and mask & _EXEC and process.pid not in (self._table.parents or ()):
                                self._source.expect(process.pid, words)
                            self._intake.adopted(mask, process.pid if process else 0, follow)
                            self._show()
        except BaseException:
            if process:  # the caller does not get it
                process.kill()
                process.wait()
            raise
        return process

    def unwatch(self, pid: int | None = None) -> None:
        """Stop reporting a process's events, or (None) those of processes not watched one by one or followed.

        Its followed descendants stay watched: each has its own watch. Raises KeyError if it is not watched.
        """
        self._refuse_handler()
        with self._changes():
            self._intake.unwatch(pid if pid is None else operator.index(pid))

    def _refuse_handler(self) -> None:
        """Raise RuntimeError in a signal handler that has interrupted this thread amid the watcher's own work."""
        if self._lock._is_owned() or self._starting._is_owned():
            raise RuntimeError("a signal handler has interrupted the watcher: it can only close it")

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

    def _show(self, *, held: bool = True) -> None:
        """Wake a reader for what is in hand, and be readable for it if anybody has asked for the descriptor.

        held=False: not for what is held, since the caller comes again when that is due.
        """
        if (self._queue or self._source.pending or (held and self._intake.held)) and (self._selected or self._is_read):
            self._waiter.set()
        elif not self._closed:
            self._waiter.clear()

    def read(self, timeout: float | None = None) -> Event | None:
        """The next event; None when `timeout` seconds have passed, or when the watcher is closed meanwhile.

        Raises ValueError for a timeout below 0, OSError if a subscription that has gone silent cannot be had again, and
        RuntimeError in a signal handler that interrupts a reader.
        """
        self._check()
        deadline = self._deadline(timeout)
        while True:
            if self._selected and self._has_one():
                with self._lock:
                    if self._has_one():
                        self._waiter.clear()
            if self._queue:
                try:
                    for event in _taken(self._queue.popleft, 1):
                        return event  # type: ignore[no-any-return]
                except IndexError:  # another thread does not want it any longer
                    pass
            if not self._fill(deadline, 1):  # which waits for a keep() in another thread
                return None

    def _has_one(self) -> bool:
        """Whether a single event is in hand."""
        return len(self._queue) == 1 and not self._intake.held and not self._source.pending

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

    def _stream(self, deadline: int | None, *, ending: bool = False, for_held: bool = True) -> Iterator[Event]:
        """The events up to the deadline; ending: until no process is watched any longer; for_held: as for _fill()."""
        queue, popleft = self._queue, self._queue.popleft
        while True:
            if os.getpid() != self._owner:
                self._check()
            try:
                yield from _taken(popleft, len(queue))
            except IndexError:  # another thread does not want it any longer
                pass
            if not self._fill(deadline, _BATCH, ending, for_held):
                return

    def _take(self, deadline: int | None, ending: bool = False) -> list[Any] | None:
        """All the events in hand; [] when the deadline has passed, None when it is over, as for _stream()."""
        if self._queue or self._fill(deadline, _BATCH, ending):
            events: list[Any] = []
            with contextlib.suppress(IndexError):  # another thread does not want it any longer
                events.extend(_taken(self._queue.popleft, len(self._queue)))
            return events
        return None if self._closed or (ending and self._is_over()) else []

    def _is_over(self) -> bool:
        """Whether no process is watched, and all that has been reported of them has been handed out."""
        return not (self._table.watched or self._intake.held or self._queue)

    async def _stream_async(self, deadline: int | None, *, ending: bool = False) -> AsyncIterator[Event]:
        """As _stream(). It awaits only while it holds no event: to cancel it loses none."""
        import asyncio

        while True:
            now = self._subscription.now()
            over = deadline is not None and now >= deadline
            turn = time.monotonic() + 0.01
            for event in self._stream(deadline if over else now, ending=ending, for_held=False):
                yield event
                if time.monotonic() > turn:  # a slow reader of many events: other tasks have their turn
                    await asyncio.sleep(0)
                    turn = time.monotonic() + 0.01
            waits = self._waits_for_name(deadline)
            if (over and not waits) or self._closed or (ending and self._is_over()):
                return
            left = 1 << 30 if deadline is None else max(0, deadline - now) / 1e9
            if waits:
                left = self._until_due()
            await asyncio.sleep(0)
            storm = self._intake.storm
            if not storm and not self._queue:
                await self._woken(min(_QUIET / 2e9, left), look=True)
            pause = max(self._source.gather if storm or self._source.patient else 0, self._delay)
            if pause and (storm or not waits):
                await self._woken(min(pause, left), look=False)

    async def _woken(self, seconds: float, *, look: bool) -> None:
        """Wait until the watcher is closed, or so many seconds; look: or until there is something to read."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def waker() -> None:
            loop.call_soon_threadsafe(_wake, future)

        fd = -1
        try:
            with self._lock:
                self._wakers.add(waker)  # first: what follows can be interrupted by a handler that closes the watcher
                if self._closed:
                    return
                self._selected = True
                self._show(held=False)
                fd = os.dup(self._waiter.fileno())  # who closes the watcher closes the descriptor
            await _readable(fd if look else None, seconds, future)
        except ValueError:
            if not self._closed:  # a signal handler has closed it just now
                raise
        finally:
            with self._lock:
                self._wakers.discard(waker)
            if fd >= 0:
                os.close(fd)

    def _fill(self, deadline: int | None, most: int, ending: bool = False, for_held: bool = True) -> bool:
        """Take in events until some are to be handed out.

        False if the deadline passes, the watcher is closed, or (ending) no process is watched any longer.
        for_held: if an Exec from before the deadline is held, wait for its name in any case.
        """
        if os.getpid() != self._owner:
            self._check()
        if self._lock._is_owned():
            self._refuse_handler()
        if self._reading._is_owned():
            raise RuntimeError("a reader was interrupted: a signal handler cannot read from the same watcher")
        seconds = -1 if deadline is None else max(0, deadline - self._subscription.now()) / 1e9
        turn: list[bool] = []
        try:
            # To take the lock and to note that is one step, so that no ctrl-C comes between.
            turn.extend(map(self._reading.acquire, (True,), (seconds,)))
            if not turn[0]:
                return False
            self._is_read = True
            try:
                return self._wait(deadline, most, ending, for_held)
            finally:
                self._is_read = False
                if self._selected and self._intake.held and not self._closed:
                    with self._lock:
                        self._show()
        except OSError:
            if not self._closed:
                raise
            return False
        finally:
            if turn and turn[0]:
                self._reading.release()
            if self._closed:
                self._close_parts()

    def _wait(self, deadline: int | None, most: int, ending: bool, for_held: bool) -> bool:
        # Between rare events the caches go cold, and each call costs microseconds. So this is one function.
        intake, queue, table, source, waiter = self._intake, self._queue, self._table, self._source, self._waiter
        while True:
            if not (intake.more or intake.must_resync or queue or self._closed or (
                    ending and not table.watched and not intake.held)):
                seconds, pause = _QUIET / 2e9, self._delay
                left = None if deadline is None else max(0, deadline - self._subscription.now()) / 1e9
                if left is not None and left < seconds:
                    seconds = left
                if most > 1 and (source.patient or intake.storm) and pause < source.gather:
                    pause = source.gather
                waits = False  # for a name
                if intake.held:
                    with self._lock:
                        self._show(held=False)
                        waits = for_held and self._waits_for_name(deadline)
                if waits:
                    seconds, pause = self._until_due(), pause if intake.storm else 0
                # In a storm do not wait to be woken: by the end of the pause there is more, or the storm is over.
                if not (intake.storm and pause and seconds):
                    waiter.waiting = True
                    try:
                        woken = waiter.poll(seconds * 1000)
                    finally:
                        waiter.waiting = False
                    if not woken:
                        now = self._subscription.now()
                        if not (intake.held and now >= source.due):
                            self._look_after(now)
                            if deadline is not None and now >= deadline and not waits:
                                return False
                            continue
                if pause and seconds:
                    waiter.pause(pause if left is None or pause < left else left)
                intake.more = True
                if intake.newest >= self._recovery.due:
                    self._look_after(intake.newest)
            with self._lock:
                if self._closed or not self._finish.alive:  # the latter at the interpreter's exit, of a daemon thread
                    return False
                newest = intake.take(most) if intake.must_resync or (intake.more and not queue) else 0
                if self._selected or waiter.is_set:
                    self._show()
                if self._closed:  # by a signal handler, meanwhile
                    return False
                if queue:  # what is later than the deadline stays there, but for a Lost; None: see _Intake.keep()
                    first = queue[0]
                    return deadline is None or not (first and first.what and first.timestamp_ns > deadline)
                if ending and not table.watched and not intake.held:
                    return False
            if newest and deadline is not None and newest > deadline and not (
                    for_held and self._waits_for_name(deadline)):
                return False

    def _waits_for_name(self, deadline: int | None) -> bool:
        """Whether an Exec before the deadline is held back, since its name is not known yet."""
        if not self._intake.held:
            return False
        with self._lock:
            held = self._intake.held
            return bool(held) and (deadline is None or held[0].timestamp_ns <= deadline)

    def _until_due(self) -> float:
        """In how many seconds the source is to be read again for processes that have no name yet."""
        wait_ns: int = self._source.due - self._subscription.now()
        return max(0, wait_ns) / 1e9

    def _look_after(self, now: int) -> None:
        """From time to time: look whether all that are known live, and when it is quiet test the subscription."""
        recovery = self._recovery
        with self._lock:
            self._intake.forget_ended()
            if not self._closed and now >= recovery.due:
                recovery.look()
            if not self._closed and now - max(recovery.heard, self._intake.newest) >= _QUIET:
                recovery.probe()

    def close(self) -> None:
        """Unsubscribe. A reader that is blocked in another thread returns at once."""
        if os.getpid() != self._owner:  # without the lock: a thread that the fork has left behind may hold it for ever
            self._closed = True
            _close_all(self._parts, self._owner)
            self._finish.detach()
            return
        with self._lock:
            if not self._closed:
                if self._finish.alive:  # else the interpreter is ending, and has closed it
                    self._lost = self._source.lost
                    self._waiter.set()
                self._closed = True
                self._queue.clear()
                for wake in [*self._wakers]:
                    with contextlib.suppress(RuntimeError):  # its event loop is closed
                        wake()
        # A reader does the rest on its way out: also the one that this call, from a signal handler, interrupts.
        if self._parts and not self._reading._is_owned() and (
                self._reading.acquire(blocking=False) or (self._is_read and self._reading.acquire(timeout=1))):
            self._reading.release()
            self._close_parts()

    def _close_parts(self) -> None:
        """Close what is open. If a signal handler raises amid that, what is left is closed by the next close()."""
        with self._lock:
            try:
                _close_all(self._parts, self._owner)
            finally:
                if not self._parts:
                    self._finish.detach()

    def _check(self) -> None:
        if self._closed:
            raise ValueError("the watcher is closed")
        if os.getpid() != self._owner:  # whose socket and ring it shares: what one reads the other does not
            raise ValueError("the watcher is another process's: make one after the fork")

    @property
    def pids(self) -> frozenset[int]:
        """The processes watched now, one by one or because followed; those of watch(None) are not among them.

        Each is from when its Fork has been read until its Exit has been handed out, if that is asked for. To see what
        is left, call read(0) until that is None, and look then.
        """
        table, watched = self._table, frozenset(self._table.watched.copy())
        if not table.ended:
            return watched
        coming = [*self._queue.copy(), *self._intake.held.copy()]
        return watched | {event.pid for event in coming if event and event.what == _EXIT and event.pid in table.ended}

    @property
    def lost(self) -> int:
        """How many events the kernel has dropped so far. They are reported as Lost when the reader gets there."""
        if self._closed or os.getpid() != self._owner:
            return self._lost
        with self._lock:
            return self._lost if self._closed else int(self._source.lost)

    @property
    def closed(self) -> bool:
        """Whether close() has been called."""
        return self._closed

    def fileno(self) -> int:
        """A file descriptor that is readable when there is something to read; read(0) may find it unwanted.

        Read every few seconds though it is not readable: only then is a subscription that has gone silent noticed.
        """
        with self._changes():
            self._selected = True
        return self._waiter.fileno()

    def __enter__(self) -> Watcher:
        self._check()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

# ----------------------------------------------------------------------------------------------- functions

def _watching(pids: tuple[int | None, ...], events: int, follow: bool, threads: bool, paths: bool,
              timeout: float | None) -> tuple[Watcher, int | None]:
    """A Watcher of these processes, or of all, and the deadline."""
    if not pids:
        raise ValueError("watch() has got no pid: give it at least one, or watch(None) for every process")
    for number in pids if pids != (None,) else ():
        _check_pid(number)  # type: ignore[arg-type]  # which raises TypeError for None among others
    watcher = Watcher(threads=threads, paths=paths)
    try:
        deadline = watcher._deadline(timeout)
        for pid in pids:
            watcher.watch(pid, events, follow=follow)
    except BaseException:
        watcher.close()
        raise
    return watcher, deadline

def watch(*pids: int | None, events: int = What.LIFE, follow: bool = True, threads: bool = False,
          paths: bool = False, timeout: float | None = None) -> Generator[Event, None, None]:
    """Events of these processes from now on, and (follow) of their descendants; watch(None): of every process.

    Ends when the last of them has ended, or after `timeout` seconds. It subscribes when called. Raises what Watcher
    and Watcher.watch raise, and ValueError without a pid and for a timeout below 0.

    >>> for event in cnproc.watch(pid, events=cnproc.What.EXIT):
    ...     print(event)
    """
    watcher, deadline = _watching(pids, events, follow, threads, paths, timeout)

    def stream() -> Generator[Any, None, None]:
        with watcher:
            yield
            yield from watcher._stream(deadline, ending=pids != (None,))

    return _begun(stream())

def _begun(events: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """The generator behind its first yield: only what has begun runs its finally clauses when it is closed."""
    next(events)
    return events

def watch_async(*pids: int | None, events: int = What.LIFE, follow: bool = True, threads: bool = False,
                paths: bool = False, timeout: float | None = None) -> AsyncGenerator[Event, None]:
    """As watch(), for `async for` on asyncio's event loop. It subscribes when called. It takes no thread.

    >>> async for event in cnproc.watch_async(pid, events=cnproc.What.EXIT):
    ...     print(event)
    """
    watcher, deadline = _watching(pids, events, follow, threads, paths, timeout)

    async def stream() -> AsyncGenerator[Event, None]:
        with watcher:
            async for event in watcher._stream_async(deadline, ending=pids != (None,)):
                yield event

    return _AsyncEvents(watcher, stream())

class _AsyncEvents(AsyncGenerator[Event, None]):
    """An asynchronous generator whose aclose() closes the watcher though no event has been asked for."""

    def __init__(self, watcher: Watcher, events: AsyncGenerator[Event, None]) -> None:
        self._watcher, self._events = watcher, events

    def asend(self, value: None) -> Any:
        return self._events.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._events.athrow(*error)

    async def aclose(self) -> None:
        """Stop watching."""
        try:
            await self._events.aclose()
        finally:
            self._watcher.close()

class _Run(Generator[Event, None, None]):
    """What run() returns: a generator of events. It can be used in a with statement, too.

    process    the command's subprocess.Popen, with its pipes
    """

    def __init__(self, events: Generator[Event, None, None], process: subprocess.Popen[Any]) -> None:
        self._events, self.process = events, process

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """What the command and all descendants that were waited for have used, as wait4(2) has it; None until the
        command has ended, and if SIGCHLD is ignored."""
        self.process.poll()
        return getattr(self.process, "_rusage", None)

    def send(self, value: None) -> Event:
        return self._events.send(value)

    def throw(self, *error: Any) -> Event:
        return self._events.throw(*error)

    def close(self) -> None:
        """Stop watching. The command is left to run."""
        self._events.close()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

@functools.lru_cache(maxsize=None)
def _popen_class() -> Any:
    """subprocess.Popen that keeps what wait4(2) tells. It does not warn about a command that still runs: to leave a
    run early is no mistake."""
    import subprocess

    left: list[Any] = []  # whom nobody has waited for

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        _rusage = None

        def _try_wait(self, wait_flags: int) -> tuple[int, int]:
            if sys.meta_path:  # else the interpreter ends: wait4() reaps, and cannot import `resource` then
                with contextlib.suppress(ChildProcessError):
                    pid, status, rusage = os.wait4(self.pid, wait_flags)
                    if pid:
                        self._rusage = rusage
                    return pid, status
            return super()._try_wait(wait_flags)  # type: ignore[misc,no-any-return]

        def poll(self) -> int | None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(0)
            return self.returncode

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            left[:] = [process for process in left if process.poll() is None]
            super().__init__(*args, **kwargs)

        def __del__(self, *_: Any) -> None:
            if getattr(self, "pid", None) and self.poll() is None:
                left.append(self)

    return Popen

def run(args: str | bytes | Sequence[str | bytes | os.PathLike[str]], *, events: int = What.LIFE, follow: bool = True,
        threads: bool = False, paths: bool = False, source: str | None = None, usage: bool = False,
        timeout: float | None = None, **kwargs: Any) -> _Run:
    """Start a command, and iterate over its events and (follow) those of its descendants.

    args and kwargs are those of subprocess.Popen: user="www-data" has the command run as another user. It starts when
    this is called. What this returns is a generator with two attributes. `process` is the Popen. `rusage` is what
    wait4(2) tells once the command has ended: what it and the descendants that were waited for have used.
    source="ptrace" traces the command: it needs no privileges and works in containers; usage=True: see Watcher.
    The iteration ends when the last process has ended, or after `timeout` seconds. It kills no process: if it is left
    early, the command runs on. Raises what Watcher and subprocess.Popen raise, and ValueError for a timeout below 0.

    >>> for event in cnproc.run(["make", "-j2"], events=cnproc.What.EXEC):
    ...     print(event.cmdline)
    """
    watcher = Watcher(threads=threads, paths=paths, source=source, usage=usage)
    try:
        watcher._deadline(timeout)  # before anything is started: it may be wrong
        process = watcher._popen(_popen_class(), args, events, follow, kwargs)
        deadline = watcher._deadline(timeout)
    except BaseException:
        watcher.close()
        raise

    def stream() -> Generator[Any, None, None]:
        try:
            with watcher:
                yield
                yield from watcher._stream(deadline, ending=True)
        finally:
            process.poll()  # one that has ended is no zombie then

    return _Run(_begun(stream()), process)

def _first_words(args: list[Any], kwargs: dict[str, Any]) -> bytes | None:
    """The command line of what subprocess.Popen starts; None if it can be another, as for a script with #!."""
    words = [os.fsencode(word) for word in args]
    if kwargs.get("shell"):
        words[:0] = [os.fsencode(kwargs.get("executable") or "/bin/sh"), b"-c"]
    if kwargs.get("preexec_fn") or not words:
        return None
    file = os.fsencode(kwargs.get("executable") or words[0])
    folders = [b""] if b"/" in file else [os.fsencode(folder) for folder in os.get_exec_path(kwargs.get("env"))]
    kinds: set[tuple[bytes, bytes]] = set()  # magic number, class and byte order; e_machine
    try:
        for path in (b"/proc/self/exe", *(os.path.join(os.fsencode(kwargs.get("cwd") or b""), folder, file)
                                          for folder in folders)):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                with open(path, "rb") as program:
                    head = program.read(20)
                kinds.add((head[:6], head[18:]))
    except OSError:
        return None
    # Any of them can be what is executed: subprocess tries the next if one cannot be.
    return b"".join(word + b"\0" for word in words) if len(kinds) == 1 else None

class _Waiting:
    """A wait for the end of a process, a step at a time: wait for fileno() for rest() seconds, until it is over()."""

    def __init__(self, pid: int, timeout: float | None, *, listen: bool = True) -> None:
        """Raises what wait() raises. listen: here, if it has not ended; else `left` says so."""
        self.pid = pid = _check_pid(pid)
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0, or None, not {timeout}")
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout if timeout is not None and timeout < 1 << 30 else None
        self._by: Any = None                    # a pidfd, or the Watcher
        self._reaped: select.epoll | None = None # waits for the parent to wait; over()
        self.returncode: int | None = None      # over()
        self.left = False                       # whether somebody else has to listen
        by_pidfd, self._sees = _pidfd_has_status(), _has_own_proc()
        leader = _leader(pid) if self._sees else None
        unseen = by_pidfd and (not self._sees or (leader is None and _hidden(pid)))
        if leader != pid and not unseen:
            raise _missing(pid)
        fields = _stat_fields(pid) if self._sees else None
        stat = _stat_of(fields) if fields else None
        self._start = fields[19] if fields else None  # _started()
        status = self._zombie()
        if status is not None:
            self.returncode = _returncode(status)
        elif _ended(pid, stat) and not (unseen or (stat and by_pidfd)):
            raise _missing(pid)
        elif by_pidfd:
            try:
                self._by = os.pidfd_open(pid)
            except OSError as error:
                if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):  # the last two: a thread has the pid
                    raise
                if unseen:
                    raise OSError(errno.ESRCH, f"no process {pid}: it has ended, never was, or is a thread") from None
            if self._by is not None and self._started() not in (self._start, None):  # the pid's next owner
                os.close(self._by)
                self._by = None
        elif not listen:
            self.left = True
        else:
            watcher = Watcher(rcvbuf=1 << 20)
            try:
                if self.watch(watcher):
                    self._by = watcher
            finally:
                if not self._by:
                    watcher.close()

    def _started(self) -> bytes | None:
        """When the process that has the pid now was started, in ticks: it tells it from the next. None: none has."""
        fields = _stat_fields(self.pid) if self._sees else None
        return fields[19] if fields else None

    def _zombie(self) -> int | None:
        """Its wait status, if /proc shows it, or if it is a child of this process."""
        if self._sees:
            status = _zombie_status(self.pid)
            return status if self._started() == self._start else None
        if self._by is None:
            return None
        try:
            ended = os.waitid(os.P_PIDFD, self._by, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return ended.si_status << 8 * (ended.si_code == os.CLD_EXITED) if ended else None

    def watch(self, watcher: Watcher) -> bool:
        """Have its end reported. False if it has ended meanwhile: returncode has the result."""
        with contextlib.suppress(ProcessLookupError):
            if self._started() == self._start:
                watcher.watch(self.pid, What.EXIT, follow=False)
                if self._started() in (self._start, None):  # None: it has just been reaped, and its Exit comes
                    return True
        status = self._zombie()
        self.returncode = None if status is None else _returncode(status)
        return False

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
        return TimeoutError(errno.ETIMEDOUT, f"process {self.pid} has not ended within {self._timeout} seconds")

    def _ask(self) -> int | None:
        ended = select.poll()
        ended.register(self._by, select.POLLIN)
        if not ended.poll(0):
            return None
        status = _reaped_status(self._by)
        if status is None:
            status = self._zombie()
        if status is None and not self._reaped:  # another user's: its status is known when its parent has waited for it
            self._reaped = select.epoll()
            self._reaped.register(self._by, 0)  # EPOLLHUP; EPOLLIN is there already
            status = _reaped_status(self._by)
        return status

    def until_deadline(self) -> float | None:
        """How many seconds are left; None: it waits for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def rest(self) -> float:
        """How many seconds to wait before another look. A Watcher has to notice a subscription that has gone silent."""
        most, left = _QUIET / 1e9 if isinstance(self._by, Watcher) else 1e6, self.until_deadline()
        return most if left is None else min(most, left)

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

    From Linux 6.15 on it takes no privileges and works in any namespace, even without /proc (PIDFD_GET_INFO). The
    status of another user's process is known there once its parent has waited for it. Before, it listens as a Watcher
    does; then None says that the process is gone, and that nobody can know its status any more.

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

class _SharedWaits:
    """One Watcher for all who wait on an event loop, where a pidfd does not tell the status."""

    _of: ClassVar[weakref.WeakKeyDictionary[Any, _SharedWaits]] = weakref.WeakKeyDictionary()  # by event loop

    def __init__(self) -> None:
        self._watcher = Watcher(rcvbuf=1 << 20)
        self._waiting: dict[int, list[asyncio.Future[int | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def wait(cls, waiting: _Waiting) -> int | None:
        """The returncode of a process that was there."""
        import asyncio

        pid, loop = waiting.pid, asyncio.get_running_loop()
        shared = cls._of.get(loop)
        if not shared:
            shared = cls._of[loop] = cls()
        if pid in shared._waiting:  # perhaps for another process, which had the pid before: its Exit is there by now
            while (event := shared._watcher.read(0)) is not None:
                shared._hand_out(event)
        future: asyncio.Future[int | None] = loop.create_future()
        shared._waiting.setdefault(pid, []).append(future)
        try:
            if not waiting.watch(shared._watcher):
                return waiting.returncode
            if not shared._task:
                shared._task = loop.create_task(shared._read())
            return await future
        finally:
            shared._remove(pid, future)
            if not shared._waiting and cls._of.get(loop) is shared:
                del cls._of[loop]
                shared._watcher.close()
                if shared._task:
                    shared._task.cancel()

    def _remove(self, pid: int, future: asyncio.Future[int | None]) -> None:
        futures = self._waiting.get(pid, [])
        if future in futures:
            futures.remove(future)
        if not futures and self._waiting.pop(pid, None) is not None and not self._watcher.closed:
            with contextlib.suppress(KeyError):
                self._watcher.unwatch(pid)

    def _hand_out(self, event: Event) -> None:
        """Tell those who wait for this process."""
        if isinstance(event, Exit):
            for future in self._waiting.pop(event.pid, ()):
                if not future.done():
                    future.set_result(event.returncode)

    async def _read(self) -> None:
        try:
            async for event in self._watcher:
                self._hand_out(event)
        except OSError as error:
            self._task = None
            for future in itertools.chain(*self._waiting.values()):
                if not future.done():
                    future.set_exception(error)

async def wait_async(pid: int, timeout: float | None = None) -> int | None:
    """As wait(), for asyncio. From Linux 6.15 on a wait takes one file descriptor: no thread, no subscription.

    Before, all who wait on an event loop share one subscription. Returns and raises what wait() does.
    """
    import asyncio

    with _Waiting(pid, timeout, listen=False) as waiting:
        if waiting.left:
            try:
                return await asyncio.wait_for(_SharedWaits.wait(waiting), waiting.until_deadline())
            except asyncio.TimeoutError as error:
                if getattr(error, "errno", None):  # no subscription
                    raise
                raise waiting.late() from None
        while not waiting.over():
            await _readable(waiting.fileno(), waiting.rest())
        return waiting.returncode

# -------------------------------------------------------------------------------------------------------- tree

# What events tell of processes: which programs each has run, who started it, and why it failed. Pure.

_NEVER = 1 << 63
_NO_SIGNAL = 0xFFFFFFFF  # exit_signal of a thread: its end is not the end of the process
# In a command line of these bytes no word needs quotes.
_UNQUOTED = b"\0%+,-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e", "'": "\\'", "\\": "\\\\"}

def _printable(text: str) -> str:
    """The text with \\x1b for a control character: a name may hold anything, and a terminal obeys it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

def _quote(word: str) -> str:
    """A word as bash takes it: $'...' if it holds a quote, or what cannot be printed."""
    if word and not os.fsencode(word).translate(None, _UNQUOTED):
        return word
    if word.isprintable() and "'" not in word:
        return f"'{word}'"
    return f"$'{''.join(map(_escaped, word))}'"

def _escaped(character: str) -> str:
    """A character between $' and '."""
    number = ord(character)
    if character in _ESCAPES or character.isprintable():
        return _ESCAPES.get(character, character)
    if number < 0x80 or 0xDC80 <= number <= 0xDCFF:  # os.fsdecode makes the latter of a byte that is not UTF-8
        return f"\\x{number & 0xFF:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"

# The options of an interpreter that stand before the script: letters of those that take a program (or "m" a module),
# letters of those that take a value (the rest of the word, or else the next one), letters of those whose value can only
# be the rest of the word, and long ones that take the next word.
_SHELL = _Options("c", "oO", "", ("--rcfile", "--init-file"))
_PYTHON = _Options("cm", "WX", "", ("--check-hash-based-pycs",))
_NODE = _Options("ep", "rC", "", (
    "--require", "--import", "--loader", "--experimental-loader", "--env-file", "--conditions"))
_INTERPRETERS = {  # by name, without a version
    **dict.fromkeys(("sh", "bash", "dash", "ksh", "mksh", "zsh", "ash"), _SHELL), "python": _PYTHON, "pypy": _PYTHON,
    "perl": _Options("eE", "I", "MmixCDFVd", ()), "ruby": _Options("e", "IrCE", "xKTWFi", ()), "node": _NODE,
    "nodejs": _NODE, "php": _Options("r", "dczStBRFE", "", ()), "lua": _Options("e", "l", "", ()),
    "Rscript": _Options("e", "", "", ()), "tclsh": _Options("", "", "", ()),
}

@functools.lru_cache(maxsize=4096)
def _program_name(path: bytes) -> tuple[str, _Options | None]:
    """What to call a program, by its first argument; and if it is an interpreter, its options.

    A title such as "sshd: user@pts/0" is no path.
    """
    name, colon, title = path.decode(errors="backslashreplace").partition(": ")
    is_title = name.startswith("[") or " " in name.partition("/")[0]
    name = _printable((name if is_title else name.rpartition("/")[2] or name) + colon + title) or "?"
    return name, _INTERPRETERS.get(name.lstrip("-").rstrip("0123456789."))

def _script_name(name: str, argv: bytes, options: _Options) -> str:
    """What to call what an interpreter runs: a script by its own name, `python3 -m module`, `sh -c`."""
    words = iter(os.fsdecode(argv).split("\0")[1:-1])
    for word in words:
        if word in ("", "-"):  # a script comes by standard input
            return name
        if word.startswith("--"):
            if word in ("--eval", "--print") or word.startswith(("--eval=", "--print=")):
                return f"{name} -e"
            if word in options.long:
                next(words, None)
        elif word[0] in "-+":
            for at, letter in enumerate(word[1:], 1):
                if letter in options.program:
                    if letter != "m":
                        return f"{name} -{letter}"
                    return f"{name} -m {_printable(_text(word[at + 1:] or next(words, '')))}"
                if options is _SHELL:
                    if letter == "s":  # likewise, and what follows are its arguments
                        return name
                    if letter in options.value:  # never the rest of the word
                        next(words, None)
                elif letter in options.value:
                    if not word[at + 1:]:
                        next(words, None)
                    break
                elif letter in options.attached:
                    break
        else:
            return _program_name(os.fsencode(word))[0]
    return name

def _plain(argv: bytes) -> str | None:
    """The command line with a blank between two words, if no word takes quotes."""
    if argv.translate(None, _UNQUOTED) or b"\0\0" in argv or argv.startswith(b"\0"):
        return None
    return argv.removesuffix(b"\0").replace(b"\0", b" ").decode()

def _when(event: Any) -> int:
    """An event's time. It is negative before the clock began: of a fork (_Stat.start_ns), or on another machine."""
    when: int = event.timestamp_ns
    return when - (1 << 64) if when >> 63 else when

class _Image:
    """What a process runs: the program of its last exec. What it forks runs the same, and shares this.

    argv     its command line, as in Exec._words; None if that is not known
    comm     the kernel's name of it, if it is known from the exec
    label    its name, where that is not in argv
    titled   whether argv may be a title, which is shown as it is
    ruid     the real user id; None if that is not known
    cgroup   the control group; None if that is not known
    renamed  whether the kernel's name of the process may be another by now
    name     what to call it
    program  what to call it where programs are counted: a script by its own name
    """

    __slots__ = ("_forked", "_interprets", "_program", "argv", "cgroup", "comm", "label", "name", "renamed", "ruid",
                 "titled")

    def __init__(self, argv: bytes | None, comm: str | None = None, label: str | None = None, ruid: int | None = None,
                 cgroup: str | None = None, *, titled: bool = False, renamed: bool = True) -> None:
        self.argv, self.comm, self.label, self.titled, self.renamed = argv, comm, label, titled, renamed
        self.ruid, self.cgroup = ruid, cgroup
        self._interprets: _Options | None = None
        self._program = self._forked = ""
        if label:
            self.name = _printable(label)
        elif argv:
            self.name, self._interprets = _program_name(argv.partition(b"\0")[0])
            if self.name == "?":  # the first argument is empty
                self.name = f"[{_printable(_text(comm))}]" if comm else "''"
        else:
            self.name = "?"

    def copy(self, **changed: Any) -> _Image:
        """The same but for these."""
        names = "argv", "comm", "label", "ruid", "cgroup", "titled", "renamed"
        return _Image(**{**{name: getattr(self, name) for name in names}, **changed})

    def is_of(self, comm: str) -> bool:
        """Whether a process that runs it, and has not been renamed, can have this name of the kernel's."""
        if self.comm:
            return comm == self.comm
        return not self.argv or comm in [
            os.fsdecode(word.rpartition(b"/")[2].lstrip(b"-")[:15]) for word in self.argv.split(b"\0")]

    @property
    def program(self) -> str:
        if self._interprets is None:
            return self.name
        if not self._program:
            self._program = _script_name(self.name, self.argv or b"", self._interprets)
        return self._program

    @property
    def forked(self) -> str:
        """What to call a process that has been forked from it, and has executed nothing."""
        if not self._forked:
            program = self.program
            self._forked = program if program == "?" else (
                f"({self.name if program.startswith(f'{self.name} -') else program})")
        return self._forked

    @property
    def words(self) -> list[str]:
        """Its command line."""
        return _split(self.argv) or []

    @property
    def command(self) -> str:
        """Its command line, as bash would take it; a title as it is; its name where the command line is not known."""
        if not self.argv or self.label:
            return self.name
        plain = _plain(self.argv)
        if plain:
            return plain
        words = self.words
        if len(words) == 1 and (self.titled or words[0].startswith("[")):  # a title, or a name as ps has it
            return _printable(_text(words[0]))
        return " ".join(map(_quote, words))

_NO_IMAGE = _Image(None)

class Program:
    """One of the programs that a process has run.

    name              what to call it: "gcc"; a script by its own name; "python3 -m pytest", "sh -c"
    cmdline           its command line, a list of strings; None if it is not known
    command           its command line as bash would take it
    start_ns, end_ns  when it ran, CLOCK_MONOTONIC in ns; None if that is not known, or has not happened
    cwd               its working directory at the start, if the watch was made with paths=True and it is known
    """

    __slots__ = ("cmdline", "command", "cwd", "end_ns", "name", "start_ns")

    def __init__(self, image: _Image, start_ns: int | None, end_ns: int | None, cwd: str | None) -> None:
        self.name, self.command, self.cmdline = image.program, image.command, _split(image.argv)
        self.start_ns, self.end_ns, self.cwd = start_ns, end_ns, cwd

    def __repr__(self) -> str:
        return f"<Program {self.command}>"

_EARLIER = 16  # so many programs of a process are remembered beside the one that it runs: the first, and the last

class Process:
    """A process, as far as a Tree has been told of it.

    pid, parent_pid   parent_pid is None if it is not known
    parent            the Process that forked it; None if it is not known
    children          what it has forked, in that order. A Tree(keep=False) forgets those that have ended
    start_ns, end_ns  when it was forked and ended, CLOCK_MONOTONIC in ns; None if that is not known or not so yet
    exit              its Exit; None while it runs
    cwd               the working directory at its last exec, with Watcher(paths=True)
    """

    parent_pid: int | None
    start_ns: int | None
    end_ns: int | None = None
    exit: Exit | None = None
    cwd: str | None = None
    exit_code = 0                      # the wait status, once it has ended
    _depth = 0                         # how many of them there are
    _image: _Image = _NO_IMAGE         # what it runs
    _executed = False                  # whether the image is its own
    _told = False                      # whether that is so by an Exec
    _since_ns: int | None              # when it began to run what it runs
    _busy = False                      # whether it has forked since its last exec
    # What it ran before: image, executed, since_ns, cwd. Only the first can be a fork that had executed nothing.
    _earlier: tuple[tuple[_Image, bool, int | None, str | None], ...] = ()
    _skipped = 0                       # how many programs behind the first of them are not remembered
    _reaches = False                   # whether it has failed, and its parent was there to know it
    _failing = 0                       # how many of its children do that, and can be why it failed
    _forgotten = 0                     # how many failures of its descendants are remembered only as a number
    _failed_children: list[Process] | None = None  # those of the failed ones that are finished
    _unfinished = 0                    # how many of its children are not `finished`
    _threads = 0                       # a Tree that counts them: how many live beside the first
    _codes: frozenset[int] = frozenset()  # likewise: what threads have ended with
    _leader: Exit | None = None        # likewise: the first thread's Exit, while others live
    _past = False                      # it has ended, and no events of its own come any more
    _finished = False                  # it is past, and so are all its descendants
    _found_running = False             # it was there when the watch began
    # CPU time in ns, memory in bytes, and whether that is exact: of its Exit, once a view has taken them from there.
    _cost: tuple[int | None, int | None, bool | None] = (None, None, None)
    _children: dict[Process, None] | None = None
    _track: _Track | None = None       # where it is drawn in a trace
    _fork_seen = False                 # whether a view has seen its Fork

    def __init__(self, pid: int, parent: Process | None = None, parent_pid: int | None = None,
                 start_ns: int | None = None) -> None:
        self.pid, self.parent, self.parent_pid = pid, parent, parent_pid
        self.start_ns = self._since_ns = start_ns
        if parent:
            self._image, self._depth, parent._busy = parent._image, parent._depth + 1, True

    @property
    def children(self) -> list[Process]:
        """What it has forked, in that order."""
        return [*(self._children or ())]

    @property
    def returncode(self) -> int | None:
        """How it ended, as subprocess has it; None while it runs, or if nobody knows."""
        return None if self.end_ns is None else _returncode(self.exit_code)

    @property
    def failed(self) -> bool:
        """Whether it has ended with another status than 0."""
        return self.exit_code > 0

    @property
    def programs(self) -> list[Program]:
        """The programs that it has executed, in that order: none if it is a fork that has executed nothing, and of over
        17 only the first and the last 16.
        """
        runs = [*self._earlier, (self._image, self._executed, self._since_ns, self.cwd)]
        ends = [*(since for _, _, since, _ in runs[1:]), self.end_ns]
        if self._skipped:  # what came next is not remembered
            ends[0] = None
        return [Program(image, since, end, cwd)
                for (image, executed, since, cwd), end in zip(runs, ends) if executed]

    @property
    def _cmdline_json(self) -> list[str] | None:
        """Its command line, by _encoded()."""
        return _all_encoded(_split(self._image.argv))

    @property
    def name(self) -> str:
        """What to call it: the name of its last program; in parentheses that of its parent, if it has executed none."""
        return self._image.program if self._executed else self._image.forked

    @property
    def _names(self) -> tuple[str, ...]:
        """What to call it, with what it was before."""
        if not self._earlier:
            return (self.name,)
        names = [image.program if executed else image.forked for image, executed, _, _ in self._earlier]
        names[1:1] = ["..."] * bool(self._skipped)
        return (*names, self.name)

    @property
    def command(self) -> str:
        """The command line of its last program, as bash would take it; a title as it is."""
        return self._image.command if self._executed else self.name

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.command}>"

    def _found(self, stat: _Stat) -> None:
        """Take from /proc what it runs."""
        _, ruid, _, cgroup = _proc_ids(self.pid)
        self._executed, self._found_running = not stat.flags & _PF_FORKNOEXEC, True
        self._image = _Image(_raw_cmdline(self.pid), None, None, ruid, cgroup, titled=True)

    def _exec(self, event: Any) -> None:
        """It has executed a program."""
        argv, comm, rebuilt = event._words, event._comm, event.cpu == _REBUILT
        _, ruid, _, cgroup, _, cwd = event._more
        if (self._executed or (self._busy and self._image.name != "?")) and not rebuilt:
            earlier = *self._earlier, (self._image, self._executed, self._since_ns, self.cwd)
            if len(earlier) > _EARLIER and not earlier[0][1]:  # a fork that had executed nothing
                earlier = earlier[1:]
            elif len(earlier) > _EARLIER:
                self._skipped += 1
                earlier = earlier[0], *earlier[2:]
            self._earlier = earlier
        self._executed, self._told, self._busy, self.cwd = True, True, False, cwd
        if self._threads or self._leader:  # the thread that executes is the only one left, and the first
            self._threads, self._codes, self._leader = 0, frozenset(), None
        if not rebuilt:
            self._since_ns = _when(event)
        self._image = _Image(argv, comm, f"[{comm}]" if argv == b"" and comm else None,  # as ps has it
                            ruid, cgroup, titled=rebuilt, renamed=rebuilt)

    def _named(self, comm: str, *, thread: bool) -> None:
        """A thread has taken a name. That of the main thread is the program that a process is forked for."""
        label = self._image.label if thread or self._executed else _text(comm)
        if label != self._image.label or not self._image.renamed:
            self._image = self._image.copy(label=label, renamed=True)

    def _ended(self, event: Any) -> None:
        """It has ended. A signal kills who fails in an exec when its own program is gone already, and comm remains."""
        self.end_ns, self.exit_code, self.exit, comm = _when(event), event.exit_code, event, event._comm
        if self.start_ns is None:
            self.start_ns = event.start_ns
        if comm and not (self._executed or self._image.renamed or self._image.is_of(comm)):
            self._image, self._executed = _Image(None, label=f"{_text(comm)} (exec failed)"), True

_DEEPEST = 120   # a Tree(keep=False) forgets the ancestors of what lies deeper: else a chain of daemons would grow
_FAILURES = 20   # so many failed children of a process it remembers

class Tree:
    """The processes of a watch: programs, parents, children, and which failure made which.

        tree = cnproc.Tree()
        for event in cnproc.run(["make"]):
            tree.add(event)
        for leaf in tree.failures():
            print(leaf.command, leaf.returncode)

    keep    whether to remember what has ended. With False, a process is forgotten once it and all that it started
            have ended, so memory does not grow; but the last 20 failed children of one that runs, or has failed, are
            remembered, and with them what made them fail. In a chain of daemons, each forked by the one before, only
            the last 120 keep their parents
    known   the newest Process of each pid
    roots   the processes whose parent is not known, in the order of their first events
    causes  how many have failed though none of their children did: each failure counts once, where it began
    With threads=True of the Watcher, a process has ended when all its threads have. Its returncode is that of the first
    thread if that ended last, or if all ended with the same; else None.
    """

    _exits_come = True      # whether there will be an Exit of each process that is forked
    _counts_threads = True  # whether events of threads are to be counted; else the last Exit says that it is that

    def __init__(self, *, keep: bool = True) -> None:
        self.known: dict[int, Process] = {}
        self._finishers: list[Callable[[Process], None]] = []  # called with each process before it is forgotten
        self.causes = 0
        self._latest: collections.deque[Process] = collections.deque(maxlen=3)  # the last of them
        self._keep = keep
        self._top = Process(0)   # its children are the roots
        self._orphans: dict[int, dict[Process, None]] = {}  # roots by parent_pid: of that, an event may come yet
        self._most_failed = _FAILURES                       # so many failed children of a process are remembered
        # With keep=False: ended, but events of theirs may still come; and so many of them.
        self._gone: collections.deque[Process] = collections.deque()
        self._gone_max = 1

    @property
    def roots(self) -> list[Process]:
        """The processes whose parent is not known, in the order of their first events."""
        return self._top.children

    @property
    def alive(self) -> int:
        """How many processes are known and have not ended."""
        return sum(process.end_ns is None for process in self.known.values())

    def __iter__(self) -> Iterator[Process]:
        """All processes that are remembered, each behind its parent."""
        rest = self.roots[::-1]
        while rest:
            process = rest.pop()
            yield process
            rest += process.children[::-1]

    def add(self, event: Event) -> Process | None:
        """Take an event, in the order in which a Watcher reports them. Returns whose it is: of a Fork the child. It is
        None of a Lost, and of the Exit of another thread than the first if nothing else is known of its process.
        """
        what = event.what
        if not what:
            return None
        pid = event.pid
        if what == _FORK and event.tid == pid:
            return self._fork(event, pid)
        process = self.known.get(pid)
        if process and process.end_ns is not None and (what == _EXEC or (  # its pid has come again
                isinstance(event, Exit) and event.start_ns is not None and event.start_ns > process.end_ns)):
            process = None
        if process is None:  # its Fork has not been reported
            if self._counts_threads and isinstance(event, Exit) and event.tid != pid:
                return None  # perhaps the process has ended: nobody knows how many threads it had
            parent_pid = event.parent_pid if isinstance(event, (Exec, Exit)) else None
            process = self._make(pid, parent_pid or None, None, known=self._exits_come)
        if what == _EXEC:
            process._exec(event)
        elif isinstance(event, Exit):
            if self._counts_threads and (event.tid != pid or process._threads):
                self._thread_exit(process, event)
            elif event.tid == pid and event.exit_signal != _NO_SIGNAL:
                self._exit(process, event)
        elif what == _FORK:
            process._threads += self._counts_threads
        elif isinstance(event, Comm):
            process._named(event.comm, thread=event.tid != pid)
        elif isinstance(event, Uid) and event.tid == pid:
            process._image = process._image.copy(ruid=event.ruid)
        return process

    def _make(self, pid: int, parent_pid: int | None, start_ns: int | None, *, known: bool) -> Process:
        """A new process. known: events of its own will come."""
        parent = self.known.get(parent_pid or 0)
        if parent and parent._depth >= _DEEPEST and not self._keep and parent.parent and (
                parent.parent.end_ns is not None):
            self._cut(parent)
        process = Process(pid, parent, parent_pid, start_ns)
        if known:
            before = self.known.get(pid)
            self.known[pid] = process
            if before and before.end_ns is None:  # nobody has heard of its end
                before.end_ns, before.exit_code = start_ns or 0, -1
                if not self._keep:
                    self._forget(before)
            above = parent or self._top
            if above._children is None:
                above._children = {}
            above._children[process] = None
            above._unfinished += 1
            if not parent and parent_pid:
                self._orphans.setdefault(parent_pid, {})[process] = None
            if pid in self._orphans:
                for child in self._orphans.pop(pid):
                    if start_ns is None or (child.start_ns or 0) >= start_ns:  # else of who had the pid before
                        self._adopt(process, child)
        return process

    def _adopt(self, parent: Process, child: Process) -> None:
        """Put a root below its parent, of which the first event has come only now."""
        roots: dict[Process, None] = self._top._children or {}
        link = parent
        while link.parent and link is not child:
            link = link.parent
        if child in roots and link is not child:  # else pids have been reused, or made up
            del roots[child]
            child.parent = parent
            parent._children = {**(parent._children or {}), child: None}
            self._top._unfinished -= not child._finished
            parent._unfinished += not child._finished
            child._reaches = child.failed and _reaches(child)
            parent._failing += child._reaches

    def _thread_exit(self, process: Process, event: Exit) -> None:
        """A thread of a process that has, or had, several: the last one ends the process."""
        process._codes |= {event.exit_code}
        if event.tid == process.pid:
            process._leader = event
        else:
            process._threads = max(0, process._threads - 1)
        leader = process._leader
        if leader and not process._threads:
            process._leader = None
            code = leader.exit_code if len(process._codes) == 1 else -1
            self._exit(process, Exit(
                _EXIT, event.cpu, event.timestamp_ns, process.pid, process.pid, code, leader.exit_signal,
                leader.parent_tid, leader.parent_pid, start_ns=leader.start_ns))

    def _fork(self, event: Any, pid: int) -> Process:
        return self._make(pid, event.parent_pid, _when(event), known=self._exits_come)

    def _cut(self, process: Process) -> None:
        """Make it a root."""
        parent, process.parent, process._depth, process._reaches = process.parent, None, 0, process.failed
        if parent and parent._children and process in parent._children:
            del parent._children[process]
            self._top._children = {**(self._top._children or {}), process: None}
            self._top._unfinished += 1
            parent._unfinished -= 1
            if parent._past and not parent._unfinished:
                self._finish(parent)

    def _exit(self, process: Process, event: Any) -> None:
        if process.end_ns is not None:  # an Exit that was taken for lost
            return
        process._ended(event)
        if process.exit_code > 0:
            if not process._failing:
                self.causes += 1
                self._latest.append(process)
            process._reaches, parent = _reaches(process), process.parent
            if parent and process._reaches:
                parent._failing += 1
                self.causes -= parent._failing == 1 and parent.failed
        if not self._keep:
            self._gone.append(process)
            if len(self._gone) > self._gone_max:
                self._forget(self._gone.popleft())

    def settle(self) -> None:
        """Forget what need not be remembered. No event of it comes any more."""
        while self._gone:
            self._forget(self._gone.popleft())

    def _forget(self, process: Process) -> None:
        """It has ended, and no events of its own come any more."""
        process._past = True
        if self.known.get(process.pid) is process:
            del self.known[process.pid]
        if not process._unfinished:
            self._finish(process)

    def _finish(self, process: Process) -> None:
        """It is past, and so are all its descendants. Perhaps that is so for its parent now, too."""
        while True:
            process._finished = True
            for finisher in self._finishers:
                finisher(process)
            parent = process.parent or self._top
            siblings = parent._children
            if not siblings or process not in siblings:
                return
            if not process._reaches:
                del siblings[process]
                if process._children:  # whatever failed there has not reached it
                    process._children = None
                if parent is self._top:
                    self._forget_root(process)
            else:
                failed = parent._failed_children = parent._failed_children or []
                failed.append(process)
                if len(failed) > self._most_failed:
                    first = failed.pop(0)
                    parent._forgotten += self.count_failures(first) if first._failing else 1
                    siblings.pop(first, None)
                    if parent is self._top:
                        self._forget_root(first)
            parent._unfinished -= 1
            if not parent._past or parent._unfinished:
                return
            process = parent

    def _forget_root(self, process: Process) -> None:
        """No parent is to adopt it."""
        orphans = self._orphans.get(process.parent_pid or 0)
        if orphans and process in orphans:
            del orphans[process]
            if not orphans:
                del self._orphans[process.parent_pid or 0]

    def failures(self, process: Process | None = None) -> Iterator[Process]:
        """The failures that made a process fail, the last one first: it matters most, as a rule.

        process    whose failure to explain; by default that of each root
        Each is a process that failed though none of its children did. All its ancestors up to `process` have failed,
        too, each while its parent ran: `.parent` leads up. Nothing comes if `process` has not failed, and `process`
        itself if none of its children has.
        """
        rest = [process] if process else _failed_children(self._top)
        while rest:
            process = rest.pop()
            if process.failed:
                children = _failed_children(process)
                rest += children
                if not children:
                    yield process

    def count_failures(self, process: Process) -> int:
        """How many failures() yields of a process, with those that are not remembered."""
        count, rest = 0, [process]
        while rest:
            process = rest.pop()
            if process.failed:
                children = _failed_children(process)
                rest += children
                count += process._forgotten + (not children)
        return count

_REPORT_NS = 100_000_000  # the kernel reports an end later than it tells the parent: a few milliseconds

def _reaches(process: Process) -> bool:
    """Whether the parent of a process was there to know its end, if there is one."""
    parent = process.parent
    if not parent:
        return True
    parent_pid = process.exit.parent_pid if process.exit else 0
    if parent_pid:
        return parent_pid == parent.pid
    return parent.end_ns is None or (process.end_ns or 0) < parent.end_ns + _REPORT_NS  # it had been reaped

def _failed_children(process: Process) -> list[Process]:
    """Those of its children that can be why it failed, the last one last."""
    failed = [child for child in process._children or () if child._reaches]
    return sorted(failed, key=lambda child: child.end_ns or 0)

# -------------------------------------------------------------------------------------------- command line

# Events come from _watch_live() or _load(), pass through _Processes, which knows the processes, and go to the views.
# A new view is a subclass of _View, a line in _views() and an option.

_PROG = "python3 cnproc.py"
_HELP = """usage: python3 cnproc.py [options] COMMAND [ARG ...]
       python3 cnproc.py [options] PID ...
       python3 cnproc.py [options]

Reports process starts, execs and exits, live from the Linux kernel: of COMMAND
or of these PIDs, and of all that they start, or of the whole machine.
Options stand before COMMAND. A COMMAND that is a number stands behind --.

examples:
  python3 cnproc.py make -j2         report all that a command starts
  python3 cnproc.py --tree make -j2  draw at the end what ran when
  python3 cnproc.py --why make       say at the end why it failed
  python3 cnproc.py --stats          what this machine starts, until ctrl-C
  python3 cnproc.py --wait 1234      wait for any process, and have its status
python3 -m cnproc starts faster where it finds cnproc.py: it is compiled once.
"""

_DESCRIPTIONS: dict[Any, str] = {  # of the kinds of events that take no more than a format
    Comm: "named {0.comm!r}", Sid: "leads a new session", Uid: "user {0.ruid}, effective {0.euid}",
    Gid: "group {0.rgid}, effective {0.egid}", Coredump: "dumps core", Ptrace: "traced by {0.tracer_pid}",
}
_FORK_NS = 100_000_000   # a process that has executed nothing for so long is shown as forked
_CHECK_NS = 500_000_000  # how often to check for a closed pipe
_GATHER = 0.1            # seconds that events may gather where the kernel has read the names: a third of the CPU
_LATER_NS = 100_000_000   # who fails so long after its child went on meanwhile
_REST_NS = 1_000_000_000  # so long after the command's end it is said who has outlived it
_NAMED = 5               # so many of them are named
_FEW, _ROWS = 4, 20      # so many short siblings become one row of a tree; the rows of the statistics
_LONG = 8                # so many that take over a tenth of the time have their own rows
_WIDE, _LEAD = 60, 60    # rows below a row of the tree, and columns of its branches
_COUNTED = 4096          # programs that the statistics know by name
_DEAREST = 5             # command lines that they name
_LIVE_NS = 500_000_000   # how often --live draws
def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

def _seconds(ns: int) -> str:
    return _milliseconds((ns + 500_000) // 1_000_000)

@functools.lru_cache(maxsize=4096)
def _milliseconds(ms: int) -> str:
    if ms < 100_000:
        return f"{ms / 1000:.3f} s"
    minutes, seconds = divmod(ms // 1000, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

class _Cost:
    """What several processes cost, as far as it is known: the CPU time of all, and the memory of the largest."""

    __slots__ = ("at_most_ns", "exact", "exact_ns", "known", "rss", "unknown")

    def __init__(self, *processes: Process) -> None:
        self.exact_ns, self.at_most_ns, self.rss, self.exact = 0, 0, 0, True
        self.known = self.unknown = 0  # how many have a CPU time, and how many have not
        for process in processes:
            self.add(process)

    def add(self, process: Process, *, shared: bool = False) -> None:
        """One more. shared: a part of its CPU time was another program's."""
        cpu_ns, rss, exact = process._cost
        if cpu_ns is None:
            self.unknown += 1
        else:
            self.known += 1
            if shared:
                self.at_most_ns += cpu_ns
            else:
                self.exact_ns += cpu_ns
        if rss is not None and (rss > self.rss or (rss == self.rss and exact)):
            self.rss, self.exact = rss, bool(exact)

    def merge(self, other: _Cost) -> None:
        """Add what others cost."""
        self.exact_ns += other.exact_ns
        self.at_most_ns += other.at_most_ns
        self.known, self.unknown = self.known + other.known, self.unknown + other.unknown
        if other.rss > self.rss or (other.rss == self.rss and other.exact):
            self.rss, self.exact = other.rss, other.exact

    @property
    def cpu_ns(self) -> int:
        """The CPU time of all of which it is known."""
        return self.exact_ns + self.at_most_ns

    @property
    def shown_ns(self) -> int:
        """The CPU time that is shown, if any. Where it is no more than a part, no other program's is in it."""
        return self.exact_ns if self.unknown else self.cpu_ns

    @property
    def bound(self) -> str | None:
        """What stands before it: ">=" if that of some is not known, "<=" if a part may be another program's; None if
        nothing is shown.
        """
        if self.unknown:
            return ">=" if self.exact_ns else None
        return "<=" * bool(self.at_most_ns) if self.known else None

    @property
    def cpu(self) -> str:
        """The CPU time."""
        return "" if self.bound is None else f"{self.bound}{_seconds(self.shown_ns)}"

    def share(self, all_ns: int) -> str:
        """The part of so much CPU time."""
        return "" if self.bound is None else f"{self.bound}{self.shown_ns / max(1, all_ns):.0%}"

    @property
    def memory(self) -> str:
        """The memory, rounded up; with "<=" if that is no more than a bound, and ">=" if that of some is not known."""
        if not self.rss or (self.unknown and not self.exact):
            return ""
        return f"{'>=' if self.unknown else '' if self.exact else '<='}{_bytes(self.rss)}"

@functools.lru_cache(maxsize=4096)
def _column(number: int | None) -> str:
    """A pid in its column."""
    return f"{'?' if number is None else number:>7}"

@functools.lru_cache(maxsize=256)
def _exit_text(status: int) -> str:
    """How a process ended, by its wait status."""
    code = _returncode(status)
    if code is None:
        return "exit status unknown"
    return f"exit {code}" if code >= 0 else f"killed by {_signal_name(-code)}{' (core dumped)' * (status >> 7 & 1)}"

class _Processes(Tree):
    """The processes of one machine, as their events tell."""

    def __init__(self, host: str | None, boot_id: str | None, *, look: bool, children: bool = True,
                 threads: bool = False, number: int = 0) -> None:
        super().__init__(keep=False)
        self._counts_threads = False  # the Exit of a process stands behind those of its threads: _ThreadExits
        self.host, self.boot_id = host, boot_id
        self.number = number       # of the machine, if there are several
        self.has_ends = True       # whether ends are reported: a recording may have none
        self.offset_ns = 0         # from the events' clock to the time of day
        self.shift_ns = 0          # from this machine's clock to that of the recording's first one, which events have
        self.command = 0           # the pid of the command
        self.command_process: Process | None = None
        self.look = look          # whether /proc is that of these processes
        self._exits_come = children
        self._gone_max = 64 if threads else 1
        self._me = os.getpid() if look else 0

    def _fork(self, event: Any, pid: int) -> Process:
        parent_pid, rebuilt = event.parent_pid, event.cpu == _REBUILT
        process = self._make(pid, parent_pid, _when(event), known=self._exits_come or rebuilt or pid == self.command)
        if self.look:
            stat = _stat(pid) if rebuilt else None
            if stat:
                process._found(stat)
            if parent_pid == self._me and not process._image.argv:
                with open("/proc/thread-self/comm", "rb") as file:
                    process._image = _Image(
                        b"cnproc\0", os.fsdecode(file.read().removesuffix(b"\n")), renamed=False)
        if pid == self.command and not self.command_process:
            self.command_process = process
        return process

    @property
    def command_exit(self) -> Exit | None:
        """The command's end, once it has been reported."""
        if not self.command_process and self.command:  # its Fork has not been reported
            self.command_process = self.known.get(self.command)
        return self.command_process.exit if self.command_process else None

@contextlib.contextmanager
def _named(file: Any) -> Generator[None, None, None]:
    """Let an error of writing say to what."""
    try:
        yield
    except OSError as error:
        error.filename = {"<stdout>": "standard output", "<stderr>": "standard error"}.get(file.name, file.name)
        raise

class _Out:
    """A file for a view. It writes whole lines, and knows what the reader can see."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.begun = True  # False of a file that still has what it had before
        self.fresh = True  # False if a terminal may have something on the line: the ^C of a ctrl-C
        self._lines: list[str] = []
        self.line = self._lines.append  # writes a line as it is
        self.tty = file.isatty()
        # By the conventions of NO_COLOR and FORCE_COLOR; Python's own tools do the same.
        self.colour = not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or (
            self.tty and os.environ.get("TERM") != "dumb"))
        self.more, self.times, self.arrow, self.therefore, self.bars = "…", "×", "←", "→", "░▒▓█"
        self.branches = "├─ ", "└─ ", "│  "
        self._encoding = getattr(file, "encoding", None) or "utf-8"
        try:
            "…×←→░▒▓█├─└│".encode(getattr(file, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            self.more, self.times, self.arrow, self.therefore, self.bars = "...", "x", "<-", "->", ".:=#"
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

    def encode_as(self, encoding: str) -> None:
        """Write in this encoding, whatever the file's own is."""
        self._encoding = encoding

    def encodable(self, text: str) -> str:
        """The text with \\xf6 for what the file's encoding lacks."""
        return text if text.isascii() else text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def fit(self, text: str, width: int) -> str:
        """The text in just so many columns."""
        text = self.cut(text, width)
        return text + " " * (width - _columns(text))

    def paint(self, text: str, style: str) -> str:
        """The text in a colour: "31" is red, "2" dim, "" none."""
        return self.style(style) + text + self.style("0") if self.colour and style else text

    def style(self, style: str) -> str:
        """What begins a style, or with "0" ends it."""
        return f"\x1b[{style}m" if self.colour else ""

    def row(self, text: str) -> None:
        """Write a line, truncated to the terminal's width. It may be painted."""
        self.line(self.fitted(text) if self.tty else text)

    def fitted(self, text: str) -> str:
        """A line that may be painted, truncated to the terminal's width."""
        width = self.width
        if width is None:
            return text
        import re

        parts = re.split("(\x1b\\[\\d*m)", self.encodable(text))  # every second one is a colour
        plain, at = self.cut("".join(parts[::2]), width), 0
        for i in range(0, len(parts), 2):
            at, parts[i] = at + len(parts[i]), plain[at:at + len(parts[i])]
        return "".join(parts)

    def transient(self, text: str) -> None:
        """Show a line in the place of the one before, until something else is written."""
        self.now("\r\x1b[K" + self.cut(text, (self.width or 80) - 1))

    def now(self, text: str) -> None:
        """Write to a terminal, no matter whether it is still there."""
        with contextlib.suppress(OSError):
            self._file.write(text)
            self._file.flush()

    @property
    def height(self) -> int:
        """The lines of the terminal."""
        try:
            return int(os.environ.get("LINES") or os.get_terminal_size(self._file.fileno()).lines) or 24
        except (OSError, ValueError):
            return 24

    def begin(self) -> None:
        """There will be something to write: what a file had before is gone from now on."""
        if self.has_more:
            self._file.truncate(0)
        self.begun = True

    @property
    def has_more(self) -> bool:
        """Whether this is a file that still has what it had before."""
        return not self.begun and os.path.isfile(self._file.fileno()) and os.fstat(self._file.fileno()).st_size > 0

    def flush(self) -> None:
        """Whole lines at once: who is killed, or finds the disk full, leaves no half line."""
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            if self.tty and not self.fresh:
                # So many blanks end on the next line if there is something on this one, and else on this.
                text, self.fresh = " " * (self.width or 80) + "\r" + text, True
            if self._fd is None:
                self._file.write(self.encodable(text))
                return
            rest = memoryview(text.encode(self._encoding, "backslashreplace"))
            with _named(self._file):
                # Python's own files lose the rest of a write into a full pipe that a signal interrupts: seen with 3.11.
                self._file.flush()
                while rest:
                    try:
                        rest = rest[os.write(self._fd, rest):]
                    except BlockingIOError:  # somebody who shares it has made it so
                        select.select([], [self._fd], [])

    def check(self) -> None:
        """Raises BrokenPipeError if nobody reads it any longer."""
        if self._closed.poll(0):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

class _Filter:
    """Which processes are shown: all that is asked for must hold. What is not known does not hold."""

    def __init__(self, args: Any) -> None:
        self._only, self._users, self._cgroups = args.only or (), args.user_id or (), args.cgroup or ()
        self.longer_ns = max(args.longer or (0,)) * 1e9
        self.any = bool(self._only or self._users or self._cgroups or self.longer_ns)

    def holds(self, info: Process) -> bool:
        """Whether what it runs, as whom and where, is asked for."""
        image = info._image
        line = image.name if image.argv is None else " ".join(map(_text, image.words))
        return (all(pattern.search(line) for pattern in self._only)
                and all(image.ruid == user for user in self._users)
                and all(image.cgroup is not None and pattern.search(image.cgroup) for pattern in self._cgroups))

    def shows(self, info: Process | None, when: int) -> bool:
        """Whether a process is shown at that time. A Lost is, always. If not `any`, there is no need to ask."""
        if not info:
            return True
        start = info.start_ns
        return self.holds(info) and (not self.longer_ns or (start is not None and when - start >= self.longer_ns))

class _View:
    """A way of showing events."""

    due = _NEVER  # when on_time() is to be called, on the events' clock
    failed = False  # whether it lacks something, which its end has said
    partial = False  # whether a recording has not been read to its end
    begins_late = False  # whether its file keeps what it had until end()

    def __init__(self, out: _Out, args: Any) -> None:
        self.out, self.args = out, args
        self.filter = _Filter(args)
        self._kinds = int(args.events or (What.ALL if args.load else _LIFE))
        self._second, self._clock = _NEVER, ""  # in ns

    def time_of_day(self, ns: int) -> str:
        """A time of day with its microseconds. What stands before them is made once a second."""
        fraction = ns - self._second
        if not 0 <= fraction < 1_000_000_000:
            fraction = ns % 1_000_000_000
            self._second, self._clock = ns - fraction, self.clock(ns // 1_000_000_000)
        return f"{self._clock}.{str(fraction // 1000).zfill(6)}"  # faster than :06

    def clock(self, second: int) -> str:
        """The time of day of a second since 1970."""
        return time.strftime("%H:%M:%S", time.localtime(second))

    def wants(self, event: Any) -> bool:
        """Whether -e asks for it; a Lost is never left out."""
        what = event.what
        return bool(what & self._kinds or not what or _wanted_exit(self._kinds, event))

    def on_start(self, now: int) -> None:
        """The watch begins; not called for a recording."""

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        """An event, and whose it is: None if it is a Lost."""
        raise NotImplementedError

    def on_time(self, now: int, processes: _Processes) -> None:
        """It is `due`."""

    def on_recording(self) -> None:
        """Another recording follows. It may be of the same time."""

    def end(self, now: int) -> None:
        """No more events."""

    def close(self) -> None:
        """Give the terminal back. It is called after errors, too."""

class _ExitTexts(dict[int, str]):
    """How a process ended, by its wait status, painted. There are a few hundred at most."""

    def __init__(self, out: _Out) -> None:
        super().__init__()
        self._out = out

    def __missing__(self, status: int) -> str:
        self[status] = text = self._out.paint(_exit_text(status), "31" if status else "")
        return text

class _Lines(_View):
    """A line of text for each event."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        # Forks without a line as yet: if an exec follows soon, they get none.
        self._forks: dict[Process | None, tuple[Any, int]] = {}  # with the offset_ns of then
        self._held = not args.events and (args.follow or not (args.pid or args.command))  # else no exec is reported
        self._dim, self._undim, self._write = out.style("2"), out.style("0"), out.row if out.tty else out.line
        self._exit_texts = _ExitTexts(out)
        self._brief = bool(self._kinds & _EXEC)  # a line of the Exec has had the whole command line
        if out.tty:
            out.row(out.paint(f"{'TIME':15} {'PID':>7} {'PARENT':>7}  EVENT", "2"))

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        what, forks = event.what, self._forks
        if forks:
            held = forks.pop(info, None)
            if held and what != _EXEC:
                self._show(held[0], info, held[1])
            elif what == _FORK and info and info.parent in forks:
                self._show_fork(info.parent)
            if not forks:
                self.due = _NEVER
        if what == _FORK and info and not self.args.events and event.tid == event.pid:
            if self._held:
                if not forks:
                    self.due = _when(event) + _FORK_NS
                forks[info] = event, processes.offset_ns
        elif what & self._kinds or self.wants(event):
            self._show(event, info, processes.offset_ns)

    def _show_fork(self, info: Any) -> None:
        event, offset_ns = self._forks.pop(info)
        self._show(event, info, offset_ns)

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

    def _show(self, event: Any, info: Process | None, offset_ns: int) -> None:
        what, when, dim, undim = event.what, event.timestamp_ns, self._dim, self._undim
        if when >= _NEVER:
            when = _when(event)
        if self.filter.any and not self.filter.shows(info, when):
            return
        at = f"{dim}{self.time_of_day(when + offset_ns)}{undim}"
        if not info:
            count = "some events" if event.count is None else _count(event.count, "event")
            text = self.out.paint(f"lost {count}; what /proc knows follows", "31")
            self._write(f"{at}{'':18}{text}")
            return
        pid, start, rebuilt, image = info.pid, info.start_ns, event.cpu == _REBUILT, info._image
        name = image.forked if not info._executed else image.name if self._brief and info._told else image.command
        thread = f"thread {event.tid} " if event.tid != pid or (what == _EXIT and info.end_ns is None) else ""
        if what == _EXIT:
            if thread or start is None:
                text = f"{self._exit_texts[event.exit_code]}: {name}"
            else:
                text = f"{self._exit_texts[event.exit_code]}{dim} after {_seconds(when - start)}{undim}: {name}"
        elif what == _FORK:
            text = f"started: {name}" if thread else f"fork: {name}"
        elif what == _EXEC:
            text = f"{image.command} ..." if event.truncated else image.command
            if rebuilt and start is not None:  # it was there
                text, rebuilt = f"running for {_seconds(when - start)}: {text}", False
            else:
                text = f"exec {text}"
        elif isinstance(event, Ptrace) and not event.tracer_pid:
            text = "traced no longer"
        else:
            text = f"{_printable(_DESCRIPTIONS[type(event)].format(event))}: {name}"
        if rebuilt:
            text += f"{dim}  (from /proc){undim}"
        self._write(f"{at} {str(pid).rjust(7)} {_column(info.parent_pid)}  {thread}{text}")

class _Json(_View):
    """One JSON object a line: the event's own asdict(), and what is known of its process."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import json

        self._encode = json.JSONEncoder().encode
        self._machines: dict[_Processes, str] = {}  # the members that name them
        # With a filter: forks whose next event tells whether they are shown, for till then they run their parent's.
        self._forks: dict[Process | None, tuple[Any, _Processes]] = {}
        self._holds = self.filter.any and self._kinds & _LIFE == _LIFE

        @functools.lru_cache(maxsize=4096)  # the same come again and again
        def path(text: str | None) -> str:
            return "null" if text is None else self._encode(_encoded(text))

        self._path = path

    def clock(self, second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        if info and (info._found_running or (info.parent and info.parent._found_running)):
            self._introduce(info, event, processes)
        if self._holds:
            if event.what == _FORK and info and event.tid == event.pid and event.cpu != _REBUILT:
                self._show_fork(info.parent, _when(event))  # what has forked is something
                self._forks[info] = event, processes
                return
            self._show_fork(info, _when(event))
        if self.wants(event) and not (self.filter.any and not self.filter.shows(info, _when(event))):
            self._write(event, info, processes)

    def _show_fork(self, info: Process | None, when: int) -> None:
        event, processes = self._forks.pop(info, (None, None))
        if event and processes and self.filter.shows(info, when):
            self._write(event, info, processes)

    def end(self, now: int) -> None:
        for info in [*self._forks]:
            self._show_fork(info, now)

    def _introduce(self, info: Process, event: Any, processes: _Processes) -> None:
        """Write a Fork and an Exec for each ancestor that was there before, so that who loads this knows its name."""
        if event.cpu == _REBUILT and event.what in (_FORK, _EXEC):  # it introduces itself
            info._found_running = False
        found: list[Process] = []
        link = info if info._found_running else info.parent
        while link and link._found_running:
            found.append(link)
            link = link.parent
        for link in reversed(found):
            link._found_running = False
            image, pid, parent_pid = link._image, link.pid, link.parent_pid or 0
            events: list[Any] = [Fork(_FORK, _REBUILT, (link.start_ns or 0) & _NEVER * 2 - 1, parent_pid, parent_pid,
                                      pid, pid)]
            if link._executed:
                events.append(Exec(_EXEC, _REBUILT, event.timestamp_ns, pid, pid, cmdline=_split(image.argv),
                                   parent_pid=link.parent_pid, ruid=image.ruid, cgroup=image.cgroup))
            for event_before in events:
                if self.wants(event_before) and not (self.filter.any and not self.filter.holds(link)):
                    self._write(event_before, link, processes)

    def _write(self, event: Any, info: Process | None, processes: _Processes) -> None:
        when, machine = _when(event), self._machines.get(processes)
        if machine is None:
            machine = f'"host": {self._encode(processes.host)}, "boot_id": {self._encode(processes.boot_id)}'
            self._machines[processes] = machine
        at = self.time_of_day(when + processes.offset_ns)
        self.out.line(f'{{"event": "{type(event).__name__.lower()}", "time": "{at}Z", '
                      f'"timestamp_ns": {when - processes.shift_ns}, {machine}, {self._fields(event, info, when)}}}')

    def _fields(self, event: Any, info: Process | None, when: int) -> str:
        """The rest of the object. The usual kinds by hand: json takes four times as long for them."""
        what = event.what
        if not info or what not in (_FORK, _EXEC, _EXIT):
            shown = event.asdict()
            del shown["event"], shown["timestamp_ns"]
            if info and isinstance(event, Coredump):
                shown["cmdline"] = info._cmdline_json
            return self._encode(shown)[1:-1]
        task = f'"pid": {event.pid}, "tid": {event.tid}'
        rebuilt = "true" if event.cpu == _REBUILT else "false"
        parent_pid = info.parent_pid or "null"
        if what == _FORK:
            return (f'{task}, "parent_tid": {event.parent_tid or "null"}, "parent_pid": {event.parent_pid or "null"}, '
                    f'"rebuilt": {rebuilt}')
        plain = _plain(info._image.argv or b"")
        words = '["' + plain.replace(" ", '", "') + '"]' if plain else self._encode(info._cmdline_json)
        if what == _EXEC:
            _, *ids, cgroup, exe, cwd = event._values()
            ruid, euid = ("null" if number is None else number for number in ids)
            return (f'{task}, "cmdline": {words}, "truncated": {"true" if event.truncated else "false"}, '
                    f'"rebuilt": {rebuilt}, "parent_pid": {parent_pid}, "ruid": {ruid}, "euid": {euid}, '
                    f'"cgroup": {self._path(cgroup)}, "exe": {self._path(exe)}, "cwd": {self._path(cwd)}')
        status, duration = event.exit_code, "null"
        code = _returncode(status)
        signal = "null" if code is None else f'"{_signal_name(-code)}"' if code < 0 else '""'
        if info.start_ns is not None and info.end_ns is not None and event.tid == info.pid:
            duration = str((when - info.start_ns) / 1e9)
        return (f'{task}, "exit_code": {"null" if code is None else status}, "exit_signal": {event.exit_signal}, '
                f'"parent_tid": {event.parent_tid or "null"}, "parent_pid": {event.parent_pid or parent_pid}, '
                f'"returncode": {"null" if code is None else code}, "signal": {signal}, "rebuilt": {rebuilt}, '
                f'"cmdline": {words}, "duration": {duration}, {_costs_json(event)}')

def _costs_json(event: Any) -> str:
    """What an Exit knows of the cost, as members of a JSON object."""
    values = event._values()
    if None in values:
        if values.count(None) == len(values):
            return _NO_COSTS_JSON
        values = ["null" if value is None else value for value in values]
    cpu, rss, exact, read, written, faults, start = values
    exact = str(exact).lower()
    return (f'"cpu_ns": {cpu}, "max_rss": {rss}, "max_rss_exact": {exact}, "read_bytes": {read}, '
            f'"write_bytes": {written}, "major_faults": {faults}, "start_ns": {start}')

_NO_COSTS_JSON = ", ".join(f'"{name}": null' for name in Exit._extra)

class _Span(_View):
    """What the views that end with a summary have in common: when it all began, what it cost, why it failed."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self.begin: int | None = None  # when the watch began, or the first event of the recording happened
        self.last = -_NEVER
        self._recorded = -_NEVER  # when the last event of the recordings before this one happened
        self.live = self.whole = False  # whether it is no recording, and whether it is of the whole machine
        self.lost = 0
        self.lost_more = False         # whether more were lost, nobody knows how many
        self.unnamed = 0               # so many execs have no command line
        self._attached = False         # whether processes were there before
        self._alive = self.most_alive = 0  # how many run, and ran at once at most
        self.forks_missed = False      # whether that is not known
        self.machines: list[_Processes] = []
        self._cost = _Cost()           # of all that have ended
        self._failed = 0               # so many of them have failed
        self._most_ns = 0              # the CPU time of the most expensive process, and what to call that
        self._most = ""
        self._peaks = [0, 0]           # the memory of the largest process: the largest bound, the largest exact figure
        self._largest = ""             # what to call the latter

    def on_start(self, now: int) -> None:
        self.begin, self.live, self.whole = now, True, not (self.args.command or self.args.pid)

    def on_recording(self) -> None:
        if self.begin is not None:
            self._recorded = self.last

    def over(self, now: int, runs: bool) -> int:
        """When it was over: with its last process, but a watch of the whole machine at its own end."""
        return max(self.last, now if runs or self.whole else self.begin or 0)

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        what, when = event.what, _when(event)
        if what == _FORK and event.cpu == _REBUILT:  # it may be hours old
            self._attached = True
        else:
            if self.begin is None or when < self.begin:
                self.begin = when
            if when < self._recorded:
                self.forks_missed = True
            if when > self.last:
                self.last = when
        if processes not in self.machines:
            self.machines.append(processes)
            if self.args.all or self.args.html:
                processes._most_failed = _NEVER
            processes._finishers.append(self.on_finish)
        if not info:
            self.lost += event.count or 0
            self.lost_more |= event.count is None
        elif info.exit is event:
            self._alive -= 1
            self.forks_missed |= not info._fork_seen
            if not self.filter.any or self.filter.shows(info, when):
                self._add_cost(info, event)
        elif what == _FORK and event.tid == info.pid and processes.known.get(info.pid) is info:
            info._fork_seen = True
            self._alive += 1
            if self._alive > self.most_alive:
                self.most_alive = self._alive
        elif not info._fork_seen:
            self.forks_missed = True
        if what == _EXEC and event._words is None:
            self.unnamed += 1

    def _add_cost(self, info: Process, event: Any) -> None:
        """It has ended, with this Exit."""
        cpu_ns, rss, exact, *_ = event._values()
        info._cost = cpu_ns, rss, exact
        self._cost.add(info)
        self._failed += info.failed
        if cpu_ns and cpu_ns > self._most_ns:
            *before, _ = info._names
            lead = "".join(f"{name} {self.out.therefore} " for name in before)
            self._most_ns, self._most = cpu_ns, lead + _called(info, self.out)
        if rss and rss > self._peaks[bool(exact)]:
            self._peaks[bool(exact)] = rss
            if exact:
                self._largest = _called(info, self.out)

    def on_finish(self, process: Process) -> None:
        """The process and all its descendants have ended. No more events of them come."""

    def settle(self) -> None:
        """No more events come: finish all that can be."""
        for processes in self.machines:
            processes.settle()

    @property
    def has_ends(self) -> bool:
        """Whether ends are reported: some recordings have none."""
        return all(processes.has_ends for processes in self.machines)

    def has_end(self, process: Process) -> bool:
        """Whether the end of this one is, if it has one."""
        if self.has_ends:
            return True
        while process.parent:
            process = process.parent
        return any(processes.has_ends and process in (processes._top._children or ()) for processes in self.machines)

    @property
    def at_once(self) -> bool:
        """Whether it is known how many ran at once."""
        return self.has_ends and not (self.forks_missed or self.filter.any)

    @property
    def losses(self) -> str:
        """What was lost, in words."""
        return f"{self.lost}+ events lost" if self.lost_more else f"{_count(self.lost, 'event')} lost"

    @property
    def doubt(self) -> str:
        """What stands behind the losses, if they can hide a cause."""
        lost = self.lost or self.lost_more
        return ": what made it fail may be among them" if lost and self.failed_roots() else ""

    def roots(self) -> list[tuple[_Processes, Process]]:
        """The command, or each process that was watched."""
        return [(processes, root) for processes in self.machines
                for root in ([processes.command_process] if processes.command_process else processes.roots)]

    def failed_roots(self) -> list[tuple[_Processes, Process]]:
        """The same, if they have failed."""
        return [(processes, root) for processes, root in self.roots() if root.failed]

    def why(self) -> None:
        """Write what made the command fail, the failure itself first: the last one, or with --all each."""
        for processes, root in self.failed_roots():
            alone = next(processes.failures(root)) is root
            failures = [*dict.fromkeys(_own(process, root) for process in processes.failures(root))]
            shown: set[Process] = set()
            for process in failures[:None if self.args.all else 1]:
                link, before = process, None
                while True:
                    shown.add(link)
                    self.out.line(self._link(link, before))
                    if link is root or not link.parent:
                        break
                    link, before = _own(link.parent, root), link
            others = collections.Counter(
                _called(process, self.out) for process in failures[1:] if process not in shown)
            if others and not self.args.all:
                most = others.most_common(5)
                named = ", ".join(name if count == 1 else f"{name} {self.out.times}{count}" for name, count in most)
                more = processes.count_failures(root) - 1 - sum(count for _, count in most)
                named += f" and {more} more" if more > 0 else ""
                self.out.line(f"other failures that reached it: {named} (--all)")
            if alone:  # nothing else explains it, but this may help
                for process in processes._latest:
                    if process is not root and (process.end_ns or 0) < (root.end_ns or 0) and (
                            root in _with_ancestors(process, root)):
                        self.out.line(f"  before that, {self._link(process)}")

    def _link(self, process: Process, before: Process | None = None) -> str:
        """How a process ended, after how long, what it was, and where it ran. before: its child that had failed."""
        end, out, arrow = process.end_ns, self.out, self.out.therefore if before else ""
        after = "" if process.start_ns is None or end is None else f" after {_seconds(end - process.start_ns)}"
        if before and before.end_ns is not None and end is not None and end - before.end_ns >= _LATER_NS:
            after += f", {_seconds(end - before.end_ns)} later"  # perhaps for another reason
        where = f"  (in {_printable(_text(process.cwd))})" if process.cwd else ""
        how = out.paint(f"{_exit_text(process.exit_code)}{after}", "31")
        return f"{arrow}{' ' * bool(arrow)}{how}: {_chain(process, out)}{out.paint(where, '2')}"

    def failures(self) -> str:
        """How much failed, in words."""
        failed = self.failed_roots()
        if self.filter.any and not failed:
            return f"{self._failed} failed" if self._failed else "nothing failed"
        reached = sum(processes.count_failures(root) for processes, root in failed) + sum(
            processes._top._forgotten for processes in self.machines if not processes.command_process)
        others = sum(processes.causes for processes in self.machines) - reached
        if not failed and any(root.end_ns is None for _, root in self.roots()):
            return f"{others} failed" if others else "nothing failed"
        which = "what was watched" if self._attached else "the command"
        if not failed:
            return f"{_count(others, 'failure')} did not reach {which}" if others else "nothing failed"
        processes, root = failed[-1]
        first = f"{_called(_own(next(processes.failures(root), root), root), self.out)} failed"
        if not others and reached == 1:
            return first
        return f"{first}; {_count(reached, 'failure')} reached {which}" + (
            f", {_count(others, 'other')} did not" if others else "")

    def sentence(self, *first: str) -> None:
        """Write the last line."""
        cost, parts = self._cost, [*first]
        cost.unknown += sum(one.end_ns is None and (not self.filter.any or self.filter.holds(one))
                            for processes in self.machines for one in processes.known.values())  # they still run
        if cost.cpu:
            parts.append(f"{cost.cpu} of CPU")
            if self._most and cost.known > 1 and not cost.unknown:
                parts.append(f"{self._most} took {100 * self._most_ns / max(1, cost.cpu_ns):.0f} %")
        bound, peak = self._peaks
        if peak and peak >= bound:
            parts.append(f"peak {_bytes(peak)} in {self._largest}")
        elif bound:
            parts.append(f"peak <={_bytes(bound)}")
        if self.unnamed:
            parts.append(f"{_count(self.unnamed, 'name')} not known")
        text = "; ".join([*parts, *[self.failures()] * self.has_ends, self.losses + self.doubt])
        width = self.out.width
        if width and _columns(text) > width:
            line = ""
            for word in text.split(" "):
                if line.strip() and _columns(line) + 1 + _columns(word) > width:
                    self.out.row(line)
                    line = " "
                line += " " * bool(line) + word
            self.out.row(line)
        else:
            self.out.row(text)

def _own(process: Process, root: Process) -> Process:
    """The process, or the one of which it is a part: a subshell that ended as that did."""
    while (process is not root and process.parent and not process._executed
            and process.parent._image is process._image and process.parent.exit_code == process.exit_code):
        process = process.parent
    return process

def _with_ancestors(process: Process, root: Process) -> Iterator[Process]:
    """A process and its ancestors, up to root."""
    link: Process | None = process
    while link:
        yield link
        link = link.parent if link is not root else None

def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural * (number != 1)}"

def _bytes(number: int) -> str:
    """A number of bytes, rounded up."""
    shift, unit = next((shift, unit) for shift, unit in ((10, "K"), (20, "M"), (30, "G"))
                       if number < 10 << shift + 10 or unit == "G")
    return f"{-(-number >> shift)}{unit}"

def _chain(process: Process, out: _Out) -> str:
    """The command lines of a process, one program after the other."""
    before = [image.command if executed else image.forked for image, executed, _, _ in process._earlier]
    before[1:1] = [out.more] * bool(process._skipped)
    return f" {out.therefore} ".join([*before, process.command])

def _telling(words: list[str]) -> str:
    """The argument that tells one run of a program from another: as a rule the file that it works on."""
    files: list[str] = []
    made: list[str] = []
    for before, word in zip(words, words[1:]):
        name = word.rpartition("/")[2]
        stem, _, kind = name.rpartition(".")
        if (stem and kind.isalnum() and not kind[:1].isdigit() and len(kind) < 6
                and not word.startswith("-") and " " not in word
                and not before.startswith(("-o", "--output", "-dump", "-aux", "-M"))):
            files.append(name)
        elif before == "-o":
            made.append(name)
    sources = [name for name in files if not name.endswith((".o", ".a", ".so", ".s"))] or made or files
    return _printable(_text(sources[-1])) if sources else ""

def _called(process: Process, out: _Out) -> str:
    """A process in a sentence: its program and the argument that tells most."""
    name, image = process.name, process._image
    argument = _telling(image.words) if process._executed else ""
    if argument and argument != name:
        return f"{name} {argument}"
    if name != image.name and not name.startswith(f"{image.name} -"):  # a script's own name, or "(sh)"
        return name
    return image.command if len(image.words) > 1 and _columns(image.command) <= 40 else name

def _short(process: Process, room: int, out: _Out) -> str:
    """What a process ran, in so many columns."""
    image, whole = process._image, _chain(process, out)
    if _columns(whole) <= room:
        return whole
    *before, name = process._names
    lead = "".join(f"{one} {out.therefore} " for one in before)
    return _shortened(image, lead, room, out) if process._executed else out.cut(lead + name, room)

def _shortened(image: _Image, lead: str, room: int, out: _Out) -> str:
    """A command line, in so many columns: the program's name first, and the argument that tells most."""
    words, name = image.words, image.program
    if not words or image.label or (image.titled and len(words) == 1):
        return out.cut(lead + image.command, room)
    texts = [image.command]
    if words[0].endswith(image.name):  # without the path of the program
        texts.append(" ".join(map(_quote, [image.name, *words[1:]])))
    script = next((i for i, word in enumerate(words) if i and word.endswith(name)), 0)
    if script:  # without its interpreter
        texts.append(" ".join(map(_quote, [name, *words[script + 1:]])))
    for text in texts:
        if _columns(lead + text) <= room:
            return lead + text
    if lead and _columns(lead + name) > room - 8:
        lead = f"{out.more} {out.therefore} "
    argument, text = _telling(words), lead + texts[-1]
    rest_room = room - _columns(argument) - 1
    if argument and rest_room > _columns(lead + name) and argument not in text[:room - 1]:
        return f"{out.cut(text, rest_room)} {argument}"
    return out.cut(text, room)

class _Load:
    """How much of the time some processes ran: each by itself, and of many by moments of a millisecond or more."""

    __slots__ = ("grain", "ran", "spans")

    def __init__(self) -> None:
        self.spans: list[tuple[int, int, int]] = []  # when each began, ended, and how long it ran, in ns
        self.grain = 1 << 20                         # ns from one moment to the next
        self.ran: dict[int, float] = {}              # ns, by moment, of those that have no span any more

    def merge(self, other: _Load) -> None:
        """Add what is in another one, which stays as it is."""
        self.spans += other.spans
        while self.grain < other.grain:
            self._coarsen()
        ran, wider = self.ran, self.grain // other.grain
        for moment, ran_ns in other.ran.items():
            ran[moment // wider] = ran.get(moment // wider, 0.0) + ran_ns
        self.bound()

    def bound(self) -> None:
        """Keep few spans and few moments."""
        if len(self.spans) > _SPANS:
            spans, self.spans = self.spans, []
            for begin, end, ran_ns in spans:
                while (end - begin) // self.grain > 256:
                    self._coarsen()
                rate, grain, ran = ran_ns / max(1, end - begin), self.grain, self.ran
                for moment in range(begin // grain, max(begin + 1, end - 1) // grain + 1):
                    at = moment * grain
                    ran[moment] = ran.get(moment, 0.0) + max(1.0, rate * (min(end, at + grain) - max(begin, at)))
        while len(self.ran) > 512:
            self._coarsen()

    def _coarsen(self) -> None:
        self.grain *= 2
        coarser: dict[int, float] = {}
        for moment, ran_ns in self.ran.items():
            coarser[moment >> 1] = coarser.get(moment >> 1, 0.0) + ran_ns
        self.ran = coarser

class _Row:
    """A row of the tree: a process, or several that are alike.

    names    what the processes are called
    info     one of them
    ran_ns   its CPU time if that is known, else how long it was there
    rows     the rows of their children
    cost     of several processes, as `load`; else both are None
    endless  how many have no end, for no ends have been recorded
    """

    __slots__ = ("cost", "count", "end", "endless", "failed", "info", "load", "names", "ran_ns", "rows", "running",
                 "start", "total_ns")

    def __init__(self, info: Process, start: int, end: int, ran_ns: int, rows: _Rows | None, endless: int = 0) -> None:
        self.info, self.start, self.end, self.ran_ns, self.rows = info, start, end, ran_ns, rows
        self.names = info._names
        self.count, self.failed, self.running = 1, int(info.failed), int(info.end_ns is None and not endless)
        self.total_ns, self.endless = end - start, endless
        self.cost: _Cost | None = None
        self.load: _Load | None = None

    def copy(self, depth: int = 0) -> _Row:
        """A row that can be added to, while this one stays as it is."""
        row = _Row(self.info, self.start, self.end, self.ran_ns, self.rows, self.endless)
        row.names = self.names
        if self.cost and self.load:
            row.count = 0
            row.cost, row.load, row.rows = _Cost(), _Load(), None
            row.failed = row.running = row.total_ns = row.endless = 0
            row.add(self, depth)
        return row

    def add(self, other: _Row, depth: int = 0) -> None:
        """Put another row, and all that is below it, into this one. The other stays as it is. depth: below a group."""
        if not self.cost or not self.load:
            self.cost, self.load = _Cost(self.info), _Load()
            self.load.spans.append((self.start, self.end, self.ran_ns))
            self.rows = _folded(None, self.rows, depth)
        if other.cost and other.load:
            self.cost.merge(other.cost)
            self.load.merge(other.load)
        else:
            self.cost.add(other.info)
            self.load.spans.append((other.start, other.end, other.ran_ns))
            if len(self.load.spans) > _SPANS:
                self.load.bound()
        if other.start < self.start:
            self.start = other.start
        if other.end > self.end:
            self.end = other.end
        self.count += other.count
        self.total_ns += other.total_ns
        self.failed += other.failed
        self.running += other.running
        self.endless += other.endless
        if other.rows:
            self.rows = _folded(self.rows, other.rows, depth)

    def density(self, begin: int, cell_ns: float, cells: int, by_cpu: bool) -> list[float]:
        """How many processors the row took in each cell of its bar; 0 where it was not there.

        by_cpu: else it counts how many processes there were.
        """
        shares = [0.0] * cells
        if not self.load:
            first = min(max(0, int((self.start - begin) / cell_ns)), cells - 1)
            after = min(max(first + 1, round((self.end - begin) / cell_ns)), cells)
            rate = self.ran_ns / self.total_ns if self.total_ns and by_cpu else 1.0
            shares[first:after] = [max(rate, 1e-9)] * (after - first)
            return shares
        grain = self.load.grain
        spans = [*self.load.spans, *((moment * grain, (moment + 1) * grain, ran_ns)
                                     for moment, ran_ns in self.load.ran.items())]
        for start, end, ran_ns in spans:
            low, high = (start - begin) / cell_ns, (end - begin) / cell_ns
            width = high - low
            if width <= 0.5:  # a cell holds several of them: this one is in the cell of its middle
                shares[max(0, min(int(low + width / 2), cells - 1))] += max(1, ran_ns) / cell_ns
                continue
            for cell in range(max(0, int(low)), min(int(high), cells - 1) + 1):
                part = min(high, cell + 1) - max(low, cell)
                if part > 0:
                    shares[cell] += max(1, ran_ns) * part / width / cell_ns
        return shares

_SPANS = 512              # so many processes of a row are drawn each by itself, before they share moments
_ALIKE, _NAMES = 24, 200  # below a row: processes of one name that have rows of their own, and different names
_OTHERS = ("others",)
_DEEPEST_GROUP = 60  # levels below a row of several processes

class _Rows:
    """The rows below a row. Of each name so many processes have their own, and the others share one.

    So memory is bounded by what is shown, and not by how many processes have come and gone.
    """

    __slots__ = ("groups", "singles")

    def __init__(self) -> None:
        # Heaps, by name. The first one is the next to share a row: the shortest, or if all have failed the oldest.
        self.singles: dict[tuple[str, ...], list[tuple[int, int, int, _Row]]] = {}
        self.groups: dict[tuple[str, ...], _Row] = {}

    def __iter__(self) -> Iterator[_Row]:
        yield from self.groups.values()
        for alike in self.singles.values():
            for *_, row in alike:
                yield row

    def copy(self) -> _Rows:
        """What can be added to, while this stays as it is. The rows themselves are the same."""
        rows = _Rows()
        rows.singles, rows.groups = {name: [*alike] for name, alike in self.singles.items()}, {**self.groups}
        return rows

    def add(self, row: _Row, most: int) -> None:
        """A process. most: how many of a name have their own row."""
        entry = row.failed, row.end if row.failed else row.total_ns, id(row), row
        alike = self.singles.get(row.names)
        if alike is None:
            self.singles[row.names] = [entry]
            if len(self.singles) > 2 * _NAMES and most == _ALIKE:
                self._fold_names()
        else:
            import heapq

            if len(alike) < most:
                heapq.heappush(alike, entry)
            else:
                self._fold(heapq.heappushpop(alike, entry)[-1])

    def _fold_names(self) -> None:
        """Half of the names into one row."""
        names = sorted(self.singles, key=lambda name: max(entry[:2] for entry in self.singles[name]))
        for name in names[:_NAMES]:
            for *_, row in self.singles.pop(name):
                self._fold(row, _OTHERS)

    def _fold(self, row: _Row, names: tuple[str, ...] | None = None, depth: int = 0) -> None:
        """Put a row into the one of those that are alike."""
        names = names or row.names
        group = self.groups.get(names)
        if group is None and len(self.groups) >= _NAMES:
            names = _OTHERS
            group = self.groups.get(names)
        if group is None:
            group = self.groups[names] = row.copy(depth)
            group.names = names
        else:
            group.add(row, depth)

    def fold(self, other: _Rows, depth: int) -> None:
        """Add what is in another one, in one row for each name. The other stays as it is. depth: of these rows."""
        for row in other:
            self._fold(row, None, depth)

def _folded(rows: _Rows | None, more: _Rows | None, depth: int) -> _Rows | None:
    """Both, in one row for each name; nothing if they lie too deep. `rows` may be changed, `more` is not."""
    if more and depth < _DEEPEST_GROUP:
        rows = rows or _Rows()
        rows.fold(more, depth + 1)
    return rows

class _Tree(_Span):
    """The tree of processes, with their times as bars on one axis."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self._rows: dict[Process | None, _Rows] = collections.defaultdict(_Rows)  # of what has finished, by parent
        self._shown: set[Process] = set()        # what has not finished, and has a row
        self._count = 0
        self._end = self._cells = 0              # when the axis ends, and its cells: set by _text()
        self._costs = False                      # whether there are columns for them: likewise
        self._reaching: set[Process] = set()     # what made the command fail: likewise
        self._alike = _NEVER if args.all else _ALIKE
        self._live = _Region(out) if args.live else None

    def on_start(self, now: int) -> None:
        super().on_start(now)
        if self._live:
            self.due = now + _LIVE_NS

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        super().on_event(event, info, processes)
        if info and info not in self._shown:
            if not info._fork_seen and event.what == _FORK and processes.known.get(info.pid) is not info:
                return  # no end of it will be reported
            # What a fork shows is its parent's: what it executes, or on_finish(), tells whether it has a row.
            if info._finished or (self.filter.any and (
                    event.what == _FORK or not self.filter.shows(info, _when(event)))):
                return
            self._shown.add(info)
            self._count += 1

    def on_time(self, now: int, processes: _Processes) -> None:
        self.due = now + _LIVE_NS
        if self._live:
            self._live.show(self._text(now, self._live.height))

    def on_finish(self, process: Process) -> None:
        rows = self._rows.pop(process, None)
        if rows or process in self._shown or (self.filter.any and self._is_shown(process, process.end_ns or 0)):
            below = self._rows[process.parent]
            row = self._row(process, process.end_ns or 0, rows)
            below.add(row, self._alike)
        self._shown.discard(process)

    def _is_shown(self, process: Process, now: int) -> bool:
        if process not in self._shown and self.filter.any and self.filter.shows(process, now):
            self._count += 1
            self._shown.add(process)
        return process in self._shown

    def _row(self, process: Process, end: int, rows: _Rows | None) -> _Row:
        start, cpu_ns, endless = self.begin or 0, process._cost[0], 0
        if process.start_ns is not None and process.start_ns > start:
            start = process.start_ns
        if end < start:
            end = start
        if process.end_ns is None:
            endless = int(not self.has_end(process))
            if any(machine.look for machine in self.machines):
                with contextlib.suppress(ValueError):  # it is gone
                    utime, stime = (_stat_fields(process.pid) or [])[11:13]  # proc_pid_stat(5)
                    cpu_ns = (int(utime) + int(stime)) * _TICK
        if cpu_ns is None or self._cost.unknown:  # one measure for all rows
            cpu_ns = end - start
        return _Row(process, start, end, cpu_ns, rows, endless)

    def _with_running(self, now: int) -> _Rows:
        """All rows: also those of what has not finished, which are not kept."""
        unfinished: list[Process] = []
        rest = [root for processes in self.machines for root in processes.roots]
        while rest:
            process = rest.pop()
            if not process._finished:
                unfinished.append(process)
                rest += process.children
        rows: dict[Process | None, _Rows] = {}

        def below(process: Process | None) -> _Rows:
            if process not in rows:
                rows[process] = self._rows[process].copy() if process in self._rows else _Rows()
            return rows[process]

        for process in reversed(unfinished):  # the deepest first
            own = below(process)
            if self._is_shown(process, now) or own.singles or own.groups:
                end = process.end_ns
                if end is None:
                    end = now if self.has_end(process) else process._since_ns or 0
                row = self._row(process, end, own)
                below(process.parent).add(row, _NEVER)
        return below(None)

    def close(self) -> None:
        if self._live:
            self._live.close()

    def end(self, now: int) -> None:
        self.close()
        self.settle()
        for text in self._text(now):
            self.out.row(text)
        if not self.args.stats:
            self.why()
        began = "" if self.has_ends else " began"
        begin = self._end if self.begin is None else self.begin
        how_many = f"{_count(self._count, 'process', 'es')}{began} in {_seconds(self._end - begin)}"
        self.sentence(how_many, *[f"at most {self.most_alive} at once"] * self.at_once)
        self.out.flush()

    def _layout(self, now: int) -> list[tuple[_Row, str, int]]:
        """The rows of the tree in order, each with the branches before it, and how deep it lies."""
        begin = now if self.begin is None else self.begin
        runs = not self._count or any(info.end_ns is None for info in self._shown)
        self._end = max(begin, self.over(now, runs))
        self._costs = self._cost.known > 0
        self._reaching = {process for processes, root in self.failed_roots()
                          for leaf in processes.failures(root) for process in _with_ancestors(leaf, root)}
        branch, last, trunk = self.out.branches
        laid: list[tuple[_Row, str, int]] = []
        rest = [(row, "", "", 0) for row in reversed(self._visible(self._with_running(now)))]
        while rest:
            row, lead, under, depth = rest.pop()
            laid.append((row, lead, depth))
            turn = last, "   "
            for below in reversed(self._visible(row.rows) if row.rows else []):
                rest.append((below, under + turn[0], under + turn[1], depth + 1))
                turn = branch, trunk
        return laid

    def _visible(self, rows: _Rows) -> list[_Row]:
        """The rows as they are shown, in the order of their starts: few alike, or long ones, have their own."""
        if self.args.all:
            return sorted(rows, key=lambda row: row.start)
        shown: list[_Row] = []
        long = (self._end - (self.begin or 0)) // 10
        for names in {**rows.singles, **rows.groups}:
            group, singles = rows.groups.get(names), [entry[-1] for entry in rows.singles.get(names, ())]
            if not group and len(singles) < _FEW:
                shown += singles
                continue
            singles = sorted(singles, key=lambda row: (
                row.info in self._reaching, row.failed, row.total_ns), reverse=True)
            few = sum(row.failed for row in singles) + (group.failed if group else 0) < _FEW
            own = [row for i, row in enumerate(singles[:_ROWS]) if row.info in self._reaching or (
                row.failed and few) or (row.total_ns > long and i < _LONG)]
            rest = [row for row in singles if row not in own]
            count, total = len(rest), sum(row.total_ns for row in rest)
            if count > 2 and len(own) < _ROWS and rest[0].total_ns * count > 2 * total and rest[0].total_ns > long // 5:
                own.append(rest.pop(0))  # it took twice the usual time
            shown += own
            if rest or group:
                group = group or rest.pop()
                if rest:
                    group = group.copy()
                    for row in rest:
                        group.add(row)
                shown.append(group)
        if len(shown) > _WIDE:
            shown.sort(key=lambda row: (
                row.names is not _OTHERS, row.info in self._reaching, row.total_ns), reverse=True)
            others = shown[_WIDE].copy()
            others.names = _OTHERS
            for row in shown[_WIDE + 1:]:
                others.add(row)
            shown[_WIDE:] = [others]
        return sorted(shown, key=lambda row: row.start)

    def _text(self, now: int, height: int | None = None) -> list[str]:
        """The rows of the tree as text, painted. height: only so many, those that run and the latest ones."""
        out, begin = self.out, now if self.begin is None else self.begin
        laid = self._layout(now)
        if height is not None and len(laid) >= height:
            latest = sorted(range(len(laid)), key=lambda i: (laid[i][0].running > 0, laid[i][0].end), reverse=True)
            laid = [laid[i] for i in sorted(latest[:height - 1])]
        columns = os.environ.get("COLUMNS", "")
        width = out.width or (int(columns) if columns.isdecimal() and int(columns) >= 40 else 100)
        self._cells = max(8, width // 5)
        axis = _seconds(self._end - begin)
        wide = width >= 72
        head = f"{'TIME':>9}{self._cost_columns('CPU', 'MEMORY') if wide else ''}{'    STATUS' if wide else ''}"
        room = max(10, width - len(head) - self._cells - 4) if out.width else 1 << 20
        scale = f"0 s{axis:>{self._cells - 3}}" if self._cells > 3 + len(axis) else f"{axis:>{self._cells}}"
        lines = [out.paint(f"{head}  {scale}  COMMAND", "2")]
        cell_ns = max(1, self._end - begin) / self._cells
        by_cpu = not self._cost.unknown  # one measure for all rows
        for row, lead, depth in laid:
            if len(lead) > max(9, min(room, _LEAD) // 2):
                lead = f"{out.more}{depth} {lead[-3:]}"
            status, suffix = self._status(row), ""
            if not wide and status not in ("", "0"):
                suffix = f" [{'runs' if status == 'running' else status}]"
            label = out.encodable(lead) + self._label(row, room - len(lead) - len(suffix)) + suffix
            bar = "".join(" " if not share else out.bars[min(3, int(share * 4))]
                          for share in row.density(begin, cell_ns, self._cells, by_cpu))
            took = row.total_ns
            if not row.cost and row.info.start_ns is not None:
                took = row.end - row.info.start_ns  # it may have been there before
            cost = row.cost or _Cost(row.info)
            costs = self._cost_columns(cost.cpu, cost.memory) if wide else ""
            style = "31" if row.failed and (row.cost or row.info in self._reaching) else ""
            lines.append(out.paint(f"{'?' if row.endless else _seconds(took):>9}{costs}", "2")
                         + (out.paint(f" {status:>9}", style) if wide else "") + f"  {bar}  {label}")
        return lines

    def _status(self, row: _Row) -> str:
        if row.cost:
            if row.running:
                return f"{row.running} run"
            return f"{row.failed} failed" if row.failed else "?" * (row.endless > 0)
        if row.running:
            return "running"
        code = row.info.returncode
        return "?" if code is None else str(code) if code >= 0 else _signal_name(-code)

    def _label(self, row: _Row, room: int) -> str:
        out = self.out
        if row.names is _OTHERS or row.count > 1:
            name = f" {out.therefore} ".join(row.names)
            return out.cut(f"{name} {out.times}{row.count}", room)
        return _short(row.info, room, out)

    def _cost_columns(self, cpu: str, memory: str) -> str:
        return f" {cpu:>10} {memory:>7}" if self._costs else ""

class _Region:
    """The lower part of a terminal, kept for rows that change. What else is written scrolls above it."""

    def __init__(self, out: _Out) -> None:
        self._out = out
        self._size = (0, 0)  # lines of the terminal, and of the region

    @property
    def height(self) -> int:
        """How many rows there is room for."""
        return max(3, min(30, self._out.height // 2))

    def show(self, rows: list[str]) -> None:
        """Draw these rows in place of those before. They may be painted."""
        lines, height = self._out.height, self.height
        text = ""
        if self._size != (lines, height):
            # Room below the cursor; the region; the cursor back where it was.
            text = "\n" * height + f"\x1b[{height}A\x1b7\x1b[1;{lines - height}r\x1b8"
            self._size = lines, height
        text += "\x1b7\x1b[?25l"
        for i in range(height):
            row = rows[i] if i < len(rows) else ""
            text += f"\x1b[{lines - height + 1 + i};1H\x1b[K{self._out.fitted(row)}"
        self._out.now(text + "\x1b8\x1b[?25h")

    def close(self) -> None:
        """Give the terminal back whole."""
        lines, height = self._size
        if lines:
            self._size = 0, 0
            self._out.now(f"\x1b7\x1b[r\x1b[{lines - height + 1};1H\x1b[J\x1b8")

class _Program_Stats:
    """What the statistics know of a program."""

    __slots__ = ("cost", "failed", "longest", "parents", "self_ns", "starts")

    def __init__(self) -> None:
        self.cost = _Cost()
        self.starts = self.failed = self.longest = self.self_ns = 0
        self.parents: dict[str, int] = collections.defaultdict(int)

class _Clock:
    """What a process runs, since when, and for how long children of it have run meanwhile."""

    __slots__ = ("children", "covered_ns", "covered_since", "name", "parent", "since_ns", "started")

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.name, self.parent = "", "?"  # "": it has executed nothing yet, or is not shown
        self.started = False              # whether it was started during the watch
        self.children = 0                 # how many run
        self.covered_ns = 0               # for how long some have run
        self.covered_since = 0            # since when some run

    def begin_child(self, when: int) -> None:
        """A child begins to run."""
        if not self.children:
            self.covered_since = when
        self.children += 1

    def end_child(self, when: int) -> None:
        """A child has ended."""
        self.children -= 1
        if not self.children:
            self.covered_ns += max(0, when - self.covered_since)

    def self_ns(self, when: int) -> int:
        """How long it has run its program while none of its children ran."""
        covered = self.covered_ns + (max(0, when - self.covered_since) if self.children else 0)
        return max(0, when - self.since_ns - covered)

class _Stats(_Span):
    """A table by program: how often it was started, by whom, what it took and how often it failed."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        self._programs: dict[str, _Program_Stats] = collections.defaultdict(_Program_Stats)
        self._clocks: dict[Process, _Clock] = {}                   # of what runs
        # The most expensive ones: CPU time (-1: not known), self time; CPU time as text; how long each ran, and what.
        self._dearest: list[tuple[tuple[int, int], str, int, _Image]] = []
        self._folded = 0                                           # how often a name has become one of the others
        self._count = self._counted = self._counted_ns = 0         # events: all, and when last shown; when
        self._status = _Out(sys.stderr) if sys.stderr and sys.stderr.isatty() and not (
            args.command or args.load or args.json) else None

    def on_start(self, now: int) -> None:
        super().on_start(now)
        self._counted_ns = now
        if self._status:
            self.due = now + 1_000_000_000

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        super().on_event(event, info, processes)
        self._count += 1
        if not info:
            return
        what = event.what
        if what == _FORK and event.tid == event.pid:
            if info._fork_seen:  # else no end of it will be reported
                begin = self.begin or 0
                start = begin if info.start_ns is None else info.start_ns
                clock = self._clocks[info] = _Clock(max(start, begin))
                clock.started = start >= begin and event.cpu != _REBUILT
                if info.parent:
                    self._clock_of(info.parent).begin_child(clock.since_ns)
        elif what == _EXEC:
            when = _when(event)
            clock, rebuilt = self._clock_of(info), event.cpu == _REBUILT
            if clock.name:
                self._stop(info, info._earlier[-1][0] if info._earlier else _NO_IMAGE, clock, when)
            self._name(info, clock)
            if not rebuilt:
                clock.started = True
                if info._earlier:  # else it counts from its fork
                    clock.since_ns, clock.covered_ns, clock.covered_since = when, 0, when
        elif info.exit is event:
            clock, when = self._clock_of(info), _when(event)
            del self._clocks[info]
            if not info._executed or not clock.name:  # it has run what its parent runs, or was there before
                self._name(info, clock)
            if clock.name:
                self._stop(info, info._image, clock, when, ended=True)
            above = self._clocks.get(info.parent) if info.parent else None
            if above and above.children:
                above.end_child(when)

    def _clock_of(self, info: Process) -> _Clock:
        """That of a process which may have been there when the watch began."""
        clock = self._clocks.get(info)
        if not clock:
            clock = self._clocks[info] = _Clock(max(self.begin or 0, info.start_ns or 0))
            clock.started = (info.start_ns or 0) > (self.begin or 0)
        return clock

    def _name(self, info: Process, clock: _Clock) -> None:
        shown = not self.filter.any or self.filter.holds(info)
        clock.name, clock.parent = info.name if shown else "", info.parent.name if info.parent else "?"

    def _stop(self, info: Process, image: _Image, clock: _Clock, when: int, *, ended: bool = False) -> None:
        """A program is over. ended: so is its process."""
        clock.since_ns = max(clock.since_ns, self.begin or 0)  # of a recording that was not known at its Fork
        took = max(0, when - clock.since_ns)
        if took < self.filter.longer_ns:
            return
        programs, cpu_ns = self._programs, None
        if clock.name not in programs and len(programs) >= _COUNTED:
            self._fold_programs()
        program = programs[clock.name]
        program.starts += clock.started
        parents = program.parents
        parents[clock.parent if clock.parent in parents or len(parents) < _COUNTED // 64 else "others"] += 1
        self_ns = clock.self_ns(when)
        program.self_ns += self_ns
        if took > program.longest:
            program.longest = took
        if ended:
            cpu_ns = info._cost[0]
            program.cost.add(info, shared=len(info._earlier) > 0)
        else:
            program.cost.unknown += 1
        program.failed += info.failed  # if the process has ended, this is its last program
        dearest = self._dearest
        rank = -1 if cpu_ns is None else cpu_ns, self_ns
        if len(dearest) < _DEAREST or rank > dearest[-1][0]:
            cpu = "" if cpu_ns is None else f"{'<=' * bool(info._earlier)}{_seconds(cpu_ns)}"
            dearest.append((rank, cpu, took, image))
            dearest.sort(key=lambda one: one[0], reverse=True)
            lines = [image.argv for *_, image in dearest]  # each is named once
            dearest[:] = [one for i, one in enumerate(dearest) if one[3].argv not in lines[:i]][:_DEAREST]

    def _fold_programs(self) -> None:
        """The cheaper half of the programs into one."""
        programs = self._programs
        names = sorted((name for name in programs if name != "others"), key=lambda name: (
            programs[name].failed, programs[name].cost.cpu_ns, programs[name].self_ns))
        others = programs["others"]
        for name in names[:_COUNTED // 2]:
            program = programs.pop(name)
            others.starts, others.failed = others.starts + program.starts, others.failed + program.failed
            others.self_ns, others.longest = others.self_ns + program.self_ns, max(others.longest, program.longest)
            others.cost.merge(program.cost)
            others.parents["others"] += sum(program.parents.values())
        self._folded += len(names[:_COUNTED // 2])

    def on_time(self, now: int, processes: _Processes) -> None:
        if self._status:
            rate = (self._count - self._counted) * 1e9 / max(1, now - self._counted_ns)
            self._counted, self._counted_ns, self.due = self._count, now, now + 1_000_000_000
            self._status.transient(f"{rate:.0f} events/s  {processes.alive} processes alive  {self.losses}")

    def end(self, now: int) -> None:
        out = self.out
        if self._status:
            self._status.transient("")
        self.settle()
        last = self.over(now, bool(self._clocks))
        for info, clock in self._clocks.items():
            if clock.name:
                end = last if info.end_ns is None else info.end_ns  # its pid has come again, and no Exit before
                self._stop(info, info._image, clock, end if self.has_end(info) else clock.since_ns)
        wall = max(0, last - (last if self.begin is None else self.begin))
        costs = any(program.cost.known for program in self._programs.values())
        cpu_ns = sum(program.cost.cpu_ns for program in self._programs.values())
        self_ns = sum(program.self_ns for program in self._programs.values())
        keys: dict[str, Callable[[_Program_Stats], int]] = {
            "starts": lambda one: one.starts, "failed": lambda one: one.failed,
            "memory": lambda one: one.cost.rss if one.cost.memory else 0,
            "time": lambda one: one.self_ns, "cpu": lambda one: one.cost.shown_ns,
        }
        ends = not self.machines or any(processes.has_ends for processes in self.machines)
        by = keys[self.args.sort or ("cpu" if costs else "time" if ends else "starts")]
        programs = sorted(self._programs.items(), key=lambda item: (
            -by(item[1]), -item[1].cost.shown_ns, -item[1].self_ns, item[0]))
        shown = programs if self.args.all else programs[:_ROWS]
        room = out.width or 1 << 20
        wide = 12 if room < 60 else 20 if out.width else max([20, *(_columns(name) for name, _ in shown)])
        columns = {"STARTS": 7, "FAILED": 7, "CPU": 11, "MEMORY": 7, "TIME": 11, "LONGEST": 11, "SHARE": 6}
        for column in () if costs else ("CPU", "MEMORY", *(() if ends else ("FAILED", "TIME", "LONGEST", "SHARE"))):
            del columns[column]
        for column in "LONGEST", "TIME", "MEMORY", "STARTS":  # what a narrow terminal does without
            if room < wide + sum(columns.values()) + len(columns) + 16 and (costs or column != "TIME"):
                columns.pop(column, None)
        started_by = room >= wide + sum(columns.values()) + len(columns) + 12
        out.row(out.paint(f"{'PROGRAM':{wide}}" + "".join(f" {name:>{size}}" for name, size in columns.items())
                          + "  STARTED BY" * started_by, "2"))
        for name, program in shown:
            parents = sorted(program.parents.items(), key=lambda item: -item[1])
            named = ", ".join(f"{parent} {out.times}{count}" for parent, count in parents[:3])
            others = f" and {len(parents) - 3} more" if len(parents) > 3 else ""
            share = program.cost.share(cpu_ns) if costs else f"{program.self_ns / max(1, self_ns):.0%}"
            values = {"STARTS": program.starts, "FAILED": program.failed, "CPU": program.cost.cpu,
                      "MEMORY": program.cost.memory, "TIME": _seconds(program.self_ns),
                      "LONGEST": _seconds(program.longest), "SHARE": share}
            out.row(out.fit(name, wide) + "".join(
                out.paint(f" {values[column]:>{size}}", "31" if column == "FAILED" and program.failed else
                          "2" if column in ("CPU", "MEMORY", "TIME", "LONGEST") else "")
                for column, size in columns.items()) + f"  {out.arrow} {named}{others}" * started_by)
        if len(self._dearest) > 1 and ends:
            out.row("")
            out.row(out.paint(f"{'CPU' if costs else 'TIME':>11} {'LASTED':>11}  COMMAND", "2"))
            for (_, own), cpu, took, image in self._dearest:
                command = _shortened(image, "", max(20, out.width - 25), out) if out.width else image.command
                out.row(out.paint(f"{cpu if costs else _seconds(own):>11} {_seconds(took):>11}  ", "2") + command)
            out.row("")
        self.why()
        starts = sum(program.starts for _, program in programs)
        more = f" ({len(programs) - len(shown)} not shown: --all)" if len(shown) < len(programs) else ""
        named = f"over {len(programs)} programs" if self._folded else _count(len(programs), "program")
        self.sentence(f"{_count(starts, 'start')} of {named}{more} in {_seconds(wall)}")
        out.flush()

class _Why(_Span):
    """Why the command failed, and nothing if it has not."""

    def end(self, now: int) -> None:
        self.settle()
        if self.failed_roots():
            self.why()
            self.out.row(self.failures())
            if self.lost or self.lost_more:
                self.out.row(f"{self.losses}{self.doubt} (--ptrace loses none)")
        elif any(processes.command_process and not processes.command_exit for processes in self.machines):
            self.out.row("the watch has ended before the command: nobody knows whether it fails")
        self.out.flush()

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>cnproc</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '$style'; script-src '$script'">
<style>
:root { color-scheme: light dark; background: light-dark(#f5f5f2, #131518); color: light-dark(#1d1f22, #e9eaec); }
* { box-sizing: border-box; margin: 0; padding: 0; border: 0 solid light-dark(#dcdcd6, #363b42); text-align: inherit; }
body { max-width: 1680px; margin: auto; padding: 0 20px; font-variant-numeric: tabular-nums; }
body, button, input { background: none; color: inherit; font: 14px/1.5 system-ui, sans-serif; }
h1, code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
h1, main > *, #where, #scroll { margin: 12px 0; }
h1, #tiles b { display: block; max-height: 3.4em; font-size: 22px; overflow: hidden auto; }
.bad { color: light-dark(#b3261e, #ff8f85); }
.dim, th { color: light-dark(#5f646b, #a0a6ae); font-weight: normal; }
section { flex: 1 1 130px; padding: 12px 16px; background: light-dark(#fff, #1b1e22); overflow: auto; }
section, input, .key { border-width: 1px; border-radius: 8px; }
input, .key { padding: 2px 10px; }
.row { display: flex; flex-wrap: wrap; gap: 8px 16px; }
#scroll { max-height: 76vh; overflow: hidden auto; }
canvas { position: sticky; top: 0; display: block; width: 100%; touch-action: pan-y; }
button { cursor: pointer; }
i { display: inline-block; width: 10px; height: 10px; margin-right: 6px; border-radius: 2px; }
#tip { position: fixed; max-width: min(620px, 96vw); box-shadow: 0 4px 16px #0004; pointer-events: none; }
table { width: 100%; border-collapse: collapse; white-space: nowrap; text-align: right; }
th, td { padding: 2px 16px 2px 0; border-bottom-width: 1px; }
:is(th, td):is(:first-child, :last-child) { text-align: left; }
td:last-child { width: 99%; min-width: 260px; max-width: 0; }
td:last-child, .cut { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
@media print { :root { color-scheme: light; } .screen { display: none; } #scroll { max-height: none; } }
</style>
<p class="dim" id="where">cnproc</p>
<h1 id="title">This page is incomplete: the watch has not ended, or was killed. Or the browser runs no scripts.</h1>
<main hidden>
  <div class="row" id="tiles"></div>
  <section id="why"></section>
  <section>
    <p class="row screen">
      <input type="search" id="search" size="32" placeholder="Command, PID, exit 1, failed" aria-label="Search">
      <span><button class="key">+</button> <button class="key">-</button> <button class="key">0</button></span>
      <span id="found" role="status"></span></p>
    <div id="scroll"><div id="tall"><canvas id="canvas" tabindex="0" role="img"></canvas></div></div>
    <div class="row" id="legend"></div>
    <p class="dim" id="notes"></p>
    <p class="dim screen">Drag or ← → to pan; Ctrl and wheel, or + -, to zoom; 0: all; / to search, Enter for more.</p>
  </section>
  <section id="details" aria-live="polite" hidden></section>
  <section><table id="programs"></table></section>
  <section><table id="commands"></table></section>
</main>
<section id="tip" class="screen" hidden></section>
<script type="application/json" id="data">$data</script>
<script>
"use strict";
const $ = id => document.getElementById(id), canvas = $("canvas"), data = JSON.parse($("data").textContent);
const {process, run, strings, wall} = data, {start, end, took, code, parent} = process, HEAD = 124, ROW = 19;
const view = {from: 0, size: wall, width: 0, dark: false, frame: 0, hits: null, chosen: null};
const make = (tag, properties, ...children) => {  // a child that is a string becomes text, whatever is in it
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
// A process and its descendants are a block of lanes that nothing else enters. Children are below their parent.
const children = [...start, 0].map(() => []), height = [], lane = [];  // the last one's children are the roots
const from = [...start, 0], to = [...end, 0];                          // when each block begins and ends
parent.forEach((above, i) => children[above ?? start.length].push(i));
for (const i of [start.length, ...start.keys()].reverse()) {
  const free = [];  // when each lane below becomes free
  let full = 0;     // so many of them never do
  for (const child of children[i].sort((a, b) => from[a] - from[b])) {
    lane[child] = full;
    for (let k = full; k < lane[child] + height[child]; k++) if (free[k] > from[child]) lane[child] = k + 1;
    for (let k = 0; k < height[child]; k++) free[lane[child] + k] = to[child];
    while (free[full] >= wall) full++;
    [from[i], to[i]] = [Math.min(from[i], from[child]), Math.max(to[i], to[child])];
  }
  height[i] = free.length + 1;
}
parent.forEach((above, i) => lane[i] += above === null ? 0 : lane[above] + 1);
const order = [...run.start.keys()].sort((a, b) => run.start[a] - run.start[b]), last = [], ones = start.map(() => 1);
run.process.forEach((i, r) => last[i] = r);  // the program that a process ran last
run.end = run.process.map((i, r) => last[i] === r ? end[i] : run.start[r + 1]);
const share = process.cpu_ns.map((ns, i) => took[i] ? ns / took[i] : 0);  // how many processors it took; or not known
const reached = new Set(data.chains.flat());  // what made the command fail
const grades = run.process.map((i, r) => code[i] > 0 && last[i] === r ? 1 + reached.has(i) : 0);  // 1: it failed
const layers = [0, 1, 2].flatMap(grade => order.filter(r => grades[r] === grade));
const rank = new Map(data.programs.map(([[name]], k) => [name, k]));
const UNITS = [...Array(31).keys()].map(k => [1, 2, 5][k % 3] * 10 ** Math.floor(k / 3)).concat(
  [60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 1e6, 1e7].map(s => s * 1e9));
const X = ns => (ns - view.from) / view.size * view.width, clamp = (low, x, high) => Math.max(low, Math.min(x, high));
const tint = (k, level) => `oklch(${view.dark ? .34 + .06 * level : .94 - .07 * level} ${
  k < 7 ? .03 + .03 * level : .01} ${[250, 70, 160, 310, 205, 350, 115][k] ?? 250})`;
const starts = Float64Array.from(start).sort(), ends = Float64Array.from(end).sort();
function peak() {  // how many ran at once at most, in what is shown
  let ended = 0, most = 0;
  for (let k = 0; k < starts.length && starts[k] < view.from + view.size; k++) {
    while (ends[ended] <= Math.max(starts[k], view.from)) ended++;
    most = starts[k] > view.from ? Math.max(most, k + 1 - ended) : k + 1 - ended;
  }
  return most;
}
function draw() {
  const g = canvas.getContext("2d"), {scrollTop: top, clientHeight: tall} = $("scroll"), width = canvas.clientWidth;
  const dark = matchMedia("screen and (prefers-color-scheme: dark)").matches, bad = dark ? "#ff8f85" : "#b3261e";
  const [ink, dim] = ["canvas", "where"].map(id => getComputedStyle($(id)).color), ratio = devicePixelRatio;
  Object.assign(canvas, {width: width * ratio, height: tall * ratio}).style.height = `${tall}px`;
  Object.assign(g, {font: "11.5px ui-monospace, monospace", lineWidth: 2}).scale(ratio, ratio);
  Object.assign(view, {width, dark, frame: 0});
  document.querySelectorAll("i").forEach((swatch, k) => swatch.style.background = tint(k, 3));
  const rect = (colour, ...box) => Object.assign(g, {fillStyle: colour}).fillRect(...box);
  const write = (colour, text, x, y, room = 200) =>
    room > 20 && Object.assign(g, {fillStyle: colour}).fillText(text.slice(0, room / 7), x, y);
  const unit = UNITS.find(ns => ns > 110 * view.size / width), digits = Math.max(0, Math.ceil(9 - Math.log10(unit)));
  for (let ns = Math.ceil(view.from / unit) * unit; ns <= view.from + view.size; ns += unit) {
    rect(tint(9, 0), X(ns), 0, 1, tall);
    write(dim, unit < 6e10 ? `${(ns / 1e9).toFixed(digits)} s` : `${ns / 6e10} min`, X(ns) + 4, HEAD - 6);
  }
  const known = `, ${process.cpu_ns.includes(null) ? "as far as is known, " : ""}up to `;
  [["processors busy", share, most => known + most.toFixed(1)],
   ["processes running", ones, () => `, up to ${peak()}`]].forEach(([title, weights, upTo], row) => {
    const steps = new Float64Array(width + 2);  // how much more it is in each pixel than in the one before
    const step = (ns, weight) => {
      const x = clamp(0, X(ns), width), pixel = Math.floor(x);
      steps[pixel] += weight * (pixel + 1 - x);
      steps[pixel + 1] += weight * (x - pixel);
    };
    const seen = i => end[i] > view.from && start[i] < view.from + view.size;
    weights.forEach((weight, i) => seen(i) && (step(start[i], weight), step(end[i], -weight)));
    const sums = steps.subarray(0, width).map((_, x) => steps[x] += steps[x - 1] || 0), most = Math.max(...sums);
    sums.forEach((sum, x) => rect(tint(9 * row, 3), x, 48 * row + 46, 1, -28 * sum / most));
    write(dim, title + (most ? upTo(most) : ": not known"), 2, 48 * row + 12, width);
  });
  g.rect(0, HEAD, width, tall);
  g.clip();
  const painted = [];  // how far each lane is: what ends in a painted pixel is merged with that
  const bar = r => {
    const i = run.process[r], y = HEAD + lane[i] * ROW - top, x = Math.max(-9, X(run.start[r])), grade = grades[r];
    const right = Math.max(x + (grade || !data.ends ? 4 : 1), Math.min(width + 9, X(run.end[r])));
    const w = right - x - (right > x + 4), level = data.ends ? Math.floor(Math.min(1, share[i]) * 3.99) : 3;
    if (y < HEAD - ROW || y > tall || x > width || right < 0 || (right < painted[lane[i]] + 1 && !grade)) return;
    painted[lane[i]] = right;
    g.globalAlpha = !view.hits || view.hits.has(r) ? 1 : .2;
    g.strokeStyle = r === view.chosen ? ink : bad;
    rect(grade > 1 && w < 9 ? bad : tint(rank.get(strings[run.name[r]]), level), x, y, w, ROW - 3);
    if (grade === 1) rect(bad, x + w - 3, y + 11, 3, 5);
    if (r === view.chosen || grade > 1) g.strokeRect(x + 1, y + 1, w - 2, ROW - 5);
    const room = right - Math.max(x, 0) - 8, whole = strings[run.command[r]].length * 7 + 14 < room;
    write(ink, (grade ? "✗ " : "") + strings[whole ? run.command[r] : run.label[r]], Math.max(x, 0) + 5, y + 12, room);
  };
  layers.forEach(bar);
}
const redraw = () => view.frame ||= requestAnimationFrame(draw);
function look(from, by) {  // by: how many times as much of the time is shown
  view.size = clamp(Math.min(1000, wall), view.size * by, wall);
  view.from = clamp(0, from, wall - view.size);
  redraw();
}
const zoom = (by, at = .5) => look(view.from + view.size * at * (1 - by), by);
const pan = part => look(view.from + view.size * part, 1);
const seconds = ns => ns === null ? "?" : `${(ns / 1e9).toFixed(Math.abs(ns) < 1e7 ? 6 : 3)} s`;
const ending = i => code[i] === null ? data.open : data.how[code[i]];
const facts = (r, i = run.process[r]) => [make("code", {}, strings[run.command[r]]), make("p", {}, [
  ending(i), `${seconds(took[i])} from ${seconds(took[i] === null ? start[i] : end[i] - took[i])} on`,
  `${seconds(process.cpu_ns[i])} of CPU`,
  `${process.max_rss_exact[i] === false ? "at most " : ""}${Math.ceil(process.max_rss[i] / 1024) || "?"}K of memory`,
  `PID ${process.pid[i]}`, strings[run.cwd[r]]].filter(text => text).join(" · "))];
const link = (lead, i) => make("p", {className: "cut"}, make("button", {onclick: () => choose(last[i])}, lead,
  make("b", {}, strings[run.label[last[i]]]), " ", make("code", {className: "dim"}, strings[run.command[last[i]]])));
function choose(r) {
  const above = parent[run.process[r]], by = Math.min(1, (run.end[r] - run.start[r]) * 40 / view.size);
  view.chosen = r;
  look((run.start[r] + run.end[r] - view.size * by) / 2, by);
  $("scroll").scrollTop = (lane[run.process[r]] - 5) * ROW;
  $("details").hidden = false;
  $("details").replaceChildren(...facts(r), ...above === null ? [] : [link("started by ", above)]);
}
const hit = ({offsetX: x, offsetY: y}) => layers.findLast(r => y > HEAD && X(run.start[r]) < x + 3 &&
  X(run.end[r]) > x - 3 && lane[run.process[r]] === Math.floor((y - HEAD + $("scroll").scrollTop) / ROW));
const keys = {"+": () => zoom(.5), "-": () => zoom(2), 0: () => look(0, Infinity), "/": () => $("search").focus(),
  "=": () => zoom(.5), ArrowLeft: () => pan(-.1), ArrowRight: () => pan(.1)};
document.querySelectorAll(".key").forEach(button => button.onclick = keys[button.textContent]);
onkeydown = event => {
  if (event.target === $("search") || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
};
canvas.onwheel = event => {
  if (!event.ctrlKey) return;  // it scrolls
  event.preventDefault();
  zoom(1.003 ** event.deltaY, event.offsetX / view.width);
};
canvas.onpointerdown = () => view.held = view.from;
canvas.onclick = event => view.held === view.from && hit(event) >= 0 && choose(hit(event));
canvas.onpointerleave = () => $("tip").hidden = true;
canvas.onpointermove = event => {
  const r = event.buttons ? pan(-event.movementX / view.width) : hit(event), {clientX: x, clientY: y} = event;
  const tip = Object.assign($("tip"), {hidden: r === undefined});
  tip.replaceChildren(...tip.hidden ? [] : facts(r));
  tip.style.left = `${clamp(0, x + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${y + tip.offsetHeight + 24 < innerHeight ? y + 14 : y - tip.offsetHeight - 14}px`;
};
function search(text) {
  const words = ($("search").value = text).toLowerCase(), found = strings.map(one => one.toLowerCase().includes(words));
  const ended = i => `${code[i] > 0 ? "failed " : ""}${ending(i)} `.toLowerCase().includes(`${words} `);
  view.hits = words && new Set(order.filter(r => found[run.command[r]] || `${process.pid[run.process[r]]}` === words ||
    (last[run.process[r]] === r && ended(run.process[r]))));
  $("found").textContent = words && `${view.hits.size} found`;
  redraw();
}
$("search").oninput = () => search($("search").value);
$("search").onkeydown = event => {
  const hits = [...view.hits || []];
  if (event.key === "Enter" && hits.length) choose(hits[(hits.indexOf(view.chosen) + 1) % hits.length]);
};
function table(id, heads, by, down = true) {  // a cell is what to sort by and a text
  const rows = data[id].sort(({[by]: [a]}, {[by]: [b]}) => (a < b ? -1 : a > b) * (down ? -1 : 1));
  const head = (title, k) => make("th", {ariaSort: k !== by ? "none" : down ? "descending" : "ascending"},
    make("button", {onclick: () => table(id, heads, k, k === by ? !down : typeof rows[0]?.[k][0] === "number")},
      title, k === by ? down ? " ▾" : " ▴" : ""));
  $(id).replaceChildren(make("tr", {}, ...heads.map(head)),
    ...rows.map(row => make("tr", {}, ...row.map(([, text]) => make("td", {}, text)))));
}
for (const id of ["title", "where", "notes"]) $(id).textContent = data[id];
document.title = data.title;
$("tiles").append(...data.tiles.map(([most, more]) => make("section", {}, make("b", {}, most), more)));
$("why").append(make("b", {className: data.chains.length ? "bad" : ""}, data.why), ...data.chains.slice(0, 5).flatMap(
  chain => chain.map((i, k) => link(`${k ? "→" : "✗"} ${ending(i)} `, i))),
  ...data.before.map(i => link(`before that, ${ending(i)} `, i)), ...grades.some(grade => grade) ?
    [make("p", {className: "screen"}, make("button", {className: "key", onclick: () => search("failed")},
      "Mark all that failed"))] : []);
$("legend").append(...data.programs.slice(0, 7).map(([[name], , , , , , , [, part]]) =>
  make("button", {onclick: () => search(name)}, make("i", {}), `${name} ${part}`)));
table("programs", ["PROGRAM", "STARTS", "FAILED", "CPU", "MEMORY", "TIME", "LONGEST", "SHARE", "STARTED BY"], 7);
table("commands", ["CPU", "LASTED", "COMMAND"], 0);
$("tall").style.height = `${HEAD + height.at(-1) * ROW}px`;
document.querySelector("main").hidden = false;
new ResizeObserver(redraw).observe(canvas);
$("scroll").onscroll = redraw;
for (const query of ["print", "(prefers-color-scheme: dark)"]) matchMedia(query).onchange = draw;
</script>"""

class _Page(_Stats):
    """One HTML page that needs nothing else. Most of it is written at the end: until then it says so."""

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import base64
        import hashlib

        self._seen: dict[Process, _Processes] = {}
        head, self._tail = _PAGE.split("$data")
        for tag in "style", "script":  # the browser lets the page have no other
            code = _PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].encode()
            head = head.replace(f"${tag}", "sha256-" + base64.b64encode(hashlib.sha256(code).digest()).decode())
        out.encode_as("utf-8")  # as the page says, and as the hashes are made
        out.line(head)

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        super().on_event(event, info, processes)
        if info and (event.what != _FORK or processes.known.get(info.pid) is info):  # else no end will be reported
            self._seen[info] = processes

    def end(self, now: int) -> None:
        import json

        out, self.out = self.out, _Out(io.StringIO())
        super().end(now)  # what still runs is counted, too
        self.out = out
        live, last = self.live, self.over(now, any(one.end_ns is None for one in self._seen))
        begin, ends = last if self.begin is None else self.begin, bool(live or any(one.exit for one in self._seen))
        nobody = Process(0)
        order = self._ordered(last, nobody)
        before = sum(one.start_ns is None or one.start_ns < begin for one in order)
        number: dict[Process | None, int] = {process: i for i, process in enumerate(order)}
        timeline = self._timeline(order, number, begin, last if ends else None)
        process, roots = timeline["process"], self._commands(nobody)
        chains = [[number[one] for one in chain] for chain in self._chains()]
        alone = any(chains) and not any(chain[1:] for chain in chains)  # nothing else explains it
        data = {
            "title": "every process of this machine" if self.whole else roots[0].command if len(roots) == 1 else (
                f"{_count(len(roots), 'process', 'es')} and what they started" if self._attached or not roots else
                f"what ran on {', '.join(str(machine.host) for machine in self.machines)}"),
            "where": " · ".join([
                f"cnproc {__version__}", *["only a part of the recording"] * self.partial, self.losses,
                *(f"{machine.host} " + time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(
                    (begin + machine.offset_ns) // 10**9)) * bool(machine.offset_ns) for machine in self.machines)]),
            "wall": max(1, last - begin), "ends": ends,
            "open": "still running when the watch ended" if live else "its end was not recorded",
            "how": {process.exit_code: _exit_text(process.exit_code) for process in order},
            "why": self.failures() if chains or not order or (ends and self.has_ends) else "no ends were recorded",
            "chains": chains, "before": [
                number[one] for machine in self.machines for one in machine._latest
                if alone and one in number and one not in roots],
            **timeline,
            **self._summary(process, roots, last - begin, ends=ends and self.has_ends, before=bool(before)),
            "notes": " ".join(text.format(number) for number, text in (
                (sum(one.failed for one in order), "✗ and a red corner: it failed."),
                (len(chains), "Red, or framed in red: that made the command fail."),
                (self.lost or self.lost_more, "Events were lost: processes, or what made it fail, may be missing."),
                (order and not ends, "No ends were recorded: each start is drawn, and no end."),
                (ends and process["code"].count(None), "Without an end here: {}."),
                (before, "There before, or nobody saw the start, from the left edge on: {}."),
                (sum(cpu_ns is None and code is not None for cpu_ns, code in zip(process["cpu_ns"], process["code"])),
                 "CPU time not known: {}."),
                (self.filter.any, "A filter chose what is shown, beside the command and why it failed.")) if number),
        }
        self.out.line(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c") + self._tail)

    def _commands(self, nobody: Process) -> list[Process]:
        """The command, or what else was watched: roots() forgets those that have ended."""
        return [machine.command_process for machine in self.machines if machine.command_process] or [
            *dict.fromkeys([*_with_ancestors(one, nobody)][-1] for one in self._seen)]

    def _chains(self) -> list[list[Process]]:
        """What made it fail, each with what failed because of that."""
        return [[one for one in _with_ancestors(leaf, root) if _own(one, root) is one]
                for machine, root in self.failed_roots() for leaf in machine.failures(root)]

    def _ordered(self, last: int, nobody: Process) -> dict[Process, _Processes]:
        """The processes that are shown, and their ancestors if those are, parents first."""
        roots, shown = self._commands(nobody), dict[Process, _Processes]()
        if self.filter.any:
            for one in *itertools.chain(*self._chains()), *roots[:len(roots) == 1]:
                shown[one] = self._seen.get(one, self.machines[0])
        for process, machine in self._seen.items():
            link: Process | None = process
            while link and link not in shown and (not self.filter.any or self.filter.shows(link, link.end_ns or last)):
                shown[link] = machine
                link = link.parent
        return {one: shown[one] for one in sorted(shown, key=lambda one: len([*_with_ancestors(one, nobody)]))}

    def _timeline(self, order: dict[Process, _Processes], number: dict[Process | None, int], begin: int,
                  last: int | None) -> dict[str, Any]:
        """The columns of the processes and of their programs. A text is a number in `strings`."""
        strings: dict[str, int] = collections.defaultdict(lambda: len(strings))
        processes: list[Any] = []
        runs: list[Any] = []
        for process, machine in order.items():
            start, end = max(begin, process.start_ns or begin), process.end_ns
            took = None if end is None or not process.exit or process.start_ns is None else end - process.start_ns
            if end is None:
                end = last if last is not None and machine.has_ends else start
            processes.append((
                process.pid, number.get(process.parent), start - begin,
                max(start, end) - begin, took, None if process.end_ns is None else process.exit_code,
                *(process.exit._values() if process.exit else (None,) * 3)[:3]))
            programs: Any = process.programs or [process]
            host = f"{machine.host}: " if len(self.machines) > 1 and number.get(process.parent) is None else ""
            for one in programs:
                words = dict.fromkeys(filter(None, (one.name, _telling(getattr(one, "cmdline", None) or []))))
                at = start if one is programs[0] else max(start, one.start_ns or start)
                runs.append((number[process], at - begin, strings[one.name], strings[host + " ".join(words)],
                             strings[host + one.command], strings[_printable(_text(one.cwd or ""))]))
        return {
            "strings": [*strings], "process": dict(itertools.zip_longest(
                ("pid", "parent", "start", "end", "took", "code", *Exit._extra[:3]), zip(*processes), fillvalue=())),
            "run": dict(itertools.zip_longest(
                ("process", "start", "name", "label", "command", "cwd"), zip(*runs), fillvalue=()))}

    def _summary(self, process: dict[str, Any], roots: list[Process], wall: int, *, ends: bool, before: bool) -> Any:
        """The tables of the statistics, and what stands on top. before: whether some may have been there before."""
        known, (bound, peak) = any(one.cost.known for one in self._programs.values()), self._peaks
        weigh: Any = operator.attrgetter("cost.shown_ns" if known else "self_ns")
        rows = sorted(self._programs.items(), key=lambda row: (-weigh(row[1]), -row[1].self_ns))
        total = max(1, sum(one.cost.cpu_ns if known else one.self_ns for _, one in rows))
        share = {name: one.cost.share(total) if known else f"{one.self_ns / total:.0%}" for name, one in rows}
        busy = self._cost.cpu_ns / max(1, wall)
        on = f", on {busy:.2f} processors" * (busy >= 0.005)
        status = _exit_text(roots[0].exit_code) if len(roots) == 1 and roots[0].exit and not before else "in all"
        tiles = (
            (_seconds(wall), status), (self._cost.cpu, "of CPU time" + on * (not self._cost.unknown and not before)),
            *((share[name], f"of {'CPU ' * known}time: {name}") for name, one in rows[:1] if
              ends and not (known and (self._cost.unknown or one.cost.bound))),
            (f"{len(process['pid'])}", f"process{'es' * (len(process['pid']) != 1)}"
             + f", up to {self.most_alive} at once" * (ends and self.at_once)),
            (_bytes(peak), f"peak memory, in {self._largest}") if peak >= bound else (f"≤{_bytes(bound)}", "memory"))
        return {
            "tiles": [(most, more) for most, more in tiles if most not in ("", "0K")],
            "programs": [[(value, text if ends or not 1 < i < 8 else "") for i, (value, text) in enumerate((
                (name, name), (one.starts, one.starts), (one.failed, one.failed), (one.cost.shown_ns, one.cost.cpu),
                (one.cost.rss * bool(one.cost.memory), one.cost.memory), (one.self_ns, _seconds(one.self_ns)),
                (one.longest, _seconds(one.longest)), (weigh(one), share[name]),
                [", ".join(f"{parent} ×{count}" for parent, count in sorted(
                    one.parents.items(), key=lambda item: -item[1]))] * 2))] for name, one in rows],
            "commands": [((cpu_ns, cpu), (ns, _seconds(ns)), [image.command] * 2)
                         for (cpu_ns, _), cpu, ns, image in (self._dearest if ends else ())]}

class _MemorySum:
    """What the processes that ran at a time had of memory at most. It is known for 65,536 moments, or fewer."""

    def __init__(self) -> None:
        self._grain = 1                                # ns from one moment to the next
        self._changes: list[dict[int, int]] = [{}, {}]  # by moment: what begins there, and what ends there

    def add(self, begin: int, end: int, rss: int) -> None:
        """A process that ran from begin to end."""
        (begins, ends), first, last = self._changes, begin // self._grain, -(-end // self._grain)
        begins[first] = begins.get(first, 0) + rss
        ends[last] = ends.get(last, 0) + rss
        while len(self._changes[0]) + len(self._changes[1]) > 1 << 16:
            self._grain *= 2
            for i, round_up in enumerate((0, 1)):
                coarser: dict[int, int] = collections.defaultdict(int)
                for moment, rss in self._changes[i].items():
                    coarser[moment + round_up >> 1] += rss
                self._changes[i] = coarser

    def steps(self) -> Iterator[tuple[int, int]]:
        """The moments at which it changed, and to what."""
        total, (begins, ends) = 0, self._changes
        for moment in sorted(begins.keys() | ends.keys()):
            total += begins.get(moment, 0) - ends.get(moment, 0)
            yield moment * self._grain, total

class _Track:
    """Where a process is drawn in a trace, and which of its programs is drawn there now.

    number  its own: a pid can come again
    group   the track of the process that was watched: its oldest ancestor that is known
    named   of a group: whether it has a name, 2 if that is of the first program that its process executed
    begin   when the first program began
    since   when the present one did
    name, command, kind  of that
    parent  the track of who has forked it, until there is an arrow from there
    """

    __slots__ = ("_group", "begin", "command", "kind", "name", "named", "number", "parent", "since")

    def __init__(self, number: int, parent: _Track | None) -> None:
        self.number, self.named = number, 0
        self._group = parent.group if parent else None
        self.begin: int | None = None
        self.since, self.name, self.command, self.kind = 0, "", "", ""
        self.parent: _Track | None = None

    @property
    def group(self) -> _Track:
        return self._group or self

class _Trace(_View):
    """Chrome's trace-event format, for ui.perfetto.dev and speedscope.

    It is the form of a JSON array, of which the last bracket may be missing: so a file of a run that was killed opens,
    too. A process is a track, a program a slice on it, and a fork an arrow. The tracks are grouped by the process that
    was watched. Perfetto's and speedscope's pid and tid are numbers of ours. A slice has the process's own pid.
    A slice of a recording is written when it ends: its name may be known only from the Exit.
    """

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import json

        # UTF-8, whatever the locale: Perfetto refuses a name with an escaped surrogate pair.
        self._quote = json.JSONEncoder(ensure_ascii=False).encode
        out.encode_as("utf-8")
        self._begin: dict[_Processes, int] = {}  # when the first event happened
        self._before: dict[_Processes, list[Process]] = collections.defaultdict(list)  # what was there already
        self._open: dict[Process, _Processes] = {}  # whose slice has not ended
        self._tracks = self._flows = self._running = 0
        self._counts = not args.load       # whether it is known how many run: forks are reported
        self._pending: list[tuple[Any, ...]] = []  # what is true only if ends are reported, until that is known
        self._late: dict[_Processes, _Track] = {}  # the group of those of which only the end was reported
        self._memory = _MemorySum()
        self._earliest = 0
        self._comma = "["
        self._record("M", 0, 0, None, ', "name": "process_name", "args": {"name": "cnproc"}')  # else it may be empty

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        what, when = event.what, _when(event)
        if info and not info._track:
            self._tracks += 1
            info._track = _Track(self._tracks, info.parent._track if info.parent else None)
        begin, rebuilt = self._begin.get(processes), event.cpu == _REBUILT
        if what == _FORK and rebuilt and begin is None and info:
            self._before[processes].append(info)
            return
        if begin is None:
            begin = self._begin[processes] = when
            for before in self._before.pop(processes, ()):
                self._start(before, when, processes)
        when = max(when, begin) if rebuilt else when
        if info is None:
            count = _count(event.count, "event") if event.count else "some events"
            self._record("i", 0, 0, when, f', "name": "{count} lost", "s": "g"')
        elif (self.filter.any and not (info in self._open or self.filter.holds(info))) or (
                what == _FORK and event.tid == event.pid and (  # what a fork shows is its parent's until it executes
                    self.filter.any or processes.known.get(info.pid) is not info)):  # no end of it will be reported
            pass
        elif what == _FORK and event.tid == event.pid:
            self._counts = True
            if info._track and info.parent in self._open:
                info._track.parent = info.parent._track
            self._start(info, when, processes)
        elif what == _EXEC:
            self._stop(info, when)
            if not self.filter.any or self.filter.holds(info):
                self._start(info, when, processes)
        elif what == _EXIT and event.tid == event.pid and info.end_ns is not None:
            if info not in self._open and info.exit is event and info.start_ns is not None:  # only this is known
                self._join_late(info, processes)
                self._start(info, min(when, max(info.start_ns, 0 if self.args.load else begin)), processes)
            status, track = event.exit_code, self._track(info)
            code = _returncode(status)
            how = (f'"returncode": {"null" if code is None else code}, "end": "{_exit_text(status)}", '
                   f'{_costs_json(event)}')
            if info in self._open and track.name == "?":
                self._name(info)
            self._stop(info, when, how)
            rss = event.max_rss
            if rss:
                self._memory.add(begin if track.begin is None else track.begin, when, rss)
        else:
            track = self._track(info)
            self._record("i", track.group.number, track.number, when,
                         f', "name": "{type(event).__name__.lower()}", "s": "t"')
        if len(self._open) != self._running and self._counts:
            self._running = len(self._open)
            self._pending.append(self._counter(when, "running processes", "processes", self._running))
        if self._pending and processes.has_ends:
            for record in self._pending:
                self._record(*record)
            self._pending.clear()

    @staticmethod
    def _track(info: Process) -> _Track:
        assert info._track
        return info._track

    def _join_late(self, info: Process, processes: _Processes) -> None:
        """If its parent is not known, it joins the others of which that is so: one group, not one for each."""
        track, late = self._track(info), self._late.get(processes)
        if track.group is track and not track.named:
            if not late:
                self._tracks += 1
                late = self._late[processes] = _Track(self._tracks, None)
                late.named = 2
                name = self._quote(f"ended on {processes.host}" if processes.host else "ended")
                self._record("M", late.number, late.number, None,
                             f', "name": "process_name", "args": {{"name": {name}}}')
            track._group = late

    def _name(self, info: Process) -> None:
        """Its slice is of what it runs now."""
        track = self._track(info)
        track.name, track.command, track.kind = info.name, info.command, "exec" if info._executed else "fork"

    def _start(self, info: Process, when: int, processes: _Processes) -> None:
        track = self._track(info)
        track.since = when
        if track.begin is None:
            track.begin = when
        self._name(info)
        self._open[info] = processes
        if not self.args.load:
            self._draw(info)

    def _draw(self, info: Process) -> None:
        """Write the beginning of its slice, with the names of its track and group, and the arrow to it."""
        track, host = self._track(info), self._open[info].host
        top, number, name = track.group, track.number, self._quote(track.name)
        group = top.number
        if not top.named or (top is track and top.named < 2):
            root = info
            while root.parent:
                root = root.parent
            called = track.name if root is info else root.name
            called = self._quote(f"{called} on {host}" if host else called)
            self._record("M", group, group, None, f', "name": "process_name", "args": {{"name": {called}}}')
            top.named = 1 + (top is track and track.kind == "exec")
        names = self._quote(" → ".join(info._names)) if info._earlier or info.name != track.name else name
        self._record("M", group, number, None, f', "name": "thread_name", "args": {{"name": {names}}}')
        parent = "null" if info.parent_pid is None else info.parent_pid
        self._record("B", group, number, track.since,
                     f', "name": {name}, "cat": "{track.kind}", "args": {{"pid": {info.pid}, '
                     f'"parent_pid": {parent}, "cmdline": {self._quote(track.command)}}}')
        if track.parent:
            self._flows += 1
            arrow = f', "name": "fork", "cat": "fork", "id": {self._flows}'
            self._pending += (("s", track.parent.group.number, track.parent.number, track.since, arrow),
                              ("f", group, number, track.since, f'{arrow}, "bp": "e"'))
            track.parent = None

    def _stop(self, info: Process, when: int, args: str = "") -> None:
        """End its slice, if it has one. speedscope takes an end for that of the slice of the same name."""
        if info in self._open:
            if self.args.load:
                self._draw(info)
            del self._open[info]
            track = self._track(info)
            self._record("E", track.group.number, track.number, when,
                         f', "name": {self._quote(track.name)}, "args": {{{args}}}')

    def _record(self, phase: str, group: int, track: int, when: int | None, more: str) -> None:
        """more: the rest of the record, in JSON. Each line by hand: json takes three times as long for it."""
        at = ""
        if when is not None:  # as a float it would be rounded
            if when < self._earliest:
                self._earliest = when
            us, ns = divmod(abs(when), 1000)
            at = f', "ts": {"-" if when < 0 else ""}{us}.{ns:03}'
        self.out.line(f'{self._comma}{{"ph": "{phase}", "pid": {group}, "tid": {track}{at}{more}}}')
        self._comma = ","

    def end(self, now: int) -> None:
        for processes, before in self._before.items():
            for info in before:
                self._start(info, now, processes)
        for info, processes in [*self._open.items()]:
            end = now if info.end_ns is None else info.end_ns  # its pid has come again, and no Exit before
            self._stop(info, end if processes.has_ends else self._track(info).since)
        for when, memory in self._memory.steps():
            self._record(*self._counter(when, "memory of processes that ended, at most", "bytes", memory))
        self.out.line("]")
        self.out.flush()
        if self._earliest < 0:
            _complain(OSError(0, f"{self.args.trace} has times before the boot of the first machine, which Perfetto "
                              "leaves out: load first what was recorded on the machine that booted first"))

    @staticmethod
    def _counter(when: int, name: str, unit: str, value: int) -> tuple[Any, ...]:
        return "C", 0, 0, when, f', "name": "{name}", "args": {{"{unit}": {value}}}'

_LAUNCHERS = "ccache", "distcc", "icecc", "sccache"  # they stand before a compiler
_TAKES_WORD = frozenset((  # options of gcc and clang that can take the next word, but for -o and -x
    "-A", "-B", "-D", "-F", "-G", "-I", "-L", "-MF", "-MJ", "-MQ", "-MT", "-T", "-Tbss", "-Tdata", "-Ttext", "-U",
    "-Xanalyzer", "-Xarch_device", "-Xarch_host", "-Xassembler", "-Xclang", "-Xcuda-fatbinary", "-Xcuda-ptxas",
    "-Xlinker", "-Xopenmp-target", "-Xpreprocessor", "-arch", "-aux-info", "-cxx-isystem", "-dumpbase",
    "-dumpbase-ext", "-dumpdir", "-e", "-framework", "-idirafter", "-iframework", "-iframeworkwithsysroot", "-imacros",
    "-imultiarch", "-imultilib", "-include", "-include-pch", "-iprefix", "-iquote", "-isysroot", "-isystem",
    "-isystem-after", "-ivfsoverlay", "-iwithprefix", "-iwithprefixbefore", "-iwithsysroot", "-l", "-mllvm", "-rpath",
    "-serialize-diagnostics", "-specs", "-stdlib++-isystem", "-target", "-u", "-wrapper", "-z", "--config",
    "--define-macro", "--imacros", "--include", "--include-directory", "--param", "--serialize-diagnostics", "--specs",
    "--sysroot", "--undefine-macro"))
_SOURCES = (  # what ends the names of the files that they compile
    ".c", ".cc", ".cp", ".cpp", ".c++", ".cppm", ".cxx", ".ixx", ".cu", ".i", ".ii", ".m", ".mm", ".mi", ".mii", ".s",
    ".sx", ".h", ".hh", ".hpp", ".hxx")

def _compile(words: list[str]) -> tuple[list[tuple[str, list[str]]], str | None]:
    """What a compiler's command line compiles: each source, and the command line for it alone; and the named output.

    That is nothing if it only preprocesses or links. Nobody looks into a response file: @file.
    """
    sources: list[int] = []
    dropped = {0}  # where words stand that are the linker's, or other sources
    output, links, language, rest = None, True, "none", iter(range(1, len(words)))
    for at in rest:
        word = words[at]
        if word in ("-E", "-M", "-MM", "-###", "-cc1", "-cc1as"):
            return [], None
        if word in ("-c", "-S", "-fsyntax-only"):
            links = False
        elif word[:2] in ("-o", "-x"):
            value = word[2:] or words[next(rest, 0)]
            output, language = (value, language) if word[1] == "o" else (output, value)
        elif word.startswith(("-l", "-L", "-Wl,", "-Xlinker")):
            dropped |= {at, next(rest, 0) if word in _TAKES_WORD else 0}
        elif word in _TAKES_WORD:
            next(rest, None)
        elif word[:1] not in ("-", "@"):
            dropped.add(at)
            if language != "none" or os.path.splitext(word)[1].lower() in _SOURCES:
                sources.append(at)
    first = [*words[:1], *["-c"] * links]
    return [(words[source], first + [word for at, word in enumerate(words) if at == source or at not in dropped])
            for source in sources], output

def _rooted() -> bool:
    """Whether something is mounted at our root folder. In a chroot nothing is: the kernel's paths begin elsewhere."""
    with open("/proc/self/mountinfo", "rb") as file:  # proc_pid_mountinfo(5)
        return any(line.split(b" ")[4] == b"/" for line in file)

class _CompileCommands(_View):
    """A compile_commands.json: how each source file was compiled, for clangd and others.

    Of two compiles of a file in the same folder to the same output it has the last. What a compiler runs belongs to its
    own compile: ccache runs it twice. Sources that are gone at the end are left out, on the machine of the compile:
    configure makes such.
    """

    begins_late = True

    def __init__(self, out: _Out, args: Any) -> None:
        super().__init__(out, args)
        import re

        self._compiler = re.compile(r"(.*-)?(g?cc|[cg]\+\+|clang(\+\+)?)(-\d[\d.]*)?(-posix|-win32)?").fullmatch
        # By folder, source and output: the entry, and whether this is the machine.
        self._entries: dict[tuple[str, str, str | None], tuple[dict[str, Any], bool]] = {}
        self._unknown, self._lost, self._rooted = 0, False, _rooted()
        self._unnamed = 0  # execs of which nobody knows whether they are compiles
        out.encode_as("utf-8")  # RFC 8259, section 8.1

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        if not info or event.what != _EXEC or (self.filter.any and not self.filter.holds(info)):
            self._lost |= not info
            return
        words = event.cmdline
        if words is None or (len(words) == 1 and self._is_short(words[0])):
            self._unnamed += not self._within_compile(info)
            return
        words = self._without_launcher(words)
        compiled, output = _compile(words)
        if not (compiled or (words and event.truncated)) or self._within_compile(info):
            return
        if event.truncated or event.cwd is None:
            self._unknown += 1
            return
        for source, arguments in compiled:
            path = os.path.join(event.cwd, source)
            entry = {"directory": event.cwd, "file": path, "arguments": arguments}
            if output:
                entry["output"] = os.path.join(event.cwd, output)
            self._entries.pop((event.cwd, path, output), None)  # the last one comes last
            self._entries[event.cwd, path, output] = entry, self._rooted and processes.host == os.uname().nodename

    def _is_short(self, word: str) -> bool:
        """Whether this is only the short name of a program that may be a compiler: it had ended when it was read."""
        name = word[1:-1]
        return word == f"[{name}]" and (
            name in _LAUNCHERS or len(os.fsencode(name)) == 15 or self._compiler(name) is not None)

    def _without_launcher(self, words: list[str]) -> list[str]:
        """A compiler's command line without ccache; nothing if it is no compiler's."""
        for at, word in enumerate(words[:len(_LAUNCHERS) + 1]):
            name = word.rpartition("/")[2]
            if name not in _LAUNCHERS:
                return words[at:] if self._compiler(name) else []
        return []

    def _within_compile(self, info: Process) -> bool:
        """Whether the process has run a compiler before, or an ancestor runs one."""
        images, link = [image for image, *_ in info._earlier], info.parent
        while link:
            images.append(link._image)
            link = link.parent
        return any(self._without_launcher(image.words) for image in images)

    def end(self, now: int) -> None:
        import json

        lines: dict[Any, str] = {}
        name = "the database" if self.args.compile_commands == "-" else self.args.compile_commands
        for entry, here in self._entries.values():
            if not here or os.path.exists(entry["file"]):
                for key in entry.keys() & {"file", "output"}:
                    path, plain = entry[key], os.path.normpath(entry[key])
                    if not here or os.path.realpath(plain) == os.path.realpath(path):  # .. may follow a symbolic link
                        entry[key] = plain
                lines[entry["directory"], entry["file"], entry.get("output")] = json.dumps(entry, ensure_ascii=False)
        kept = "" if lines or not self.out.has_more else ", and is as it was"
        if not kept:
            self.out.begin()
            self.out.line("[" + ",\n".join(lines.values()) + "]")
            self.out.flush()
        self.failed = bool(self._unknown or self._unnamed or self._lost)
        if self._unknown:
            _complain(OSError(0, f"{name} lacks {_count(self._unknown, 'compile')}: " + (
                "the recording does not say in which folder (record with -j --paths)" if self.args.load else
                "its folder or command line could not be read (root, or --ptrace, knows them)")))
        elif self._unnamed:
            _complain(OSError(0, f"{name} may lack compiles: the command line of {_count(self._unnamed, 'program')} "
                              f"{'is not in the recording' if self.args.load else 'could not be read'} (root, or "
                              "--ptrace, knows them)"))
        elif self._lost:
            _complain(OSError(0, f"events were lost: {name} may lack what was compiled then"))
        elif not lines:
            _complain(OSError(0, f"{name} {'has nothing new' if kept else 'is empty'}: no compiler was started (is all "
                              f"built already?){kept}"))

@functools.lru_cache(maxsize=None)
def _form(name: str) -> tuple[Any, int, Any, Any, Any, int]:
    """How to make an event of a record: its class, its number, what makes it of bytes, what packs these, what takes the
    values and then those of _extra, and how many values the former are.
    """
    what = int(What[name.upper()])
    kind = _EVENTS[what]
    forms: dict[Any, str] = {_s32: "i", _u32: "I", _exit_cost: "II6Q"}
    form = "=IIq" + "".join(forms.get(field, "16s") for _, field in kind._fields_)
    names = [field.strip("_") for field, _ in kind._fields_ if field != "_cost_"]
    take = operator.itemgetter(*names, *kind._extra)
    return kind, what, kind.from_buffer_copy, struct.Struct(form).pack, take, len(names)

@functools.lru_cache(maxsize=256)
def _check_extra(kind: Any, *types: Any) -> None:
    """Raises TypeError if values of an event's _extra cannot have these types."""
    for name, found in zip(kind._extra, types):
        wanted = str if name in ("cgroup", "exe", "cwd") else bool if name == "max_rss_exact" else int
        if found not in (wanted, type(None)):
            raise TypeError(name)

def _from_record(record: dict[str, Any], when: int) -> Any:
    """The event that a line of --json shows. Raises one of _BROKEN if it is none."""
    name = record["event"]
    if name == "lost":
        return Lost(count=None if record["count"] is None else operator.index(record["count"]), timestamp_ns=when)
    kind, what, make, pack, take, count = _form(name)
    try:
        values = take(record)
    except KeyError:  # an older recording lacks some of _extra
        values = take({**dict.fromkeys(kind._extra), **record})
    values, extra = values[:count], values[count:]
    if extra:
        _check_extra(kind, *map(type, extra))
    if name == "comm":
        values = *values[:2], os.fsencode(values[2])[:15]
    elif None in values:
        values = [(-1 if field == "exit_code" else 0) if value is None else value
                  for (field, _), value in zip(kind._fields_, values)]
    if kind is Exit:
        cpu_ns, rss, exact, read, written, faults, start = extra
        if start is not None:
            start += when - record["timestamp_ns"]
            if not 0 <= start <= when:
                start = None
        costs: Sequence[Any] = (exact, rss, cpu_ns, read, written, faults, start)
        known = _ALL_COSTS
        if None in costs:
            known = sum([1 << i for i, value in enumerate(costs) if value is not None])  # as _exit_cost has them
            costs = [value or 0 for value in costs]
        values = *values, known, *costs
    event: Any = make(pack(what, _REBUILT if record["rebuilt"] else 0, when, *values))
    if kind is Exec:
        event._more = extra
        words = record["cmdline"]
        if words is not None:
            event._words = _argv(words)
            event._length = len(event._words) + bool(record["truncated"])
    return event

def _decode_texts(record: dict[str, Any]) -> None:
    """Undo what _encoded() has done to a line of --json."""
    for name in "comm", "cgroup", "exe", "cwd":
        if record.get(name):
            record[name] = _decoded(record[name])
    if record.get("cmdline"):
        record["cmdline"] = [*map(_decoded, record["cmdline"])]

def _argv(words: list[str]) -> bytes:
    """Exec._words of a cmdline. Raises TypeError for what is none."""
    return "\0".join([*words, ""]).encode("utf-8", "surrogateescape")

_BROKEN = (  # StopIteration: no JSON at all
    KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, StopIteration, struct.error)

class _Recording:
    """What --json has recorded, an event at a time. The clocks of several machines are brought to the first one's.

    joins: a process that is in two recordings, one behind the other, is one.
    """

    def __init__(self, views: list[_View], joins: bool) -> None:
        self._views, self._joins = views, joins
        from json import JSONDecoder

        decoder: Any = JSONDecoder()
        self._decode = decoder.scan_once  # raw_decode() without a function of Python's around it
        self._machines: dict[Any, _Processes] = {}  # by host and boot
        # The offset_ns of each one's first line: a step of its clock later on must not move what follows.
        self._firsts: dict[Any, int] = {}
        self._day, self._day_ns = "", 0             # a second, and when that was, in ns since 1970
        self.now = -_NEVER                          # when the latest event happened

    def add(self, line: str) -> None:
        """Show a line. Raises one of _BROKEN if it is no event."""
        line = line.strip()
        record, end = self._decode(line, 0)
        if "\\" in line:  # else no text of it is encoded
            _decode_texts(record)
        get = record.get
        when, origin = record["timestamp_ns"], (get("host"), get("boot_id"))
        first = offset = self._offset(record["time"], when) if "time" in record else 0  # else it comes from asdict()
        processes = self._machines.get(origin)
        number = processes.number if processes else len(self._machines)
        shift = 0
        if number:
            shift = self._firsts.get(origin, first) - next(iter(self._firsts.values()))
            when, offset = when + shift, offset - shift
        event = _from_record(record, when)
        words, duration, parent_pid = get("cmdline"), get("duration"), get("parent_pid")
        what = event.what
        argv = event._words if what == _EXEC else None if words is None else _argv(words)
        if end < len(line) or not (duration is None or 0 <= duration < 1 << 40) or not (
                parent_pid is None or isinstance(parent_pid, int)) or not -_NEVER <= when < _NEVER:
            raise ValueError(line)
        if not processes:
            processes = self._machines[origin] = _Processes(*origin, look=False, threads=True, number=number)
            self._firsts[origin] = first
            processes.has_ends, processes.shift_ns = False, shift
        processes.offset_ns = offset
        if what == _EXIT:
            processes.has_ends = True
        if what == _FORK and event.cpu == _REBUILT and self._joins:
            known = processes.known.get(event.pid)
            if known and known.end_ns is None and known.start_ns is not None and abs(known.start_ns - when) < 2 * _TICK:
                return  # the recording before this one has it: /proc has starts in ticks
        for view in self._views:
            if when >= view.due and event.cpu != _REBUILT:
                view.on_time(when, processes)
        info = processes.add(event)
        if when > self.now:
            self.now = when
        if info and isinstance(event, (Exec, Exit, Coredump)):  # perhaps no other kinds were recorded
            if info.parent_pid is None:
                info.parent_pid = parent_pid
            if duration is not None:
                info.start_ns = when - round(duration * 1e9)
            elif what == _EXEC and info.start_ns is None and event.cpu != _REBUILT:  # it began then, or just before
                info.start_ns = when
            image = info._image
            if argv and not image.label and (image.argv is None or not (info._executed or image.argv == argv)):
                # Else it has executed nothing, and runs what its parent does.
                info._image, info._executed = image.copy(argv=argv), True
        for view in self._views:
            view.on_event(event, info, processes)

    @property
    def endless(self) -> list[_Processes]:
        """Where no ends were recorded."""
        return [processes for processes in self._machines.values() if not processes.has_ends]

    def _offset(self, text: str, when: int) -> int:
        """How far the time of day is from the events' clock, in ns: to a microsecond, as the time of day is written."""
        if text[:20] != self._day:
            from datetime import datetime, timezone

            day = datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
            self._day, self._day_ns = text[:20], int(day.timestamp()) * 1_000_000_000
        return self._day_ns + int(text[20:26]) * 1000 - when // 1000 * 1000

class _Chosen:
    """Shows views only some processes of a recording, and their descendants: as if nothing else were in it."""

    def __init__(self, views: list[_View], pids: Iterable[int]) -> None:
        self._views, self._pids = views, frozenset(pids)
        self.missing = {*pids}  # which of them the recording does not have
        self._machines: dict[_Processes, _Processes] = {}  # by those of all processes, those that have only the chosen
        self._chosen: set[Process] = set()
        self._gone: collections.deque[Process] = collections.deque()  # ended, but events of theirs may still come

    @property
    def due(self) -> int:
        return min(view.due for view in self._views)

    def on_time(self, now: int, processes: _Processes) -> None:
        for view in self._views:
            if now >= view.due:
                view.on_time(now, self._machine(processes))

    def on_event(self, event: Any, info: Process | None, processes: _Processes) -> None:
        machine = self._machine(processes)
        if info:
            chosen, pids = self._chosen, self._pids
            if not (info in chosen or info.parent in chosen or info.pid in pids or info.parent_pid in pids):
                return
            chosen.add(info)
            self.missing.difference_update((info.pid, info.parent_pid))
            if event.what == _EXIT and info.end_ns is not None:
                self._gone.append(info)
                if len(self._gone) > 1024:
                    chosen.discard(self._gone.popleft())
        own = machine.add(event)
        if own and info:  # some of it may be known from its ancestors, or from the recording alone
            own.parent_pid, own.start_ns, own._since_ns = info.parent_pid, info.start_ns, info._since_ns
            own._image, own._executed = info._image, info._executed
        for view in self._views:
            view.on_event(event, own, machine)

    def _machine(self, processes: _Processes) -> _Processes:
        machine = self._machines.get(processes)
        if not machine:
            machine = self._machines[processes] = _Processes(
                processes.host, processes.boot_id, look=False, threads=True, number=processes.number)
        machine.offset_ns, machine.has_ends = processes.offset_ns, processes.has_ends
        machine.shift_ns = processes.shift_ns
        return machine

def _pieces(file: Any) -> Iterator[bytes]:
    """What a file holds, as it comes; of a gzip file what is packed in it."""
    if file.peek(2)[:2] != b"\x1f\x8b":
        yield from iter(lambda: file.read1(1 << 18), b"")
        return
    import gzip
    import zlib

    try:
        yield from iter(functools.partial(gzip.GzipFile(fileobj=file).read1, 1 << 18), b"")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(errno.EINVAL, f"its gzip data is cut short or damaged: {error}") from None

def _load(args: Any, views: list[_View], files: list[Any]) -> int:
    """Show what --json has recorded. Broken lines are left out, and the first of them in each file is named."""
    chosen: Any = _Chosen(views, args.pid) if args.pid else None
    recording = _Recording([chosen] if chosen else views, joins=not args.json)
    _enable_gc()
    complaints: list[OSError] = []
    _begin(views)
    try:
        for path, file in zip(args.load, files):
            name, number, rest, pieces = "standard input" if path == "-" else path, 0, b"", _pieces(file)
            broken: list[int] = []
            for view in views:
                view.on_recording()
            while True:
                try:
                    part = next(pieces, b"")
                except OSError as error:
                    complaints.append(OSError(error.errno, f"{name}: {error.strerror}"))
                    for view in views:
                        view.partial = True
                    break
                whole, newline, rest = (rest + part).rpartition(b"\n") if part else (rest, rest, b"")
                for line in whole.decode(errors="backslashreplace").split("\n") if newline else ():
                    number += 1
                    try:
                        recording.add(line)
                    except _BROKEN:
                        broken.append(number)
                _write(views)
                if not part:
                    break
            if len(broken) == number > 1:
                complaints.append(OSError(errno.EINVAL, f"{name} is not a recording of -j"))
            elif broken:
                more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
                complaints.append(OSError(errno.EINVAL, f"{name}: line {broken[0]} is not an event{more}"))
    except (KeyboardInterrupt, SystemExit):
        for view in views:
            view.partial = True
        raise
    finally:
        _end(views, recording.now)
        if (args.tree or args.stats or args.why or args.trace) and recording.endless:
            hosts = ", ".join(str(machine.host) for machine in recording.endless if machine.host is not None)
            _complain(OSError(0, f"no ends were recorded{' on ' * bool(hosts)}{hosts}, so only starts are shown: "
                                 "nothing had ended, or -e left ends out"))
    status = 2 if complaints else 0
    for pid in sorted(chosen.missing) if chosen else ():
        complaints.append(OSError(errno.ESRCH, f"no process {pid} in the recording"))
    for complaint in complaints:
        _complain(complaint)
    return status or bool(complaints) or any(view.failed for view in views)

class _Command:
    """The command that is run, and the signals that are sent to it by way of us."""

    def __init__(self, words: list[str], user: str | None = None) -> None:
        self.words, self._user = words, user
        self.process: subprocess.Popen[Any] | None = None
        self._processes: _Processes | None = None
        self._starting = False          # whether it is being started, or has been
        self._early: list[int] = []     # signals that came meanwhile
        self._stopped = 0               # a signal that is to end us at the next good moment
        self.watcher: Watcher | None = None  # set while events are shown: a good moment is when this one waits
        self.outs: set[_Out] = set()         # where the ^C of a ctrl-C may stand

    def start(self, watcher: Watcher, processes: _Processes, events: int, follow: bool) -> int:
        """0, or the status of a command that cannot be started, as a shell has it."""
        self._starting = True
        try:
            # Descriptors that we were given are the command's, as if it had been run directly: make's job server.
            self.process = watcher.popen(self.words, events, follow=follow, close_fds=False, **self._user_options())
        except OSError as error:
            refused = self._user and error.errno == errno.EPERM
            why = self._not_found(error.errno)
            _complain(OSError(error.errno, f"-u {self._user} takes root" if refused else
                              f"{self.words[0]}: {why or error.strerror}"))
            return 127 if why or error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
        self._processes, processes.command = processes, self.process.pid
        for number in self._early:
            self.process.send_signal(number)
        return 0

    def _not_found(self, number: int | None) -> str:
        """What the kernel's error does not say of a command that was not found."""
        import shutil

        path = self.words[0] if "/" in self.words[0] else shutil.which(self.words[0], os.F_OK)
        if not path and number in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):  # EACCES: of a folder in PATH
            return f"command not found{self._for_shell()}"
        if not path or number != errno.ENOENT or not os.path.exists(path):
            return ""
        interpreter = ""
        with contextlib.suppress(OSError), open(path, "rb") as file:
            line = file.readline(256)
            if line.startswith(b"#!"):  # the \r of a file from Windows belongs to the name
                words = line[2:].rstrip(b"\n").replace(b"\t", b" ").split(b" ")
                interpreter = _printable(os.fsdecode(next(filter(None, words), b""))) + " "
        return f"its interpreter {interpreter}is missing"

    def _for_shell(self) -> str:
        """What to write for a command that only a shell would take."""
        word, whole = self.words[0], " ".join(self.words)
        if word.partition("=")[0].isidentifier() and "=" in word:
            return f": write env {whole}"
        if any(character in word for character in " ;&|<>$`*"):
            return f": leave out the quotes, or have a shell take it: sh -c {_quote(whole)}"
        shell = "bash" if word in _BASH else "sh"
        return f": a shell has it: {shell} -c {_quote(whole)}" if word in _BUILTINS or word in _BASH else ""

    def _user_options(self) -> dict[str, Any]:
        """What subprocess.Popen takes to run it as the user of -u, with the user's groups."""
        if self._user is None:
            return {}
        import pwd

        user = pwd.getpwnam(self._user)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups,
                "env": {**os.environ, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}}

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

        for out in self.outs:
            out.fresh = False
        running = self.process and self.process.poll() is None
        by_terminal = number in (signal.SIGINT, signal.SIGQUIT) and _on_terminal()
        if self._starting and not self.process:
            if not (by_terminal and _has_child()):
                self._early.append(number)
        elif by_terminal and (running or (self.process and not self.exit)):
            pass  # the terminal has sent it to the command itself, which it may have ended by now
        elif self.process and running:
            self.process.send_signal(number)
        else:
            first, self._stopped = not self._stopped, number
            if not (first and self.watcher) or self.watcher._waiter.waiting:
                self.stop(at_once=not first)

    def stop(self, *, at_once: bool = False) -> None:
        """End as the signal asks for, if there was one."""
        if self._stopped and (at_once or not self.process or self.exit):
            import signal

            raise KeyboardInterrupt if self._stopped == signal.SIGINT else SystemExit(128 + self._stopped)

    @property
    def _reaped(self) -> bool:
        """Whether the kernel keeps no status for us: subprocess says 0."""
        import signal

        return signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN

    def status(self) -> int:
        """Its exit status, as a shell has it."""
        assert self.process
        code = self.process.wait()
        if self._reaped:
            code = (self.exit and self.exit.returncode) or 0
        return code if code >= 0 else 128 - code

    def complete(self, event: Any) -> None:
        """Give its Exit the status that we have as its parent: with --threads the events may not tell it."""
        if event.what == _EXIT and event.exit_code < 0 and self.process and event.pid == self.process.pid and (
                not self._reaped):
            self.process.wait()
            event.exit_code = max(-1, self.process.returncode << 8)

# What shells have themselves: each, and bash besides.
_BUILTINS = {"!", ".", ":", "alias", "bg", "case", "cd", "eval", "exec", "exit", "export", "fg", "for", "if", "jobs",
             "read", "set", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while", "{"}
_BASH = {"[[", "declare", "history", "local", "popd", "pushd", "shopt", "source"}

def _has_child() -> bool:
    """Whether this process has started another, though Popen may not have returned yet."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

def _on_terminal() -> bool:
    """Whether ctrl-C on a terminal reaches this process and those that it has started."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False

class _ThreadExits:
    """With --threads: makes of the ends of threads what the views take. Pure.

    The Exit of a leader that leaves threads behind gets _NO_SIGNAL, as those of other threads have. A _ProcessEnd
    stands behind the last Exit of its process. It becomes the Exit of the process, or the leader's Exit before it does.
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
            if what == _PROCESS_END:
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
                    if after is not None and after.what == _PROCESS_END and after.pid == pid:
                        leader = event
                        continue
                    event.exit_signal = _NO_SIGNAL
            converted.append(event)
        return converted

def _there(watcher: Watcher, pids: Iterable[int], *, execs: bool = True, paths: bool = False) -> Iterator[Any]:
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
            event: Any = Exec(_EXEC, _REBUILT, now(), pid, pid, cmdline=_split(_raw_cmdline(pid)))
            event._more = *_proc_ids(pid), *(_proc_link(pid, name) if paths else None for name in ("exe", "cwd"))
            yield event
        rest += children.pop(pid, ())

class _Live:
    """Brings the events of a watcher to the views."""

    def __init__(self, args: Any, watcher: Watcher, processes: _Processes, views: list[_View], command: _Command,
                 hidden: int) -> None:
        self._watcher, self._processes, self._views, self._command = watcher, processes, views, command
        self._args = args
        self._rest_due = 0             # when to look whether anybody has outlived the command, once it has ended
        self.left = ""                 # who has, and must not
        self._hidden = hidden          # kinds that are heard for what they tell of a process, and not shown
        self._now = watcher._subscription.now
        self._threads = _ThreadExits(os.getpid() if command.process else 0) if watcher._table.extra else None
        self._found: set[int] = set()  # were there, but their Fork may come all the same: they were born just now
        self._pidfd = -1  # of the command, whose end must not wait until more has gathered
        if command.process and watcher._delay:
            with contextlib.suppress(OSError):  # it has been reaped already: SIGCHLD is ignored
                self._pidfd = os.pidfd_open(command.process.pid)
                watcher._waiter.also(self._pidfd)
        self._update_offset()
        for view in views:
            view.on_start(self._now())

    def close(self) -> None:
        """Let events gather again."""
        if self._pidfd >= 0:
            self._watcher._waiter.also(self._pidfd, wanted=False)
            os.close(self._pidfd)
            self._pidfd = -1

    def _update_offset(self) -> None:
        self._processes.offset_ns = time.time_ns() - self._now()

    def begin(self, there: Iterable[Any]) -> None:
        """Show processes that are there."""
        for event in there:
            self._show([event])
            self._found.add(event.pid)

    def run(self, deadline: int | None, *, ending: bool = False, stoppable: bool = False) -> None:
        """Show what happens until the deadline, or (ending) until no process is watched any longer."""
        now_ns, views = self._now, self._views
        check = 0
        while True:
            now = now_ns()
            for view in views:
                if view.due <= now:
                    view.on_time(now, self._processes)
            _write(views, check=check <= now)
            if check <= now:
                check = now + _CHECK_NS
            if stoppable:
                self._command.stop()
            until = min([check, self._rest_due or check, *(view.due for view in views)])
            events = self._watcher._take(until if deadline is None else min(until, deadline), ending)
            self._update_offset()
            if events:
                if self._threads:
                    events = self._threads.convert(events)
                    for event in events:
                        self._command.complete(event)
                self._show(events)
                end = self._processes.command_exit
                if end and self._pidfd >= 0:
                    self.close()
                if end and self._command.process:
                    self._command.process.poll()  # else it stays a zombie while we wait for what it has left
                if end and not self._rest_due:
                    self._rest_due = end.timestamp_ns + _REST_NS
            elif events is None or (deadline is not None and now_ns() >= deadline):
                return
            if stoppable and 0 < self._rest_due <= (_when(events[-1]) if events else now_ns()):
                _write(views)
                if self._name_rest():
                    return

    def _name_rest(self) -> bool:
        """Say who has outlived the command. Returns whether that ends the watch."""
        infos: list[Process] = []
        for pid in self._watcher.pids:
            stat = _stat(pid)
            if stat and not (_ended(pid, stat) or (stat.threads == 1 and stat.flags & _PF_EXITING)):
                info = self._processes.known.get(pid)
                if not info:
                    info = Process(pid, None, None, stat.start_ns)
                    info._found(stat)
                infos.append(info)
        # Who is about to end may have started others, whose Forks are still to be read.
        self._rest_due = _NEVER if infos else self._now() + _REST_NS // 10
        end = self._processes.command_exit
        if not infos or not end:
            return False
        infos.sort(key=lambda info: (info.start_ns or 0, info.pid))
        named = ", ".join(f"{info.pid} {info.command if len(info.command) <= 60 else info.command[:57] + '...'}"
                          for info in infos[:_NAMED])
        if len(infos) > _NAMED:
            named += f" and {len(infos) - _NAMED} more"
        command, code = _printable(os.path.basename(self._command.words[0])), end.returncode
        if self._args.no_leftovers:
            self.left = f"left behind by {command}: {named}"
        elif _for_people(self._args) and not self._args.live:  # a live tree shows who is running
            ended = "has ended" if code is None else f"has ended with {code}" if code >= 0 else (
                f"was {_exit_text(end.exit_code)}")
            _complain(OSError(0, f"{command} {ended}; waiting for {len(infos)}: {named} "
                                 "(ctrl-C ends this, --no-follow avoids it)"))
        return bool(self.left)

    def _show(self, events: Iterable[Any]) -> None:
        found, hidden, processes, update = self._found, self._hidden, self._processes, self._processes.add
        on_events = [view.on_event for view in self._views]
        for event in events:
            if not found or event.pid not in found or not self._found_again(event):
                info = update(event)
                if not event.what & hidden:
                    for on_event in on_events:
                        on_event(event, info, processes)

    def _found_again(self, event: Any) -> bool:
        """Whether it is the Fork of a process that has been found already."""
        if event.what in (_FORK, _EXIT) and event.tid == event.pid:
            self._found.discard(event.pid)
            return bool(event.what == _FORK and event.cpu != _REBUILT)
        return False

def _watch_pids(args: Any, watcher: Watcher, processes: _Processes, mask: int,
                alone: bool) -> tuple[Iterable[Any] | None, int]:
    """Watch PIDs, or the machine. Returns the processes that are there, to be shown, or None if there is none of the
    PIDs; and the status: 1 if one of them is not there.

    alone: the names of the processes that are there are not needed.
    """
    if not args.pid:
        if _for_people(args) or (sys.stderr and sys.stderr.isatty()):
            _complain(OSError(0, "no PID and no COMMAND: watching every process on this machine"))
        watcher.watch(None, mask, follow=args.follow)
        if not alone:
            for event in _there(watcher, _pids(), execs=False):
                processes.add(event)
        return (), 0
    status = 0
    for pid in args.pid:
        try:
            watcher.watch(pid, mask, follow=args.follow)
        except OSError as error:
            _complain(error)
            status = 1
    if not watcher.pids:
        return None, 1
    pids = [*(pid for pid in args.pid if pid in watcher.pids), *watcher.pids]
    return _there(watcher, pids, paths=args.paths), status

def _watcher(args: Any) -> Watcher:
    """What listens, or where the kernel refuses that and a command is given, what traces it."""
    usage = bool(args.tree or args.stats or args.trace or args.html or args.json)  # these show it
    if args.ptrace:
        return Watcher(threads=args.threads, paths=args.paths, source="ptrace", usage=usage)
    try:
        return Watcher(threads=args.threads, paths=args.paths)
    except OSError as error:
        refused = error.errno in (errno.EPERM, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EPROTONOSUPPORT)
        if not (refused and args.command and args.ptrace is None) or args.events & ~(_LIFE | _NONZERO_EXIT):
            raise
        try:
            watcher = Watcher(threads=args.threads, paths=args.paths, source="ptrace", usage=usage)
        except OSError as another:
            raise OSError(error.errno, f"{error.strerror}. But {another.strerror}") from None
    if _for_people(args):
        _complain(OSError(0, "the kernel does not report process events here, so the command is traced: "
                          f"debuggers{',' if os.geteuid() else ' and'} LeakSanitizer{' and sudo' * bool(os.geteuid())} "
                          "fail in it (--no-ptrace avoids that)"))
    return watcher

def _watch_live(args: Any, views: list[_View], command: _Command) -> int:
    """Show what happens until it is over, or a signal ends it."""
    with _watcher(args) as watcher:
        exact, traced = watcher.source != "netlink", watcher.source == "ptrace"
        now, named = watcher._subscription.now, bool(args.pid or args.command)
        watcher._table.extra, watcher._delay = _PROCESS_END * args.threads, _GATHER if exact else 0.0
        # The kernel says all that a line of an Exec shows, so of all the machine no forks and exits are needed.
        alone = args.events == _EXEC and exact and not (
            named or args.tree or args.stats or args.trace or args.compile_commands or args.html or args.longer)
        with open("/proc/sys/kernel/random/boot_id") as file:
            processes = _Processes(os.uname().nodename, file.read().strip(), look=True, threads=args.threads,
                                   children=(args.follow or not named) and not alone)
        deadline, mask = watcher._deadline(args.duration), args.events | (0 if alone else _LIFE | _COMM)
        mask |= _UID if args.user_id else 0
        mask &= _LIFE | _NONZERO_EXIT if traced else mask
        invoker = os.environ.get("SUDO_USER", "root")
        if args.command and not args.user and invoker != "root" and os.geteuid() == 0 and _for_people(args):
            _complain(OSError(0, f"the command runs as root; -u {invoker} runs it as {invoker}"))
        there: Iterable[Any] | None = ()
        if args.command:
            failed = command.start(watcher, processes, mask, args.follow)
        else:
            there, failed = _watch_pids(args, watcher, processes, mask, alone)
        if there is None or (failed and args.command):
            return failed
        _begin(views)
        live = _Live(args, watcher, processes, views, command, (_COMM | _UID) & ~args.events)
        _enable_gc()
        try:
            command.watcher = watcher
            try:
                live.begin(there)
                live.run(deadline, ending=named, stoppable=True)
            except (KeyboardInterrupt, SystemExit):
                command.watcher, failed = None, int(args.no_leftovers)  # nobody knows who would have been left
                live.run(now())  # what has happened by now
                _end(views, now())
                if not command.process:
                    raise
            else:
                _end(views, now())
                if live.left:
                    _complain(OSError(0, live.left))
                    failed = 1
                if traced and watcher._source.over:
                    raise OSError(errno.ECONNRESET, _NO_HELPER)
        except OSError as error:
            if not command.process:
                raise
            failed = int(args.no_leftovers)
            if not isinstance(error, BrokenPipeError):
                _complain(error)
                failed = 1
        finally:
            command.watcher = None
            live.close()
            for view in views:
                view.close()
    # Whatever became of the views: the command goes on, and its status is ours.
    failed = failed or any(view.failed for view in views)
    return command.status() or failed if command.process else failed

def _enable_gc() -> None:
    """Collect garbage again, if this is the program: its first lines have switched that off."""
    if __name__ == "__main__":
        __import__("gc").enable()

def _begin(views: list[_View]) -> None:
    for view in views:
        if not view.begins_late:
            view.out.begin()

def _write(views: list[_View], *, check: bool = False) -> None:
    """Write what there is. check: also find out who has no reader any longer."""
    for out in {view.out for view in views}:
        with _leaving_out(views, out):
            out.flush()
            if check:
                out.check()

@contextlib.contextmanager
def _leaving_out(views: list[_View], out: _Out) -> Generator[None, None, None]:
    """If nobody reads this output any longer, go on without its views. BrokenPipeError if no other is left."""
    try:
        yield
    except BrokenPipeError:
        for view in [view for view in views if view.out is out]:
            view.close()
            views.remove(view)
        if not views:
            raise

def _end(views: list[_View], now: int) -> None:
    for view in [*views]:
        if view in views:  # else its output has been left out
            with _leaving_out(views, view.out):
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
                    with contextlib.suppress(BrokenPipeError), _named(sys.stdout):
                        print(pid, _exit_text(code << 8 if code >= 0 else -code), flush=True)
                if code != 0:
                    status = 1 if code is None else code if code > 0 else 128 - code
            woken = select.poll()
            for _, waiting in waitings:
                woken.register(waiting.fileno(), select.POLLIN)
            if waitings:
                woken.poll(min(waiting.rest() for _, waiting in waitings) * 1000)
    return status

_KINDS = [*(kind.__name__.upper() for kind in _EVENTS.values()), "NONZERO_EXIT"]

# What makes a value of an option's text. The text of an ArgumentTypeError is what the user reads.
def _as_pid(text: str) -> int:
    from argparse import ArgumentTypeError

    if text.isdecimal() and int(text):
        return int(text)
    if not text.strip("0123456789.,"):
        raise ArgumentTypeError(f"{text!r} is not a PID: that is a number from 1, and several are separate arguments")
    raise ArgumentTypeError(f"{text!r} follows a PID, where only PIDs can stand: put -- before a command that is a "
                            "number")

def _as_events(text: str) -> int:
    from argparse import ArgumentTypeError

    mask = 0
    for word in text.upper().split(","):
        if word.strip() not in (*_KINDS, "ALL"):
            raise ArgumentTypeError(
                f"no event {word.strip().lower()!r}; there are {', '.join(_KINDS).lower()}, all")
        mask |= What[word.strip()]
    return mask

def _as_user(text: str) -> str:
    import pwd
    from argparse import ArgumentTypeError

    try:
        return (pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)).pw_name
    except (KeyError, OverflowError):
        raise ArgumentTypeError(f"no user {text!r}") from None

def _as_user_id(text: str) -> int:
    import pwd

    return int(text) if text.isdecimal() else pwd.getpwnam(_as_user(text)).pw_uid

def _as_pattern(text: str) -> Any:
    import re
    from argparse import ArgumentTypeError

    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:  # the latter two: a{9999999999}, 999 parentheses
        raise ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None

def _as_seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number

def _empty_parser(groups: list[tuple[str, list[Any]]]) -> Any:
    """A parser without options, whose help shows those of `groups`: by title."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            if message.startswith("argument "):  # "argument -u/--user: ..."
                names, _, message = message.partition(" ")[2].partition(": ")
                message = message if names == "PID" else f"{names.partition('/')[0]}: {message}"
            message = message.replace("unrecognized arguments:", "there is no option")
            self.exit(2, _printable(f"{_PROG}: {message} (-h has help)") + "\n")

        def format_help(self) -> str:
            """Each option in one line where that can be: argparse takes two for most, and not the same everywhere."""
            lines = [_HELP]
            for title, actions in groups:
                lines.append(f"\n{title}:\n")
                for action in actions:
                    names = ", ".join(action.option_strings) + f" {action.metavar}" * bool(action.metavar)
                    for name, text in zip((names, "", ""), (action.help or "").split("\n")):
                        lines.append(f"  {name:22}  {text}\n")
            return "".join(lines)

    return Parser(prog=_PROG, usage="", add_help=False)  # else argparse formats one, to no use

def _parser() -> tuple[Any, dict[str, bool]]:
    """What parses the options, and which of them take a value. A wrong one ends the program with one line and 2."""
    groups: list[tuple[str, list[Any]]] = []
    parser = _empty_parser(groups)

    def group(title: str) -> None:
        groups.append((title, []))

    def add(*names: str, **options: Any) -> None:
        groups[-1][1].append(parser.add_argument(*names, **options))

    parser.add_argument("pid", nargs="*", type=_as_pid, metavar="PID")
    group("what to watch")
    add("-e", "--events", type=_as_events, action="append", metavar="KIND,...",
        help="fork, exec, exit, uid, gid, sid, ptrace, comm,\ncoredump, nonzero_exit, all (default: exec, exit, and\n"
             "a fork that no exec follows)")
    add("-t", "--threads", action="store_true", help="the start and end of every thread, too")
    add("--ptrace", action="store_true", default=None,
        help="trace COMMAND: in any container, exact for any user;\ndebuggers, LeakSanitizer, sudo fail in it")
    add("--no-ptrace", dest="ptrace", action="store_false",
        help="fail, and do not trace COMMAND, where the kernel does\nnot report process events")
    add("--no-follow", dest="follow", action="store_false", help="leave out the descendants")
    add("-d", "--duration", type=_as_seconds, metavar="SECONDS", help="stop reporting after so long")
    add("-u", "--user", type=_as_user, metavar="USER", help="run COMMAND as this user; takes root")
    add("--no-leftovers", action="store_true", help="fail if a process outlives COMMAND by a second")
    add("--wait", action="store_true", help="end with the status of PID, or of the last to fail")
    add("-v", "--verbose", action="store_true", help="with --wait: print how each process ends")
    add("--load", action="append", metavar="FILE", help="what -j has recorded (-: standard input), also .gz")
    group("what to show")
    add("--tree", action="store_true", help="at the end, the tree of processes, and when each ran")
    add("--live", action="store_true", help="on a terminal, draw it while COMMAND runs, too")
    add("--stats", action="store_true", help="at the end, starts, failures and costs by program")
    add("--sort", choices=("starts", "cpu", "time", "memory", "failed"), metavar="KEY",
        help="with --stats: starts, cpu, time, memory or failed")
    add("--why", action="store_true", help="at the end, only why COMMAND failed")
    add("--all", action="store_true", help="with --tree, --stats and --why: every row")
    add("-j", "--json", action="store_true", help="one JSON object a line")
    add("--paths", action="store_true", help="with -j: each exec's file and folder (--why has it)")
    add("--only", type=_as_pattern, action="append", metavar="PATTERN",
        help="only command lines with this regular expression")
    add("--user-id", type=_as_user_id, action="append", metavar="USER", help="only processes of this real user")
    add("--cgroup", type=_as_pattern, action="append", metavar="PATTERN",
        help="only if the control group has it: a container's")
    add("--longer", type=_as_seconds, action="append", metavar="SECONDS",
        help="only events of processes that have run for so long")
    group("where to write")
    add("-o", "--output", metavar="FILE", help="write there, not to stdout (with COMMAND: stderr)")
    add("--trace", metavar="FILE", help="a trace, for ui.perfetto.dev or speedscope")
    add("--html", metavar="FILE", help="a page for a browser: timeline, failures, statistics")
    add("--compile-commands", metavar="FILE", help="a compile_commands.json, for clangd and others")
    group("about cnproc")
    add("-h", "--help", action="help", help="this")
    add("-V", "--version", action="version", version=f"cnproc {__version__}", help="its version")
    return parser, {name: action.nargs is None for _, actions in groups for action in actions
                    for name in action.option_strings}

def _first_word(argv: list[str], takes_value: dict[str, bool]) -> tuple[int, str]:
    """Where the first word is that is no option and no option's value: argparse would take options behind it, too.
    And an option before it that there is not, or "".
    """
    at, unknown = 0, ""
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-", "--") and not unknown:
        option = argv[at]
        at += 1
        if option.startswith("--"):
            name, has_value, _ = option.partition("=")
            long = [name] if name in takes_value else [other for other in takes_value if other.startswith(name)]
            wants = not has_value and len(long) == 1 and takes_value[long[0]]
            unknown = "" if long else name
        else:
            first = next((i for i in range(1, len(option)) if takes_value.get("-" + option[i], True)), 0)
            last = "-" + option[first]
            wants = first == len(option) - 1 and last in takes_value
            unknown = last if first and last not in takes_value else ""
        at += wants and argv[at:at + 1] not in ([], ["--"])
    return at, unknown

def _instead(option: str, word: str, options: Iterable[str]) -> str:
    """What to write in place of an option that there is not. word: where it stands, as -x in -tx."""
    import difflib

    known = {"-p": "a PID stands alone", "-f": "descendants are followed anyway"}  # as strace has them
    near = difflib.get_close_matches(f"--{word.strip('-')}", options, 1, 0.7) if len(word) > 3 else []
    return f": {known[option]}" if option in known else f": is it {near[0]}?" if near else ""

def _check_files(args: Any, parser: Any) -> None:
    """Refuse a FILE that is none, is a forgotten command, or is named twice."""
    written = {"-o": args.output, "--trace": args.trace, "--html": args.html,
               "--compile-commands": args.compile_commands}
    for option, name in written.items():
        if name == "":
            parser.error(f"{option}: the name of the FILE is empty")
        if name and not (args.command or args.pid or args.load) and name.isidentifier():
            import shutil

            if shutil.which(name):
                parser.error(f"{option} takes a FILE, and {name} is a program: is it the command? Else write ./{name}")
    files = [name if name == "-" else os.path.realpath(name) for name in args.load or ()]
    files += [os.path.realpath(name) for name in written.values() if name and name != "-"]
    if len({*files}) < len(files):
        parser.error("--load, -o, --trace, --compile-commands and --html take different files")

def _arguments(argv: list[str]) -> Any:
    """The arguments, checked; what excludes what is a wrong option, too."""
    parser, takes_value = _parser()
    first, unknown = _first_word(argv, takes_value)
    if unknown:
        parser.error(f"there is no option {unknown}{_instead(unknown, argv[first - 1], takes_value)}")
    if argv[first:] and argv[first].strip("0123456789.,"):  # else a PID, or meant as one
        words = argv[first:]
        cut, command = first, words[1:] if words[0] == "--" else words
    else:
        cut = (*argv, "--").index("--", first)
        command = argv[cut + 1:]
    args = parser.parse_intermixed_args(argv[:cut])
    args.command = command
    if argv[cut:] == ["--"]:
        parser.error("there is no command behind --")
    view = args.tree or args.stats or args.why
    for one, other, what in (
        (args.command, args.pid, "a command and PIDs"),
        (args.load, args.command, "--load (which stands before each file) and a command"),
        (args.wait, args.command, "--wait and a command"),
        (args.wait, args.load or view or args.trace or args.compile_commands or args.html or args.json,
         "--wait and other output"),
        (args.no_leftovers, not args.follow, "--no-leftovers and --no-follow"),
        (args.load, not args.follow, "--load and --no-follow"),
        (args.load, args.duration is not None, "--load and -d"),
        (args.no_leftovers, args.duration is not None, "--no-leftovers and -d"),
    ):
        if one and other:
            parser.error(f"{what} cannot be combined")
    for option, given, needs in (
        ("--wait", not args.wait or args.pid, "a PID"), ("-v", not args.verbose or args.wait, "--wait"),
        ("-u", not args.user or args.command, "a command"), ("--ptrace", not args.ptrace or args.command, "a command"),
        ("--no-leftovers", not args.no_leftovers or args.command, "a command"),
        ("--why", not args.why or args.command or args.load, "a command or --load"),
        ("--live", not args.live or (args.tree and args.command), "--tree and a command"),
        ("--sort", not args.sort or args.stats, "--stats"),
        ("--all", not args.all or view, "--tree, --stats or --why"),
        ("--paths", not args.paths or view or args.json or args.html or args.compile_commands, "-j, --html or a view"),
    ):
        if not given:
            parser.error(f"{option} needs {needs}")
    _check_files(args, parser)
    if (args.trace or args.compile_commands) and args.longer:
        parser.error(f"--{'trace' if args.trace else 'compile-commands'} is written as things happen: --longer cannot "
                     "choose what is in it")
    args.paths |= args.why or bool(args.compile_commands)  # the folder is a part of the answer
    masks, args.events = args.events, 0
    for mask in masks or ():
        args.events |= mask
    if args.ptrace and args.events & ~(_LIFE | _NONZERO_EXIT):
        parser.error("--ptrace has fork, exec, exit and nonzero_exit only")
    return args

def _is_another(path: str, begins: bytes) -> bool:
    """Whether a file is a program, or does not begin as what is to be written there. Who forgets the FILE of an option
    names such a one.
    """
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                head = file.read(len(begins) or 2)
            program = os.access(path, os.X_OK) and head[:2] in (b"#!", b"\x7fE")
            return program or bool(begins and not begins.startswith(head))
    except OSError:
        pass
    return False

def _views(args: Any, stack: contextlib.ExitStack) -> list[_View]:
    """The views that are asked for, each with its file."""
    standard: Any = sys.stderr if args.command else sys.stdout
    if standard is None and not args.output:
        raise OSError(errno.EBADF, f"standard {'error' if args.command else 'output'} is closed")

    def create(path: str, begins: bytes = b"") -> _Out:
        if path == "-":
            if not sys.stdout:
                raise OSError(errno.EBADF, "standard output is closed")
            return _Out(sys.stdout)
        made: list[str] = []

        def opener(path: str, flags: int) -> int:
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, flags | os.O_EXCL, 0o666)
                made.append(path)
                return fd
            return os.open(path, flags & ~os.O_TRUNC, 0o666)

        if _is_another(path, begins):
            raise OSError(errno.EEXIST, "this is something else, and would be overwritten: the FILE to write stands "
                          "before the command", path)
        file = open(path, "w", encoding="utf-8", errors="backslashreplace", opener=opener)  # noqa: SIM115
        out = _Out(file)
        out.begun = False

        @stack.callback
        def close() -> None:
            with contextlib.suppress(OSError):  # of what could not be written, which flush() has said
                file.close()
            for path in made if not out.begun else ():
                with contextlib.suppress(FileNotFoundError):  # somebody else has removed it
                    os.unlink(path)

        return out

    if isinstance(standard, io.TextIOWrapper):
        standard.reconfigure(errors="backslashreplace")
    given = create(args.output) if args.output else None
    summary = _Out(standard) if args.json and standard else given or _Out(standard)  # -o has the lines, if any
    if args.live and not summary.tty:
        raise OSError(errno.ENOTTY, "--live takes a terminal: leave it out, and the tree is drawn at the end")
    views: list[_View] = []
    if args.json:
        views.append(_Json(given or _Out(standard), args))
    if args.trace:
        views.append(_Trace(create(args.trace, b"["), args))
    if args.html:
        views.append(_Page(create(args.html, b"<!doctype html>"), args))
    if args.tree:
        views.append(_Tree(summary, args))
    if args.stats:
        views.append(_Stats(summary, args))
    if args.why:
        views.append(_Why(summary, args))
    if args.compile_commands:
        views.append(_CompileCommands(create(args.compile_commands, b"["), args))
    return views or [_Lines(summary, args)]

def _for_people(args: Any) -> bool:
    """Whether no program reads what is written to standard error."""
    return not args.json or bool(args.output)

def _complain(error: OSError) -> None:
    with contextlib.suppress(OSError):  # of a standard error that nobody reads
        if not sys.stderr:  # print() would take standard output
            return
        name = f"{error.filename}: " if error.filename else ""
        print(_printable(f"{_PROG}: {name}{error.strerror or error}"), file=sys.stderr)

def main(argv: list[str] | None = None) -> int:
    """The command: `python3 cnproc.py`. argv: its arguments, without its name; by default those of sys.argv.
    Returns the exit status. While it runs it handles SIGTERM, SIGHUP and SIGINT, unless they are ignored: it
    unsubscribes before it ends.
    """
    status = _main(sys.argv[1:] if argv is None else argv)
    for stream in sys.stdout, sys.stderr:
        try:
            if stream:
                with _named(stream):
                    stream.flush()
        except OSError as error:  # the interpreter tries once more at its end, and would complain
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
            if not (status or isinstance(error, BrokenPipeError)):
                _complain(error)
                status = 1
    return status

def _main(argv: list[str]) -> int:
    import signal

    handlers: dict[int, Any] = {}
    try:
        args = _arguments(argv)
        command = _Command(args.command, args.user)
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
                if "-" in (args.load or ()) and not sys.stdin:
                    raise OSError(errno.EBADF, "standard input is closed")
                # What is read is opened before what is written, so that a mistake destroys nothing.
                files = [stack.enter_context(open(0 if path == "-" else path, "rb", closefd=path != "-"))
                         for path in args.load or ()]
                views = _views(args, stack)
            except OSError as error:
                _complain(error)
                return 2
            command.outs = {view.out for view in views}
            return _load(args, views, files) if files else _watch_live(args, views, command)
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

globals().pop("__annotations__", None)  # of private names: help() would show them

if __name__ == "__main__":
    os._exit(main())  # main() has closed and flushed all; the interpreter would take 5 ms more to clean up
