"""Render the rooms that come with the package: the command that made src/fathom/data/rooms_data (see docs/rooms.md for what may differ).

python scripts/render_rooms.py src/fathom/data/rooms_data
"""

import sys
from pathlib import Path

from fathom.render import VARIANTS, render_rooms

render_rooms(
    Path(sys.argv[1]), rooms=112, views=4, size=(96, 128), seed=2026, variants=VARIANTS, spp=40, variant_rooms=20
)
