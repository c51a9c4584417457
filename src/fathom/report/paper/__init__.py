"""What a paper takes from a run: table, figures, a paragraph of methods."""
