"""A rolling update under load loses no request: three servers behind HAProxy, from version 1 to 2 and back."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from balancer import Balancer
from load import Load
from polling import wait_until
from server import Server

REPLICAS = 3
LEAST_SECONDS = 30
LEAST_RATE = 200
SERVED = 'onnxd_inference_requests_total{model="iris",outcome="ok",version="%s"}'


class Rollout:
    """The servers behind a balancer, of which one at a time is replaced."""

    def __init__(self, folder, cleaning):
        self.folder = folder
        self.cleaning = cleaning
        self.started = 0
        self.served = []  # requests, by every server that has been replaced or stopped
        self.servers = []
        for _ in range(REPLICAS):
            self.servers.append(self._start("1"))
        self.balancer = Balancer(folder, [server.port for server in self.servers])
        cleaning.callback(self.balancer.stop)

    def update(self, version):
        for index, old in enumerate(self.servers):
            wait_until(lambda: self.answered(old), 10, "the old server answers requests")
            self._end(old)
            assert not self.balancer.is_up(old.port), "HAProxy had no time to notice"
            new = self.servers[index] = self._start(version, old.port)
            wait_until(lambda: self.balancer.is_up(new.port), 10, "HAProxy sees the new server")

    def stop(self):
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._end, self.servers))

    @staticmethod
    def answered(server):
        """How many requests the server has answered."""
        return server.metrics().get(SERVED % server.version, 0)

    def _start(self, version, port=0):
        self.started += 1
        folder = self.folder / str(self.started)
        folder.mkdir()
        server = Server(folder, port, MODEL_VERSION=version)
        self.cleaning.callback(server.kill)
        server.version = version
        return server

    def _end(self, server):
        # Read before the drain, so this counts less than the server went on to answer.
        self.served.append(self.answered(server))
        assert server.stop() == 0, server.log.read_text()


@pytest.fixture
def rollout(tmp_path):
    with ExitStack() as cleaning:
        yield Rollout(tmp_path, cleaning)


def test_rolling_update_and_undo_lose_no_request(rollout, capsys):
    with Load(rollout.balancer.url) as load:
        rollout.update("2")
        rollout.update("1")
        wait_until(lambda: all(map(rollout.answered, rollout.servers)), 10, "all answer requests")
        wait_until(lambda: load.running_seconds() > LEAST_SECONDS, LEAST_SECONDS, "enough was asked")
    rollout.stop()
    with capsys.disabled():
        print(f"\n{load.seconds:.0f} s, {load.rate():.0f} requests/s: {dict(load.outcomes)}")
        print(f"answered by each of the {len(rollout.served)} servers: {rollout.served}")
    assert set(load.outcomes) == {"version 1", "version 2"}
    assert load.rate() >= LEAST_RATE
    assert len(rollout.served) == 3 * REPLICAS
    assert all(rollout.served)
