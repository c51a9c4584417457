"""The report of a probe run: page, charts, tables, words."""
