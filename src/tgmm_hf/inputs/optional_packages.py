"""Ask for packages that only some inputs need, such as wfdb, pydicom, Pillow and OpenCV.

A saved model answers from lab rows and ECG arrays without them. So its files import them inside `try`.
"""

from typing import Any


def require_package(module: Any, package: str, purpose: str) -> None:
    """Raise unless an optional package was imported.

    Args:
        module: the imported module, or None where its import failed.
        package: name for `pip install`.
        purpose: what needs it, for the message ("reading the DICOM file a.dcm").

    Raises:
        ImportError: if the module is None, with the pip command.
    """
    if module is None:
        raise ImportError(f"{purpose} needs {package}: pip install {package}")
