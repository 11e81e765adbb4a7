"""What every script does with a converted graph: tidy it, save it, measure the saved file."""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from data import held_out, training

MODELS = Path(__file__).resolve().parent.parent
OPSET = 17  # the server's engine, tract, knows 9 to 18
IR_VERSION = 8  # the one that belongs to opset 17; converters may write a newer one


def output_folder(description):
    """The folder that the command line names, else models/ itself."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=MODELS, help="model repository to write to")
    return parser.parse_args().output


def save(model, repository, name, version):
    """Tidies the graph and writes it to <repository>/<name>/<version>/model.onnx."""
    graph = model.graph
    # The converters leave the batch dimension anonymous or name it as they like.
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # Intermediate shapes are the converter's guesses, and doc strings and metadata may
    # hold paths of the machine that trained: a reader needs neither.
    del graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for part in [*graph.node, *graph.initializer, *graph.input, *graph.output]:
        part.doc_string = ""
        del part.metadata_props[:]
    graph.name = name
    model.ir_version = IR_VERSION
    # skl2onnx can list the same operator set twice.
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    used = {node.domain for node in graph.node}
    del model.opset_import[:]
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, opsets[domain]) for domain in sorted(used | {""})
    )

    onnx.checker.check_model(model, full_check=True)
    path = repository / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def report(path, reference):
    """Checks the saved file against the model it came from and prints its held-out accuracy.

    `reference` maps features to (labels, probabilities) in the training library.
    """
    name, version = path.parent.parent.name, path.parent.name
    features, truth = held_out(name)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(
        ["label", "probabilities"], {session.get_inputs()[0].name: features}
    )
    expected_labels, expected_probabilities = reference(features)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-4, atol=1e-5)

    right, total = int((labels == truth).sum()), len(truth)
    print(
        f"{name} version {version}: trained on {len(training(name)[1])} rows,"
        f" held-out accuracy {right}/{total} = {right / total:.1%}, {path.stat().st_size} bytes"
    )
