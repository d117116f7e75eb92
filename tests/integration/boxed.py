#!/usr/bin/python3 -IS
"""Stands in for a backend's program: tries what a program that was broken into
would try, tells the outcome of each try in a line of its own, and becomes the program."""

import ctypes
import errno
import json
import os
import shutil
import socket
import sys

PROGRAM = @PROGRAM@
TRIES = @TRIES@

libc = ctypes.CDLL(None, use_errno=True)


class Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def change(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(path)


def link(path):
    os.symlink("/etc/passwd", path)
    os.unlink(path)


def execute(path):
    """Runs a program that was put there."""
    shutil.copy("/usr/bin/true", path)
    os.waitpid(os.posix_spawn(path, [path], {}), 0)


def signal(pid):
    os.kill(int(pid), 0)


def memory(pid):
    """Looks for a place that can be read, as a debugger would; whether it may is told before."""
    there, here = Span(0x1000, 1), Span(ctypes.addressof(ctypes.create_string_buffer(1)), 1)
    try:
        checked(libc.process_vm_readv(int(pid), ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
    except OSError as e:
        if e.errno != errno.EFAULT:
            raise


def bind(port):
    with socket.socket() as one:
        one.bind(("127.0.0.1", int(port)))


def connect(port):
    with socket.create_connection(("127.0.0.1", int(port))):
        pass


def unix(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def abstract(name):
    unix("\0" + name)


def packet(_):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def mount(path):
    checked(libc.mount(b"none", path.encode(), b"tmpfs", 0, None))


def attempt(kind, what):
    try:
        {"list": os.listdir}.get(kind, globals().get(kind))(what)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
    return "done"


# As it is asked for its version it is not in a session's folder, nor in a box.
if os.path.exists("session.json") or os.path.exists("psk"):
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)  # landlock_create_ruleset(2)
    lines = [{"kind": kind, "what": what, "outcome": attempt(kind, what)} for kind, what in TRIES]
    lines.append({"kind": "landlock", "what": str(version), "outcome": ""})
    print("".join("tried " + json.dumps(line) + "\n" for line in lines), end="", flush=True)
os.execv(PROGRAM, [PROGRAM] + sys.argv[1:])
