"""Running jobs: plan, memory, checkpoints, pools of workers. No formulas live here."""
