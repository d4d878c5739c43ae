"""A judge of one's own: bright or dark, by the centre of gravity of the spectrum."""

import numpy as np

from workbench.evidence.judge import register_judge


class Brightness:
    """Hears "bright" above about 800 Hz and "dark" below."""

    target = "brightness"
    classes = ("bright", "dark")
    rate_hz = 16_000

    def probabilities(self, clips):
        """Return the probability of each class for each clip (clips, classes)."""
        bright = np.array([1 / (1 + (800 / self.centroid_hz(clip)) ** 4) for clip in clips])
        return np.stack([bright, 1 - bright], axis=1)

    def centroid_hz(self, clip):
        """Return the mean frequency of the power spectrum."""
        power = np.abs(np.fft.rfft(clip.resample(self.rate_hz).samples)) ** 2 + 1e-12
        return np.average(np.fft.rfftfreq(2 * len(power) - 1, 1 / self.rate_hz), weights=power)


register_judge("brightness", Brightness)
