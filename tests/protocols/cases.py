"""What every client asks, and how its answers are held against ONNX Runtime's."""

import networks
import numpy as np
import v2

# The largest of each feature, more or less.
WINE = [14, 5, 3, 30, 160, 4, 5, 1, 4, 13, 2, 4, 1600]
FLOWERS = {"features": np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)}
RANDOM = np.random.default_rng(0)


def extremes(kind):
    """The values at the ends of a type, two rows of three."""
    dtype = v2.DTYPES[kind]
    if kind == "BYTES":
        values = ["", "a", "ü 语 🦀", '"\\\n', "0", "\x01"]
    elif kind == "BOOL":
        values = [True, False, False, True, True, False]
    elif dtype.kind in "iu":
        ends = np.iinfo(dtype)
        values = [ends.min, ends.max, 0, 1, ends.max - 1, 7]
    else:
        ends = networks.ml_dtypes.finfo(dtype)
        values = [ends.min, ends.max, ends.tiny, 0.1, -0.0, 1]
    return np.array(values, dtype).reshape(2, 3)


def floats(*shape, scale=1.0):
    return (RANDOM.random(shape) * scale).astype(np.float32)


def affine(rows, inner, columns):
    return {"x": floats(rows, inner), "by": floats(inner, columns), "shift": np.arange(columns) - 1}


# (network, inputs) by name.
CASES = {
    **{kind.lower(): (f"same_{kind.lower()}", {"x": extremes(kind)}) for kind in networks.ELEMENTS},
    **{
        f"{kind.lower()} without rows": (f"same_{kind.lower()}", {"x": extremes(kind)[:0]})
        for kind in networks.ELEMENTS
    },
    "one flower": ("iris", {"features": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)}),
    "many flowers": ("iris", {"features": floats(40, 4, scale=7)}),
    "digits": ("digits", {"image": floats(3, 1, 8, 8, scale=16)}),
    "wines, which have names": ("wine", {"features": floats(9, 13, scale=WINE)}),
    "several inputs": ("affine", affine(2, 3, 4)),
    "several inputs of other shapes": ("affine", affine(5, 1, 2)),
    "a picture": ("pixels", {"picture": floats(1, 3, 5, 9)}),
    "pictures of another size": ("pixels", {"picture": floats(2, 3, 16, 4)}),
    "a large picture": ("pixels", {"picture": floats(1, 3, 224, 224)}),
    "words": ("words", {"words": np.array([["red", "grün"], ["", "blue"]], object)}),
}


def without(kinds):
    """The names of the cases that need none of these data types, which a client cannot send."""
    return [
        name
        for name, (_, inputs) in CASES.items()
        if not kinds.intersection(v2.DATATYPES[values.dtype.name] for values in inputs.values())
    ]


def check(case, ask):
    """What `ask(network, inputs)` answers, arrays by output name, is what ONNX Runtime does."""
    network, inputs = CASES[case]
    found, wanted = ask(network, inputs), networks.truth(network, inputs)
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        v2.assert_same(as_text(found[name]), values)


def as_text(values):
    """Clients give text as bytes."""
    if values.dtype.kind != "O":
        return values
    text = [value.decode() if isinstance(value, bytes) else value for value in values.ravel()]
    return np.array(text, object).reshape(values.shape)
