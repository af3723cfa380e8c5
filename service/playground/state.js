/**
 * The state of the page: what of it stands in the URL's fragment, and operands that fit after a change.
 *
 * Nothing here knows a layer: how operands hang together is read from their axes in GET /ops.
 */
import { DTYPES, decodeTensor, encodeTensor, sizeOf, Unreachable } from "./service.js";

/** @typedef {import("./service.js").Tensor} Tensor */

/** What a fragment leaves out. */
export const DEFAULTS = {
  op: "conv",
  view: "forward",
  parameters: {},
  tensors: {},
  item: 0,
  tab: "",
  by: "",
  cell: "",
  hide: [],
  present: false,
};
export const MOST_VALUES = 2 ** 20; // of one tensor

const VERSION = "v1";
const MOST_BYTES = 2 ** 25; // of JSON: MOST_VALUES numbers of full length are 2^24 and some
const MOST_TEXT = 4096; // characters of a parameter
const MOST_TENSORS = 16;
const SLICE = 4096; // bytes that are decompressed at a time: at most 4 MB come out of them

/** A link that cannot be read; the message is a sentence for the reader. */
export class FragmentError extends Error {}

const damaged = (what) => new FragmentError(`The link is damaged or incomplete: ${what}. Copy it again in full.`);

// Parameters as text

const isFiniteThroughout = (value) =>
  typeof value === "number"
    ? Number.isFinite(value)
    : typeof value !== "object" || value === null || Object.values(value).every(isFiniteThroughout);

/** The value that a text stands for: JSON, a list without its brackets (`2,1`), or else a word. */
export function parameterValue(text) {
  if (text.length > MOST_TEXT) return text;
  for (const json of text.includes(",") ? [text, `[${text}]`] : [text]) {
    try {
      const value = JSON.parse(json);
      if (isFiniteThroughout(value)) return value;
    } catch {
      continue;
    }
  }
  return text;
}

/** JSON in one order of keys, -0 as such. */
function json(value) {
  if (Array.isArray(value)) return `[${value.map(json).join()}]`;
  if (Object.is(value, -0)) return "-0";
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${json(value[key])}`)
    .join()}}`;
}

/** The text that `parameterValue` reads as this value; a word without quotes if it can be. */
export function parameterText(value) {
  return typeof value === "string" && parameterValue(value) === value ? value : json(value);
}

// The fragment

/** Percent-encoded, but for what a fragment may hold and people like to read. */
const escaped = (text) =>
  encodeURIComponent(text.toWellFormed()).replace(/%(5B|5D|2C|3A)/g, (code) => decodeURIComponent(code));

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw damaged("it has a % that no two digits follow");
  }
}

const pattern = (expression, what) => (text) => {
  if (!expression.test(text)) throw damaged(what);
  return text;
};

/** Parts of the state by their key in the fragment: how they are read. Parameters and tensors stand between them. */
const READERS = {
  op: pattern(/^\w{1,64}$/, "op must be the name of a layer"),
  view: pattern(/^\w{1,64}$/, "view must be the name of a view"),
  item: (text) => Number(pattern(/^\d{1,9}$/, "item must be a number")(text)),
  tab: pattern(/^\w{0,64}$/, "tab must be a name"),
  by: pattern(/^(\w{1,64}(:\w{1,64})?)?$/, "by must be the name of a parameter, or with a result as ties:grad_input"),
  cell: pattern(/^(\w{1,64}:\d{1,9})?$/, "cell must be a tensor and a number, as output:7"),
  present: (text) => pattern(/^(1|true|)$/, "present takes no value")(text) === text,
};
const RESERVED = new Set([...Object.keys(READERS), "data", "hide"]);

/**
 * The state as a fragment, "#v1&op=…"; equal states have equal fragments.
 *
 * @returns {Promise<string>}
 */
export async function encodeFragment(state) {
  const items = [VERSION];
  const put = (key) => {
    if (key === "op" || state[key] !== DEFAULTS[key]) items.push(`${key}=${escaped(String(state[key]))}`);
  };
  put("op");
  put("view");
  for (const name of Object.keys(state.parameters).sort()) {
    if (state.parameters[name] === undefined) continue;
    const key = RESERVED.has(name) || name.startsWith(".") ? `.${name}` : name;
    items.push(`${escaped(key)}=${escaped(parameterText(state.parameters[name]))}`);
  }
  for (const key of ["item", "tab", "by", "cell"]) put(key);
  if (state.present) items.push("present");
  const names = Object.keys(state.tensors)
    .filter((name) => state.tensors[name])
    .sort();
  if (names.length) {
    const tensors = Object.fromEntries(names.map((name) => [name, written(state.tensors[name])]));
    const packed = await passed(
      new TextEncoder().encode(JSON.stringify(tensors)),
      new CompressionStream("deflate-raw"),
      Infinity,
      Infinity,
    );
    items.push(`data=${base64url(packed)}`);
  }
  if (state.hide.length) items.push(`hide=${state.hide.map((part) => encodeURIComponent(part)).join()}`);
  return `#${items.join("&")}`;
}

/**
 * What a fragment says; without data the operands are left out, and without parameters those too.
 *
 * @param {string} text  location.hash
 * @returns {Promise<object>} parts of the state
 * @throws {FragmentError}
 */
export async function decodeFragment(text) {
  const [version, ...items] = text.replace(/^#/, "").split("&");
  if (version === "" && items.length === 0) return {};
  if (version !== VERSION) {
    throw new FragmentError(`The link is not of this version of the page: after the # it must begin with ${VERSION}.`);
  }
  const entries = items.filter(Boolean).map((item) => {
    const end = item.indexOf("=");
    return end < 0 ? [unescaped(item), ""] : [unescaped(item.slice(0, end)), item.slice(end + 1)];
  });
  if (new Set(entries.map(([key]) => key)).size < entries.length) throw damaged("it gives something twice");
  const state = {};
  const parameters = [];
  for (const [key, value] of entries) {
    if (Object.hasOwn(READERS, key)) state[key] = READERS[key](unescaped(value));
    else if (key === "hide") state.hide = value.split(",").map(unescaped);
    else if (key === "data") state.tensors = await unpacked(value);
    else parameters.push([key.replace(/^\./, ""), parameterValue(unescaped(value))]);
  }
  if (parameters.length || state.tensors) state.parameters = Object.fromEntries(parameters);
  return state;
}

/** JSON has no word for NaN, infinities and -0: they are strings. */
const writtenNumber = (value) => (Object.is(value, -0) ? "-0" : Number.isFinite(value) ? value : String(value));
const written = ({ dtype, shape, data }) => ({ dtype, shape, data: data.map(writtenNumber) });

const SPECIAL = new Map([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
  ["-0", -0],
]);

const isSize = (value) => Number.isInteger(value) && value >= 0 && value <= MOST_VALUES;

function readTensor(value) {
  const { dtype, shape, data } = value ?? {};
  if (!DTYPES.includes(dtype)) throw damaged("a tensor has no dtype that the page reads");
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every(isSize)) throw damaged("a tensor has no shape");
  if (sizeOf(shape) > MOST_VALUES) throw new FragmentError(`A tensor of the link has more than ${MOST_VALUES} values.`);
  if (!Array.isArray(data) || data.length !== sizeOf(shape)) throw damaged("a tensor's values do not fill its shape");
  const numbers = data.map((number) => SPECIAL.get(number) ?? number);
  if (!numbers.every(fits(dtype))) throw damaged("a tensor has a value that is not of its dtype");
  return { dtype, shape, data: numbers };
}

/** Whether a value is one of a dtype. */
function fits(dtype) {
  if (dtype.startsWith("float")) return (value) => typeof value === "number";
  const bits = Number(dtype.replace(/\D/g, ""));
  const [least, most] = dtype.startsWith("u") ? [0, 2 ** bits] : [-(2 ** (bits - 1)), 2 ** (bits - 1)];
  // 2^63 and 2^64 are what numbers make of the largest values of 64 bits
  return (value) => Number.isInteger(value) && value >= least && (value < most || (bits === 64 && value === most));
}

async function unpacked(text) {
  let bytes;
  try {
    bytes = Uint8Array.from(
      decodeTensor({ dtype: "uint8", base64: text.replaceAll("-", "+").replaceAll("_", "/") }).data,
    );
    bytes = await passed(bytes, new DecompressionStream("deflate-raw"), MOST_BYTES, SLICE);
  } catch (error) {
    throw error instanceof FragmentError ? error : damaged("its data cannot be decompressed");
  }
  if (isTooNested(bytes)) throw damaged("its data are not tensors");
  let tensors;
  try {
    tensors = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw damaged("its data are not JSON");
  }
  const isObject = typeof tensors === "object" && tensors !== null && !Array.isArray(tensors);
  const entries = Object.entries(isObject ? tensors : { "": null });
  if (entries.length > MOST_TENSORS || !entries.every(([name]) => /^\w{1,64}$/.test(name))) {
    throw damaged("its data are not operands");
  }
  return Object.fromEntries(entries.map(([name, value]) => [name, readTensor(value)]));
}

/** Whether JSON would take far more memory than its text: lists of lists, and objects of many keys. */
function isTooNested(bytes) {
  let opened = 0;
  for (const byte of bytes) if (byte === 0x5b || byte === 0x7b || byte === 0x3a) opened++;
  return opened > 8 * MOST_TENSORS;
}

/** Bytes that went through a stream of transformation, in slices, so that little of a bomb is made. */
async function passed(bytes, stream, most, slice) {
  let first = 0;
  const source = new ReadableStream({
    pull(controller) {
      if (first < bytes.length) controller.enqueue(bytes.slice(first, (first += slice)));
      else controller.close();
    },
  });
  const reader = source.pipeThrough(stream).getReader();
  const chunks = [];
  let size = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    chunks.push(value);
    size += value.length;
    if (size > most) {
      reader.cancel().catch(() => {});
      throw new FragmentError("The data of the link are larger than this page takes.");
    }
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

const base64url = (bytes) =>
  encodeTensor({ dtype: "uint8", data: bytes }).base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

// Parameters and operands as GET /ops describes them

/** The value of a parameter: given, or the default of the framework that is given, or the service's own. */
export function effective(operation, parameters, name) {
  const { framework } = parameters;
  const defaults = operation.framework_defaults ?? {};
  const ofFramework = Object.hasOwn(defaults, framework) ? defaults[framework] : {};
  return parameters[name] ?? ofFramework[name] ?? operation.parameters.properties[name]?.default;
}

/** Whether a parameter is one of the layer as its selector is set. */
export function applies(operation, schema, parameters) {
  return Object.entries(schema["x-only-with"] ?? {}).every(([selector, values]) =>
    values.includes(effective(operation, parameters, selector)),
  );
}

/** Axes of an operand in the layout that the parameters give, or null where GET /ops does not tell. */
export function axesOf(operation, operand, parameters) {
  const format = String(effective(operation, parameters, "data_format"));
  const layout = format.startsWith("NC") ? "channels_first" : "channels_last"; // NCHW, NHWC and the like
  const layouts = operand?.axes ?? {};
  return layouts[Object.hasOwn(layouts, format) ? format : layout] ?? null;
}

export const isStar = (axis) => axis.startsWith("*"); // the spatial axes in order: "*spatial", "*kernel"

/** The number of spatial axes of a shape; undefined where it has none or its rank is wrong. */
export function spatialCount(shape, axes) {
  const count = shape && axes?.some(isStar) ? shape.length - axes.length + 1 : -1;
  return count < 0 ? undefined : count;
}

/** The least and the largest number of spatial axes of an operation. */
export function spatialRange(operation) {
  const schema = operation.parameters.properties.spatial_axes ?? {};
  const { minimum = 1, maximum = 3 } = (schema.anyOf ?? [schema]).find(({ type }) => type === "integer") ?? {};
  return [minimum, maximum];
}

// What controls say

/** The alternatives of a schema, without null. */
export const alternatives = (schema) =>
  (schema.anyOf ?? schema.oneOf ?? [schema])
    .flatMap((one) => (one === schema ? [one] : alternatives(one)))
    .filter(({ type }) => type !== "null");

export const isNumeric = ({ type }) => type === "integer" || type === "number";

/** "2,2" of [2, 2]: whether a list repeats one value, and so says no more than it. */
function repeats(list, value) {
  return Array.isArray(list)
    ? list.every((entry, index) => repeats(entry, Array.isArray(value) ? value[index] : value))
    : Object.is(list, value);
}

/** The values of a schema that are words. */
export const wordsOf = (schema) => alternatives(schema).flatMap((one) => one.enum ?? []);

/** What the service made of a parameter, as "padding same → [[0,1],[0,1]]", where that says more than the control. */
export function resolvedText(operation, parameters, resolved, name) {
  const made = resolved?.[name];
  const asked = effective(operation, parameters, name);
  if (made === undefined || made === null || repeats(made, asked)) return "";
  return `${asked === undefined || asked === null ? name : `${name} ${parameterText(asked)}`} → ${parameterText(made)}`;
}

/** The default of a parameter as the control has it, with the framework that it is of. */
export function defaultOf(operation, { framework }, name) {
  const value = effective(operation, { framework }, name);
  const whose = value === effective(operation, {}, name) ? "" : `${framework}'s `;
  const text = value === undefined || value === null ? "" : parameterText(value);
  return { value, text, label: `${whose}default (${text || "none"})` };
}

/** What a step by 1 or -1 makes of a parameter; undefined where its value is not one number, or there is no other. */
export function stepped(operation, parameters, resolved, name, numeric, by) {
  const { minimum = -Infinity, maximum = Infinity } = numeric;
  const value =
    parameters[name] ?? effective(operation, parameters, name) ?? resolved?.[name] ?? Math.max(minimum, 1) - 1;
  const [first] = parameters[name] ? [value] : [value].flat(Infinity);
  const next = numeric.not?.enum?.includes(first + by) ? first + 2 * by : first + by;
  const isNumber = Number.isFinite(first) && repeats(value, first);
  return isNumber && next >= minimum && next <= maximum ? next : undefined;
}

/** "1x5x5x1" as sizes, or null. */
export function parsedShape(text) {
  const sizes = text.trim() === "" ? [] : text.trim().split(/\s*[x×,]\s*/i);
  return sizes.every((size) => /^\d{1,7}$/.test(size)) ? sizes.map(Number) : null;
}

/** "N × H × W × C". */
export function axesLabel(axes, shape) {
  if (!axes) return "";
  if (!axes.length) return "one value";
  const count = spatialCount(shape, axes);
  const spatial = count <= 3 ? ["D", "H", "W"].slice(3 - count) : ["…"];
  const names = axes.flatMap((axis) =>
    axis === "*spatial" ? spatial : axis.startsWith("*") ? spatial.map((name) => `${axis.slice(1)} ${name}`) : [axis],
  );
  return names.join(" × ");
}

// Changes

let fitting = null; // the module, once it is asked for

/**
 * The state after a change, its operands made to fit.
 *
 * - A parameter that others hang on, as the mode: those that do not apply any more are left out.
 * - Another op, or no operands yet: those of its example, and the parameters that are not given too.
 * - Another layout, by data_format or framework: the values of the operands are laid out anew.
 * - `sizes: {input: [1, 7, 7, 1]}`, or operands of other shapes: the others take the sizes that hang together with it.
 * - Another number of spatial axes or of groups: likewise.
 * - An operand that is null: one is made that fits.
 * - `dtype: "float32"`: operands that have the dtype of the first take this one, where they can.
 *
 * What cannot fit (channels that the groups do not divide) stays as it is: the service says what is wrong.
 *
 * @param {object} state
 * @param {object} layer  of the new state, so of `changes.op` if that is given
 * @param {object} changes  parts of the state, and `sizes` or `dtype`
 * @param {(op: string) => Promise<object>} fetchExample  GET /examples/{op}_forward/request.json
 * @returns {Promise<object>}
 * @throws {Unreachable} or what `fetchExample` throws
 */
export async function changed(state, layer, changes, fetchExample) {
  // not needed until something changes
  fitting ??= import("./fitting.js").catch(() => {
    fitting = null;
    throw new Unreachable("No answer.");
  });
  return (await fitting).make(state, layer, changes, fetchExample);
}
