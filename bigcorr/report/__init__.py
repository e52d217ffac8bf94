"""The report of a result: one self-contained HTML file, and the figures that it is made of."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "figures": ["heatmap", "pair_panel"],
        "html": ["write_report"],
        "ordering": ["cluster"],
    },
)
