"""What a quantised model computes by the definitions of its operators, exactly.

Integers are integers, everything between them is double precision, and a result says how far it may
move where a value lies next to a rounding boundary. Nothing here knows of the engine: it is what
`activsparse verify` and the tests hold the engine to, slow and plain.
"""

from activsparse.engine.exact.model import SLACK, ExactModel
from activsparse.engine.exact.span import Span

__all__ = ["SLACK", "ExactModel", "Span"]
