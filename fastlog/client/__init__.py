"""The Python SDK: producer, consumer and admin client, over ZeroMQ where a cluster has it and TCP everywhere."""
