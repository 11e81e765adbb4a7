"""Pictures to ask models about: scikit-image's, and lines of text that we draw."""

import numpy as np
from conftest import PACKAGES
from PIL import Image, ImageDraw, ImageFont

FOLDER = PACKAGES / "skimage" / "data"


def photograph(name, size):
    return Image.open(FOLDER / name).convert("RGB").resize(size)


def scan(name, corner, size):
    """A part of a scanned page, from its upper left corner."""
    (left, top), (width, height) = corner, size
    return Image.open(FOLDER / name).convert("RGB").crop((left, top, left + width, top + height))


def line(text, size):
    """Black on white, in the font that Pillow brings."""
    picture = Image.new("RGB", size, "white")
    font = ImageFont.load_default(size[1] * 0.6)
    ImageDraw.Draw(picture).text((8, size[1] / 2), text, "black", font, anchor="lm")
    return picture


def batch(pictures, mean, deviation):
    """As networks take them: [pictures, channels, height, width], normalised.

    Rounded to four decimals, so that JSON is short and still says the very numbers.
    """
    pixels = np.stack([np.asarray(picture) for picture in pictures]) / 255
    normalised = (pixels - mean) / deviation
    return normalised.round(4).astype(np.float32).transpose(0, 3, 1, 2)
