"""Features that a probe must beat: the codec's codes, statistics of the sound, the text, random weights.

Each function returns one row per clip, in the dataset's order, for `baselines(case, {"codes": ...})`. What
simple features tell, the model need not have understood; what random weights tell, it need not have learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.sound import Clip, Dataset

Array = np.ndarray
RATE_HZ = 22_050
_BANDS, _CEPSTRA = 64, 20


def codec_histogram(model: Model, dataset: Dataset, *, seconds: float | None = None) -> Array:
    """Return how often each code comes in each codebook, (n, codebooks x size): roots of shares.

    Roots make the distance between two clips that of their distributions (Hellinger), so that the few most
    frequent codes do not decide alone.

    model    whose codec encodes the clips; codes that are stored or cached are not encoded again
    seconds  how much of each clip's beginning is counted; all when None
    """
    from workbench.model.codes import codes_for, speaks_our_codes

    stored = speaks_our_codes(model, dataset)
    rows = []
    for entry in dataset:
        codes = codes_for(model, dataset, entry, seconds=seconds, stored=stored)
        counts = [np.bincount(book, minlength=model.codebook_size) for book in codes]
        rows.append(np.sqrt(np.concatenate(counts) / codes.shape[1]))
    return np.array(rows)


def sound_statistics(dataset: Dataset, *, seconds: float | None = None) -> Array:
    """Return mean and deviation over time of log-mel bands, MFCC and chroma, (n, 192)."""
    clips = (dataset.clip(number) for number in range(len(dataset)))
    return np.array(
        [clip_statistics(clip if seconds is None else clip.section(0, seconds)) for clip in clips]
    )


def clip_statistics(clip: Clip) -> Array:
    """Return the statistics (192,) of one clip: 64 log-mel bands in dB, 20 MFCC, 12 pitch classes."""
    import librosa

    samples = clip.resample(RATE_HZ).samples
    power = np.abs(librosa.stft(samples, n_fft=min(2048, len(samples)))) ** 2
    size = 2 * (power.shape[0] - 1)
    mel = librosa.feature.melspectrogram(S=power, sr=RATE_HZ, n_fft=size, n_mels=_BANDS)
    decibels = librosa.power_to_db(mel, top_db=None)
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=_CEPSTRA)
    chroma = librosa.feature.chroma_stft(S=power, sr=RATE_HZ, n_fft=size, tuning=0.0)
    return np.concatenate([part for one in (decibels, cepstra, chroma) for part in (one.mean(1), one.std(1))])


def text_embedding(model: Model, texts: Sequence[str]) -> Array:
    """Return the mean of the text states that the decoder is told, (n, d_model); zeros for an empty text.

    texts  what was said of each clip, such as `acts.coordinate("text")`
    """
    said = sorted({text for text in texts if text})
    held = {"": np.zeros(model.d_model)}
    for text in said:
        found = model.text([text]).words()
        count = max(int(found.mask.sum()), 1)
        held[text] = found.states[0].float().sum(0).cpu().numpy() / count
    return np.stack([held[text] for text in texts])


def random_weights(
    model: Model, dataset: Dataset, *, layer: int, site: str = "resid_post", seed: int = 0, **settings: Any
) -> Array:
    """Return what the same network gives before it has learnt anything, (n, d_model).

    layer, site  as of the probe that it is a baseline for
    seed         of the weights
    settings     those of `capture`: text, seconds, pool, batch ... as in the probe's own capture
    """
    from workbench.model.capture import capture

    acts = capture(untrained(model, seed=seed), dataset, sites=(site,), layers=[layer], **settings)
    return acts.matrix(layer, site=site)


def untrained(model: Model, *, seed: int = 0) -> Model:
    """Return the model with a decoder of random weights; codec and text encoder stay as they are.

    The clips keep their codes, so that the only thing that is missing is what the decoder learnt.
    """
    import torch

    from workbench.model.musicgen import Model

    trained = model.musicgen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(trained)(trained.config)
    for name, part in trained.named_children():
        if name != "decoder":
            getattr(fresh, name).load_state_dict(part.state_dict())
            getattr(fresh, name).to(device=model.device, dtype=next(part.parameters()).dtype)
    fresh.decoder.to(device=model.device, dtype=model.dtype)
    fresh.generation_config = trained.generation_config
    told = hashlib.sha256(f"{model.fingerprint} untrained {seed}".encode()).hexdigest()
    return Model(
        fresh.eval().requires_grad_(False),
        model.tokenizer,
        id=f"{model.id}, untrained, seed {seed}",
        fingerprint=told,
        notes="random decoder weights",
    )
