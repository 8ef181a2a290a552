"""Who gets in: credentials, tokens, throttling of guesses, rates."""
