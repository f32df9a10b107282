"""Named benchmarks: conch and a peer server, side by side in one session, ratios of medians."""
