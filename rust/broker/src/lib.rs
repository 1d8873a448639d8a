//! The partitions led here and one file per data-plane API; no sockets
