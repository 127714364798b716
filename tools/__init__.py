"""Programs beside the concept, started as `python -m tools.NAME`: zpd, report, compare, rescore, grade."""
