"""A private Docker daemon in one folder, which leaves the machine as it was.

It has its own socket, and it neither makes the usual bridge nor touches the
firewall: a second daemon that did would take them from the machine's own.
Containers are on a network made for the test, and their ports are published by
Docker's proxy process alone. Builds use the machine's network.
"""

import os
import subprocess
from pathlib import Path

from polling import wait_until

# Debian's client, made for Debian's daemon; another may come first in PATH.
DOCKER = "/usr/bin/docker"
DOCKERD = "/usr/sbin/dockerd"
NETWORK = "test"


class Daemon:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.socket = f"unix://{self.folder}/docker.sock"
        self.log = self.folder / "dockerd.log"

    def start(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        try:
            wait_until(self._answers, 60, "the Docker daemon answers")
            self.docker("network", "create", NETWORK)
        except BaseException:
            self._end()
            raise

    def stop(self):
        try:
            for container in self.docker("ps", "--all", "--quiet").split():
                self.docker("rm", "--force", container)
            self.docker("network", "rm", NETWORK)
        finally:
            self._end()

    def docker(self, *arguments, **options):
        """Runs one command of the client and returns what it printed, without the newline at the end."""
        ran = subprocess.run(
            [DOCKER, "-H", self.socket, *arguments], capture_output=True, text=True, **options
        )
        if ran.returncode != 0:
            raise RuntimeError(f"docker {' '.join(map(str, arguments))}\n{ran.stdout}{ran.stderr}")
        return ran.stdout.strip()

    def build(self, context, tag, *arguments):
        """Builds with the older builder, which needs no plug-in and takes bases that no registry has."""
        command = ["build", "--tag", tag, "--network", "host", *arguments, context]
        self.show(*command, env=os.environ | {"DOCKER_BUILDKIT": "0"})

    def show(self, *arguments, **options):
        """Runs one command of the client whose output goes where the test's own does."""
        ran = subprocess.run([DOCKER, "-H", self.socket, *arguments], **options)
        if ran.returncode != 0:
            raise RuntimeError(f"docker {arguments[0]} failed, see its output")

    def archive(self, container, path):
        """A tar of that path in the container, which needs no shell in there."""
        return subprocess.check_output([DOCKER, "-H", self.socket, "cp", f"{container}:{path}", "-"])

    def limits_cpu_and_memory(self):
        return self.docker("info", "--format", "{{.CPUCfsQuota}} {{.MemoryLimit}}") == "true true"

    def _command(self):
        return [
            DOCKERD,
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/dockerd.pid",
            f"--host={self.socket}",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
        ]

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"dockerd ended:\n{self.log.read_text()[-2000:]}")
        ran = subprocess.run([DOCKER, "-H", self.socket, "info"], capture_output=True)
        return ran.returncode == 0

    def _end(self):
        self.process.terminate()
        self.process.wait(60)
        # The daemon leaves these mounted, and a mounted folder cannot be removed.
        for mount in mounts_below(self.folder):
            subprocess.run(["umount", mount], check=True)


def mounts_below(folder):
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)
