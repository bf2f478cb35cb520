"""Now `activsparse.train.recipes.read`."""

from activsparse.train.recipes.read import (
    differences,
    dump_config,
    load_config,
    read_config,
    recipe_names,
)

__all__ = ["differences", "dump_config", "load_config", "read_config", "recipe_names"]
