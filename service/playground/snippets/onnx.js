/** The layer as an operator of ONNX, run by ONNX Runtime: forward only, in float32, which is what it has. */
import { nested, python, tuple } from "./literals.js";
import { checkIndices, isPadded, missing, outputPadding, upTo } from "./layer.js";

const LAYERS = {
  conv,
  conv_transpose: convTranspose,
  max: maxPool,
  avg: avgPool,
  lp: lpPool,
  unpool,
  fold,
  conv_integer: convInteger,
  qlinear_conv: qlinearConv,
};
const MODES = { reflect: "reflect", replicate: "edge", circular: "wrap" };
const OPSET = 22;
const IR_VERSION = 10;

/** @param layer  See layerOf. @returns {{imports: string[], operands: string[], lines: string[]}} */
export function onnx(layer) {
  if (layer.gradient) missing("ONNX has no gradients.");
  const build = LAYERS[layer.op] ?? missing("ONNX has no such layer.");
  const { before = [], operands, nodes, results = [["output", "np.float32"]] } = build(layer);
  const lines = [
    ...before,
    "operands = {",
    ...operands.map(([name, expression]) => `    "${name}": ${expression},`),
    "}",
    `nodes = [${nodes.length > 1 ? `\n    ${nodes.join(",\n    ")},\n` : nodes[0]}]`,
    "of = helper.np_dtype_to_tensor_dtype",
    "inputs = [helper.make_tensor_value_info(name, of(array.dtype), array.shape) for name, array in operands.items()]",
    `outputs = [${results.map(described).join(", ")}]`,
    'graph = helper.make_graph(nodes, "layer", inputs, outputs)',
    `model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", ${OPSET})], ir_version=${IR_VERSION})`,
    `${results.map(([name]) => name).join(", ")}${results.length === 1 ? "," : ""} = ` +
      "onnxruntime.InferenceSession(model.SerializeToString()).run(None, operands)",
    ...results.map(([name]) => `print(${back(layer, name)}.tolist())`),
  ];
  const imports = ["import numpy as np", "import onnxruntime", "from onnx import helper"];
  return { imports, operands: declared(layer), lines };
}

const described = ([name, type]) => `helper.make_tensor_value_info("${name}", of(np.dtype(${type})), None)`;

const TYPES = { indices: "int64", bias: "int32" };

function declared({ op, operands }) {
  const isQuantized = ["conv_integer", "qlinear_conv"].includes(op);
  return Object.entries(operands).map(([name, tensor]) => {
    let type = "float32";
    if (name === "indices") type = TYPES.indices;
    else if (isQuantized) type = name.endsWith("_scale") ? "float32" : name === "bias" ? TYPES.bias : tensor.dtype;
    return `${name} = np.array(${nested(tensor)}, np.${type})`;
  });
}

const contiguous = (expression) => `np.ascontiguousarray(${expression})`;
const first = ({ channelsFirst, rank }, name) =>
  channelsFirst ? name : contiguous(`${name}.transpose${tuple([0, rank + 1, ...upTo(1, rank)])}`);
const back = ({ channelsFirst, rank }, name) =>
  channelsFirst ? name : `${name}.transpose${tuple([0, ...upTo(2, rank), 1])}`;
const weightOf = ({ channelsFirst, rank }) =>
  channelsFirst ? "weight" : contiguous(`weight.transpose${tuple([rank + 1, rank, ...upTo(0, rank)])}`);

const pads = (padding) => [...padding.map(([before]) => before), ...padding.map(([, after]) => after)];

/** A node; attributes that are undefined are left out. */
function node(type, inputs, outputs, attributes) {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  const more = given.map(([name, value]) => `, ${name}=${python(value)}`).join("");
  return `helper.make_node("${type}", ${python(inputs)}, ${python(outputs)}${more})`;
}

const unlessAll = (values, byDefault) => (values.flat().every((value) => value === byDefault) ? undefined : values);

const windows = ({ stride, padding, dilation }) => ({
  strides: stride,
  pads: unlessAll(pads(padding), 0),
  dilations: unlessAll(dilation, 1),
});

function conv(layer) {
  const {
    padding,
    parameters,
    operands: { bias },
  } = layer;
  const mode = MODES[parameters.padding_mode];
  const group = parameters.groups === 1 ? undefined : parameters.groups;
  const operands = [
    ["input", first(layer, "input")],
    ["weight", weightOf(layer)],
  ];
  if (bias) operands.push(["bias", "bias.reshape(-1)"]);
  const names = operands.map(([name]) => name);
  if (!mode || !isPadded(padding)) {
    return { operands, nodes: [node("Conv", names, ["output"], { ...windows(layer), group })] };
  }
  const sides = pads([[0, 0], [0, 0], ...padding]);
  return {
    operands: [...operands, ["pads", `np.array(${python(sides)}, np.int64)`]],
    nodes: [
      node("Pad", ["input", "pads"], ["padded"], { mode }),
      node("Conv", ["padded", ...names.slice(1)], ["output"], { ...windows(layer), pads: undefined, group }),
    ],
  };
}

function convTranspose(layer) {
  const {
    stride,
    parameters,
    operands: { bias },
  } = layer;
  const more = outputPadding(layer);
  if (more.some((size, axis) => size < 0 || size >= stride[axis])) {
    missing("ONNX Runtime adds less than one stride at the end of the output.");
  }
  const operands = [
    ["input", first(layer, "input")],
    ["weight", weightOf(layer)],
  ];
  if (bias) operands.push(["bias", "bias.reshape(-1)"]);
  const attributes = {
    ...windows(layer),
    output_padding: unlessAll(more, 0),
    group: parameters.groups === 1 ? undefined : parameters.groups,
  };
  return {
    operands,
    nodes: [
      node(
        "ConvTranspose",
        operands.map(([name]) => name),
        ["output"],
        attributes,
      ),
    ],
  };
}

function poolWindows(layer) {
  const { kernel, padding, parameters } = layer;
  if (parameters.output_size) missing("ONNX has no adaptive pooling.");
  if (padding.some((sides, axis) => Math.max(...sides) >= kernel[axis])) {
    missing("ONNX Runtime takes less padding than the window's size only.");
  }
  return { kernel_shape: kernel, ...windows(layer), ceil_mode: parameters.ceil_mode ? 1 : undefined };
}

function maxPool(layer) {
  const {
    channelsFirst,
    parameters,
    operands: { input },
  } = layer;
  const attributes = poolWindows(layer);
  if (!input.data.every(Number.isFinite)) missing("ONNX Runtime's maximum passes over NaN, and of -inf is -3.4e38.");
  const operands = [["input", first(layer, "input")]];
  if (!parameters.return_indices) return { operands, nodes: [node("MaxPool", ["input"], ["output"], attributes)] };
  if (!channelsFirst || parameters.index_scheme !== "tensor") {
    return {
      before: [
        "# ONNX counts indices in the whole tensor, channels first: with index_scheme=tensor they would compare",
      ],
      operands,
      nodes: [node("MaxPool", ["input"], ["output"], attributes)],
    };
  }
  const order = parameters.storage_order === "column_major" ? 1 : undefined;
  return {
    operands,
    nodes: [node("MaxPool", ["input"], ["output", "indices"], { ...attributes, storage_order: order })],
    results: [
      ["output", "np.float32"],
      ["indices", "np.int64"],
    ],
  };
}

function avgPool(layer) {
  const { count_include_pad: counts, divisor_override: divisor } = layer.parameters;
  if (divisor) missing("ONNX has no divisor_override.");
  const attributes = { ...poolWindows(layer), count_include_pad: counts ? 1 : undefined };
  return {
    operands: [["input", first(layer, "input")]],
    nodes: [node("AveragePool", ["input"], ["output"], attributes)],
  };
}

function lpPool(layer) {
  const { norm_type: p } = layer.parameters;
  if (!Number.isInteger(p)) missing("ONNX has integers as p only.");
  const attributes = { ...poolWindows(layer), p };
  return { operands: [["input", first(layer, "input")]], nodes: [node("LpPool", ["input"], ["output"], attributes)] };
}

function unpool(layer) {
  checkIndices(layer, "This program");
  const {
    rank,
    kernel,
    stride,
    padding,
    parameters,
    sizes,
    outputs,
    operands: { input },
    channels,
  } = layer;
  const isSized = Boolean(parameters.kernel_size);
  const strides = isSized ? stride : kernel;
  const sides = isSized ? padding : padding.map(() => [0, 0]);
  const inferred = sizes.map(
    (size, axis) => (size - 1) * strides[axis] - sides[axis][0] - sides[axis][1] + kernel[axis],
  );
  if (outputs.some((size, axis) => size < inferred[axis])) missing("ONNX has no output smaller than the windows give.");
  const [batch] = input.shape;
  const plane = outputs.reduce((one, other) => one * other, 1);
  const ones = Array(rank).fill(1);
  const offsets = `np.arange(${batch * channels}).reshape${tuple([batch, channels, ...ones])} * ${plane}`;
  const operands = [
    ["input", first(layer, "input")],
    ["indices", `${first(layer, "indices")} + ${offsets}`],
  ];
  if (`${outputs}` !== `${inferred}`) {
    operands.push(["output_shape", `np.array(${python([batch, channels, ...outputs])}, np.int64)`]);
  }
  const attributes = { kernel_shape: kernel, strides, pads: unlessAll(pads(sides), 0) };
  return {
    before: ["# ONNX counts indices in the whole tensor, not in each plane"],
    operands,
    nodes: [
      node(
        "MaxUnpool",
        operands.map(([name]) => name),
        ["output"],
        attributes,
      ),
    ],
  };
}

function fold(layer) {
  if (layer.rank !== 2 && layer.dilation.some((one) => one > 1)) {
    missing("ONNX Runtime's Col2Im places dilated windows of other than two axes wrongly.");
  }
  const {
    channelsFirst,
    channels,
    taps,
    sizes,
    kernel,
    operands: { input },
  } = layer;
  const [batch] = input.shape;
  const parted = `input.reshape(${batch}, -1, ${taps}, ${channels}).transpose(0, 3, 2, 1)`;
  const matrix = channelsFirst ? "input" : contiguous(`${parted}.reshape(${batch}, ${channels * taps}, -1)`);
  const operands = [
    ["input", matrix],
    ["image_shape", `np.array(${python(sizes)}, np.int64)`],
    ["block_shape", `np.array(${python(kernel)}, np.int64)`],
  ];
  return {
    operands,
    nodes: [
      node(
        "Col2Im",
        operands.map(([name]) => name),
        ["output"],
        windows(layer),
      ),
    ],
  };
}

const isOne = (tensor) => tensor === undefined || tensor.data.length === 1;

function quantized(layer, type, names, result) {
  const { operands, parameters } = layer;
  const given = names.map((name) => (operands[name] ? name : ""));
  while (given.at(-1) === "") given.pop();
  const arrays = { input: first(layer, "input"), weight: weightOf(layer) };
  const group = parameters.groups === 1 ? undefined : parameters.groups;
  return {
    operands: given.filter(Boolean).map((name) => [name, arrays[name] ?? name]),
    nodes: [node(type, given, ["output"], { ...windows(layer), group })],
    results: [["output", result]],
  };
}

/** Refuse the pair of types of which ONNX Runtime's sums were seen to be wrong on a processor without VNNI. */
function checkSums({ operands: { input, weight } }, pair) {
  if (`${input.dtype} ${weight.dtype}` === pair || (weight.dtype === "int8" && weight.data.some(needsEightBits))) {
    missing("On processors without VNNI ONNX Runtime's sums of such bytes may saturate at 16 bits.");
  }
}

const needsEightBits = (value) => value < -64 || value > 63;

function convInteger(layer) {
  checkSums(layer, "int8 uint8");
  if (!isOne(layer.operands.weight_zero_point)) missing("ONNX Runtime has one zero point for the whole weight only.");
  return quantized(layer, "ConvInteger", ["input", "weight", "input_zero_point", "weight_zero_point"], "np.int32");
}

function qlinearConv(layer) {
  const { operands } = layer;
  const types = ["input", "weight", "output_zero_point"].map((name) => operands[name].dtype);
  if (types[2] !== types[0] || (types[0] === "int8" && types[1] === "uint8")) {
    missing(`ONNX Runtime has no QLinearConv of ${types[0]} and ${types[1]} to ${types[2]}.`);
  }
  checkSums(layer, "uint8 int8");
  const zeros = operands.weight_zero_point;
  if (zeros.data.some((value) => value !== zeros.data[0]))
    missing("ONNX Runtime has one zero point for the whole weight only.");
  const names = [
    "input",
    "input_scale",
    "input_zero_point",
    "weight",
    "weight_scale",
    "weight_zero_point",
    "output_scale",
    "output_zero_point",
    "bias",
  ];
  const program = quantized(layer, "QLinearConv", names, `np.${operands.output_zero_point.dtype}`);
  return {
    ...program,
    before: ["# ONNX Runtime scales in float32: what is next to half-way may round to the other side"],
  };
}
