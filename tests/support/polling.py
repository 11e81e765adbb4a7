"""Waiting for something to come true, with a deadline instead of a guess."""

import time


def wait_until(condition, seconds, what):
    """The first true value of condition(); a TimeoutError that names `what` if none comes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.1)
    return value
