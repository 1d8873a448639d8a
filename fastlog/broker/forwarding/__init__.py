"""What a broker of a cluster has the controller do: whoever is asked by a client forwards, and waits until it knows."""
