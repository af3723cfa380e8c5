/** The layer in TensorFlow, whose kernels on CPUs have their channels last. */
import { called, keyword, nested } from "./literals.js";
import { isPadded, isQuantized, missing, outputPadding, upTo } from "./layer.js";

const LAYERS = { conv, conv_transpose: convTranspose, max: maxPool, avg: avgPool, unfold };

const POOLS = ["max", "avg"];

/** @param given  See layerOf. @returns {{imports: string[], operands: string[], lines: string[]}} */
export function tensorflow(given) {
  const layer = given.rank === 3 && POOLS.includes(given.op) ? { ...given, dtype: "float32" } : given; // all that it has
  if (isQuantized(layer)) missing("TensorFlow has no such quantized layer.");
  const build = LAYERS[layer.op] ?? missing("TensorFlow has no such layer.");
  const { before = [], expression } = build(layer);
  const { gradient, operands, gradOutput, dtype } = layer;
  const all = { ...operands, ...(gradient && { grad_output: gradOutput }) };
  const declared = Object.entries(all).map(
    ([name, tensor]) => `${name} = tf.constant(${nested(tensor)}, dtype=tf.${dtype})`,
  );
  const lines = gradient
    ? [
        "with tf.GradientTape() as tape:",
        `    tape.watch(${gradient})`,
        ...before.map((line) => `    ${line}`),
        `    output = ${expression}`,
        `grad_${gradient} = tape.gradient(output, ${gradient}, output_gradients=grad_output)`,
        `print(grad_${gradient}.numpy().tolist())`,
      ]
    : [...before, `output = ${expression}`, "print(output.numpy().tolist())"];
  return { imports: ["import tensorflow as tf"], operands: declared, lines };
}

const last = ({ channelsFirst, rank }, name) =>
  channelsFirst ? `tf.transpose(${name}, [${[0, ...upTo(2, rank), 1].join(", ")}])` : name;
const back = ({ channelsFirst, rank }, expression) =>
  channelsFirst ? `tf.transpose(${expression}, [${[0, rank + 1, ...upTo(1, rank)].join(", ")}])` : expression;
const weightOf = ({ channelsFirst, rank }) =>
  channelsFirst ? `tf.transpose(weight, [${[...upTo(2, rank), 1, 0].join(", ")}])` : "weight";
const list = (values) => `[${values.map((value) => (Array.isArray(value) ? list(value) : value)).join(", ")}]`;

const padded = (name, padding, ...more) =>
  isPadded(padding) ? called("tf.pad", name, list([[0, 0], ...padding, [0, 0]]), ...more) : name;

const isDilated = ({ dilation }) => dilation.some((one) => one > 1);
const withBias = ({ operands: { bias } }, expression) => {
  if (!bias) return expression;
  return `${expression} + ${bias.shape.length > 1 ? "tf.reshape(bias, [-1])" : "bias"}`;
};

/** A convolution of each group; TensorFlow's own of several groups needs a GPU. */
function byGroup(groups, x, weight, convolved) {
  if (groups === 1) return convolved(x, weight);
  const parts = `zip(tf.split(${x}, ${groups}, -1), tf.split(${weight}, ${groups}, -1))`;
  return `tf.concat([${convolved("x", "w")} for x, w in ${parts}], -1)`;
}

function checkDilation(layer) {
  if (!isDilated(layer)) return;
  if (layer.gradient) missing("On CPUs TensorFlow has no gradients of dilated convolutions.");
  if (layer.rank === 3) missing("On CPUs TensorFlow has no dilated convolution of three axes.");
}

function conv(layer) {
  checkDilation(layer);
  const { rank, padding, stride, dilation, parameters } = layer;
  const mode = parameters.padding_mode ?? "zeros";
  if (isPadded(padding) && !["zeros", "reflect"].includes(mode))
    missing(`TensorFlow has no padding mode like ${mode}.`);
  const x = padded(last(layer, "input"), padding, mode === "reflect" ? 'mode="REFLECT"' : "");
  // tf.nn.convolution takes no stride with a dilation; its gradient of three axes needs to be told the data_format
  const isBoth = isDilated(layer) && stride.some((one) => one > 1);
  const convolved = (image, weight) =>
    called(
      isBoth ? `tf.nn.conv${rank}d` : "tf.nn.convolution",
      image,
      weight,
      list(stride),
      '"VALID"',
      rank === 3 ? 'data_format="NDHWC"' : "",
      isDilated(layer) ? `dilations=${list(dilation)}` : "",
    );
  const expression = withBias(layer, byGroup(parameters.groups, x, weightOf(layer), convolved));
  return { expression: back(layer, expression) };
}

function convTranspose(layer) {
  if (isDilated(layer)) missing("On CPUs TensorFlow has no dilated transposed convolution.");
  const { padding, stride, parameters, sizes, outputs, extent, operands } = layer;
  const spans = sizes.map((size, axis) => (size - 1) * stride[axis] + extent[axis]);
  const more = outputPadding(layer);
  const beyond = padding.map(([, after], axis) => Math.max(0, more[axis] - after));
  const wholes = spans.map((span, axis) => span + beyond[axis]);
  if (beyond.some((size, axis) => size >= stride[axis])) missing("TensorFlow adds less than one stride at the end.");
  const { groups } = parameters;
  const filters = outputChannels(layer) / groups;
  const transposed = (image, weight) =>
    called(
      "tf.nn.conv_transpose",
      image,
      weight,
      list([operands.input.shape[0], ...wholes, filters]),
      list(stride),
      'padding="VALID"',
    );
  const whole = byGroup(groups, last(layer, "input"), weightOf(layer), transposed);
  const isCut = padding.some(([before], axis) => before > 0 || outputs[axis] !== wholes[axis]);
  const slices = padding.map(([before], axis) => `${before}:${before + outputs[axis]}`);
  const cut = isCut ? `${whole}[:, ${slices.join(", ")}]` : whole;
  return { expression: back(layer, withBias(layer, cut)) };
}

const outputChannels = ({ output, channelsFirst }) => output.shape[channelsFirst ? 1 : output.shape.length - 1];

/** A pooling of an image that is padded already. */
function pooled({ kernel, stride, dilation }, image, type) {
  return called(
    "tf.nn.pool",
    image,
    list(kernel),
    `"${type}"`,
    keyword("strides", list(stride), list(kernel.map(() => 1))),
    keyword("dilations", list(dilation), list(dilation.map(() => 1))),
  );
}

function checkPool(layer) {
  const { parameters, stride } = layer;
  if (parameters.output_size) missing("TensorFlow's adaptive pooling is a layer of Keras.");
  if (isDilated(layer) && stride.some((one) => one > 1))
    missing("TensorFlow pools with a stride or a dilation, not with both.");
}

function maxPool(layer) {
  checkPool(layer);
  const { gradient, parameters, rank, operands, reach } = layer;
  if (gradient && parameters.ties !== (rank === 3 ? "all" : "first")) {
    missing("TensorFlow gives the gradient of a tie to the first maximum, with three axes to all of them.");
  }
  if (!operands.input.data.every(Number.isFinite))
    missing("TensorFlow's maximum passes over NaN, and of -inf is -3.4e38.");
  const x = padded(last(layer, "input"), reach, "constant_values=input.dtype.min");
  const before = parameters.return_indices && !gradient ? ["# the indices: tf.nn.max_pool_with_argmax"] : [];
  return { before, expression: back(layer, pooled(layer, x, "MAX")) };
}

function avgPool(layer) {
  checkPool(layer);
  const { reach, counted, overhang, parameters, taps } = layer;
  const { divisor_override: divisor, count_include_pad: counts } = parameters;
  if (divisor) {
    const sums = `${pooled(layer, padded(last(layer, "input"), reach), "AVG")} * ${taps} / ${divisor}`;
    return {
      before: ["# TensorFlow has no divisor_override: the mean times the window's size"],
      expression: back(layer, sums),
    };
  }
  const x = counts ? padded(last(layer, "input"), counted) : last(layer, "input");
  const outside = counts ? overhang : reach;
  if (!isPadded(outside)) return { expression: back(layer, pooled(layer, x, "AVG")) };
  const share = pooled(layer, padded("tf.ones_like(x)", outside), "AVG");
  return {
    before: [
      "# TensorFlow never counts padding: pad before, and divide by the share of the window that counts",
      `x = ${x}`,
    ],
    expression: back(layer, `${pooled(layer, padded("x", outside), "AVG")} / ${share}`),
  };
}

function unfold(layer) {
  const {
    rank,
    kernel,
    stride,
    dilation,
    padding,
    operands: { input },
    channels,
    taps,
    channelsFirst,
  } = layer;
  if (rank !== 2) missing("tf.image.extract_patches has two spatial axes.");
  const around = (values) => list([1, ...values, 1]);
  const patches = called(
    "tf.image.extract_patches",
    padded(last(layer, "input"), padding),
    `sizes=${around(kernel)}`,
    `strides=${around(stride)}`,
    `rates=${around(dilation)}`,
    'padding="VALID"',
  );
  const [batch] = input.shape;
  if (!channelsFirst) return { expression: `tf.reshape(${patches}, [${batch}, -1, ${taps * channels}])` };
  const parted = `tf.reshape(${patches}, [${batch}, -1, ${taps}, ${channels}])`;
  const turned = `tf.transpose(${parted}, [0, 3, 2, 1])`;
  return {
    before: ["# TensorFlow's patches have their channels last"],
    expression: `tf.reshape(${turned}, [${batch}, ${channels * taps}, -1])`,
  };
}
