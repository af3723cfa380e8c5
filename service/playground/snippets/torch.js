/** The layer in PyTorch. */
import { called, keyword, nested, perAxis, tuple } from "./literals.js";
import { checkIndices, isPadded, isQuantized, isSymmetric, missing, outputPadding, upTo } from "./layer.js";

const LAYERS = { conv, conv_transpose: convTranspose, max: maxPool, avg: avgPool, lp: lpPool, unpool, unfold, fold };
const MODES = { reflect: "reflect", replicate: "replicate", circular: "circular" };

/** @param layer  See layerOf. @returns {{imports: string[], operands: string[], lines: string[]}} */
export function torch(layer) {
  if (isQuantized(layer)) missing("PyTorch has other quantized layers: their scales belong to the tensors.");
  const build = LAYERS[layer.op] ?? missing("PyTorch has no such layer.");
  const { before = [], expression, results = "output" } = build(layer);
  const { gradient } = layer;
  const lines = [...before, `${results} = ${expression}`];
  const names = results.split(", ");
  if (gradient) {
    lines.push(`(grad_${gradient},) = torch.autograd.grad(${names[0]}, ${gradient}, grad_output)`);
    lines.push(`print(grad_${gradient}.tolist())`);
  } else {
    lines.push(...names.map((name) => `print(${name}.tolist())`));
  }
  return { imports: ["import torch", "import torch.nn.functional as F"], operands: declared(layer), lines };
}

function declared({ operands, gradOutput, gradient, dtype }) {
  const all = { ...operands, ...(gradient && { grad_output: gradOutput }) };
  return Object.entries(all).map(([name, tensor]) => {
    const type = name === "indices" ? "int64" : dtype;
    const more = name === gradient ? ", requires_grad=True" : "";
    return `${name} = torch.tensor(${nested(tensor)}, dtype=torch.${type}${more})`;
  });
}

const first = ({ channelsFirst, rank }, name) =>
  channelsFirst ? name : `${name}.permute${tuple([0, rank + 1, ...upTo(1, rank)])}`;
const back = ({ channelsFirst, rank }, expression) =>
  channelsFirst ? expression : `${expression}.permute${tuple([0, ...upTo(2, rank), 1])}`;
const weightOf = ({ channelsFirst, rank }) =>
  channelsFirst ? "weight" : `weight.permute${tuple([rank + 1, rank, ...upTo(0, rank)])}`;
const biasOf = ({ operands: { bias } }) => bias && (bias.shape.length > 1 ? "bias.flatten()" : "bias");

/**
 * What is in PyTorch's order in memory, too. A permuted tensor with an axis of size 1 looks as if it were, and then the
 * gradient of a weight may end with "grad_weight needs to be contiguous", and that of max_pool3d go astray.
 */
const inOrder = ({ channelsFirst, gradient }, expression) =>
  channelsFirst || !gradient ? expression : `${expression}.clone(memory_format=torch.contiguous_format)`;
const hasOneChannel = ({ operands: { weight } }) => weight.shape.slice(-2).includes(1);
const asWeight = (layer) => (hasOneChannel(layer) ? inOrder(layer, weightOf(layer)) : weightOf(layer));

/** Sides as F.pad takes them: those of the last axis first. */
const sidesOf = (padding) => tuple([...padding].reverse().flat());
const padded = (name, padding, ...more) =>
  isPadded(padding) ? called("F.pad", name, sidesOf(padding), ...more) : name;

function conv(layer) {
  const { rank, padding, stride, dilation, parameters } = layer;
  const mode = MODES[parameters.padding_mode];
  const isOwn = isSymmetric(padding) && !mode;
  const x = first(layer, "input");
  const expression = called(
    `F.conv${rank}d`,
    isOwn ? x : padded(x, padding, mode ? `mode="${mode}"` : ""),
    asWeight(layer),
    biasOf(layer) ?? "",
    keyword("stride", perAxis(stride), 1),
    keyword("padding", isOwn ? perAxis(padding.map(([before]) => before)) : 0, 0),
    keyword("dilation", perAxis(dilation), 1),
    keyword("groups", parameters.groups, 1),
  );
  return { expression: back(layer, expression) };
}

function convTranspose(layer) {
  const { rank, padding, stride, dilation, parameters, sizes, outputs, extent } = layer;
  const more = outputPadding(layer);
  const isOwn =
    isSymmetric(padding) && more.every((size, axis) => 0 <= size && size < Math.max(stride[axis], dilation[axis]));
  const bias = biasOf(layer);
  const name = `F.conv_transpose${rank}d`;
  const common = [
    keyword("dilation", perAxis(dilation), 1),
    keyword("stride", perAxis(stride), 1),
    keyword("groups", parameters.groups, 1),
  ];
  if (isOwn) {
    const own = [
      keyword("padding", perAxis(padding.map(([before]) => before)), 0),
      keyword("output_padding", perAxis(more), 0),
    ];
    return {
      expression: back(layer, called(name, first(layer, "input"), asWeight(layer), bias ?? "", ...own, ...common)),
    };
  }
  const cut = padding.map(([before], axis) => [
    -before,
    outputs[axis] + before - ((sizes[axis] - 1) * stride[axis] + extent[axis]),
  ]);
  const whole = called(name, first(layer, "input"), asWeight(layer), ...common);
  const added = bias ? ` + ${bias}.reshape${tuple([-1, ...Array(rank).fill(1)])}` : "";
  return {
    before: [
      "# conv_transpose cuts both sides alike: compute the whole, then cut it (negative padding) and add the bias",
      `whole = ${whole}`,
    ],
    expression: back(layer, bias ? `(${padded("whole", cut)}${added})` : padded("whole", cut)),
  };
}

/** Whether a pooling's padding is one that PyTorch takes. */
const isOwnPadding = ({ padding, kernel }) =>
  isSymmetric(padding) && padding.every(([before], axis) => before <= Math.floor(kernel[axis] / 2));

function strideOf({ kernel, stride }) {
  return keyword("stride", perAxis(stride), perAxis(kernel));
}

function maxPool(layer) {
  const { rank, kernel, dilation, padding, reach, parameters, gradient, operands } = layer;
  if (gradient && parameters.ties !== "first")
    missing("PyTorch gives the gradient of a tie to the first maximum only.");
  const wantsIndices = parameters.return_indices && !gradient;
  const results = wantsIndices ? "output, indices" : "output";
  const both = (expression) =>
    wantsIndices
      ? `(${layer.channelsFirst ? "one" : `one.permute${tuple([0, ...upTo(2, rank), 1])}`} for one in ${expression})`
      : back(layer, expression);
  if (wantsIndices && (parameters.index_scheme !== "plane" || parameters.storage_order !== "row_major")) {
    missing(
      "PyTorch counts indices within the plane, along its rows: set index_scheme=plane, storage_order=row_major.",
    );
  }
  if (parameters.output_size) {
    const adaptive = called(
      `F.adaptive_max_pool${rank}d`,
      first(layer, "input"),
      sizesOf(parameters.output_size),
      wantsIndices ? "return_indices=True" : "",
    );
    return { expression: both(adaptive), results };
  }
  const windows = [perAxis(kernel), strideOf(layer)];
  const dilated = keyword("dilation", perAxis(dilation), 1);
  if (isOwnPadding(layer)) {
    const expression = called(
      `F.max_pool${rank}d`,
      first(layer, "input"),
      ...windows,
      keyword("padding", perAxis(padding.map(([before]) => before)), 0),
      dilated,
      keyword("ceil_mode", parameters.ceil_mode ? "True" : "False", "False"),
      wantsIndices ? "return_indices=True" : "",
    );
    return { expression: both(expression), results };
  }
  if (gradient && operands.input.data.includes(-Infinity))
    missing("PyTorch has no such padding, and padding ties with -inf.");
  if (wantsIndices) missing("PyTorch has no such padding; after F.pad the indices would count in the padded plane.");
  const x = padded(first(layer, "input"), reach, 'value=float("-inf")');
  return {
    before: ["# max_pool pads both sides alike, by at most half a window: pad before"],
    expression: back(layer, called(`F.max_pool${rank}d`, x, ...windows, dilated)),
  };
}

const sizesOf = (sizes) => (Array.isArray(sizes) ? tuple(sizes) : `${sizes}`);

function avgPool(layer) {
  const { rank, kernel, dilation, padding, reach, counted, overhang, parameters, sizes, taps } = layer;
  const { divisor_override: divisor, count_include_pad: counts } = parameters;
  const name = `F.avg_pool${rank}d`;
  if (parameters.output_size) {
    if (divisor) missing("PyTorch's adaptive average pooling has no divisor_override.");
    const adaptive = called(`F.adaptive_avg_pool${rank}d`, first(layer, "input"), sizesOf(parameters.output_size));
    return { expression: back(layer, adaptive) };
  }
  if (dilation.some((one) => one > 1)) missing("PyTorch's average pooling has no dilation.");
  const windows = [perAxis(kernel), strideOf(layer)];
  const isLarge = rank === 3 && sizes.some((size, axis) => size < kernel[axis]);
  if (isOwnPadding(layer) && !isLarge && !(rank === 1 && divisor)) {
    const expression = called(
      name,
      first(layer, "input"),
      ...windows,
      keyword("padding", perAxis(padding.map(([before]) => before)), 0),
      keyword("ceil_mode", parameters.ceil_mode ? "True" : "False", "False"),
      `count_include_pad=${counts ? "True" : "False"}`,
      divisor ? `divisor_override=${divisor}` : "",
    );
    return { expression: back(layer, expression) };
  }
  if (divisor) {
    const sums = padded(first(layer, "input"), reach);
    const expression =
      rank === 1
        ? `(${called(name, sums, ...windows)} * ${taps} / ${divisor})`
        : called(name, sums, ...windows, `divisor_override=${divisor}`);
    return { expression: back(layer, expression) };
  }
  const outside = counts ? overhang : reach;
  const x = counts ? padded(first(layer, "input"), counted) : first(layer, "input");
  const pooled = (one) => called(name, padded(one, outside), ...windows);
  return {
    before: [
      "# avg_pool pads both sides alike: pad before, and divide by the share of the window that counts",
      `x = ${x}`,
    ],
    expression: back(layer, `(${pooled("x")} / ${pooled("torch.ones_like(x)")})`),
  };
}

function lpPool(layer) {
  const { rank, kernel, dilation, reach, parameters } = layer;
  if (parameters.output_size) missing("PyTorch has no adaptive Lp pooling.");
  if (dilation.some((one) => one > 1)) missing("PyTorch's Lp pooling has no dilation.");
  const x = padded(`${first(layer, "input")}.abs()`, reach);
  return {
    before: [
      "# lp_pool takes no absolute values, has no padding, and scales the overhang of ceil_mode up: see to all before",
    ],
    expression: back(layer, called(`F.lp_pool${rank}d`, x, parameters.norm_type, perAxis(kernel), strideOf(layer))),
  };
}

function unpool(layer) {
  checkIndices(layer, "PyTorch");
  const { rank, kernel, stride, padding, sizes, outputs, parameters, operands, dtype, channels } = layer;
  const inferred = sizes.map(
    (size, axis) => (size - 1) * stride[axis] - padding[axis][0] - padding[axis][1] + kernel[axis],
  );
  const isNear = outputs.every((size, axis) => Math.abs(size - inferred[axis]) < stride[axis]);
  const [x, indices] = [first(layer, "input"), first(layer, "indices")];
  if (parameters.kernel_size && isSymmetric(padding) && isNear) {
    const expression = called(
      `F.max_unpool${rank}d`,
      x,
      indices,
      perAxis(kernel),
      strideOf(layer),
      keyword("padding", perAxis(padding.map(([before]) => before)), 0),
      keyword("output_size", tuple(outputs), tuple(inferred)),
    );
    return { expression: back(layer, expression) };
  }
  const plane = outputs.reduce((one, other) => one * other, 1);
  const zeros = `torch.zeros${tuple([operands.input.shape[0], channels, plane, `dtype=torch.${dtype}`])}`;
  const expression = `${zeros}.scatter(2, ${indices}.flatten(2), ${x}.flatten(2)).unflatten(2, ${tuple(outputs)})`;
  return { before: ["# max_unpool takes sizes within one stride only: scatter"], expression: back(layer, expression) };
}

/** Windows as F.unfold and F.fold take them, which have two axes: a first of size 1 where the layer has one. */
function twoAxes({ rank, kernel, stride, dilation, padding }) {
  if (rank === 3) missing("F.unfold and F.fold have two spatial axes.");
  const both = (values) => perAxis(rank === 1 ? [1, ...values] : values);
  const isOwn = isSymmetric(padding);
  return {
    isOwn,
    kernel: both(kernel),
    more: [
      keyword("dilation", both(dilation), 1),
      keyword("padding", isOwn ? perAxis([...(rank === 1 ? [0] : []), ...padding.map(([before]) => before)]) : 0, 0),
      keyword("stride", both(stride), 1),
    ],
  };
}

function unfold(layer) {
  const { rank, padding, channelsFirst, channels, taps } = layer;
  const { isOwn, kernel, more } = twoAxes(layer);
  const x = isOwn ? first(layer, "input") : padded(first(layer, "input"), padding);
  const patches = called("F.unfold", rank === 1 ? `${x}.unsqueeze(2)` : x, kernel, ...more);
  if (channelsFirst) return { expression: patches };
  return { expression: `${patches}.unflatten(1, (${channels}, ${taps})).permute(0, 3, 2, 1).flatten(2)` };
}

function fold(layer) {
  const { rank, padding, channelsFirst, channels, taps, sizes } = layer;
  const { isOwn, kernel, more } = twoAxes(layer);
  const whole = isOwn ? sizes : sizes.map((size, axis) => size + padding[axis][0] + padding[axis][1]);
  const matrix = channelsFirst
    ? "input"
    : `input.unflatten(2, (${taps}, ${channels})).permute(0, 3, 2, 1).flatten(1, 2)`;
  const image = called("F.fold", matrix, tuple(rank === 1 ? [1, ...whole] : whole), kernel, ...more);
  const flat = rank === 1 ? `${image}.squeeze(2)` : image;
  const cut = padding.map(([before, after]) => [-before, -after]);
  return { expression: back(layer, isOwn ? flat : padded(flat, cut)) };
}
