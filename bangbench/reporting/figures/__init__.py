"""Figures of a report: what can be drawn of a group, and how it is written."""
