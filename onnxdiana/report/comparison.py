"""The terminal's and programs' view of a comparison (docs/compare.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from onnxdiana.compare import Compared, Comparison
from onnxdiana.compare.departures import Departure
from onnxdiana.compare.judge import Explanation
from onnxdiana.compare.tensors import OUTPUT
from onnxdiana.report.tables import counted, share, sizes

FORMAT, VERSION = "onnxdiana.comparison", 1
_MOST_SAMPLES = 4
"""Whose departures are told on a terminal."""
_MOST_NAMES = 6
_MOST_CAUSES = 3
_AXES = {2: "nc", 3: "ncl", 4: "nchw", 5: "ncdhw"}


def text(found: Comparison) -> str:
    """What departs first and why, sample by sample; what was not compared."""
    lines, departing = list[str](), [sample for sample in found.samples if sample.departures]
    for sample in departing[:_MOST_SAMPLES]:
        lines += _departures(sample)
    if len(departing) > _MOST_SAMPLES:
        lines.append(f"and {counted(len(departing) - _MOST_SAMPLES, 'more sample')}; --json tells all")
    lines += [f"WARNING: {line}; what it should be was computed again" for line in found.damaged[:_MOST_NAMES]]
    if found.ignored:
        lines.append(f"not compared, since no tensor of the integer model is called so: {_names(found.ignored)}")
    dumped = sum(len(sample.tensors) for sample in found.samples)
    wrong = sum(len(sample.departures) for sample in found.samples)
    lines.append(f"{'ok: ' if found.ok else ''}{dumped - wrong} of {counted(dumped, 'dumped tensor')} equal on "
                 f"{counted(len(found.samples), 'sample')}; the network has {found.tensors}")
    return "\n".join(lines)


def _departures(sample: Compared) -> Iterator[str]:
    first, *behind = sample.departures
    yield (f"FAILED: sample {sample.sample}: '{first.tensor.name}' ({first.tensor.stem}, {_maker(first)}, "
           f"{sizes(first.tensor.shape[1:])}) in {first.source} is the first dumped tensor that departs")
    yield f"  {_where(first)}"
    yield from (f"  {line}" for line in _causes(first))
    if first.not_dumped:
        yield (f"  {counted(len(first.not_dumped), 'layer')} in front of it {_were(first.not_dumped)} not dumped: "
               f"{_names(first.not_dumped)}; the fault may lie there")
    if sample.readers_right:
        yield "  the dumped layers that read it are right: the dump of it is off, or its layout, not what was computed"
    follows = [entry.tensor.name for entry in behind if entry.follows]
    if follows:
        yield f"  behind it, right for what was dumped before them: {_names(follows)}"
    alike = [entry.tensor.name for entry in behind if _alike(entry, first)]
    if alike:
        yield f"  behind it, explained by the same cause: {_names(alike)}"
    for entry in [entry for entry in behind if entry.follows is False and not _alike(entry, first)][:_MOST_NAMES]:
        told = entry.cause.text if entry.cause else "no known cause explains it"
        yield f"  '{entry.tensor.name}' ({_maker(entry)}) departs by itself, given what was dumped before it: {told}"
    unknown = [entry.tensor.name for entry in behind if entry.follows is None and not _alike(entry, first)]
    if unknown:
        yield f"  behind it, departing as well: {_names(unknown)}"


def _alike(entry: Departure, first: Departure) -> bool:
    return entry.cause is not None and first.cause is not None and entry.cause.fault == first.cause.fault


def _maker(entry: Departure) -> str:
    return f"{entry.tensor.operator} -> '{entry.tensor.node}'"


def _where(entry: Departure) -> str:
    size = "" if entry.dumped == entry.elements else f"; the dump has {entry.dumped} elements"
    if entry.index is None:
        return f"all {entry.elements} elements are as expected, but the dump has {entry.dumped}"
    axes = ", ".join(_AXES.get(len(entry.index), "ncdhw"))
    at = ", ".join(map(str, entry.index))
    steps = f" (in steps of 2^{entry.tensor.exponent})" if entry.tensor.stem == OUTPUT else ""
    return (f"at ({axes}) = ({at}): expected {_number(entry.expected)}, found {_number(entry.found)}{steps}; "
            f"{entry.different} of {entry.elements} elements differ ({share(entry.different, entry.elements)}), by at "
            f"most {_number(entry.largest)}{size}")


def _causes(entry: Departure) -> Iterator[str]:
    claimed = entry.cause
    if claimed is None:
        yield f"no known cause explains it; the different elements lie in {_region(entry)}"
    rest = list(entry.explanations[:_MOST_CAUSES])
    if claimed is not None:
        rest = rest[1:]
        yield f"likeliest cause: {claimed.text}; {_evidence(claimed)}"
    for other in rest:
        yield f"also possible: {other.text}; {_evidence(other)}"
    if claimed is not None and claimed.few:
        yield "so few elements differ that this may be chance: compare more samples ('onnxdiana quantize --vectors N')"


def _evidence(found: Explanation) -> str:
    against = f", but would change {found.contradicted} that are as expected" if found.contradicted else ""
    where = " of which it tells something" if found.partial else ""
    if found.fault == "padding-to-16" and not found.partial:
        return f"with the padding taken out {found.explained} of {found.different} elements are as expected"
    return f"explains {found.explained} of {found.different} different elements{where}{against}"


def _region(entry: Departure) -> str:
    names = {2: ("sample", "channels"), 3: ("sample", "channels", "positions"),
             4: ("sample", "channels", "rows", "columns")}.get(len(entry.region), ())
    if not names:
        return "all of it"
    return ", ".join(f"{name} {lo} to {hi}" for name, (lo, hi) in list(zip(names, entry.region, strict=True))[1:])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"


def _were(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def as_json(found: Comparison) -> str:
    """The same for programs."""
    return json.dumps({
        "format": FORMAT, "version": VERSION, "ok": found.ok, "tensors": found.tensors,
        "ignored": list(found.ignored), "damaged_vectors": list(found.damaged),
        "samples": [{
            "sample": sample.sample, "dumped": list(sample.tensors), "readers_right": sample.readers_right,
            "departures": [_departure(entry) for entry in sample.departures],
        } for sample in found.samples],
    }, indent=1)


def _departure(entry: Departure) -> dict[str, object]:
    return {
        "tensor": entry.tensor.name, "file": entry.tensor.stem, "operator": entry.tensor.operator,
        "node": entry.tensor.node, "shape": list(entry.tensor.shape), "source": entry.source,
        "index": None if entry.index is None else list(entry.index),
        "expected": _exact(entry.expected), "found": _exact(entry.found),
        "different": entry.different, "elements": entry.elements, "dumped_elements": entry.dumped,
        "largest_difference": _exact(entry.largest), "region": [list(axis) for axis in entry.region],
        "not_dumped": list(entry.not_dumped), "follows": entry.follows,
        "cause": None if entry.cause is None else entry.cause.fault,
        "explanations": [{"cause": e.fault, "text": e.text, "explained": e.explained, "different": e.different,
                          "contradicted": e.contradicted, "partial": e.partial, "exact": e.exact}
                         for e in entry.explanations],
    }


def _exact(value: float | None) -> float | int | None:
    """Whole numbers as such."""
    return int(value) if value is not None and value.is_integer() else value
