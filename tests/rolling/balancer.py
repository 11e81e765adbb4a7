"""HAProxy in front of the servers, checking their health the way a readiness probe does."""

import csv
import io
import socket
import subprocess

from polling import wait_until

# `retries 0`: HAProxy would else repeat a request in silence when a server resets or
# refuses the connection, and a request that a rollout lost would never show.
CONFIGURATION = """
global
    stats socket {socket} level operator
defaults
    mode http
    retries 0
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend front
    bind fd@{listener}
    default_backend servers
backend servers
    balance roundrobin
    option httpchk GET /health/ready
    default-server check inter 500ms fall 2 rise 1
{servers}
"""


class Balancer:
    def __init__(self, folder, ports):
        self.socket = folder / "haproxy.sock"
        self.log = folder / "haproxy.log"
        configuration = folder / "haproxy.cfg"
        # Bound here and handed over, so that nobody can take the free port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener, self.log.open("w") as log:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            servers = [f"    server {port} 127.0.0.1:{port}" for port in ports]
            configuration.write_text(
                CONFIGURATION.format(
                    socket=self.socket, listener=listener.fileno(), servers="\n".join(servers)
                )
            )
            self.process = subprocess.Popen(
                ["haproxy", "-db", "-f", configuration],
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
            )
        try:
            wait_until(self.socket.exists, 10, "HAProxy starts")
            wait_until(lambda: all(map(self.is_up, ports)), 10, "HAProxy sees every server")
        except BaseException as error:
            self.stop()
            raise RuntimeError(f"HAProxy:\n{self.log.read_text()}") from error

    def is_up(self, port):
        return self._status(str(port)) == "UP"

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

    def _status(self, server):
        [row] = [row for row in self._rows() if row["svname"] == server]
        return row["status"]

    def _rows(self):
        """HAProxy's statistics of the servers, as it has them now."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"show stat servers 4 -1\n")
            answer = connection.makefile().read()
        return list(csv.DictReader(io.StringIO(answer.removeprefix("# "))))
