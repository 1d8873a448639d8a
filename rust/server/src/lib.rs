//! TCP listeners: connections, framing, writers of bytes and file ranges
