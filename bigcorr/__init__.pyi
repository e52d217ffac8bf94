from . import measures as measures
from . import subpix as subpix
from .maps import gaussian_blur as gaussian_blur
from .maps import mean_ssim as mean_ssim
from .maps import ncc as ncc
from .maps import ssim as ssim
from .motion import displacement as displacement
from .pairs.agreement import rank_agreement as rank_agreement
from .pairs.api import pairwise as pairwise
from .pairs.clusters import cluster_channels as cluster_channels
from .pairs.ranking import rank_pairs as rank_pairs
from .raster import open_raster as open_raster
from .raster import save_raster as save_raster
from .regions import peak_regions as peak_regions
from .registration import Registration as Registration
from .registration import apply_affine as apply_affine
from .registration import apply_shift as apply_shift
from .registration import register as register
from .run.check import check_store as check_store
from .run.cluster import connect as connect
from .run.rank_job import write_ranking as write_ranking
from .texture import lbp_histogram as lbp_histogram
from .texture import local_binary_pattern as local_binary_pattern

__version__: str
