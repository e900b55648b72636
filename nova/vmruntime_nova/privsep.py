"""What needs more rights than Nova has, in oslo.privsep's daemon; as root it happens in place.

The daemon is vmruntime's parent, and vmruntime needs what runc needs: these are
nearly all capabilities. The way to it is narrow, five functions.
"""

import os
import subprocess
import sys

import nova.conf
from oslo_privsep import capabilities as c
from oslo_privsep import priv_context

from vmruntime_nova import conf, store

conf.register(nova.conf.CONF)

context = priv_context.PrivContext(
    "vmruntime_nova",
    cfg_section="vmruntime_privileged",
    pypath=__name__ + ".context",
    capabilities=[
        c.CAP_AUDIT_WRITE,
        c.CAP_CHOWN,
        c.CAP_DAC_OVERRIDE,
        c.CAP_DAC_READ_SEARCH,
        c.CAP_FOWNER,
        c.CAP_FSETID,
        c.CAP_IPC_LOCK,
        c.CAP_KILL,
        c.CAP_MKNOD,
        c.CAP_NET_ADMIN,
        c.CAP_NET_BIND_SERVICE,
        c.CAP_NET_RAW,
        c.CAP_SETFCAP,
        c.CAP_SETGID,
        c.CAP_SETPCAP,
        c.CAP_SETUID,
        c.CAP_SYS_ADMIN,
        c.CAP_SYS_CHROOT,
        c.CAP_SYS_NICE,
        c.CAP_SYS_PTRACE,
        c.CAP_SYS_RESOURCE,
    ],
)


def initialize() -> None:
    """Does without the daemon where Nova itself is root."""
    context.set_client_mode(os.geteuid() != 0)


@context.entrypoint
def runtime(argv: list[str], timeout: float | None, output: str | None) -> tuple[int, str, str]:
    """Runs [vmruntime]runtime, which argv must name: exit status, stdout, stderr.

    output is a file that what it prints, and what it leaves behind prints, is appended to.
    """
    _need_runtime(argv)
    if output is None:
        return _run(argv, timeout, subprocess.PIPE)
    with open(output, "ab") as file:  # noqa: PTH123
        return _run(argv, timeout, file.fileno())


def _need_runtime(argv: list[str]) -> None:
    if argv[0] != nova.conf.CONF.vmruntime.runtime:
        raise PermissionError(f"{argv[0]} is not the runtime of [vmruntime]runtime")


def _run(argv: list[str], timeout: float | None, output: int) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"it took longer than {timeout:g} s and was ended"
    except OSError as e:
        return 1, "", str(e)
    return done.returncode, _text(done.stdout), _text(done.stderr)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")


@context.entrypoint
def ip(args: list[str], lines: list[str]) -> str:
    """Runs ip with args, and with lines as a batch if there are any: what it prints, or RuntimeError."""
    batch = ["-batch", "-"] if lines else []
    done = subprocess.run(
        ["ip", *batch, *args], input="".join(line + "\n" for line in lines), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


@context.entrypoint
def write_file(path: str, content: bytes, mode: int) -> None:
    """Makes or replaces a file, owned by root."""
    store.write(store.Path(path), content, mode)


# The programs behind serial consoles, which end with this process, and their ports.
_consoles: dict[str, tuple[subprocess.Popen[str], int]] = {}


@context.entrypoint
def console(name: str, argv: list[str], address: str) -> int:
    """The port at which argv, a command of the runtime, has a terminal for who connects.

    It stays the same until end_console: Nova asks again when somebody comes with a token for it.
    """
    _need_runtime(argv)
    if name in _consoles and _consoles[name][0].poll() is None:
        return _consoles[name][1]
    end_console(name)
    argv = [sys.executable, "-m", "vmruntime_nova.console", address, *argv]
    program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    _consoles[name] = program, int(program.stdout.readline())
    return _consoles[name][1]


@context.entrypoint
def end_console(name: str) -> None:
    """Closes a port that console has opened. None there is fine."""
    program, _ = _consoles.pop(name, (None, 0))
    if not program:
        return
    with program:
        program.kill()
