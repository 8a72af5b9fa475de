"""Free GPU memory and what past loads took."""
