"""The export programs: `python -m export`, or `effnet-export` once installed."""
