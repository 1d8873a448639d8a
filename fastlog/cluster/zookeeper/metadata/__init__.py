"""`MetadataStore` in ZooKeeper, and the reading and writing that it consists of."""
