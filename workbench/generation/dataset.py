"""Takes as a dataset, so that generated clips can be captured, listened to and mapped like any others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import GenerationError
from workbench.generation.take import Take
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry, Label


@dataclass(frozen=True, eq=False)
class _TakeReader:
    """Reads the clip of an entry that stands for a take."""

    clips: Mapping[str, Clip]

    def __call__(self, entry: Entry) -> Clip:
        return self.clips[entry.id]


def takes_dataset(
    takes: Sequence[Take],
    *,
    names: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[Label]] | None = None,
    name: str = "takes",
) -> Dataset:
    """Return the takes as labelled clips with their codes; prompt and seed make the default names.

    Args:
        takes: made by `generate`.
        names: an id for each; by default "prompt (seed n)", with the plan where there is one.
        labels: target -> a value for each take, such as the genre that was aimed at. `prompt` and `steering`
            are always labels.
        name: of the dataset.

    The group of a take is its prompt: takes of one prompt are variations of one thing.

    Raises:
        GenerationError: names or labels are not as many as the takes.
        DatasetError: there is no take, or two have one name.
    """
    lengths = {"names": names, **(labels or {})}
    wrong = [what for what, values in lengths.items() if values is not None and len(values) != len(takes)]
    if wrong:
        found = f"{', '.join(wrong)} have another length"
        raise GenerationError(f"A dataset of {len(takes)} takes was asked for", found, "Give one each")
    ids = [_name(take) for take in takes] if names is None else [str(one) for one in names]
    entries = []
    for place, (id_, take) in enumerate(zip(ids, takes, strict=True)):
        told: dict[str, Label] = {"prompt": take.prompt, "steering": take.steering or "unsteered"}
        told |= {target: values[place] for target, values in (labels or {}).items()}
        digest = hashlib.sha256(take.codes.tobytes() + take.model_id.encode()).hexdigest()
        entries.append(Entry(id_, told, take.prompt, f"take: {id_}", digest, take.codes))
    return Dataset(tuple(entries), name, _TakeReader(dict(zip(ids, (t.clip for t in takes), strict=True))))


def _name(take: Take) -> str:
    plan = f", {take.steering}" if take.steering else ""
    return f"{take.prompt} (seed {take.seed}{plan})"
