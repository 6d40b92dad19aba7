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
import sys
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
    """The address of a netlink socket: netlink(7)."""
    _fields_ = [
        ("nl_family", u16),    # __kernel_sa_family_t nl_family
        ("nl_pad", u16),       # unsigned short nl_pad
        ("nl_pid", u32),       # __u32 nl_pid: the sender's port, 0 for the kernel
        ("nl_groups", u32),    # __u32 nl_groups
    ]

class nlmsghdr(ctypes.Structure):
    """What every netlink message begins with."""
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
    """What every message of the connector begins with, after nlmsghdr."""
    _fields_ = [
        ("idx", u32),          # struct cb_id id { __u32 idx;
        ("val", u32),          #                   __u32 val; }
        ("seq", u32),          # __u32 seq
        ("ack", u32),          # __u32 ack: in an answer, that of the request plus 1
        ("len", u16),          # __u16 len: of what follows
        ("flags", u16),        # __u16 flags
    ]

class request(ctypes.Structure):
    """What is sent to begin or end a subscription: three structs in a row."""
    _fields_ = [("nl", nlmsghdr), ("cn", cn_msg), ("op", u32)]  # op: enum proc_cn_mcast_op

# linux/uio.h, linux/socket.h: recvmmsg(2) takes in many datagrams at a call
class iovec(ctypes.Structure):
    """A piece of memory: readv(2)."""
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]

class user_msghdr(ctypes.Structure):
    """struct msghdr as recvmsg(2) has it."""
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
    """One datagram of recvmmsg(2)."""
    _fields_ = [("msg_hdr", user_msghdr), ("msg_len", ctypes.c_uint)]  # msg_len: as received

# asm-generic/socket.h, linux/sock_diag.h (SO_MEMINFO gives a u32[9]), linux/proc_ns.h, linux/sched.h
SO_RCVBUFFORCE, SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_MEMINFO = 33, 26, 50, 55
SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_DROPS, SK_MEMINFO_VARS = 0, 8, 9
PROC_PID_INIT_INO, PROC_USER_INIT_INO = 0xEFFFFFFC, 0xEFFFFFFD
PR_SET_NAME, PR_GET_NAME, SIGCHLD = 15, 16, 17  # linux/prctl.h, asm-generic/signal.h
PF_FORKNOEXEC, PF_KTHREAD = 0x40, 0x200000  # /proc/PID/stat's flags: no exec since its fork; of the kernel

@functools.lru_cache(maxsize=None)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

# -------------------------------------------------------------------------------------------------- events

class What(enum.IntFlag):
    """Kinds of events: the kernel's PROC_EVENT_* without the prefix (linux/cn_proc.h), to be combined with |.

    LIFE is FORK, EXEC and EXIT, the default everywhere; ALL is every kind. NONZERO_EXIT asks for the exits with a
    status other than 0; it never stands in an event's `what`.
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
        """Whether this event is not the kernel's, but was put together from /proc, the kernel having lost it."""
        return bool(self.cpu == REBUILT)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in _fields(type(self)))
        return f"{type(self).__name__}({values})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

@functools.lru_cache(maxsize=None)
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
        """The name as os.fsdecode has it; the kernel keeps 15 bytes, and may cut a letter."""
        return os.fsdecode(self._comm_)

    @comm.setter
    def comm(self, name: str) -> None:
        """Set it: Comm(comm=...) does so."""
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
    """The kernel dropped `count` messages here, its buffer being full; None if it cannot be known how many.

    timestamp_ns is CLOCK_MONOTONIC, in nanoseconds, as in events: when it was noticed.
    """
    __slots__ = ()
    what = What.NONE

FORK, EXEC, COMM, EXIT, NONZERO_EXIT, LIFE = map(int, (
    What.FORK, What.EXEC, What.COMM, What.EXIT, What.NONZERO_EXIT, What.LIFE))
_EVENTS: dict[int, type[ProcEvent]] = {
    int(What[kind.__name__.upper()]): kind for kind in (Fork, Exec, Uid, Gid, Sid, Ptrace, Comm, Coredump, Exit)}

_COPIES = {what: kind.from_buffer_copy for what, kind in _EVENTS.items()}

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
    """An instruction of classic BPF."""
    _fields_ = [
        ("code", u16),         # __u16 code
        ("jt", u8),            # __u8 jt: instructions to skip if true
        ("jf", u8),            # __u8 jf: instructions to skip if false
        ("k", u32),            # __u32 k
    ]

class sock_fprog(ctypes.Structure):
    """A program of classic BPF: SO_ATTACH_FILTER in socket(7)."""
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(sock_filter))]

# Where a filter finds a field: from the datagram's start. For all kinds but FORK the thread's and the process's
# ids are the first two; a FORK has its parent's there.
_WHAT, _STAMP, _TGID, _CHILD_TID, _CHILD_TGID = (_PROC_EVENT + at for at in (0, 8, 20, 24, 28))

# What the headers of every event say: the offsets and values of their 32-bit words, but seq, pid and ack.
_WORDS = memoryview(bytes(nlmsghdr(_SIZE, NLMSG_DONE)) + bytes(
    cn_msg(CN_IDX_PROC, CN_VAL_PROC, len=_SIZE - _PROC_EVENT))).cast("I")
_HEADERS = tuple((4 * i, _WORDS[i]) for i in (0, 1, 4, 5, 8))

def _classic_filter(kinds: int, pids: Iterable[int] | None = None, births: bool = False) -> list[tuple[int, ...]]:
    """The sieve in classic BPF: acks pass, datagrams of another length, this process's own COMM, and `kinds`.

    pids: those of these processes alone (None: of all); births: with those of their children. Constants are
    swapped, since BPF_LD reads big-endian.
    """
    keep, drop = (BPF_RET, 0, 0, 0xFFFFFFFF), (BPF_RET, 0, 0, 0)

    def load(offset: int) -> tuple[int, ...]:
        """The word of the datagram that is there."""
        return BPF_LD | BPF_W | BPF_ABS, 0, 0, offset

    def jump(test: int, value: int, true: int, false: int) -> tuple[int, ...]:
        """Compare the word with a constant, and skip so many instructions."""
        return BPF_JMP | test, true, false, socket.htonl(value)

    program = [
        (BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
        (BPF_JMP | BPF_JEQ, 1, 0, _SIZE), keep,
        *(part for offset, number in _HEADERS for part in (load(offset), jump(BPF_JEQ, number, 1, 0), drop)),
        load(_WHAT),
        jump(BPF_JEQ, 0, 0, 1), keep,
        jump(BPF_JEQ, COMM, 0, 3), load(_TGID), jump(BPF_JEQ, os.getpid(), 0, 1), keep,
        load(_WHAT),
        jump(BPF_JSET, kinds, 1, 0), drop,
    ]
    if pids is None:
        return [*program, keep]
    program += [
        jump(BPF_JEQ, FORK, 0, 5),
        load(_CHILD_TID), (BPF_MISC | BPF_TAX, 0, 0, 0), load(_CHILD_TGID),
        (BPF_JMP | BPF_JEQ | BPF_X, 0, 2, 0),  # not equal: a thread of the process that is loaded now
        load(_TGID) if births else drop,
        load(_TGID),
    ]
    for pid in pids:
        program += [jump(BPF_JEQ, pid, 0, 1), keep]
    return [*program, drop]

# linux/bpf.h: the commands and structs of bpf(2), and what a program is made of
BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_PROG_LOAD = 0, 1, 2, 3, 5
BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_RINGBUF, BPF_PROG_TYPE_SOCKET_FILTER = 1, 2, 27, 1
BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE = 1, 2
BPF_FUNC_map_lookup_elem, BPF_FUNC_map_update_elem, BPF_FUNC_skb_load_bytes = 1, 2, 26
BPF_FUNC_probe_read_kernel, BPF_FUNC_ringbuf_output = 113, 130
BPF_LDX, BPF_STX, BPF_ALU64, BPF_IMM, BPF_MEM, BPF_DW = 0x01, 0x03, 0x07, 0x00, 0x60, 0x18
BPF_ADD, BPF_OR, BPF_MOV, BPF_K, BPF_JNE, BPF_CALL, BPF_EXIT = 0x00, 0x40, 0xB0, 0x00, 0x50, 0x80, 0x90
R0, R1, R2, R3, R4, R6, R7, R8, R9, R10 = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10  # R10: the end of the stack
SKB_LEN = 0  # offsetof(struct __sk_buff, len)
# asm/unistd.h: libc has no function for bpf(2)
NR_BPF = {"x86_64": 321, "i386": 357, "i686": 357, "armv6l": 386, "armv7l": 386, "aarch64": 280, "riscv64": 280,
          "loongarch64": 280, "ppc64": 361, "ppc64le": 361, "s390x": 351}

class bpf_insn(ctypes.Structure):
    """An instruction of eBPF."""
    _fields_ = [
        ("code", u8),             # __u8 code
        ("dst_reg", u8, 4),       # __u8 dst_reg:4
        ("src_reg", u8, 4),       # __u8 src_reg:4
        ("off", ctypes.c_int16),  # __s16 off
        ("imm", s32),             # __s32 imm
    ]

class bpf_map_create(ctypes.Structure):
    """Of union bpf_attr, what BPF_MAP_CREATE takes: bpf(2)."""
    _fields_ = [("map_type", u32), ("key_size", u32), ("value_size", u32), ("max_entries", u32), ("map_flags", u32)]

class bpf_map_elem(ctypes.Structure):
    """What BPF_MAP_*_ELEM take; the pointers are __aligned_u64."""
    _fields_ = [("map_fd", u32), ("pad", u32), ("key", u64), ("value", u64), ("flags", u64)]

class bpf_prog_load(ctypes.Structure):
    """What BPF_PROG_LOAD takes."""
    _fields_ = [("prog_type", u32), ("insn_cnt", u32), ("insns", u64), ("license", u64), ("log_level", u32),
                ("log_size", u32), ("log_buf", u64), ("kern_version", u32), ("prog_flags", u32)]

def _bpf(command: int, attribute: ctypes.Structure) -> int:
    """bpf(2)"""
    machine = os.uname().machine
    if ctypes.sizeof(ctypes.c_void_p) == 4:  # of a 32-bit Python on a 64-bit kernel
        machine = {"x86_64": "i386", "aarch64": "armv7l"}.get(machine, machine)
    number = ctypes.c_long(NR_BPF.get(machine, -1))  # -1: ENOSYS
    result = _libc().syscall(number, command, ctypes.byref(attribute), ctypes.sizeof(attribute))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)

# An eBPF program is a listing of labels and lists of instructions: code, dst, src, off or the label to jump to, imm.
# The filters below find the datagram on their stack, and `what` in R7.
DATAGRAM, KEY, VALUE = -80, -84, -104

def _mov(to: int, source: int) -> list[Any]:
    return [(BPF_ALU64 | BPF_MOV | BPF_X, to, source, 0, 0)]

def _imm(to: int, number: int, operation: int = BPF_MOV) -> list[Any]:
    return [(BPF_ALU64 | operation | BPF_K, to, 0, 0, number)]

def _stack(to: int, offset: int) -> list[Any]:
    return _mov(to, R10) + _imm(to, offset, BPF_ADD)

def _ldx(to: int, base: int, offset: int) -> list[Any]:
    return [(BPF_LDX | BPF_MEM | BPF_W, to, base, offset, 0)]

def _stx(base: int, offset: int, source: int) -> list[Any]:
    return [(BPF_STX | BPF_MEM | BPF_W, base, source, offset, 0)]

def _map(to: int, fd: int, kind: int = BPF_PSEUDO_MAP_FD) -> list[Any]:
    return [(BPF_LD | BPF_DW | BPF_IMM, to, kind, 0, fd), (0, 0, 0, 0, 0)]  # a 64-bit constant takes two

def _call(function: int) -> list[Any]:
    return [(BPF_JMP | BPF_CALL, 0, 0, 0, function)]

def _jmp(test: int, left: int, right: int, label: str) -> list[Any]:  # test | BPF_X: right is a register
    if test & BPF_X:
        return [(BPF_JMP | test, left, right, label, 0)]
    return [(BPF_JMP | test, left, 0, label, right)]

def _ret(result: int) -> list[Any]:
    return [*_imm(R0, result), (BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]

def _socket_filter(listing: list[Any]) -> int:
    """Load an eBPF socket filter; its file descriptor. Raises OSError.

    Acks and datagrams of another length pass before the listing begins; what has other headers is dropped.
    """
    code: list[Any] = []
    labels: dict[str, int] = {}
    for part in [
        _mov(R6, R1),  # struct __sk_buff *
        _ldx(R1, R6, SKB_LEN), _jmp(BPF_JNE, R1, _SIZE, "keep"),
        _mov(R1, R6), _imm(R2, 0), _stack(R3, DATAGRAM), _imm(R4, _SIZE),
        _call(BPF_FUNC_skb_load_bytes), _jmp(BPF_JNE, R0, 0, "keep"),
        *(_ldx(R1, R10, DATAGRAM + at) + _jmp(BPF_JNE, R1, word, "drop") for at, word in _HEADERS),
        _ldx(R7, R10, DATAGRAM + _WHAT), _jmp(BPF_JEQ, R7, 0, "keep"),
        *listing,
        "drop", _ret(0),
        "keep", _ret(-1),
    ]:
        if isinstance(part, str):
            labels[part] = len(code)
        else:
            code += part
    program = (bpf_insn * len(code))(*(
        bpf_insn(op, to, source, labels[off] - at - 1 if isinstance(off, str) else off, number)
        for at, (op, to, source, off, number) in enumerate(code)))
    words = ctypes.create_string_buffer(b"Dual MIT/GPL")  # probe_read_kernel is for those under the GPL
    return _bpf(BPF_PROG_LOAD, bpf_prog_load(
        BPF_PROG_TYPE_SOCKET_FILTER, len(code), ctypes.addressof(program), ctypes.addressof(words)))

class sieve_entry(ctypes.Structure):
    """What our program keeps of a process."""
    _fields_ = [("passing", u32), ("inherited", u32), ("since", u64)]  # kinds of its events, of its children's; ns

class _Map:
    """The sieve in eBPF: whose events pass is in a hash map, to which the kernel itself adds the children.

    For each process the map holds the kinds that pass, the kinds that will pass of its children, and since when it is
    there. When a FORK goes by, the filter itself makes the child's entry out of its parent's, before the child runs.
    Everything passes while the gate is open; a filter that finds the map full opens it.
    """

    LEAST = 512  # entries that it has room for: within the 64 KiB that Linux 5.10 lets be locked

    def __init__(self, size: int) -> None:
        self.size = size
        self._fds: list[int] = []
        try:
            for kind, value, room in (BPF_MAP_TYPE_HASH, ctypes.sizeof(sieve_entry), size), (BPF_MAP_TYPE_ARRAY, 4, 1):
                self._fds.append(_bpf(BPF_MAP_CREATE, bpf_map_create(kind, 4, value, room)))
            self.open = True
            self.program = _socket_filter(self._listing(*self._fds))
        except BaseException:
            self.close()
            raise

    def set(self, pid: int, passing: int, inherited: int, since: int = 0) -> None:
        """Let these kinds pass of a process. Raises OSError: E2BIG if the map is full."""
        self._do(BPF_MAP_UPDATE_ELEM, pid, sieve_entry(passing, inherited, since))

    def get(self, pid: int) -> sieve_entry:
        """What the map says of a process. Raises OSError: ENOENT if nothing."""
        entry = sieve_entry()
        self._do(BPF_MAP_LOOKUP_ELEM, pid, entry)
        return entry

    def drop(self, pid: int, until: int) -> None:
        """Forget a process that has been there since then or longer, and not a later one with its pid."""
        try:
            if self.get(pid).since <= until:
                self._do(BPF_MAP_DELETE_ELEM, pid)
        except FileNotFoundError:
            pass

    @property
    def open(self) -> bool:
        """Whether everything passes."""
        value = u32()
        self._do(BPF_MAP_LOOKUP_ELEM, 0, value, 1)
        return bool(value)

    @open.setter
    def open(self, value: bool) -> None:
        """Let everything pass, or only what is in the map."""
        self._do(BPF_MAP_UPDATE_ELEM, 0, u32(value), 1)

    def _do(self, command: int, pid: int, value: Any = None, which: int = 0) -> None:
        key = u32(pid)
        at = ctypes.addressof(value) if value is not None else 0
        _bpf(command, bpf_map_elem(self._fds[which], 0, ctypes.addressof(key), at))

    def close(self) -> None:
        """Let go of the maps; a program that is attached keeps what it needs."""
        fds, self._fds = self._fds, [-1, -1]  # another thread that still asks gets EBADF
        for fd in fds:
            os.close(fd)

    @staticmethod
    def _listing(entries: int, gate: int) -> list[Any]:
        tgid, child_tid, child_tgid = DATAGRAM + _TGID, DATAGRAM + _CHILD_TID, DATAGRAM + _CHILD_TGID
        return [
            _map(R8, gate, BPF_PSEUDO_MAP_VALUE),
            _stack(R2, tgid), _mov(R9, R7),  # whose entry is to be found (of a birth, the parent's), and what for
            _jmp(BPF_JNE, R7, FORK, "find"),
            _ldx(R1, R10, child_tid), _ldx(R3, R10, child_tgid), _jmp(BPF_JEQ | BPF_X, R1, R3, "find"),
            _stack(R2, child_tgid), _imm(R9, EXIT),  # a thread's birth passes where its end does
            "find",
            _map(R1, entries), _call(BPF_FUNC_map_lookup_elem), _jmp(BPF_JEQ, R0, 0, "ask"),
            _ldx(R1, R0, 4), _jmp(BPF_JNE, R9, FORK, "test"), _jmp(BPF_JEQ, R1, 0, "test"),
            _stx(R10, VALUE, R1), _stx(R10, VALUE + 4, R1),
            _ldx(R1, R10, DATAGRAM + _STAMP), _stx(R10, VALUE + 8, R1),
            _ldx(R1, R10, DATAGRAM + _STAMP + 4), _stx(R10, VALUE + 12, R1),
            _map(R1, entries), _stack(R2, child_tgid), _stack(R3, VALUE), _imm(R4, 0),
            _call(BPF_FUNC_map_update_elem), _jmp(BPF_JEQ, R0, 0, "keep"),
            _imm(R1, 1), _stx(R8, 0, R1), _jmp(BPF_JA, 0, 0, "keep"),
            "test",
            _ldx(R1, R0, 0), _jmp(BPF_JSET | BPF_X, R1, R9, "keep"),
            "ask",
            _ldx(R1, R8, 0), _jmp(BPF_JNE, R1, 0, "keep"),
        ]

# linux/bpf.h, Documentation/bpf/ringbuf.rst: how a ring buffer lies in memory
class bpf_ringbuf_record(ctypes.Structure):
    """An event in a ring buffer: struct bpf_ringbuf_hdr, and what our program writes."""
    _fields_ = [
        ("len", u32),      # __u32 len: of what follows pg_off, with BPF_RINGBUF_BUSY_BIT while it is being written
        ("pg_off", u32),   # __u32 pg_off
        ("pid", u32),      # this and all below as our program writes it: whose event it is; of a birth, the child's
        ("pad", u32),
        ("event", Exit),   # struct proc_event, of which Exit is the longest
    ]

_OTHER = 1 << 31  # set in a record's pid if the event is no birth, exec or end of a whole process
_RECORD = ctypes.sizeof(bpf_ringbuf_record)
_STRIDE = _RECORD // 4
_LENGTH = _RECORD - bpf_ringbuf_record.pid.offset
# net/netlink/af_netlink.h: NETLINK_CB(skb).portid, the sender's, is 12 bytes into sk_buff.cb, which five longs
# precede. No header tells a program so: _Connector.share() tries whether it is.
NETLINK_CB_PORTID = 5 * 8 + 12

class _Ring:
    """All processes' events in memory shared with the kernel: an eBPF socket filter puts them there.

    They then take no system call, and pass through a quarter of the memory that datagrams do. What finds the ring
    full, and all after it, goes on to the socket, as do acks and what the kernel did not send: all in the ring is
    older than all such events in the socket.
    """

    # Of what was taken last, what, pid and timestamp_ns of each; None if any is _OTHER.
    news: tuple[list[int], list[int], list[int]] | None = None

    def __init__(self, size: int, kinds: int) -> None:
        self._size, self._taken, self.kinds = size, 0, kinds
        full = -1
        self.fd = _bpf(BPF_MAP_CREATE, bpf_map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, size))
        try:
            shared = mmap.mmap(self.fd, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
            self._consumer_pos = u64.from_buffer(mmap.mmap(self.fd, mmap.PAGESIZE))
            self._producer_pos = memoryview(shared)[:8].cast("Q")
            self._data = memoryview(shared)[mmap.PAGESIZE:]  # twice, so that no record is cut at the end
            self._words, self._longs = self._data.cast("I"), self._data.cast("Q")
            full = _bpf(BPF_MAP_CREATE, bpf_map_create(BPF_MAP_TYPE_ARRAY, 4, 4, 1))
            record = DATAGRAM + _PROC_EVENT - 8  # over what of the headers is done with
            self.program = _socket_filter([
                _ldx(R2, R10, DATAGRAM + _TGID),
                _jmp(BPF_JSET, R7, kinds, "wanted"),
                _jmp(BPF_JNE, R7, COMM, "drop"), _jmp(BPF_JNE, R2, os.getpid(), "drop"),
                "wanted",
                _stack(R1, KEY), _imm(R2, 4), _mov(R3, R6), _imm(R3, NETLINK_CB_PORTID, BPF_ADD),
                _call(BPF_FUNC_probe_read_kernel), _jmp(BPF_JNE, R0, 0, "keep"),
                _ldx(R1, R10, KEY), _jmp(BPF_JNE, R1, 0, "keep"),
                _map(R8, full, BPF_PSEUDO_MAP_VALUE), _ldx(R1, R8, 0), _jmp(BPF_JNE, R1, 0, "keep"),
                _ldx(R1, R10, DATAGRAM + _TGID - 4), _ldx(R2, R10, DATAGRAM + _TGID), _jmp(BPF_JNE, R7, FORK, "whose"),
                _ldx(R1, R10, DATAGRAM + _CHILD_TID), _ldx(R2, R10, DATAGRAM + _CHILD_TGID),
                "whose",
                _jmp(BPF_JNE | BPF_X, R1, R2, "other"), _jmp(BPF_JSET, R7, LIFE, "put"),
                "other",
                _imm(R2, _OTHER, BPF_OR),
                "put",
                _stx(R10, record, R2),
                _map(R1, self.fd), _stack(R2, record), _imm(R3, _LENGTH), _imm(R4, 0),
                _call(BPF_FUNC_ringbuf_output), _jmp(BPF_JEQ, R0, 0, "drop"),
                _imm(R1, 1), _stx(R8, 0, R1), _jmp(BPF_JA, 0, 0, "keep"),
            ])
        except BaseException:
            os.close(self.fd)
            raise
        finally:
            if full >= 0:
                os.close(full)

    @property
    def busy(self) -> bool:
        """Whether there is anything in it, though it may yet be written."""
        return self._producer_pos[0] != self._taken

    def take(self, most: int = 1 << 30) -> list[ProcEvent | Lost]:
        """The oldest events, at most so many."""
        self.news = None
        count = min(most, (self._producer_pos[0] - self._taken) // _RECORD)
        if not count:
            return []
        start = self._taken % self._size
        first, words, data = start // 4, self._words, self._data
        lengths = words[first:first + count * _STRIDE:_STRIDE].tolist()
        if lengths.count(_LENGTH) < count:  # another processor is about to write one
            count = next(i for i, length in enumerate(lengths) if length != _LENGTH)
            if not count:
                return []
        last = first + count * _STRIDE
        # A number of a column costs 10 ns, a field of an event 30 to 40.
        whats, pids = words[first + 4:last:_STRIDE].tolist(), words[first + 2:last:_STRIDE].tolist()
        if max(pids) < _OTHER:
            self.news = whats, pids, self._longs[start // 8 + 3:last // 2:_STRIDE // 2].tolist()
        events: list[ProcEvent | Lost] = [
            _COPIES[what](data, at) for what, at in zip(whats, range(start + 16, 4 * last, _RECORD))]
        self._taken += count * _RECORD
        self._consumer_pos.value = self._taken
        return events

    def close(self) -> None:
        """Let go of the descriptor; the memory goes with this object."""
        os.close(self.fd)

# ----------------------------------------------------------------------------------------------- connector

_SLOTS = 64  # datagrams at a call: 0.84 us each; 16 at a call cost 1.0, 256 no less than 64
_SLOT = 4 + 4 * 76 + 12  # bytes for each, with room for four messages: the kernel sends one, and near is fast

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

class _Connector:
    """A subscription to the process connector: the socket, its filter, and the memory that they are read from."""

    sock: socket.socket
    _counted = False  # whether the kernel counts us among its listeners
    map: _Map | None = None  # of the eBPF filter, if that is what there is
    ring: _Ring | None = None  # that there is, or was: it may still hold something
    sharing: _Ring | None = None  # the ring that the filter fills
    queued = True  # whether the socket may hold something; if not, the next receive() looks into the ring alone
    ready = True  # whether something may be queued
    skew = 0  # by how much this process's CLOCK_MONOTONIC is ahead of the kernel's: in a time namespace

    def __init__(self, rcvbuf: int) -> None:
        self._buffer = bytearray(_SLOTS * _SLOT)
        self._messages = (mmsghdr * _SLOTS)()
        self._senders = (sockaddr_nl * _SLOTS)()
        self._slots = []
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        for i, message in enumerate(self._messages):
            start = i * _SLOT + 4  # so that proc_event, 36 bytes further, lies at a multiple of 8
            vector = iovec(address + start, _SLOT - 4)
            message.msg_hdr = user_msghdr(ctypes.addressof(self._senders[i]), ctypes.sizeof(sockaddr_nl),
                                          ctypes.pointer(vector), 1)
            message.msg_len, self._senders[i].nl_family, self._senders[i].nl_groups = _SIZE, AF_NETLINK, CN_IDX_PROC
            self._slots.append((ProcEvent.from_buffer(self._buffer, start + _PROC_EVENT), start + _PROC_EVENT))
        # As they are when each holds one event of the kernel's: then one comparison is enough for all.
        self._usual = [(memoryview(array).cast("B"), bytes(array), ctypes.sizeof(array) // _SLOTS)
                       for array in (self._messages, self._senders)]
        self._rcvbuf = rcvbuf

    def open(self) -> None:
        """Subscribe. Raises OSError, with the cause and the remedy in its text."""
        try:
            deadline = time.monotonic() + 1
            patience = 200
            while not self._subscribe(patience):
                # An ordinary user can have run the kernel's count of listeners below zero: it answers none then.
                # Those closed here make up for what was taken.
                self.sock.close()
                patience = 0
                if time.monotonic() > deadline or _foreign():
                    raise OSError(0, "")
        except OSError as error:
            raise _refusal(error.errno or 0) from None

    def _subscribe(self, patience: int) -> bool:
        """Open a socket and LISTEN; whether the kernel acknowledges it, which it does before send() returns."""
        if not hasattr(socket, "AF_NETLINK"):
            raise OSError(errno.EAFNOSUPPORT, "")
        self.sock = socket.socket(AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
        self._counted = False
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
            self._ask(PROC_CN_MCAST_LISTEN, token)
            answer = select.poll()
            answer.register(self.sock, select.POLLIN)
            while answer.poll(patience):
                data, (sender, _) = self.sock.recvfrom(_SLOT)
                if sender or len(data) != _SIZE:
                    continue
                cn, ack = cn_msg.from_buffer_copy(data, _CN_MSG), _Ack.from_buffer_copy(data, _PROC_EVENT)
                if not ack.what and cn.ack == (token + 1) & 0xFFFFFFFF:
                    if not before <= ack.timestamp_ns <= time.monotonic_ns():
                        self.skew = time.monotonic_ns() - ack.timestamp_ns
                    if ack.err:
                        raise OSError(ack.err, "")
                    return True
            return False
        except BaseException:
            self.ignore()
            self.sock.close()
            raise

    def ignore(self) -> None:
        """Take back the LISTEN, if there was one."""
        try:
            if self._counted:
                self._ask(PROC_CN_MCAST_IGNORE)
        except OSError:
            pass  # nobody is left to be told

    def renew(self, again: bool) -> None:
        """Have the kernel count us again, where the count has been run down.

        One LISTEN of our own socket is enough if it was ours that somebody took back; if the count is lower still, each
        LISTEN of another socket raises it by one (again): Linux 6.6 and newer counts one for each.
        """
        if not again:
            self._ask(PROC_CN_MCAST_LISTEN)
            return
        with socket.socket(AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR) as sock:
            sock.bind((0, CN_IDX_PROC))
            sock.send(self._request(PROC_CN_MCAST_LISTEN))

    def _ask(self, op: int, token: int = 0) -> None:
        message = self._request(op, token)
        self._counted = op == PROC_CN_MCAST_LISTEN  # and no call between, in which a ctrl-C could come
        self.sock.send(message)

    @staticmethod
    def _request(op: int, token: int = 0) -> request:
        """What asks the kernel to LISTEN or IGNORE; its ack carries token + 1."""
        size = ctypes.sizeof(request)
        return request(nlmsghdr(nlmsg_len=size, nlmsg_type=NLMSG_DONE),
                       cn_msg(idx=CN_IDX_PROC, val=CN_VAL_PROC, ack=token, len=size - _PROC_EVENT), op)

    def attach(self, program: list[tuple[int, ...]] | _Map | _Ring) -> None:
        """Put a filter before the socket in place of the one that is there; nothing is lost by it."""
        if isinstance(program, list):
            code = (sock_filter * len(program))(*(sock_filter(*instruction) for instruction in program))
            self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(sock_fprog(len(program), code)))
        else:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, program.program)
            finally:
                os.close(program.program)
        old, self.map = self.map, program if isinstance(program, _Map) else None
        self.sharing = program if isinstance(program, _Ring) else None
        if old:
            old.close()

    def share(self, kinds: int) -> _Ring | None:
        """Have these kinds of events of all processes in a ring, if that can be.

        To be called when nothing has passed the filter yet: what is in the ring counts as older. The processors are
        those that keep loads in order, as reading what another one writes takes.
        """
        size = 1 << (self._rcvbuf >> 5).bit_length() >> 1
        if self.ring or size < 1 << 16 or os.uname().machine not in ("x86_64", "s390x") or sys.maxsize < 1 << 32:
            return None
        try:
            self.ring = _Ring(size, kinds)
            self.attach(self.ring)
            forged = _WORDS.tobytes() + bytes(Exit(EXIT, REBUILT))
            self.sock.sendto(forged, (self.sock.getsockname()[0], 0))
            if not any(isinstance(event, Exit) and event.rebuilt for event in self.ring.take()):
                return self.ring
        except OSError:
            pass  # no CAP_BPF, CAP_PERFMON or CAP_NET_ADMIN, or a kernel without
        if self.ring:
            self.ring.close()
            self.ring = None
        return None

    def close(self) -> None:
        """Close the socket, and let go of its filters."""
        for part in getattr(self, "sock", None), self.map, self.ring:
            if part:
                part.close()

    def receive(self, most: int) -> list[ProcEvent | Lost]:
        """The events in at most so many of the datagrams that are there; sets `ready` if there may be more.

        Raises OSError: ENOBUFS, once, when the kernel has dropped some, ahead of what was queued before.
        """
        ring, look, self.queued = self.ring, self.queued, True
        shared = ring.take(most) if ring else []
        if len(shared) == most:  # all in the ring is older than what went by it, into the socket
            self.ready = True
            return shared
        self.ready = False
        events = self._datagrams(most) if look else []
        while events and ring and ring.busy:  # what has come into it meanwhile
            shared += ring.take()
        if events and ring:
            ring.news = None
        return shared + events

    def _datagrams(self, most: int) -> list[ProcEvent | Lost]:
        count = _libc().recvmmsg(self.sock.fileno(), self._messages, most, socket.MSG_DONTWAIT, None)
        number = ctypes.get_errno() if count < 0 else 0
        self.ready = count == most or number == errno.ENOBUFS
        if number and number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
        if count <= 0:
            return []
        buffer = self._buffer
        # The filter lets nothing pass that has the length of an event and not its headers.
        if all(array[:size * count].tobytes() == usual[:size * count] for array, usual, size in self._usual):
            try:
                return [_COPIES[event.what](buffer, start) for event, start in self._slots[:count]]
            except KeyError:
                pass  # an ack, or a kind that we do not know
        events: list[ProcEvent | Lost] = []
        for message, sender, (_, start) in zip(self._messages[:count], self._senders, self._slots):
            if not sender.nl_pid:
                events += _decode(buffer, start - _PROC_EVENT, start - _PROC_EVENT + message.msg_len)
                if message.msg_hdr.msg_flags & socket.MSG_TRUNC:  # more messages than there is room for
                    events.append(Lost(None, self.now()))
            # What the kernel does not write is as it was: so that it is usual again.
            sender.nl_pid, sender.nl_groups = 0, CN_IDX_PROC
        return events

    def meminfo(self, index: int) -> int:
        """One of the kernel's figures on the socket: SK_MEMINFO_DROPS is how many messages it has dropped so far."""
        info = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, SK_MEMINFO_VARS * 4)
        return int(memoryview(info).cast("I")[index])

    def now(self) -> int:
        """CLOCK_MONOTONIC as the kernel stamps events with it, in nanoseconds."""
        return time.monotonic_ns() - self.skew

# --------------------------------------------------------------------------------------------------- /proc

# Of /proc/PID/stat (proc_pid_stat(5)): ticks since boot when it began, and start, the same in ns of CLOCK_MONOTONIC.
_Stat = collections.namedtuple("_Stat", ("state", "ppid", "flags", "ticks", "start"))
_TICK = 1_000_000_000 // 100  # USER_HZ is 100 wherever the connector is

def _stat(pid: int, tid: int | None = None) -> _Stat | None:
    """What /proc tells of a process or a thread; None if it is gone, or hidden (hidepid)."""
    try:
        with open(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    slept = -time.monotonic_ns() + time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # rather too much than too little
    ticks = int(fields[19])
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[6]), ticks, ticks * _TICK - slept)

def _processes() -> dict[int, _Stat]:
    """All processes that /proc shows, zombies too."""
    stats = ((int(name), _stat(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: stat for pid, stat in stats if stat}

def _descendants(pid: int, stats: dict[int, _Stat]) -> list[int]:
    """Children, their children and so on, but not this process: who watches what it lives under would never end."""
    children = collections.defaultdict(list)
    for child, stat in stats.items():
        if child not in (pid, os.getpid()):
            children[stat.ppid].append(child)
    found = children[pid]
    for child in found:
        found += children[child]
    return found

def _live_threads(pid: int, since: int) -> set[int]:
    """The threads of a process that have not ended: none if it is gone, a zombie, or born after `since`."""
    stat, looked = _stat(pid), None
    while stat and stat.start <= since:
        try:
            threads = {int(tid): _stat(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            break
        # A leader that ended first and a traced thread stay listed as zombies: their EXIT is behind them.
        live = {tid for tid, thread in threads.items() if thread and thread.state not in "ZX"}
        # While one takes the leader's id by an exec, the leader is still seen dead, and the other no more.
        if live or threads.keys() == looked:
            return live
        stat, looked = _stat(pid), threads.keys()
    return set()

def _leader(tid: int) -> int | None:
    """The process that a thread belongs to: /proc/TID is there for any thread, though it is not listed."""
    try:
        with open(f"/proc/{tid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
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
    """Why a process that is not found in /proc, or has no live threads there, cannot be watched."""
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
    """Raises TypeError and ValueError for what can be no process's."""
    if isinstance(pid, (bool, What)):
        raise TypeError(f"a pid is a number, not {pid!r}")
    if operator.index(pid) < 1:
        raise ValueError(f"a pid is 1 or more, not {pid}")

def cmdline(pid: int) -> list[str]:
    """The command line of a live process, from /proc/PID/cmdline; empty for a kernel thread or a zombie.

    Raises ProcessLookupError if there is no such process, PermissionError where /proc hides it (hidepid), and
    ValueError for a pid below 1.

    >>> cnproc.cmdline(1)[0]
    '/sbin/init'
    """
    _check_pid(pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise _missing(pid) from None
    return [os.fsdecode(word) for word in text.removesuffix(b"\0").split(b"\0")] if text else []

# ------------------------------------------------------------------------------------------------- watcher

# What the table knows of a process: the events wanted of it, those that its children inherit, since when (an
# earlier event is not reported), and the entry that was valid before then. A tuple, made at every birth: 0.05 us.
_Entry = tuple[int, int, int, "Any"]
_NOTHING: _Entry = (0, 0, 0, None)
# Events nearer to each other than this (ns) are a storm, in which an iteration lets them gather for so long (s): to
# be woken for each would cost twice the CPU. No fork and exec of one process are so near.
_STORM, _GATHER = 60_000, 0.0004
_TOGETHER = 10_000_000  # ns within which the threads of a process that ends are told to have ended
_QUIET = 3_000_000_000  # ns without any event after which a waiting reader tests its subscription: 0.1 ms of CPU

def _more(entry: _Entry, mask: int, inherit: int, now: int, dry: int) -> _Entry:
    """The entry with further events wanted from now on; nothing is queued any more from before `dry`."""
    return entry[0] | mask, entry[1] | inherit, now, entry if entry[2] > dry else (*entry[:3], None)

def _at(entry: _Entry | None, when: int) -> _Entry:
    """What was wanted at that time."""
    while entry and when < entry[2]:
        entry = entry[3]
    return entry or _NOTHING

def _release(connector: _Connector, waker: tuple[int, int], owner: int) -> None:
    """Unsubscribe. A forked child shares the socket, and leaves the subscription to its parent."""
    if os.getpid() == owner:
        connector.ignore()
    connector.close()
    for fd in waker:
        os.close(fd)

class Watcher:
    """A subscription to process events, and the table of who is watched.

    threads: report every thread's birth and end in place of the processes'.
    rcvbuf: bytes that the kernel may queue, about 800 an event; cut to what the kernel allows. With watch(None), root
    has 1/32 of it, 56 bytes an event, in memory shared with the kernel as well.
    delay: seconds to wait after being woken, so that events gather: less CPU, later news.

    Raises OSError, with the cause and the remedy in its text, where the kernel does not let this process listen:
    PermissionError, ConnectionRefusedError, or errno EPROTONOSUPPORT; ValueError for a bad rcvbuf or delay. To be
    closed, or used in a with statement; to watch, unwatch or read is a ValueError then, and in a forked child. One
    thread at a time reads; all else may be called from any thread.

    >>> with cnproc.Watcher() as watcher:
    ...     watcher.watch(pid, cnproc.What.EXEC | cnproc.What.EXIT)
    ...     for event in watcher:
    ...         print(event)
    """

    _sieves: tuple[str, ...] = ("ebpf", "classic")  # to be tried in this order

    def __init__(self, *, threads: bool = False, rcvbuf: int = 32 << 20, delay: float = 0.0) -> None:
        if not 0 < rcvbuf < 1 << 31:
            raise ValueError(f"rcvbuf must be above 0 and below 2 GiB, not {rcvbuf}")
        if not 0 <= delay < 1 << 20:
            raise ValueError(f"delay must be a number of seconds, not {delay}")
        self._threads = threads
        self._delay = delay * 1000
        self._table: dict[int, _Entry] = {}  # the processes watched one by one, or because followed
        self._everything = _NOTHING  # and what is wanted of all
        self._known: dict[int, int] = {}  # since when each process is there that is watched in either way
        self._started: dict[int, int] = {}  # of those that were there before, when: ticks since boot
        # The live threads of each process that has had several or that was there before; others have their leader.
        self._live: dict[int, set[int]] = {}
        # Of each process whose threads are ending: the leader's Exit, if it has come; the newest; the status to tell.
        self._ending: dict[int, tuple[Any, Any, int]] = {}
        self._usurped: set[int] = set()  # those that a thread took over by an exec; the old leader may yet be told
        self._books: tuple[dict[int, Any], ...] = self._table, self._known, self._started, self._live, self._ending
        # What the books said of processes that have ended, yet to be judged, and whose pids are another's in them now.
        self._former: dict[int, list[Any]] = {}
        self._pending: collections.deque[ProcEvent | Lost] = collections.deque()
        self._gap: int | None = None  # after an overrun: bytes that were queued before it and are still to be read
        self._loss: Lost | None = None  # an overrun to be told and repaired when what was queued before is told
        # Those found in /proc after a loss that are yet to be told: when they were seen, and with which live threads.
        self._found: dict[int, tuple[int, set[int]]] = {}
        self._buried: set[int] = set()  # those whose ends were told after the last loss without the kernel's EXIT
        self._repaired = 0  # when /proc was looked at then: of what had happened by then, something may be missing
        self._lost = 0
        self._dry = 0  # when the queue was last seen empty
        self._closed = False
        self._storm = False  # whether events are coming thick and fast
        self._opened = False  # whether the map in the kernel lets everything pass
        self._strangers = 0  # events that came though nobody wants them
        self._changing = threading.RLock()  # held to change what is watched, to take in what comes, and to judge it
        self._reading = threading.Lock()  # held to wait, too
        self._leaving = threading.RLock()  # held to unsubscribe, and to use what is closed then
        self._selected = False  # whether fileno() has been asked for
        # When the bell was rung, by which thread: of the last ones, since what they made may never be read.
        self._bells: collections.deque[tuple[int, int, int]] = collections.deque(maxlen=64)
        self._plain: Iterator[ProcEvent | Lost] = iter(())  # what is to be told as it is, ahead of what is pending
        self._reader = 0  # the thread that is in _fill
        self._connector = _Connector(rcvbuf)
        self._waker = os.pipe()
        self._owner = os.getpid()
        self._finish = weakref.finalize(self, _release, self._connector, self._waker, self._owner)
        try:
            self._connector.open()
        except BaseException:
            self._finish()
            raise
        self._heard = self._connector.now()  # when something last came
        self._newest = self._sure = self._heard  # when that had happened; and until when nothing is missing
        self._due = self._heard + _QUIET // 2  # when it is time to look whether all that are watched live
        self._missed: set[tuple[int, int]] = set()  # those that had ended untold at the last look, and since when known
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
        if not mask or mask & ~int(What.ALL):
            raise ValueError(f"events must be of What, and at least one of them, not {mask:#x}")
        if pid is not None:
            _check_pid(pid)
        try:
            with self._changing:
                self._check()
                if pid is not None or not self._share(mask | LIFE):
                    self._open(mask)  # hear first, look second, so that nothing falls between
                known: set[int] = set()
                try:
                    now = self._connector.now()
                    if pid is None:
                        self._everything = _more(self._everything, mask, 0, now, self._judged())
                        self._know(_processes(), 0, 0, now)
                    else:
                        if _leader(pid) == pid:
                            known |= self._know([pid], mask, mask if follow else 0, now)
                        if not known:
                            raise _missing(pid)
                        if follow:
                            known |= self._know(_descendants(pid, _processes()), mask, mask, now)
                finally:
                    self._sieve(known)
        except OSError:
            self._check()  # closed by another thread meanwhile: that is what there is to say
            raise

    def _know(self, pids: Iterable[int], mask: int, inherit: int, now: int) -> set[int]:
        """Take the live ones of these processes into the table, with their threads; which those are."""
        known = set()
        for pid in pids:
            stat, live = _stat(pid), _live_threads(pid, now + self._connector.skew)
            if stat and live:
                if pid in self._known and not self._threads_of(pid):
                    self._former[pid] = self._exchange(pid)
                self._known[pid], self._started[pid], self._live[pid] = now, stat.ticks, live
                if mask:
                    self._table[pid] = _more(self._table.get(pid, _NOTHING), mask, inherit, now, self._judged())
                known.add(pid)
        return known

    def _exchange(self, pid: int, entries: Iterable[Any] = ()) -> list[Any]:
        """Take out what the books say of a process, and put in something else."""
        taken = [book.pop(pid, None) for book in self._books]
        for book, entry in zip(self._books, entries):
            if entry is not None:
                book[pid] = entry
        return taken

    def _judged(self) -> int:
        """Until when all that happened has been judged; 0 if that is not known."""
        return 0 if self._in_hand() else self._dry

    def unwatch(self, pid: int | None = None) -> None:
        """Report a process's events no longer, or (None) those of processes not watched one by one or followed.

        Its followed descendants stay watched: each has its own watch. Raises KeyError if it is not watched.
        """
        try:
            with self._changing:
                self._check()
                if not (self._everything if pid is None else self._table.get(pid, _NOTHING))[0]:
                    raise KeyError(pid)
                if pid is None:
                    self._everything = _NOTHING
                    self._hush()
                    for other in self._known.keys() - self._table.keys():
                        self._forget(other)
                elif self._everything[0]:
                    del self._table[pid]
                else:
                    self._forget(pid)
                self._sieve()
        except OSError:
            self._check()
            raise

    def _forget(self, pid: int, ended: int = 0) -> None:
        entry = self._exchange(pid)[0]
        self._usurped.discard(pid)
        self._former.pop(pid, None)
        if entry:
            self._unmap(pid, ended or entry[2])

    def _unmap(self, pid: int, until: int) -> None:
        """Have the kernel's map forget a process that was there by then."""
        try:
            if self._connector.map:
                self._connector.map.drop(pid, until)
        except OSError:
            if not self._closed:
                raise

    def _share(self, kinds: int) -> bool:
        """Have all processes' events in memory shared with the kernel; whether that can be."""
        fresh = not self._selected and not self._kinds()
        if "ebpf" in self._sieves and fresh and self._reading.acquire(blocking=False):
            try:
                ring = self._connector.share(kinds)
                if ring:
                    self._woken.register(ring.fd, select.POLLIN)
                    return True
            finally:
                self._reading.release()
                if self._closed:
                    self._leave()
        return False

    def _open(self, mask: int) -> None:
        """While watch() looks into /proc, let these events of every process pass."""
        connector = self._connector
        if not connector.map:
            connector.attach(_classic_filter(self._kinds() | mask | LIFE))
        elif connector.map.open and not self._opened:
            self._renew_map()  # the kernel found it full
        else:
            connector.map.open = self._opened = True

    def _sieve(self, changed: Iterable[int] = ()) -> None:
        """Tell the kernel what may pass; changed: whose entries in the table are not what they were."""
        connector, table = self._connector, self._table
        kinds = self._kinds()
        if self._closed:
            return
        if not kinds:
            connector.attach(_classic_filter(0))
            return
        if connector.sharing and connector.sharing.kinds == kinds | LIFE and not self._selected:
            return
        if not self._everything[0] and "ebpf" in self._sieves:
            try:
                if connector.map:
                    for pid in (os.getpid(), *changed):
                        self._learn(pid)
                else:
                    self._new_map()
                self._settle()
                self._show()
                return
            except OSError:
                self._sieves = ("classic",)  # no CAP_BPF, or no bpf(2), or no memory for it
        self._opened = False
        if "classic" not in self._sieves:
            kinds = 0xFFFFFFFF
        elif not self._everything[0] and not any(entry[1] for entry in list(table.values())):
            try:
                connector.attach(_classic_filter(kinds | LIFE, list(table), bool(kinds & FORK)))
                return
            except OSError:
                pass  # too many for net.core.optmem_max, or for 4096 instructions
        connector.attach(_classic_filter(kinds | LIFE))

    def _show(self) -> None:
        """Make the descriptor readable, if anybody asked for it, and what is to be told is not in the socket."""
        ring = self._connector.ring
        if self._selected and (self._in_hand() or (ring and ring.busy)):
            self._ring_the_bell()

    def _kinds(self) -> int:
        """All kinds of events that are wanted of anybody."""
        return functools.reduce(operator.or_, (entry[0] for entry in list(self._table.values())), self._everything[0])

    def _new_map(self, least: int = 0) -> None:
        """Put a map in the place of the present one, or of a classic filter, open until all are sure to be in it."""
        fresh = _Map(max(_Map.LEAST, least, 4 * len(self._table)))
        try:
            self._connector.attach(fresh)
        except OSError:
            fresh.close()
            raise
        self._opened = True
        for pid in [os.getpid(), *self._table]:
            self._put(pid, *self._table.get(pid, _NOTHING))
        self._adopt(list(self._pending))

    def _put(self, pid: int, mask: int, inherit: int, since: int, *_: Any) -> None:
        """Put a process into the map: what it takes to follow it passes, too, and COMM to hear ourselves."""
        if self._connector.map:
            passing = (mask and mask | EXEC | EXIT) | (inherit and FORK) | (COMM if pid == os.getpid() else 0)
            self._connector.map.set(pid, passing, inherit and inherit | LIFE, since)

    def _learn(self, pid: int) -> None:
        """Put into the map what the kernel did not put there itself."""
        try:
            self._put(pid, *self._table.get(pid, _NOTHING))
        except OSError:
            self._renew_map()

    def _adopt(self, events: Iterable[ProcEvent | Lost]) -> None:
        """Put the children into the map that were born before their parent was in it, or that /proc told of."""
        for event in events:
            if isinstance(event, Fork) and event.tid == event.pid and self._connector.map:
                try:
                    inherit = self._connector.map.get(event.parent_pid).inherited
                    mask, own, since, _ = self._table.get(event.pid, _NOTHING)
                    if since < event.timestamp_ns:  # it is not watched for itself since
                        mask, own, since = 0, 0, event.timestamp_ns
                    if inherit:
                        self._put(event.pid, mask | inherit, own | inherit, since)
                except OSError as error:
                    if error.errno != errno.ENOENT:  # which is a stranger's
                        self._renew_map()
                        return

    def _renew_map(self, factor: int = 2) -> None:
        """Take a new map, by default a larger one, or do without."""
        try:
            if self._connector.map and not self._closed:
                self._new_map(factor * self._connector.map.size)
        except OSError:
            self._sieves = ("classic",)
            self._sieve()

    def _settle(self) -> None:
        """Close the map, if nobody is reading, as soon as the births are in it that passed while it was open."""
        if self._opened and self._reading.acquire(blocking=False):
            try:
                for _ in range(1000):
                    if self._gap is not None or self._loss or not self._receive(_SLOTS):
                        break
                self._close_map()
            finally:
                self._reading.release()
                if self._closed:
                    self._leave()

    def _close_map(self) -> None:
        connector = self._connector
        if not connector.map:
            self._opened = False
        elif not connector.ready and self._gap is None and not self._loss and not self._closed:
            connector.map.open = self._opened = False

    def read(self, timeout: float | None = None) -> ProcEvent | Lost | None:
        """The next event; None when `timeout` seconds have passed, or when the watcher is closed meanwhile.

        Takes one datagram at a time from the socket, which so stays readable while there are more. Raises ValueError
        for a timeout below 0, and OSError if a subscription that has gone silent cannot be had again.
        """
        self._check()
        return next(self._stream(self._deadline(timeout), 1), None)

    def __iter__(self) -> Iterator[ProcEvent | Lost]:
        """The events, until the watcher is closed; as many at a time are taken from the socket as there are."""
        self._check()
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
        pending, table = self._pending, self._table
        over = False
        while not self._closed:
            yield from self._plain
            while pending and not self._closed:
                with self._changing:
                    event = self._judge(pending[0])
                    pending.popleft()  # not before: it is judged again if /proc could not be read
                if event is not None:
                    yield event
            if over or (ending and not table and self._gap is None and not self._loss):
                return
            over = not self._fill(deadline, most)
            if over and most > 1:
                return  # while one that is read by itself is told all the same, lest a select miss it

    def _judge(self, event: Any) -> Any:
        """Keep the books by an event; what is to be told of it, None if nothing."""
        what = event.what
        if not what:
            return event  # Lost
        table, live, pid, stamp = self._table, self._live, event.pid, event.timestamp_ns
        born = what == FORK and event.tid == pid
        whose = event.parent_pid if born else pid
        if self._former and whose in self._former and stamp < self._known.get(whose, 0):
            return self._judge_former(whose, event)
        everything, inherit, since, _ = self._everything
        if stamp < since:
            everything = _at(self._everything, stamp)[0]
        mask = everything
        if table:
            entry = table.get(whose, _NOTHING)
            if stamp < entry[2]:
                entry = _at(entry, stamp)
            mask |= entry[0]
            inherit = entry[1]
        if not mask:  # a stranger, or from before it was watched
            self._strangers += 1
            if what in (FORK, EXIT) and event.tid == pid and pid not in table:
                self._unmap(pid, stamp)  # the kernel took it in before its parent was unwatched
            return None
        if born:
            if inherit or everything:
                self._birth(pid, stamp, inherit)
        elif what == FORK:
            live.setdefault(pid, {pid}).add(event.tid)
            if not self._threads:
                return None
        elif what == EXEC:
            if pid in live:
                if pid in live[pid] and len(live[pid]) > 1:
                    self._usurped.add(pid)
                live[pid] = {pid}  # the others are gone, and the one that called has the leader's id now
                self._ending.pop(pid, None)
        elif what == EXIT:
            if pid not in self._known:  # where everything is watched, and something was lost
                if pid in self._buried:
                    return None  # late: the process was gone from /proc, and its end has been told
                if event.tid == pid:
                    self._known[pid], live[pid] = stamp, {pid} | _live_threads(pid, stamp + self._connector.skew)
            end = event if pid not in live and event.tid == pid else None
            if pid in live:
                end = self._end(Exit.from_buffer_copy(event))
            if end is not None:
                self._forget(pid, stamp)
            if not self._threads:
                event = end
            if event is not None and mask & NONZERO_EXIT and event.exit_code:
                mask |= EXIT
        elif what == COMM and self._bells and self._rang(event):
            return None
        return event if mask & what else None

    def _judge_former(self, pid: int, event: Any) -> Any:
        """Judge an event from before this pid became another process's that is watched."""
        present = self._exchange(pid, self._former.pop(pid))
        try:
            return self._judge(event)
        finally:
            known, former = pid in self._known, self._exchange(pid, present)
            if known:
                self._former[pid] = former

    def _birth(self, pid: int, stamp: int, inherit: int) -> None:
        """Know a process from its birth on, with what it inherits."""
        if inherit:
            entry = self._table.get(pid, _NOTHING)
            if entry[2] > stamp:  # it was watched for itself before its birth was read
                before = inherit, inherit, stamp, None
                self._table[pid] = entry[0] | inherit, entry[1] | inherit, entry[2], before
            else:
                self._table[pid] = inherit, inherit, stamp, None
            if self._opened or entry[2] > stamp:  # open: a new map may have been filled meanwhile
                self._learn(pid)
        self._known[pid] = stamp
        self._live.pop(pid, None)  # of those that were found in /proc
        self._started.pop(pid, None)
        if self._found and pid in self._found:
            self._known[pid], self._live[pid] = self._found.pop(pid)  # not its start: that is read anew to be compared

    def _end(self, event: Any) -> Any:
        """The Exit of a process that has or had several threads, if this one of a thread is its end; else None."""
        pid, tid = event.pid, event.tid
        left = self._live.get(pid, set())
        leader, newest, status = self._ending.get(pid, (None, event, 0))
        if event.timestamp_ns - newest.timestamp_ns > _TOGETHER:
            status = 0  # of a thread that ended for itself, before
        if tid == pid:
            leader = event
        if tid in left or pid not in left:
            # One that was ending by itself when another ended the process has a status of its own, 0, and can be
            # told before or after it. Only that of the one that dumped core says so.
            same = not (event.exit_code ^ status) & ~0x80
            status = event.exit_code | status if same else event.exit_code or status
        left.discard(tid)
        if event.timestamp_ns > newest.timestamp_ns:  # two that end at once come in any order
            newest = event
        lossy = event.timestamp_ns <= self._repaired + _TOGETHER
        if not left and (lossy or pid in self._usurped or pid in self._started):
            # After an exec by a thread the old leader can be told late, and looks like the last; so does a thread
            # that is told after a loss, and /proc may have left out some: look, then tell.
            left |= self._threads_of(pid)
            if not left and (lossy or pid in self._usurped):
                left |= self._queued(event)
                if not left and not status and (self._gap is not None or self._loss):
                    left.add(pid)  # or what tells more is lost: the repair will find it gone
            if leader and pid in left:
                leader, status = None, 0
        if left:
            self._ending[pid] = leader, newest, status
            return None
        end = leader or event
        end.tid, end.exit_code, end.cpu, end.timestamp_ns = pid, status, newest.cpu, newest.timestamp_ns
        return end

    def _queued(self, event: Any) -> set[int]:
        """The threads of the same process whose EXITs are queued behind this one's; not a later one's with its pid."""
        tids, execed = set(), event.pid in self._usurped
        later: Any
        for later in itertools.islice(self._pending, 1, 1000):
            if later.what and later.pid == event.pid:
                if later.what == FORK and later.tid == later.pid:
                    break
                if later.what == EXEC and later.timestamp_ns - event.timestamp_ns < 10 * _TOGETHER:
                    execed = True  # by a thread, which waited for the others to end
                if later.what == EXIT and (later.tid != later.pid or execed):
                    tids.add(later.tid)
        return tids

    def _threads_of(self, pid: int) -> set[int]:
        """The live threads of a process in the table; none if it is gone, though its pid may be another's now."""
        stat = _stat(pid)
        if stat and self._started.get(pid, stat.ticks) != stat.ticks:
            return set()
        return _live_threads(pid, self._known.get(pid, 0) + self._connector.skew)

    def _fill(self, deadline: int | None, most: int) -> bool:
        """Wait for datagrams and take some in; False if the deadline has passed, or the watcher is closed."""
        connector = self._connector
        if os.getpid() != self._owner:
            self._check()
        try:
            with self._reading:
                self._reader = threading.get_ident()
                try:
                    while not self._closed:
                        if self._in_hand():
                            return True  # also what another iteration, or watch() in another thread, took in
                        if self._loss or connector.ready or self._opened:
                            with self._changing:
                                if self._loss:
                                    self._repair()
                                    return True
                                events = self._receive(most, True)
                                if events:
                                    # What happened before the deadline still counts, and what came later can wait.
                                    return deadline is None or events[0].timestamp_ns <= deadline
                                self._tend()
                        elif not self._sleep(deadline, most):
                            return False
                    return False
                finally:
                    self._reader = 0
        finally:
            if self._closed:
                self._leave()

    def _sleep(self, deadline: int | None, most: int) -> bool:
        """Wait until there may be something to take in; False if the deadline has passed."""
        connector = self._connector
        if self._dry >= self._due:
            self._look()
            return True
        alarm = self._heard + _QUIET
        until = alarm if deadline is None else min(alarm, deadline)
        # In a storm do not wait to be woken: by the end of the delay there is more, or the next look ends the storm.
        more = self._storm and self._delay
        woken = [] if more else self._woken.poll(max(0, until - connector.now()) / 1_000_000)
        if more or woken:
            if self._delay:
                rest = self._delay if deadline is None else (deadline - connector.now()) / 1_000_000
                self._nap.poll(max(0, min(self._delay, rest)))
            elif self._storm and most > 1:
                time.sleep(_GATHER)
            connector.queued = not woken or connector.sock.fileno() in dict(woken)
            connector.ready = True
        elif until == deadline:
            return False
        else:
            self._test()
        return True

    def _tend(self) -> None:
        """All that was queued has been told. Close the map if it is open; grow it if the kernel found it full."""
        if self._opened:
            self._close_map()
        elif self._strangers > _SLOTS and self._connector.map and self._connector.map.open:
            self._renew_map()  # which opens it; the next look closes it
        self._strangers = 0

    def _receive(self, most: int, plain: bool = False) -> list[ProcEvent | Lost]:
        """Take datagrams in, and tell a loss where it happened: between what was queued by then and the rest.

        During an overrun the kernel queues nothing until the queue has been read empty, so from reading to reading
        fewer bytes are queued. When there are not, all from before the loss has been read.
        """
        connector, gap, now = self._connector, self._gap, self._connector.now()
        try:
            events = connector.receive(most if gap is None else 1)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            gap = 1 << 32
            events = connector.ring.take() if connector.ring else []
        self._storm = False
        if events:
            if plain and self._plainly():
                self._plain = iter(events)
            else:
                self._pending.extend(itertools.chain(self._plain, events))
            newest = events[-1].timestamp_ns
            self._storm = newest - self._newest < _STORM * len(events)
            self._heard, self._newest = now, newest
            if self._opened:
                self._adopt(events)
        if not connector.ready:
            self._dry = now
        if gap is not None:
            queued = connector.meminfo(SK_MEMINFO_RMEM_ALLOC)
            self._gap = queued if 0 < queued < gap else None
            if self._gap is None:
                dropped = connector.meminfo(SK_MEMINFO_DROPS)
                self._loss = Lost(dropped - self._lost, connector.now())
                self._lost = dropped
        return events

    def _in_hand(self) -> bool:
        """Whether there is something to tell without looking for more."""
        return bool(self._pending or operator.length_hint(self._plain))

    def _plainly(self) -> bool:
        """Keep the books at once for what came last, if it may all be told as it is; whether that is so.

        So it is with most when everything is watched and nobody by himself: processes of one thread, their births,
        programs and ends. It is what makes that cheap: 0.15 us in place of 0.6.
        """
        news, everything = self._connector.ring and self._connector.ring.news, self._everything
        if not news or everything[0] & LIFE != LIFE or self._table or self._threads or self._found or self._buried:
            return False
        whats, pids, stamps = news
        if min(stamps) < everything[2] or not self._live.keys().isdisjoint(pids):
            return False
        known = self._known
        for what, pid, stamp in zip(whats, pids, stamps):
            if what == FORK:
                known[pid] = stamp
            elif what != EXEC:
                known.pop(pid, None)
        return True

    def _hush(self) -> None:
        """Use up what is told as it is: an iteration holds the same iterator."""
        for _ in self._plain:
            pass

    def _repair(self) -> None:
        """Put into the stream the loss, and what /proc tells about it; all from before has been told.

        An Exit for each process of the table that is gone, unless the queue has the kernel's own; a Fork for each
        descendant that is new, likewise. The live threads of all are read again.
        """
        connector, table, pending, skew = self._connector, self._table, self._pending, self._connector.skew
        loss, since = self._loss or Lost(None, connector.now()), self._newest  # when it began
        if connector.map:
            self._renew_map(1)  # the present one may have some whose births and ends are lost; open until all are in it
        live = {pid: threads for pid in list(self._known) for threads in [self._threads_of(pid)]
                if threads or not _hidden(pid)}
        stats = _processes()  # after the other: what was born between them has its FORK in the queue
        looked = self._repaired = connector.now()
        for pause in 0, 0.01:  # an EXIT is told a little after the process is gone
            time.sleep(pause)
            limit, connector.ready = connector.now(), True
            while connector.ready and self._loss is loss and (not pending or pending[-1].timestamp_ns < limit):
                self._receive(_SLOTS)
        ends: dict[int, dict[int, int]] = collections.defaultdict(dict)
        reborn = set()
        for event in pending:
            if isinstance(event, Exit) and event.pid not in reborn:
                ends[event.pid][event.tid] = event.exit_code
            elif isinstance(event, Fork) and event.tid == event.pid:
                reborn.add(event.pid)
        further = self._gap is not None or self._loss is not loss
        rebuilt: list[ProcEvent] = []
        self._buried.clear()
        for pid, threads in live.items():
            # The leader's EXIT has the status, but where it ended first; and if more is lost after it, that may be so.
            told = ends[pid]
            last = pid in told or pid not in self._live.get(pid, {pid})
            if threads or (any(told.values()) if further else told and last):
                self._live[pid] = threads or set(told)
            else:
                self._live.pop(pid, None)
                self._buried.add(pid)
                rebuilt.append(Exit(EXIT, REBUILT, looked, pid, pid, -1, SIGCHLD, 0, 0))
        known = {pid for pid, threads in live.items() if threads} | reborn
        # Since when, of those whose children are followed: a start time is cut to a tick, and no child is older.
        parents = {pid: table[pid][2] for pid in known if table.get(pid, _NOTHING)[1]}
        for pid, stat in sorted(stats.items(), key=lambda item: item[1].start):
            followed = self._everything[0] or stat.ppid in parents
            if not followed or pid in known or pid == os.getpid() or stat.start - skew + _TICK <= since:
                continue
            threads = _live_threads(pid, looked + skew)
            if stat.state not in "ZX":
                threads.add(pid)  # though it has ended by now: that will be told
            if threads:
                born = max(stat.start - skew, since, parents.get(stat.ppid, self._everything[2]))
                parents[pid] = born
                self._found[pid] = looked, threads
                rebuilt.append(Fork(FORK, REBUILT, born, stat.ppid, stat.ppid, pid, pid))
        pending.extendleft(reversed([loss, *rebuilt]))
        if self._loss is loss:  # and not another one
            self._loss = None
        self._adopt(rebuilt)

    def _test(self) -> None:
        """It is quiet: find out whether the kernel still tells us anything, and have it do so.

        An ordinary user can have run the kernel's count of listeners down (6.6 and newer).
        """
        connector, deadline, newest = self._connector, time.monotonic() + 1, self._newest
        again = False
        while not self._hears():
            if time.monotonic() > deadline:
                raise _refusal(0)
            connector.renew(again)
            again = True
        if again:
            self._loss, self._newest = self._loss or Lost(None, connector.now()), newest  # since then it was deaf
            if self._gap is None:
                with self._changing:
                    self._repair()  # ahead of what has been heard since
        self._heard = connector.now()
        if self._heard >= self._due:
            self._look()

    def _hears(self) -> bool:
        """Whether anything comes when the bell rings."""
        self._ring_the_bell()
        with self._changing:
            self._receive(_SLOTS)
        return bool(self._in_hand() or self._gap is not None or self._loss)

    def _look(self) -> None:
        """Find out whether all that are watched live: an EXIT that the kernel had no memory for is not even counted."""
        began, connector = time.monotonic_ns(), self._connector
        # One that has ended may be told in a moment: it is missed when it was so the last time, too.
        missed = {(pid, since) for pid, since in list(self._known.items())
                  if (pid in self._table or not os.path.exists(f"/proc/{pid}"))  # 3 us where everything is watched
                  and not self._threads_of(pid) and not _hidden(pid)}
        if missed & self._missed:
            self._loss, self._newest = self._loss or Lost(None, connector.now()), self._sure
        elif not missed:
            self._sure = self._newest
            if not self._missed:
                self._buried.clear()
        self._missed = missed
        # At most a thousandth of the time is spent on this, however many are watched.
        self._due = connector.now() + max(_QUIET // 2, 1000 * (time.monotonic_ns() - began))

    def _ring_the_bell(self) -> None:
        """Set this thread's name to what it is: that makes an event, which is not told, and changes nothing."""
        name, tid = ctypes.create_string_buffer(16), threading.get_native_id()
        _libc().prctl(PR_GET_NAME, name)
        began = self._connector.now()
        _libc().prctl(PR_SET_NAME, name)
        self._bells.append((tid, began, self._connector.now()))

    def _rang(self, event: Any) -> bool:
        """Whether it was the bell: a thread can take no other name meanwhile."""
        return any(event.tid == tid and began <= event.timestamp_ns <= ended for tid, began, ended in list(self._bells))

    def close(self) -> None:
        """Unsubscribe. A reader that is blocked in another thread returns at once."""
        with self._leaving:
            if self._closed:
                return
            self._lost, self._closed = self.lost, True
        self._hush()
        if os.getpid() != self._owner:
            self._leave()  # in a forked child: its parent goes on reading
            return
        reader = self._reader
        with self._leaving:
            if reader and self._finish.alive:
                os.write(self._waker[1], b"\0")
        # A reader does the rest on its way out: also the one that this call, from a signal handler, interrupts.
        if self._reading.acquire(blocking=False) or (
                reader not in (0, threading.get_ident()) and self._reading.acquire(timeout=1)):
            self._reading.release()
            self._leave()

    def _leave(self) -> None:
        with self._leaving:
            self._finish()

    def _check(self) -> None:
        if self._closed:
            raise ValueError("the watcher is closed")
        if os.getpid() != self._owner:  # whose socket and ring it shares: what one reads the other does not
            raise ValueError("the watcher is another process's: make one after the fork")

    @property
    def pids(self) -> frozenset[int]:
        """The processes watched now, one by one or because followed; those of watch(None) are not among them."""
        return frozenset(self._table)

    @property
    def lost(self) -> int:
        """How many messages the kernel has dropped so far; they are told as Lost when the reader gets there."""
        with self._leaving:
            return self._lost if self._closed else self._connector.meminfo(SK_MEMINFO_DROPS)

    @property
    def closed(self) -> bool:
        """Whether close() has been called."""
        return self._closed

    def fileno(self) -> int:
        """The socket's file descriptor, readable when there is something to read; read(0) may find it unwanted.

        Read every few seconds though it is not readable: only then is a subscription that has gone silent noticed.
        """
        self._check()
        if not self._selected:
            with self._changing:
                self._selected = True
                if self._connector.sharing:
                    self._sieve()  # no memory shared with the kernel: it would not make this readable
                self._show()
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
    Watcher and Watcher.watch raise, and ValueError for a timeout below 0.

    >>> for event in cnproc.watch(pid, events=cnproc.What.EXIT):
    ...     print(event)
    """
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

    def stream() -> Iterator[ProcEvent | Lost]:
        with watcher:
            yield from watcher._stream(deadline, _SLOTS, ending=bool(pids))

    return stream()

def wait(pid: int, timeout: float | None = None) -> int | None:
    """Wait for the end of any process, not only of a child.

    Returns what subprocess calls its returncode: the exit status, or -N for death by signal N; None if the
    process is gone, but its status was lost. Raises ProcessLookupError if it has ended already, TimeoutError
    after `timeout` seconds, ValueError for one below 0, and what Watcher and Watcher.watch raise.

    >>> cnproc.wait(pid)
    0
    """
    _check_pid(pid)
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

_SAYS = {  # of each kind of event but Exit, in a line of text
    Fork: "child of {0.parent_pid}", Exec: "", Comm: "named {0.comm!r}", Sid: "leads a new session",
    Uid: "user {0.ruid}, effective {0.euid}", Gid: "group {0.rgid}, effective {0.egid}", Coredump: "dumps core",
    Ptrace: "traced by {0.tracer_pid}",
}

class _Narrator:
    """Tells events as lines of text or JSON; keeps each process's command line and birth for that."""

    def __init__(self, watcher: Watcher, args: Any) -> None:
        import json
        import shlex
        import signal

        self._watcher, self._wanted, self._json = watcher, int(args.events), args.json
        self._children = args.follow or not args.pid  # whether their ends are told, too
        self._now, self._skew, self._host = watcher._connector.now, watcher._connector.skew, socket.gethostname()
        self._dumps, self._join, self._signals = json.dumps, shlex.join, {int(n): n.name for n in signal.Signals}
        self._second, self._clock = -1, ""  # the time of day of the latest event, and how it is written
        self._names: dict[int, tuple[list[str], str]] = {}  # the words of the command line, and it in one, as shown
        self._births: dict[int, int] = {}
        self._found: set[int] = set()

    def meet(self, pid: int) -> _Stat | None:
        """Learn of a process that was there before."""
        stat = _stat(pid)
        if stat:
            self._births[pid], self._names[pid] = stat.start - self._skew, self._name(pid)
        return stat

    def found(self, pid: int) -> Iterator[str]:
        """Tell of a descendant that was there before: of its birth, and if it has run one, of its program."""
        stat = self.meet(pid)
        if stat:
            self._found.add(pid)
            yield self.hear(Fork(FORK, REBUILT, self._births[pid], stat.ppid, stat.ppid, pid, pid))
            if not stat.flags & PF_FORKNOEXEC:
                yield self.hear(Exec(EXEC, REBUILT, self._now(), pid, pid))

    def hear(self, event: Any) -> str:
        """Learn from an event; the line that tells it, empty if it is not wanted."""
        tell = self._object if self._json else self._line
        if isinstance(event, Lost):
            return tell(event, ([], ""), None)
        pid, wanted, ran = event.pid, self._wanted, None
        born = isinstance(event, Fork) and event.tid == pid
        if pid in self._found and not event.rebuilt:
            self._found.remove(pid)
            if born:
                return ""  # while the watch began, and it has been told
        name = self._name(pid) if isinstance(event, Exec) else self._names.get(
            event.parent_pid if born else pid, ([], ""))
        if born and self._children:
            self._births[pid] = event.timestamp_ns
        if isinstance(event, Exec) or (born and self._children):
            self._names[pid] = name
        if isinstance(event, Exit):
            wanted |= EXIT if wanted & NONZERO_EXIT and event.exit_code else 0
            if event.tid == pid and pid in self._births:
                ran = (event.timestamp_ns - self._births[pid]) / 1e9
            if pid not in self._watcher._known:
                self._names.pop(pid, None)
                self._births.pop(pid, None)
        return tell(event, name, ran) if event.what & wanted else ""

    def _object(self, event: Any, name: tuple[list[str], str], ran: float | None) -> str:
        clock = self._time(event, time.gmtime, "%Y-%m-%dT%H:%M:%S")
        told = {"event": type(event).__name__.lower(), "time": f"{clock}Z",
                "timestamp_ns": event.timestamp_ns, "host": self._host}
        if isinstance(event, Lost):
            told["count"] = event.count
        else:
            told.update(pid=event.pid, tid=event.tid)
            told.update((field, getattr(event, field)) for field in _fields(event.__class__)[3:])
            if isinstance(event, Comm):
                told["comm"] = _utf8(event.comm)
            if isinstance(event, (Exec, Exit)):
                told["cmdline"] = name[0]
            if isinstance(event, Exit):
                told.update(returncode=event.returncode, duration=ran)
            if event.rebuilt:
                told["rebuilt"] = True
        return self._dumps(told)

    def _line(self, event: Any, name: tuple[list[str], str], ran: float | None) -> str:
        pid, tid = (event.pid, event.tid) if not isinstance(event, Lost) else ("-", "-")
        if isinstance(event, Exit):
            said = self._status(event)
        elif isinstance(event, Lost):
            said = f"{'some' if event.count is None else event.count} events; what /proc knows follows"
        elif isinstance(event, Fork) and tid != pid:
            said = "born"
        elif isinstance(event, Ptrace) and not event.tracer_pid:
            said = "traced no longer"
        else:
            said = _printable(_SAYS[type(event)].format(event))
        if ran is not None:
            said += f" after {ran:.3f} s"
        said = ": ".join(filter(None, (said, name[1])))
        if tid != pid:
            said = f"thread {tid} {said}"
        if pid != "-" and event.rebuilt:
            said += "  (from /proc)"
        clock = self._time(event, time.localtime, "%H:%M:%S")
        return f"{clock} {type(event).__name__.lower():8} {pid:>7}  {said or '?'}"

    def _status(self, event: Exit) -> str:
        status = event.returncode
        if status is None or status >= 0:
            return "status lost" if status is None else str(status)
        return self._signals.get(-status, f"signal {-status}") + (", core dumped" if event.exit_code & 0x80 else "")

    def _time(self, event: Any, zone: Any, form: str) -> str:
        """The time of day of an event, with the microseconds."""
        second, rest = divmod(event.timestamp_ns + time.time_ns() - self._now(), 1_000_000_000)
        if second != self._second:
            self._second, self._clock = second, time.strftime(form, zone(second))
        return f"{self._clock}.{rest // 1000:06}"

    def _name(self, pid: int) -> tuple[list[str], str]:
        """The command line; of a kernel thread, the name in brackets; none of a process that has ended by now."""
        try:
            words, stat = cmdline(pid), _stat(pid)
            if not words and stat and stat.flags & PF_KTHREAD:
                with open(f"/proc/{pid}/comm", "rb") as file:
                    words = [f"[{os.fsdecode(file.read()).rstrip()}]"]
        except OSError:
            words = []
        return [_utf8(word) for word in words], _printable(self._join(words))

def _printable(text: str) -> str:
    """The text with \\x1b for a control character: a name may hold anything, and a terminal obeys it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

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
        words = [word.strip() for word in text.upper().split(",")]
        unknown = [word.lower() for word in words if word not in (*kinds, "ALL")]
        if unknown:
            raise argparse.ArgumentTypeError(f"no event {unknown[0]!r}; there are {', '.join(kinds).lower()}, all")
        return functools.reduce(operator.or_, (What[word] for word in words))

    def seconds(text: str) -> float:
        number = float(text)
        if not number >= 0:
            raise ValueError
        return number

    kinds = [*(kind.__name__.upper() for kind in _EVENTS.values()), "NONZERO_EXIT"]
    parser = argparse.ArgumentParser(
        prog="cnproc", description="Tells what processes do, as the Linux kernel reports it.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pid", nargs="*", type=pid, metavar="PID", help="these processes, until the last has ended (default: all)")
    add("-e", "--events", type=events, action="append", metavar="KIND,...",
        help=f"of {', '.join(kinds).lower()}, all (default: fork,exec,exit)")
    add("-t", "--threads", action="store_true", help="tell every thread's birth and end")
    add("--no-follow", dest="follow", action="store_false", help="leave out the descendants")
    add("-j", "--json", action="store_true", help="one JSON object a line")
    add("-d", "--duration", type=seconds, metavar="SECONDS", help="end after so long")
    add("-V", "--version", action="version", version=f"cnproc {__version__}")
    args = parser.parse_args(argv)
    args.events = functools.reduce(operator.or_, args.events or [LIFE])
    return args

def _run(args: Any) -> int:
    with Watcher(threads=args.threads) as watcher:
        deadline = watcher._deadline(args.duration)
        narrator = _Narrator(watcher, args)
        for pid in args.pid or [None]:
            try:
                watcher.watch(pid, args.events | What.LIFE, follow=args.follow)
            except OSError as error:
                if pid is None:
                    raise
                _complain(error)
        if args.pid and not watcher.pids:
            return 1
        for pid in args.pid or list(watcher._known):
            narrator.meet(pid)
        before = (line for pid in sorted(watcher.pids.difference(args.pid)) for line in narrator.found(pid))
        after = map(narrator.hear, watcher._stream(deadline, _SLOTS, ending=bool(args.pid)))
        for line in itertools.chain(before, after):
            if line:
                print(line)
            if not watcher._in_hand():  # a system call a line costs a storm 1 us
                sys.stdout.flush()
        sys.stdout.flush()
    return 0

def _complain(error: OSError) -> None:
    if sys.stderr:  # else print() would take standard output
        print(f"cnproc: {error.strerror or error}", file=sys.stderr)

def _main(argv: list[str] | None = None) -> int:
    import io
    import signal

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)  # so that the watcher unsubscribes first

    if sys.stdout is None:
        _complain(OSError(errno.EBADF, "standard output is closed"))
        return 1
    try:
        args = _arguments(argv)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        for name in "SIGTERM", "SIGHUP":
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:  # nohup
                signal.signal(getattr(signal, name), stop)
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        _complain(error)
        return 1
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # the interpreter tries once more at its end, and would complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

if __name__ == "__main__":
    raise SystemExit(_main())
