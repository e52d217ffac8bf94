"""What the report says in plain words about each measure and each part. Text only."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """How to read a measure, and what it cannot see."""

    reads: str
    blind: str


MEASURES = {
    "moran": Note(
        "Does the second channel, averaged over the neighbouring pixels, rise where the first one "
        "does? The two directions differ; the ranking takes their mean.",
        "what happens at a pixel itself, and anything further away than its neighbours.",
    ),
    "lee": Note(
        "Do the two channels rise and fall together, each averaged over the neighbours of a pixel? "
        "Smooth channels reach higher values than grainy ones.",
        "what happens at a pixel itself, and anything further away than its neighbours.",
    ),
    "pearson": Note(
        "Do two channels rise and fall together, pixel by pixel, over the whole raster? "
        "+1 is the same pattern at any level, 0 is no relation, −1 is one where the other is not.",
        "where on the raster the likeness comes from. A few very bright places can carry the "
        "value, and two structures side by side, further apart than the blur, do not match.",
    ),
    "cosine": Note(
        "How much of two channels lies in the same pixels, as an angle: 1 is the same pattern at "
        "any level, 0 means that they never share a pixel.",
        "what two channels would share by chance. The mean is not removed, so two channels that "
        "are found everywhere are alike whatever their pattern.",
    ),
    "spearman": Note(
        "Do two channels rise and fall together by rank: is a pixel that is high among the pixels "
        "of one channel high among those of the other? A few very bright places do not carry it.",
        "how much brighter a place is than another. In sparse counts most pixels share the rank "
        "of zero, and what is left is whether they are zero together.",
    ),
    "roi_pearson": Note(
        "Where at least one of two channels is near its peak, do they rise and fall together? "
        "Only the union of the two peak regions is looked at.",
        "everything below both peaks. Channels that peak in different places have negative "
        "values by construction, so it compares peaks and says nothing of chance.",
    ),
    "ssim": Note(
        "Are small windows of two channels alike in level, contrast and pattern, each channel "
        "scaled to its own range? 1 is the same image.",
        "which windows matter. All count alike, and where both channels are empty they are the "
        "same, so sparse channels are alike whatever their pattern.",
    ),
    "lbp": Note(
        "Do two channels have the same texture: do the same small patterns of brighter and "
        "darker neighbours occur as often?",
        "where a pattern lies. Two channels of the same texture in different places are alike.",
    ),
    "wasserstein": Note(
        "How far, in pixels, would the mass of one channel have to be moved to lie as that of the "
        "other? It is seen along lines from all sides.",
        "anything finer than a cell of the grid, and how much there is in all: each channel is "
        "scaled to the same total.",
    ),
    "sinkhorn": Note(
        "How far, in pixels, would the mass of one channel have to be moved to lie as that of the "
        "other, if the moves may be spread a little?",
        "anything finer than a cell of the coarse grid. A channel is not quite at distance 0 from "
        "itself.",
    ),
    "emd": Note(
        "How far, in pixels, would the mass of one channel have to be moved to lie as that of the "
        "other?",
        "anything finer than a cell of the coarse grid, and how much there is in all.",
    ),
    "ncc": Note(
        "Do two channels have the same shape inside small windows? Each window is freed of its "
        "own level and weighted by its contrast, so an empty background says nothing and a "
        "pattern against a flat field counts as 0.",
        "anything much broader than the window: a slow gradient, or the inside of a wide layer, "
        "is flat in every window. Use a larger blur and window to see those.",
    ),
}

KINDS = {
    "similarity": Note("The larger the value, the more alike two channels are.", ""),
    "distance": Note("The smaller the value, the more alike two channels are.", ""),
}

HEATMAP = (
    "Every channel against every other. Channels are ordered so that similar ones stand together "
    "(average linkage), so a group that shares a pattern shows as a block on the diagonal."
)
HEATMAP_AGAINST = "The chosen channels (rows) against all, from the most to the least similar."

HEATMAP_SAMPLE = (
    "An even sample of {shown:,} of {all:,} channels is shown; clusters are those of the sample."
)

GROUPS = (
    "The tree above the map, cut where the clusters stand apart best (highest mean silhouette of 2 "
    "to 40). They are outlined on the map, and the largest are listed here. Clusters are a "
    "summary: look at the mean inside before you take one for real."
)

VOLCANO = (
    "Each pair by its value and its q, the surest at the top: {sure:,} of {all:,} pairs have "
    "q &lt; {level:g}. A pair far to a side but low has a high value that chance can give; one "
    "near the middle but high is weak and real. {named}"
)
VOLCANO_SAMPLE = "A fixed random sample of {shown:,} of {all:,} pairs is shown. "

AGREEMENT = (
    "Spearman's correlation of two rankings of all pairs: 1 where two measures rank them alike, 0 "
    "where the one says nothing of the other. Measures that disagree see different things, so a "
    "pair that leads by both deserves more trust than one that leads by one."
)

PAIRS = (
    "The two channels as they lie on the raster, and how alike they are around each place: red "
    "where they rise and fall together, blue where one rises as the other falls, white where they "
    "are unrelated. Pairs flagged for few counts are passed over."
)

TABLE = (
    "A high value is not yet evidence. <b>z</b> is the value in units of its spread between "
    "unrelated channels that are as smooth as these two; <b>p</b> is how often such channels come "
    "out at least as far from zero; <b>q</b> is the share of false finds to expect among all "
    "pairs up to this one."
)
TABLE_BARE = "This result holds no significance for the measure, so z, p and q are left out."

TRUTH = (
    "The stack is simulated and its groups are known. Average precision is 1 where all pairs of a "
    "group come before all others. A low value names the kind of pattern that the measure does "
    "not see. A kind's row takes the pairs with at least one channel of that kind."
)


FOOTER = (
    "Made by bigcorr on {:%Y-%m-%d %H:%M %Z}. This page is one file and loads nothing from the "
    "network."
)


def note_of(measure: str, kind: str) -> Note:
    """The note of a measure; one by its kind where there is none of its own."""
    return MEASURES.get(measure, KINDS[kind])
