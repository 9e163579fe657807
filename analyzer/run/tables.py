"""The tables of a run: which columns each has, and what they mean.

Pictures are named the same way in all of them: `atlas` (path inside the run, null where there is none), `tile`,
`height`, `width` and, where colours may differ, `bands` (1 grey, 3 RGB, else planes stacked). Knows columns; reads
nothing.
"""

from __future__ import annotations

import pyarrow as pa

_TILE = [("atlas", pa.string()), ("tile", pa.int32()), ("height", pa.int32()), ("width", pa.int32())]
_PICTURE = [*_TILE, ("bands", pa.int32())]
_UNIT = [("layer", pa.string()), ("channel", pa.int32())]  # the user's name of the layer

UNIT_SCHEMA = pa.schema(
    [
        *_UNIT,
        ("objective", pa.string()),  # channel: mean of the map; neuron: one position of it
        ("method", pa.string()),  # analytic: closed form; ascent: gradient ascent; accentuation: ascent from a photo
        ("space", pa.string()),  # image: pixels; input: the layer's own input, each channel from low 0 to high 255
        ("activation", pa.float64()),  # objective value of the saved 8-bit picture, by ONNX Runtime
        ("robust", pa.float64()),  # mean of the objective over 16 fixed jitters of it; null: too small to shift
        ("random", pa.float64()),  # the best objective value of 16 random domain images on the same canvas
        ("bound", pa.float64()),  # no picture of this size raises the objective above it; null where none is known
        ("bound_kind", pa.string()),  # exact, relaxation, interval, or null
        ("gap", pa.float64()),  # bound − activation, in units of activation
        ("status", pa.string()),  # ok, unraised, dead, diverged
        ("steps", pa.int32()),
        ("seconds", pa.float64()),
        ("row", pa.int32()),  # which neuron of the canvas's map (objective neuron), else null
        ("column", pa.int32()),
        *_PICTURE,
        ("is_first", pa.bool_()),  # whether it is a first picture, which a finer one will replace
        ("image", pa.int32()),  # of the user's images the one at which an accentuation began, from 0
        ("highest", pa.float64()),  # place of the saved picture's map, where the objective is its mean; else null
    ]
)
LATER = frozenset(  # columns that tables of older versions lack: null there
    {"is_first", "image", "highest", "shares", "feeds", "feeds_channels", "feeds_shares", "selectivity"}
    | {"minus", "minus_label"}
)

MAP_SCHEMA = pa.schema(
    [
        ("image", pa.int32()),
        ("channel", pa.int32()),
        ("minimum", pa.float32()),
        ("mean", pa.float32()),
        ("maximum", pa.float32()),
        ("row", pa.int32()),  # where the maximum is, in the map
        ("column", pa.int32()),
        *_TILE,  # height and width of the map; grey 0 stands for the map's minimum and 255 for its maximum
    ]
)

# examples/: one pass over a data set. An `example` is a number of a row of examples/pictures.parquet.

EXAMPLE_SCHEMA = pa.schema(  # examples/SLUG.parquet: the strongest places of each channel, one an image
    [
        ("channel", pa.int32()),
        ("rank", pa.int32()),  # 0: the strongest
        ("example", pa.int32()),
        ("activation", pa.float32()),  # pre-activation at that place
        ("row", pa.int32()),  # of the map
        ("column", pa.int32()),
        ("top", pa.int32()),  # the exact receptive field, in pixels of the network's input; parts may lie outside it
        ("left", pa.int32()),
        ("field_height", pa.int32()),
        ("field_width", pa.int32()),
        *_TILE,  # the channel's map over the whole example, from 0 (black) to its maximum (white); null for low ranks
    ]
)

EXAMPLE_PICTURE_SCHEMA = pa.schema(  # examples/pictures.parquet: a row an image that is among the strongest of a unit
    [
        ("example", pa.int32()),  # in the order of first mention
        ("image", pa.int64()),  # number in the data set
        ("source", pa.string()),  # file, or file and number in it
        ("name", pa.string()),
        ("label", pa.string()),  # null where unknown
        *_PICTURE,  # as the network saw it; null beyond the budget of pictures
    ]
)

STATISTICS_SCHEMA = pa.schema(  # examples/units.parquet
    [
        *_UNIT,
        ("minimum", pa.float32()),  # of all places of all images, pre-activation
        ("mean", pa.float64()),
        ("maximum", pa.float32()),
        ("active", pa.float64()),  # fraction of places with a pre-activation above 0
        ("active_images", pa.float64()),  # fraction of images with at least one such place
        ("dead", pa.bool_()),  # never above 0 on this data, before a ReLU
        ("histogram", pa.list_(pa.int64())),  # sampled places a bin, 32 to 64 equal bins from low to high
        ("histogram_low", pa.float32()),
        ("histogram_high", pa.float32()),
        ("firsts", pa.int64()),  # images in which it is the layer's channel with the highest mean
        (
            "nearest",
            pa.int32(),
        ),  # the layer's channel most correlated with it, behind a ReLU where one follows; null: none
        ("correlation", pa.float64()),  # with that channel
        ("selectivity", pa.float64()),  # class selectivity index (Morcos et al. 2018), 0 to 1; null without classes
    ]
)

DEPTH_SCHEMA = pa.schema(  # examples/layers.parquet
    [
        ("layer", pa.string()),
        ("depth", pa.int32()),
        ("active", pa.float64()),  # fraction of all pre-activations above 0
        ("sparsity", pa.float64()),  # Treves and Rolls, mean over images: 1 − mean(a)² ÷ mean(a²) of rectified maps
        ("dead", pa.int32()),  # units never above 0 on this data
        ("duplicates", pa.int32()),  # units whose correlation with another exceeds 0.99
    ]
)

FIRING_SCHEMA = pa.schema(  # examples/firing.parquet: which channel fires most
    [
        ("layer", pa.string()),
        ("image", pa.int64()),  # number in the data set; of a batch, its first image
        ("images", pa.int32()),  # 1, or images of the batch
        ("channel", pa.int32()),  # the one with the highest mean pre-activation
        ("mean", pa.float32()),
    ]
)

# examples/, where labels of the data set fit the network's class output. An `index` is a class of that output.

DATA_CLASS_SCHEMA = pa.schema(  # examples/classes.parquet: classes that are a label or an answer
    [
        ("index", pa.int32()),
        ("name", pa.string()),  # "class 3" where no one says
        ("images", pa.int64()),  # with this label
        ("right", pa.int64()),  # of them answered with it
        ("right_of_five", pa.int64()),  # of them it is among the five highest; null where the output has fewer than 6
        ("predicted", pa.int64()),  # how often it was the answer to a labelled image
        ("probability", pa.float64()),  # mean over its images; null where there are none
    ]
)

CONFUSION_SCHEMA = pa.schema(  # examples/confusion.parquet: pairs that occur
    [("label", pa.int32()), ("predicted", pa.int32()), ("images", pa.int64())]
)

RELIABILITY_SCHEMA = pa.schema(  # examples/reliability.parquet: labelled images by their highest probability
    [
        ("low", pa.float64()),  # beyond it, of 15 equal bins
        ("high", pa.float64()),  # up to it
        ("images", pa.int64()),
        ("confidence", pa.float64()),  # mean of the highest probability; null where there is no image
        ("accuracy", pa.float64()),  # share of right answers
    ]
)

ANSWER_SCHEMA = pa.schema(  # examples/answers.parquet: a row an image, of the first 131,072
    [
        ("image", pa.int64()),  # number in the data set
        ("name", pa.string()),
        ("label", pa.int32()),  # null: unknown, or none of the output's classes
        ("best", pa.list_(pa.int32())),  # the five classes with the highest scores, or all, highest first
        ("probability", pa.list_(pa.float32())),  # theirs
    ]
)

UNIT_CLASS_SCHEMA = pa.schema(  # examples/unit_classes.parquet: at most five classes a unit
    [
        *_UNIT,
        ("rank", pa.int32()),  # 0: the highest AUC
        ("index", pa.int32()),
        ("name", pa.string()),
        ("auc", pa.float64()),  # probability that the map's maximum is higher than on another class's image; above ½
        ("mean", pa.float64()),  # of the maximum, over the class's images
        ("images", pa.int64()),  # of the class
    ]
)

MISTAKE_SCHEMA = pa.schema(  # examples/mistakes.parquet: which pixels speak for the answers that are wrong and surest
    [
        ("image", pa.int64()),  # number in the data set
        ("method", pa.string()),  # as in ATTRIBUTION_SCHEMA
        ("target", pa.int32()),  # the class that was answered
        *_TILE,  # signed: 128 is 0, 1 and 255 are ∓ the largest absolute value
    ]
)

# weights/: what the kernels say; needs no image

WEIGHT_SCHEMA = pa.schema(  # weights/SLUG.parquet: a row a unit
    [
        ("channel", pa.int32()),
        ("norm", pa.float64()),  # Euclidean, of all the unit's weights
        ("bias", pa.float64()),  # null where the layer has none
        ("inputs", pa.list_(pa.int32())),  # channels of the layer's input by the norm of their kernel, largest first
        ("norms", pa.list_(pa.float32())),  # theirs
        ("shares", pa.list_(pa.float32())),  # theirs ÷ the unit's norm, −1 to 1: below 0 where the kernel's sum is
        ("sources", pa.list_(pa.string())),  # layer that each of them comes from (of a sum: the last); null: untraced
        ("source_channels", pa.list_(pa.int32())),  # channel of that layer
        ("alike", pa.list_(pa.int32())),  # the layer's units with the highest cosine of kernels, highest first
        ("cosines", pa.list_(pa.float32())),  # theirs
        ("feeds", pa.list_(pa.string())),  # layers of the units that take this one in most, largest share first
        ("feeds_channels", pa.list_(pa.int32())),  # their channels
        ("feeds_shares", pa.list_(pa.float32())),  # what this unit is of their kernels, as `shares`
        *_PICTURE,  # signed: 128 is 0, 1 and 255 ∓ the largest weight; bands 3: in the image's colours; else the
        # kernels of `inputs` side by side
    ]
)

# attribution/

ATTRIBUTION_SCHEMA = pa.schema(  # attribution/attributions.parquet
    [
        ("image", pa.int32()),
        ("method", pa.string()),  # saliency, input-x-gradient, integrated-gradients, smoothgrad, guided, deconvnet, …
        ("layer", pa.string()),  # of the target, or a value of the graph; null: the class scores
        ("target", pa.int32()),  # class or channel
        ("label", pa.string()),  # of the class, or null
        ("minus", pa.int32()),  # class whose score is subtracted from the target's; null: none is
        ("minus_label", pa.string()),  # of that class, or null
        ("row", pa.int32()),  # of a neuron; null: the sum of the channel's map, or a class
        ("column", pa.int32()),
        ("at", pa.string()),  # layer whose maps Grad-CAM weighs; null for methods of the pixels
        ("score", pa.float64()),  # the target's value on this image, by ONNX Runtime
        ("minimum", pa.float64()),  # of the attributions, summed over the input's channels; pixels count from 0 to 1
        ("maximum", pa.float64()),
        ("total", pa.float64()),  # their sum
        *_TILE,  # signed: 128 is 0, 1 and 255 are ∓ the largest absolute value
    ]
)

SANITY_SCHEMA = pa.schema(  # attribution/sanity.parquet: Adebayo et al. 2018, weights randomised from the output down
    [
        ("method", pa.string()),
        ("layer", pa.string()),  # randomised: this layer and all after it that have weights, dense ones too
        ("depth", pa.int32()),  # layers with weights before it, in graph order
        ("images", pa.int32()),
        ("similarity", pa.float64()),  # Spearman correlation of absolute attributions, mean over the images
        ("ssim", pa.float64()),
    ]
)

# classes/

CLASS_SCHEMA = pa.schema(  # classes/classes.parquet: the image that raises each class's score
    [
        ("klass", pa.int32()),
        ("label", pa.string()),
        ("score", pa.float64()),  # before softmax, of the saved 8-bit picture
        ("robust", pa.float64()),  # null where the input is too small to shift
        ("random", pa.float64()),  # the best of 16 random images
        (
            "probability",
            pa.float64(),
        ),  # the network's output where it is a distribution, else softmax of the scores
        ("rank", pa.int32()),  # of the class among all on its picture; 0: the network answers with it
        ("entropy", pa.float64()),  # of the distribution, bits
        ("distribution", pa.list_(pa.float32())),  # one number a class
        ("status", pa.string()),
        *_PICTURE,
    ]
)

# inversion/

INVERSION_SCHEMA = pa.schema(  # inversion/inversions.parquet
    [
        ("image", pa.int32()),
        ("layer", pa.string()),
        ("kind", pa.string()),  # inversion: the same activations; caricature: more of the same direction
        ("distance", pa.float64()),  # ‖Φ(x) − Φ(x₀)‖ ÷ ‖Φ(x₀)‖ of the saved picture; null for a caricature
        ("cosine", pa.float64()),  # of the two activations
        ("steps", pa.int32()),
        ("seconds", pa.float64()),
        *_PICTURE,
    ]
)

# groups/

GROUP_SCHEMA = pa.schema(  # groups/groups.parquet: non-negative factors of a layer's activations on an image
    [
        ("image", pa.int32()),
        ("layer", pa.string()),
        ("group", pa.int32()),
        ("share", pa.float64()),  # of the activations' sum that the group accounts for
        ("error", pa.float64()),  # of the whole factorisation, relative Frobenius norm
        ("channels", pa.list_(pa.int32())),  # the strongest of its direction
        ("weights", pa.list_(pa.float32())),  # theirs, of a direction of length 1
        ("activation", pa.float64()),  # of its picture, along the direction
        *_PICTURE,  # maximises the direction
        ("mask_atlas", pa.string()),  # where on the image: grey, 255 = the group's strongest place
        ("mask_tile", pa.int32()),
        ("mask_height", pa.int32()),
        ("mask_width", pa.int32()),
    ]
)

GRID_SCHEMA = pa.schema(  # groups/grid.parquet: what each place of a layer saw
    [
        ("image", pa.int32()),
        ("layer", pa.string()),
        ("row", pa.int32()),
        ("column", pa.int32()),
        ("magnitude", pa.float64()),  # Euclidean norm of the place's activations
        ("channels", pa.list_(pa.int32())),  # semantic dictionary: its strongest channels
        ("activations", pa.list_(pa.float32())),
        *_PICTURE,  # maximises the place's own direction
    ]
)

# tuning/

TUNING_SCHEMA = pa.schema(  # tuning/units.parquet: responses to synthetic stimuli of the receptive field's size
    [
        *_UNIT,
        ("words", pa.string()),  # null where the numbers support none
        ("best", pa.string()),  # kind of the strongest stimulus: grating, edge, bar, curve, corner, colour, opponent
        ("response", pa.float64()),  # to it, above the response to mid grey
        ("strongest", pa.float64()),  # response known: of stimuli, saved pictures and natural images, above mid grey's
        ("orientation", pa.float64()),  # mean vector of orientation_curve, degrees from horizontal, [0, 180)
        ("orientation_selectivity", pa.float64()),  # 1 − circular variance, [0, 1]
        ("period", pa.float64()),  # of the best grating, pixels
        ("phase_modulation", pa.float64()),  # F1 ÷ F0
        ("hue", pa.float64()),  # mean vector of hue_curve, degrees
        ("colour_selectivity", pa.float64()),  # [0, 1]
        ("orientation_curve", pa.list_(pa.float32())),  # gratings above mid grey, equal steps over 180° from 0
        ("period_curve", pa.list_(pa.float32())),
        ("periods", pa.list_(pa.float32())),  # pixels, of period_curve
        ("hue_curve", pa.list_(pa.float32())),  # equal steps over 360°
        *_PICTURE,  # the strongest stimulus
    ]
)

# truth/

TRUTH_SCHEMA = pa.schema(  # truth/units.parquet
    [
        *_UNIT,
        ("objective", pa.string()),
        ("maximised", pa.float64()),
        ("natural", pa.float64()),  # the strongest natural activation found, of the same objective
        ("ratio", pa.float64()),  # maximised ÷ natural; null where natural ≤ 0
    ]
)

PATH_SCHEMA = pa.schema(  # truth/paths.parquet: how alike the ways through the layers before are
    [
        *_UNIT,
        ("through", pa.string()),  # an earlier layer
        ("maximised_natural", pa.float64()),  # maximised picture against the strongest natural images
        ("natural_natural", pa.float64()),  # the strongest natural images among themselves
        ("random_natural", pa.float64()),  # random natural images against the strongest: the yardstick
    ]
)

# values/

VALUE_SCHEMA = pa.schema(  # values/values.parquet: layers other than convolutions: activations, pools, dense
    [
        ("image", pa.int32()),
        ("value", pa.string()),  # its name in the network
        ("op", pa.string()),
        ("layer", pa.string()),  # the convolution that it follows, or null
        ("order", pa.int32()),  # in the network
        ("channel", pa.int32()),
        ("minimum", pa.float32()),
        ("mean", pa.float32()),
        ("maximum", pa.float32()),
        ("blank", pa.bool_()),  # the same number everywhere
        *_TILE,  # grey: 0 the map's minimum, 255 its maximum; null for values without places
    ]
)

TABLES = {  # path inside the run → its columns; {slug} is a layer's file name
    "examples/pictures.parquet": EXAMPLE_PICTURE_SCHEMA,
    "examples/units.parquet": STATISTICS_SCHEMA,
    "examples/layers.parquet": DEPTH_SCHEMA,
    "examples/firing.parquet": FIRING_SCHEMA,
    "examples/classes.parquet": DATA_CLASS_SCHEMA,
    "examples/confusion.parquet": CONFUSION_SCHEMA,
    "examples/reliability.parquet": RELIABILITY_SCHEMA,
    "examples/answers.parquet": ANSWER_SCHEMA,
    "examples/unit_classes.parquet": UNIT_CLASS_SCHEMA,
    "examples/mistakes.parquet": MISTAKE_SCHEMA,
    "attribution/attributions.parquet": ATTRIBUTION_SCHEMA,
    "attribution/sanity.parquet": SANITY_SCHEMA,
    "classes/classes.parquet": CLASS_SCHEMA,
    "inversion/inversions.parquet": INVERSION_SCHEMA,
    "groups/groups.parquet": GROUP_SCHEMA,
    "groups/grid.parquet": GRID_SCHEMA,
    "tuning/units.parquet": TUNING_SCHEMA,
    "truth/units.parquet": TRUTH_SCHEMA,
    "truth/paths.parquet": PATH_SCHEMA,
    "values/values.parquet": VALUE_SCHEMA,
}
