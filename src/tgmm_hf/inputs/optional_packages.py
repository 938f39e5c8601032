"""Ask for packages that only some inputs need, such as wfdb, pydicom, Pillow and OpenCV.

A saved model answers from lab rows and ECG arrays without them. So its files import them inside `try`, or at their
first use if the import takes long.
"""

from importlib import import_module
from typing import Any


class LatePackage:
    """An optional package that is imported when one of its names is first used.

    `import tgmm_hf` would otherwise import pydicom and wfdb, which brings pandas, for every user of transformers.
    The package counts as false if it is not installed.

    Args:
        name: of the package or of one of its modules, such as "pydicom.pixels".
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)

    def __bool__(self) -> bool:
        try:
            import_module(self._name)
        except ImportError:
            return False
        return True


def require_package(module: Any, package: str, purpose: str) -> None:
    """Raise unless an optional package was imported.

    Args:
        module: the imported module or a `LatePackage`, or None where the import failed.
        package: name for `pip install`.
        purpose: what needs it, for the message ("reading the DICOM file a.dcm").

    Raises:
        ImportError: if the package is not there, with the pip command.
    """
    if not module:
        raise ImportError(f"{purpose} needs {package}: pip install {package}")
