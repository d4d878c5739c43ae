"""Panels for notebooks: figures, players, long work, the map, the probe view, the steering view."""
