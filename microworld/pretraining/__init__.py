"""How the pocket models are made: from the micro-world's corpus to the folders under data/models."""
