"""A kernel that is forked from its worker, with the libraries loaded; a new process needs seconds to load them.

Without forking, twelve standard runs of lesson 01 took a fifth more processor time. Kernels are forked only on Linux
without a GPU, where it is safe to fork a process with these libraries. Elsewhere Jupyter starts new processes.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


def can_be_forked() -> bool:
    """Whether kernels may be forked from a process that has loaded the libraries."""
    gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()
    return sys.platform.startswith("linux") and not gpu and not os.environ.get("WORKBOOK_COLD_KERNELS")


class ForkedKernel:
    """A fork of this process that waits for the command to become a kernel; behaves like a `subprocess.Popen`.

    The fork happens early, while this process has one thread and no open files. A later fork could inherit a lock that
    is never released.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        self.returncode: int | None = None
        self._orders, orders = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._orders.close()
            _become_kernel(orders)
        orders.close()

    def begin(self, arguments: list[str], environment: dict[str, str], folder: str, log: int) -> None:
        """Make the fork a kernel with ipykernel's arguments; its output goes to the file descriptor `log`."""
        order = {"arguments": arguments, "environment": environment, "folder": folder}
        with self._orders, suppress(BrokenPipeError):  # if the fork was killed, its missing reply shows that later
            socket.send_fds(self._orders, [b"."], [log])
            self._orders.sendall(json.dumps(order).encode())

    def poll(self) -> int | None:
        """The kernel's exit status, negative for a signal; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for the kernel to end; return its exit status."""
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        """Send the kernel a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _wait(self, how: int) -> int | None:
        if self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # `end_run` has already waited for it
                ended, status = self.pid, signal.SIGKILL
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode


class ForkedProvisioner(LocalProvisioner):
    """Starts a kernel by waking the waiting fork."""

    forked: ForkedKernel

    async def launch_kernel(self, cmd, *, env, cwd, stdout, **options):
        """Start the fork with the arguments of `cmd`, the command that would start a new process."""
        self.forked.begin(cmd[cmd.index("-f") :], env, cwd, stdout)
        self.process, self.pid, self.pgid = self.forked, self.forked.pid, None
        return self.connection_info


def manager(kernel: str, connection_file: str, forked: ForkedKernel | None) -> AsyncKernelManager:
    """The manager of a kernel that listens on sockets next to `connection_file`, or on Windows on ports.

    Args:
        forked: the fork that becomes the kernel; None starts a new process.
    """
    where = {} if sys.platform == "win32" else {"transport": "ipc", "connection_file": connection_file}
    made = AsyncKernelManager(kernel_name=kernel, **where)
    if forked:
        made.provisioner = ForkedProvisioner(kernel_id="forked", kernel_spec=made.kernel_spec, parent=made)
        made.provisioner.forked = forked
    return made


def _become_kernel(orders: socket.socket) -> None:
    """In the forked process: wait for the start command, then run as a Jupyter kernel until shutdown."""
    status = 1
    try:
        os.setsid()
        _die_with_parent()
        _, (log, *_), *_ = socket.recv_fds(orders, 1, 1)
        order = json.loads(b"".join(iter(lambda: orders.recv(65536), b"")))
        for target in (1, 2):
            os.dup2(log, target)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.path.insert(0, "")  # as in any kernel, modules next to the notebook can be imported
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # Python reseeds its own `random` in a fork, numpy does not
        sys.argv = ["ipykernel_launcher", *order["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"]
        IPKernelApp.launch_instance(sys.argv[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(130)
