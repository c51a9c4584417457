"""The JSON Schema of ``evidence.json``, made of the types: ``python -m fathom.probing.evidence.schema`` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fathom.files.atomic import json_text, write_text
from fathom.probing.evidence.evidence import SCHEMA_VERSION, Evidence

SCHEMA = Path(__file__).with_name("evidence.schema.json")
"""As it is shipped."""


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``evidence.json``."""
    made = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Evidence)))  # defaults as JSON has them
    made["$defs"]["Evidence"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    made["$defs"]["Evidence"]["required"].append("schema_version")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Evidence of a Fathom probe run, version {SCHEMA_VERSION}",
        **made,
    }


if __name__ == "__main__":
    write_text(SCHEMA, json_text(schema()))
