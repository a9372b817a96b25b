"""Makes another process carry out one system call, as somebody who took it over could; by ptrace, x86-64 only.

The process is stopped where it waits, in a system call; it executes the same instruction again with other registers, and
then goes on as if nothing had been. What its sandbox does to the call is what it would do to the process' own.
"""

import ctypes
import os
import platform
import signal

PTRACE_PEEKTEXT, PTRACE_POKETEXT, PTRACE_CONT, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_DETACH = 1, 4, 7, 12, 13, 17
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
SYS_CLOSE, SYS_SOCKET, SYS_KILL = 3, 41, 62

possible = platform.machine() == "x86_64" and os.geteuid() == 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es "
        "fs gs").split()]


def _ptrace(request, pid, address=0, data=0):
    ctypes.set_errno(0)
    answer = _libc.ptrace(request, pid, address, data)
    if answer == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace request {request:#x}")
    return answer


def _stopped(pid):
    _, status = os.waitpid(pid, 0)
    return os.WSTOPSIG(status) if os.WIFSTOPPED(status) else None


def system_call(pid, number, *arguments):
    """What the kernel answered (negative: -errno); None when the process ended by it."""
    _ptrace(PTRACE_SEIZE, pid)
    _ptrace(PTRACE_INTERRUPT, pid)
    _stopped(pid)
    before = _Registers()
    _ptrace(PTRACE_GETREGS, pid, 0, ctypes.addressof(before))
    code = _ptrace(PTRACE_PEEKTEXT, pid, before.rip - 2)
    if code & 0xffff != 0x050f:
        _ptrace(PTRACE_DETACH, pid)
        raise RuntimeError("it was not stopped in a system call")
    # A breakpoint behind the instruction: also a signal handler that the call raises comes back to it.
    after = _ptrace(PTRACE_PEEKTEXT, pid, before.rip)
    _ptrace(PTRACE_POKETEXT, pid, before.rip, (after & ~0xff) | 0xcc)
    registers = _Registers.from_buffer_copy(before)
    registers.rip -= 2
    registers.orig_rax = ctypes.c_ulonglong(-1).value
    registers.rax = number
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), (*arguments, 0, 0, 0, 0, 0, 0)):
        setattr(registers, name, ctypes.c_ulonglong(value).value)
    _ptrace(PTRACE_SETREGS, pid, 0, ctypes.addressof(registers))
    deliver = 0
    while True:
        _ptrace(PTRACE_CONT, pid, 0, deliver)
        seen = _stopped(pid)
        if seen is None:
            return None
        if seen == signal.SIGTRAP:
            break
        deliver = seen
    answered = _Registers()
    _ptrace(PTRACE_GETREGS, pid, 0, ctypes.addressof(answered))
    _ptrace(PTRACE_POKETEXT, pid, before.rip, after)
    _ptrace(PTRACE_SETREGS, pid, 0, ctypes.addressof(before))
    _ptrace(PTRACE_DETACH, pid)
    return ctypes.c_longlong(answered.rax).value
