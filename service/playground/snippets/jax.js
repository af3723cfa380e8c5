/** The layer in JAX. */
import { called, keyword, nested, tuple } from "./literals.js";
import { isPadded, isQuantized, missing, outputPadding } from "./layer.js";

const LAYERS = { conv, conv_transpose: convTranspose, max: maxPool, avg: avgPool, lp: lpPool, unfold, fold };
const MODES = { reflect: "reflect", replicate: "edge", circular: "wrap" };
const SPATIAL = { 1: "W", 2: "HW", 3: "DHW" };

/** @param layer  See layerOf. @returns {{imports: string[], operands: string[], lines: string[]}} */
export function jax(layer) {
  if (isQuantized(layer)) missing("JAX has no quantized layers.");
  const build = LAYERS[layer.op] ?? missing("JAX has no such layer.");
  const { before = [], expression } = build(layer);
  const { gradient, operands, gradOutput, dtype } = layer;
  const all = { ...operands, ...(gradient && { grad_output: gradOutput }) };
  const declared = Object.entries(all).map(
    ([name, tensor]) => `${name} = jnp.array(${nested(tensor)}, dtype=jnp.${dtype})`,
  );
  const lines = gradient
    ? [
        `output, pull_back = jax.vjp(lambda ${gradient}: ${expression}, ${gradient})`,
        `(grad_${gradient},) = pull_back(grad_output)`,
        `print(grad_${gradient}.tolist())`,
      ]
    : [`output = ${expression}`, "print(output.tolist())"];
  const imports = ["import jax", "import jax.numpy as jnp", "from jax import lax"];
  if (dtype === "float64") imports.push("", 'jax.config.update("jax_enable_x64", True)  # else everything is float32');
  return { imports, operands: declared, lines: [...before, ...lines] };
}

const whole = ({ channelsFirst }, values, other) =>
  channelsFirst ? [other, other, ...values] : [other, ...values, other];
const none = [0, 0];

/** The layouts of input, weight and output. */
function layouts({ channelsFirst, rank }) {
  const axes = SPATIAL[rank];
  const [activations, weight] = channelsFirst ? [`NC${axes}`, `OI${axes}`] : [`N${axes}C`, `${axes}IO`];
  return `dimension_numbers=("${activations}", "${weight}", "${activations}")`;
}

function withBias({ channelsFirst, rank, operands: { bias } }, expression) {
  if (!bias) return expression;
  return `${expression} + ${channelsFirst ? `bias.reshape${tuple([-1, ...Array(rank).fill(1)])}` : "bias"}`;
}

const dilated = ({ dilation }) => keyword("rhs_dilation", tuple(dilation), tuple(dilation.map(() => 1)));

function conv(layer) {
  const { padding, stride, parameters } = layer;
  const mode = MODES[parameters.padding_mode];
  const x =
    mode && isPadded(padding)
      ? called("jnp.pad", "input", tuple(whole(layer, padding, none)), `mode="${mode}"`)
      : "input";
  const inside = mode ? padding.map(() => none) : padding;
  return { expression: withBias(layer, correlated(layer, x, stride, inside)) };
}

const correlated = (layer, x, stride, padding) =>
  called(
    "lax.conv_general_dilated",
    x,
    "weight",
    tuple(stride),
    tuple(padding),
    dilated(layer),
    layouts(layer),
    keyword("feature_group_count", layer.parameters.groups, 1),
  );

function convTranspose(layer) {
  const { padding, stride, parameters, output } = layer;
  const more = outputPadding(layer);
  const cut = padding.map(([before, after], axis) => [before, after - more[axis]]);
  if (parameters.groups === 1) {
    const expression = called(
      "lax.conv_transpose",
      "input",
      "weight",
      tuple(stride),
      tuple(cut),
      dilated(layer),
      layouts(layer),
      "transpose_kernel=True",
      "use_consistent_padding=True",
    );
    return {
      before: ["# transpose_kernel: the kernel is not flipped; use_consistent_padding: padding is what is cut off"],
      expression: withBias(layer, expression),
    };
  }
  // The convolution's image has as many channels as the output, and cells that no window reaches at its end.
  const image = called("jax.ShapeDtypeStruct", tuple(output.shape), "input.dtype");
  const convolution = correlated(layer, "image", stride, cut);
  const transposed = `jax.linear_transpose(lambda image: ${convolution}, ${image})(input)[0]`;
  return {
    before: ["# lax.conv_transpose has no groups: transpose the convolution itself"],
    expression: withBias(layer, transposed),
  };
}

/** The windows of a pooling over all axes, as keywords of lax.reduce_window. */
function windowsOf(layer, padding) {
  const { kernel, stride, dilation } = layer;
  return [
    `window_dimensions=${tuple(whole(layer, kernel, 1))}`,
    `window_strides=${tuple(whole(layer, stride, 1))}`,
    `padding=${tuple(whole(layer, padding, none))}`,
    dilation.some((one) => one > 1) ? `window_dilation=${tuple(whole(layer, dilation, 1))}` : "",
  ];
}

function checkWindows({ parameters }) {
  if (parameters.output_size) missing("JAX has no adaptive pooling.");
}

function maxPool(layer) {
  checkWindows(layer);
  const { gradient, parameters, dilation, operands, reach } = layer;
  if (gradient && parameters.ties !== "first") missing("JAX gives the gradient of a tie to the first maximum only.");
  if (gradient && dilation.some((one) => one > 1)) missing("JAX has no gradient of a dilated max pooling.");
  if (gradient && !operands.input.data.every(Number.isFinite)) {
    missing("JAX gives the gradient of NaN and -inf to other elements.");
  }
  const expression = called("lax.reduce_window", "input", "-jnp.inf", "lax.max", ...windowsOf(layer, reach));
  return { before: parameters.return_indices && !gradient ? ["# JAX has no indices of the maxima"] : [], expression };
}

function avgPool(layer) {
  checkWindows(layer);
  const { reach, counted, overhang, parameters } = layer;
  const { divisor_override: divisor, count_include_pad: counts } = parameters;
  const inside = counts && !divisor;
  const windows = windowsOf(layer, inside ? overhang : reach);
  const sums = (one) => called("lax.reduce_window", one, "0.0", "lax.add", ...windows);
  if (divisor) return { expression: `${sums("input")} / ${divisor}` };
  const x = inside && isPadded(counted) ? called("jnp.pad", "input", tuple(whole(layer, counted, none))) : "input";
  return {
    before: ["# divided by the number of elements that count, window by window"],
    expression: `${sums(x)} / ${sums(`jnp.ones_like(${x})`)}`,
  };
}

function lpPool(layer) {
  checkWindows(layer);
  const { norm_type: p } = layer.parameters;
  const sums = called(
    "lax.reduce_window",
    `jnp.abs(input) ** ${p}`,
    "0.0",
    "lax.add",
    ...windowsOf(layer, layer.reach),
  );
  return {
    before: layer.gradient ? ["# the gradient of a window of zeros is NaN here, and 0 in the picture"] : [],
    expression: `${sums} ** (1 / ${p})`,
  };
}

const patchesOf = ({ kernel, stride, padding }, image, dilation) =>
  called("lax.conv_general_dilated_patches", image, tuple(kernel), tuple(stride), tuple(padding), dilation);

function unfold(layer) {
  const {
    channelsFirst,
    operands: { input },
    channels,
    taps,
  } = layer;
  const x = channelsFirst ? "input" : "jnp.moveaxis(input, -1, 1)";
  const patches = patchesOf(layer, x, dilated(layer));
  const [batch] = input.shape;
  if (channelsFirst) return { expression: `${patches}.reshape(${batch}, ${channels * taps}, -1)` };
  const parted = `${patches}.reshape(${batch}, ${channels}, ${taps}, -1)`;
  return { expression: `${parted}.transpose(0, 3, 2, 1).reshape(${batch}, -1, ${taps * channels})` };
}

function fold(layer) {
  const {
    channelsFirst,
    operands: { input },
    channels,
    taps,
    sizes,
    outputs,
  } = layer;
  const [batch] = input.shape;
  const parted = `input.reshape(${batch}, -1, ${taps}, ${channels}).transpose(0, 3, 2, 1)`;
  const matrix = `${channelsFirst ? "input" : parted}.reshape${tuple([batch, channels * taps, ...outputs])}`;
  const image = called("jax.ShapeDtypeStruct", tuple([batch, channels, ...sizes]), "input.dtype");
  const patches = patchesOf(layer, "image", dilated(layer));
  const expression = `jax.linear_transpose(lambda image: ${patches}, ${image})(${matrix})[0]`;
  return {
    before: ["# JAX has no fold: it is the transpose of taking the patches"],
    expression: channelsFirst ? expression : `jnp.moveaxis(${expression}, 1, -1)`,
  };
}
