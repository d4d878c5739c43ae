"""Fits the built-in codec's encoder and quantiser (no gradients), and turns sound into codes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.render import RATE_HZ
from workbench.model.codec import WorkbenchCodec, WorkbenchCodecConfig

CONFIG = {
    "sampling_rate": RATE_HZ,
    "hidden_size": 64,
    "codebook_dim": 64,
    "codebook_size": 1024,
    "num_filters": 16,
    "upsampling_ratios": [8, 5, 4, 4],
    "num_lstm_layers": 1,
    "target_bandwidths": [1.0],
    "pad_mode": "constant",
}


def fit_codec(build: Path, *, frames: int = 160_000, seed: int = 0) -> WorkbenchCodec:
    """Return the codec with encoder and codebooks fitted on the training split (decoder still untrained).

    Principal components are scaled by one common factor, so that distances between embeddings stay distances
    between log-mel frames. Codebooks are residual k-means (scikit-learn's mini-batch k-means).

    Args:
        build: folder that holds (or will hold) the rendered corpus and ``codec/``.
        frames: codec frames drawn for the fit.
        seed: of the draw and of k-means.
    """
    folder = build / "codec"
    if (folder / "config.json").exists():
        return load_codec(folder)
    from librosa.filters import mel as mel_filters
    from sklearn.decomposition import PCA

    config = WorkbenchCodecConfig(**CONFIG)
    codec: WorkbenchCodec = WorkbenchCodec(config).eval()
    encoder = codec.encoder
    encoder.mel.copy_(
        torch.from_numpy(
            mel_filters(sr=RATE_HZ, n_fft=config.window, n_mels=config.mel_bands, fmin=30, norm=None)
        )
    )
    stacked = _log_mel_frames(codec, corpus("train", build), frames, seed)
    pca = PCA(config.hidden_size, random_state=seed).fit(stacked)
    scale = 1 / float(np.sqrt(pca.explained_variance_[0]))
    encoder.mean.copy_(torch.from_numpy(pca.mean_))
    encoder.projection.copy_(torch.from_numpy(pca.components_ * scale))
    print(f"principal components keep {pca.explained_variance_ratio_.sum():.3f} of the variance")  # noqa: T201
    _fit_codebooks(codec, (pca.transform(stacked) * scale).astype(np.float32), seed)
    codec.save_pretrained(folder)
    return codec


def load_codec(folder: Path) -> WorkbenchCodec:
    """Return a codec written by ``save_pretrained``."""
    codec: WorkbenchCodec = WorkbenchCodec.from_pretrained(folder)
    return codec.eval()


def _log_mel_frames(codec: WorkbenchCodec, pieces: Corpus, frames: int, seed: int) -> np.ndarray:
    """Return stacked log-mel frames (frames, bands * stack) drawn evenly from all pieces."""
    rng = np.random.default_rng(seed)
    each = max(1, frames // len(pieces))
    drawn = []
    for _, samples in tqdm(pieces, total=len(pieces), desc="log-mel", mininterval=5):
        with torch.no_grad():
            all_frames = codec.encoder.log_mel(torch.from_numpy(samples)[None, None])[0].numpy()
        drawn.append(all_frames[rng.choice(len(all_frames), min(each, len(all_frames)), replace=False)])
    return np.concatenate(drawn)


def _fit_codebooks(codec: WorkbenchCodec, embeddings: np.ndarray, seed: int) -> None:
    """Fit one k-means codebook after another, each on what the ones before left over."""
    from sklearn.cluster import MiniBatchKMeans

    residual = embeddings
    total = float((residual**2).sum())
    for layer in codec.quantizer.layers:
        size = codec.config.codebook_size
        kmeans = MiniBatchKMeans(
            size, batch_size=8192, max_iter=12, n_init=1, init_size=3 * size, random_state=seed
        )
        centres = kmeans.fit(residual).cluster_centers_.astype(np.float32)
        layer.codebook.embed.copy_(torch.from_numpy(centres))
        residual = residual - centres[kmeans.predict(residual)]
        print(f"codebook fitted, left over: {float((residual**2).sum()) / total:.4f}")  # noqa: T201


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
