"""What decides: plain classes without sockets, threads, clocks or randomness."""
