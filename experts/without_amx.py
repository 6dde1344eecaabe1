"""Refuses AMX to this process on Linux x86-64, so that a processor that has it is measured as one with VNNI alone.

Import it before ONNX Runtime. The kernel gives the tiles of AMX only to processes that request them: a seccomp filter
answers this request with EINVAL.
"""
import ctypes
import errno
import struct

ARCH_PRCTL, ARCH_REQ_XCOMP_PERM = 158, 0x1023
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EINVAL


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def refuse() -> None:
    # (code, jump if equal, jump if not, value): the call's number is at 0 and the first argument at 16.
    steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, ARCH_PRCTL), (LOAD, 0, 0, 16), (EQUAL, 0, 1, ARCH_REQ_XCOMP_PERM),
             (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    program = Filter(len(steps), b"".join(struct.pack("<HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "the filter cannot be set")
    assert libc.syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, 18) == -1 and ctypes.get_errno() == errno.EINVAL


refuse()
