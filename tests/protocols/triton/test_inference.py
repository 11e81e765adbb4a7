"""What Triton's clients are answered when they ask a model."""

import itertools
import queue

import cases
import clients
import networks
import numpy as np
import pytest
import tritonclient.http
from cases import FLOWERS

PICTURE = cases.CASES["a large picture"][1]
SPECIAL = {"x": np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)}


@pytest.mark.parametrize("case", cases.CASES)
def test_every_client_is_answered_like_onnx_runtime(client, case):
    cases.check(case, client.ask)


# The client has no JSON for BF16.
@pytest.mark.parametrize("case", cases.without({"BF16"}))
@pytest.mark.parametrize("sent, wanted", [(False, False), (False, True), (True, False)])
def test_http_takes_and_gives_json_and_binary_in_any_mixture(rest, case, sent, wanted):
    def ask(network, arrays):
        outputs = rest.outputs(*networks.truth(network, arrays), binary_data=wanted)
        return clients.arrays_of(rest.infer(network, rest.inputs(arrays, binary_data=sent), outputs=outputs))

    cases.check(case, ask)


def test_http_takes_json_and_binary_inputs_in_one_request(http):
    network, arrays = cases.CASES["several inputs"]
    for binary in itertools.product([True, False], repeat=len(arrays)):
        inputs = [
            http.inputs({name: arrays[name]}, binary_data=how)[0] for name, how in zip(arrays, binary, strict=True)
        ]
        cases.check("several inputs", lambda *_, sent=inputs: clients.arrays_of(http.infer(network, sent)))


@pytest.mark.parametrize("given", ["gzip", "deflate"])
@pytest.mark.parametrize("wanted", [None, "gzip", "deflate"])
def test_http_requests_and_answers_may_be_compressed(http, given, wanted):
    options = {"request_compression_algorithm": given, "response_compression_algorithm": wanted}
    cases.check("a large picture", lambda *asked: http.ask(*asked, **options))
    result = http.infer("iris", http.inputs(FLOWERS, binary_data=False), **options)
    assert result.as_numpy("label").tolist() == [0, 2]


def test_asyncio_client_reads_what_it_lets_others_compress(server):
    """It announces all that its HTTP library can read, or could with a newer Python, and reads gzip and deflate."""
    client = clients.Client("http, asyncio", server)
    outputs = client.outputs("features", binary_data=False)
    headers = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    cases.check("a large picture", lambda *asked: client.ask(*asked, outputs=outputs, headers=dict(headers)))
    client.close()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_grpc_messages_may_be_compressed(rpc, algorithm):
    cases.check("a large picture", lambda *asked: rpc.ask(*asked, compression_algorithm=algorithm))


def test_nan_and_infinities_pass_unchanged(client):
    np.testing.assert_array_equal(client.ask("same_fp32", SPECIAL)["y"], SPECIAL["x"])


def test_outputs_come_as_they_were_asked_for(client):
    assert list(client.ask("iris", FLOWERS)) == ["label", "probabilities"]
    for names in (["probabilities"], ["probabilities", "label"]):
        assert set(client.ask("iris", FLOWERS, outputs=client.outputs(*names))) == set(names)


def test_inputs_may_come_in_any_order(client):
    network, arrays = cases.CASES["several inputs"]
    cases.check("several inputs", lambda *_: client.ask(network, dict(reversed(arrays.items()))))


def test_version_id_and_parameters_are_carried(client):
    options = {"request_id": "seven", "model_version": "1", "priority": 1, "timeout": 20_000_000}
    result = client.infer("iris", client.inputs(FLOWERS), **options, parameters={"mine": "yes", "count": 3, "on": True})
    answer = clients.plain(result.get_response())
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("seven", "iris", "1")


def test_answer_names_the_version_that_served_and_no_id_where_none_was_given(client):
    answer = clients.plain(client.infer("iris", client.inputs(FLOWERS)).get_response())
    assert (answer["model_version"], answer.get("id", "")) == ("2", "")


# Classification.


@pytest.mark.parametrize("count", [1, 2, 3, 99])
def test_classes_are_the_largest_values_in_order_with_their_places(client, count):
    outputs = client.outputs("probabilities", class_count=count)
    found = cases.as_text(client.ask("iris", FLOWERS, outputs=outputs)["probabilities"])
    values = networks.truth("iris", FLOWERS)["probabilities"]
    assert found.shape == (2, min(count, 3))
    for row, wanted in zip(found, values, strict=True):
        order = np.argsort(-wanted)[:count]
        scores, places = zip(*(text.split(":")[:2] for text in row), strict=True)
        assert [int(place) for place in places] == order.tolist()
        np.testing.assert_allclose([float(score) for score in scores], wanted[order], atol=1e-5)
        assert all(len(score.partition(".")[2]) == 6 for score in scores)


def test_classes_and_plain_outputs_come_together(client):
    outputs = client.outputs("label") + client.outputs("probabilities", class_count=1)
    found = client.ask("iris", FLOWERS, outputs=outputs)
    assert found["label"].tolist() == [0, 2]
    assert found["probabilities"].shape == (2, 1)


# The ways of gRPC alone, and HTTP's many at once.


@pytest.mark.parametrize("case", cases.CASES)
def test_stream_is_answered_like_onnx_runtime(rpc, case):
    def ask(network, arrays):
        with clients.Stream(rpc) as stream:
            stream.send(network, arrays)
            return clients.arrays_of(stream.receive())

    cases.check(case, ask)


def test_stream_answers_each_request_and_lives_through_an_error(rpc):
    rows = [FLOWERS["features"][:1], FLOWERS["features"][1:]]
    with clients.Stream(rpc) as stream:
        for place in range(20):
            stream.send("iris", {"features": rows[place % 2]}, request_id=str(place))
            if place == 9:
                stream.send("iris", {"wrong": rows[0]}, request_id="bad")
        answers = [stream.receive() for _ in range(21)]
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    results = {answer.get_response().id: answer for answer in answers if answer not in errors}
    assert [result.as_numpy("label").item() for _, result in sorted(results.items(), key=lambda one: int(one[0]))] == [
        0,
        2,
    ] * 10
    [error] = errors
    assert "wrong" in str(error) and "features" in str(error)


def test_stream_with_asyncio(server):
    client = clients.Client("grpc, asyncio", server)

    async def requests():
        for _ in range(3):
            yield {"model_name": "iris", "inputs": client.inputs(FLOWERS)}

    async def labels():
        found = []
        async for result, error in client.client.stream_infer(requests()):
            assert error is None
            found.append(result.as_numpy("label").tolist())
        return found

    assert client._await(labels()) == [[0, 2]] * 3
    client.close()


def test_grpc_answers_many_that_are_under_way_at_once(rpc):
    arrived = queue.SimpleQueue()
    for _ in range(50):
        rpc.async_infer("iris", rpc.inputs(FLOWERS), lambda result, error: arrived.put(error or result))
    for _ in range(50):
        assert arrived.get(timeout=30).as_numpy("label").tolist() == [0, 2]


def test_http_answers_many_that_are_under_way_at_once(server):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8) as client:
        inputs = clients.inputs(tritonclient.http, FLOWERS)
        pending = [client.async_infer("iris", inputs) for _ in range(50)]
        assert [one.get_result().as_numpy("label").tolist() for one in pending] == [[0, 2]] * 50
