"""The files of code that a saved model needs are found anew when a file changes."""

from pathlib import Path

import pytest

from tgmm_hf.utils.hub_code import travelling_files


def test_a_changed_file_brings_other_files(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("A = 1\n")
    (tmp_path / "second.py").write_text("from .first import A\n")
    module = tmp_path / "module.py"
    module.write_text("from .first import A\n")
    assert set(travelling_files(module)) == {"module.py", "first.py"}
    module.write_text("from .second import A\n")
    assert set(travelling_files(module)) == {"module.py", "second.py", "first.py"}
    (tmp_path / "first.py").unlink()
    with pytest.raises(ValueError, match=r"first\.py is not there"):
        travelling_files(module)
