"""Triton's load generator, run for a moment."""

import csv
import os
import subprocess

from server import TARGET

FOLDER = TARGET / "perf_analyzer"
BINARY = FOLDER / "tritonclient-2.41.0.data" / "data" / "bin" / "perf_analyzer"
LIBRARIES = FOLDER / "nvidia" / "cuda_runtime" / "lib"


def run(folder, server, protocol, *options):
    """Its rows by concurrency, as it writes them, and what it printed; it must be content."""
    port = server.port if protocol == "http" else server.grpc_port
    table = folder / "table.csv"
    ran = subprocess.run(
        [BINARY, "-i", protocol, "-u", f"127.0.0.1:{port}", "-f", table, *options],
        env=os.environ | {"LD_LIBRARY_PATH": str(LIBRARIES)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, f"exit code {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    with table.open() as rows:
        return {int(row["Concurrency"]): row for row in csv.DictReader(rows)}, ran.stdout
