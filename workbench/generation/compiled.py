"""The same steering without a trace: the decoder's step as one function of tensors, for `torch.compile`.

nnsight asks Python at every place of every step, and a GPU waits for it. Here all that changes from step to
step is in tensors: keys and values have room for the whole run, and an edit works on all its rows, of which
those that schedule, chance or gate leave alone keep what they were. The formulas are the same `Operation`s;
the parts are those of the checkpoint's decoder, in the order of transformers' blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import GenerationError
from workbench.generation.edits import Edit, Sliders, StepGains
from workbench.generation.receipt import ReceiptWriter
from workbench.generation.steer import Begun
from workbench.model.musicgen import Model
from workbench.model.network import Place, draw_codes, in_order
from workbench.model.sampling import Sampling

BACKEND = "inductor"  # of torch.compile; "eager" only traces
_SETTINGS = {
    "recompile_limit": 256,  # kinds of run that one process may compile
    "force_parameter_static_shapes": False,  # of buffers, what `Step` says is of any length
    "automatic_dynamic_shapes": False,  # and nothing else
}
_ROOM, _TEXT_ROOM = 128, 32  # by which the room for music and text grows: few lengths, few compilations

Changes = list[tuple[Tensor, Tensor, Tensor]]
"""What the rows of each edit were before, were meant to be, and are (n, 1, d_model)."""


class _Visit:
    """What the edits of one visit get and give: factors and masks in the order of the forward pass."""

    def __init__(self, factors: Sequence[Tensor], acting: Sequence[Tensor]) -> None:
        self.given = iter(zip(factors, acting, strict=True))
        self.changes: Changes = []
        self.seen: dict[Place, Tensor] = {}


class Step(nn.Module):
    """One visit of the decoder, edits included.

    Buffers hold keys and values (rows, heads, positions, d_head) of each layer, with room for the whole run,
    and of what cross-attention reads.
    """

    visible: Tensor  # which positions are no padding (rows, room)
    text_mask: Tensor  # where cross-attention may look (rows, 1, 1, L)

    def __init__(
        self, decoder: Any, run: Sampling, edits: Mapping[Place, Sequence[Edit]], watched: Sequence[Place]
    ) -> None:
        super().__init__()
        self.grows = decoder.device.type != "cuda"  # CUDA graphs want one shape
        inner, text, rows = decoder.model.decoder, run.text, len(run.text.mask)
        self.blocks, self.norm, self.heads = inner.layers, inner.layer_norm, decoder.lm_heads
        self.edits = {place: list(group) for place, group in edits.items()}
        self.watched, self.batch = list(watched), run.batch
        own, room = self.blocks[0].self_attn, -(-(text.prefix + run.steps + 1) // _ROOM) * _ROOM
        shape = rows, own.num_heads, room, own.head_dim
        kept = torch.zeros(shape, dtype=decoder.dtype, device=decoder.device)
        visible = torch.ones(rows, room, dtype=torch.bool, device=decoder.device)
        visible[:, : text.prefix] = text.mask[:, : text.prefix] > 0
        self._hold("visible", visible, 1)
        self.numbers = torch.arange(room, device=decoder.device)
        self.crosses = hasattr(self.blocks[0], "encoder_attn")
        more = -text.mask.shape[1] % _TEXT_ROOM
        states = nn.functional.pad(text.states, (0, 0, 0, more))
        heard = nn.functional.pad(text.mask, (0, more))
        if self.crosses:
            self._hold("text_mask", _additive(heard[:, None, None] > 0, decoder.dtype), 3)
        for layer, block in enumerate(self.blocks):
            for name in ("keys", "values"):
                self._hold(f"{name}_{layer}", kept.clone(), 2)
            if self.crosses:
                cross = block.encoder_attn
                self._hold(f"text_keys_{layer}", _split(cross.k_proj(states), cross), 2)
                self._hold(f"text_values_{layer}", _split(cross.v_proj(states), cross), 2)

    def _hold(self, name: str, values: Tensor, length: int) -> None:
        """Keep a tensor of which dimension `length` is as long as the music or the text."""
        self.register_buffer(name, values, persistent=False)
        if self.grows:  # any length is one compilation
            torch._dynamo.mark_dynamic(values, length)

    def reach(self, until: int) -> Tensor:
        """Return the numbers of the positions that attention reads: those there are, or all of the room."""
        if not self.grows:
            return self.numbers
        numbers = self.numbers[:until]
        torch._dynamo.mark_dynamic(numbers, 0)
        return numbers

    def forward(
        self,
        stream: Tensor,
        positions: Tensor,
        reach: Tensor,
        factors: Sequence[Tensor],
        acting: Sequence[Tensor],
    ) -> tuple[Tensor, Changes, list[Tensor]]:
        """Return logits (rows, k, V), the changes of each edit, and the watched rows (B, d_model).

        Args:
            stream: What enters block 0 (rows, n, d_model); it is edited in place, at the last position.
            positions: Their numbers (n,).
            reach: The numbers 0 to at least the last of them (m,): attention reads no room beyond.
            factors: Of each edit's rows (n, 1, 1).
            acting: Which of each edit's rows are changed (n, 1, 1).
        """
        visit = _Visit(factors, acting)
        itself = reach == positions[:, None]
        visible = self.visible[:, None, : len(reach)]
        may = (reach <= positions[:, None]) & visible | itself  # padding sees itself
        mask = _additive(may[:, None], stream.dtype)
        self._edit(visit, (0, "embed"), stream)
        for layer in range(len(self.blocks)):
            stream = self._block(visit, layer, stream, positions, mask)
        last = self.norm(stream[:, -1])
        logits = torch.stack([head(last) for head in self.heads], dim=1)
        return logits, visit.changes, [visit.seen[place] for place in self.watched]

    def _block(self, visit: _Visit, layer: int, stream: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return the stream after a block, edited at its sites; keys and values are written down."""
        block = self.blocks[layer]
        own = block.self_attn
        self._edit(visit, (layer, "resid_pre"), stream)
        entering = block.self_attn_layer_norm(stream)
        keys, values = getattr(self, f"keys_{layer}"), getattr(self, f"values_{layer}")
        keys.index_copy_(2, positions, _split(own.k_proj(entering), own))
        values.index_copy_(2, positions, _split(own.v_proj(entering), own))
        reach = mask.shape[-1]
        heads = _attend(own, entering, keys[:, :, :reach], values[:, :, :reach], mask)
        self._edit(visit, (layer, "head_out"), heads)
        added = own.out_proj(heads)
        self._edit(visit, (layer, "attn_out"), added)
        stream = stream + added
        if self.crosses:
            cross, entering = block.encoder_attn, block.encoder_attn_layer_norm(stream)
            text = getattr(self, f"text_keys_{layer}"), getattr(self, f"text_values_{layer}")
            stream = stream + cross.out_proj(_attend(cross, entering, *text, self.text_mask))
        added = block.fc2(block.activation_fn(block.fc1(block.final_layer_norm(stream))))
        self._edit(visit, (layer, "mlp_out"), added)
        stream = stream + added
        self._edit(visit, (layer, "resid_post"), stream)
        return stream

    def _edit(self, visit: _Visit, place: Place, stream: Tensor) -> None:
        """Steer the last position of a stream (rows, n, d_model) in place, and keep what is watched."""
        for edit in self.edits.get(place, ()):
            factor, acts = next(visit.given)
            before = stream[edit.rows, -1:]
            meant = edit.after(before, slice(None), factor).to(before.dtype)
            # The marked line of `run_steered`, on all rows: those that do not act keep what they were.
            stream[edit.rows, -1:] = torch.where(acts, meant, before)
            visit.changes.append((before, meant, stream[edit.rows, -1:]))
        if place in self.watched:
            visit.seen[place] = stream[: self.batch, -1].float().clone()


def _additive(may: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where attention may look, and else the least number: rows that see nothing stay numbers."""
    return torch.where(may, 0.0, torch.finfo(dtype).min).to(dtype)


def _split(states: Tensor, attention: Any) -> Tensor:
    """Return states (rows, n, d_model) as (rows, heads, n, d_head)."""
    return states.view(*states.shape[:-1], attention.num_heads, attention.head_dim).transpose(1, 2)


def _attend(attention: Any, entering: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return what the heads of an attention give to its output projection (rows, n, d_model)."""
    query = _split(attention.q_proj(entering), attention)
    heads = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return heads.transpose(1, 2).flatten(2)


def _entering(decoder: Any, run: Sampling, ids: Tensor, past: int) -> tuple[Tensor, Tensor]:
    """Return what enters block 0 (rows, n, d_model) for ids (rows, k, positions), and its positions (n,)."""
    inner, visit = decoder.model.decoder, run.text.arguments(decoder, ids, past)
    embedded = visit.get("inputs_embeds")
    if embedded is None:
        embedded = sum(embed(ids[:, book]) for book, embed in enumerate(inner.embed_tokens))
    if run.text.prefix and not past:
        embedded = torch.cat([visit["encoder_hidden_states"], embedded], 1)
    positions = torch.arange(past, past + embedded.shape[1], device=embedded.device)
    inner.embed_positions(ids.new_empty((1, 1, 1)), past + len(positions) - 1)  # a short table grows
    return embedded + inner.embed_positions.weights[positions], positions


@torch.no_grad()
def run_compiled(
    model: Model,
    run: Sampling,
    edits: Mapping[Place, Sequence[Edit]],
    watched: Sequence[Place] = (),
    sliders: Sliders | None = None,
    *,
    begun: Begun | None = None,
) -> tuple[ReceiptWriter, dict[Place, Tensor]]:
    """Do what `run_steered` does (arguments, results, errors), compiled by torch for the model's device.

    The first steps of a kind of run wait for the compiler: a minute and more. A kind is places, operations
    and rows, on a GPU also the room for positions; doses, vectors, schedules, prompts and lengths may change.
    Codes are those of `run_steered`, unless two candidates of a draw tie within rounding.

    Raises:
        GenerationError: When torch cannot compile here, or the model is on several devices.
    """
    _check(model)
    decoder = model.musicgen.decoder
    gains = StepGains(sliders or Sliders(), edits, run, model.frame_rate_hz)
    receipt, places = ReceiptWriter(gains), in_order([*watched, *gains.places])
    seen: dict[Place, list[Tensor]] = {place: [] for place in places}
    every = [edit for place in in_order(edits) for edit in edits[place]]
    step = Step(decoder, run, edits, places)
    mode = None if step.grows or BACKEND != "inductor" else "reduce-overhead"  # CUDA graphs
    compiled: Any = torch.compile(step, fullgraph=True, backend=BACKEND, mode=mode)
    whole = [torch.arange(len(edit.row_edits), device=decoder.device) for edit in every]
    acting = [torch.tensor(edit.acts, device=decoder.device)[..., None, None] for edit in every]
    visit = past = 0

    def logits_of(ids: Tensor) -> Tensor:
        nonlocal visit, past
        gains.begin(visit)
        stream, positions = _entering(decoder, run, ids, past)
        factors = [gains.at(edit, visit, rows) for edit, rows in zip(every, whole, strict=True)]
        acts = [one[visit] for one in acting]
        reach = step.reach(past + len(positions))
        out, changes, read = (compiled if past else step)(stream, positions, reach, factors, acts)
        for edit, change in zip(every, changes, strict=True):
            _measure(receipt, edit, visit, change)
        for place, rows in zip(places, read, strict=True):
            seen[place].append(rows.clone())
        for place in gains.places:
            gains.read(place, seen[place][-1])
        visit, past = visit + 1, past + len(positions)
        return out.float()

    if begun is not None:
        begun(receipt, seen)
    with _compiling(model):
        draw_codes(run, logits_of)
    return receipt, {place: torch.stack(seen[place]) for place in watched}


def _measure(receipt: ReceiptWriter, edit: Edit, visit: int, change: tuple[Tensor, Tensor, Tensor]) -> None:
    """Write down how an edit changed the rows that it was to change."""
    if (active := edit.active[visit]) is not None:
        before, meant, now = (values[active[0]] for values in change)
        receipt.measure(edit, visit, active[0], before=before, meant=meant, now=now)


@contextmanager
def _compiling(model: Model) -> Iterator[None]:
    """Hold a model while torch compiles and runs it; GenerationError where torch cannot."""
    with model.exclusive(), torch._dynamo.config.patch(_SETTINGS):
        try:
            yield
        except torch._dynamo.exc.TorchDynamoException as error:
            reason, _, _ = str(getattr(error, "inner_exception", error)).partition("\n")
            found = f"torch cannot compile it here: {reason}"
            do = 'Use engine="nnsight", or give torch what it lacks, such as the C++ compiler g++ or clang++'
            raise GenerationError("A compiled run was asked for", found, do) from error


def _check(model: Model) -> None:
    """Raise GenerationError for a model on several devices."""
    if len(model.devices) > 1:
        found, do = f"its blocks are on {len(model.devices)} devices", "load the model on one of them"
        raise GenerationError("A compiled run was asked for", found, f'Use engine="nnsight", or {do}')
