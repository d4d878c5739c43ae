"""Plans: one canonical text each, that reads back as the same plan; errors that say where."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from steering_samples import JAZZ, ROCK, random_schedule, unit

from workbench.errors import RenamedWarning, SteeringError
from workbench.steering import Direction, Gate, ReadOut, Steering, Term, constant, fade, pulse, ramp
from workbench.steering.operations import OPERATIONS

MODEL = SimpleNamespace(id="m", layers=range(8), d_model=16)


HELD = {"jazz": JAZZ, "rock": ROCK}


def read_out(layer: int = 4, seed: int = 0, **changes) -> ReadOut:
    weights = np.random.default_rng([seed, layer]).standard_normal((2, 16))
    return ReadOut(("jazz", "r&b"), weights, np.zeros(2), layer, **changes)


def random_gate(rng: np.random.Generator) -> Gate:
    reads = read_out(int(rng.integers(8)), int(rng.integers(2)))
    side, over = str(rng.choice(["below", "above"])), float(rng.choice([0, 1, rng.random()]))
    return Gate(reads, str(rng.choice(reads.classes)), side, float(rng.random()), over)


def random_plan(rng: np.random.Generator) -> Steering:
    """Return a plan of up to five random terms: all operations, schedules, rows and gates, odd names."""
    names = [
        "jazz",
        "rock",
        "hip-hop",
        "r&b",
        "jazz - rock",
        'a "b" ; | c',
        "none",
        "add",
        "ñandú_2",
        "日本",
        "2",
    ]
    terms = []
    for _ in range(int(rng.integers(0, 6))):
        direction = unit(str(rng.choice(names)), int(rng.integers(8)), seed=int(rng.integers(2)))
        operation = str(rng.choice(sorted(OPERATIONS)))
        dose = (
            float(rng.random())
            if operation in ("remove", "patch")
            else float(rng.normal()) * 10.0 ** rng.integers(-8, 18)
        )
        dose = float(rng.choice([dose, 0.0, 1.0]))
        schedule = constant() if rng.random() < 0.4 else random_schedule(rng)
        layer = None if rng.random() < 0.6 else int(rng.integers(8))
        rows = str(rng.choice(["cond", "both", "null"]))
        chance = float(rng.choice([1.0, 0.0, rng.random()]))
        gate = random_gate(rng) if rng.random() < 0.4 else None
        terms.append(Term(direction, dose, schedule, operation, layer, rows, chance=chance, gate=gate))
    return Steering(tuple(terms))


def test_law_10_random_plans_read_back_from_text_and_json():
    rng = np.random.default_rng(0)
    for _ in range(400):
        plan = random_plan(rng)
        text = plan.text()
        again = Steering.parse(text, plan.directions, plan.read_outs)
        assert again == plan, text
        assert again.text() == text
        assert Steering.from_json(plan.to_json(), plan.directions, plan.read_outs) == plan
        held = plan.directions.values(), plan.read_outs.values()
        assert Steering.from_json(plan.to_json(), *held) == plan


def test_the_text_is_the_one_that_the_documents_show():
    plan = (JAZZ.at(0.8) - ROCK.at(0.4)).terms
    plan = Steering(tuple(Term(term.direction, term.dose, ramp(2, 6)) for term in plan))
    assert plan.text() == "0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond"
    assert str(plan) == plan.text()


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (Steering(), "none"),
        (JAZZ.at(-1), "-1.0*jazz@5 | constant | cond"),
        (JAZZ.at(0.5, layer=3), "0.5*jazz@5>3 | constant | cond"),
        (JAZZ.at(-0.5, operation="paper", branch="both"),
         "norm_scaled_add(-0.5*jazz@5) | constant | both"),
        (JAZZ.at(1, operation="keep_norm") - ROCK.at(1),
         "keep_norm(1.0*jazz@5) - 1.0*rock@5 | constant | cond"),
        (JAZZ.at(1, operation="remove", schedule=pulse(every_steps=9)),
         "remove(1.0*jazz@5) | pulse(9 steps) | cond"),
        (JAZZ.at(3, operation="clamp", branch="null"), "clamp(3.0*jazz@5) | constant | null"),
        (JAZZ.at(1, schedule=ramp(2, 6)) + ROCK.at(1, schedule=fade(2, 6)),
         "1.0*jazz@5 | ramp(2s,6s) | cond ; 1.0*rock@5 | fade(2s,6s) | cond"),
        ((JAZZ - ROCK).unit().at(0.8), '0.8*"jazz - rock"@5 | constant | cond'),
        (JAZZ.at(-0.0), "0.0*jazz@5 | constant | cond"),
        (JAZZ.at(0.8, chance=0.3), "0.8*jazz@5 | constant | cond | chance(0.3)"),
        (JAZZ.at(0.8, chance=1), "0.8*jazz@5 | constant | cond"),
        (JAZZ.at(0.8, gate=Gate(read_out(), "jazz", "below", 0.8)),
         "0.8*jazz@5 | constant | cond | gate(jazz@4 < 0.8 over 1s)"),
        (JAZZ.at(0.8, branch="both", chance=0.5, gate=Gate(read_out(), "r&b", "above", 1, 0))
         + ROCK.at(1, branch="both", chance=0.5, gate=Gate(read_out(), "r&b", "above", 1, 0)),
         '0.8*jazz@5 + 1.0*rock@5 | constant | both | chance(0.5) | gate("r&b"@4 > 1 over 0s)'),
    ],
)  # fmt: skip
def test_canonical_texts(plan, text):
    assert plan.text() == text
    assert Steering.parse(text, plan.directions, plan.read_outs) == plan


def test_a_gate_s_probe_is_found_by_class_and_layer_or_by_fingerprint():
    one, two = read_out(), read_out(seed=1)
    text = "0.8*jazz@5 | gate(jazz@4 < 0.8)"
    plan = Steering.parse(text, HELD, {"any name": one, "elsewhere": read_out(3)})
    assert plan == JAZZ.at(0.8, gate=Gate(one, "jazz", "below", 0.8, 1.0))
    assert plan.read_outs == {"jazz@4": one}
    with pytest.raises(SteeringError, match=f"2 of the probes.*Write jazz#{one.fingerprint[:12]}@4 or jazz#"):
        Steering.parse(text, HELD, [one, two])
    both = plan + JAZZ.at(0.8, gate=Gate(two, "jazz", "below", 0.8))
    assert f"gate(jazz#{two.fingerprint[:12]}@4 < 0.8 over 1s)" in both.text()
    assert Steering.parse(both.text(), HELD, [two, one]) == both
    for probes in ([], [read_out(3)]):
        with pytest.raises(SteeringError, match=r"character 1 of .* a gate on 'jazz@4' .*the probes given"):
            Steering.parse(text, HELD, probes)
        with pytest.raises(SteeringError, match="A gate on 'jazz' at layer 4"):
            Steering.from_json(plan.to_json(), HELD, probes)


def test_plans_without_chance_and_gate_are_written_as_before():
    (item,) = json.loads(JAZZ.at(0.5).to_json())
    assert list(item) == ["direction", "fingerprint", "dose", "operation", "schedule", "rows", "layer"]
    assert JAZZ.at(0.5).read_outs == {}


def test_schedule_rows_and_blanks_may_be_left_out_when_reading():
    whole = Steering.parse("0.8*jazz@5 | constant | cond", HELD)
    assert Steering.parse("  .8 *jazz @ 5", HELD) == whole
    assert Steering.parse("8e-1*jazz@5|constant()", HELD) == whole
    for text in ("constant | chance(1)", "cond | chance(1.0)", "chance(1)"):
        assert Steering.parse(f"0.8*jazz@5 | {text}", HELD) == whole
    assert Steering.parse("- 0.8*jazz@5;0.8*jazz@5", HELD) == JAZZ.at(-0.8) + JAZZ.at(0.8)


@pytest.mark.parametrize(
    ("text", "character", "says"),
    [
        ("", 1, "a dose"),
        ("jazz", 1, "an operation .add, norm_scaled_add"),
        ("0.8", 4, r"'\*'"),
        ("0.8*jazz", 9, "'@'"),
        ("0.8*jazz@", 10, "layer number"),
        ("0.8*jazz@x", 10, "layer number"),
        ("0.8*jazz@5 |", 13, "a schedule"),
        ("0.8*jazz@5 | wobble", 14, "a schedule"),
        ("0.8*jazz@5 | constant | all", 25, "branch"),
        ("0.8*jazz@5 | cond | constant", 21, "chance"),
        ("0.8*jazz@5 | chance(0.5) | cond", 28, "gate"),
        ("0.8*jazz@5 | gate(jazz@4 = 1)", 26, "< >"),
        ("0.8*jazz@5 | gate(jazz < 1)", 24, "'@'"),
        ("0.8*jazz@5 | gate(jazz@4 < 1 over 1)", 36, "'s'"),
        ("0.8*jazz@5 | gate(jazz@4 < 1) | chance(1)", 31, "or the end"),
        ("0.8*jazz@5 0.4*rock@5", 12, "or the end"),
        ("0.8*jazz@5 + ", 14, "a dose"),
        ("0.8*jazz@5 ; ", 14, "a dose"),
        ("nan*jazz@5", 1, "a dose"),
        ("--0.8*jazz@5", 2, "one sign"),
        ("0.8*jazz@5 - keep_norm(1*jazz@5)", 14, "inside the brackets"),
        ("remove(1*jazz@5", 16, r"'\)'"),
        ('0.8*"jazz@5', 5, "name of a direction"),
        ("0.8*jazz#@5", 10, "a fingerprint"),
        ("0.8*blues@5", 1, "directions given are: jazz, rock"),
        ("0.1*jazz@5 + 0.8*jazz@3", 14, r"made at layer 5\. Write @5>3"),
        ("0.8*jazz#ffff@5", 1, "directions given are"),
    ],
)
def test_bad_text_says_where_and_what(text, character, says):
    with pytest.raises(SteeringError, match=f"(?s)At character {character} of .*{says}"):
        Steering.parse(text, HELD)


def test_one_name_at_several_layers_resolves_by_layer():
    per_layer = {f"jazz@{layer}": unit("jazz", layer) for layer in (3, 5)}
    plan = Steering.parse("1.0*jazz@5 + 0.5*jazz@3", per_layer)
    assert [term.direction.layer for term in plan.terms] == [5, 3]
    assert plan.directions == per_layer


def test_one_name_at_one_layer_resolves_by_fingerprint():
    other = unit("jazz", seed=1)
    plan = JAZZ.at(0.5) + other.at(0.25)
    assert f"0.5*jazz#{JAZZ.fingerprint[:12]}@5" in plan.text()
    assert len(plan.directions) == 2
    assert Steering.parse(plan.text(), {"one": JAZZ, "two": other}) == plan
    assert "#" not in (JAZZ.at(0.5) + JAZZ.at(0.25)).text()


def test_plans_join_in_order_and_flatten():
    plan = JAZZ.at(0.5) + ROCK.at(1)
    assert [term.direction.name for term in plan.terms] == ["jazz", "rock"]
    assert Steering(plan) == plan
    assert Steering([JAZZ.at(0.5), ROCK.at(1).terms[0]]) == plan
    assert (plan - plan).terms[2:] == (-plan).terms
    assert [term.dose for term in (-plan).terms] == [-0.5, -1.0]
    with pytest.raises(SteeringError, match="str is no part"):
        Steering("0.5*jazz@5")


def test_layers_and_their_terms():
    plan = JAZZ.at(0.5, layer=7) + ROCK.at(1) + JAZZ.at(0.25, layer=7) + ROCK.at(1, layer=2)
    assert plan.layers == (2, 5, 7)
    assert [term.dose for term in plan.at_layer(7)] == [0.5, 0.25]
    assert plan.at_layer(0) == ()


def test_old_names_of_branch_and_norm_scaled_add_work_and_warn():
    with pytest.warns(RenamedWarning, match="branch"):
        assert JAZZ.at(0.5, rows="both") == JAZZ.at(0.5, branch="both")
    with pytest.warns(RenamedWarning, match="branch"):
        assert JAZZ.at(0.5, branch="null").terms[0].rows == "null"
    plan = JAZZ.at(0.5, operation="paper")
    assert plan == JAZZ.at(0.5, operation="norm_scaled_add")
    assert Steering.parse("paper(0.5*jazz@5)", plan.directions) == plan
    written = plan.to_json().replace("norm_scaled_add", "paper")
    assert Steering.from_json(written, plan.directions) == plan


@pytest.mark.parametrize("operation", ["remove", "clamp"])
def test_only_pushes_have_an_opposite(operation):
    with pytest.raises(SteeringError, match="opposite"):
        JAZZ.at(0.5) - JAZZ.at(1, operation=operation)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"operation": "push"}, "operations are add"),
        ({"branch": "all"}, "cond, both, null"),
        ({"operation": "remove", "dose": 1.5}, "weight from 0 to 1"),
        ({"operation": "remove", "dose": -0.1}, "weight from 0 to 1"),
        ({"layer": -1}, "negative"),
        ({"chance": 1.5}, "no probability"),
        ({"chance": float("nan")}, "no probability"),
    ],
)
def test_terms_that_no_model_can_carry_out_are_refused(change, says):
    with pytest.raises(SteeringError, match=says):
        JAZZ.at(**({"dose": 0.5} | change))


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (JAZZ.at(1, layer=8), r"layer 8 of m was asked for|layers 0-7"),
        (unit("x", origin={"model_id": "n"}).at(1), "made for the model 'n'"),
        (
            Direction(np.eye(1, 17)[0], 5, name="wide", residual_norm=1.0).at(1),
            "17 numbers where the model has 16",
        ),
        (JAZZ.at(1, gate=Gate(read_out(8), "jazz")), "gate reads 16 numbers at layer 8"),
        (JAZZ.at(1, gate=Gate(ReadOut(("a",), np.ones((1, 3)), [0], 1), "a")), "gate reads 3 numbers"),
        (JAZZ.at(1, gate=Gate(read_out(model_id="n"), "jazz")), "probe was made for the model 'n'"),
    ],
)
def test_check_refuses_plans_that_do_not_fit_the_model(plan, says):
    with pytest.raises(SteeringError, match=says):
        plan.check(MODEL)
    with pytest.raises(SteeringError, match=says):
        (JAZZ.at(1) + plan).check(MODEL)


def test_check_accepts_what_fits():
    (JAZZ.at(1) + ROCK.at(1, layer=7) + unit("x", origin={}).at(0.5)).check(MODEL)
    Steering().check(MODEL)


def test_json_carries_fingerprints_and_refuses_what_is_not_held():
    (item,) = json.loads(JAZZ.at(0.5).to_json())
    assert item["fingerprint"] == JAZZ.fingerprint
    with pytest.raises(SteeringError, match="'jazz' with fingerprint"):
        Steering.from_json(JAZZ.at(0.5).to_json(), {"rock": ROCK})
    for text in ("{", "[1]", "[{}]", "7"):
        with pytest.raises(SteeringError, match="from JSON"):
            Steering.from_json(text, HELD)


def test_acts_says_whether_anything_is_planned():
    (term,) = JAZZ.at(0.5, schedule=ramp(2, 4)).terms
    assert [term.acts(seconds) for seconds in (0, 2, 2.1, 9)] == [False, False, True, True]
    assert not JAZZ.at(0).terms[0].acts(1)
    assert JAZZ.at(0, operation="clamp").terms[0].acts(1)
