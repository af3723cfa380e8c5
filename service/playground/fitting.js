/**
 * Operands that are made to fit after a change of the state: see `changed` in state.js, which imports this when it
 * is first needed.
 *
 * How operands hang together is read from the names of their axes in GET /ops: axes of one name have one size, and
 * "C/groups" has that of C by the parameter groups.
 */
import { DTYPES, sizeOf } from "./service.js";
import {
  axesOf,
  effective,
  isStar,
  laidOut,
  MOST_VALUES,
  resized,
  spatialCount,
  spatialRange,
  spelledOut,
} from "./state.js";

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
export function fitted(before, state, layer, sizes, canLayOut) {
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
