"""What only one lesson needs: its exercises and their checks, its figures, its experiment.

A lesson may use pieces of earlier lessons, never of later ones. What several lessons share is a module of `helpers`.
"""
