"""What the whole package is built on; nothing here is public."""
