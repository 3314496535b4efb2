"""What a worker does with any job: claim, heartbeat, run, retry, finish."""
