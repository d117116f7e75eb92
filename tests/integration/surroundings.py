"""Becomes a program in surroundings that it did not choose:

    surroundings.py [--no-landlock] PROGRAM ARGUMENTS

a word in the environment, an open file, cores as large as can be; and, if asked, a
kernel that knows no Landlock."""

import ctypes
import os
import resource
import sys

NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
ALLOW, NOT_IMPLEMENTED = 0x7FFF0000, 0x00050000 | 38
LANDLOCK_CREATE_RULESET = 444


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.POINTER(Instruction))]


def forget_landlock():
    """seccomp(2): one system call is not there, as before Linux 5.13."""
    code = (Instruction * 4)(
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
        (0x06, 0, 0, NOT_IMPLEMENTED),
        (0x06, 0, 0, ALLOW),
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in [(NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, MODE_FILTER, ctypes.byref(Filter(4, code)), 0, 0)]:
        if prctl(*arguments) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))


words = sys.argv[1:]
if words[0] == "--no-landlock":
    forget_landlock()
    words = words[1:]
os.set_inheritable(os.dup2(os.open("leaked", os.O_RDWR | os.O_CREAT), 9), True)
os.environ["SCISTREAM_CANARY"] = "a word that is not for proxies"
most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
os.execv(words[0], words)
