"""Fathom: what does a vision model know about depth, and how well can depth be read from one image?

The public names, imported when first used so that ``import fathom`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset as Dataset
    from fathom.data.loading import collate as collate
    from fathom.data.sources import load as load
    from fathom.depth_models.model import DepthMaps as DepthMaps
    from fathom.depth_models.model import DepthModel as DepthModel
    from fathom.depth_models.opening import open_depth_model as open_depth_model
    from fathom.depth_models.predict import predict as predict
    from fathom.depth_models.prediction import Prediction as Prediction
    from fathom.depth_models.scale import Known as Known
    from fathom.encoders.base import Encoder as Encoder
    from fathom.errors import FathomError as FathomError
    from fathom.evaluation.evaluate import evaluate as evaluate
    from fathom.evaluation.result import Evaluation as Evaluation
    from fathom.features import Feature as Feature
    from fathom.features.registry import feature as feature
    from fathom.probing.evidence.evidence import Evidence as Evidence
    from fathom.probing.linear.estimator import LinearProbe as LinearProbe
    from fathom.probing.probe import probe as probe
    from fathom.sample import Intrinsics as Intrinsics
    from fathom.sample import Sample as Sample
    from fathom.training.train import train as train

__version__ = "0.1.0"

_PUBLIC = {
    "Dataset": "fathom.data.dataset",
    "load": "fathom.data.sources",
    "collate": "fathom.data.loading",
    "Encoder": "fathom.encoders.base",
    "FathomError": "fathom.errors",
    "Feature": "fathom.features",
    "feature": "fathom.features",
    "Evaluation": "fathom.evaluation.result",
    "evaluate": "fathom.evaluation.evaluate",
    "Evidence": "fathom.probing.evidence.evidence",
    "DepthMaps": "fathom.depth_models.model",
    "DepthModel": "fathom.depth_models.model",
    "open_depth_model": "fathom.depth_models.opening",
    "Known": "fathom.depth_models.scale",
    "Prediction": "fathom.depth_models.prediction",
    "predict": "fathom.depth_models.predict",
    "LinearProbe": "fathom.probing.linear.estimator",
    "probe": "fathom.probing.probe",
    "train": "fathom.training.train",
    "Intrinsics": "fathom.sample",
    "Sample": "fathom.sample",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fathom' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
