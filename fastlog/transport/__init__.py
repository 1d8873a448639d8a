"""Bytes between processes: ZeroMQ and TCP sockets. The only package that imports zmq."""
