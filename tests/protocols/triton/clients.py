"""Triton's Python clients: HTTP and gRPC, each blocking and with asyncio, called alike."""

import asyncio
import queue

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import v2
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.utils import InferenceServerException

CLIENTS = {
    "http": tritonclient.http,
    "http, asyncio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc, asyncio": tritonclient.grpc.aio,
}


class Client:
    """One of them, connected. Methods that it does not have are the client's own, waited for."""

    def __init__(self, name, server):
        self.is_http = name.startswith("http")
        self.tensors = tritonclient.http if self.is_http else tritonclient.grpc
        self.loop = asyncio.new_event_loop() if "asyncio" in name else None
        make = CLIENTS[name].InferenceServerClient
        address = f"127.0.0.1:{server.port if self.is_http else server.grpc_port}"
        self.client = self._await(connect(make, address)) if self.loop else make(address)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return (lambda *given, **named: self._await(method(*given, **named))) if self.loop else method

    def _await(self, awaited):
        return self.loop.run_until_complete(awaited)

    def inputs(self, arrays, **how):
        """`binary_data=False` for JSON, which only HTTP knows."""
        return inputs(self.tensors, arrays, **how)

    def outputs(self, *names, **how):
        return [self.tensors.InferRequestedOutput(name, **how) for name in names]

    def ask(self, network, arrays, **options):
        """The outputs by name."""
        return arrays_of(self.infer(network, self.inputs(arrays), **options))

    def read(self, method, *given):
        """An answer that is no inference, as plain values whatever the protocol."""
        return plain(getattr(self, method)(*given))

    def close(self):
        closing = self.client.close()
        if self.loop:
            self._await(closing)
            self.loop.close()


def inputs(tensors, arrays, **how):
    made = []
    for name, values in arrays.items():
        one = tensors.InferInput(name, list(values.shape), v2.DATATYPES[values.dtype.name])
        made.append(one.set_data_from_numpy(values, **how))
    return made


async def connect(make, address):
    """Made where a loop runs, which they ask for."""
    return make(address)


def arrays_of(result):
    response = result.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else response.outputs
    names = [output["name"] if isinstance(output, dict) else output.name for output in outputs]
    return {name: result.as_numpy(name) for name in names}


def plain(answer):
    if isinstance(answer, Message):
        return json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    return answer


def raised(ask):
    """The text and the status of what a client raises, without what the protocol puts before the status."""
    with pytest.raises(InferenceServerException) as caught:
        ask()
    return caught.value.message(), caught.value.status().removeprefix("StatusCode.")


class Stream:
    """A stream of the blocking gRPC client; answers come in the order of arrival."""

    def __init__(self, client):
        self.client = client
        self.arrived = queue.SimpleQueue()

    def __enter__(self):
        self.client.start_stream(lambda result, error: self.arrived.put(error or result))
        return self

    def __exit__(self, *_):
        self.client.stop_stream()

    def send(self, network, arrays, **options):
        self.client.async_stream_infer(network, self.client.inputs(arrays), **options)

    def receive(self):
        """A result, or the error in its place."""
        return self.arrived.get(timeout=30)
