"""How blame travels back through a net and through time: the credit rules."""

from timecell.credit.bptt import BPTT, SLTT, TruncatedBPTT
from timecell.credit.rule import Credit

__all__ = ["BPTT", "SLTT", "Credit", "TruncatedBPTT"]
