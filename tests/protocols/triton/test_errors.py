"""What Triton's clients raise, and that its text tells what to do."""

import threading
import time

import numpy as np
import pytest
import tritonclient.http
from cases import FLOWERS
from clients import Stream, raised

ROWS = FLOWERS["features"]
# What is asked, the statuses, and what the text must tell.
REFUSED = {
    "unknown model": (("iri", FLOWERS), {}, "404", "NOT_FOUND", ["iri"]),
    "unknown version": (("iris", FLOWERS), {"model_version": "9"}, "404", "NOT_FOUND", ["iris", "9"]),
    "version that is no number": (("iris", FLOWERS), {"model_version": "latest"}, "404", "NOT_FOUND", ["latest"]),
    "unknown input": (("iris", {"flower": ROWS}), {}, "400", "INVALID_ARGUMENT", ["flower", "features"]),
    "one input too many": (("iris", FLOWERS | {"more": ROWS}), {}, "400", "INVALID_ARGUMENT", ["more", "features"]),
    "missing input": (("affine", {"x": ROWS}), {}, "400", "INVALID_ARGUMENT", ["by"]),
    "no input": (("iris", {}), {}, "400", "INVALID_ARGUMENT", ["features"]),
    "wrong dimension": (("iris", {"features": ROWS[:, :3]}), {}, "400", "INVALID_ARGUMENT", ["features", "4", "3"]),
    "wrong rank": (("iris", {"features": ROWS[0]}), {}, "400", "INVALID_ARGUMENT", ["features", "4"]),
    "wrong data type": (
        ("iris", {"features": ROWS.astype(np.float64)}), {}, "400", "INVALID_ARGUMENT", ["features", "FP32", "FP64"],
    ),
    "text for numbers": (
        ("iris", {"features": ROWS.astype(str).astype(object)}), {}, "400", "INVALID_ARGUMENT", ["features", "FP32"],
    ),
    "text that is no UTF-8, which a model's must be": (
        ("same_bytes", {"x": np.array([[b"\xff\x80"]], object)}), {}, "400", "INVALID_ARGUMENT", ["BYTES", "UTF-8"],
    ),
    "inputs that do not fit each other": (
        ("affine", {"x": ROWS, "by": ROWS, "shift": np.arange(4)}), {}, "400", "INVALID_ARGUMENT", ["by", "inner"],
    ),
    "more rows than the queue can hold": (
        ("iris", {"features": np.zeros((2000, 4), np.float32)}), {}, "413", "RESOURCE_EXHAUSTED", ["2000", "1024"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_request_raises_with_a_text_that_helps(client, case):
    asked, options, http_status, grpc_status, told = REFUSED[case]
    text, status = raised(lambda: client.ask(*asked, **options))
    assert all(part in text for part in told), text
    assert status == (http_status if client.is_http else grpc_status)


@pytest.mark.parametrize("case", REFUSED)
def test_stream_tells_the_same_text(rpc, case):
    asked, options, _, _, _ = REFUSED[case]
    text, _ = raised(lambda: rpc.ask(*asked, **options))
    with Stream(rpc) as stream:
        stream.send(*asked, **options)
        assert text in stream.receive().message()


def test_unknown_output_is_named_with_those_that_are(client):
    text, status = raised(lambda: client.ask("iris", FLOWERS, outputs=client.outputs("scores")))
    assert status == ("400" if client.is_http else "INVALID_ARGUMENT")
    assert all(name in text for name in ("scores", "label", "probabilities"))


def test_classes_of_text_are_refused(client):
    asked = {"x": np.array([["a"]], object)}
    text, status = raised(lambda: client.ask("same_bytes", asked, outputs=client.outputs("y", class_count=1)))
    assert status == ("400" if client.is_http else "INVALID_ARGUMENT")
    assert "'y'" in text


def test_data_of_another_size_than_the_shape_is_refused(client):
    [tensor] = client.inputs(FLOWERS)
    tensor.set_shape([3, 4])
    text, status = raised(lambda: client.infer("iris", [tensor]))
    assert status == ("400" if client.is_http else "INVALID_ARGUMENT")
    assert "features" in text and "32" in text and "48" in text, text


@pytest.mark.parametrize("shape", [[-1, 4], [2**62, 4], [2**63 - 1, 2**63 - 1]])
def test_shape_that_nothing_can_have_is_refused(client, shape):
    [tensor] = client.inputs(FLOWERS)
    tensor.set_shape(shape)
    text, status = raised(lambda: client.infer("iris", [tensor]))
    assert status in ("400", "413", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    assert "features" in text or "elements" in text


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_error_is_readable_whatever_encoding_was_asked_for(rest, algorithm):
    """The client decompresses answers, but never errors."""
    text, _ = raised(lambda: rest.ask("iris", {"flower": ROWS}, response_compression_algorithm=algorithm))
    assert "flower" in text and "features" in text


def test_shared_memory_is_refused_by_name(client):
    [tensor] = client.inputs(FLOWERS)
    tensor.set_shared_memory("region", 32)
    text, status = raised(lambda: client.infer("iris", [tensor]))
    assert status in ("400", "INVALID_ARGUMENT")
    assert "shared" in text or "features" in text


@pytest.mark.parametrize("call", ["get_system_shared_memory_status", "get_trace_settings", "get_log_settings"])
def test_what_is_not_offered_raises_and_says_so(client, call):
    _, status = raised(getattr(client, call))
    assert status == ("404" if client.is_http else "UNIMPLEMENTED")


# Deadlines.

LONG = {"x": np.ones((1000, 512), np.float32)}


def test_deadline_of_the_request_is_kept(client):
    """The parameter is in microseconds."""
    text, status = raised(lambda: client.ask("slow", LONG, timeout=20_000))
    assert status == ("504" if client.is_http else "DEADLINE_EXCEEDED"), text
    assert "deadline" in text.lower() or "time" in text.lower()


def test_grpc_client_that_waits_no_longer_is_not_waited_for(rpc):
    _, status = raised(lambda: rpc.ask("slow", LONG, client_timeout=0.02))
    assert status == "DEADLINE_EXCEEDED"
    assert rpc.ask("iris", FLOWERS)["label"].tolist() == [0, 2]


def test_http_client_that_waits_no_longer_is_not_waited_for(server, http):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=0.05) as client:
        with pytest.raises(Exception, match="timed out"):
            client.infer("slow", http.inputs(LONG))
    assert http.ask("iris", FLOWERS)["label"].tolist() == [0, 2]


def test_grpc_call_can_be_cancelled(rpc):
    done, errors = threading.Event(), []

    def callback(result, error):
        errors.append(error)
        done.set()

    call = rpc.async_infer("slow", rpc.inputs(LONG), callback)
    time.sleep(0.05)
    call.cancel()
    assert done.wait(5)
    assert "CANCELLED" in errors[0].status()
    assert rpc.ask("iris", FLOWERS)["label"].tolist() == [0, 2]
