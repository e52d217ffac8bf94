"""Job files: what a YAML file may say, checked before anything runs."""

from bigcorr.jobs.files import build, load_job, near
from bigcorr.jobs.models import COMMANDS, Job, Measure, Settings, Step

__all__ = ["COMMANDS", "Job", "Measure", "Settings", "Step", "build", "load_job", "near"]
