"""Recipes: what a training run is told, in YAML files; some are shipped here by name."""
