"""The process in which the server examines models, spoken to as the server does."""

import json
import os
import resource
import signal
import subprocess

from server import BINARY

ADDRESS_SPACE = 8 << 30


class Trial:
    """Examines models with one engine alone."""

    def __init__(self, engine, onnxruntime="off"):
        self.engine = engine
        self.process = subprocess.Popen(
            [BINARY, "try-load", "--onnxruntime", str(onnxruntime)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            # It protects the machine if the trial does not keep to its bound.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def examine(self, path, memory):
        """What the trial reports; nothing when it was lost."""
        rules = {"agreement": "require", "patience": {"secs": 10, "nanos": 0}}
        job = {"path": str(path), "engines": [self.engine], "rules": rules, "golden": {"files": []}, "memory": memory}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        report = self.process.stdout.readline()
        return json.loads(report) if report else None

    def kill(self):
        # Popen's own would also wait, and what the process has used would be lost.
        os.kill(self.process.pid, signal.SIGKILL)

    def end(self):
        """Ends it; the most memory that it had, in bytes."""
        self.kill()
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return used.ru_maxrss * 1024
