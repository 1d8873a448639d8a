"""What brokers say to each other beside Kafka's replica fetches: commands, and the controller's metadata."""
