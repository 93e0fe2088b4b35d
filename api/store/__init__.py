"""Where plans are kept: rows in a database, bytes in a store of blobs."""
