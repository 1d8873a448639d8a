"""`fastlog bench groups`: what consumer groups cost a broker."""
