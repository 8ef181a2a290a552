"""The asynchronous operations; ``make unasync`` generates the blocking ones from them."""
