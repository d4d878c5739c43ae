"""Codes of a band read as notes: the table, the piano roll and the MIDI file say what the sampler plays."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import band_fixture
import mido
import numpy as np
import pytest

from workbench.errors import GenerationError
from workbench.generation.generate import generate
from workbench.generation.score import Score
from workbench.generation.take import Take
from workbench.model.band import BEAT_FRAMES, INSTRUMENTS, SOUNDING, read_score
from workbench.show.plots import piano_roll

PIECES = {
    "a few bars": band_fixture.small_piece(),
    "at random": band_fixture.random_codes(300, 5),
    "silence": np.zeros((7, 30), int),
}


def played(path: Path, step: int) -> dict[int, list[tuple[int, int, int, int, int]]]:
    """Channel -> (program, pitch, first frame, frames, velocity) of each note of a MIDI file."""
    found = defaultdict(list)
    for track in mido.MidiFile(path).tracks:
        now, program, begun = 0, None, {}
        for message in track:
            now += message.time
            if message.type == "program_change":
                program = message.program
            elif message.type == "note_on":
                begun[message.note] = (program, message.note, now // step, message.velocity)
            elif message.type == "note_off":
                sound, pitch, start, velocity = begun.pop(message.note)
                found[message.channel].append((sound, pitch, start, now // step - start, velocity))
        assert not begun
    return found


@pytest.mark.parametrize("name", PIECES)
def test_a_midi_file_read_back_is_the_notes(tmp_path: Path, name: str) -> None:
    score = Score.read(PIECES[name])
    heard = played(score.save(tmp_path / "x.mid"), 480 // BEAT_FRAMES[score.tempo])
    assert set(heard) == {9 if p == "drums" else SOUNDING.index(p) for p in {n.part for n in score.notes}}
    for number, part in enumerate(SOUNDING):
        own = [note for note in score.notes if note.part == part]
        told = sorted(heard[9 if part == "drums" else number], key=lambda note: (note[2], note[1]))
        own.sort(key=lambda note: (note.start, note.pitch))
        programs = [INSTRUMENTS[part, note.instrument].program for note in own]
        assert [one[:3] for one in told] == [
            (program, note.pitch, note.start) for program, note in zip(programs, own, strict=True)
        ]
        assert [one[4] for one in told] == [note.velocity for note in own]
        if part != "drums":  # a hit ends at the latest where it is hit again
            assert [one[3] for one in told] == [note.length for note in own]


def test_a_midi_file_lasts_as_long_as_its_notes(tmp_path: Path) -> None:
    score = Score.read(PIECES["a few bars"])
    assert score.beats_per_minute == pytest.approx(93.75)
    last = max(note.start + note.length for note in score.notes) / 25
    assert mido.MidiFile(score.save(tmp_path / "x.mid")).length == pytest.approx(last, abs=1e-4)


def test_the_table_has_a_row_per_note_in_seconds() -> None:
    score = Score.read(PIECES["a few bars"])
    table = score.table
    assert list(table.columns) == ["part", "instrument", "pitch", "start_seconds", "seconds", "velocity"]
    assert len(table) == len(score) == len(read_score(PIECES["a few bars"]))
    bass = table[table.part == "bass"]
    assert bass.start_seconds.tolist() == pytest.approx([16 / 25 * beat for beat in range(8)])
    assert bass.pitch.tolist()[:4] == [36, 36, 41, 41]
    assert set(table.part) == set(SOUNDING)


def test_the_piano_roll_has_a_trace_a_part_and_names_drums() -> None:
    score = Score.read(PIECES["a few bars"])
    roll = score.plot()
    assert [trace.name for trace in roll.data] == list(SOUNDING)
    assert len({trace.line.color for trace in roll.data}) == len(SOUNDING)
    for trace in roll.data:
        notes = [note for note in score.notes if note.part == trace.name]
        assert list(trace.x[::3]) == [note.start / 25 for note in notes]
        assert len(trace.x) == 3 * len(notes)
    assert list(roll.layout.yaxis2.ticktext) == ["kick", "snare", "hi-hat"]
    drums = roll.data[0]
    assert drums.yaxis == "y2" and "kick" in drums.text[3 * list(drums.y[::3]).index(0)]
    assert len(piano_roll(Score.read(PIECES["silence"])).data) == 0


def test_a_take_of_a_band_tells_its_notes_also_from_disk(band_model: Any, tmp_path: Path) -> None:
    take = generate(band_model, "a calm tune", seed=5, seconds=1.0, progress=False)
    assert take.score() == Score(tuple(read_score(take.codes)), 25, take.score().tempo)
    assert Take.load(take.save(tmp_path / "take")).score() == take.score()
    assert "notes" in repr(take.score()) and "<table" in take.score()._repr_html_()


def test_a_take_of_another_codec_has_no_notes(tiny_model: Any) -> None:
    take = generate(tiny_model, "a calm tune", seed=5, seconds=0.5, progress=False)
    with pytest.raises(GenerationError, match=r"codec: encodec\) are no score"):
        take.score()
