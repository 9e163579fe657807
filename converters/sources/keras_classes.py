"""The names that a Keras file may use without being trusted: a list of what is allowed, never of what is not.

Written out from the public names of Keras 2.4 to 3.15 and tf_keras 2.21, without whatever can name a program, a symbol
or a file: Lambda, ClassMethod, InstanceMethod, TFSMLayer, StringLookup and the like, losses, metrics and optimizers,
and the operations that take a function (Map, Scan, Cond). Knows names alone; does not import Keras.
"""

from __future__ import annotations

import re


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# keras.layers, tf_keras.layers
LAYERS = names(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
    ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose Convolution2D Convolution2DTranspose
    Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Dense
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout EinsumDense ELU Embedding Equalization Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D
    GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention GRU GRUCell GRUCellV1 GRUCellV2 GRUV1
    GRUV2 HashedCrossing Hashing Identity InputLayer LayerNormalization LeakyReLU LocallyConnected1D
    LocallyConnected2D LSTM LSTMCell LSTMCellV1 LSTMCellV2 LSTMV1 LSTMV2 Masking Maximum MaxNumBoundingBoxes MaxPool1D
    MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D MelSpectrogram Minimum MixUp MultiHeadAttention
    Multiply Normalization Permute Pipeline PReLU RandAugment RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
    RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
    RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling
    Reshape Resizing ReversibleEmbedding RMSNormalization RNN SeparableConv1D SeparableConv2D SeparableConvolution1D
    SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization StackedRNNCells STFTSpectrogram Subtract SyncBatchNormalization
    ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D
    ZeroPadding2D ZeroPadding3D
    """
)

# keras.layers whose words stand in the file itself, or else in any file of this machine that they name
LOOKUPS = names(
    """
    IntegerLookup StringLookup TextVectorization
    """
)

# of keras.applications: ConvNeXt and InceptionResNetV2 have layers of their own
APPLICATIONS = names("CustomScaleLayer LayerScale StochasticDepth")

MODELS = frozenset(("Functional", "Model", "Sequential"))

# keras.src.ops: functions of tensors as layers
OPERATIONS = names(
    """
    Abs Absolute AdaptiveAveragePool AdaptiveMaxPool Add AffineTransform All AllClose Amax Amin Angle Any Append
    Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array Average
    AveragePool BatchNorm Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift
    BitwiseXor BroadcastTo Cast Cbrt CDist Ceil Celu Cholesky CholeskyInverse Clip Concatenate Conj Conjugate Conv
    ConvertToTensor ConvTranspose Copy Cos Cosh CountNonzero CropImages Cross Cumprod Cumsum Deg2rad DepthToSpace
    DepthwiseConv Det Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan Dot DotProductAttention Dstack Eig Eigh
    Einsum ElasticTransform Elu EmptyLike Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches
    ExtractSequences Fabs FFT FFT2 Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Fold Full FullLike GaussianBlur
    Gcd Gelu GetItem Glu Greater GreaterEqual HardShrink HardSigmoid HardSilu HardTanh Heaviside Hsplit Hstack
    HSVToRGB Hypot I0 IFFT2 Imag Inner InTopK Inv IRFFT Isclose Isfinite IsIn Isinf Isnan Isneginf Isposinf Isreal
    ISTFT Kron LayerNorm Lcm Ldexp LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 Logaddexp
    Logaddexp2 Logdet LogicalAnd LogicalNot LogicalOr LogicalXor LogSigmoid LogSoftmax Logspace Logsumexp Lstsq
    LuFactor MapCoordinates Matmul MatrixRank Max Maximum MaxPool Mean Median Meshgrid Min Minimum Mod Moments
    Moveaxis MultiHot Multiply Nanargmax Nanargmin Nanmax Nanmean Nanmedian Nanmin Nanprod Nanstd Nansum NanToNum
    Nanvar Ndim Negative Nextafter Nonzero Norm Normalize NotEqual OneHot OnesLike Outer Pad PadImages Percentile
    PerspectiveTransform Pinv Polar Power Prod Ptp Qr Quantile Rad2deg Ravel Real Rearrange Reciprocal Relu Relu6
    Repeat Reshape Resize RFFT RGBToGrayscale RGBToHSV RightShift RMSNorm Roll Rot90 Round Rsqrt SaturateCast
    ScaleAndTranslate Scatter ScatterUpdate SearchSorted SegmentMax SegmentMin SegmentProd SegmentSum Select Selu
    SeparableConv Sigmoid Sign Signbit Silu Sin Sinc Sinh Size Slice SliceUpdate SobelEdges Softmax Softplus
    SoftShrink Softsign Solve SolveTriangular Sort SpaceToDepth Sparsemax SparsePlus SparseSigmoid Split Sqrt Square
    Squareplus Squeeze Stack Std STFT StopGradient Subtract Sum SVD Swapaxes Take TakeAlongAxis Tan Tanh TanhShrink
    Tensordot Threshold Tile TopK Trace Transpose Tril Triu TrueDivide Trunc Unfold UnravelIndex Unstack Var Vdot View
    ViewAsComplex ViewAsReal Vsplit Vstack Where ZerosLike
    """
)

# initializers, regularizers, constraints, types and quantizers
SETTINGS = names(
    """
    AbsMaxQuantizer AWQDTypePolicy Constant ConstantV2 DTypePolicy DTypePolicyMap FloatDTypePolicy GlorotNormal
    GlorotNormalV2 GlorotUniform GlorotUniformV2 GPTQDTypePolicy HeNormal HeNormalV2 HeUniform HeUniformV2 Identity
    IdentityInitializer IdentityV2 Int4DTypePolicy L1 L1L2 L2 LecunNormal LecunNormalV2 LecunUniform LecunUniformV2
    MaxNorm MinMaxNorm NonNeg Ones OnesV2 Orthogonal OrthogonalInitializer OrthogonalRegularizer OrthogonalV2 Policy
    PolicyV1 QuantizedDTypePolicy QuantizedFloat8DTypePolicy RadialConstraint RandomNormal RandomNormalV2
    RandomUniform RandomUniformV2 STFT STFTInitializer TruncatedNormal TruncatedNormalV2 UnitNorm VarianceScaling
    VarianceScalingV2 Zeros ZerosV2
    """
)

# how Keras writes values that JSON has no word for; not __lambda__, and not __typespec__, which names a class
VALUES = names("__bytes__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ Ellipsis TensorShape")

# activations, initializers, regularizers and constraints that are functions
FUNCTIONS = names(
    """
    celu constant elu exponential gelu glorot_normal glorot_uniform glu hard_shrink hard_sigmoid hard_silu hard_swish
    hard_tanh he_normal he_uniform identity l1 l1_l2 l2 leaky_relu lecun_normal lecun_uniform linear log_sigmoid
    log_softmax max_norm min_max_norm mish non_neg normal one ones orthogonal orthogonal_regularizer radial_constraint
    random_normal random_uniform relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus stft swish tanh tanh_shrink threshold truncated_normal uniform unit_norm
    variance_scaling zero zeros
    """
)

# of tensors alone, by the names that Keras 2 gives them in TFOpLambda and SlicingOpLambda
TENSORFLOW_FUNCTIONS = names(
    """
    __operators__.add __operators__.getitem abs add argmax argmin batch_to_space boolean_mask broadcast_to cast
    clip_by_norm clip_by_value compat.v1.div compat.v1.expand_dims compat.v1.gather compat.v1.image.resize
    compat.v1.image.resize_bilinear compat.v1.image.resize_nearest_neighbor compat.v1.math.reduce_mean
    compat.v1.nn.avg_pool compat.v1.nn.conv2d compat.v1.nn.depth_to_space compat.v1.nn.depthwise_conv2d
    compat.v1.nn.leaky_relu compat.v1.nn.max_pool compat.v1.nn.space_to_depth compat.v1.pad compat.v1.reduce_max
    compat.v1.reduce_mean compat.v1.reduce_sum compat.v1.shape compat.v1.squeeze compat.v1.to_float
    compat.v1.transpose compat.v1.where concat convert_to_tensor cos cumsum divide dtypes.cast dtypes.saturate_cast
    einsum equal exp expand_dims eye fill floor gather gather_nd greater greater_equal identity
    image.adjust_brightness image.adjust_contrast image.adjust_gamma image.adjust_hue image.adjust_saturation
    image.central_crop image.convert_image_dtype image.crop_and_resize image.crop_to_bounding_box
    image.extract_patches image.flip_left_right image.flip_up_down image.grayscale_to_rgb image.hsv_to_rgb
    image.pad_to_bounding_box image.per_image_standardization image.resize image.resize_with_crop_or_pad
    image.resize_with_pad image.rgb_to_grayscale image.rgb_to_hsv image.rgb_to_yuv image.rot90 image.sobel_edges
    image.transpose image.yuv_to_rgb less less_equal linalg.band_part linalg.diag linalg.diag_part linalg.einsum
    linalg.l2_normalize linalg.matmul linalg.matrix_transpose linalg.matvec linalg.norm linalg.normalize
    linalg.set_diag linalg.tensordot linalg.trace linspace logical_and logical_not logical_or math.abs math.acos
    math.acosh math.add math.add_n math.argmax math.argmin math.asin math.asinh math.atan math.atan2 math.atanh
    math.ceil math.cos math.cosh math.cumprod math.cumsum math.divide math.divide_no_nan math.equal math.erf math.erfc
    math.exp math.expm1 math.floor math.floordiv math.floormod math.greater math.greater_equal math.is_finite
    math.is_inf math.is_nan math.l2_normalize math.less math.less_equal math.log math.log1p math.log_sigmoid
    math.log_softmax math.logical_and math.logical_not math.logical_or math.logical_xor math.maximum math.minimum
    math.mod math.multiply math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal
    math.reciprocal_no_nan math.reduce_all math.reduce_any math.reduce_euclidean_norm math.reduce_logsumexp
    math.reduce_max math.reduce_mean math.reduce_min math.reduce_prod math.reduce_std math.reduce_sum
    math.reduce_variance math.rint math.round math.rsqrt math.scalar_mul math.sigmoid math.sign math.sin math.sinh
    math.softmax math.softplus math.softsign math.sqrt math.square math.squared_difference math.subtract math.tan
    math.tanh math.top_k math.truediv math.xlogy matmul maximum meshgrid minimum multiply negative nn.atrous_conv2d
    nn.avg_pool nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d nn.batch_normalization nn.bias_add nn.conv1d nn.conv2d
    nn.conv2d_transpose nn.conv3d nn.convolution nn.crelu nn.depth_to_space nn.depthwise_conv2d nn.dilation2d
    nn.dropout nn.elu nn.gelu nn.l2_normalize nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.lrn
    nn.max_pool nn.max_pool1d nn.max_pool2d nn.max_pool3d nn.moments nn.normalize_moments nn.pool nn.relu nn.relu6
    nn.selu nn.separable_conv2d nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign nn.space_to_depth nn.swish
    nn.tanh nn.top_k nn.weighted_moments nn.zero_fraction norm not_equal one_hot ones ones_like pad pow range rank
    reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape
    reverse roll round scatter_nd shape sigmoid sign sin size slice space_to_batch split sqrt square squeeze stack
    stop_gradient strided_slice subtract tanh tensordot tile transpose truediv unstack where zeros zeros_like
    """
)

CLASSES = LAYERS | LOOKUPS | APPLICATIONS | MODELS | OPERATIONS | SETTINGS | VALUES
WRITTEN_BY_KERAS_2 = ("TFOpLambda", "SlicingOpLambda")  # a layer each, for the function that its `function` names
# Whole names of the modules whose members the lists above name, as Keras 3 and the last of Keras 2 write them.
MODULES = re.compile(
    r"(tf_)?keras(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|quantizers|ops|"
    r"mixed_precision)|\.(src|layers|engine|mixed_precision|initializers)(\.[a-z]\w*)+)?|tensorflow\.python\.ops\.init_ops_v2"
)
FUNCTION_MODULES = re.compile(
    r"builtins|(tf_)?keras(\.src)?\.(activations|initializers|regularizers|constraints)(\.[a-z]\w*)*"
)
PACKAGES = ("", "keras", "Keras")  # before the > of a registered name
UNNAMED_PACKAGE = "Custom"  # of whoever names none: users, and Keras 2 for APPLICATIONS
