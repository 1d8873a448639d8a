"""What tests and trials start: pytest's fixtures (`plugin`), a real ZooKeeper (`zookeeper`)."""
