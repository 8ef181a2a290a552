"""An application of the project in django_project."""
