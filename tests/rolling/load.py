"""Clients that ask at a steady rate over connections that they keep, and count every outcome."""

import threading
import time
from collections import Counter

import requests

CLIENTS = 12
RATE = 400  # requests a second, of all clients together
FLOWER = {"instances": [[5.1, 3.5, 1.4, 0.2]]}


class Load:
    """Runs from entering to leaving. `outcomes` counts what was answered, or the exception in its place."""

    def __init__(self, url):
        self.url = f"{url}/predict"
        self.outcomes = Counter()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=[n]) for n in range(CLIENTS)]

    def __enter__(self):
        self._began = time.monotonic()
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for client in self._clients:
            client.join()
        self.seconds = time.monotonic() - self._began

    def running_seconds(self):
        return time.monotonic() - self._began

    def rate(self):
        return self.outcomes.total() / self.seconds

    def _ask(self, number):
        due = self._began + number / RATE
        with requests.Session() as session:
            while not self._ending.wait(max(0, due - time.monotonic())):
                self._count(outcome(session, self.url))
                due += CLIENTS / RATE

    def _count(self, outcome):
        with self._lock:
            self.outcomes[outcome] += 1


def outcome(session, url):
    """`version 2` for a right answer from that version, else what went wrong."""
    try:
        response = session.post(url, json=FLOWER, timeout=10)
        if response.status_code != 200:
            return f"status {response.status_code}: {response.text[:200]}"
        answer = response.json()
        if answer["predictions"][0]["label_name"] != "setosa":
            return f"wrong: {response.text[:200]}"
        return f"version {answer['model_version']}"
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
