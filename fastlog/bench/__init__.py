"""`fastlog bench`: what this machine and this build reach, each beside the limit that it cannot pass.

One file per bench; what they share is in `harness`. Each bench is a function that blocks and returns its results; the
command line (`fastlog.cli.bench`) reads options and prints.
"""
