"""Short digests of values, for fingerprints that are saved with a model and compared by people."""

import hashlib
import json
from typing import Any


def short_digest(content: Any) -> str:
    """Write a value that JSON can hold as "sha256:" and 16 hex digits. The order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
