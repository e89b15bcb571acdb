"""How blame travels back through a net and through time: the credit rules, and the parts they are made of.

Rules: `BPTT`, `TruncatedBPTT`, `SLTT`, `OTTT`, `EProp`, `TESS`, `RTRL`. Parts, and how to make one's own rule of them: see
`Rule`. `check` holds any rule, yours too, to what it promises.
"""

from timecell.credit.bptt import BPTT, SLTT, TruncatedBPTT
from timecell.credit.checks import check
from timecell.credit.compose import Rule
from timecell.credit.continual import Replay
from timecell.credit.counter_current import CounterCurrent, with_counter_current
from timecell.credit.fine_tune import FineTune
from timecell.credit.group_policy import GroupPolicy
from timecell.credit.layers import Layer, layers_of
from timecell.credit.online import OTTT, TESS, EProp
from timecell.credit.project import HebbianProjection, HebbianSubspace, with_lateral_units
from timecell.credit.rtrl import RTRL
from timecell.credit.rule import Credit
from timecell.credit.schedule import Curriculum
from timecell.credit.space_paths import Backprop, FixedFeedback, Lesson, LocalHead, ReadoutFeedback, SpacePath
from timecell.credit.time_paths import Full, Instantaneous, RandomSteps, TimePath, Truncated
from timecell.credit.traces import Eligibility, PresynapticTrace, TracePair
from timecell.credit.updates import Factors, Gradient, OrthogonalProjection, Update

__all__ = [
    "BPTT",
    "OTTT",
    "RTRL",
    "SLTT",
    "TESS",
    "Backprop",
    "CounterCurrent",
    "Credit",
    "Curriculum",
    "EProp",
    "Eligibility",
    "Factors",
    "FineTune",
    "FixedFeedback",
    "Full",
    "Gradient",
    "GroupPolicy",
    "HebbianProjection",
    "HebbianSubspace",
    "Instantaneous",
    "Layer",
    "Lesson",
    "LocalHead",
    "OrthogonalProjection",
    "PresynapticTrace",
    "RandomSteps",
    "ReadoutFeedback",
    "Replay",
    "Rule",
    "SpacePath",
    "TimePath",
    "TracePair",
    "Truncated",
    "TruncatedBPTT",
    "Update",
    "check",
    "layers_of",
    "with_counter_current",
    "with_lateral_units",
]
