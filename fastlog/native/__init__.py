"""The compiled core; the only package that imports the compiled modules."""
