"""How explanations are weighed and ranked, on faults made up for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxdiana.compare.judge import cause, explain
from onnxdiana.compare.layer import Fault, Layer, Outcome

EXPECTED = np.arange(20).reshape(1, 20)


def fault(name: str, *changes: int, wrong: int = 100, known: int = 20) -> Fault:
    """It changes the elements at some places by 100; what it gives is known of the first ones."""
    def simulate(layer: Layer) -> Iterator[Outcome]:
        codes = layer.expected.copy()
        codes[0, list(changes)] += wrong
        yield Outcome(name, codes, np.arange(20) < known)
    return Fault(name, simulate)


def ranked(different: int, *catalogue: Fault) -> list[tuple[str, int, int, int]]:
    found = EXPECTED.copy()
    found[0, :different] += 100
    entries = explain(Layer(EXPECTED, found), False, catalogue)
    return [(e.fault, e.explained, e.different, e.contradicted) for e in entries]


def claimed(different: int, *catalogue: Fault) -> str | None:
    found = EXPECTED.copy()
    found[0, :different] += 100
    told = cause(explain(Layer(EXPECTED, found), False, catalogue))
    return None if told is None else told.fault


def test_exact_ones_come_first_and_equals_keep_the_order() -> None:
    part, first, second = fault("part", *range(9)), fault("first", *range(10)), fault("second", *range(10))
    assert ranked(10, part, first, second) == [("first", 10, 10, 0), ("second", 10, 10, 0), ("part", 9, 10, 0)]
    assert ranked(10, part, second, first)[0][0] == "second"


def test_what_it_would_change_counts_against_it() -> None:
    assert ranked(10, fault("more", *range(12)), fault("less", *range(9))) == [
        ("less", 9, 10, 0), ("more", 10, 10, 2)]
    assert ranked(10, fault("all", *range(20))) == []
    assert ranked(10, fault("others", *range(10, 20))) == []


def test_what_is_claimed_and_what_is_mentioned() -> None:
    assert claimed(10, fault("nine", *range(9))) == "nine"
    assert claimed(10, fault("eight", *range(8))) is None
    assert [entry[0] for entry in ranked(10, fault("eight", *range(8)), fault("four", *range(4)))] == ["eight"]
    assert claimed(10, fault("wrong", *range(10), wrong=99)) is None
    assert claimed(10, fault("none")) is None


def test_those_that_speak_of_all_come_before_those_that_do_not() -> None:
    part, whole = fault("part", *range(10), known=5), fault("whole", *range(10))
    assert ranked(10, part, whole) == [("whole", 10, 10, 0), ("part", 5, 5, 0)]
    assert claimed(10, part) == "part"


def test_who_says_next_to_nothing_explains_nothing() -> None:
    assert claimed(12, fault("three", *range(12), known=3)) == "three"
    assert claimed(12, fault("two", *range(12), known=2)) is None


def test_bytes_are_compared_as_bytes() -> None:
    found = EXPECTED.copy()
    found[0, :10] -= 56
    layer, wide = Layer(EXPECTED, found), fault("wide", *range(10), wrong=200)
    assert [e.fault for e in explain(layer, True, [wide])] == ["wide"]
    assert explain(layer, False, [wide]) == ()
