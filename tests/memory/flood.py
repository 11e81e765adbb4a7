"""Many clients at once, each of whose requests is as large as its answer."""

import socket
import subprocess
import threading
import time
from collections import Counter

import numpy as np
import requests

CLIENTS, SECONDS = 48, 15
BYTES = 8 << 20
# What a request that comes when the server is full may be told, beside that the server has refused the body and closed
# before this client had sent the rest and listened.
DOCUMENTED = {200, 413, 429, 503, "closed"}
RECEIVED_UNREAD = 64 << 10
STATUS_LINE = len("HTTP/1.1 200")


class Flood:
    """Requests to the model `name`, which takes and gives rows of so many floats as `x` and `y`."""

    def __init__(self, server, name, width):
        self.server, self.name, self.rows, self.width = server, name, BYTES // (4 * width), width
        self.data = np.ones((self.rows, width), np.float32).tobytes()
        head = '{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,%d],"parameters":{"binary_data_size":%d}}]%s}'
        self.head = (head % (self.rows, width, len(self.data), ',"parameters":{"binary_data_output":true}')).encode()

    @property
    def path(self):
        return f"/v2/models/{self.name}/infer"

    def run(self, client):
        """What the clients were told, and how often."""
        seen, end = Counter(), time.monotonic() + SECONDS

        def flood():
            while time.monotonic() < end:
                seen.update([client()])

        threads = [threading.Thread(target=flood) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return seen

    def reads_at_once(self):
        """A client that takes its answer as it comes."""
        headers = {"Inference-Header-Content-Length": str(len(self.head))}
        try:
            answer = requests.post(self.server.url(self.path), data=self.head + self.data, headers=headers)
        except requests.ConnectionError:
            return "closed"
        assert answer.status_code != 429 or "limits.bodies_in_flight_bytes" in answer.text, answer.text
        return answer.status_code

    def reads_text(self):
        """The same, whose answer is text, several times as long."""
        head = self.head.replace(b"true", b"false")
        headers = {"Inference-Header-Content-Length": str(len(head))}
        try:
            return requests.post(self.server.url(self.path), data=head + self.data, headers=headers).status_code
        except requests.ConnectionError:
            return "closed"

    def reads_nothing(self):
        """A client that looks at the status and leaves the rest of its answer where it is."""
        length = len(self.head) + len(self.data)
        fields = f"host: test\r\ninference-header-content-length: {len(self.head)}\r\ncontent-length: {length}"
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_UNREAD)
            try:
                connection.connect(("127.0.0.1", self.server.port))
                connection.sendall(f"POST {self.path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + self.head + self.data)
                status = connection.recv(STATUS_LINE, socket.MSG_WAITALL)
            except ConnectionError:
                return "closed"
            if not status:
                return "closed"
            status = int(status.split()[1])
            if status == 200:
                time.sleep(3)
            return status

    def speaks_grpc(self, folder):
        """A client of gRPC, which is curl with a message made by hand, and takes 4 MiB a second."""
        tensor = text(1, "x") + text(2, "FP32") + field(3, varint(self.rows) + varint(self.width))
        message = text(1, self.name) + field(5, tensor) + field(7, self.data)
        file = folder / "message"
        file.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        url = f"http://127.0.0.1:{self.server.grpc_port}/inference.GRPCInferenceService/ModelInfer"
        command = ["curl", "--silent", "--http2-prior-knowledge", "--limit-rate", "4M", "--output", "/dev/null",
                   "--dump-header", "-", "--header", "content-type: application/grpc", "--header", "te: trailers",
                   "--header", "expect:", "--data-binary", f"@{file}", url]  # fmt: skip

        def ask():
            told = subprocess.run(command, capture_output=True, text=True).stdout.lower().split()
            return int(told[told.index("grpc-status:") + 1]) if "grpc-status:" in told else "closed"

        return ask


def varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def text(number, string):
    return field(number, string.encode())
