"""What is common to all kinds of job: claim, heartbeat, run, retry, finish."""
