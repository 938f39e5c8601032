"""Coverage-guided fuzzing of one reader with atheris: `make fuzz READER=wfdb_header MINUTES=10`.

    fuzz.py READER MINUTES [FOLDER OF FINDS]

A find is an exception that is not documented, or a value that is not finite. A refusal as "unexpected: ..." is a find as
well, because nobody foresaw it. Finds are written to the folder as `crash-...`; the shortest of them becomes a row of
`fuzz_finds.py`, which the tests read. This needs atheris (not a dependency of the package).
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

# Only our own readers are instrumented: pydicom's dictionaries alone take minutes.
import pydicom  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401

with atheris.instrument_imports(include=["tgmm_hf"]):
    from tgmm_hf.inputs import dicom_files, ecg_reading, echo_reading, lab_text  # noqa: F401

import fuzz_targets

READERS: dict[str, Callable[[bytes, Path], None]] = fuzz_targets.READERS


def main() -> None:
    """Fuzz until the time is over."""
    reader, minutes = sys.argv[1], float(sys.argv[2])
    finds = Path(sys.argv[3] if len(sys.argv) > 3 else f"fuzz-{reader}")
    finds.mkdir(parents=True, exist_ok=True)
    corpus = Path(tempfile.mkdtemp(prefix=f"tgmm-fuzz-{reader}-"))
    for number, content in enumerate(fuzz_targets.seeds(reader)):
        (corpus / f"seed{number}").write_bytes(content)
    words = corpus.with_suffix(".dict")
    words.write_text("\n".join(f'w{number}="{word}"' for number, word in enumerate(fuzz_targets.WORDS[reader])) + "\n")
    with tempfile.TemporaryDirectory(prefix="tgmm-fuzz-") as folder:
        target = READERS[reader]

        seen: set[str] = set()

        def one(data: bytes) -> None:
            try:
                target(data, Path(folder))
            except Exception as error:
                # Each place once, and go on: libFuzzer would stop at the first.
                place = fuzz_targets.place_of(error)
                if place not in seen:
                    seen.add(place)
                    (finds / f"find{len(seen):03d}").write_bytes(data)
                    (finds / "places.json").write_text(json.dumps(sorted(seen), indent=1))
                    print(f"FIND {place}", flush=True)

        options = [
            f"-max_total_time={int(60 * minutes)}",
            "-timeout=20",
            "-rss_limit_mb=3000",
            "-max_len=60000",
            "-seed=1",
        ]
        options += [f"-dict={words}", f"-artifact_prefix={finds}/", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
