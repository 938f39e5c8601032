"""Which small echo encoder reads an ejection fraction from a thousand clips: MViT or a convolution for each frame?

    python experiments/clip_encoders.py --patients 700 --epochs 6 --seeds 0 --rates 1e-3 2e-3

Clips are rendered as `tgmm synth` renders them and cut and scaled as the image processor does, without files, mask and
checks. Each encoder of `TgmmConfig.tiny` gets one linear layer, and is trained on the fraction with a reader's error of
five points. It is scored on the fraction that is drawn, of 300 other patients. The control gives everybody the mean of
the training patients. One row a run: encoder, learning rate, seed, errors of a clip and of the mean over a patient's
clips (points), CPU seconds.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from tiny_training import Descent, Recipe, write
from torch import nn
from transformers import AutoModel

from tgmm_hf import TgmmConfig
from tgmm_hf.cohorts.synthetic import evidence
from tgmm_hf.cohorts.synthetic.measures import READER_ERROR, shown_ejection_fraction
from tgmm_hf.cohorts.synthetic.render_echo import render_clip
from tgmm_hf.inputs.image_processing_echo import CropBox
from tgmm_hf.utils.names import VIEWS

ENCODERS = ("echo_mvit", "pan_echo")
TRAIN_SEED, TEST_SEED, TEST_PATIENTS = 1, 2, 300
CLIPS_OF_A_PATIENT, BATCH, SIZE = 3, 32, 64
GREY_MEAN, GREY_DEVIATION = 60.0, 50.0
"""Grey levels are scaled by these numbers."""


def main() -> None:
    """Render the clips, train every encoder with every seed, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS, help="encoders (default both)")
    parser.add_argument("--patients", type=int, default=700, help="training patients (default 700)")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the clips (default 6)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings (default 0)")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="learning rates (default 1e-3)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    training, test = clips_of(arguments.patients, TRAIN_SEED), clips_of(TEST_PATIENTS, TEST_SEED)
    write("| encoder | rate | seed | error of a clip | of a patient | control | CPU s |\n|---|---|---|---|---|---|---|")
    control = np.abs(test[1] - training[1].mean()).mean()
    for name in arguments.encoders:
        for rate, seed in product(arguments.rates, arguments.seeds):
            start = time.process_time()
            predicted = train(name, Recipe(learning_rate=rate), seed, arguments.epochs, training)(test[0])
            clip, patient = errors(predicted, test[1], test[2])
            seconds = time.process_time() - start
            write(f"| {name} | {rate:g} | {seed} | {clip:.2f} | {patient:.2f} | {control:.2f} | {seconds:.0f} |")


def clips_of(patients: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render clips of views that show the left ventricle.

    Returns:
        Grey frames (n, 16, 64, 64) uint8, the drawn ejection fraction (n,) percent, and the patient of each clip (n,).
    """
    rng = np.random.default_rng(seed)
    table = evidence.draw(rng, patients, evidence.EVIDENCE["default"])
    fraction = shown_ejection_fraction(table.values[:, evidence.index_of("shortening")])
    clips, owners = [], []
    for patient in range(patients):
        views = [view for view in evidence.LV_VIEWS if table.views[patient, VIEWS.index(view)]]
        for view in rng.permutation(views)[:CLIPS_OF_A_PATIENT]:
            luma = render_clip(table.take(np.array([patient])), str(view), rng, 32, 112, 150).luma[::2]
            top, left, side = CropBox.of_centre(luma.shape[1], luma.shape[2], 0.1)
            square = luma[:, top : top + side, left : left + side]
            clips.append([cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for frame in square])
            owners.append(patient)
    return np.array(clips), fraction[owners], np.array(owners)


def train(
    name: str, recipe: Recipe, seed: int, epochs: int, training: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Train one encoder on rendered clips with a reader's error. Return a function from clips to fractions."""
    clips, fraction, owners = training
    errors_of_reader = np.random.default_rng(seed).normal(0, READER_ERROR, owners.max() + 1)
    return train_encoder(name, recipe, seed, epochs, clips, fraction + errors_of_reader[owners], scaled)[1]


def train_encoder(  # noqa: PLR0913 - what is trained, how, and on what
    name: str,
    recipe: Recipe,
    seed: int,
    epochs: int,
    clips: np.ndarray,
    wanted: np.ndarray,
    as_inputs: Callable[[np.ndarray], torch.Tensor],
) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Train an encoder of `TgmmConfig.tiny` with one linear layer to read a number from clips.

    Args:
        name: Type of the encoder, such as "pan_echo".
        recipe: Learning rate, decay and clipping.
        seed: Seed of the weights and of the order of the clips.
        epochs: Passes over the clips.
        clips: (n, ...) uint8.
        wanted: The number of each clip, (n,).
        as_inputs: Turns clips into the inputs of the encoder.

    Returns:
        The encoder in evaluation mode, and a function from clips to numbers.
    """
    mean, deviation = wanted.mean(), wanted.std()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config: Any = TgmmConfig.tiny(echo_config={"model_type": name}).echo_config
    encoder = AutoModel.from_config(config).train()
    head = nn.Linear(config.hidden_size, 1)
    steps = epochs * (len(clips) // BATCH)
    descent = Descent([*encoder.parameters(), *head.parameters()], steps, recipe)
    for _ in range(epochs):
        order = rng.permutation(len(clips))
        for start in range(0, len(clips) - BATCH + 1, BATCH):
            chosen = np.sort(order[start : start + BATCH])
            target = torch.from_numpy((wanted[chosen] - mean) / deviation).float()
            answer = head(encoder(as_inputs(clips[chosen])).pooler_output)[:, 0]
            descent.step(nn.functional.huber_loss(answer, target))
    encoder.eval()

    @torch.no_grad()
    def predict(shown: np.ndarray) -> np.ndarray:
        parts = [head(encoder(as_inputs(shown[k : k + BATCH])).pooler_output) for k in range(0, len(shown), BATCH)]
        return torch.cat(parts)[:, 0].numpy() * deviation + mean

    return encoder, predict


def scaled(clips: np.ndarray) -> torch.Tensor:
    """Scale grey frames (n, frames, 64, 64) to inputs (n, frames, 3, 64, 64)."""
    values = (torch.from_numpy(clips).float() - GREY_MEAN) / GREY_DEVIATION
    return values[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()


def errors(predicted: np.ndarray, fraction: np.ndarray, owners: np.ndarray) -> tuple[float, float]:
    """Compute the mean absolute error of a clip, and of the mean over the clips of a patient."""
    of_patients = [
        abs(predicted[owners == patient].mean() - fraction[owners == patient][0]) for patient in np.unique(owners)
    ]
    return float(np.abs(predicted - fraction).mean()), float(np.mean(of_patients))


if __name__ == "__main__":
    main()
