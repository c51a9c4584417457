"""Pictures written as PNG: frames with their predictions, contact sheets, cues, trainings."""
