"""Pictures in JSON."""

import base64
import io

from PIL import Image

from model.canonical import Pixels


def data_url(pixels: Pixels) -> str:
    """28 x 28 uint8 as a PNG that a page can show."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
