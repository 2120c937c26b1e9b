"""What flows, steps and executions are: plain values, checked and compared, and their JSON."""
