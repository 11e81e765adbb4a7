"""A small Google Cloud Storage: what its XML interface says to whoever lists and reads, with its checksums.

It believes nobody but the service account whose key it has made.
"""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PAGE = 100


class Google:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.objects, self.generation, self.refused = {}, 0, 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, name, data):
        self.generation += 1
        self.objects[name] = (data, self.generation, time.gmtime())

    def delete(self, name):
        del self.objects[name]

    def write_key(self, path):
        """The file key.json of a service account, as Google gives it out."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        account = {
            "type": "service_account",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "onnxd@my-project.iam.gserviceaccount.com",
        }
        path.write_text(json.dumps(account))
        return pem

    def allows(self, authorization):
        """Whether this is a token that our key has signed."""
        token = (authorization or "").removeprefix("Bearer ")
        message, _, signature = token.rpartition(".")
        try:
            signature = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
            self.key.public_key().verify(signature, message.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = message.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            return claims["iss"].startswith("onnxd@") and claims["exp"] > time.time()
        except Exception:
            self.refused += 1
            return False

    def _handler(google):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                url = urlsplit(self.path)
                _, bucket, *name = unquote(url.path).split("/", 2)
                if not google.allows(self.headers.get("Authorization")):
                    return self.reply(401, b"<Error><Code>AuthenticationRequired</Code></Error>")
                if bucket != "bucket":
                    return self.reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
                if not name or not name[0]:
                    return self.list(parse_qs(url.query))
                found = google.objects.get(name[0])
                if not found:
                    return self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
                data, generation, modified = found
                etag = f'"{hashlib.md5(data).hexdigest()}"'
                if self.headers.get("If-Match", etag) != etag:
                    return self.reply(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                self.reply(
                    200,
                    data,
                    ETag=etag,
                    **{
                        "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", modified),
                        "x-goog-generation": str(generation),
                        "x-goog-hash": "md5=" + base64.b64encode(hashlib.md5(data).digest()).decode(),
                    },
                )

            def list(self, query):
                prefix, token = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
                names = sorted(name for name in google.objects if name.startswith(prefix) and name > token)
                page, rest = names[:PAGE], names[PAGE:]
                text = "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>bucket</Name>"
                if rest:
                    text += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page[-1]}</NextContinuationToken>"
                for name in page:
                    data, _, modified = google.objects[name]
                    text += (
                        f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
                        f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', modified)}</LastModified>"
                        f'<ETag>"{hashlib.md5(data).hexdigest()}"</ETag></Contents>'
                    )
                self.reply(200, (text + "</ListBucketResult>").encode())

            def reply(self, status, content, **headers):
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler
