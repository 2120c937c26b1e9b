"""Takes away what not every system has: put before a program, this makes it run as elsewhere, as far as Linux can.

Everything but szal is loaded first: what it takes for granted is its own affair.
"""

# ruff: noqa: F401
import concurrent.futures.thread
import enum
import importlib.metadata
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import uuid

import click
import psycopg
import psycopg_pool
import rich.live
import rich.table
import sqlite_utils
import tenacity
import yaml

# What Windows has of each, in lists that may be too long: whatever szal uses beyond them has to be looked for first.
IN_OS = """
    abc abort access altsep chdir chmod close closerange cpu_count curdir defpath device_encoding devnull dup
    dup2 environ error execl execv execve extsep fdopen fsdecode fsencode fspath fstat fsync ftruncate
    get_exec_path get_handle_inheritable get_inheritable get_terminal_size getcwd getcwdb getenv getlogin
    getpid getppid isatty kill linesep link listdir lseek lstat makedirs mkdir name open pardir path pathsep
    pipe popen putenv read readlink remove removedirs rename renames replace rmdir scandir sep set_inheritable
    spawnl spawnv startfile stat stat_result strerror supports_bytes_environ supports_dir_fd
    supports_effective_ids supports_fd supports_follow_symlinks symlink sys system terminal_size times
    times_result truncate umask unlink unsetenv urandom utime waitpid waitstatus_to_exitcode walk write
    DirEntry F_OK MutableMapping Mapping O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY P_NOWAIT
    P_WAIT PathLike R_OK SEEK_CUR SEEK_END SEEK_SET TMP_MAX W_OK X_OK st
"""
SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")
IN_SIGNAL = """
    Handlers ITIMER_REAL NSIG SIG_DFL SIG_IGN Signals default_int_handler getsignal raise_signal set_wakeup_fd
    signal strsignal valid_signals
"""
GONE = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")

for module, kept in ((os, {*IN_OS.split(), "_exit"}), (signal, {*IN_SIGNAL.split(), *SIGNALS})):
    for name in list(vars(module)):
        if name not in kept and not name.startswith("_"):
            delattr(module, name)
signal.Signals = enum.IntEnum("Signals", {name: int(getattr(signal, name)) for name in SIGNALS})
for name in GONE:
    sys.modules[name] = None


def refuse(event, arguments):
    """Have nothing in /proc."""
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(arguments[0])


sys.addaudithook(refuse)
