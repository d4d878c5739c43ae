"""Stereo checkpoints, with and without melody: eight codebooks, delays in pairs, and two sides to hear."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import pytest
import soundfile
import torch
from evidence_samples import seen_while_drawing
from live_fixture import WINDOWS, knobs, session, until
from plain_hooks import drawn
from steering_fixture import direction, untraced
from tolerances import NETWORK, SUMMED
from tones import tone_clip

from workbench.cli.main import main
from workbench.errors import GenerationError
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.features import features
from workbench.generation.generate import generate, generate_long, stream
from workbench.generation.live.pacing import Playback
from workbench.generation.live.recording import Recording, replay
from workbench.generation.take import Take
from workbench.model.capture import capture
from workbench.model.conditioning import Melody
from workbench.model.generated import capture_continued, read_while_sampling
from workbench.model.load import load
from workbench.model.network import SITES
from workbench.model.teacher_forcing import Reading, read_codes
from workbench.show.plots.sound import log_mel
from workbench.show.widgets.live_desk import LiveDesk
from workbench.show.widgets.players import LivePlayer
from workbench.sound.clip import Clip
from workbench.sound.read import read_clip

PROMPT, RATE, GIVEN, FRAMES, DELAY = "a calm tune", 25, 9, 20, 3
STEREO = {"num_codebooks": 8, "audio_channels": 2}
OPENING = np.random.default_rng(5).integers(0, 64, (8, GIVEN))
FRAME_BY_FRAME = Reading(SITES, (0, 1, 2, 3), None)
MELODY = Melody((0, 4, 7, 0, 9))


@pytest.fixture(scope="module", params=["plain", "melody"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = (
        fixture_model.build(decoder=fixture_model.decoder_config(**STEREO))
        if request.param == "plain"
        else fixture_model.build_melody(**STEREO)
    )
    return fixture_model.save(built, tmp_path_factory.mktemp("models") / f"stereo-{request.param}")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def told(model: Any) -> dict[str, Any]:
    """A melody where one is taken."""
    return {"melody": MELODY} if model.takes_melody else {}


def test_a_stereo_model_says_so(model: Any, tiny_model: Any) -> None:
    assert "left and right are drawn apart and heard apart" in model.describe()
    assert "left" not in tiny_model.describe()
    assert model.delays == (0, 0, 1, 1, 2, 2, 3, 3)


@pytest.mark.parametrize("given", [False, True], ids=["generated", "continued"])
def test_codes_and_activations_equal_transformers_own(
    model: Any, folder: Path, told: dict[str, Any], given: bool
) -> None:
    start = torch.as_tensor(OPENING) if given else None
    chroma = torch.nn.functional.one_hot(torch.tensor([MELODY.pitches]), 12).float() if told else None
    codes, held = drawn(
        untraced(folder), model, PROMPT, seed=3, frames=GIVEN + FRAMES, given=start, features=chroma
    )
    melodies = [told.get("melody")]
    settings = {"frames": GIVEN + FRAMES, "top_k": 50, "melodies": melodies}
    run = model.sampling([PROMPT], seeds=[3], prompt_codes=None if start is None else start[None], **settings)
    ours = read_while_sampling(model, run, FRAME_BY_FRAME, rows="both")
    assert torch.equal(run.codes[0], codes)
    again = read_codes(model, [codes.numpy()], model.text([PROMPT], melodies), FRAME_BY_FRAME)
    for site in SITES:
        plain = held[site][:, :, 1 : GIVEN + FRAMES + 1].numpy()
        assert np.allclose(ours[site], plain, **SUMMED), site
        assert np.allclose(again[site], plain[:1], **NETWORK), site
    sound = generate(
        model, PROMPT, seed=3, audio=OPENING if given else None, progress=False, **told,
        seconds=(FRAMES if given else GIVEN + FRAMES) / RATE,
    )  # fmt: skip
    assert np.array_equal(sound.codes, codes)


@pytest.fixture(scope="module")
def take(model: Any, told: dict[str, Any]) -> Take:
    return generate(model, PROMPT, seed=3, seconds=0.8, progress=False, **told)


def test_each_side_is_what_the_codec_makes_of_its_codes(model: Any, told: dict[str, Any], take: Take) -> None:
    codec, codes = model.musicgen.audio_encoder, torch.tensor(take.codes.astype(int))
    with torch.no_grad():
        sides = torch.stack(
            [codec.decode(codes[None, None, side::2], [None]).audio_values for side in (0, 1)]
        )
    assert take.clip.sides is not None
    assert np.array_equal(take.clip.sides, sides[:, 0, 0])
    assert np.array_equal(take.clip.samples, sides.mean(0)[0, 0]), "what is judged is the mean, to the bit"
    apart = float((sides[0] - sides[1]).norm())
    assert apart > 0, "random codecs hardly tell codes apart, but they do"
    pieces = list(stream(model, PROMPT, seed=3, seconds=0.8, piece_seconds=0.2, **told))
    streamed = np.concatenate([piece.heard for piece in pieces], axis=1)
    assert len(pieces) == 4
    assert streamed.shape == take.clip.heard.shape
    assert np.linalg.norm(streamed - take.clip.heard) < 0.05 * apart


def test_a_take_is_saved_loaded_and_written_in_stereo(take: Take, tmp_path: Path) -> None:
    back = Take.load(take.save(tmp_path / "take"))
    assert back == take
    assert np.array_equal(back.clip.heard, take.clip.heard)
    assert soundfile.info(tmp_path / "take" / "take.wav").channels == 2
    written, _rate = soundfile.read(take.clip.write(tmp_path / "a.wav"), dtype="float32")
    assert np.abs(written.T - take.clip.heard).max() <= 0.5 / 32768
    assert np.array_equal(read_clip(tmp_path / "a.wav", stereo=True).heard, written.T)
    swapped, rate_hz = soundfile.read(tmp_path / "take" / "take.wav", dtype="float32")
    soundfile.write(tmp_path / "take" / "take.wav", swapped[:, ::-1], rate_hz, subtype="FLOAT")
    with pytest.raises(GenerationError, match="damaged"):
        Take.load(tmp_path / "take")


def test_a_take_whose_sides_were_averaged_still_loads(take: Take, tmp_path: Path) -> None:
    mean = replace(take, clip=Clip(take.clip.samples, take.clip.rate_hz))
    before = mean.save(tmp_path / "before")
    assert soundfile.info(before / "take.wav").channels == 1, "as older versions wrote it"
    assert Take.load(before) == mean != take


def test_what_analyses_a_take_gets_the_mean_of_its_sides(model: Any, take: Take) -> None:
    clip = take.clip
    mono = Clip(clip.samples, clip.rate_hz)
    assert torch.equal(model.encode(clip), model.encode(mono))
    assert np.array_equal(log_mel(clip), log_mel(mono))
    # 24 kHz of the features are sums of some 100 products; the mean may be taken before or after them
    assert np.allclose(features(clip), features(mono), **NETWORK)
    own, theirs = damage(clip), damage(mono)
    assert all(own[name] == theirs[name] for name in ("silence", "flatness", "repetition"))
    full = np.stack([np.ones(8000), np.zeros(8000)])
    assert damage(Clip(full, 8000))["clipping"] == 0.5, "one side clips, though the mean does not"


def test_a_long_take_slides_on_in_stereo(model: Any, told: dict[str, Any]) -> None:
    lengths = {"window_seconds": 16 / RATE, "overlap_seconds": 8 / RATE}
    settings: dict[str, Any] = {"seed": 3, "progress": False, **told}
    plan = direction(model, 1).at(0.8)
    take = generate_long(
        model, PROMPT, seconds=32 / RATE, audio=OPENING, steering=plan, **lengths, **settings
    )
    assert take.codes.shape == (8, GIVEN + 32)
    assert np.array_equal(take.codes[:, :GIVEN], OPENING)
    assert take.receipt.changed == len(take.receipt) == 32 + DELAY * len(take.windows)
    short = generate_long(model, PROMPT, seconds=16 / RATE, **lengths, **settings)
    assert np.array_equal(short.codes, generate(model, PROMPT, seconds=16 / RATE, **settings).codes)


def test_a_live_session_plays_records_and_replays_in_stereo(
    model: Any, told: dict[str, Any], tmp_path: Path
) -> None:
    heard: list[Clip] = []
    live = session(model, prompt=PROMPT, on_piece=heard.append, **told)
    live.record(tmp_path / "one")
    live.start()
    live.slide("jazz", 0.8)
    until(lambda: live.figures().frames >= 50)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    assert recording.codes.shape[0] == 8
    assert recording.setup.melody == told.get("melody")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(replay(model, recording), recording.codes)
    take = recording.take(model)
    pieces = np.concatenate([piece.heard for piece in heard], axis=1)
    both = min(pieces.shape[1], take.clip.heard.shape[1])
    apart = np.linalg.norm(take.clip.heard[0] - take.clip.heard[1])
    assert both >= 48 / RATE * model.rate_hz
    assert np.linalg.norm(pieces[:, :both] - take.clip.heard[:, :both]) < 0.05 * apart
    assert take.melody == told.get("melody")
    assert take.seconds == pytest.approx(recording.codes.shape[-1] / RATE)
    if told:
        deaf = Recording.load(tmp_path / "one")
        object.__setattr__(deaf.setup, "melody", None)
        assert not np.array_equal(replay(model, deaf), recording.codes)


def test_the_live_desk_plays_and_saves_in_stereo(
    model: Any, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[np.ndarray] = []
    monkeypatch.setattr(LivePlayer, "push", lambda _player, chunk: pushed.append(chunk))
    settings = {**WINDOWS, **told, "playback": Playback(speed=100)}
    desk = LiveDesk(model, knobs(model), folder=tmp_path, seed=3, **settings)
    desk.start().wait(1.0).stop()
    saved, _rate = soundfile.read(desk.save(), dtype="float32")
    heard = np.concatenate(pushed, axis=1)[:, : len(saved)]
    apart = np.linalg.norm(heard[0] - heard[1])
    assert apart > 0
    assert np.linalg.norm(saved.T[:, : heard.shape[1]] - heard) < 0.05 * apart + heard.size**0.5 / 32768


def test_the_command_line_writes_both_sides(model: Any, folder: Path, tmp_path: Path) -> None:
    direction(model, 1).save(tmp_path / "a.safetensors")
    files = ["--model", str(folder), "--direction", str(tmp_path / "a.safetensors"), "-o"]
    assert main(["steer", PROMPT, "--seconds", "0.5", *files, str(tmp_path / "a.wav")]) == 0
    for name in ("a.wav", "a-unsteered.wav"):
        left, right = soundfile.read(tmp_path / name)[0].T
        assert not np.array_equal(left, right), name


def test_the_likelihood_is_what_free_generation_saw(
    model: Any, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    take, logits = seen_while_drawing(model, PROMPT, monkeypatch=monkeypatch, **told)
    (found,) = likelihood(model, [take])
    assert found.nats.shape == take.codes.shape == (8, 25)
    said = torch.stack(
        [logits[delay : delay + 25, book] for book, delay in enumerate(model.delays)]
    ).log_softmax(-1)
    by_hand = -said.gather(-1, torch.tensor(take.codes.astype(int))[..., None])[..., 0]
    # logits within 2 x 1e-5 of each other (law 12, one forced pass against steps), and a log-sum of 64
    assert np.allclose(found.nats, by_hand, atol=3e-5)


def test_clips_are_captured_and_continued_in_stereo(model: Any, tiny_dataset: Any) -> None:
    some = tiny_dataset.subset([0, 7, 13])
    settings: dict[str, Any] = {"layers": [2], "progress": False}
    acts = capture(model, some, text=["a tune", "fast rock with drums", "jazz"], **settings)
    again = capture(model, some.subset([1]), text="fast rock with drums", **settings)
    assert np.allclose(acts.matrix(2)[1], again.matrix(2)[0], **NETWORK)
    gone_on = capture_continued(
        model, some, PROMPT, context_seconds=0.4, seconds=0.4, part="all", pool=None, **settings
    )
    assert gone_on.frames(2).shape == (3, 20, 32)
    codes = model.encode(Clip(tone_clip(1, 0), 16_000))
    assert torch.equal(codes[0::2], codes[1::2])
