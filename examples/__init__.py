"""Three small sites that keep their pages in TagCache; see README.md."""
