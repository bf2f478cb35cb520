"""Now `activsparse.train.run.interrupt`."""

from activsparse.train.run.interrupt import Interrupted, Interruption

__all__ = ["Interrupted", "Interruption"]
