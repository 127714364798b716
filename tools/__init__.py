"""Programs beside the concept, started as `python -m tools.NAME` in the repository: zpd, report, compare, rescore, grade."""
