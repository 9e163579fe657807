"""Every word and number of the report, defined in two sentences.

Knows the run's vocabulary; knows nothing of HTML. A definition is shown where the run has what it defines.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from filterscope.reports.site import answer


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
        "Four images of one channel, found together and pushed to differ; where they do, the channel responds to "
        "more than one thing. Of four that agree in colour and form (each two with a concordance correlation of "
        "0.75 or more at 32 pixels, Lin 1989), only the highest is shown.",
    ),
    Definition(
        "lift",
        "Height above random",
        "How much more the picture excites the channel than chance does: the activation of the channel’s first "
        "picture minus the highest one among 16 random images. A layer’s channels stand in this order, the highest "
        "first, where the run has no natural images to compare with; unraised, constant, dead and diverged ones "
        "come last.",
    ),
    Definition(
        "nature",
        "Strength against nature",
        "How many times as strongly as the strongest natural image the picture excites the channel; below 1, the "
        "natural image is stronger. The number is from “Maximised against natural”, or without that study a neuron "
        "picture’s against the highest place of the data set, and a layer’s channels stand in this order where at "
        "least half of them have it.",
    ),
    Definition(
        "likeness",
        "Pictures that look alike",
        "How alike the pictures of a layer are: the correlation of two of them in colour at 16 pixels, the median "
        "over all pairs. Above 0.35 the layer’s page warns of it, since they may show what the method prefers more "
        "than what tells the channels apart.",
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
        "Where a layer sees the image directly, the image that excites a neuron most is known by formula: each "
        "pixel at the high end of its range where its weight is positive, at the low end where it is negative. For "
        "deeper layers the formula gives the pattern in the layer’s own input: one patch per input channel, in "
        "rows, white for high, black for low, grey where the weight is 0.",
    ),
    Definition(
        "sure",
        "Well, partly, weakly supported",
        "How far the picture can be trusted: well, where it was compared with natural images or data, takes their path "
        "through the network (or is proven to be the highest there is), and nothing speaks against it; partly, with "
        "one doubt, or where one of these was not measured; weakly, with two doubts or more, silent on the data, no "
        f"better than random images, or where shifts leave less than {answer.FRAGILE:.0%} of the activation. Doubts "
        "are: natural images excite the channel more; shifts by a few pixels cost more than "
        f"{1 - answer.ROBUST:.0%} of the activation; the picture’s path falls short of the natural one by a rank "
        f"correlation of {answer.APART} or more in a layer that tells natural paths apart; less than {answer.BARELY} "
        "times the best random image; a first picture; pictures of the layer that look alike.",
    ),
    Definition(
        "responds",
        "Responds to",
        f"A class is named where an image of it excites the channel more than another image in {answer.TELLING:.0%} of "
        f"cases or more (AUC); a label where {answer.MAJORITY} of the nine strongest images share it; a simple "
        "stimulus where the tuning study found one that comes near the strongest response. Nothing else is named.",
    ),
    Definition(
        "robust",
        "Robust activation",
        "The mean of the picture’s activation over 16 small shifts of it, up to 4 % of its side in whole pixels; a "
        "picture of at most 12 pixels is too small to shift. A picture that keeps it shows a pattern; one that loses "
        "it shows a single arrangement of pixels; in brackets stands the share that is left.",
    ),
    Definition(
        "random",
        "Best random",
        "The highest value of the same number, the mean of the map or the neuron, on 16 random images of the same "
        "size. A picture that does not exceed it means nothing.",
    ),
    Definition(
        "bound",
        "At most",
        "The most that any picture of the same size could reach, in the mean of the map for a channel picture, in "
        "the neuron for a neuron picture: exact where a formula is known, otherwise a proven limit, close by linear "
        "relaxations or usually far too high by interval arithmetic. It is shown where the picture reaches a third "
        "of it or more; whether the rest can be reached is unknown.",
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
        "double",
        "Double",
        "A channel that does the same as another one of its layer: their activations on the data, behind a ReLU where "
        "one follows, correlate above 0.99, or their kernels read the same input and have a cosine above 0.99. Kernels "
        "of grouped convolutions read different inputs and are not compared.",
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
        "saturated",
        "Saturated image",
        "An image more than half of whose values are 0 or 255, as the network sees it. It may be a drawing; more "
        "often it was read with the wrong white, or was stretched before.",
    ),
    Definition(
        "score",
        "Score, probability",
        "A score is an output as the network gives it, before a softmax or a sigmoid, also called logit; it has no "
        "unit, and only differences between scores of one image mean something. A probability lies between 0 and "
        "100 % and is shown where the network’s outputs are probabilities.",
    ),
    Definition(
        "telling-rule",
        "The most telling channels",
        "At most five on the overview, at most one a layer and one a class: where the data has classes, those that "
        "tell one class from all others best (AUC); else, in each fifth of the depth, the one whose picture "
        "outdoes natural images most; else, in five layers spread over the depth, those that rise highest above "
        "random images, of those above 0. Beside each stands what it saw where it was strongest on the data set, or "
        "else on your images.",
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
        "The channels of earlier layers that feed this one with the largest kernels: + raises it, − lowers it (the "
        "sign of the kernel’s sum), per cent is the kernel’s share of all the channel’s weights (by Euclidean "
        "norm), and of several layers that are added the last is named. It says what the channel could listen to, "
        "not what it does on your images: a large weight on a channel that hardly varies moves little.",
        "weights",
    ),
    Definition(
        "feeds",
        "Feeds",
        "The channels of later layers that take in this one most: those of whose kernels it is the largest share, "
        "by Euclidean norm. + raises them, − lowers them: the sign of the kernel’s sum.",
        "weights",
    ),
    Definition(
        "twins",
        "Look-alikes",
        "Channels of one layer whose kernels have a cosine above 0.95 and read the same inputs, or whose activations "
        "on the data, behind a ReLU where one follows, correlate above 0.95; groups are chained, so that each is like "
        "another of its group. With "
        "script a group is one tile, which a click unfolds, as does the order by similarity.",
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
        "accuracy",
        "Right, among five, precision",
        "Of the images whose label is a class of the network’s output: the share that the network answers with it, and "
        "the share for which it is among the five classes with the highest scores. The precision of a class is the "
        "share of the answers with it that are right.",
        "examples",
    ),
    Definition(
        "calibration",
        "Calibration error",
        "Images are put into 15 equal bins of their highest probability, and in each bin the mean of that probability "
        "is compared with the share of right answers. The expected calibration error is the mean difference, weighted "
        "by images (Guo et al. 2017); a network that is right as often as its probabilities say has 0.",
        "examples",
    ),
    Definition(
        "auc",
        "AUC of a class",
        "The probability that a channel’s maximum is higher on an image of the class than on an image of another one, "
        "half of it where they are equal: the area under the ROC curve (Hanley and McNeil 1982). At 1 the channel "
        "tells the class from all others without fail, at 0.5 it says nothing.",
        "examples",
    ),
    Definition(
        "selectivity",
        "Class selectivity",
        "(a − b) ÷ (a + b), where a is the channel’s mean rectified activation on the class that excites it most and b "
        "the mean over the other classes (Morcos et al. 2018). It is 0 where all classes excite it alike and 1 where a "
        "single one does.",
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
        "contrast",
        "One class rather than another",
        "Which pixels raise the answer’s score above that of one other class: the class that is next, or the image’s "
        "label where the answer is wrong. A part of the image is named where a ninth of it holds two fifths or more of "
        "all that speaks for the answer, or a third of it, across or down, three fifths or more.",
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
        "An image found from nothing but a layer’s activations on the original (Mahendran and Vedaldi 2015); "
        "details that it lacks are not in those activations. The distance is between the activations of the two "
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
        "Two comparisons of maximised pictures with natural images: their highest activation at any place, and the "
        "mean of the map on the channel picture against that on natural images cut to its size around their "
        "strongest places. A large multiple means that the picture lies far from what the network meets; the paths "
        "compare which earlier channels lead there (Geirhos et al. 2024).",
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
