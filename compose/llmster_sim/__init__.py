"""A simulated llmster daemon, seeded and on a virtual clock. Shares no code with the product.

Words on where facts come from: `official` is LM Studio's open schemas and wire framework, `recorded` a frame
seen between official clients and a server, `published` a sample an operator made public, `Observed:` something
inferred from those, `Assumed:` a guess.
"""
