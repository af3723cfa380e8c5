/**
 * Operands that are made to fit after a change of the state: see `changed` in state.js, which imports this when it
 * is first needed.
 *
 * How operands hang together is read from the names of their axes in GET /ops: axes of one name have one size, and
 * "C/groups" has that of C by the parameter groups.
 */
import { DTYPES, flatIndex, positionOf, sizeOf } from "./service.js";
import { applies, axesOf, effective, isStar, MOST_VALUES, spatialCount, spatialRange } from "./state.js";

/** @typedef {import("./service.js").Tensor} Tensor */

/** The parameters without those that applied before and no longer do. */
function applicable(operation, parameters, before) {
  const { properties } = operation.parameters;
  const stays = ([name]) =>
    !applies(operation, properties[name] ?? {}, before) || applies(operation, properties[name] ?? {}, parameters);
  return Object.fromEntries(Object.entries(parameters).filter(stays));
}

/** A tensor of a JSON body: nested lists, or dtype, shape and data. */
function tensorOf(value) {
  const shape = value?.shape ?? [];
  if (!value?.shape) for (let list = value; Array.isArray(list); list = list[0]) shape.push(list.length);
  return { dtype: value?.dtype ?? "float64", shape, data: [value?.data ?? value].flat(Infinity).map(Number) };
}

/** See `changed` in state.js. */
export async function make(state, layer, { sizes = {}, dtype, ...changes }, fetchExample) {
  if (dtype) return { ...state, tensors: cast(layer.forward, state.tensors, dtype) };
  const isOther = (changes.op ?? state.op) !== state.op;
  let { tensors = isOther ? {} : state.tensors, parameters = isOther ? {} : state.parameters } = changes;
  if (changes.parameters && !isOther) parameters = applicable(layer.forward, parameters, state.parameters);
  const next = { ...state, ...(isOther && { item: 0, by: "", cell: "" }), ...changes, tensors, parameters };
  if (Object.keys(tensors).length) return fitted(isOther ? next : state, next, layer, sizes, !changes.tensors);
  const rest = { ...(await fetchExample(next.op)) };
  const example = {};
  for (const { name } of layer.forward.operands) {
    if (rest[name] !== undefined) example[name] = tensorOf(rest[name]);
    delete rest[name];
  }
  const before = { ...next, tensors: example, parameters: rest };
  return fitted(before, { ...before, parameters: { ...rest, ...parameters } }, layer, sizes, true);
}

/** A small integer for a new cell, always the same at a position. */
function newValue(dtype, position) {
  let hash = 17;
  for (const coordinate of position) hash = Math.imul(hash ^ coordinate, 0x9e3779b1) ^ (hash >>> 13);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 16;
  return dtype.startsWith("u") ? hash % 10 : (hash % 9) - 4;
}

/**
 * The tensor cut or extended at the end of each axis; axes are counted from the last.
 *
 * @param {Tensor} tensor
 * @param {number[]} shape
 * @param {(dtype: string, position: number[]) => number} [fill]  what stands in a new cell
 * @returns {Tensor}
 */
export function resized(tensor, shape, fill = newValue) {
  const { dtype } = tensor;
  const missing = Array(Math.max(0, shape.length - tensor.shape.length)).fill(1);
  const kept = [...missing, ...tensor.shape.slice(Math.max(0, tensor.shape.length - shape.length))];
  const data = Array.from({ length: sizeOf(shape) }, (_, index) => {
    const position = positionOf(shape, index);
    const known = sizeOf(tensor.shape) > 0 && position.every((coordinate, axis) => coordinate < kept[axis]);
    return known ? tensor.data[flatIndex(kept, position)] : fill(dtype, position);
  });
  return { dtype, shape: [...shape], data };
}

/** Names of all axes of a rank, "*spatial" replaced by one name for each; null if the rank does not agree. */
function spelledOut(axes, rank) {
  const count = axes.some(isStar) ? rank - axes.length + 1 : 0;
  if (count < 0 || (!axes.some(isStar) && rank !== axes.length)) return null;
  return axes.flatMap((axis) => (isStar(axis) ? Array.from({ length: count }, (_, index) => axis + index) : [axis]));
}

/**
 * The tensor with its axes in another order.
 *
 * @param {Tensor} tensor
 * @param {string[]} from  names as GET /ops has them: ["N", "*spatial", "C"]; "kernel * C" is one axis of two
 * @param {string[]} to
 * @param {Record<string, number>} [factors]  the sizes of axes such as the kernel in "kernel * C"
 * @returns {Tensor} as it is, if its rank is not that of the names
 */
export function laidOut(tensor, from, to, factors = {}) {
  const [before, after] = [from, to].map((axes) => spelledOut(axes, tensor.shape.length));
  if (!before || !after) return tensor;
  const parts = before.flatMap((axis, index) => partsOf(axis, tensor.shape[index], factors));
  const partsAfter = after.map((axis) => {
    const names = axis.split(" * ");
    return (parts.some(({ name }) => name === names[0]) ? names : [names.sort().join(" * ")]).map((name) =>
      parts.findIndex((part) => part.name === name),
    );
  });
  const order = partsAfter.flat();
  if (order.includes(-1)) return tensor;
  const [inner, moved] = [parts.map(({ size }) => size), order.map((index) => parts[index].size)];
  const source = Array(order.length);
  const data = Array.from({ length: tensor.data.length }, (_, index) => {
    positionOf(moved, index).forEach((coordinate, axis) => (source[order[axis]] = coordinate));
    return tensor.data[flatIndex(inner, source)];
  });
  return { dtype: tensor.dtype, shape: partsAfter.map((indices) => sizeOf(indices.map((one) => inner[one]))), data };
}

/** The parts of an axis, which are several where it is a product and all sizes but one are known. */
function partsOf(axis, size, factors) {
  const names = axis.split(" * ");
  const known = sizeOf(names.map((name) => factors[name] ?? 1));
  const isSplit = names.filter((name) => !(name in factors)).length === 1 && size % known === 0;
  if (!isSplit) return [{ name: names.sort().join(" * "), size }];
  return names.map((name) => ({ name, size: factors[name] ?? size / known }));
}

/** The tensor with another number of spatial axes: new ones come first, and the first ones go. */
function withSpatialCount(tensor, axes, count) {
  const start = axes.findIndex(isStar);
  const end = start + spatialCount(tensor.shape, axes);
  const [head, spatial, tail] = [tensor.shape.slice(0, start), tensor.shape.slice(start, end), tensor.shape.slice(end)];
  const extra = count - spatial.length;
  const ones = Array(Math.abs(extra)).fill(1);
  if (extra < 0) {
    const kept = spatial.slice(-extra);
    return { ...resized(tensor, [...head, ...ones, ...kept, ...tail]), shape: [...head, ...kept, ...tail] };
  }
  const within = { ...tensor, shape: [...head, ...ones, ...spatial, ...tail] };
  const longer = [...head, ...Array(extra).fill(spatial[0] ?? 1), ...spatial, ...tail];
  return sizeOf(longer) <= MOST_VALUES ? resized(within, longer) : within;
}

/** A parameter that has an entry for each spatial axis, for another number of them. */
function withEntries(value, before, count) {
  if (!Array.isArray(value) || value.length !== before || typeof value[0] === "string") return value;
  return count < before ? value.slice(before - count) : [...Array(count - before).fill(value[0]), ...value];
}

/**
 * The state, its operands fitted to its parameters and to the operands of which the shape is another than before.
 *
 * @param {object} before
 * @param {object} state
 * @param {object} layer
 * @param {Record<string, number[]>} sizes  shapes that operands are to take
 * @param {boolean} canLayOut  whether the operands are still in the layout of `before`
 */
function fitted(before, state, layer, sizes, canLayOut) {
  const fitting = new Fitting(before, state, layer);
  const isLaidOut = canLayOut && fitting.layOut();
  const isSized = Object.keys(sizes).length > 0;
  const reference = isSized || isLaidOut ? { ...fitting.tensors } : before.tensors;
  const isOther = ({ name }) => reference[name] && reference[name].shape.join() !== fitting.tensors[name]?.shape.join();
  const leaders = fitting.operands.filter(isSized ? ({ name }) => sizes[name] && fitting.tensors[name] : isOther);
  fitting.setSpatialCount(leaders, sizes);
  for (const { name } of leaders) if (sizes[name]) fitting.resize(name, sizes[name]);
  fitting.fit(leaders);
  const { tensors, parameters, operands } = fitting;
  const isReshaped = operands.some(isOther);
  for (const name of Object.keys(tensors)) {
    const isOperand = layer.forward.operands.some((operand) => operand.name === name);
    const hasOldShape = isReshaped && !isOperand && tensors[name] === reference[name]; // grad_output has the output's
    if (!tensors[name] || hasOldShape) delete tensors[name];
  }
  const items = tensors[layer.forward.operands[0].name]?.shape[0] ?? 0;
  const cell = isReshaped || isLaidOut ? "" : state.cell;
  return { ...state, tensors, parameters, cell, item: state.item < items ? state.item : 0 };
}

/** Operands on their way to fitting. */
class Fitting {
  constructor(before, state, { forward, backward }) {
    const axesFor = (parameters) =>
      [...(backward?.operands ?? []), ...forward.operands].map((one) => [one.name, axesOf(forward, one, parameters)]);
    this.operation = forward;
    this.before = { ...before, axes: Object.fromEntries(axesFor(before.parameters)) };
    this.axes = Object.fromEntries(axesFor(state.parameters));
    this.parameters = state.parameters;
    this.tensors = { ...state.tensors };
    this.operands = forward.operands.filter(({ name }) => this.axes[name] && name in this.tensors);
  }

  /** Whether any operand was laid out anew. */
  layOut() {
    const [from, to] = [this.before.axes, this.axes];
    const names = Object.keys(this.tensors).filter((name) => from[name]?.join() !== to[name]?.join());
    const kernel = this.kernelSize();
    const factors = kernel > 0 ? { kernel } : {};
    for (const name of names) this.tensors[name] &&= laidOut(this.tensors[name], from[name], to[name], factors);
    return names.length > 0;
  }

  /** The number of taps of a kernel that is a parameter; NaN where there is none. */
  kernelSize() {
    const { kernel_size: size, spatial_axes: count, output_size: output } = this.before.parameters;
    return Array.isArray(size) ? sizeOf(size) : size ** (count ?? output?.length ?? NaN);
  }

  /** Give all operands the spatial axes that the leaders have, or that the parameter spatial_axes now asks for. */
  setSpatialCount(leaders, sizes) {
    const countOf = ({ name }, shape = this.tensors[name]?.shape) => spatialCount(shape, this.axes[name]);
    const old = this.operands.map(({ name }) => spatialCount(this.before.tensors[name]?.shape, this.axes[name]));
    const present = old.find((count) => count !== undefined) ?? this.before.parameters.spatial_axes;
    const given = this.parameters.spatial_axes;
    const led = leaders.map((operand) => countOf(operand, sizes[operand.name])).find((count) => count !== undefined);
    const count = led ?? (given === this.before.parameters.spatial_axes ? undefined : given);
    const [least, most] = spatialRange(this.operation);
    if (!Number.isInteger(count) || count < least || count > most) return;
    for (const operand of this.operands) {
      if (countOf(operand) === undefined || countOf(operand) === count) continue;
      this.tensors[operand.name] = withSpatialCount(this.tensors[operand.name], this.axes[operand.name], count);
    }
    if (count === present) return;
    const entries = Object.entries(this.parameters).map(([name, value]) => [name, withEntries(value, present, count)]);
    this.parameters = Object.fromEntries(entries);
    if (given !== undefined) this.parameters.spatial_axes = count;
    this.isOfOtherCount = true;
  }

  resize(name, shape) {
    const { dtypes } = this.operation.operands.find((operand) => operand.name === name);
    const fill = dtypes[0] === "int64" ? () => 0 : undefined; // positions: 0 is one everywhere
    if (sizeOf(shape) <= MOST_VALUES) this.tensors[name] = resized(this.tensors[name], shape, fill);
  }

  /** The divisor of an axis such as "C/groups"; NaN where the parameter is no number that divides. */
  divisor(axis, parameters = this.parameters) {
    if (!axis.includes("/")) return 1;
    const value = effective(this.operation, parameters, axis.split("/")[1]);
    return Number.isInteger(value) && value > 0 ? value : NaN;
  }

  /** Give the operands other than the leaders the sizes that hang together with theirs. */
  fit(leaders) {
    const all = this.operands.flatMap(({ name }) => this.axes[name]);
    const isDivided = all.some((axis) => !Object.is(this.divisor(axis), this.divisor(axis, this.before.parameters)));
    const isMissing = this.operands.some(({ name }) => this.tensors[name] === null);
    if (!leaders.length && !isDivided && !isMissing && !this.isOfOtherCount) return;
    const known = {};
    for (const operand of leaders) this.read(operand, known, this.parameters);
    for (const operand of this.operands.slice(0, 1)) this.read(operand, known, this.before.parameters);
    const fixed = new Set(Object.keys(known));
    for (const operand of this.operands) this.read(operand, known, this.before.parameters);
    const others = this.operands.filter((operand) => !leaders.includes(operand));
    const fitting = others.filter(({ name }) => this.divide(this.axes[name], known, fixed));
    for (const operand of fitting) this.give(operand, known);
  }

  /** Note the sizes of an operand by the names of its axes. */
  read({ name }, known, parameters) {
    const { shape } = this.tensors[name] ?? {};
    const axes = this.axes[name];
    if (!shape || !spelledOut(axes, shape.length)) return;
    let at = 0;
    for (const axis of axes) {
      const size = isStar(axis) ? shape.slice(at, (at += spatialCount(shape, axes))) : shape[at++];
      const divisor = this.divisor(axis, parameters) || this.divisor(axis);
      known[axis.split("/")[0]] ??= divisor === 1 ? size : size * divisor;
    }
  }

  /** Raise channels that are free to be divided; whether all of the operand's are then. */
  divide(axes, known, fixed) {
    const channels = axes.filter((axis) => !isStar(axis)).map((axis) => axis.split("/")[0]);
    for (const divisor of axes.map((axis) => this.divisor(axis)).filter((value) => value !== 1)) {
      if (Number.isNaN(divisor) || channels.some((name) => fixed.has(name) && known[name] % divisor)) return false;
      for (const name of channels) known[name] = Math.ceil(known[name] / divisor) * divisor;
    }
    return true;
  }

  give(operand, known) {
    const { name, dtypes } = operand;
    const shape = this.axes[name].flatMap((axis) => {
      const size = known[axis.split("/")[0]];
      return axis.includes("/") ? size / this.divisor(axis) : size;
    });
    if (shape.includes(undefined)) return;
    if (this.tensors[name] === null) {
      const owner = this.operands.find((other) => name.startsWith(`${other.name}_`)) ?? this.operands[0];
      const allowed = [this.tensors[owner.name]?.dtype, ...dtypes].filter((dtype) => dtypes.includes(dtype));
      this.tensors[name] = { dtype: allowed.find((dtype) => DTYPES.includes(dtype)), shape: [0], data: [] };
    } else if (!spelledOut(this.axes[name], this.tensors[name].shape.length)) return;
    this.resize(name, shape);
  }
}

/** The tensors, those of the first operand's dtype as another one where the operation takes it. */
function cast(operation, tensors, dtype) {
  const before = tensors[operation.operands[0].name].dtype;
  const entries = Object.entries(tensors).map(([name, tensor]) => {
    const { dtypes = [dtype] } = operation.operands.find((operand) => operand.name === name) ?? {};
    if (tensor.dtype !== before || !dtypes.includes(dtype)) return [name, tensor];
    return [name, { ...tensor, dtype, data: dtype === "float32" ? tensor.data.map(Math.fround) : tensor.data }];
  });
  return Object.fromEntries(entries);
}
