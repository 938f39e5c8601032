"""Time from a WFDB record to `ecg_values`, against wfdb.rdsamp and scipy (row 2).

    OMP_NUM_THREADS=1 python benchmarks/ecg_values.py RECORD [RECORD ...]

The reference is ST-MEM's recipe as `scripts/published_recipes.py` writes it: read, leads by name, FFT resampling,
crop, high-pass, low-pass, one mean and standard deviation. It checks nothing. Two ratios are measured: our values alone
(the reader's checks of header, checksums, units and gaps run, the checks of `ecg_checks` do not), and with all checks.
The bound is the reference against resampling, filters and scaling alone, on signals in memory: reading costs nothing
there. The largest difference of the values is printed too.
"""

import sys
from pathlib import Path

import numpy as np
from measuring import alternate, argument_parser, environment, figure, row, write

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from published_recipes import st_mem

from tgmm_hf.inputs import ecg_signal
from tgmm_hf.inputs.ecg_findings import LeadFindings
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor

GOAL, SAME = 2.5, 1e-5


def main() -> None:
    """Measure all records together and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("records", type=Path, nargs="+", help="WFDB records without suffix, at 500 Hz")
    parser.add_argument("--pairs", type=int, default=9, help="measured calls of each way (default 9)")
    arguments = parser.parse_args()
    extractor, checks = EcgFeatureExtractor(), ecg_signal.check_leads
    difference = max(float(np.abs(extractor.prepare(path).values - st_mem(path)).max()) for path in arguments.records)

    def without_checks() -> None:
        ecg_signal.check_leads = lambda *_: LeadFindings()
        try:
            for path in arguments.records:
                extractor.prepare(path)
        finally:
            ecg_signal.check_leads = checks

    def with_checks() -> None:
        for path in arguments.records:
            extractor.prepare(path)

    harmonised = [
        harmonise_recording(
            as_recording(path), max_gap_seconds=extractor.max_gap_seconds, min_leads=extractor.min_leads
        )
        for path in arguments.records
    ]

    def without_reading() -> None:
        for ecg in harmonised:
            extractor.windows(extractor.resample(ecg).signal, ecg.mask)

    def reference() -> None:
        for path in arguments.records:
            st_mem(path)

    times = alternate(
        {"reference": reference, "values": without_checks, "checked": with_checks, "bound": without_reading},
        arguments.pairs,
    )
    number = len(arguments.records)
    each = {name: {key: value / number for key, value in taken.items()} for name, taken in times.items()}
    what = "one 500 Hz WFDB record -> ecg_values against wfdb.rdsamp + scipy"
    write(
        {
            "rows": [
                row("2", f"{what}, values alone", each["reference"], each["values"], GOAL),
                row(
                    "2, with all checks", f"{what}; the reference checks nothing", each["reference"], each["checked"], 0
                ),
                row("2, bound", f"{what}; ours without reading", each["reference"], each["bound"], 0),
                figure("2, difference", "largest difference of the values", difference, SAME, at_most=True),
            ],
            "records": number,
            "pairs": arguments.pairs,
            "machine": environment(),
        }
    )


if __name__ == "__main__":
    main()
