"""Testers that plug our classes into transformers' common tests; run by `make test-hf`, not collected by plain pytest.

A test that does not fit is either skipped with a reason that begins with "excluded: ", or replaced by a version of our
own whose docstring begins with "adapted: "; both are listed at the end of a run.
"""
