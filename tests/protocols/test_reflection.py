"""gRPC's server reflection, with which grpcurl and its like find their way without a .proto file."""

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICES = {
    "inference.GRPCInferenceService": {
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStreamInfer",
        "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
    },
    "grpc.health.v1.Health": {"Check", "Watch"},
}  # fmt: skip


@pytest.fixture(scope="module")
def reflected(channel):
    return ProtoReflectionDescriptorDatabase(channel)


@pytest.fixture(scope="module")
def pool(reflected):
    return DescriptorPool(reflected)


def test_all_services_are_listed(reflected):
    assert set(SERVICES) <= set(reflected.get_services())


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_its_methods(pool, service):
    methods = {method.name for method in pool.FindServiceByName(service).methods}
    assert SERVICES[service] <= methods


def test_model_is_asked_with_nothing_but_what_reflection_tells(channel, pool):
    """As grpcurl does it."""
    method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ModelInfer")
    request = GetMessageClass(method.input_type)(
        model_name="iris",
        inputs=[
            {
                "name": "features",
                "datatype": "FP32",
                "shape": [1, 4],
                "contents": {"fp32_contents": [5.1, 3.5, 1.4, 0.2]},
            }
        ],
    )
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    answer = call(request)
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("label", "INT64", [1]), ("probabilities", "FP32", [1, 3]),
    ]  # fmt: skip
    assert int.from_bytes(answer.raw_output_contents[0], "little") == 0


def test_unknown_symbol_is_not_found(pool):
    with pytest.raises((KeyError, grpc.RpcError)) as caught:
        pool.FindServiceByName("inference.NoSuchService")
    assert caught.type is KeyError or caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "method", ["/inference.GRPCInferenceService/NoSuchMethod", "/inference.NoSuchService/ModelInfer", "/nothing"]
)
def test_unknown_method_is_unimplemented(channel, method):
    call = channel.unary_unary(method)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
