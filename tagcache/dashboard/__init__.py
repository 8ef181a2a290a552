"""The page that the server shows at /: HTML, CSS and ES modules, served as they are."""
