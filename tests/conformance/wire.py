"""A case as a request of the Open Inference Protocol, and an answer held against what ONNX expects."""

import json

import numpy as np
from cases import DATATYPES, inputs
from onnx import helper

# What a test prints of a difference.
DIFFERENCE_LENGTH = 400


def request(case, values):
    tensors = [
        {
            "name": declared.name,
            "datatype": DATATYPES[declared.type.tensor_type.elem_type],
            "shape": list(value.shape),
            "data": elements(value),
        }
        for declared, value in zip(inputs(case.model.graph), values, strict=True)
    ]
    # NaN and infinities have no form in standard JSON; Python's is asked for.
    return json.dumps({"inputs": tensors, "parameters": {"nan": "token"}})


def elements(value):
    flat = value.ravel().tolist()
    if value.dtype.kind in "OSU":
        return [element.decode() if isinstance(element, bytes) else str(element) for element in flat]
    # Python has no bfloat16, which tolist() would leave as it is.
    return [float(element) for element in flat] if value.dtype.name == "bfloat16" else flat


def difference(case, expected, outputs):
    """In what the answer differs from what the suite expects, or None."""
    declared = case.model.graph.output
    names = [value.name for value in declared]
    found = [output["name"] for output in outputs]
    if found != names:
        return f"outputs {found} instead of {names}"
    for value, wanted, output in zip(declared, expected, outputs, strict=True):
        problem = tensor_difference(case, value, wanted, output)
        if problem:
            return f"output '{value.name}': {problem}"
    return None


def tensor_difference(case, declared, wanted, output):
    element = declared.type.tensor_type.elem_type
    if output["datatype"] != DATATYPES[element]:
        return f"{output['datatype']} instead of {DATATYPES[element]}"
    if output["shape"] != list(wanted.shape):
        return f"shape {output['shape']} instead of {list(wanted.shape)}"
    if len(output["data"]) != wanted.size:
        return f"{len(output['data'])} elements for shape {output['shape']}"
    if case.is_random:
        return None
    if output["datatype"] == "BYTES":
        return strings_difference(wanted, output["data"])
    found = numbers(output["data"], element).reshape(wanted.shape)
    return numbers_difference(case, wanted, found)


def numbers(data, element):
    """JSON's numbers in the type that they were written from, so that the shortest digits are no difference."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    if dtype.kind in "iub":
        return np.array(data, dtype)
    return np.array(data, np.float64).astype(dtype)


def strings_difference(wanted, found):
    expected = elements(wanted)
    return None if found == expected else f"{found} instead of {expected}"[:DIFFERENCE_LENGTH]


def numbers_difference(case, wanted, found):
    try:
        with np.errstate(invalid="ignore"):
            if found.dtype.kind in "iub":
                np.testing.assert_array_equal(found, wanted)
            else:
                # As ONNX's own runner: two units in bfloat16's last place.
                rtol = max(case.rtol, 2**-6) if found.dtype.name == "bfloat16" else case.rtol
                found, wanted = (value.astype(np.float64) for value in (found, wanted))
                np.testing.assert_allclose(found, wanted, rtol, case.atol)
    except AssertionError as error:
        return " ".join(str(error).split())[:DIFFERENCE_LENGTH]
    return None
