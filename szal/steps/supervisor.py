"""Who ends the commands when this process has died, however it did: another process, which outlives it.

A process that is killed can do nothing any more, and its commands would go on beside the copies that whoever recovers
starts. So there is a shell, started with the first command and not a child of this process, that does nothing but read
what it is told of commands. What it reads from ends with this process, by whatever: then it ends the commands that
are left, as this process would have done, and itself.

A command is told of before it is started, as this process may die in between. On Linux it is then found by a variable
in its environment; elsewhere, one that had been started some 100 µs before is missed.
"""

import contextlib
import itertools
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from typing import Final

import attrs

from szal import process_events
from szal.logs import SafeLogger
from szal.process_table import is_there, sees_this_process, start_of
from szal.steps.stop_policy import StopPolicy

__all__ = ["Supervised", "Supervisor", "is_ending_for", "supervisor"]

logger = SafeLogger(logging.getLogger(__name__))

_NAME: Final = "szal-supervisor"
_MARK: Final = "SZAL_COMMAND_ID"  # as in the script
_MOST_TENTHS: Final = 10**9  # what any shell can count

_SCRIPT: Final = r"""# szal: ends the commands of process $1 when that process has ended
nl='
'
nap() {  # a tenth of a second, or what there is; takes it from $left
  left=$((left - 1))
  sleep 0.1 || { left=$((left - 9)); sleep 1; } || left=0
}
started() {  # prints the group of the command with the mark $1
  for process in /proc/[0-9]*; do
    if grep -qs "SZAL_COMMAND_ID=$1/" "$process/environ" && read -r stat <"$process/stat"; then
      set -- ${stat##*") "}
      echo "$3"
      return
    fi
  done
}
end() {  # signal, tenths of a second, mark, group
  group=$4
  left=20
  while [ -z "$group" ] && [ "$left" -gt 0 ]; do  # it was about to be started
    group=$(started "$3")
    [ -n "$group" ] || nap
  done
  [ -n "$group" ] || return
  kill "-$1" "-$group"
  left=$2
  while [ "$left" -gt 0 ] && kill -0 "-$group"; do nap; done
  kill -KILL "-$group"
  left=20
  while [ "$left" -gt 0 ] && kill -0 "-$group"; do nap; done
}
forget() {  # takes what is known of the command $1 out of $all, into $known
  known=
  case $all in *"$nl$1 "*) ;; *) return ;; esac
  known=${all#*"$nl$1 "}
  known=${known%%"$nl"*}
  all="${all%%"$nl$1 "*}$nl${all#*"$nl$1 $known$nl"}"
}
supervise() {
  all=$nl
  while read -r what command rest; do
    forget "$command"
    case $what in
      begin) all="$all$command $rest$nl" ;;
      group) all="$all$command $known $rest$nl" ;;
    esac
  done
  exec </dev/null
  while read -r command signal tenths group; do
    [ -z "$command" ] || end "$signal" "$tenths" "$3/$command" "$group" &
  done <<EOF
$all
EOF
  wait
}
trap '' HUP INT QUIT TERM USR1 USR2 PIPE
cd /
exec 3<&0 >/dev/null 2>&1
supervise "$@" <&3 3<&- &
"""


def is_ending_for(pid: str, start: str) -> bool:
    """Whether the commands of a process that has ended, of that number and start, are still being ended."""
    return is_there(_NAME, pid, start or "?")


@attrs.define(eq=False)
class Supervised:
    """A command that the supervisor knows of, from before its start to its end."""

    command: str
    environment: Mapping[str, str]
    """What the command has to have in its environment, by which it is found."""
    _policy: str
    _supervisor: "Supervisor"
    _group: int | None = None

    def lines(self) -> str:
        """Return all that there is to tell of it."""
        begin = f"begin {self.command} {self._policy}\n"
        return begin if self._group is None else f"{begin}group {self.command} {self._group}\n"

    def started(self, group: int) -> None:
        """Take note that it runs, as *group*."""
        self._group = group
        self._supervisor.tell(f"group {self.command} {group}\n")

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    def over(self) -> None:
        """Take note that all of it has ended, or that it was not started."""
        self._supervisor.forget(self)


class Supervisor:
    """The supervisor of this process, as seen from here: started with the first command, and again where it was ended.

    Nothing here waits for it. What it does not take at once it is told later.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self._token = secrets.token_hex(8)
        self._unsent = bytearray()
        self._commands: dict[str, Supervised] = {}
        process_events.enroll(self)

    def begin(self, policy: StopPolicy) -> Supervised:
        """Take note that a command is about to be started."""
        tenths = min(math.ceil(10 * policy.grace), _MOST_TENTHS)
        with self._lock:
            self._look_after()
            command = str(next(self._numbers))
            mark = {_MARK: f"{self._token}/{command}/"}
            found = Supervised(command, mark, f"{policy.signal} {tenths}", self)
            self._commands[command] = found
            self._send(found.lines())
        return found

    def forget(self, command: Supervised) -> None:
        """Take note that a command is over."""
        with self._lock:
            if self._commands.pop(command.command, None) is not None:
                self._send(f"over {command.command}\n")

    def tell(self, line: str) -> None:
        """Tell it something of a command that it knows of."""
        with self._lock:
            self._send(line)

    def look_after(self) -> None:
        """See to it that it is there, and knows all that it is to know."""
        with self._lock:
            self._look_after()

    def kill(self) -> None:
        """Kill all commands, without a grace. From any thread; it waits for nothing."""
        for command in self._commands.copy().values():
            command.kill()

    def close(self) -> None:
        """Have it end what still runs, and itself; the next command has another one started."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    # -- with the lock ---------------------------------------------------------------------------------

    def _look_after(self) -> None:
        is_lost = self._socket is not None and self._has_ended()
        if is_lost or self._socket is None:
            self._start()
        self._send("")
        if is_lost and self._socket is not None:
            logger.warning("the supervisor of this process's commands was ended, and has been started again")

    def _has_ended(self) -> bool:
        assert self._socket is not None
        try:
            return not self._socket.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _start(self) -> None:
        """Start it, and tell it of all that runs."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the program has closed all of its files, as old daemons do
                self._socket.close()
        self._socket = None
        start = start_of("self") if sees_this_process() else None
        arguments = (_NAME, str(os.getpid()), start or "?", self._token)  # as `is_ending_for` looks for them
        here, there = socket.socketpair()
        with there:
            here.setblocking(False)
            try:
                launched = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT, *arguments],
                    stdin=there.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.pathsep.join((os.environ.get("PATH", ""), os.defpath))},
                    start_new_session=True,
                )
            except OSError as error:
                here.close()
                logger.warning("commands will outlive this process if it is killed: no supervisor: %s", error)
                return
        launched.wait()  # what stays is no child of this process
        self._socket = here
        self._unsent = bytearray("".join(command.lines() for command in self._commands.values()).encode())

    def _send(self, text: str) -> None:
        """Tell it *text*, and before that what it has not taken yet; as much as it takes now."""
        self._unsent += text.encode()
        if self._socket is None or not self._unsent:
            return
        try:
            sent = self._socket.send(self._unsent, getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError:  # it has ended, or is busy: the next look tells
            return
        del self._unsent[:sent]

    # -- forks and the end: see `process_events` ---------------------------------------------------------

    def before_fork(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Give it back."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's, which must end with the parent alone."""
        if self._socket is not None:
            self._socket.close()
        self._lock, self._socket, self._token = threading.RLock(), None, secrets.token_hex(8)
        self._unsent, self._commands = bytearray(), {}

    def begin_exit(self) -> None:
        """Nothing to do: commands are still being ended."""

    def finish_exit(self, began: float) -> None:  # noqa: ARG002
        """Have it end, as all of them have."""
        self.close()


_ONE: Final[dict[str, Supervisor]] = {}  # it changes in one atomic operation


def supervisor() -> Supervisor:
    """Return the one of this process. Where two threads are the first, both make one, and one is kept."""
    return _ONE.get(_NAME) or _ONE.setdefault(_NAME, Supervisor())
