"""Times ONNX Runtime on one thread, as it is told line by line: onnxruntime_peer.py FOLDER

    version              → ONNX Runtime's
    load NAME            → nothing; the model is FOLDER/NAME.onnx, the rows are those of FOLDER/rows.f32
    time ROWS RUNS       → the seconds that a run of so many rows took, with arrays, and by way of an io-binding
    scores ROWS          → nothing; writes the last output to FOLDER/scores.f32
"""

import sys
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime


class Peer:
    def __init__(self, folder):
        self.folder = folder
        self.rows = np.fromfile(folder / "rows.f32", np.float32)

    def version(self):
        return onnxruntime.__version__

    def load(self, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(self.folder / f"{name}.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.features = self.session.get_inputs()[0].shape[1]
        return ""

    def batches(self, rows):
        """All rows, so many at a time, so that no run sees what the one before it saw."""
        rows, table = int(rows), self.rows.reshape(-1, self.features)
        return [table[start : start + rows] for start in range(0, len(table), rows)]

    def time(self, rows, runs):
        batches, runs = self.batches(rows), int(runs)
        plain = cycle([(None, {"X": batch}) for batch in batches])
        bound = cycle([(self.bind(batch),) for batch in batches])
        return f"{timed(self.session.run, plain, runs)} {timed(self.session.run_with_iobinding, bound, runs)}"

    def bind(self, batch):
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("X", onnxruntime.OrtValue.ortvalue_from_numpy(batch))
        for output in self.session.get_outputs():
            binding.bind_output(output.name)
        return binding

    def scores(self, rows):
        self.session.run(None, {"X": self.batches(rows)[0]})[-1].tofile(self.folder / "scores.f32")
        return ""


def timed(run, arguments, runs):
    began = perf_counter()
    for each in islice(arguments, runs):
        run(*each)
    return (perf_counter() - began) / runs


if __name__ == "__main__":
    peer = Peer(Path(sys.argv[1]))
    for line in sys.stdin:
        command, *arguments = line.split()
        print(getattr(peer, command)(*arguments), flush=True)
