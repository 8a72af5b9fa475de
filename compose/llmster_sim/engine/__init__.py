"""The simulated daemon itself: instances, queues, slots, loads, and the log events they leave."""
