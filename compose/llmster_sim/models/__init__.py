"""The simulated models: catalogue, load configuration, memory estimate, prompts, generated text."""
