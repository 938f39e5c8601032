"""Search among the vectors of a MoRE index against FAISS, flat (row 15).

    pip install faiss-cpu
    OMP_NUM_THREADS=1 python benchmarks/more_index.py --vectors 100000 --pairs 7

Both search for the ten nearest of random vectors of length one, for one query at a time. Both look at all vectors, so
that both give the same answer, and the script checks it. Making the index and the query are measured. FAISS is no
dependency. Without it only our times are printed.
"""

import importlib
import importlib.util
from typing import Any

import numpy as np
from measuring import alternate, argument_parser, environment, figure, row, write

from tgmm_hf.data.nearest import nearest_of_all

faiss: Any = importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None
"""FAISS, None where it is not installed."""

GOAL, NEAREST = 1 / 1.1, 10


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--vectors", type=int, default=100_000, help="number of vectors (default 100,000)")
    parser.add_argument("--width", type=int, default=128, help="width of a vector (default 128)")
    parser.add_argument("--queries", type=int, default=20, help="queries of one measured call (default 20)")
    parser.add_argument("--pairs", type=int, default=7, help="measured calls of each side (default 7)")
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)

    def unit(number: int) -> np.ndarray:
        vectors = draw.normal(size=(number, arguments.width)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    vectors, queries = unit(arguments.vectors), unit(arguments.queries)

    def ours() -> list[Any]:
        return [nearest_of_all(vectors, query, NEAREST)[0] for query in queries]

    runs: dict[str, Any] = {"ours": ours}
    if faiss is not None:
        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(arguments.width)
        index.add(vectors)

        def reference() -> list[Any]:
            return [index.search(query[None], NEAREST)[1][0] for query in queries]

        runs = {"reference": reference, **runs}
        if not np.array_equal(np.stack(reference()), np.stack(ours())):
            raise RuntimeError("the two searches give other neighbours, so their times mean nothing")
    times = alternate(runs, arguments.pairs)
    each = {name: {key: value / arguments.queries for key, value in taken.items()} for name, taken in times.items()}
    what = f"a query among {arguments.vectors:,} vectors of {arguments.width}"
    if faiss is None:
        rows = [figure("15, index", f"CPU ms of {what} (faiss is not installed)", each["ours"]["cpu_ms"], 0)]
    else:
        rows = [row("15, index", f"{what}: FAISS flat / ours", each["reference"], each["ours"], GOAL)]
    write({"rows": rows, "pairs": arguments.pairs, "machine": environment()})


if __name__ == "__main__":
    main()
