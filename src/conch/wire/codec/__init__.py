"""What both protocols do to a request or response between their own encoding and the server's values."""
