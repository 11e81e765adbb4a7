"""A real onnxd: the release binary, run the way an orchestrator runs it."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path

import prometheus
import requests
from polling import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
TARGET = REPOSITORY / "target"
BINARY = TARGET / "release" / "onnxd"
[LIBRARY] = Path(sysconfig.get_path("platlib")).glob("onnxruntime/capi/libonnxruntime.so.*")


def onnxruntime(is_on):
    """The setting that lets a server have ONNX Runtime, or not, whatever is on the machine."""
    return {"ONNXD_INFERENCE__ONNXRUNTIME": str(LIBRARY.resolve()) if is_on else "off"}


# TEST_ONNXRUNTIME=on gives it to all servers of a run that do not say otherwise.
DEFAULTS = onnxruntime(os.environ.get("TEST_ONNXRUNTIME") == "on")


def free_port():
    """A port that nobody listens on, for what can only be told one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Server:
    """One process, which logs to a file in `folder`. It gets the given environment over DEFAULTS and nothing of ours;
    `before` is called in it before it begins."""

    def __init__(self, folder, port=0, models=MODELS, ready_within=30, before=None, **environment):
        self.log = folder / "onnxd.log"
        command = [BINARY, "serve", "--address", "127.0.0.1", "--port", str(port), "--grpc-port", "0", "--models", models]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=DEFAULTS | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=before,
            )  # fmt: skip
        try:
            # Port 0 lets the system choose, and the log tells what it chose.
            self.port = wait_until(lambda: self._port_of("address"), 10, "onnxd listens")
            if ready_within is not None:
                wait_until(lambda: self.get("/health/ready").ok, ready_within, "onnxd is ready")
        except BaseException:
            self.kill()
            raise

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path):
        return requests.get(self.url(path), timeout=10)

    def metrics(self):
        return prometheus.samples(self.get("/metrics").text)

    def stop(self):
        """SIGTERM, as Kubernetes stops a pod; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    @property
    def grpc_port(self):
        return self._port_of("grpc_address")

    def kill(self):
        """Makes sure that it is gone, if it is not yet."""
        self.process.kill()
        self.process.wait()

    def _port_of(self, field):
        if self.process.poll() is not None:
            raise RuntimeError(f"onnxd ended with {self.process.returncode}:\n{self.log.read_text()}")
        for line in self.log.read_text().splitlines():
            entry = json.loads(line)
            if entry["message"] == "listening":
                return int(entry[field].rpartition(":")[2])
        return None
