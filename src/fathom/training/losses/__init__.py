"""Losses between a predicted and a true map."""

from fathom.training.losses.losses import DENSE_DEPTH as DENSE_DEPTH
from fathom.training.losses.losses import LOSSES as LOSSES
from fathom.training.losses.losses import Objective as Objective
from fathom.training.losses.losses import WeightedSum as WeightedSum
from fathom.training.losses.losses import objective as objective
