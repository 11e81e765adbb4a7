"""gRPC's health protocol, which Kubernetes' gRPC probes and load balancers ask: overall, and for each model."""

import signal

import grpc
import pytest
from cases import FLOWERS
from clients import Client
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from polling import wait_until
from server import Server

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture(scope="module")
def health(channel):
    return HealthStub(channel)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "iris", "affine"])
def test_what_serves_says_so(health, service):
    assert health.Check(HealthCheckRequest(service=service)).status == SERVING
    watched = health.Watch(HealthCheckRequest(service=service))
    assert next(watched).status == SERVING
    watched.cancel()


def test_what_is_unknown_is_not_found(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(HealthCheckRequest(service="none"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_is_unknown_can_be_watched_until_it_comes(health):
    watched = health.Watch(HealthCheckRequest(service="none"))
    assert next(watched).status == SERVICE_UNKNOWN
    watched.cancel()


def test_model_that_is_unloaded_is_unknown_until_it_is_loaded(tmp_path):
    server = Server(tmp_path, ONNXD_REPOSITORY__MODE="explicit", ONNXD_SERVER__DRAIN_DELAY_MS="0")
    client = Client("grpc", server)
    try:
        client.load_model("iris")
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            watched = HealthStub(channel).Watch(HealthCheckRequest(service="iris"), timeout=30)
            assert next(watched).status == SERVING
            client.unload_model("iris")
            assert next(watched).status == SERVICE_UNKNOWN
            client.load_model("iris")
            assert any(change.status == SERVING for change in watched)
        client.close()
    finally:
        server.kill()


def test_drain_is_told_while_requests_are_still_served(tmp_path):
    server = Server(tmp_path, ONNXD_SERVER__DRAIN_DELAY_MS="3000")
    client = Client("grpc", server)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            health = HealthStub(channel)
            watched = health.Watch(HealthCheckRequest())
            assert next(watched).status == SERVING
            server.process.send_signal(signal.SIGTERM)
            assert next(watched).status == NOT_SERVING
            for service in ("", "iris"):
                wait_until(
                    lambda service=service: health.Check(HealthCheckRequest(service=service)).status == NOT_SERVING,
                    2,
                    f"{service!r} serves no more",
                )
            assert client.is_server_ready() is False
            assert client.is_server_live() is True
            assert client.ask("iris", FLOWERS)["label"].tolist() == [0, 2]
        client.close()
        assert server.process.wait(30) == 0, server.log.read_text()
    finally:
        server.kill()
