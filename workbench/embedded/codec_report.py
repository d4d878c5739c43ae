"""Measures the built-in codec against its bars, on pieces that neither codec nor decoder was fitted on.

| what | bar |
|---|---|
| judge's accuracy on decoded sound over its accuracy on the originals | at least 0.97 |
| distance of decoded sound from the original, over that of Griffin-Lim from the same codes | at most 0.75 |
| streamed sound against the whole: largest difference at a border, over the RMS | at most 0.01 (-40 dB) |
| decoding, as the product does it, times real time | at least 60 on two threads |

The distance is that of Parallel WaveGAN (Yamamoto et al. 2020, arXiv:1910.11480): spectral convergence
||A - B|| / ||B|| plus the mean absolute difference of natural-log magnitudes (power floored at 1e-7), mean
over Hann windows of 512, 1024 and 2048 samples with hops of a quarter. Griffin-Lim (32 iterations) starts
from what the codes say of the spectrum (`spectrum_estimate`), so both guess phases from the same knowledge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.embedded.corpus import corpus
from workbench.embedded.dataset import TRAINED_GROOVES
from workbench.embedded.fit_codec import encode_corpus, load_codec
from workbench.evidence.judge import Judge
from workbench.evidence.sweep import wilson
from workbench.model.codec import WorkbenchCodec
from workbench.model.piecewise import PieceDecoder
from workbench.sound import Clip

SECONDS, PIECE_SECONDS = 5.0, 0.5
SIZES = (512, 1024, 2048)
ITERATIONS = 32
BORDER_SAMPLES = 8
BARS = {"judge_accuracy": 0.97, "stft_distance": 0.75, "border_difference": 0.01, "speed": 60.0}


@dataclass(frozen=True)
class Heard:
    """One section as it was rendered and as its codes (k, frames) come back."""

    genre: str
    trained_groove: bool
    codes: torch.Tensor
    original: Clip
    decoded: Clip


def codec_report(build: Path, *, judge: Judge, clips: int = 120) -> dict[str, object]:
    """Return the codec's figures, each with its bar, whether it is reached, and what it was measured on.

    Args:
        build: working folder with the rendered split ``listen``, its codes and ``vocoder/``.
        judge: of genre; it knows neither the codec nor the split.
        clips: sections of 5 s, half of them from grooves that the decoder was not trained on.
    """
    codec = load_codec(build / "vocoder")
    heard, speed = hear(codec, build, clips)
    return {
        "judge_accuracy": _judged(heard, judge),
        "stft_distance": _distances(codec, heard),
        "streaming": _streamed(codec, heard),
        "decoding": speed,
        "measured_on": f"{len(heard)} sections of {SECONDS:g} s of the split listen, no piece trained on",
    }


def write_codec_report(build: Path, data: Path, *, judge: Judge, clips: int = 120) -> Path:
    """Write `codec_report` to ``data/codec.json`` and return its path."""
    path = data / "codec.json"
    data.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(codec_report(build, judge=judge, clips=clips), indent=2) + "\n")
    return path


def hear(codec: WorkbenchCodec, build: Path, clips: int) -> tuple[list[Heard], dict[str, object]]:
    """Return sections spread over genres and grooves, and how fast decoding them was."""
    pieces, codes = corpus("listen", build), encode_corpus(codec, "listen", build)
    rate_hz, hop = int(codec.config.sampling_rate), int(codec.config.hop_length)
    frames = min(round(SECONDS * codec.config.frame_rate), *(c.shape[1] for c in codes))
    spent, heard = [], []
    for i in _chosen([f.groove in TRAINED_GROOVES for f in pieces.factors], clips):
        tokens = torch.from_numpy(codes[i][:, :frames].astype(np.int64))
        original = Clip(pieces.piece(i)[: frames * hop], rate_hz)
        begin, worked = time.perf_counter(), time.process_time()
        decoded = decode(codec, tokens)
        spent.append((time.perf_counter() - begin, time.process_time() - worked))
        factors = pieces.factors[i]
        heard.append(Heard(factors.genre, factors.groove in TRAINED_GROOVES, tokens, original, decoded))
    return heard, _speed(frames * hop / rate_hz, np.array(spent))


def _speed(seconds: float, spent: np.ndarray) -> dict[str, object]:
    """Return the median speed; the one per second of processor time does not suffer from other programs.

    Args:
        seconds: length of each section.
        spent: (sections, 2) seconds of clock and of processor time, summed over threads.
    """
    clock, processor = (seconds / np.maximum(np.median(spent, axis=0), 1e-9)).tolist()
    return {
        "times_real_time": round(clock, 1),
        "per_processor_second": round(processor, 1),
        "threads": torch.get_num_threads(),
        "n": len(spent),
        "bar": BARS["speed"],
        "ok": clock >= BARS["speed"],
    }


def _chosen(trained: Sequence[bool], clips: int) -> list[int]:
    """Return evenly spaced indices, half of untrained and half of trained grooves, as far as there are."""
    sides = [[i for i, known in enumerate(trained) if known == side] for side in (False, True)]
    picks = [
        side[k] for side in sides if side for k in np.linspace(0, len(side) - 1, -(-clips // 2)).astype(int)
    ]
    return sorted(set(picks))


@torch.no_grad()
def decode(codec: WorkbenchCodec, codes: torch.Tensor) -> Clip:
    """Return the sound of codes (k, frames); one at a time, as `Model.decode_batch` does it on a CPU."""
    sound = codec.decode(codes[None, None], [None]).audio_values[0, 0]
    return Clip(sound.float().cpu().numpy(), int(codec.config.sampling_rate))


@torch.no_grad()
def griffin_lim(codec: WorkbenchCodec, codes: torch.Tensor) -> Clip:
    """Return the sound that Griffin-Lim makes of codes (k, frames)."""
    import librosa

    embeddings = codec.quantizer.decode(codes[:, None])
    spectrum = codec.encoder.spectrum_estimate(embeddings)[0].numpy()
    samples = codes.shape[1] * int(codec.config.hop_length)
    size, hop = 2 * (len(spectrum) - 1), samples // spectrum.shape[1]
    guess = librosa.griffinlim(
        spectrum, n_iter=ITERATIONS, hop_length=hop, n_fft=size, center=False, random_state=0
    )
    margin = (size - hop) // 2  # the encoder centres its windows on hops: the first begins before the sound
    return Clip(guess[margin : margin + samples], int(codec.config.sampling_rate))


def stft_distance(made: Clip, wanted: Clip) -> float:
    """Return spectral convergence plus log-magnitude distance of two clips, mean over three windows."""
    a, b = (torch.tensor(clip.samples) for clip in (made, wanted))
    distances = []
    for size in SIZES:
        x, y = (_magnitudes(samples, size) for samples in (a, b))
        distances.append(float((x - y).norm() / y.norm() + (x.log() - y.log()).abs().mean()))
    return float(np.mean(distances))


def _magnitudes(samples: torch.Tensor, size: int) -> torch.Tensor:
    window = torch.hann_window(size)
    spectrum = torch.stft(samples, size, size // 4, window=window, return_complex=True)
    return spectrum.abs().square().clamp(min=1e-7).sqrt()


def _judged(heard: Sequence[Heard], judge: Judge) -> dict[str, object]:
    """Return accuracies with Wilson intervals; the ratio's is that of the decoded sound's accuracy."""
    truth = np.array([one.genre for one in heard])
    right = {
        "originals": np.array(judge.decide([one.original for one in heard])) == truth,
        "decoded": np.array(judge.decide([one.decoded for one in heard])) == truth,
    }
    new = np.array([not one.trained_groove for one in heard])
    shares = {name: _share(hits) for name, hits in right.items()}
    unheard = {f"{name}_new_grooves": _share(hits[new]) for name, hits in right.items() if new.any()}
    base = max(float(right["originals"].mean()), 1e-9)
    ratio = {key: round(shares["decoded"][key] / base, 4) for key in ("value", "low", "high")}
    bar = BARS["judge_accuracy"]
    return {**ratio, "n": len(heard), "bar": bar, "ok": ratio["value"] >= bar, **shares, **unheard}


def _share(hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {
        "value": round(float(hits.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "n": len(hits),
    }


def _distances(codec: WorkbenchCodec, heard: Sequence[Heard]) -> dict[str, object]:
    """Return the decoder's mean distance over Griffin-Lim's; interval by bootstrap over clips (seed 0)."""
    ours = np.array([stft_distance(one.decoded, one.original) for one in heard])
    theirs = np.array([stft_distance(griffin_lim(codec, one.codes), one.original) for one in heard])
    drawn = np.random.default_rng(0).integers(len(heard), size=(2000, len(heard)))
    low, high = np.quantile(ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1), [0.025, 0.975])
    value, bar = float(ours.mean() / theirs.mean()), BARS["stft_distance"]
    figures = {"value": value, "low": float(low), "high": float(high)}
    means = {"decoder": float(ours.mean()), "griffin_lim": float(theirs.mean())}
    rounded = {key: round(figure, 4) for key, figure in (figures | means).items()}
    return {**rounded, "n": len(heard), "bar": bar, "ok": value <= bar}


def _streamed(codec: WorkbenchCodec, heard: Sequence[Heard]) -> dict[str, object]:
    """Return how streamed sound differs from the whole at the borders of pieces, the worst over all clips.

    Notes begin on frames, and so on borders: the sound bends more there than elsewhere even when decoded as a
    whole. What tells a click is how much more the streamed sound bends at its borders than the whole does.
    """
    differences, streamed_bends, whole_bends, elsewhere = [], [], [], []
    for one in heard:
        streamed, borders = in_pieces(codec, one.codes)
        whole = one.decoded.samples
        near = (borders[:, None] + np.arange(-BORDER_SAMPLES, BORDER_SAMPLES)).ravel()
        level = max(float(np.sqrt(np.mean(whole**2))), 1e-4)
        differences.append(float(np.abs(streamed[near] - whole[near]).max()) / level)
        bends = [np.abs(np.diff(x, 2)) / level for x in (streamed, whole)]
        at = (borders[:, None] + np.arange(-2, 0)).ravel()  # the second differences that reach over a border
        streamed_bends.append(float(bends[0][at].mean()))
        whole_bends.append(float(bends[1][at].mean()))
        elsewhere.append(float(bends[0].mean()))
    rest = max(float(np.mean(elsewhere)), 1e-9)
    worst, bar = max(differences), BARS["border_difference"]
    return {
        "border_difference_over_rms": float(f"{worst:.3g}"),
        "bend_at_borders_over_elsewhere": round(float(np.mean(streamed_bends)) / rest, 4),
        "the_same_in_the_whole": round(float(np.mean(whole_bends)) / rest, 4),
        "n": len(heard),
        "bar": bar,
        "ok": worst <= bar,
    }


def in_pieces(codec: WorkbenchCodec, codes: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the sound of codes (k, frames) decoded in pieces as `stream` does it, and its inner borders."""
    hop = int(codec.config.hop_length)
    piece, frames = round(PIECE_SECONDS * codec.config.frame_rate), codes.shape[1]
    ends, decoder = [min(first + piece, frames) for first in range(0, frames, piece)], PieceDecoder(codec)
    # Nothing is known of the codes beyond what a piece may look ahead, as while they are made.
    pieces = [decoder.decode(codes[:, : min(end + decoder.ahead, frames)], end) for end in ends]
    return np.concatenate([clip.samples for clip in pieces]), np.array(ends[:-1], dtype=int) * hop
