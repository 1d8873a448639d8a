"""The decisions themselves: a state and what is known of the brokers go in, the next state comes out."""
