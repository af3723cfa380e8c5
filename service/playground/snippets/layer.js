/** The picture's layer as the programs for other frameworks need it: its windows, resolved for each axis and side. */

/** @typedef {import("../service.js").Tensor} Tensor */

/** Why a framework has no call that gives the picture's numbers; the message is a sentence for its users. */
export class Missing extends Error {}

/** What is not one of a framework's layers. */
export const missing = (sentence) => {
  throw new Missing(sentence);
};

const filled = (value, length) => (Array.isArray(value) ? value : Array(length).fill(value));
const product = (sizes) => sizes.reduce((one, other) => one * other, 1);

/**
 * @param picture  As computePicture makes it.
 * @returns {{
 *   op: string, rank: number, channelsFirst: boolean, parameters: object, gradient: string,
 *   operands: Record<string, Tensor>, gradOutput: Tensor, output: Tensor, dtype: string,
 *   sizes: number[], outputs: number[], kernel: number[], stride: number[], dilation: number[], extent: number[],
 *   padding: number[][], reach: number[][], counted: number[][], overhang: number[][],
 *   channels: number, taps: number
 * }} `op` is "conv", "max", …; `gradient` the operand that is differentiated, or ""; `reach` the padding with which
 *   windows that all fit are as many as the layer has; it consists of `counted`, which an average may count, and of
 *   the `overhang` of ceil_mode.
 */
export function layerOf(picture) {
  const { layer, parameters, spatialAxes: rank } = picture;
  const gradient = picture.view.startsWith("grad_") ? picture.view.slice("grad_".length) : "";
  const channelsFirst = parameters.data_format === "channels_first";
  const spatialOf = (shape) => (channelsFirst ? shape.slice(2) : shape.slice(1, -1));
  const operands = { ...picture.operands };
  if (gradient === "bias") operands.bias ??= zeros(picture.results.grad_bias);
  const { output } = picture.results;
  const op = parameters.mode ?? layer.name;
  const { weight, input } = operands;
  const isImage = op !== "fold";
  const weightSizes = weight && (channelsFirst ? weight.shape.slice(2) : weight.shape.slice(0, -2));
  const kernel = weightSizes ?? filled(parameters.kernel_size ?? 1, rank);
  const stride = filled(parameters.stride ?? kernel, rank);
  const dilation = filled(parameters.dilation ?? 1, rank);
  const extent = kernel.map((size, axis) => (size - 1) * dilation[axis] + 1);
  const sizes = isImage ? spatialOf(input.shape) : filled(parameters.output_size, rank);
  const spans = sizes.map((size, axis) => (size - 1) * stride[axis] + extent[axis]);
  const isSized = op === "conv_transpose" && parameters.framework === "onnx" && parameters.output_size;
  const padding = isSized
    ? paddingForSize(parameters, spans)
    : filled(parameters.padding ?? 0, rank).map((sides) => filled(sides, 2));
  const fitting = sizes.map((size, axis) => {
    const [before, after] = padding[axis];
    return Math.floor((size + before + after - extent[axis]) / stride[axis]) + 1;
  });
  const outputs = ["unfold", "fold"].includes(op) ? fitting : spatialOf(output.shape);
  const reach = padding.map(([before, after], axis) => {
    if (outputs[axis] === fitting[axis]) return [before, after];
    return [before, Math.max(0, (outputs[axis] - 1) * stride[axis] + extent[axis] - sizes[axis] - before)];
  });
  const overhang = reach.map(([, end], axis) => [0, Math.max(0, end - padding[axis][1])]);
  const counted = reach.map(([before, end], axis) => [before, Math.min(end, padding[axis][1])]);
  const image = isImage ? input : output;
  return {
    op,
    rank,
    channelsFirst,
    parameters,
    gradient,
    operands,
    output,
    sizes,
    outputs,
    kernel,
    stride,
    dilation,
    extent,
    padding,
    reach,
    counted,
    overhang,
    gradOutput: picture.gradOutput,
    dtype: output.dtype === "float32" ? "float32" : "float64",
    channels: image.shape[channelsFirst ? 1 : image.shape.length - 1],
    taps: product(kernel),
  };
}

/** What ONNX cuts off a transposed convolution's output of a given size: an odd element at the start, but for "same". */
function paddingForSize({ padding, output_padding, output_size }, spans) {
  const [more, wanted] = [output_padding ?? 0, output_size].map((values) => filled(values, spans.length));
  return spans.map((span, axis) => {
    const total = Math.max(0, span + more[axis] - wanted[axis]);
    const half = Math.floor(total / 2);
    return padding === "same" ? [half, total - half] : [total - half, half];
  });
}

const zeros = ({ dtype, shape, data }) => ({ dtype, shape, data: data.map(() => 0) });

/** Whether both sides of each axis have the same padding. */
export const isSymmetric = (padding) => padding.every(([before, after]) => before === after);

/** Whether there is any padding. */
export const isPadded = (padding) => padding.some((sides) => sides.some(Boolean));

/** Consecutive integers: axes of a permutation. */
export const upTo = (first, count) => Array.from({ length: count }, (_, index) => first + index);

/** What is added at the end of a transposed convolution's output, beyond the windows that padding leaves. */
export function outputPadding({ sizes, outputs, stride, extent, padding }) {
  return sizes.map((size, axis) => {
    const span = (size - 1) * stride[axis] + extent[axis];
    return outputs[axis] - (span - padding[axis][0] - padding[axis][1]);
  });
}

/** Whether an index of max unpooling, in planes, stands for two elements of one plane. */
export function hasRepeatedIndices({ channelsFirst, operands: { indices } }) {
  const { shape, data } = indices;
  const channels = shape[channelsFirst ? 1 : shape.length - 1];
  const plane = product(shape) / (shape[0] * channels);
  const seen = new Set();
  return data.some((value, index) => {
    const item = Math.floor(index / (plane * channels));
    const channel = channelsFirst ? Math.floor(index / plane) % channels : index % channels;
    const key = `${item} ${channel} ${value}`;
    return seen.has(key) || !seen.add(key);
  });
}

/** Refuse what the indices of max unpooling may mean in convpool, and not elsewhere. */
export function checkIndices(layer, framework) {
  const { parameters } = layer;
  if (parameters.index_scheme !== "plane" || parameters.storage_order !== "row_major") {
    missing(
      `${framework} counts indices within the plane, along its rows: set index_scheme=plane, storage_order=row_major.`,
    );
  }
  if (parameters.framework === "onnx" && parameters.output_size) {
    missing(`With framework=onnx the indices count in another size than the output's: ${framework} has no such rule.`);
  }
  if (hasRepeatedIndices(layer)) missing(`An index comes twice: which value ${framework} then keeps is left open.`);
}

/** The one sentence about the layers of quantized networks. */
export const isQuantized = ({ op }) => ["conv_integer", "qlinear_conv"].includes(op);
