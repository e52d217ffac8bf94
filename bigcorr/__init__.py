"""Out-of-core, distributed similarity of very large rasters.

The public names, nothing else. They load on first use, so that ``bigcorr --help`` and
``import bigcorr`` stay quick; ``__init__.pyi`` beside this file lists them for editors and mypy.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
