"""Where the package's files lie; pyproject.toml holds everything else.

The shipped configs and the notebook are top-level folders of a checkout, and lie beside the code.
"""

from setuptools import find_packages, setup

SHIPPED = {"poolblend.configs": "configs", "poolblend.notebooks": "notebooks"}

setup(
    packages=[*find_packages("src"), *SHIPPED],
    package_dir={"": "src", **SHIPPED},
    package_data={
        "poolblend": ["supported.txt"],
        "poolblend.configs": ["*.yaml", "presets/*.yaml"],
        "poolblend.notebooks": ["*.ipynb"],
    },
)
