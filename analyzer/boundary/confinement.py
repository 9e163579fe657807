"""Confine a worker before it reads a model: no files but the model's, no network, no other processes.

On Linux only: Landlock for files and signals (kernel 5.13 and later; https://docs.kernel.org/userspace-api/landlock.html),
a seccomp filter for system calls (https://docs.kernel.org/userspace-api/seccomp_filter.html). Both hold for this thread
and all that it starts, conversions too, and cannot be taken back. Knows the kernel; knows nothing of models.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

# Numbers of include/uapi/linux/landlock.h and of the system calls, the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ALL_OF_VERSION_1 = (1 << 13) - 1
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # since versions 2, 3, 5
BIND_AND_CONNECT_TCP = 0b11  # since version 4
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # since version 6
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the others only a folder can have

SET_NO_NEW_PRIVILEGES, SET_SECCOMP, MODE_FILTER = 38, 22, 2  # prctl
UNUSED = (0, 0, 0)  # arguments that a call has no use for, and that the kernel wants to be 0
X32 = 0x40000000  # system calls from here on are x86-64's second set
# Architecture: its audit number, and the calls that are refused there: socket, ptrace, process_vm_readv and _writev,
# io_uring_setup (which opens sockets past any filter).
REFUSED = {
    "x86_64": (0xC000003E, (41, 101, 310, 311, 425)),
    "aarch64": (0xC00000B7, (198, 117, 270, 271, 425)),
}
SYSTEM = (  # what the loader, Python and the libraries read of the system
    *("/usr", "/lib", "/lib64", "/lib32", "/bin", "/proc", "/sys/devices", "/sys/fs/cgroup", "/sys/kernel/mm"),
    *("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero"),
)


def confine(readable: Iterable[Path], writable: Iterable[Path]) -> tuple[str, ...]:
    """Confine this thread, and all that it starts, as far as the kernel can.

    Args:
        readable: files and folders that may be read, beside the system's libraries and Python's.
        writable: folders in which files may be made, changed and removed too.

    Returns:
        What is in force: "landlock N" (N its version) and "seccomp"; what the kernel lacks is left out.
    """
    if not sys.platform.startswith("linux"):
        return ()
    libc = ctypes.CDLL(None)
    if libc.prctl(SET_NO_NEW_PRIVILEGES, 1, *UNUSED):
        return ()
    version = _restrict_files(libc, [*readable, *map(Path, SYSTEM), *_python()], [*writable, Path("/dev/null")])
    in_force = [f"landlock {version}"] if version else []
    if _filter_calls(libc):
        in_force.append("seccomp")
    return tuple(in_force)


def _python() -> list[Path]:
    """Where Python and its packages lie."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return [Path(place) for place in (*prefixes, *sys.path) if place and Path(place).exists()]


def _restrict_files(libc: ctypes.CDLL, readable: list[Path], writable: list[Path]) -> int:
    """Restrict which files can be reached; returns the version of Landlock, 0 where the kernel has none."""
    version = libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return 0
    handled = ALL_OF_VERSION_1
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        if version >= since:
            handled |= right
    network = BIND_AND_CONNECT_TCP if version >= 4 else 0
    scoped = ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("=QQQ", handled, network, scoped)[:size]
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return 0
    try:
        for places, rights in ((readable, READ_FILE | READ_DIR | EXECUTE), (writable, handled)):
            for place in places:
                _allow(libc, ruleset, place, rights & handled)
        return int(version) if not libc.syscall(RESTRICT_SELF, ruleset, 0) else 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, place: Path, rights: int) -> None:
    with contextlib.suppress(OSError):  # a place that is not there needs no rule; one that takes none stays shut
        opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            granted = rights if place.is_dir() else rights & OF_A_FILE
            rule = struct.pack("=Qi", granted, opened)
            libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, *UNUSED[:1])
        finally:
            os.close(opened)


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Refuse some system calls; returns whether the kernel does so."""
    if platform.machine() not in REFUSED:
        return False
    architecture, refused = REFUSED[platform.machine()]
    load, jump_if_equal, jump_if_at_least, end = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EACCES
    last = len(refused) + 5  # index of the instruction that refuses
    program = [
        (load, 0, 0, 4),  # the architecture
        (jump_if_equal, 0, last - 2, architecture),
        (load, 0, 0, 0),  # the call's number
        (jump_if_at_least, last - 4, 0, X32),
        *((jump_if_equal, last - 5 - index, 0, number) for index, number in enumerate(refused)),
        (end, 0, 0, allow),
        (end, 0, 0, refuse),
    ]
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    head = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    return bool(libc.prctl(SET_SECCOMP, MODE_FILTER, head, *UNUSED[:2]) == 0)
