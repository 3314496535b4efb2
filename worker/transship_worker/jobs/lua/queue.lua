-- The queue that a job waits in, and what Flower shows of it. ARGV: conf, id.
return {queue_of(ARGV[2]), display_of(ARGV[2])}
