"""Reads the Prometheus text format."""


def samples(text):
    """The values by their name with labels, as the text writes it."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}
