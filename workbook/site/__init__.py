"""The published pages: the committed notebooks, the ledger, the leaderboard and the words, as one site."""
