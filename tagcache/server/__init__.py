"""What listens, answers and looks after itself."""
