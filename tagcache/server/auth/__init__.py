"""Authentication: credentials, tokens, throttling of guesses, rate limits."""
