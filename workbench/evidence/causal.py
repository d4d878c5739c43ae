"""Causes: what the music becomes where the state of another run stands in place of the model's own.

- `patch_map`: activation patching between two takes or clips (Meng et al. 2022, arXiv 2202.05262; Heimersheim
  and Nanda 2024, arXiv 2404.15255), teacher-forced; `PatchMap.hear` generates with one of its patches
- `direct_effects`: what each head and layer writes towards a read-out (Elhage et al. 2021)
- `lens`: what plays when the model stops after an earlier block, whose stream its final norm and heads read
  (DecoderLens, Langedijk et al. 2023, arXiv 2310.03686)

All read-outs here are linear in a stream (`Metric`). Time counts steps: position p of the decoder is what
step p of a generation reads before it writes its codes, so a patch is the same here and there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from workbench.activations.activations import head_name, head_slice
from workbench.errors import EvidenceError, whole_number
from workbench.generation.generate import generate
from workbench.generation.request import Settings, prompt_codes_of, settings_of
from workbench.generation.take import Take
from workbench.model.capture import NEUTRAL_TEXT
from workbench.model.conditioning import Melody, TextStates
from workbench.model.musicgen import Model
from workbench.model.network import Place, in_order, live, places_for
from workbench.model.sampling import Sampling, draw, frames_for, guide, seconds_at, write_step
from workbench.model.teacher_forcing import check_frames, padded_ids, reading_of
from workbench.probing import Probe
from workbench.sound import Clip
from workbench.steering import Direction, Steering
from workbench.steering.schedule import window

Sound = Take | Clip | np.ndarray
"""A take, which is read under its own prompt; a clip or codes (k, frames), read under a neutral one."""

BRANCHES = ("cond", "null")


@dataclass(frozen=True, eq=False)
class Passage:
    """What is read: codes (k, frames) under a text, and how the music was, or would be, drawn."""

    codes: np.ndarray
    prompt: str
    settings: Settings
    seed: int = 0
    melody: Melody | None = None
    given: int | None = None  # frames that a take goes on from; None for a clip, which nobody drew

    @classmethod
    def of(cls, model: Model, sound: Sound | Passage) -> Passage:
        """Return what is read of a sound; EvidenceError for a take that one plain run does not give again."""
        if isinstance(sound, Passage):
            return sound
        if not isinstance(sound, Take):
            return cls(prompt_codes_of(model, sound), NEUTRAL_TEXT, settings_of(model))
        foreign = sound.model_id not in ("", model.id)
        if foreign or sound.steering or sound.windows:
            found = "it is steered" if sound.steering else "it is drawn in windows"
            found = f"it is of {sound.model_id}" if foreign else found
            do = "Give an unsteered take of this model that is one run, or take.clip or take.codes alone"
            raise EvidenceError(f"{sound!r} was to be read for causes", found, do)
        settings = Settings(sound.guidance, sound.temperature, sound.top_k)
        given = frames_for(sound.prompt_seconds, model.frame_rate_hz) if sound.prompt_seconds else 0
        codes = prompt_codes_of(model, sound.codes)
        return cls(codes, sound.prompt, settings, sound.seed, sound.melody, given)

    def weights(self) -> dict[str, float]:
        """Return by how much each branch counts in the guided logits: g and 1 - g; 1 alone without one."""
        g = self.settings.guidance
        return {"cond": g, "null": 1 - g} if g > 1 else {"cond": 1.0}


def _alike(model: Model, onto: Sound | Passage, source: Sound | Passage) -> tuple[Passage, Passage]:
    """Return both passages, cut to the frames that both have."""
    one, other = Passage.of(model, onto), Passage.of(model, source)
    frames = min(one.codes.shape[1], other.codes.shape[1])
    check_frames(model, frames)
    return replace(one, codes=one.codes[:, :frames]), replace(other, codes=other.codes[:, :frames])


class Line(NamedTuple):
    """Where a patch acts: a layer and a site, perhaps one head of it."""

    layer: int
    site: str = "resid_post"
    head: int | None = None

    @property
    def place(self) -> Place:
        """The place as the model's passes know it."""
        return self.layer, self.site

    def part(self, model: Model) -> slice:
        """Return which numbers of a state are patched: those of the head, or all."""
        return slice(None) if self.head is None else head_slice(model.d_model, model.n_heads, self.head)

    def __str__(self) -> str:
        if self.head is not None:
            return head_name(self.layer, self.head)
        return f"layer {self.layer}" + ("" if self.site == "resid_post" else f" {self.site}")


class Cell(NamedTuple):
    """One patch: a line, from step `start` up to before step `stop`."""

    line: Line
    start: int
    stop: int


States = Mapping[Place, torch.Tensor]


def _text(model: Model, passage: Passage, branch: str, rows: int) -> TextStates:
    """Return what the rows of a branch read, the null ones as long as the text, as in a generation."""
    text = model.text([passage.prompt] * rows, [passage.melody] * rows)
    if branch == "cond":
        return text
    both = text.with_null()
    return replace(both, states=both.states[rows:], mask=both.mask[rows:])


def read_states(
    model: Model,
    passage: Passage,
    places: Sequence[Place],
    *,
    branch: str = "cond",
    variants: Sequence[Sequence[Cell]] = ((),),
    donor: States | None = None,
) -> dict[Place, torch.Tensor]:
    """Return the streams (variants, steps, d_model) fp32 at `places`, each variant with its patches.

    What a patch writes stands in `donor`: (steps, d_model) by place, such as a row of this function's result.
    """
    writes: dict[Place, list[tuple[int, Cell]]] = {}
    for row, cells in enumerate(variants):
        for cell in cells:
            writes.setdefault(cell.line.place, []).append((row, cell))
    behind, donor = max(model.delays), donor or {}
    ids = padded_ids(model, [passage.codes], behind=behind)[0][:, :, :-1].expand(len(variants), -1, -1)
    text, network = _text(model, passage, branch, len(variants)), model.network
    seen: dict[Place, torch.Tensor] = {}
    order = in_order([*writes, *places])
    order = order[: order.index(in_order(places)[-1]) + 1]  # what lies behind the last reading is not needed
    with model.exclusive(), network.read(ids, text) as tracer:
        for place in order:
            stream = live(network, place)[:, text.prefix :]  # a view of the model's own tensor
            for row, (line, start, stop) in writes.get(place, ()):
                part = line.part(model)
                stream[row, start:stop, part] = donor[place][start:stop, part].to(stream)
            if place in places:
                seen[place] = stream.to(model.device, torch.float32, copy=True)
        tracer.stop()
    return seen


def final_place(model: Model) -> Place:
    """Return where the last block's stream is read, which the final norm and the heads take."""
    return model.n_layers - 1, "resid_post"


@dataclass(frozen=True, eq=False)
class Metric:
    """A read-out that is linear in a stream: the sum over steps of <stream[step], vectors[step]>, + offset.

    `vectors` is (steps, d_model) fp32. With `normed`, the stream goes through the final LayerNorm first.
    """

    place: Place
    vectors: torch.Tensor
    offset: float
    label: str
    normed: bool = False

    def __call__(self, model: Model, stream: torch.Tensor) -> np.ndarray:
        """Return the reading (rows,) of streams (rows, steps, d_model)."""
        with torch.no_grad():
            if self.normed:
                stream = model.musicgen.decoder.model.decoder.layer_norm(stream.to(model.dtype)).float()
            return ((stream * self.vectors).sum((1, 2)) + self.offset).cpu().numpy().astype(np.float64)

    def held(self, model: Model, stream: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return vectors (steps, d_model) and offset that read parts of one stream (steps, d_model).

        The statistics of the final LayerNorm are held at those of the stream, so that parts add up to it.
        """
        if not self.normed:
            return self.vectors, self.offset
        norm = model.musicgen.decoder.model.decoder.layer_norm
        deviation = (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        scaled = self.vectors * norm.weight.detach().float()
        rest = self.offset + float((self.vectors * norm.bias.detach().float()).sum())
        return (scaled - scaled.mean(-1, keepdim=True)) / deviation, rest


def codes_metric(model: Model, towards: np.ndarray, against: np.ndarray | None = None) -> Metric:
    """Return how much the model leans towards codes (k, frames): the mean difference of logits, in nats.

    It is log p(towards) - log p(against), averaged over the codes in which they differ; without `against`,
    the logit of each code less the mean over its codebook. EvidenceError where both have the same codes.
    """
    frames = towards.shape[1]
    vectors = torch.zeros(frames + max(model.delays), model.d_model, device=model.device)
    differ = np.ones(towards.shape, bool) if against is None else towards != against
    if not differ.any():
        do = "Give takes or clips that differ, or a probe and a class"
        raise EvidenceError("A read-out from codes was asked for", "both have the same codes", do)
    picked = [torch.as_tensor(one).long().to(model.device) for one in (towards, against) if one is not None]
    for book, (head, delay) in enumerate(zip(model.musicgen.decoder.lm_heads, model.delays, strict=True)):
        rows = head.weight.detach().float()
        one, *others = (rows[codes[book]] for codes in picked)
        other = others[0] if others else rows.mean(0)
        vectors[delay : delay + frames] += (one - other) * torch.as_tensor(differ[book])[:, None].to(one)
    label = "log-odds of the codes (nats)" if against is not None else "logit of the codes (nats)"
    return Metric(final_place(model), vectors / int(differ.sum()), 0.0, label, normed=True)


def probe_metric(model: Model, probe: Probe, class_: str, frames: int) -> Metric:
    """Return the mean over frames of a probe's logit of a class, less the mean logit of all its classes."""
    if class_ not in probe.classes or probe.model_id not in ("", model.id):
        found = f"it is of {probe.model_id or 'a model'} and knows {', '.join(probe.classes)}"
        raise EvidenceError.lookup(f"A probe was to read {class_!r} in {model.id}", found, "Use one of those")
    place = probe.classes.index(class_)
    row = torch.tensor(probe.weights[place] - probe.weights.mean(0), dtype=torch.float32, device=model.device)
    vectors = torch.zeros(frames + max(model.delays), model.d_model, device=model.device)
    vectors[1 : frames + 1] = row / frames  # frame t is read at position t + 1, as in a capture
    offset = float(probe.bias[place] - probe.bias.mean())
    return Metric((probe.layer, probe.site), vectors, offset, f"logit of {class_}, layer {probe.layer}")


@dataclass(frozen=True, eq=False)
class PatchMap:
    """By how much a read-out of `onto` changes where a state of `source` is put in, for lines x windows."""

    onto: Passage
    source: Passage
    branches: tuple[str, ...]
    lines: tuple[Line, ...]
    edges: tuple[int, ...]  # the steps between which a window lies (windows + 1,)
    values: np.ndarray  # the change of the read-out (branches, lines, windows)
    start: float  # the read-out of `onto` as it is
    goal: float  # that of `source`
    label: str  # what is read
    rate_hz: float

    def seconds(self, window: int) -> tuple[float, float]:
        """Return when a window begins and ends."""
        return seconds_at(self.edges[window], self.rate_hz), seconds_at(self.edges[window + 1], self.rate_hz)

    def table(self) -> pd.DataFrame:
        """Return a row per cell; `share` is the change as a share of the way from `start` to `goal`."""
        rows = [
            (branch, *line, *self.seconds(number), self.values[b, i, number])
            for b, branch in enumerate(self.branches)
            for i, line in enumerate(self.lines)
            for number in range(len(self.edges) - 1)
        ]
        columns = ["branch", "layer", "site", "head", "start_s", "end_s", "change"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(share=table["change"] / (self.goal - self.start))

    def hear(self, model: Model, line: int, window: int, *, branch: str = "cond", **options: Any) -> Take:
        """Return the music that is drawn with the patch of a cell, `branch` "both" for both halves.

        A take is drawn again from its own seed; a clip goes on from its own music before the window. Options
        are those of `generate`. EvidenceError where the window lies in what a take goes on from.
        """
        one, (start, stop) = self.onto, self.edges[window : window + 2]
        given = start if one.given is None else one.given
        if stop <= given:
            asked = f"The patch of window {window} of a continuation was to be heard"
            raise EvidenceError(asked, "nothing is drawn there", "Choose a window of the new part")
        cell = Cell(self.lines[line], max(start, given), stop)
        plan = patch_plan(model, self.source, [cell], branch=branch, given=given)
        length_s = seconds_at(one.codes.shape[1] - given, self.rate_hz)
        drawn: dict[str, Any] = {"progress": False, **vars(one.settings)}
        drawn |= {"steering": plan, "seed": one.seed, "seconds": length_s, "melody": one.melody}
        drawn["audio"] = one.codes[:, :given] if given else None
        return generate(model, one.prompt, **{**drawn, **options})

    def plot(self, branch: str = "cond") -> Any:
        """Return the heat map of a branch."""
        from workbench.show.plots.steering import patch_heat

        return patch_heat(self, branch)


def patch_plan(
    model: Model, source: Sound | Passage, cells: Sequence[Cell], *, branch: str = "cond", given: int = 0
) -> Steering:
    """Return the plan that puts states of `source` in at each step of the cells, after `given` frames.

    A term of the operation `patch` per step and cell, so that the take's receipt and its plan hold the patch.
    """
    read, whole = Passage.of(model, source), Steering()
    places = in_order(cell.line.place for cell in cells)
    for half in BRANCHES if branch == "both" else (branch,):
        states = read_states(model, read, places, branch=half)
        for line, start, stop in cells:
            part, values = line.part(model), states[line.place][0]
            for step in range(start, stop):
                vector = np.zeros(model.d_model)
                vector[part] = values[step, part].double().cpu()
                vector[part][vector[part] == 0] = 1e-30  # a 0 would be no part of the patch
                norm, now = float(np.linalg.norm(vector)), seconds_at(step - given, model.frame_rate_hz)
                about: dict[str, Any] = {"centre": norm, "origin": {"model_id": model.id}}
                name, unit = f"{line} step {step}", (vector / norm).astype(np.float32)
                direction = Direction(unit, line.layer, line.site, name=name, **about)
                when = window(max(0.0, now - 0.5 / model.frame_rate_hz), now + 0.5 / model.frame_rate_hz)
                whole += direction.at(1.0, operation="patch", branch=half, schedule=when)
    return whole


def lines_of(
    model: Model, sites: Sequence[str], layers: Sequence[int] | None = None, *, heads: bool = False
) -> tuple[Line, ...]:
    """Return the lines of a map: a layer and site each; with `heads`, each head of head_out by itself."""
    places = places_for(sites, reading_of(model, layers=layers).layers)
    split = {site: range(model.n_heads) if heads and site == "head_out" else [None] for site in sites}
    return tuple(Line(layer, site, head) for layer, site in places for head in split[site])


def patch_map(
    model: Model,
    onto: Sound | Passage,
    source: Sound | Passage,
    *,
    probe: Probe | None = None,
    class_: str | None = None,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    heads: bool = False,
    windows: int = 10,
    batch: int = 32,
) -> PatchMap:
    """Return how a read-out of one passage changes with each state of another one, teacher-forced.

    States of `source` are put into `onto`; takes and clips may be mixed, and are cut to the frames that both
    have. What reads is the probe's logit of `class_`, in the conditional rows; by default it is the guided
    logits' log-odds of the codes of `source` against those of `onto` (`codes_metric`), for either branch.

    The layers count from 0 (all when None), and sites are some of embed, resid_pre, head_out, attn_out,
    mlp_out, resid_post; with `heads` each head of head_out is patched by itself. The steps are cut into so
    many `windows`, and `batch` patched variants are read at once, as rows of a batch. EvidenceError where a
    take is steered, both have the same codes, or the probe does not know the class.
    """
    one, other = _alike(model, onto, source)
    frames = one.codes.shape[1]
    steps, weights = frames + max(model.delays), one.weights()
    if probe is None:
        metric = codes_metric(model, other.codes, one.codes)
    else:
        metric, weights = probe_metric(model, probe, str(class_), frames), {"cond": 1.0}
    count = whole_number(windows, "Windows of a map", EvidenceError, least=1)
    edges = tuple(int(edge) for edge in np.linspace(0, steps, min(count, steps) + 1).round())
    lines = lines_of(model, sites, layers, heads=heads)
    cells = [Cell(line, *edges[number : number + 2]) for line in lines for number in range(len(edges) - 1)]
    variants: list[list[Cell]] = [[], *([cell] for cell in cells)]
    places, values, start, goal = in_order(line.place for line in lines), [], 0.0, 0.0
    for branch, weight in weights.items():
        donor = read_states(model, other, in_order([*places, metric.place]), branch=branch)
        goal += weight * float(metric(model, donor[metric.place])[0])
        rows = {place: states[0] for place, states in donor.items()}
        each: list[np.ndarray] = []  # the read-outs of the passage as it is, and then with each cell
        for first in range(0, len(variants), batch):
            some: Any = {"branch": branch, "variants": variants[first : first + batch], "donor": rows}
            each.append(metric(model, read_states(model, one, [metric.place], **some)[metric.place]))
        read = np.concatenate(each)
        start += weight * read[0]
        values.append(weight * (read[1:] - read[0]).reshape(len(lines), -1))
    about = (tuple(weights), lines, edges, np.stack(values), start, goal, metric.label, model.frame_rate_hz)
    return PatchMap(one, other, *about)


@dataclass(frozen=True, eq=False)
class DirectEffects:
    """What each part of the model writes towards a read-out: effects and `rest` add up to `total`.

    `table` has a row per layer and part: the embedding (layer -1), each head, the attention to the text, the
    feed-forward part. `rest` is the bias of the read-out and of the final norm.
    """

    table: pd.DataFrame
    rest: float
    total: float
    label: str

    def plot(self) -> Any:
        """Return the heat map of layers and parts."""
        from workbench.show.plots.steering import direct_heat

        return direct_heat(self)


def direct_effects(
    model: Model,
    sound: Sound | Passage,
    *,
    against: Sound | Passage | None = None,
    probe: Probe | None = None,
    class_: str | None = None,
    branch: str = "cond",
) -> DirectEffects:
    """Return the direct effect of every head and layer on a read-out of a passage, teacher-forced.

    The read-out is a probe's logit of a class, or the logit of the passage's own codes: less the mean of
    all codes, or less that of the codes of `against`. For logits, the statistics of the final LayerNorm are
    held. EvidenceError for a probe that does not read the residual stream after a block.
    """
    one = Passage.of(model, sound)
    check_frames(model, one.codes.shape[1])
    if probe is not None:
        metric = probe_metric(model, probe, str(class_), one.codes.shape[1])
    elif against is None:
        metric = codes_metric(model, one.codes)
    else:
        one, other = _alike(model, one, against)
        metric = codes_metric(model, one.codes, other.codes)
    last, site = metric.place
    if site != "resid_post":
        found = f"it reads {site}, to which parts do not add up"
        raise EvidenceError("Direct effects on a probe were asked for", found, "Use a probe of resid_post")
    places = places_for(("embed", "head_out", "attn_out", "mlp_out", "resid_post"), range(last + 1))
    states = {place: read[0] for place, read in read_states(model, one, places, branch=branch).items()}
    vectors, rest = metric.held(model, states[metric.place])
    before, rows = states[0, "embed"], [(-1, "embed", float((states[0, "embed"] * vectors).sum()))]
    for layer in range(last + 1):
        mixing = model.network.block(layer).self_attn.out_proj.weight.detach().to(vectors)
        each = states[layer, "head_out"] * (vectors @ mixing)  # (steps, d_model)
        slices = [head_slice(model.d_model, model.n_heads, head) for head in range(model.n_heads)]
        rows += [(layer, f"head {n}", float(each[:, one].sum())) for n, one in enumerate(slices)]
        after, fed = states[layer, "resid_post"], states[layer, "mlp_out"]
        asked = after - before - states[layer, "attn_out"] - fed  # what the attention to the text has added
        rows += [(layer, name, float((x * vectors).sum())) for name, x in (("text", asked), ("mlp", fed))]
        before = after
    total = float(metric(model, states[metric.place][None])[0])
    return DirectEffects(pd.DataFrame(rows, columns=["layer", "part", "effect"]), rest, total, metric.label)


def code_logits(model: Model, stream: torch.Tensor) -> torch.Tensor:
    """Return the logits (..., k, steps, V) fp32 that the final norm and the heads give a block's stream."""
    decoder = model.musicgen.decoder
    with torch.no_grad():
        normed = decoder.model.decoder.layer_norm(stream.to(model.dtype))
        return torch.stack([head(normed) for head in decoder.lm_heads], dim=-3).float()


@dataclass(frozen=True, eq=False)
class Lens:
    """What plays where the model stops after a block: its final norm and heads read that block's stream.

    `clips` and `codes` (layers, k, frames) are drawn with the take's own seed, text and settings. `table` has
    for each layer `nll`, how unlikely it finds the take's codes (nats per code, without guidance), and
    `same`, the share of the take's codes that it plays, too.
    """

    clips: Mapping[int, Clip]
    codes: np.ndarray
    table: pd.DataFrame = field(repr=False)


def lens(model: Model, take: Take, layers: Sequence[int] | None = None, *, forced: bool = True) -> Lens:
    """Return what the model would have played had it stopped after each of `layers` (all when None).

    With `forced` each step hears the take up to there; without, the codes that the block itself has played.
    """
    one, chosen = Passage.of(model, take), reading_of(model, layers=layers).layers
    places = [(layer, "resid_post") for layer in chosen]
    check_frames(model, one.codes.shape[1])
    read = [read_states(model, one, places, branch=branch) for branch in one.weights()]
    if forced:
        codes = torch.stack([_forced(model, one, [states[place][0] for states in read]) for place in places])
    else:
        codes = _stopped(model, one, chosen)
    nll = [_nll(model, one.codes, read[0][place][0]) for place in places]
    same = (codes.cpu().numpy() == one.codes)[:, :, one.given or 0 :].mean((1, 2))
    table = pd.DataFrame({"layer": chosen, "nll": nll, "same": same})
    clips = dict(zip(chosen, model.decode_batch(list(codes)), strict=True))
    return Lens(clips, codes.cpu().numpy(), table)


def _sampling(model: Model, one: Passage, rows: int) -> Sampling:
    """Return a run that draws the passage again, in so many equal rows."""
    given = torch.as_tensor(one.codes[:, : one.given or 0]).expand(rows, -1, -1) if one.given else None
    more: dict[str, Any] = {"melodies": [one.melody] * rows, "prompt_codes": given, **vars(one.settings)}
    frames = one.codes.shape[1]
    return model.sampling([one.prompt] * rows, seeds=[one.seed] * rows, frames=frames, **more)


def _forced(model: Model, one: Passage, streams: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the codes (k, frames) drawn from a block's streams (steps, d_model), one for each branch."""
    run = _sampling(model, one, 1)
    logits = torch.stack([code_logits(model, stream) for stream in streams])  # (branches, k, steps, V)
    logits = guide(logits, run.guidance) if run.guided else logits
    for step in range(run.prompt_frames, run.steps):
        tokens = draw(logits[:, :, step], run)
        write_step(tokens, run.codes, step, run.delays, run.bos, prompt=run.prompt_frames)
    return run.codes[0]


def _stopped(model: Model, one: Passage, layers: Sequence[int]) -> torch.Tensor:
    """Return the codes (layers, k, frames) of runs whose last stream is that of each of `layers`."""
    run, last, network = _sampling(model, one, len(layers)), final_place(model), model.network
    with model.exclusive(), network.sample(run) as tracer:
        for _step in tracer.iter[: run.visits]:
            early = []
            for number, layer in enumerate(layers):
                rows = slice(number, None, len(layers))  # its conditional and, under guidance, null row
                if layer != last[0]:
                    early.append((rows, live(network, (layer, "resid_post"))[rows]))
            stream = live(network, last)
            for rows, state in early:
                stream[rows] = state
    return run.codes


def _nll(model: Model, codes: np.ndarray, stream: torch.Tensor) -> float:
    """Return the mean negative log-likelihood of codes (k, frames) by a stream (steps, d_model), in nats."""
    odds, delays = code_logits(model, stream).log_softmax(-1), np.array(model.delays)
    books, frames = np.indices(codes.shape)
    return -float(odds[books, frames + delays[:, None], codes.astype(int)].double().mean())
