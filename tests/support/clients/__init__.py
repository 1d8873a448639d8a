"""Other people's clients behind one face each: `produce(bootstrap, topic, samples, compression)`, `consume(…)`.

All write to and read from partition 0 by explicit assignment, so no consumer group is needed.
"""

CONSUME_SECONDS = 30.0
