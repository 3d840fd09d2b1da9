"""High-precision reference values and their scripts; imports nothing from `replica`."""
