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
        "An image that gradient ascent found to raise the mean of the channel’s whole map (Erhan et al. 2009, Olah et "
        "al. 2017). It shows what the channel responds to wherever it may stand, so patterns repeat; its canvas has "
        "room for a few neurons.",
    ),
    Definition(
        "neuron",
        "Neuron picture",
        "An image that gradient ascent found to raise one neuron, one place of the map. It is as large as the neuron’s "
        "receptive field, all that this neuron can see, or as the network’s input where that is smaller.",
    ),
    Definition(
        "negative",
        "Negative picture",
        "An image that gradient ascent found to push the mean of the channel’s map as low as it can: what turns the "
        "channel off. Its activation is to be low, and it counts as raised where it lies below that of every random "
        "image.",
    ),
    Definition(
        "diversity",
        "Diversity pictures",
        "Several images of one channel, found together, each held back as far as what it shows the layer is like what "
        "the others show. Where they differ, the channel answers to more than one thing.",
    ),
    Definition(
        "analytic",
        "Analytic picture",
        "Where a layer sees the image directly, one neuron is a linear function of the pixels, so its best image is "
        "known by formula: the high end of the range where the weight is positive, the low end where it is negative. "
        "For deeper layers the same rule gives the pattern that the kernel wants in the layer’s own input: one patch "
        "an input channel, in rows, white for high, black for low, grey where nothing counts.",
    ),
    Definition(
        "robust",
        "After jitter",
        "The mean of the picture’s number over 16 small shifts of it, up to 4 % of its side in whole pixels; a picture "
        "of at most 12 pixels is too small to shift. One that keeps its number shows a pattern; one that loses it "
        "found a single pixel arrangement.",
    ),
    Definition(
        "random",
        "Best random",
        "The highest that 16 random images of the same size raise the same number, mean or neuron. It is the mark that "
        "a picture must pass to mean anything.",
    ),
    Definition(
        "bound",
        "At most, exact best, reached",
        "Of a channel picture, what no picture of its size can raise the mean of the map above (one place may go "
        "higher); of a neuron picture, what no picture can raise that neuron above; proven by interval arithmetic "
        "through the network (usually far too high), by linear relaxations of it where that is cheap (closer), or "
        "exact where a formula is known. “Reached” is the picture’s number as a share of it; what lies "
        "between is unknown, not lost.",
    ),
    Definition(
        "unraised",
        "Unraised",
        "The optimised picture does not beat the best random image. This is a failure of the search, or a channel that "
        "hardly varies; it is no proof that the channel is useless.",
    ),
    Definition(
        "constant",
        "Constant",
        "The channel answered one and the same number to everything that was measured: maximised pictures, random "
        "images, your images, the data set. Its weights are zero, or what it listens to never changes; this is "
        "observed, not proven.",
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
        "The optimisation left the finite numbers, or the network itself answers with NaN or infinity. There is no "
        "result, and any picture shown is marked as such.",
    ),
    Definition(
        "maps",
        "Activation maps",
        "What a channel answers to an image, before the non-linearity, one grey level a neuron; a white corner of one "
        "map may be a smaller number than a grey one of another. Each map is scaled by itself from its minimum (black) "
        "to its maximum (white, the number below it; a map of one value is black), and reduced to 48 pixels on a "
        "layer’s page, 112 on an image’s, where it is larger.",
    ),
    Definition(
        "field",
        "Receptive field",
        "The exact set of input rows and columns that a neuron depends on, over all branches of the network (Araujo et "
        "al. 2019). A global operation before the layer, such as squeeze-and-excitation, makes it the whole input.",
    ),
    Definition(
        "weights",
        "Kernel weights",
        "The channel’s own numbers: red raises the activation, blue lowers it, the strongest colour is the largest "
        "weight of this channel. A kernel that sees the image stands in the image’s colours; deeper ones are shown for "
        "the nine input channels with the largest norm, in reading order.",
        "weights",
    ),
    Definition(
        "listens",
        "Listens to",
        "The channels of earlier layers that feed this one with the largest kernels, by Euclidean norm; where several "
        "layers are added, the last of them stands for all. A large weight on a channel that hardly varies moves "
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
        "The places of the data set where the channel is highest, one an image, each cut to the neuron’s exact "
        "receptive field. Beside it stands the whole image, lit where the channel is active; people predict a "
        "channel’s answers better from such patches than from maximised pictures (Borowski et al. 2021).",
        "examples",
    ),
    Definition(
        "active",
        "Active, histogram",
        "The share of all places in all images of the data set with an activation above 0, the part a ReLU lets pass. "
        "The histogram counts all places in equal bins; its vertical axis is square-rooted, so that rare high values "
        "can be seen.",
        "examples",
    ),
    Definition(
        "sparsity",
        "Sparsity",
        "Treves and Rolls’ measure of the rectified maps: 1 − mean(a)² ÷ mean(a²), over the data set. 0 is a layer "
        "whose places all fire alike, near 1 one where a few fire strongly.",
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
        "What each pixel adds to the score of a class or to a channel: red speaks for it, blue against it, by the "
        "method named. Each picture is scaled by its own largest value; methods differ, and where two contradict each "
        "other neither is proven.",
        "attribution",
    ),
    Definition(
        "sanity",
        "Sanity check",
        "How like an attribution stays when the network’s weights are replaced by random ones from the output down "
        "(Adebayo et al. 2018): the rank correlation of absolute values. A method that stays near 1 explains the "
        "image, not the network.",
        "attribution",
    ),
    Definition(
        "classes",
        "Class picture",
        "An image that gradient ascent found to raise the score of one class, before the softmax. The probability "
        "beside it is what the network answers to that very picture; the rank says whether it answers with the class.",
        "classes",
    ),
    Definition(
        "inversion",
        "Inversion",
        "An image found from nothing but a layer’s activations on the original (Mahendran and Vedaldi 2015). What it "
        "has lost, the layer no longer tells apart; the distance is that of the activations, as a share of the "
        "original’s.",
        "inversion",
    ),
    Definition(
        "caricature",
        "Caricature",
        "An image that has more of whatever a layer saw in the original, in the same proportions. What is exaggerated "
        "is what the layer attends to.",
        "inversion",
    ),
    Definition(
        "groups",
        "Groups",
        "A layer’s activations on an image, split into a few parts that only add (non-negative matrix factorisation, "
        "Olah et al. 2018). The image is lit where a part is active, and beside it stands a picture that maximises "
        "it; the share is how much of the activation the part accounts for.",
        "groups",
    ),
    Definition(
        "grid",
        "Activation grid",
        "For each place of a layer’s map an image that maximises what the layer answered there, in the place where it "
        "was seen. Its strongest channels are told by each cell and are links.",
        "groups",
    ),
    Definition(
        "tuning",
        "Tuning",
        "Answers to gratings, edges, bars, corners and plain colours of the receptive field’s size, above the answer "
        "to grey. The words are drawn from these numbers by fixed rules and left out where the numbers support none.",
        "tuning",
    ),
    Definition(
        "truth",
        "Maximised against natural",
        "Highest place: the highest activation anywhere on the maximised pictures, against that on natural images; "
        "mean of the map: of the channel picture, against natural images cut to its size around their strongest "
        "places. A large multiple means that the picture lies far from what the network meets; the paths compare which "
        "earlier channels lead there (Geirhos et al. 2024).",
        "truth",
    ),
    Definition(
        "values",
        "Other layers",
        "What layers that are no convolutions answer: activations, pools, dense layers. “Blank” counts the channels "
        "with the same number everywhere.",
        "values",
    ),
)


def known(studies: Collection[str]) -> list[Definition]:
    """The definitions of a run with these studies."""
    return [definition for definition in DEFINITIONS if not definition.study or definition.study in studies]
