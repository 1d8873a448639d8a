"""Groups whose members share out partitions among themselves: Kafka's classic group protocol."""
