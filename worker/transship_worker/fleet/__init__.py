"""What all workers share in Redis: upload leases, known blobs, rate limits, pauses."""
