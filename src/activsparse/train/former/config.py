"""Now `activsparse.train.recipes.config`."""

from activsparse.train.recipes.config import (
    Config,
    DataSection,
    DistillationSection,
    ModelSection,
    SearchSection,
    SparsitySection,
    TrainingSection,
    parse_config,
)

__all__ = [
    "Config",
    "DataSection",
    "DistillationSection",
    "ModelSection",
    "SearchSection",
    "SparsitySection",
    "TrainingSection",
    "parse_config",
]
