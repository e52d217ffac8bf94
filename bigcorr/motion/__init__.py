"""Motion: `displacement` finds where each part of one image lies in another, on a grid of nodes.

Only names live here. `api` is the public function, `plan` its parameters and passes, `passes` runs
them; `tile` measures one tile of nodes from its `pixels` by `search`; `grids` is what was found and
the flow made of it, `start` what to start from, `result` what a user gets.
"""

from bigcorr.motion.api import displacement

__all__ = ["displacement"]
