"""Every operator and panel of the plugin; ``fiftyone.yml`` lists the same names."""

from __future__ import annotations

from .dreambooth import ExportDreamBooth
from .evaluation import CompareRuns, Evaluate
from .everything import SegmentEverything
from .handover import ExportMasks, PromoteMasks
from .importing import ImportPerSeg
from .managing import (
    AdoptRun,
    DeleteRun,
    Doctor,
    ListRuns,
    RenameRun,
    ResumeRun,
    ShowFailures,
    StopRun,
)
from .panel import ReviewPanel
from .reviewing import AcceptMasks, EditMask, RejectMasks, SetPresenceThreshold, UndoReview
from .segment import SegmentFromOpened, SegmentFromReference
from .segment_again import SegmentAgain
from .suggesting import SuggestReference
from .watching import ShowRun, WatchRuns

OPERATORS = (
    SegmentFromReference,
    SegmentFromOpened,
    SegmentAgain,
    SegmentEverything,
    SuggestReference,
    Evaluate,
    ImportPerSeg,
    AcceptMasks,
    RejectMasks,
    UndoReview,
    SetPresenceThreshold,
    EditMask,
    CompareRuns,
    PromoteMasks,
    ExportMasks,
    ExportDreamBooth,
    ListRuns,
    ShowFailures,
    ResumeRun,
    StopRun,
    RenameRun,
    AdoptRun,
    DeleteRun,
    Doctor,
    WatchRuns,
    ShowRun,
    ReviewPanel,
)
