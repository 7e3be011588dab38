"""Makes the pocket models: reads the micro-world's corpus and writes the folders under data/models."""
