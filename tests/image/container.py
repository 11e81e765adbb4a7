"""One running container of the image."""

import json

import daemon as docker_daemon
import prometheus
import requests
from polling import wait_until


class Container:
    """Started on entering; on leaving, its log is printed (pytest shows it on failure) and it is removed."""

    def __init__(self, daemon, image, options=(), arguments=(), port=8000):
        self.daemon = daemon
        self.port = port
        published = ["--publish", f"127.0.0.1::{port}", "--network", docker_daemon.NETWORK]
        self.command = ["run", "--detach", *published, *options, image, *arguments]

    def __enter__(self):
        self.id = self.daemon.docker(*self.command)
        return self

    def __exit__(self, *_):
        self.daemon.show("logs", self.id)
        self.daemon.docker("rm", "--force", self.id)

    def until_ready(self):
        wait_until(self.is_ready, 60, "/health/ready answers 200")
        return self

    def is_ready(self):
        if self.state()["Status"] == "exited":
            raise RuntimeError("the container ended before it was ready")
        try:
            return self.get("/health/ready").ok
        except requests.ConnectionError:
            return False

    def get(self, path):
        return requests.get(self.url(path), timeout=10)

    def post(self, path, body):
        return requests.post(self.url(path), json=body, timeout=30)

    def url(self, path):
        address = self.daemon.docker("port", self.id, str(self.port))
        return f"http://{address}{path}"

    def metrics(self):
        return prometheus.samples(self.get("/metrics").text)

    def execute(self, *command):
        return self.daemon.docker("exec", self.id, *command)

    def state(self):
        return json.loads(self.daemon.docker("inspect", "--format", "{{json .State}}", self.id))

    def stop(self, seconds):
        """SIGTERM, and SIGKILL after so many seconds; the exit code."""
        self.daemon.docker("stop", "--time", str(seconds), self.id)
        return self.state()["ExitCode"]
