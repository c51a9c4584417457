"""What readers refuse before they decode it: a header can claim anything."""

from __future__ import annotations

MOST_PIXELS = 100_000_000
"""Pixels of one image or depth map."""
