"""The inference clients of KServe: v1 and v2 over REST, v2 over gRPC."""

import asyncio

import cases
import grpc
import httpx
import networks
import numpy as np
import pytest
import v2
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

FLOWERS = cases.FLOWERS["features"]
# Types for which the client has no code.
UNKNOWN = {"BF16"}
UNKNOWN_IN_LISTS = {"BF16", "FP16"}


class Rest:
    def __init__(self, server, protocol):
        self.address = server.url("")
        self.protocol = protocol

    def __call__(self, method, *given, **named):
        async def call():
            async with InferenceRESTClient(RESTConfig(protocol=self.protocol)) as client:
                return await getattr(client, method)(self.address, *given, **named)

        return asyncio.run(call())


class Grpc:
    def __init__(self, server):
        self.address = f"127.0.0.1:{server.grpc_port}"

    def __call__(self, method, *given, **named):
        async def call():
            async with InferenceGRPCClient(self.address) as client:
                return await getattr(client, method)(*given, **named)

        return asyncio.run(call())


@pytest.fixture
def v1(server):
    return Rest(server, "v1")


@pytest.fixture
def rest(server):
    return Rest(server, "v2")


@pytest.fixture
def rpc(server):
    return Grpc(server)


def request(network, arrays, binary, **options):
    inputs = []
    for name, values in arrays.items():
        one = InferInput(name, list(values.shape), v2.DATATYPES[values.dtype.name])
        one.set_data_from_numpy(values, binary_data=binary)
        inputs.append(one)
    return InferRequest(network, inputs, **options)


def arrays_of(response):
    return {one.name: one.as_numpy() for one in response.outputs}


@pytest.mark.parametrize("case", cases.without(UNKNOWN_IN_LISTS))
def test_v2_rest_json_is_answered_like_onnx_runtime(rest, case):
    def ask(network, arrays):
        return arrays_of(rest("infer", request(network, arrays, binary=False), model_name=network))

    cases.check(case, ask)


@pytest.mark.parametrize("case", cases.without(UNKNOWN))
def test_v2_rest_binary_is_answered_like_onnx_runtime(rest, case):
    def ask(network, arrays):
        asked = request(network, arrays, binary=True, parameters={"binary_data_output": True})
        return arrays_of(rest("infer", asked, model_name=network))

    cases.check(case, ask)


@pytest.mark.parametrize("case", cases.without(UNKNOWN_IN_LISTS))
def test_grpc_lists_are_answered_like_onnx_runtime(rpc, case):
    cases.check(case, lambda network, arrays: arrays_of(rpc("infer", request(network, arrays, binary=False))))


@pytest.mark.parametrize("case", cases.without(UNKNOWN))
def test_grpc_bytes_are_answered_like_onnx_runtime(rpc, case):
    cases.check(case, lambda network, arrays: arrays_of(rpc("infer", request(network, arrays, binary=True))))


@pytest.mark.parametrize("case", ["one flower", "many flowers", "digits", "a picture", "words"])
def test_v1_is_answered_like_onnx_runtime(v1, case):
    """Rows in, rows out; several outputs make each row an object."""

    def ask(network, arrays):
        [values] = arrays.values()
        answer = v1("infer", {"instances": values.tolist()}, model_name=network)
        wanted = networks.truth(network, arrays)
        rows = answer["predictions"]
        if len(wanted) == 1:
            rows = [{name: row} for name in wanted for row in rows]
        return {name: np.array([row[name] for row in rows], one.dtype) for name, one in wanted.items()}

    cases.check(case, ask)


def test_v2_carries_id_and_chosen_outputs(rest):
    asked = request("iris", {"features": FLOWERS}, binary=False, request_id="seven")
    asked.request_outputs = [RequestedOutput("label")]
    answer = rest("infer", asked, model_name="iris")
    assert answer.id == "seven"
    assert {name: values.tolist() for name, values in arrays_of(answer).items()} == {"label": [0, 2]}


def test_grpc_carries_id_version_and_chosen_outputs(rpc):
    options = {"request_id": "seven", "model_version": "1", "request_outputs": [RequestedOutput("label")]}
    answer = rpc("infer", request("iris", {"features": FLOWERS}, binary=True, **options))
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "iris", "1")
    assert list(arrays_of(answer)) == ["label"]


def test_health_over_rest(rest, v1):
    assert rest("is_server_live") is True
    assert rest("is_server_ready") is True
    assert rest("is_model_ready", "iris") is True
    assert rest("is_model_ready", "none") is False
    assert v1("is_model_ready", "iris") is True


def test_v1_server_says_that_it_is_alive(v1):
    """The client reads this from `GET /`."""
    assert v1("is_server_live") is True


def test_health_over_grpc(rpc):
    assert rpc("is_server_live") is True
    assert rpc("is_server_ready") is True
    assert rpc("is_model_ready", "iris") is True
    assert rpc("is_model_ready", "none") is False


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_rest_errors_carry_the_text(server, protocol):
    wrong = {"instances": [[1, 2]]} if protocol == "v1" else request("iris", {"features": FLOWERS[:, :2]}, binary=True)
    with pytest.raises(httpx.HTTPStatusError, match="features") as caught:
        Rest(server, protocol)("infer", wrong, model_name="iris")
    assert caught.value.response.status_code == 400
    with pytest.raises(httpx.HTTPStatusError, match="none") as caught:
        Rest(server, protocol)("infer", wrong, model_name="none")
    assert caught.value.response.status_code == 404


def test_grpc_errors_carry_the_text(rpc):
    for network, code in (("iris", grpc.StatusCode.INVALID_ARGUMENT), ("none", grpc.StatusCode.NOT_FOUND)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            rpc("infer", request(network, {"features": FLOWERS[:, :2]}, binary=True))
        assert caught.value.code() == code
        assert ("features" if network == "iris" else "none") in caught.value.details()


def test_v1_model_that_is_not_there_is_not_found(v1):
    with pytest.raises(httpx.HTTPStatusError, match="none"):
        v1("is_model_ready", "none")
