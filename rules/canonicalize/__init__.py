"""One file a spelling; :data:`RULES` is their order: constants and empty operators, shapes of the layers, folding."""

from __future__ import annotations

from onnxdiana.rules.canonicalize import (
    auto_pad,
    average_pool,
    batch_norm,
    batch_norm_alone,
    bias,
    circular_pad,
    clip,
    constants,
    gemm,
    matmul,
    no_op,
    pad,
    reduce_mean,
    reshape,
)
from onnxdiana.rules.canonicalize.base import Rule

RULES: tuple[Rule, ...] = (
    constants.RULE,
    no_op.RULE,
    matmul.RULE,
    gemm.RULE,
    reduce_mean.RULE,
    average_pool.RULE,
    reshape.RULE,
    auto_pad.RULE,
    circular_pad.RULE,
    pad.RULE,
    bias.RULE,
    batch_norm.RULE,
    clip.RULE,
    batch_norm_alone.RULE,
)
"""Applied in this order, round after round until none fits any more; the last one only where no other fits."""
