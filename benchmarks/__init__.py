"""Comparison suites, their runner and reports, and measurements of speed."""
