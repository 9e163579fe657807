"""Operators that an exported PyTorch program may call and still open untrusted: a list of what is allowed.

torch.export.load takes any name that begins with torch, math or _operator for a function, torch.hub.load and
torch.ops.aten.save among them, which the program then calls with values of the file. What is listed are functions
of tensors and numbers as PyTorch 2.6 to 2.13 export them from plain modules; `aten.from_file`, `aten.save` and whatever
else takes a file's name is not. Knows names alone; does not import torch.
"""

from __future__ import annotations

import re

ATEN = frozenset(  # with and without an underscore behind them, which computes in place
    """
    __and__ __iand__ __ior__ __ixor__ __or__ __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async
    _assert_scalar _assert_tensor_metadata _batch_norm_impl_index _batch_norm_no_update _cdist_forward _conj
    _convolution _convolution_mode _embedding_bag _embedding_bag_forward_only _euclidean_dist _fft_c2c _fft_c2r
    _fft_r2c _grouped_mm _linalg_det _local_scalar_dense _log_softmax _native_batch_norm_legit
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training _pdist_forward _prelu_kernel
    _reshape_alias _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _softmax _to_copy _trilinear _unique _unique2
    _unsafe_index _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr affine_grid_generator alias
    alias_copy all allclose alpha_dropout amax amin aminmax angle any arange arccos arccosh arcsin arcsinh arctan
    arctan2 arctanh argmax argmin argsort argwhere as_strided asin asinh atan atan2 atanh atleast_1d atleast_2d
    atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm bartlett_window batch_norm bernoulli bilinear bincount
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window block_diag
    bmm broadcast_tensors broadcast_to bucketize cartesian_prod cat cauchy cdist ceil celu chain_matmul
    channel_shuffle cholesky chunk clamp clamp_max clamp_min clip clone col2im column_stack combinations complex
    concat concatenate conj constant_pad_nd contiguous conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d convolution copy copysign corrcoef cos cosh cosine_similarity count_nonzero cov cross
    cross_entropy_loss cummax cummin cumprod cumsum cumulative_trapezoid deg2rad det detach detach_copy diag
    diag_embed diagflat diagonal diagonal_copy diff digamma dist div divide dot dropout dsplit dstack einsum elu
    embedding embedding_bag embedding_renorm empty empty_like empty_strided eq equal erf erfc erfinv exp exp2 expand
    expand_as expand_copy expm1 exponential eye fake_quantize_per_channel_affine fake_quantize_per_tensor_affine
    fake_quantize_per_tensor_affine_cachemask feature_alpha_dropout feature_dropout fft_fft fft_fft2 fft_fftfreq
    fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2 fft_irfftn fft_rfft
    fft_rfft2 fft_rfftfreq fft_rfftn fill fix flatten flip fliplr flipud float_power floor floor_divide fmax fmin fmod
    frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like gather gcd ge gelu geometric
    glu greater greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt hamming_window
    hann_window hardshrink hardsigmoid hardswish hardtanh heaviside histc hsplit hstack huber_loss hypot i0 igamma
    igammac im2col imag index index_add index_copy index_fill index_put index_reduce index_select inner instance_norm
    inverse is_nonzero isclose isfinite isin isinf isnan isneginf isposinf isreal istft item kaiser_window kron
    kthvalue l1_loss layer_norm lcm ldexp le leaky_relu lerp less less_equal lgamma lift lift_fresh lift_fresh_copy
    linalg_cholesky linalg_cross linalg_det linalg_eigh linalg_inv linalg_inv_ex linalg_ldl_factor linalg_lu
    linalg_matmul linalg_matrix_norm linalg_matrix_power linalg_multi_dot linalg_norm linalg_pinv linalg_qr
    linalg_slogdet linalg_solve linalg_svd linalg_svdvals linalg_vector_norm linear linspace log log10 log1p log2
    log_normal log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or
    logical_xor logit logspace logsumexp lstm lstm_cell lt lu_unpack mH mT margin_ranking_loss masked_fill
    masked_scatter masked_select matmul matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum mean median meshgrid
    min minimum mish mm mode moveaxis movedim mse_loss msort mul multinomial multiply mv mvlgamma nan_to_num nanmean
    nanmedian nanquantile nansum narrow narrow_copy native_batch_norm native_dropout native_group_norm
    native_layer_norm ne neg negative new_empty new_empty_strided new_full new_ones new_zeros nonzero nonzero_numpy
    nonzero_static norm norm_except_dim normal normal_functional not_equal nuclear_norm numel numpy_T one_hot ones
    ones_like orgqr outer pad pad_sequence pairwise_distance pdist permute permute_copy pinverse pixel_shuffle
    pixel_unshuffle poisson polar polygamma positive pow prelu prod quantile rad2deg rand rand_like randint
    randint_like randn randn_like randperm ravel real reciprocal reflection_pad1d reflection_pad2d reflection_pad3d
    relu relu6 remainder renorm repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape
    reshape_as resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round rrelu
    rrelu_with_noise rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce
    searchsorted select select_copy select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh slice slice_copy
    slice_scatter slogdet softmax softplus softshrink sort special_bessel_j0 special_digamma special_entr special_erf
    special_erfc special_erfcx special_exp2 special_expit special_expm1 special_gammaln special_i0 special_i0e
    special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax special_logit special_logsumexp
    special_ndtr special_ndtri special_polygamma special_round special_sinc special_softmax special_xlog1py
    special_xlogy special_zeta split split_copy split_with_sizes sqrt square squeeze squeeze_copy stack std std_mean
    stft sub subtract sum sum_to_size svd swapaxes swapdims sym_constrain_range sym_constrain_range_for_size
    sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride t t_copy take take_along_dim tan tanh tensor
    tensor_split tensordot threshold tile to topk transpose transpose_copy trapezoid trapz triangular_solve tril
    tril_indices triu triu_indices true_divide trunc type_as unbind unbind_copy unflatten unfold unfold_copy uniform
    unique_consecutive unique_dim unsafe_chunk unsafe_split unsqueeze unsqueeze_copy upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d vander var var_mean vdot view view_as view_as_complex view_as_complex_copy view_as_real
    view_as_real_copy view_copy vsplit vstack where xlogy zero zeros zeros_like
    """.split()  # noqa: SIM905 - a list of strings would be four times as long
)
PRIMS = frozenset(
    """
    abs acos acosh add asin asinh atan atanh broadcast_in_dim ceil convert_element_type cos cosh div eq erf exp floor
    ge gt le log lt mul ne neg pow remainder reshape round sin sinh sqrt squeeze sub sum tan tanh transpose var where
    amax amin prod iota
    """.split()  # noqa: SIM905
)
OTHERS = frozenset(
    """
    higher_order.cond higher_order.wrap_with_autocast higher_order.wrap_with_set_grad_enabled
    quantized_decomposed.dequantize_per_channel.default quantized_decomposed.dequantize_per_tensor.default
    quantized_decomposed.quantize_per_channel.default quantized_decomposed.quantize_per_tensor.default
    torchvision.deform_conv2d.default torchvision.nms.default torchvision.roi_align.default
    torchvision.roi_pool.default
    """.split()  # noqa: SIM905
)
FUNCTIONS = frozenset(  # of sizes; without powers and shifts, whose results may have any length
    """
    _operator.abs _operator.add _operator.and_ _operator.eq _operator.floordiv _operator.ge _operator.getitem
    _operator.gt _operator.le _operator.lt _operator.mod _operator.mul _operator.ne _operator.neg _operator.not_
    _operator.or_ _operator.pos _operator.sub _operator.truediv
    math.ceil math.floor math.sqrt math.trunc
    torch._sym_sqrt torch.sym_float torch.sym_int torch.sym_ite torch.sym_max torch.sym_min torch.sym_not torch.sym_sum
    """.split()  # noqa: SIM905
)


def is_allowed(target: str) -> bool:
    """Whether a node of an exported program may call this, such as torch.ops.aten.conv2d.default."""
    if target in FUNCTIONS:
        return True
    match = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)(\.[A-Za-z]\w*)?", target, re.ASCII)
    if match is None:
        return False
    space, name, overload = match.groups()
    if space == "aten":
        return overload is not None and (name in ATEN or name.removesuffix("_") in ATEN)
    if space == "prims":
        return overload is not None and name in PRIMS
    return target.removeprefix("torch.ops.") in OTHERS
