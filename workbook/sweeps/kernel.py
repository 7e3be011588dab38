"""A Jupyter kernel that is a copy of this process: it finds the libraries loaded, and is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner


class ForkedKernel:
    """A copy of this process that waits until it is told to become a kernel; looks like a `subprocess.Popen`.

    It is made early, while this process has one thread and has opened nothing: what is copied later could hold
    a lock for ever.
    """

    stdin = stdout = stderr = None

    def __init__(self):
        self.returncode: int | None = None
        reading, self.orders = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.orders)
            _serve(reading)
        os.close(reading)

    def begin(self, connection_file: str, environment: dict[str, str], folder: str) -> None:
        """Let it become the kernel of `connection_file`."""
        order = {"connection_file": connection_file, "environment": environment, "folder": folder}
        with os.fdopen(self.orders, "w") as pipe:
            pipe.write(json.dumps(order))

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _serve(orders: int) -> None:
    """In the copy: wait for the order, then be a kernel until it is shut down."""
    die_with_parent()
    be_called("sweep-kernel")
    status = 1
    try:
        with os.fdopen(orders) as pipe:
            order = json.loads(pipe.read() or "{}")
        if order:
            os.environ.update(order["environment"])
            os.environ["JPY_PARENT_PID"] = str(os.getppid())
            os.chdir(order["folder"])
            sys.path.insert(0, "")  # as in any kernel, modules beside the notebook can be imported
            sys.argv = ["ipykernel_launcher", "-f", order["connection_file"]]
            from ipykernel.kernelapp import IPKernelApp

            IPKernelApp.launch_instance(sys.argv[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the kernel's own watch has to do."""
    if sys.platform.startswith("linux"):
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(130)


def be_called(name: str) -> None:
    """What `ps` and `top` show for this process, on Linux: copies would all look like their starter."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(15, name.encode())


class ForkedProvisioner(LocalProvisioner):
    """Starts the kernel by letting the waiting copy begin."""

    forked: ForkedKernel

    async def launch_kernel(self, cmd, **options):
        self.forked.begin(self.parent.connection_file, options.get("env") or {}, str(options.get("cwd") or Path.cwd()))
        self.process, self.pid, self.pgid = self.forked, self.forked.pid, None
        return self.connection_info


def manager_of(forked: ForkedKernel | None) -> type[AsyncKernelManager]:
    """The manager class that nbclient asks for; with a waiting copy, that becomes the kernel."""

    class Manager(AsyncKernelManager):
        def __init__(self, **options):
            # Sockets in a folder of this user's: no port is open, and none can be taken by somebody else meanwhile.
            super().__init__(transport="ipc", connection_file=str(Path(tempfile.gettempdir()) / "k.json"), **options)

        async def _async_pre_start_kernel(self, **options):
            if forked and self.provisioner is None:
                self.kernel_id = "sweep"
                self.provisioner = ForkedProvisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
                self.provisioner.forked = forked
            return await super()._async_pre_start_kernel(**options)

    return Manager
