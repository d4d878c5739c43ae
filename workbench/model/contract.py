"""What the workbench relies on, measured on the model at hand instead of assumed.

A few steps are sampled and the same codes are fed back: the residual stream is a bare tensor of the expected
shape, every step is visited exactly once, BOS and the delay pattern are applied as the model applies them,
and teacher forcing gives the residuals of generation. One more visit of the decoder, at BOS, shows that text,
melody, guidance and an edit at each site change the logits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workbench.errors import AudioError, ModelError
from workbench.model.codec import decode_codes, encode_clip
from workbench.model.conditioning import Melody, TextStates
from workbench.model.musicgen import Model
from workbench.model.network import SITES, Place, in_order, live
from workbench.model.sampling import apply_delay, guide
from workbench.sound.clip import Clip

FRAMES = 2
TEXT, OTHER_TEXT = "music", "a slow piece of calm piano music for the night, then drums and a fast guitar"
PREFIX = 16  # positions of a melody model's prefix that the check of conditioning keeps: text and some chroma
CODEC_FRAMES = 25
# How far the codec's sound may be from the CPU's, by level, and how many first codes must be equal. Rounding
# alone (TF32 has 10 bits) moves sound by 1e-3, and a code where two lie equally near.
SAME_SOUND, SAME_CODES = 1e-2, 0.9
# Sums in another order (float), and what then falls on the other side of a rounding of the activations.
TOLERANCE = {"float64": 1e-8, "float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2, "int8": 5e-3, "int4": 5e-2}


def check_contract(model: Model) -> float:
    """Return the largest relative difference of teacher forcing from generation; ModelError on any breach."""
    _check_codes(model)
    run = model.sampling([TEXT], seeds=[0], frames=FRAMES, guidance=1.0)
    network, last, prefix = model.network, model.n_layers - 1, run.text.prefix
    seen: list[Any] = []
    with model.exclusive(), network.sample(run) as tracer:
        for _step in tracer.iter[: run.steps]:
            seen += [live(network, (last, "resid_post"))]
    shape, begin = (1, 1, model.d_model), (1, 1 + prefix, model.d_model)
    kinds = [tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__ for one in seen]
    if kinds != [begin, *[shape] * (run.steps - 1)]:
        found = ", ".join(sorted(set(map(str, kinds))))
        _broken(model, f"block {last} to return a tensor of shape {shape} at each step", f"it gave {found}")
    drawn = torch.cat([value[0, -1:] for value in seen]).float()
    ids = apply_delay(run.codes, model.bos, model.delays)[..., : run.steps]
    with model.exclusive(), network.read(ids, run.text):
        seen += [live(network, (last, "resid_post"))]
    forced = seen[-1][0, prefix:].float()
    difference = float((forced - drawn).norm(dim=-1).div(drawn.norm(dim=-1)).max())
    if not difference <= TOLERANCE[model.precision]:
        found = f"the residuals differ by {difference:.2g} of their norm"
        _broken(model, "teacher forcing to repeat generation", found)
    _check_conditioning(model)
    return difference


def _check_codes(model: Model) -> None:
    """Compare our delay pattern and the heads' width with the model's own."""
    decoder, frames = model.musicgen.decoder, 2 * model.n_codebooks
    codes = torch.arange(frames, device=model.device).repeat(1, model.n_codebooks, 1)
    own = apply_delay(codes, model.bos, model.delays)[0]
    with_bos = torch.nn.functional.pad(codes[0], (1, 0), value=model.bos)
    _ids, mask = decoder.build_delay_pattern_mask(with_bos, pad_token_id=model.bos, max_length=own.shape[-1])
    if not torch.equal(own, mask):
        _broken(model, "the delay pattern 0, 1, 2, ... with BOS in front", "the model builds another one")
    codebook = int(model.musicgen.audio_encoder.config.codebook_size)
    if decoder.lm_heads[0].out_features != codebook:
        _broken(model, f"{codebook} codes per codebook", f"the heads give {decoder.lm_heads[0].out_features}")


def _check_conditioning(model: Model) -> None:
    """Check that text, melody, guidance and edits reach the logits.

    Its rows are TEXT twice (what differs between these two is rounding), OTHER_TEXT, the null condition, then
    TEXT with an edit at each site, and with a melody where the model takes one.
    """
    places = in_order((0 if site == "embed" else model.n_layers - 1, site) for site in SITES)
    logits = _logits_under(model, _rows_of_text(model, len(places)), places)
    plain, again, other, null, *edited = logits[: 4 + len(places)]
    least = 10 * (plain - again).abs().max() + torch.finfo(model.dtype).eps * plain.abs().max()

    def needs(asked: str, before: torch.Tensor, after: torch.Tensor) -> None:
        if not (after - before).abs().max() > least:
            _broken(model, f"{asked} to change the logits", "it changes nothing")

    needs("another text", plain, other)
    for (layer, site), row in zip(places, edited, strict=True):
        needs(f"an edit at {site!r} of block {layer}", plain, row)
    guided = [guide(torch.stack([plain, null]), scale)[0] for scale in (1.0, 3.0)]
    needs("another guidance", *guided)
    if model.takes_melody:
        needs("another melody", plain, logits[-1])


def _rows_of_text(model: Model, edits: int) -> TextStates:
    """Return these rows' text states; the other text is cut to TEXT's length, which has an effect itself."""
    tunes = [None, None, Melody((7,))] if model.takes_melody else None
    text = model.text([TEXT, OTHER_TEXT, TEXT], tunes)
    pairs, words = text.with_null(), text.words().mask[0, :, None] > 0
    states, mask = pairs.states.clone(), pairs.mask.clone()
    states[1], mask[1] = torch.where(words, states[1], states[0]), mask[0]
    rows = torch.tensor([0, 0, 1, 3, *[0] * edits, *([2] if tunes else [])], device=mask.device)
    kept = slice(-PREFIX, None) if text.prefix else slice(None)
    return replace(pairs, states=states[rows, kept], mask=mask[rows, kept])


def _logits_under(model: Model, text: TextStates, places: list[Place]) -> torch.Tensor:
    """Return logits (rows, k * V) after BOS under each row of `text`; from row 4 on edited at `places`."""
    ids = torch.full((len(text.mask), model.n_codebooks, 1), model.bos, device=model.device)
    push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)).to(model.device)
    network, size = model.network, torch.ones((), device=model.device)
    with model.exclusive(), network.score(ids, text) as tracer:
        for row, place in enumerate(places, start=4):
            values = live(network, place)[row, -1]
            level = values.float().square().mean().sqrt()  # of the stream
            size = torch.maximum(size.to(values.device), level)
            values += size * push.to(values)
        found = tracer.result.save()
    return found.flatten(1)


def settle_codec(musicgen: Any, device: torch.device) -> str:
    """Move the codec to `device` if it gives the same there; return a note where it stays on the CPU.

    EnCodec is reported to give garbage on Apple's MPS.
    """
    codec = musicgen.audio_encoder
    codec.to(device=torch.device("cpu"))
    if device.type == "cpu":
        return ""
    shape, generator = (musicgen.decoder.config.num_codebooks, CODEC_FRAMES), torch.Generator().manual_seed(0)
    codes = torch.randint(int(codec.config.codebook_size), shape, generator=generator)
    sound = decode_codes(musicgen, [codes])[0]
    if problem := _codec_problem(musicgen, device, codes, sound):
        codec.to(device=torch.device("cpu"))
        return f"; the codec runs on the CPU, for on {device.type} {problem}"
    return ""


def _codec_problem(musicgen: Any, device: torch.device, codes: torch.Tensor, sound: Clip) -> str:
    """Move the codec to `device`; return how it differs from the CPU, where `codes` gave `sound`, else ""."""
    known = encode_clip(musicgen, sound)
    try:
        musicgen.audio_encoder.to(device=device)
        there, again = decode_codes(musicgen, [codes])[0], encode_clip(musicgen, sound).cpu()
    except (RuntimeError, TypeError, AudioError) as error:  # not there at all, or no numbers
        return f"it fails ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    apart, level = np.linalg.norm(there.heard - sound.heard), np.linalg.norm(sound.heard)
    if not apart <= SAME_SOUND * level + 1e-6:
        return f"its sound differs by {apart / level:.2g} of the level"
    equal = float((again[0] == known[0]).float().mean())
    return "" if equal >= SAME_CODES else f"{1 - equal:.0%} of its codes differ"


def _broken(model: Model, asked: str, found: str) -> None:
    do = "Use transformers >=5.18,<5.24 and a whole MusicGen checkpoint"
    raise ModelError(f"The workbench needs {asked}", f"in {model.id} {found}", do)
