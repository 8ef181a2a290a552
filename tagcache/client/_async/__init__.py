"""One half of the clients: ``make unasync`` generates the blocking half from the other one."""
