"""Fits the built-in codec's encoder and quantiser (no gradients), and turns sound into codes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.render import RATE_HZ
from workbench.model.codec import WorkbenchCodec, WorkbenchCodecConfig

CODES = 512
LOWEST_HZ = 30.0
CONFIG = {
    "sampling_rate": RATE_HZ,
    "hidden_size": 64,
    "codebook_dim": 64,
    "codebook_size": CODES,
    "num_filters": 16,
    "upsampling_ratios": [8, 5, 4, 4],
    "num_lstm_layers": 1,
    "target_bandwidths": [1.0],
    "pad_mode": "constant",
    "mel_bands": 40,
    "semitones": 60,
}


def fit_codec(build: Path, *, frames: int = 160_000, seed: int = 0) -> WorkbenchCodec:
    """Return the codec with encoder and codebooks fitted on the training split (decoder still untrained).

    The components of each half are scaled by one common factor, so that distances between embeddings stay
    distances between spectra. Codebooks are residual k-means (scikit-learn's mini-batch k-means), in turn on
    the texture and on the pitch half, zero in the other.

    Args:
        build: folder that holds (or will hold) the rendered corpus and ``codec/``.
        frames: codec frames drawn for the fit.
        seed: of the draw and of k-means.
    """
    folder = build / "codec"
    if (folder / "config.json").exists():
        return load_codec(folder)
    codec: WorkbenchCodec = WorkbenchCodec(WorkbenchCodecConfig(**CONFIG)).eval()
    encoder = codec.encoder
    _set_filters(codec)
    texture, pitch = _spectra(codec, corpus("train", build), frames, seed)
    halves = [
        _fit_half(texture, encoder.mean, encoder.projection, seed),
        _fit_half(pitch, encoder.pitch_mean, encoder.pitch_projection, seed),
    ]
    _fit_codebooks(codec, halves, seed)
    codec.save_pretrained(folder)
    return codec


def _set_filters(codec: WorkbenchCodec) -> None:
    """Set the mel bands, and triangular bands a semitone (at least a Fourier bin) to either side."""
    from librosa.filters import mel as mel_filters

    config, encoder = codec.config, codec.encoder
    mel = mel_filters(sr=RATE_HZ, n_fft=config.window, n_mels=config.mel_bands, fmin=LOWEST_HZ, norm=None)
    encoder.mel.copy_(torch.from_numpy(mel))
    hertz = np.fft.rfftfreq(config.pitch_window, 1 / RATE_HZ)
    centres = 440 * 2 ** ((config.lowest_pitch + np.arange(config.semitones) - 69) / 12)
    widths = np.maximum(centres * (2 ** (1 / 12) - 1), hertz[1])
    bands = np.clip(1 - np.abs(hertz - centres[:, None]) / widths[:, None], 0, None)
    encoder.semitone.copy_(torch.from_numpy(bands / bands.sum(axis=1, keepdims=True)))


def _fit_half(spectra: np.ndarray, mean: Tensor, projection: Tensor, seed: int) -> np.ndarray:
    """Set one half's mean and projection; return its embeddings (frames, components), float32."""
    from sklearn.decomposition import PCA

    pca = PCA(len(projection), random_state=seed).fit(spectra)
    scale = 1 / float(np.sqrt(pca.explained_variance_[0]))
    mean.copy_(torch.from_numpy(pca.mean_))
    projection.copy_(torch.from_numpy(pca.components_ * scale))
    print(f"principal components keep {pca.explained_variance_ratio_.sum():.3f} of the variance")  # noqa: T201
    return np.asarray(pca.transform(spectra) * scale, np.float32)


def load_codec(folder: Path) -> WorkbenchCodec:
    """Return a codec written by ``save_pretrained``."""
    codec: WorkbenchCodec = WorkbenchCodec.from_pretrained(folder)
    return codec.eval()


def _spectra(codec: WorkbenchCodec, pieces: Corpus, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return texture (frames, bands * stack) and pitch (frames, semitones) drawn evenly from all pieces."""
    rng = np.random.default_rng(seed)
    each = max(1, frames // len(pieces))
    textures, pitches = [], []
    for _, samples in tqdm(pieces, total=len(pieces), desc="spectra", mininterval=5):
        waveform = torch.from_numpy(samples)[None, None]
        with torch.no_grad():
            texture, pitch = codec.encoder.texture(waveform)[0], codec.encoder.pitch(waveform)[0]
        drawn = torch.from_numpy(rng.choice(len(texture), min(each, len(texture)), replace=False))
        textures.append(texture[drawn].numpy())
        pitches.append(pitch[drawn].numpy())
    return np.concatenate(textures), np.concatenate(pitches)


def _fit_codebooks(codec: WorkbenchCodec, halves: list[np.ndarray], seed: int) -> None:
    """Fit one k-means codebook after another, each on what the ones before left over of its half."""
    from sklearn.cluster import MiniBatchKMeans

    left, totals = list(halves), [float((half**2).sum()) for half in halves]
    firsts = [0, halves[0].shape[1]]
    for k, layer in enumerate(codec.quantizer.layers):
        half, size = k % 2, codec.config.codebook_size
        kmeans = MiniBatchKMeans(
            size, batch_size=8192, max_iter=12, n_init=1, init_size=3 * size, random_state=seed
        )
        centres = kmeans.fit(left[half]).cluster_centers_.astype(np.float32)
        layer.codebook.embed.zero_()
        layer.codebook.embed[:, firsts[half] : firsts[half] + centres.shape[1]] = torch.from_numpy(centres)
        left[half] = left[half] - centres[kmeans.predict(left[half])]
        print(f"codebook {k + 1}: left over {float((left[half] ** 2).sum()) / totals[half]:.4f}")  # noqa: T201


@torch.no_grad()
def encode_corpus(codec: WorkbenchCodec, name: str, build: Path) -> list[np.ndarray]:
    """Return the codes (n_codebooks, frames) int16 of every piece of a split, computed once."""
    path = build / "codes" / f"{name}.npz"
    if not path.exists():
        codes = [
            codec.encode(torch.from_numpy(samples)[None, None]).audio_codes[0, 0].numpy().astype(np.int16)
            for _, samples in tqdm(corpus(name, build), desc=f"encode {name}", mininterval=5)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, codes=np.concatenate(codes, axis=1), ends=np.cumsum([c.shape[1] for c in codes]))
    content = np.load(path)
    return np.split(content["codes"], content["ends"][:-1], axis=1)
