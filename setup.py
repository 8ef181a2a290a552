"""Lets tools that run setup.py build the package; what it is made of stands in pyproject.toml."""

from setuptools import setup

setup()
