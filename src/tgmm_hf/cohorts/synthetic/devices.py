"""The devices that record the files of a synthetic cohort. The defaults serve a cohort without a centre."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, resample_poly, sosfiltfilt

RATE, SECONDS = 500, 10
"""Samples per second and length of the ECG as it is drawn. A device of another rate resamples it."""
DEPTH_CM = 16.0
"""Depth of the sector at which the anatomy has the lengths of `render_echo.py`."""


@dataclass(frozen=True)
class EcgDevice:
    """An electrocardiograph.

    Attributes:
        rate: Samples per second.
        gain: Units of the file per millivolt.
        unit: Unit in the header of the file, "mV" or "uV".
        mains: Frequency of the mains hum in Hz.
        hum: Largest amplitude of the hum in millivolts.
        muscle: Standard deviation of the muscle noise in millivolts, at any rate.
        wander: Amplitude of each of two waves of baseline wander in millivolts.
        band: Limits of the device's filter in Hz, (low, high). None: the device does not filter.
        bandwidth: The limits as the machine's table states them.
    """

    rate: int = RATE
    gain: float = 200.0
    unit: str = "mV"
    mains: float = 60
    hum: float = 0.006
    muscle: float = 0.012
    wander: float = 0.06
    band: tuple[float, float] | None = None
    bandwidth: str = "0.005-150 Hz"

    def sample_times(self) -> np.ndarray:
        """Return the times of the samples in seconds, (rate * SECONDS,)."""
        return np.arange(self.rate * SECONDS) / self.rate

    def sampled(self, signal: np.ndarray) -> np.ndarray:
        """Resample a signal (T, 12) from `RATE` to the rate of the device, (rate * SECONDS, 12)."""
        return signal if self.rate == RATE else np.asarray(resample_poly(signal, self.rate, RATE, axis=0))

    def filtered(self, signal: np.ndarray) -> np.ndarray:
        """Filter a signal (rate * SECONDS, 12) forwards and backwards, so that the waves keep their place."""
        if self.band is None:
            return signal
        sections = butter(2, self.band, btype="bandpass", fs=self.rate, output="sos")
        return np.asarray(sosfiltfilt(sections, signal, axis=0))

    @property
    def gain_text(self) -> str:
        """The gain as a WFDB header states it, such as "200.0(0)/mV"."""
        return f"{self.gain / (1000 if self.unit == 'uV' else 1):.1f}(0)/{self.unit}"


@dataclass(frozen=True)
class EchoDevice:
    """An echocardiograph.

    The frame is `size` times as high and as wide as the command asks for, so that small cohorts stay possible.

    Attributes:
        maker: Manufacturer in the DICOM header.
        model: Model in the DICOM header.
        size: Factor of height and width of the frames, 1 or more.
        frames: Factor of the number of frames. The clip keeps its length in seconds, so this is the frame rate.
        depth: Depth of the sector in centimetres, `DEPTH_CM` or more, because the heart is cut otherwise.
        half_angle: Half of the opening of the sector in degrees.
        brightness: Range of the mean grey level inside the sector.
        contrast: Range of its standard deviation.
    """

    maker: str = "GE Vingmed Ultrasound"
    model: str = "Vivid E95"
    size: float = 1.0
    frames: float = 1.0
    depth: float = DEPTH_CM
    half_angle: float = 43.0
    brightness: tuple[float, float] = (52, 76)
    contrast: tuple[float, float] = (28, 40)

    def clip_size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return frames, height and width (even) of this device's clips for the numbers of the command."""
        return round(frames * self.frames), round(height * self.size), 2 * round(width * self.size / 2)


ECG_DEVICE = EcgDevice()
ECHO_DEVICE = EchoDevice()
