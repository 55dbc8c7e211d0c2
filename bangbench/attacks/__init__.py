"""Directions (fast gradient sign, hot/cold), the search along a direction, and the run over a data set."""
