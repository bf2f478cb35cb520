"""Deciding sparsities: measured losses, estimated times, and the choice between them."""
