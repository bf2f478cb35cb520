"""Now `activsparse.train.learning.average` and `activsparse.train.callbacks.averaging`."""

from activsparse.train.callbacks.averaging import Averaging
from activsparse.train.learning.average import make_average

__all__ = ["Averaging", "make_average"]
