"""A simulated llmster daemon, seeded and on a virtual clock. Shares no code with the product."""
