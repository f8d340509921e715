"""Files to NumPy arrays and back, without jax, so that the command line starts at once.

Reading (:func:`read_image`) either returns every pixel that the file declares, with its axes and its pixel
size in nanometres, or raises :class:`UserError` in a microscopist's words; it never fills a gap with zeros.
Writing (:func:`write_image`) is atomic and gives the same bytes for the same data and description.
"""

from .atomic import atomic_path, write_text
from .errors import UserError
from .images import check_output, image_writer, open_image, read_description, read_image, write_image
from .tiff import ImageFile
from .values import check_values

__all__ = [
    "ImageFile",
    "UserError",
    "atomic_path",
    "check_output",
    "check_values",
    "image_writer",
    "open_image",
    "read_description",
    "read_image",
    "write_image",
    "write_text",
]
