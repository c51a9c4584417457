"""The renderer of the ``rooms`` data: random furnished rooms, path-traced, with exact depth, normals and object ids."""

from fathom.render.rooms import VARIANTS as VARIANTS
from fathom.render.rooms import render_rooms as render_rooms
