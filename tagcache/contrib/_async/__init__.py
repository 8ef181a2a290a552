"""One half of the backends: ``make unasync`` generates the blocking half from the other one."""
