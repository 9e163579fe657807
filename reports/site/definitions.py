"""Every word and number of the report, defined in two sentences.

Knows the run's vocabulary; knows nothing of HTML. A definition is shown where the run has what it defines.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """A word as the method page explains it."""

    anchor: str  # its place on the page, which numbers elsewhere link to
    title: str
    text: str
    study: str = ""  # that the run must have; empty: always shown


DEFINITIONS = (
    Definition(
        "activation",
        "Activation",
        "The pre-activation: what the convolution gives, with its bias and folded batch normalisation, before the "
        "non-linearity. The number beside a picture was measured by sending that 8-bit picture through ONNX Runtime, "
        "not read off the optimiser.",
    ),
    Definition(
        "channel",
        "Channel picture",
        "An image that gradient ascent found to raise the mean of the channel’s whole map (Erhan et al. 2009, Olah "
        "et al. 2017). It shows what the channel responds to wherever it may stand, so patterns repeat; its canvas "
        "has room for a few neurons.",
    ),
    Definition(
        "neuron",
        "Neuron picture",
        "An image that gradient ascent found to raise one neuron, one place of the map. It is as large as the "
        "neuron’s receptive field, all that this neuron can see, or as the network’s input where that is smaller.",
    ),
    Definition(
        "accentuation",
        "Accentuation",
        "A few steps of the same ascent that begin at the patch of your images over which the mean of the channel’s "
        "map is highest, at three quarters of its contrast. What the channel likes of the patch becomes stronger, and "
        "the rest fades.",
    ),
    Definition(
        "negative",
        "Negative picture",
        "An image that gradient ascent found to push the mean of the channel’s map as low as it can: what turns the "
        "channel off. Lower is better here: it counts as raised where its activation is below that of every random "
        "image.",
    ),
    Definition(
        "diversity",
        "Diversity pictures",
        "Four images of one channel, found together, with a penalty where they look alike to the layer: where they "
        "differ, the channel responds to more than one thing. Where each two agree in colour and form (a concordance "
        "correlation of 0.75 or more at 32 pixels, Lin 1989), the highest alone is shown.",
    ),
    Definition(
        "first",
        "First picture",
        "A quick picture, of fewer steps than were asked for and perhaps smaller, with numbers of its own. A finer one "
        "replaces it when the run goes on.",
    ),
    Definition(
        "analytic",
        "Analytic picture",
        "Where a layer sees the image directly, one neuron is a linear function of the pixels, so its best image is "
        "known by formula: the high end of the range where the weight is positive, the low end where it is negative. "
        "For deeper layers the same rule gives the pattern in the layer’s own input that excites the neuron most: one "
        "patch per input channel, in rows, white for high, black for low, grey where the weight is 0.",
    ),
    Definition(
        "robust",
        "After jitter",
        "The mean of the picture’s number over 16 small shifts of it, up to 4 % of its side in whole pixels; a picture "
        "of at most 12 pixels is too small to shift. A picture that keeps its number shows a pattern; one that loses "
        "it shows a single arrangement of pixels.",
    ),
    Definition(
        "random",
        "Best random",
        "The highest value that the same number, mean or neuron, has on 16 random images of the same size. A picture "
        "must exceed it to mean anything.",
    ),
    Definition(
        "bound",
        "At most, exact best, reached",
        "What no picture of the same size can exceed, in the mean of the map for a channel picture (one place may go "
        "higher) or in the one neuron for a neuron picture: proven by interval arithmetic (usually far too high), by "
        "linear relaxations where those are cheap (closer), or exact where a formula is known. “Reached” is the "
        "picture’s number as a share of it; whether the rest can be reached is unknown.",
    ),
    Definition(
        "unraised",
        "Unraised",
        "The optimised picture does not beat the best random image. This is a failure of the search, or a channel "
        "that hardly varies; it is no proof that the channel is useless.",
    ),
    Definition(
        "constant",
        "Constant",
        "The channel gave one and the same number for everything that was measured: maximised pictures, random "
        "images, your images, the data set. Its weights are zero, or its input never changes; this is observed, not "
        "proven.",
    ),
    Definition(
        "dead",
        "Dead",
        "Proven for every image there is: the activation is never positive, so the ReLU behind it always answers 0. "
        "Unraised is an observation, dead is a proof; the two are never mixed here.",
    ),
    Definition(
        "diverged",
        "Diverged",
        "The optimisation ended in infinite or undefined numbers, or the network itself answers with NaN or infinity. "
        "There is no result, and any picture shown is marked as such.",
    ),
    Definition(
        "maps",
        "Activation maps",
        "A channel’s pre-activations on an image, one colour a neuron (viridis, van der Walt and Smith 2015: violet is "
        "low, yellow high), stretched over the image in grey, of which low values let more through. “Highest” is the "
        "value of one place, “mean” that of all places, as for a channel picture; maps are reduced to 48 pixels on a "
        "layer’s page and to 112 on an image’s.",
    ),
    Definition(
        "scale",
        "Common scale, own scale",
        "On the common scale all maps of a channel on your images share one range, from the lowest value on any of "
        "them to the highest; where a ReLU follows, it begins at 0, so that what is not lit is not active. On its own "
        "scale each map runs from its own lowest value to its own highest, and two maps cannot be compared.",
    ),
    Definition(
        "field",
        "Receptive field",
        "The exact set of input rows and columns that a neuron depends on, over all branches of the network (Araujo "
        "et al. 2019). A global operation before the layer, such as squeeze-and-excitation, makes it the whole "
        "input.",
    ),
    Definition(
        "weights",
        "Kernel weights",
        "The channel’s own numbers: red raises the activation, blue lowers it, the strongest colour is the largest "
        "weight of this channel. A kernel that sees the image is shown in the image’s colours; deeper ones are shown "
        "for the nine input channels with the largest norm, in reading order.",
        "weights",
    ),
    Definition(
        "listens",
        "Listens to",
        "The channels of earlier layers that feed this one with the largest kernels, by Euclidean norm; where "
        "several layers are added, the last of them is named. A large weight on a channel that hardly varies moves "
        "little, so this is what the channel could listen to, not what it does on your images.",
        "weights",
    ),
    Definition(
        "alike",
        "Most alike",
        "Channels of the same layer whose kernels point the same way: the cosine of all their weights, 1 for kernels "
        "that differ by a factor only. Where a data set was given, the channel whose activations correlate most is "
        "named beside it; the two often differ.",
        "weights",
    ),
    Definition(
        "examples",
        "Strongest on the data",
        "The places of the data set where the channel is highest, one per image, each cut to the neuron’s exact "
        "receptive field. Beside it stands the whole image with that field framed, the three strongest under the "
        "channel’s map from 0 up; people predict a channel’s responses better from such patches than from maximised "
        "pictures (Borowski et al. 2021).",
        "examples",
    ),
    Definition(
        "active",
        "Active, histogram",
        "The share of all places in all images of the data set with an activation above 0, the part a ReLU lets "
        "pass. The histogram counts all places in equal bins; its vertical axis is square-rooted, so that rare high "
        "values can be seen.",
        "examples",
    ),
    Definition(
        "sparsity",
        "Sparsity",
        "Treves and Rolls’ measure of the rectified maps: 1 − mean(a)² ÷ mean(a²), over the data set. 0 is a layer "
        "whose places are all equally active, 1 one where a few are strongly active.",
        "examples",
    ),
    Definition(
        "silent",
        "Silent on the data",
        "A channel before a ReLU that was never above 0 on the data set. Other images may wake it; only “dead” is a "
        "proof.",
        "examples",
    ),
    Definition(
        "attribution",
        "Attributions",
        "What each pixel adds to the score of a class or to a channel: red raises it, blue lowers it, by the method "
        "named. Each picture is scaled by its own largest value; methods differ, and where two disagree, neither is "
        "proven.",
        "attribution",
    ),
    Definition(
        "sanity",
        "Sanity check",
        "How similar an attribution stays when the network’s weights are replaced by random ones from the output "
        "down (Adebayo et al. 2018): the rank correlation of absolute values. A method that stays near 1 explains "
        "the image, not the network.",
        "attribution",
    ),
    Definition(
        "classes",
        "Class picture",
        "An image that gradient ascent found to raise the score of one class, before the softmax. The probability "
        "beside it is the network’s output for that very picture; at rank 1 the network predicts the class.",
        "classes",
    ),
    Definition(
        "inversion",
        "Inversion",
        "An image found from nothing but a layer’s activations on the original (Mahendran and Vedaldi 2015). Details "
        "that it lacks are not represented in those activations; the distance is between the activations of the two "
        "images, as a share of the original’s.",
        "inversion",
    ),
    Definition(
        "caricature",
        "Caricature",
        "An image that has more of whatever a layer saw in the original, in the same proportions. What is "
        "exaggerated is what the layer attends to.",
        "inversion",
    ),
    Definition(
        "groups",
        "Groups",
        "A layer’s activations on an image, split into a few parts that add up (non-negative matrix factorisation, "
        "Olah et al. 2018). The image is lit where a part is active, and beside it stands a picture that maximises "
        "it; the share is how much of the activation the part accounts for.",
        "groups",
    ),
    Definition(
        "grid",
        "Activation grid",
        "For each place of a layer’s map, an image that maximises the layer’s activations there, shown at that "
        "place. Each cell names its strongest channels and links to the first.",
        "groups",
    ),
    Definition(
        "tuning",
        "Tuning",
        "Responses to gratings, edges, bars, corners and plain colours of the receptive field’s size, above the "
        "response to grey. The words are drawn from these numbers by fixed rules and left out where the numbers "
        "support none.",
        "tuning",
    ),
    Definition(
        "truth",
        "Maximised against natural",
        "The highest activation anywhere on the maximised pictures against that on natural images (highest place), "
        "and the mean on the channel picture against that on natural images cut to its size around their strongest "
        "places (mean of the map). A large multiple means that the picture lies far from what the network meets; the "
        "paths compare which earlier channels lead there (Geirhos et al. 2024).",
        "truth",
    ),
    Definition(
        "values",
        "Other layers",
        "The outputs of layers other than convolutions: activations, pools, dense layers. “Blank” counts the "
        "channels with the same number everywhere.",
        "values",
    ),
)


def definitions_of(studies: Collection[str]) -> list[Definition]:
    """The definitions of a run with these studies."""
    return [definition for definition in DEFINITIONS if not definition.study or definition.study in studies]
