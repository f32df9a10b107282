"""Load generation against a running server, through its public protocols alone: conch's or Triton's."""
