"""Now `activsparse.train.plan.sensitivity`."""

from activsparse.train.plan.sensitivity import (
    SPARSITIES,
    Sensitivity,
    measure_sensitivity,
    write_sensitivity,
)

__all__ = ["SPARSITIES", "Sensitivity", "measure_sensitivity", "write_sensitivity"]
