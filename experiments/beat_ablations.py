"""Beat with other codebooks and windows, against PCA and a plain convolutional VQ-VAE with as many bits a second.

    tgmm make-instructions PTBXL --out ptbxl/instructions.jsonl
    python experiments/beat_ablations.py ptbxl/instructions.jsonl --name ptbxl --runs ptbxl/beat \
        --out docs/results/heartcare

Every arm is trained by `configs/heartcare_beat.yaml` on the train split and scored on the centre windows of the test
split, or of the validation split where there is no test split. Nothing is chosen on the scored recordings, because the
last epoch is kept. The error is in units of a lead's deviation: 1 is what the means of the leads reach. The script
writes beat_NAME.md. A finished training is not run again.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from meit_fusions import as_markdown, save
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from tiny_training import Descent, Recipe, write
from torch import nn

from tgmm_hf import BeatConfig, BeatModel
from tgmm_hf.data.instructions import Instruction, read_instructions
from tgmm_hf.data.processed_ecgs import ProcessedArrays, digest_of_ecgs, process_files
from tgmm_hf.evaluation.ecg_reconstruction import compare_peaks, percent_difference, r_peaks, squared_error
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_mean
from tgmm_hf.evaluation.unseen import patient_name
from tgmm_hf.families.heartcare.vector_quantizer import ResidualVectorQuantizer
from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor
from tgmm_hf.training.beat_data import RecordingRows, WindowCollator, recordings_of
from tgmm_hf.training.train_any import read_any_arguments, train_any

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "heartcare_beat.yaml"
ARMS: dict[str, list[str]] = {
    "Beat: two codebooks of 512, 4 s": [],
    "one codebook of 512 for both levels": ["model.overrides.shared_codebook=true"],
    "two codebooks of 256": ["model.overrides.codebook_size=256"],
    "two codebooks of 1,024": ["model.overrides.codebook_size=1024"],
    "window of 2 s": ["model.overrides.seq_length=500"],
}
"""Arm -> settings that replace those of the configuration."""
SECONDS, RATE = 10.0, 250
SEGMENT = 50
"""Samples of PCA's segments and of a latent of the VQ-VAE: 0.2 s, as a query token of Beat stands for."""
SPLITS_OF_BITS = ((3, 6), (6, 3), (9, 2), (18, 1))
"""Components of PCA and bits of each. All make 18 bits a segment, as two codes of 512. One is chosen on training."""
HEADER = ["system", "bits a second", "weights", "MSE", "PRD, %", "R peak, ms", "missed, %", "added, %"]
HEADER += ["core codes used, %", "residual codes used, %", "MSE of the next second"]


class Windows(NamedTuple):
    """Windows that are scored: (n, 12, samples), what follows, and the patients."""

    seen: NDArray
    after: NDArray
    patients: list[str]


def main() -> None:
    """Train and score all arms, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="instruction file")
    parser.add_argument("--name", required=True, help="name of the data in the name of the table")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models")
    parser.add_argument("--out", type=Path, required=True, help="directory of the table")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Recordings(arguments.data, arguments.runs / "recordings")
    shared = [f"data.file={arguments.data}", f"data.cache={arguments.runs / 'recordings'}", *arguments.set]
    rows = []
    for name in arguments.arms:
        output = arguments.runs / name.replace(",", "").replace(":", "").replace(" ", "_")
        record = train_any(read_any_arguments(CONFIG, [*shared, *ARMS[name], f"output={output}"]))
        model = BeatModel.from_pretrained(output).eval()
        rows.append(_row(name, _BeatCoder(model), data.windows(model.config), record["parameters"]))
        _save(arguments, rows)
    config = BeatConfig()
    steps = record["history"][-1]["step"]
    for name, coder in (
        ("PCA of segments of 0.2 s, quantised", _PcaCoder(data.training(config))),
        ("convolutional VQ-VAE", _VqVaeCoder(data, config, steps, arguments)),
    ):
        rows.append(_row(name, coder, data.windows(config), coder.number_of_weights))
        _save(arguments, rows)


def _save(arguments: argparse.Namespace, rows: Sequence[Sequence[str]]) -> None:
    write("  ".join(rows[-1]))
    save(arguments.out / f"beat_{arguments.name}.md", as_markdown(HEADER, rows))


class Recordings:
    """Filtered recordings of an instruction file.

    Args:
        file: The instruction file.
        cache: Directory of the filtered recordings, which the trainings share.
    """

    def __init__(self, file: Path, cache: Path) -> None:
        rows = list(read_instructions(file))
        self.scored = "test" if any(row.split == "test" for row in rows) else "validation"
        training = recordings_of([row for row in rows if row.split in ("train", "validation")])
        self.training_rows, self.training_ecgs = training, self._read(file, training, cache)
        if self.scored == "validation":
            self.rows, self.ecgs = self.training_rows, self.training_ecgs
        else:
            self.rows = recordings_of([row for row in rows if row.split == "test"])
            self.ecgs = self._read(file, self.rows, cache)

    @staticmethod
    def _read(file: Path, rows: list[Instruction], cache: Path) -> ProcessedArrays:
        extractor = BeatFeatureExtractor(num_samples=round(SECONDS * RATE), max_windows=1)
        digest = digest_of_ecgs(rows)
        return process_files(len(rows), lambda i: rows[i].ecg, extractor, cache=cache, data_hash=digest)

    def windows(self, config: BeatConfig) -> Windows:
        """Cut the centre windows of the scored recordings."""
        numbers = [n for n, row in enumerate(self.rows) if row.split == self.scored]
        numbers = self.ecgs.usable(numbers)
        rows = RecordingRows(numbers, self.ecgs)
        batch = WindowCollator(config, training=False)([rows[index] for index in range(len(rows))])
        return Windows(
            batch["input_values"].numpy(),
            batch["next_values"].numpy(),
            [patient_name(self.rows[number]) for number in numbers],
        )

    def training(self, config: BeatConfig, seed: int = 0) -> NDArray:
        """Cut one window of each recording of the train split, at a place that is drawn."""
        numbers = [n for n, row in enumerate(self.training_rows) if row.split == "train"]
        rows = RecordingRows(self.training_ecgs.usable(numbers), self.training_ecgs)
        batch = WindowCollator(config, True, seed)([rows[index] for index in range(len(rows))])
        return batch["input_values"].numpy()


class _BeatCoder:
    """Beat as a coder: windows (n, 12, samples) -> rebuilt windows, codes, the next second."""

    def __init__(self, model: BeatModel) -> None:
        self.model, config = model, model.config
        assert config.num_queries is not None  # the configuration has filled it
        bits = config.num_queries * config.num_levels * np.log2(config.codebook_size)
        self.bits = bits / (config.seq_length / RATE)

    @torch.no_grad()
    def __call__(self, windows: NDArray) -> tuple[NDArray, torch.Tensor | None, NDArray | None]:
        outputs = [self.model(torch.from_numpy(part)) for part in _batches(windows)]
        rebuilt, after = (
            torch.cat([output[name] for output in outputs]).numpy() for name in ("reconstruction", "prediction")
        )
        return rebuilt, torch.cat([output.codes for output in outputs]), after


class _PcaCoder:
    """Principal components of segments of all leads, each quantised to the nearest of a few values of its own."""

    def __init__(self, windows: NDArray) -> None:
        segments = _segments(windows)
        errors = {}
        for components, bits in SPLITS_OF_BITS:
            self._fit(segments, components, bits)
            errors[components, bits] = float(((self._code(segments) - segments) ** 2).mean())
        best = min(errors, key=lambda pair: errors[pair])
        write(f"PCA: {best[0]} components with {best[1]} bits each")
        self._fit(segments, *best)
        self.bits = best[0] * best[1] * RATE / SEGMENT
        self.number_of_weights = int(self.pca.components_.size + self.pca.mean_.size) + best[0] * 2 ** best[1]

    def _fit(self, segments: NDArray, components: int, bits: int) -> None:
        self.pca = PCA(components, random_state=0).fit(segments)
        projected = self.pca.transform(segments)
        self.values = [
            np.sort(KMeans(2**bits, n_init=1, random_state=0).fit(column[:, None]).cluster_centers_[:, 0])
            for column in projected.T
        ]

    def _code(self, segments: NDArray) -> NDArray:
        projected = self.pca.transform(segments)
        for number, values in enumerate(self.values):
            nearest = np.abs(projected[:, number, None] - values).argmin(1)
            projected[:, number] = values[nearest]
        return np.asarray(self.pca.inverse_transform(projected))

    def __call__(self, windows: NDArray) -> tuple[NDArray, None, None]:
        return _joined(self._code(_segments(windows)), len(windows)), None, None


class _VqVae(nn.Module):
    """Convolutions that make one latent of 0.2 s, the quantiser of Beat, and the mirrored convolutions."""

    def __init__(self, config: BeatConfig) -> None:
        super().__init__()
        width, half = config.hidden_size, config.hidden_size // 2
        self.encoder = nn.Sequential(
            nn.Conv1d(12, half, 9, 5, 4), nn.GELU(), nn.Conv1d(half, width, 9, 5, 4), nn.GELU(),
            nn.Conv1d(width, width, 4, 2, 1), nn.GELU(), nn.Conv1d(width, width, 3, 1, 1),
        )  # fmt: skip
        self.quantizer = ResidualVectorQuantizer(config)
        self.decoder = nn.Sequential(
            nn.Conv1d(width, width, 3, 1, 1), nn.GELU(), nn.ConvTranspose1d(width, width, 4, 2, 1), nn.GELU(),
            nn.ConvTranspose1d(width, half, 9, 5, 4, 4), nn.GELU(), nn.ConvTranspose1d(half, 12, 9, 5, 4, 4),
        )  # fmt: skip

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the rebuilt windows, the codes, and the distance of the latents from their codes."""
        latents = self.encoder(windows).transpose(1, 2)
        quantized, codes = self.quantizer(latents)
        distance = nn.functional.mse_loss(latents, quantized.detach())
        return self.decoder(quantized.transpose(1, 2)), codes, distance


class _VqVaeCoder:
    """The VQ-VAE, trained with as many steps and windows a step as Beat, and the same recipe."""

    def __init__(self, data: Recordings, config: BeatConfig, steps: int, arguments: argparse.Namespace) -> None:
        settings: Any = read_any_arguments(CONFIG, arguments.set)
        optimisation = settings.optimisation
        torch.manual_seed(settings.seed)
        self.model = _VqVae(config).train()
        recipe = Recipe(optimisation.learning_rate, optimisation.weight_decay, optimisation.max_grad_norm)
        descent = Descent(self.model.parameters(), steps, recipe)
        for windows in _endless(data, config, optimisation.batch_size, steps):
            rebuilt, _, distance = self.model(windows)
            descent.step(nn.functional.mse_loss(rebuilt, windows) + config.quantization_weight * distance)
        self.model.eval()
        self.bits = config.num_levels * np.log2(config.codebook_size) * RATE / SEGMENT
        self.number_of_weights = sum(p.numel() for p in self.model.parameters())

    @torch.no_grad()
    def __call__(self, windows: NDArray) -> tuple[NDArray, torch.Tensor, None]:
        outputs = [self.model(torch.from_numpy(part)) for part in _batches(windows)]
        return torch.cat([output[0] for output in outputs]).numpy(), torch.cat([output[1] for output in outputs]), None


def _endless(data: Recordings, config: BeatConfig, batch_size: int, steps: int) -> Iterator[torch.Tensor]:
    """Yield batches of training windows, cut anew in every epoch."""
    done, epoch = 0, 0
    while done < steps:
        windows = data.training(config, seed=epoch)
        order = np.random.default_rng(epoch).permutation(len(windows))
        for start in range(0, len(windows), batch_size):
            if done == steps:
                return
            yield torch.from_numpy(windows[order[start : start + batch_size]])
            done += 1
        epoch += 1


def _batches(windows: NDArray) -> Iterator[NDArray]:
    for start in range(0, len(windows), 64):
        yield windows[start : start + 64]


def _segments(windows: NDArray) -> NDArray:
    """Cut windows (n, 12, samples) into segments (n x segments, 12 x SEGMENT)."""
    count = windows.shape[2] // SEGMENT
    return windows.reshape(len(windows), 12, count, SEGMENT).transpose(0, 2, 1, 3).reshape(-1, 12 * SEGMENT)


def _joined(segments: NDArray, number: int) -> NDArray:
    """Join segments to `number` windows, the inverse of `_segments`."""
    shaped = segments.reshape(number, -1, 12, SEGMENT).transpose(0, 2, 1, 3)
    return shaped.reshape(number, 12, -1)


def _row(name: str, coder: Any, windows: Windows, weights: int) -> list[str]:
    """Score a coder and write its row of the table."""
    rebuilt, codes, after = coder(windows.seen)
    counts = bootstrap_counts(windows.patients, None, 1000, 0)
    shifts = [
        compare_peaks(original, r_peaks(again, RATE))
        for signal, again in zip(windows.seen, rebuilt, strict=True)
        if len(original := r_peaks(signal, RATE))
    ]
    partners = np.concatenate([shift.milliseconds for shift in shifts])
    total = len(partners) + sum(shift.missed for shift in shifts)
    used = ["", ""] if codes is None else [_used(codes[..., level], coder) for level in range(2)]
    return [
        name,
        f"{coder.bits:.0f}",
        f"{weights:,}",
        _with_interval(squared_error(windows.seen, rebuilt), counts),
        _with_interval(percent_difference(windows.seen, rebuilt), counts, 1),
        f"{partners.mean():.1f}",
        f"{100 * sum(shift.missed for shift in shifts) / total:.1f}",
        f"{100 * sum(shift.added for shift in shifts) / total:.1f}",
        *used,
        "" if after is None else _with_interval(squared_error(windows.after, after), counts),
    ]


def _used(codes: torch.Tensor, coder: Any) -> str:
    """Write the share of a codebook that occurs in codes."""
    size = coder.model.quantizer.codebook(0).vectors.shape[0]
    return f"{100 * len(codes.unique()) / size:.1f}"


def _with_interval(values: NDArray, counts: NDArray, digits: int = 3) -> str:
    """Write the mean of values with its 95 % interval over patients."""
    entry = estimate(lambda drawn: resampled_mean(values, drawn), counts).entry("mean")
    low, high = entry["mean_ci"]
    return f"{entry['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
