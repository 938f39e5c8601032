"""Compare the adaptive equalisation of X-rays with scikit-image's, which the published code of MoRE calls.

    pip install scikit-image
    python scripts/measure_clahe.py FILE ...

FILE is a chest X-ray (DICOM, PNG or JPEG). Prints the difference in grey values (0 to 255) for each file.
"""

import sys

import numpy as np
from skimage.exposure import equalize_adapthist

from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.inputs.xray_reading import read_xray


def main(paths: list[str]) -> None:
    """Print one line for each file."""
    ours, plain = MoreImageProcessor(), MoreImageProcessor(clip_limit=None)
    sys.stdout.write("file  mean difference  95th percentile  correlation  difference without equalisation\n")
    for number, path in enumerate(paths, start=1):
        picture = read_xray(path)
        found = ours.equalise(picture.pixels, picture.is_dicom).astype(float)
        resized = plain.equalise(picture.pixels, picture.is_dicom)
        published = np.floor(equalize_adapthist(resized / resized.max()) * 255)
        apart = np.abs(found - published)
        same = np.corrcoef(found.ravel(), published.ravel())[0, 1]
        without = np.abs(resized - published).mean()
        figures = f"{apart.mean():.1f}  {np.percentile(apart, 95):.0f}  {same:.3f}  {without:.1f}"
        sys.stdout.write(f"{number}  {figures}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
