/**
 * What the page shows, as the service says it: numbers, padding, and which cells of input, weight and output are linked.
 *
 * The page does not know how a layer computes. It probes: a batch of one-hot gradients goes through the layer's own
 * backward, with the weights 1, 2, 3, …, so that each number that comes back names the weight through which an input
 * cell reaches an output cell.
 */
import { filled, flatIndex, positionOf, repeated, sizeOf, sliced } from "./service.js";

/** @typedef {import("./service.js").Tensor} Tensor */
/** @typedef {{output: number, frame: number, input: number, weight: number, bias: number, coefficient: number}} Link */

/** Most cells of an item of a tensor that are drawn as numbers. */
export const MAX_CELLS = 1024;
const MAX_PROBE_NUMBERS = 2 ** 17; // of one request: it takes some tens of milliseconds

// Parameters that choose among computations over the same windows, or whose effect on them is drawn as padding.
const NOT_GEOMETRY = ["framework", "algorithm", "padding_mode", "ceil_mode"];

const without = (object, names) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

/** The layers of /ops, each with its operations. */
export function layersOf(ops) {
  const byPath = new Map(ops.operations.map((operation) => [operation.path, operation]));
  return ops.layers.map((layer) => {
    const of = (direction) => byPath.get(layer.operations.find((path) => path.endsWith(`/${direction}`)));
    const { name, title, shape: shapePath } = layer;
    return { name, title, shapePath, forward: of("forward"), backward: of("backward") };
  });
}

/** Whether two states are of one layer with the same parameters and operands. */
export function isSameLayer(one, other) {
  const names = Object.keys({ ...one.tensors, ...other.tensors });
  const isSameParameters = JSON.stringify(one.parameters) === JSON.stringify(other.parameters);
  return one.op === other.op && isSameParameters && names.every((name) => one.tensors[name] === other.tensors[name]);
}

/** What can be shown of a layer. */
export const viewsOf = (layer) => ["forward", ...(layer.backward?.results ?? []), "compare"];

/** The operands of a state without the gradient of its output. */
export const operandsOf = (state) => without(state.tensors, ["grad_output"]);

const isDifferentiated = (state) => state.view.startsWith("grad_");

/**
 * Ask for all the numbers of a picture. Its links are asked for afterwards, by `loadLinks`.
 *
 * @param {(path: string, body: object) => Promise<object>} call
 * @throws what the call throws
 */
export async function computePicture(layer, state, call) {
  const operands = operandsOf(state);
  const answer = await call(layer.forward.path, { ...state.parameters, ...operands });
  const { parameters: resolved, ...results } = answer;
  const { output } = results;
  const given = state.tensors.grad_output;
  const gradOutput = given && `${given.shape}` === `${output.shape}` ? given : filled(output.shape, 1);
  const view = viewsOf(layer).includes(state.view) ? state.view : "forward";
  if (layer.backward && isDifferentiated(state)) {
    const parameters = { ...state.parameters, ...wrt(layer.backward, view.slice("grad_".length)) };
    const gradients = await call(layer.backward.path, { ...parameters, ...operands, grad_output: gradOutput });
    Object.assign(results, without(gradients, ["parameters"]));
  }
  const picture = {
    layer,
    state,
    view,
    operands,
    results,
    gradOutput,
    parameters: resolved,
    spatialAxes: resolved.spatial_axes,
    item: Math.min(state.item, output.shape[0] - 1),
    links: { all: [], complete: false },
  };
  picture.frame = await framed(picture, call);
  return picture;
}

const wrt = (operation, operand) => (operation.parameters.properties.wrt ? { wrt: [operand] } : {});

/** The names of the axes of a tensor of the picture, "*spatial" and "*kernel" written out, or what they are counted by. */
export function axesOf(picture, name) {
  const { layer, parameters, spatialAxes } = picture;
  const operands = [...(layer.backward?.operands ?? []), ...layer.forward.operands];
  const results = { output: "grad_output", indices: "grad_output" };
  const operand =
    operands.find((one) => one.name === (results[name] ?? name.replace(/^grad_(?!output)/, ""))) ??
    operands.find((one) => one.name === "input");
  const shape = tensorOf(picture, name).shape;
  const axes = (operand.axes?.[parameters.data_format] ?? []).flatMap((axis) =>
    axis.startsWith("*") ? Array.from({ length: spatialAxes }, (_, index) => `${axis}${index}`) : [axis],
  );
  if (axes.length === shape.length) return axes;
  return shape.map((_, axis) => (axis === 0 && shape.length > 1 ? "N" : `axis ${axis}`));
}

/** A tensor of the picture by its name. */
export function tensorOf(picture, name) {
  return name === "grad_output" ? picture.gradOutput : (picture.operands[name] ?? picture.results[name]);
}

const spatialPositions = (axes) => axes.flatMap((axis, index) => (/^\*/.test(axis) ? [index] : []));

/** The size of the windows on each spatial axis; [] if they are not all of one size. */
function kernelSizes(picture) {
  const { kernel_size: size } = picture.parameters;
  if (size !== undefined && size !== null) return [size].flat();
  const { weight } = picture.operands;
  return weight ? spatialPositions(axesOf(picture, "weight")).map((axis) => weight.shape[axis]) : [];
}

/**
 * The input of the shown item with its padding around it, if the layer pads its input at all.
 *
 * @returns {Promise<null | {tensor: Tensor, source: number[], kind: string[], parameters: object}>} `source` gives for each
 *   cell the cell of the item that it repeats, or -1; `kind` is "input", "padding" or "overhang" (where only windows of
 *   ceil_mode reach); `parameters` are those of the same windows over it.
 */
async function framed(picture, call) {
  const { operands, parameters, spatialAxes, item } = picture;
  const { padding } = parameters;
  const spatial = spatialPositions(axesOf(picture, "input"));
  if (!Array.isArray(padding) || padding.length !== spatial.length) return null;
  if ("output_padding" in parameters || "output_size" in parameters) return null; // the padding is one of the output
  const [kernel, output] = [kernelSizes(picture), picture.results.output];
  const perAxis = (value, axis) => [value].flat()[axis] ?? [value].flat()[0];
  const overhang = spatial.map((position, axis) => {
    if (!parameters.ceil_mode || !kernel.length) return 0;
    const extent = (perAxis(kernel, axis) - 1) * perAxis(parameters.dilation, axis) + 1;
    const reached = (output.shape[position] - 1) * perAxis(parameters.stride, axis) + extent;
    return Math.max(0, reached - operands.input.shape[position] - padding[axis][0] - padding[axis][1]);
  });
  if (!padding.flat().some(Boolean) && !overhang.some(Boolean)) return null;

  const input = sliced(operands.input, item);
  const shape = [...input.shape];
  spatial.forEach((position, axis) => (shape[position] += padding[axis][0] + padding[axis][1] + overhang[axis]));
  const explicit = { ...without(geometry(picture), NOT_GEOMETRY), padding: 0, spatial_axes: spatialAxes };
  const outputShape = await shapeOverFrame(picture, explicit, shape, call);
  if (!outputShape) return null;

  const empty = operands.input_zero_point?.data[0] ?? 0; // what counts as nothing
  const frame = { tensor: filled(shape, empty), source: [], kind: [], parameters: explicit, outputShape };
  for (let index = 0; index < frame.tensor.data.length; index++) {
    const position = positionOf(shape, index);
    let kind = "input";
    spatial.forEach((at, axis) => {
      position[at] -= padding[axis][0];
      if (position[at] >= input.shape[at] + padding[axis][1]) kind = "overhang";
      else if (kind === "input" && (position[at] < 0 || position[at] >= input.shape[at])) kind = "padding";
    });
    frame.kind[index] = kind;
    frame.source[index] = kind === "input" ? flatIndex(input.shape, position) : -1;
    if (kind === "input") frame.tensor.data[index] = input.data[frame.source[index]];
  }
  if ((parameters.padding_mode ?? "zeros") !== "zeros") await fillPadding(picture, frame, input, padding, call);
  return frame;
}

/** The parameters that decide over the windows, with those of other computations over them left out. */
function geometry(picture) {
  const { layer, parameters } = picture;
  const { properties } = layer.forward.parameters;
  return without(
    parameters,
    Object.keys(parameters).filter((name) => properties[name]?.["x-only-with"]),
  );
}

/**
 * The shape of the output over the frame, or null if the windows over it are others: a layer may pad its output.
 *
 * Where ceil_mode leaves out a window that would begin in the padding, the frame has one window more.
 */
async function shapeOverFrame(picture, parameters, inputShape, call) {
  const { layer, operands, results } = picture;
  const shapes = Object.fromEntries(Object.entries(operands).map(([name, tensor]) => [name, tensor.shape]));
  shapes.input = [operands.input.shape[0], ...inputShape.slice(1)];
  const own = results.output.shape;
  const most = picture.parameters.ceil_mode ? 1 : 0;
  try {
    const { output_shape: shape } = await call(layer.shapePath, { ...parameters, shapes });
    const isSame =
      shape.length === own.length && shape.every((size, axis) => size >= own[axis] && size <= own[axis] + most);
    return isSame ? shape : null;
  } catch (error) {
    if (error.status === 422) return null;
    throw error;
  }
}

/** Let the service pad: a 1 × 1 kernel of 1 for each channel leaves the padded input, and its indices, as they are. */
async function fillPadding(picture, frame, input, padding, call) {
  const { layer, parameters, spatialAxes } = picture;
  const channels = input.shape[axesOf(picture, "input").indexOf("C")];
  const indices = input.data.map((_, index) => index);
  const both = { ...input, shape: [2, ...input.shape.slice(1)], data: [...input.data, ...indices] };
  const ones = Array(spatialAxes).fill(1);
  const isLast = parameters.data_format === "channels_last";
  const weight = filled(isLast ? [...ones, 1, channels] : [channels, 1, ...ones], 1);
  const { data_format, padding_mode } = parameters;
  const body = { data_format, padding_mode, padding, groups: channels, input: both, weight };
  const { output } = await call(layer.forward.path, body);
  const half = output.data.length / 2;
  frame.tensor.data = output.data.slice(0, half);
  frame.source = output.data.slice(half);
}

/**
 * Ask which cells are linked, some output cells at a time.
 *
 * @param {() => void} onProgress  Called whenever there are more links.
 */
export async function loadLinks(picture, layers, call, onProgress) {
  try {
    await loadAll(picture, layers, call, onProgress);
  } catch (error) {
    if (error.status !== 422) throw error; // a layer whose items cannot be probed side by side is shown without links
  }
}

async function loadAll(picture, layers, call, onProgress) {
  const { results, frame, links } = picture;
  const outputs = sizeOf(results.output.shape.slice(1));
  const input = frame?.tensor ?? sliced(picture.operands.input, picture.item);
  if (Math.max(outputs, input.data.length) > MAX_CELLS) return;
  if (picture.operands.indices) return linkPlaces(picture, outputs, call, onProgress);
  const probe = probeOf(picture, layers);
  const values = probe && picture.operands.weight === undefined ? realProbe(picture) : null;
  const biases = await biasLinks(picture, call);
  const step = Math.max(1, Math.floor(MAX_PROBE_NUMBERS / (outputs + input.data.length)));
  for (let first = 0; probe && first < outputs; first += step) {
    const end = Math.min(outputs, first + step);
    const windows = await rows(picture, probe, first, end, call);
    const coefficients = values && probe !== values ? await rows(picture, values, first, end, call) : null;
    for (let output = first; output < end; output++) {
      link(picture, probe, output, biases[output] ?? -1, windows[output - first], coefficients?.[output - first]);
    }
    onProgress();
  }
  links.complete = true;
  onProgress();
}

/**
 * Link each value with the place that its index names: with the gradients 1, 2, 3, … each gets the one of its place.
 *
 * Indices may count through the whole batch, so items cannot be probed side by side.
 */
async function linkPlaces(picture, outputs, call, onProgress) {
  const { layer, state, operands, results, item, links } = picture;
  const gradOutput = filled(results.output.shape);
  for (let output = 0; output < outputs; output++) gradOutput.data[item * outputs + output] = output + 1;
  const body = { ...state.parameters, ...wrt(layer.backward, "input"), ...operands, grad_output: gradOutput };
  const { grad_input } = await call(layer.backward.path, body);
  sliced(grad_input, item).data.forEach((place, input) => {
    if (place) links.all.push({ output: place - 1, frame: -1, input, weight: -1, bias: -1, coefficient: 1 });
  });
  links.complete = true;
  onProgress();
}

/** Add the links of an output cell. */
function link(picture, probe, output, bias, window, coefficients) {
  const { frame, links, operands } = picture;
  window.forEach((value, index) => {
    if (value === 0) return;
    const input = probe.frame ? frame.source[index] : index;
    const weight = probe.hasWeight ? value - 1 : -1;
    const own = probe.hasWeight ? operands.weight.data[weight] : value;
    const coefficient = coefficients ? (input < 0 ? 0 : coefficients[input]) : own;
    links.all.push({ output, frame: probe.frame ? index : -1, input, weight, bias, coefficient });
  });
  const isOfBiasAlone = bias >= 0 && window.every((value) => value === 0);
  if (isOfBiasAlone) links.all.push({ output, frame: -1, input: -1, weight: -1, bias, coefficient: 0 });
}

/** How to ask for the windows; null if no layer answers that. */
function probeOf(picture, layers) {
  const { layer, state, frame, operands } = picture;
  const asked = layer.backward ? layer : standIn(picture, layers);
  if (!asked) return null;
  const input = frame?.tensor ?? filled([1, ...operands.input.shape.slice(1)]);
  if (operands.weight) {
    const own = without(asked === layer ? state.parameters : geometry(picture), ["algorithm"]);
    const weight = filled(operands.weight.shape);
    weight.data = weight.data.map((_, index) => index + 1);
    const probes = { input: filled(input.shape), weight };
    return { layer: asked, parameters: frame?.parameters ?? own, operands: probes, frame, hasWeight: true };
  }
  const selector = layer.forward.parameters.properties.mode;
  if (selector?.enum?.includes("avg")) {
    // a maximum is linked with all of its window, not only with what it selects
    const parameters = { ...(frame?.parameters ?? without(geometry(picture), NOT_GEOMETRY)), mode: "avg" };
    return { layer, parameters, operands: { input }, frame, hasWeight: false };
  }
  return realProbe(picture);
}

/** The layer as it is: how much each output cell changes with each input cell. */
function realProbe(picture) {
  const { layer, state, operands, item, results } = picture;
  if (!layer.backward) return null;
  const own = Object.entries(operands).map(([name, tensor]) => [
    name,
    tensor.shape[0] === results.output.shape[0] && tensor.shape.length > 1 ? sliced(tensor, item) : tensor,
  ]);
  return { layer, parameters: state.parameters, operands: Object.fromEntries(own), frame: null, hasWeight: false };
}

/** A layer with a backward that takes the same operands and parameters: the integer layers have none of their own. */
function standIn(picture, layers) {
  const names = Object.keys(without(picture.parameters, NOT_GEOMETRY));
  const isIn = (operation) => names.every((name) => operation.parameters.properties[name]);
  const has = (operation, operand) => operation.operands.some(({ name }) => name === operand);
  return layers.find(({ backward }) => backward && isIn(backward) && has(backward, "input") && has(backward, "weight"));
}

/** The gradient of each of some output cells of the item with respect to the input. */
async function rows(picture, probe, first, end, call) {
  const ownShape = [1, ...picture.results.output.shape.slice(1)];
  const probeShape = [1, ...(probe.frame?.outputShape ?? ownShape).slice(1)];
  const count = end - first;
  const size = sizeOf(probeShape);
  const gradOutput = filled([count, ...probeShape.slice(1)]);
  for (let row = 0; row < count; row++) {
    gradOutput.data[row * size + flatIndex(probeShape, positionOf(ownShape, first + row))] = 1;
  }
  const operands = Object.entries(probe.operands).map(([name, tensor]) => [
    name,
    name !== "weight" && tensor.shape[0] === 1 && tensor.shape.length > 1 ? repeated(tensor, count) : tensor,
  ]);
  const { grad_input } = await call(probe.layer.backward.path, {
    ...probe.parameters,
    ...wrt(probe.layer.backward, "input"),
    ...Object.fromEntries(operands),
    grad_output: gradOutput,
  });
  const length = grad_input.data.length / count;
  return Array.from({ length: count }, (_, row) => grad_input.data.slice(row * length, (row + 1) * length));
}

/** Which bias each output cell has: biases of 1, 2, 3, … on their own. */
async function biasLinks(picture, call) {
  const { layer, state, operands, results } = picture;
  const bias = operands.bias ?? results.grad_bias;
  if (!bias?.dtype.startsWith("float")) return [];
  const body = { ...state.parameters };
  for (const [name, tensor] of Object.entries(operands)) body[name] = filled(tensor.shape);
  body.bias = { ...filled(bias.shape), data: bias.data.map((_, index) => index + 1) };
  const { output } = await call(layer.forward.path, body);
  return output.data.slice(0, sizeOf(results.output.shape.slice(1))).map((value) => value - 1);
}

const KEYS = {
  output: "output",
  grad_output: "output",
  indices: "output",
  input: "input",
  grad_input: "input",
  frame: "frame",
  weight: "weight",
  grad_weight: "weight",
  bias: "bias",
  grad_bias: "bias",
};
const ITEM_TENSORS = ["output", "grad_output", "indices", "input", "grad_input"];

/** The key of a link under which a tensor's cells stand, or undefined. */
export function linkKey(tensor, picture) {
  if (tensor === "indices" && picture?.operands.indices) return "input"; // an operand has one for each value
  return Object.hasOwn(KEYS, tensor) ? KEYS[tensor] : undefined;
}

/** The number of cells before those of the shown item. */
export function itemOffset(picture, name) {
  return ITEM_TENSORS.includes(name) ? picture.item * sizeOf(tensorOf(picture, name).shape.slice(1)) : 0;
}

/**
 * The links of a cell.
 *
 * @param {{tensor: string, index: number}} cell  `index` counts in the whole tensor, or in the frame.
 * @returns {Link[]}
 */
export function linksOf(picture, cell) {
  const key = linkKey(cell.tensor, picture);
  if (!key) return [];
  const index = cell.tensor === "frame" ? cell.index : cell.index - itemOffset(picture, cell.tensor);
  return picture.links.all.filter((link) => link[key] === index);
}
