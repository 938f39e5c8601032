"""Start the page inside a Hugging Face Space."""

import os
from pathlib import Path

from tgmm_hf.app.server import DEFAULT_PORT, read_password, serve

EXAMPLES = Path("examples")
"""Directory of the synthetic patients in a Space."""


def serve_space(model: str) -> None:
    """Serve the page at the address where a Space expects it. The password is the secret of the Space.

    Args:
        model: Directory or Hub repository of a saved model.

    Raises:
        TgmmError: If the Space has no password.
    """
    port = int(os.environ.get("GRADIO_SERVER_PORT", DEFAULT_PORT))
    serve(model, host="0.0.0.0", port=port, password=read_password(None), examples=EXAMPLES)  # noqa: S104
