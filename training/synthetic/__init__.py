"""What the sample films are drawn by."""
