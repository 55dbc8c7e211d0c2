"""One row per image: the columns of audit.parquet, from which every rate of an audit can be counted again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bangbench.auditing.evidence import Evidence
from bangbench.auditing.subject import Subject
from bangbench.nets.gradients import margin, true_logits


def schema_of(evidence: Evidence) -> pa.Schema:
    """Return the schema: the image, each attack's L_inf along a line (null: not flipped), each ball's verdict."""
    return pa.schema(
        [
            ("index", pa.int32()),
            ("label", pa.int16()),
            ("prediction", pa.int16()),
            ("attacked", pa.bool_()),
            ("true_logit", pa.float32()),
            ("margin", pa.float32()),
            *((f"{name}_linf", pa.float32()) for name in evidence.lines),
            *((f"{name}_within_{budget}", pa.bool_()) for name, budget in evidence.battery),
        ]
    )


def audit_table(subject: Subject, evidence: Evidence) -> dict[str, Any]:
    """Return the columns; distances and verdicts are null where an image was not attacked."""
    logits, labels = subject.logits, subject.labels
    attacked = subject.attacked.cpu().numpy()
    columns: dict[str, Any] = {
        "index": np.arange(len(labels)),
        "label": labels.cpu().numpy(),
        "prediction": logits.argmax(1).cpu().numpy(),
        "attacked": attacked,
        "true_logit": true_logits(logits, labels).cpu().numpy(),
        "margin": (-margin(logits, labels)).cpu().numpy(),
    }
    for name, line in evidence.lines.items():
        distance = _everywhere(line.linf, attacked, np.inf)
        columns[f"{name}_linf"] = np.ma.masked_array(distance, np.isinf(distance))
    for (name, budget), ball in evidence.battery.items():
        flipped = _everywhere(ball.flipped, attacked, False)
        columns[f"{name}_within_{budget}"] = np.ma.masked_array(flipped, ~attacked)
    return columns


def _everywhere(values: NDArray[Any], attacked: NDArray[np.bool_], fill: Any) -> NDArray[Any]:
    result = np.full(len(attacked), fill, dtype=values.dtype)
    result[attacked] = values
    return result
