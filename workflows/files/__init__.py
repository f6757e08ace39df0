"""Text files and tables as people write them, and files that are whole or not there."""
