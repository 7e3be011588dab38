"""Builds the web site: the committed notebooks, the ledger, the leaderboard, the guides and the helpers' reference."""
