"""A proxy before a store, which does to its answers what networks and stores do on bad days."""

import contextlib
import http.client
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

DROPPED = {"connection", "transfer-encoding", "keep-alive", "date", "server", "content-length"}


class Proxy:
    """Listens on a port of its own. `fault` is the name of one of FAULTS; `hits` chooses the requests that it befalls."""

    def __init__(self, port):
        self.upstream = ("127.0.0.1", port)
        self.fault, self.hits, self.requests = None, None, []
        self.port, self.connections = 0, set()
        self.start()

    def start(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def refuse(self):
        """Nobody listens any more, until start(), and no connection is kept."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def break_with(self, fault, hits=None):
        self.fault, self.hits = fault, hits

    def mend(self):
        self.fault = None

    def _handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                proxy.connections.add(self.connection)

            def finish(self):
                proxy.connections.discard(self.connection)
                super().finish()

            def log_message(self, *_):
                pass

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                path = unquote(self.path)
                proxy.requests.append((self.command, path))
                befalls = proxy.fault and (proxy.hits is None or proxy.hits(self.command, path))
                upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in DROPPED]
                if self.command == "HEAD":
                    kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
                else:
                    kept.append(("Content-Length", str(len(content))))
                self.answer = (answer.status, kept, content)
                (FAULTS[proxy.fault] if befalls else send)(self, *self.answer)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PROPFIND = do_OPTIONS = handle_any

        return Handler


def send(handler, status, headers, content, pace=None):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        for start in range(0, len(content), pace or len(content) or 1):
            handler.wfile.write(content[start : start + (pace or len(content))])
            if pace:
                handler.wfile.flush()
                time.sleep(0.2)


def sized(headers, length):
    return [(k, v) for k, v in headers if k != "Content-Length"] + [("Content-Length", str(length))]


def slow(handler, status, headers, content):
    """The bytes come a few at a time."""
    send(handler, status, headers, content, pace=max(1, len(content) // 10))


def cut(handler, status, headers, content):
    """The connection breaks in the middle of the body."""
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def half(handler, status, headers, content):
    """Half of the body, as if that were all of it."""
    content = content[: len(content) // 2]
    send(handler, status, sized(headers, len(content)), content)


def garbage(handler, status, headers, content):
    """As many bytes as there should be, and one of them is another."""
    middle = len(content) // 2
    send(handler, status, headers, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def with_status(status):
    def answer(handler, _status, _headers, _content):
        send(handler, status, [("Content-Length", "6")], b"sorry\n")

    return answer


def fewer(handler, status, headers, content):
    """A listing that is whole, to all appearances, and names only the first of its objects."""
    text = content.decode()
    entries = re.findall(r"<Contents>.*?</Contents>", text, re.S)
    for entry in entries[1:]:
        text = text.replace(entry, "")
    send(handler, status, sized(headers, len(text.encode())), text.encode())


def empty(handler, status, headers, content):
    """A listing that is whole, to all appearances, and names nothing."""
    text = re.sub(r"<Contents>.*</Contents>", "", content.decode(), flags=re.S)
    send(handler, status, sized(headers, len(text.encode())), text.encode())


FAULTS = {
    "slow": slow,
    "cut": cut,
    "half": half,
    "garbage": garbage,
    "500": with_status(500),
    "403": with_status(403),
    "404": with_status(404),
    "fewer": fewer,
    "empty": empty,
}
