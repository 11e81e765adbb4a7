"""What no honest client sends over gRPC, sent by real ones: the table's status, and the next good request answered."""

import socket
from contextlib import suppress

import grpc
import numpy as np
import pytest
from cases import FLOWERS
from clients import Client
from server import Server
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

SERVICE = "/inference.GRPCInferenceService"
RAW = FLOWERS["features"].tobytes()


@pytest.fixture(autouse=True)
def answers_afterwards(rpc):
    yield
    assert rpc.ask("iris", FLOWERS)["label"].tolist() == [0, 2]


def refused(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x00", bytes(range(256)) * 40])
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelReady", "RepositoryIndex"])
def test_what_is_no_protobuf_is_refused(channel, method, garbage):
    status, _ = refused(lambda: channel.unary_unary(f"{SERVICE}/{method}")(garbage))
    assert status in ("INTERNAL", "INVALID_ARGUMENT")


def test_garbage_in_a_stream_ends_it(channel):
    status, _ = refused(lambda: list(channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(iter([b"\xff" * 9]))))
    assert status in ("INTERNAL", "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "content",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64, b"\x16\x03\x01" * 99],
    ids=["nothing", "HTTP/1.1", "damaged HTTP/2", "TLS"],
)
def test_what_is_no_grpc_is_cut_off(server, content):
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=10) as connection:
        with suppress(OSError):  # it may be cut off while it is still sending
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def request(**changes):
    usual = {
        "model_name": "iris",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [2, 4]}],
        "raw_input_contents": [RAW],
    }
    return service_pb2.ModelInferRequest(**usual | changes)


def features(**changes):
    return [{"name": "features", "datatype": "FP32", "shape": [2, 4]} | changes]


LISTED = {"fp32_contents": FLOWERS["features"].ravel().tolist()}
MALFORMED = {
    "no model": (request(model_name=""), "model"),
    "lists and bytes": (request(inputs=features(contents=LISTED)), "raw_input_contents"),
    "more bytes than inputs": (request(raw_input_contents=[RAW, RAW]), "raw_input_contents"),
    "bytes too short": (request(raw_input_contents=[RAW[:-1]]), "features"),
    "bytes too long": (request(raw_input_contents=[RAW + b"\0"]), "features"),
    "neither lists nor bytes": (request(raw_input_contents=[]), "features"),
    "list of another type": (
        request(raw_input_contents=[], inputs=features(contents={"int64_contents": [1] * 8})), "features",
    ),
    "two lists": (
        request(raw_input_contents=[], inputs=features(contents=LISTED | {"int64_contents": [1]})), "features",
    ),
    "list too short": (request(raw_input_contents=[], inputs=features(contents={"fp32_contents": [1]})), "features"),
    "input twice": (request(inputs=features() * 2, raw_input_contents=[RAW, RAW]), "features"),
    "unknown data type": (request(inputs=features(datatype="FP99")), "FP99"),
    "no data type": (request(inputs=features(datatype="")), "datatype"),
    "negative dimension": (request(inputs=features(shape=[-1, 4])), "features"),
    "size that overflows": (request(inputs=features(shape=[2**62, 4])), "features"),
    "number too large for its type": (
        request(
            model_name="same_uint8",
            raw_input_contents=[],
            inputs=[{"name": "x", "datatype": "UINT8", "shape": [1, 1], "contents": {"uint_contents": [300]}}],
        ),
        "300",
    ),
    "text cut off": (
        request(
            model_name="same_bytes",
            raw_input_contents=[b"\x09\0\0\0abc"],
            inputs=[{"name": "x", "datatype": "BYTES", "shape": [1, 1]}],
        ),
        "x",
    ),
    "text with a length of 4 GiB": (
        request(
            model_name="same_bytes",
            raw_input_contents=[b"\xff\xff\xff\xffabc"],
            inputs=[{"name": "x", "datatype": "BYTES", "shape": [1, 1]}],
        ),
        "x",
    ),
    "classes that are no number": (
        request(outputs=[{"name": "label", "parameters": {"classification": {"string_param": "two"}}}]),
        "classification",
    ),
    "timeout that is text": (request(parameters={"timeout": {"string_param": "soon"}}), "timeout"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_request_is_told_what_is_wrong(channel, case):
    message, told = MALFORMED[case]
    status, text = refused(lambda: GRPCInferenceServiceStub(channel).ModelInfer(message))
    assert status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND"), text
    assert told in text


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_parameters_may_be_signed_or_not(channel, kind):
    parameters = {"timeout": {kind: 10_000_000}, "priority": {kind: 1}}
    assert GRPCInferenceServiceStub(channel).ModelInfer(request(parameters=parameters)).model_name == "iris"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that takes 1 MiB."""
    running = Server(
        tmp_path_factory.mktemp("onnxd"), ONNXD_LIMITS__BODY_BYTES="1MiB", ONNXD_SERVER__DRAIN_DELAY_MS="0"
    )
    yield running
    running.kill()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_message_over_the_limit_is_refused_also_when_it_is_so_only_unpacked(small, compression):
    large = request(raw_input_contents=[bytes(8 * 2**20)])
    with grpc.insecure_channel(f"127.0.0.1:{small.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        status, text = refused(lambda: stub.ModelInfer(large, compression=compression))
        assert status in ("OUT_OF_RANGE", "RESOURCE_EXHAUSTED"), text
        assert stub.ModelInfer(request()).model_name == "iris"


def test_message_larger_than_four_mebibytes_is_taken(rpc):
    """gRPC's usual limit, which is not ours."""
    large = {"picture": np.zeros((1, 3, 1024, 1024), np.float32)}
    assert rpc.ask("pixels", large)["features"].shape == (1, 4, 1024, 1024)


def test_client_that_leaves_in_mid_message_harms_nobody(server):
    for _ in range(20):
        client = Client("grpc", server)
        call = client.async_infer(
            "slow", client.inputs({"x": np.ones((50, 512), np.float32)}), lambda result, error: None
        )
        call.cancel()
        client.close()
