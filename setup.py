"""Puts the folders sql/ and configs/ of a checkout into the package when a wheel is built; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

SQL = ["schema", "views", "queries", "checks"]
setup(
    packages=[*find_packages(include=["saebias*"]), "saebias._configs", "saebias._sql", *(f"saebias._sql.{name}" for name in SQL)],
    package_dir={"saebias": "saebias", "saebias._configs": "configs", "saebias._sql": "sql", **{f"saebias._sql.{name}": f"sql/{name}" for name in SQL}},
)
