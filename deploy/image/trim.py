"""Removes from installed packages what the service never loads: 243 MB become 128.

What is left is proven by `prove.py`, in the same build: the golden answers must be identical. Licences stay.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

UNUSED: Final = (
    "bin",  # commands: the image has one
    # ONNX Runtime: its C API beside the Python module that holds the same code, and the makers of models.
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "flatbuffers*",  # its requirements, for those
    "google",
    "protobuf-*",
    # NumPy: to compile against it, and its tests' own modules.
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_core/_*tests*.so",
    "numpy/_core/_simd*.so",
    "numpy/_pyinstaller",
    "numpy/f2py",
    "numpy/random/lib",
    "numpy/random/_examples",
    # Pillow: no text is drawn, no colour profile applied, and AVIF is not among the formats that are read.
    "PIL/_imagingft*.so",
    "PIL/_imagingcms*.so",
    "PIL/_imagingtk*.so",
    "PIL/_avif*.so",
    "pillow.libs/libavif-*",
    "pillow.libs/libfreetype-*",
    "pillow.libs/libharfbuzz-*",
    "pillow.libs/liblcms2-*",
    "pillow.libs/libbrotli*",
    "pillow.libs/libpng16-*",
    # SQLAlchemy: other databases, and the tools of its own tests.
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/mysql",
    "sqlalchemy/dialects/oracle",
    "sqlalchemy/testing",
    "zstandard/_cffi*.so",  # one of its two back ends; the other is used
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pxi",
    "**/*.[ach]",
)


def trim(folder: Path) -> None:
    """Exits when a pattern matches nothing any more: the package has changed, and the list has to follow."""
    before = _size(folder)
    idle = []
    for pattern in UNUSED:
        found = sorted(folder.glob(pattern))
        if not found:
            idle.append(pattern)
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    if idle:
        sys.exit(f"trim: nothing in {folder} is named {', '.join(idle)}")
    libraries = [path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    print(f"trim: {before:.0f} MB became {_size(folder):.0f} MB")


def _size(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
