"""The stores, each with the same few words: put, delete, the address of the repository, and the variables for onnxd."""

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import requests
from gcs import Google
from polling import wait_until
from proxy import Proxy
from server import TARGET

SECRET = "hunter2/wJalrXUtnFEMI"


class S3:
    """moto's server; whoever asks it must sign, and it does not check the signature."""

    def __init__(self, folder):
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        _, port = self.server.get_host_and_port()
        self.direct = f"http://127.0.0.1:{port}/bucket"
        requests.post(f"http://127.0.0.1:{port}/moto-api/reset", timeout=10)
        self._send("PUT", self.direct)
        self.proxy = Proxy(port)
        self.url, self.secrets = "s3://bucket/models", [SECRET]
        self.environment = {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def put(self, name, data):
        self._send("PUT", f"{self.direct}/{quote('models/' + name)}", data)

    def delete(self, name):
        self._send("DELETE", f"{self.direct}/{quote('models/' + name)}")

    def stop(self):
        self.server.stop()

    @staticmethod
    def _send(method, url, data=b""):
        # As it is, since requests would take out "..".
        prepared = requests.Request(method, url, data=data, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}).prepare()
        prepared.url = url
        with requests.Session() as session:
            session.send(prepared, timeout=30).raise_for_status()


class Gcs:
    """Our own; it checks the signature of the service account."""

    def __init__(self, folder):
        self.google = Google()
        self.proxy = Proxy(self.google.port)
        key = folder / "key.json"
        pem = self.google.write_key(key)
        self.url, self.secrets = "gs://bucket/models", pem.splitlines()[1:3]
        self.environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(key), "GOOGLE_ALLOW_HTTP": "true", "GOOGLE_BASE_URL": self.proxy.url}

    def put(self, name, data):
        self.google.put(f"models/{name}", data)

    def delete(self, name):
        self.google.delete(f"models/{name}")

    def stop(self):
        pass


class Azure:
    """Microsoft's emulator, which checks signatures."""

    ACCOUNT = "devstoreaccount1"
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, folder):
        binary = TARGET / "azurite" / "node_modules" / ".bin" / "azurite-blob"
        log = folder / "azurite.log"
        command = [binary, "--blobPort", "0", "--location", folder / "azurite", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry"]
        command = [part for part in command if part not in ("--location", folder / "azurite")]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)

        def listening():
            for line in log.read_text().splitlines():
                if "listens on" in line or "listening at" in line:
                    return line.rsplit(":", 1)[1].split("/")[0].strip()
            assert self.process.poll() is None, log.read_text()
            return None

        port = int(wait_until(listening, 30, "azurite listens"))
        self.direct = f"http://127.0.0.1:{port}"
        self._send("PUT", "/container?restype=container")
        self.proxy = Proxy(port)
        self.url, self.secrets = "az://container/models", [self.KEY]
        self.environment = {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": self.proxy.url,
            "AZURE_STORAGE_ACCOUNT_NAME": self.ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": self.KEY,
        }

    def put(self, name, data):
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-md5": md5}
        self._send("PUT", f"/container/models/{quote(name)}", data, headers)

    def delete(self, name):
        self._send("DELETE", f"/container/models/{quote(name)}")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def _send(self, method, path, data=b"", headers=()):
        headers = dict(headers) | {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        path, _, query = path.partition("?")
        canonical = "".join(f"{k}:{v}\n" for k, v in sorted(headers.items()))
        resource = f"/{self.ACCOUNT}/{self.ACCOUNT}{path}"
        resource += "".join("\n" + pair.replace("=", ":") for pair in sorted(query.split("&")) if pair)
        length = str(len(data)) if data else ""
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{canonical}{resource}"
        signature = hmac.new(base64.b64decode(self.KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.ACCOUNT}:{base64.b64encode(signature).decode()}"
        url = f"{self.direct}/{self.ACCOUNT}{path}" + (f"?{query}" if query else "")
        requests.request(method, url, data=data, headers=headers, timeout=30).raise_for_status()


class WebDav:
    """WsgiDAV over a folder."""

    def __init__(self, folder):
        from cheroot.wsgi import Server
        from wsgidav.wsgidav_app import WsgiDAVApp

        self.folder = folder / "dav"
        (self.folder / "models").mkdir(parents=True)
        app = WsgiDAVApp(
            {
                "provider_mapping": {"/": str(self.folder)},
                "simple_dc": {"user_mapping": {"*": True}},
                "verbose": 0,
                "logging": {"enable": False},
            }
        )
        self.server = Server(("127.0.0.1", 0), app)
        self.server.prepare()
        threading.Thread(target=self.server.serve, daemon=True).start()
        self.proxy = Proxy(self.server.bind_addr[1])
        self.url, self.secrets, self.environment = f"{self.proxy.url}/models", [], {}

    def put(self, name, data):
        path = self.folder / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # As a server would that takes care.
        half = path.with_name(path.name + ".half")
        half.write_bytes(data)
        half.rename(path)

    def delete(self, name):
        path = self.folder / "models" / name
        path.unlink()
        while path.parent != self.folder / "models" and not any(path.parent.iterdir()):
            path = path.parent
            path.rmdir()

    def stop(self):
        self.server.stop()


STORES = {"s3": S3, "gs": Gcs, "az": Azure, "http": WebDav}
