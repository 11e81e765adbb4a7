"""The five servers that every case is put to: the engines chosen among, and each of them alone."""

from dataclasses import dataclass

from server import onnxruntime


@dataclass(frozen=True)
class Configuration:
    # In the names of reports.
    name: str
    # In the page's columns.
    title: str
    engine: str
    has_library: bool
    # The share of the inference cases that must pass.
    least_share: float = 0

    @property
    def settings(self):
        return {"ONNXD_INFERENCE__ENGINE": self.engine, **onnxruntime(self.has_library)}


TRACT = Configuration("tract", "tract", "tract", has_library=False)
RTEN = Configuration("rten", "rten", "rten", has_library=False)
ONNXRUNTIME = Configuration("onnxruntime", "ONNX Runtime", "onnxruntime", has_library=True)
AUTO = Configuration("auto", "auto", "auto", has_library=False, least_share=0.85)
AUTO_WITH = Configuration("auto-onnxruntime", "auto with ONNX Runtime", "auto", has_library=True, least_share=0.95)
AUTOS = (AUTO, AUTO_WITH)
ALONE = (TRACT, RTEN, ONNXRUNTIME)
ALL = (*ALONE, *AUTOS)
