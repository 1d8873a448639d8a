"""The replicas that this broker holds in a cluster: led, followed, put away; and what it knows of the cluster."""
