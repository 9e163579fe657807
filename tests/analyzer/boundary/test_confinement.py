"""What is asked of the kernel, read as it would be there: for each version of Landlock, and by a machine for filters.

That it holds where the kernel has it, test_boundary tries in a process that is really confined.
"""

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

import pytest

from filterscope.analyzer.boundary import confinement

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 13  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EACCES


class Kernel:
    """Stands in for the C library: notes what is asked, and answers as a kernel with this Landlock would."""

    def __init__(self, version=6, *, makes=True, restricts=True, takes_filters=True):
        self.version, self.makes, self.restricts, self.takes_filters = version, makes, restricts, takes_filters
        self.attributes, self.size, self.program = b"", 0, []
        self.rules = {}  # a place's own number → rights

    def syscall(self, number, *arguments):
        if number == 444 and arguments[0] is None:
            return self.version
        if number == 444:
            self.attributes, self.size = arguments[0], arguments[1].value
            return os.open(os.devnull, os.O_RDONLY) if self.makes else -1
        if number == 445:
            rights, place = struct.unpack("=Qi", arguments[2])
            self.rules[os.fstat(place).st_ino] = rights
            return 0
        assert number == 446
        return 0 if self.restricts else -1

    def prctl(self, option, *arguments):
        if option == 38:  # PR_SET_NO_NEW_PRIVS
            return 0
        count, address = struct.unpack("@HP", arguments[1])
        self.program = list(struct.iter_unpack("=HBBI", ctypes.string_at(address, 8 * count)))
        return 0 if self.takes_filters else -1

    def verdict(self, architecture, call):
        """What the filter says of a system call (Linux's classic BPF: load, jump, return)."""
        data, accumulator, at = struct.pack("=II", call, architecture), 0, 0
        while True:
            code, if_true, if_false, number = self.program[at]
            at += 1
            match code:
                case 0x20:
                    (accumulator,) = struct.unpack_from("=I", data, number)
                case 0x15:
                    at += if_true if accumulator == number else if_false
                case 0x35:
                    at += if_true if accumulator >= number else if_false
                case 0x06:
                    return number


@pytest.mark.parametrize(
    ("version", "handled", "network", "scoped", "size"),
    [  # struct landlock_ruleset_attr of each version
        (1, 0x1FFF, 0, 0, 8),
        (2, 0x3FFF, 0, 0, 8),
        (3, 0x7FFF, 0, 0, 8),
        (4, 0x7FFF, 3, 0, 16),
        (5, 0xFFFF, 3, 0, 16),
        (6, 0xFFFF, 3, 3, 24),
        (7, 0xFFFF, 3, 3, 24),
    ],
)
def test_landlock_is_asked_for_all_that_its_version_knows(version, handled, network, scoped, size, tmp_path):
    kernel = Kernel(version)
    assert confinement._restrict_files(kernel, [], [tmp_path]) == version
    assert kernel.size == len(kernel.attributes) == size
    assert kernel.attributes == struct.pack("=QQQ", handled, network, scoped)[:size]
    assert kernel.rules == {tmp_path.stat().st_ino: handled}


def test_files_get_no_rights_that_only_folders_have_and_what_is_absent_gets_none(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    kernel = Kernel()
    confinement._restrict_files(kernel, [folder, file, tmp_path / "absent"], [Path(os.devnull)])
    assert kernel.rules == {
        folder.stat().st_ino: 0b1101,  # execute, read files, list folders
        file.stat().st_ino: 0b0101,
        Path(os.devnull).stat().st_ino: 0xC007,  # execute, write, read, truncate, control devices
    }


@pytest.mark.parametrize("kernel", [Kernel(-1), Kernel(0), Kernel(makes=False), Kernel(restricts=False)])
def test_a_kernel_without_landlock_restricts_no_files_and_says_so(kernel, tmp_path):
    assert confinement._restrict_files(kernel, [tmp_path], []) == 0


@pytest.mark.parametrize(
    ("machine", "architecture", "refused", "allowed"),
    [  # socket, ptrace, process_vm_readv, process_vm_writev, io_uring_setup; read, openat, exit_group
        ("x86_64", 0xC000003E, (41, 101, 310, 311, 425), (0, 257, 231)),
        ("aarch64", 0xC00000B7, (198, 117, 270, 271, 425), (63, 56, 94)),
    ],
)
def test_the_filter_refuses_its_calls_and_all_of_another_architecture(
    machine, architecture, refused, allowed, monkeypatch
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    kernel = Kernel()
    assert confinement._filter_calls(kernel)
    assert {kernel.verdict(architecture, call) for call in allowed} == {ALLOW}
    assert {kernel.verdict(architecture, call) for call in refused} == {REFUSE}
    i386, x32 = 0x40000003, 0x40000000
    assert {kernel.verdict(i386, call) for call in allowed} == {REFUSE}
    assert {kernel.verdict(architecture, x32 | call) for call in allowed} == {REFUSE}


def test_what_is_in_force_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    for kernel, in_force in (
        (Kernel(4), ("landlock 4", "seccomp")),
        (Kernel(0), ("seccomp",)),
        (Kernel(4, takes_filters=False), ("landlock 4",)),
    ):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, kernel=kernel: kernel)
        assert confinement.confine([], [tmp_path]) == in_force


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "riscv64")])
def test_a_system_that_is_not_known_is_asked_for_nothing_of_which_nothing_is_known(system, machine, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", system)
    kernel = Kernel(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: kernel)
    assert confinement.confine([], []) == ()
    assert kernel.program == []
