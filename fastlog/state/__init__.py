"""What decides, without sockets, clocks, threads or randomness: events and the time go in, effects come out."""
