"""High-precision reference values and the scripts that make them; imports nothing from `replica`."""
