"""What a model wrote: reasoning, answer and tool calls told apart by the markers of its family."""
