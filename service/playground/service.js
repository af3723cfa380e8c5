/**
 * Calls of the service: tensors in and out, one request at a time.
 *
 * Tensors travel as JSON with base64 data, so that NaN and infinities do too.
 */

/** @typedef {{dtype: string, shape: number[], data: number[]}} Tensor  Values in C order. */
/** @typedef {{pointer: string, message: string, got?: string, expected?: string}} Finding */

const ARRAYS = {
  float64: Float64Array,
  float32: Float32Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
};
const CHUNK = 0x8000; // more arguments than this overflow the stack of a function

/** dtypes that the page reads and writes. */
export const DTYPES = Object.keys(ARRAYS);

/** @param {number[]} shape */
export const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);

/** @returns {Tensor} */
export function filled(shape, value = 0, dtype = "float64") {
  return { dtype, shape: [...shape], data: Array(sizeOf(shape)).fill(value) };
}

/** The flat index of a position, in C order. */
export function flatIndex(shape, position) {
  return position.reduce((index, coordinate, axis) => index * shape[axis] + coordinate, 0);
}

/** The position of a flat index. */
export function positionOf(shape, index) {
  const position = Array(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    position[axis] = index % shape[axis];
    index = Math.floor(index / shape[axis]);
  }
  return position;
}

/** Items `first` to `end` along the first axis. */
export function sliced(tensor, first, end = first + 1) {
  const size = sizeOf(tensor.shape.slice(1));
  return {
    dtype: tensor.dtype,
    shape: [end - first, ...tensor.shape.slice(1)],
    data: tensor.data.slice(first * size, end * size),
  };
}

/** The tensor, repeated along the first axis. */
export function repeated(tensor, times) {
  const data = [];
  for (let time = 0; time < times; time++) for (const value of tensor.data) data.push(value);
  return { dtype: tensor.dtype, shape: [tensor.shape[0] * times, ...tensor.shape.slice(1)], data };
}

/** @param {Tensor} tensor */
export function encodeTensor({ dtype, shape, data }) {
  const array = ARRAYS[dtype].from(dtype.endsWith("int64") ? data.map(BigInt) : data);
  const bytes = new Uint8Array(array.buffer); // the machines that browsers run on are little-endian
  let text = "";
  for (let first = 0; first < bytes.length; first += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(first, first + CHUNK));
  }
  return { dtype, shape, base64: btoa(text) };
}

/** @returns {Tensor} */
export function decodeTensor({ dtype, shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return { dtype, shape, data: Array.from(new ARRAYS[dtype](bytes.buffer), Number) };
}

const isTensor = (value) => typeof value === "object" && value !== null && Array.isArray(value.shape);

/** The service answered with a problem document. */
export class Problem extends Error {
  /** @param {{status: number, title: string, detail: string, errors?: Finding[]}} document */
  constructor(document, retryAfter = 0) {
    super(document.detail);
    this.document = document;
    this.status = document.status;
    this.title = document.title;
    /** @type {Finding[]} */
    this.errors = document.errors ?? [];
    this.retryAfter = retryAfter; // seconds
  }
}

/** The service did not answer. */
export class Unreachable extends Error {}

/** What a call that is no longer wanted throws. */
export const isAborted = (error) => error.name === "AbortError";

/** The service as the page calls it. Never more than one request is in flight: further ones wait for it. */
export class Service {
  /** @param {string} base  URL that the paths of /ops are appended to, without a slash at its end. */
  constructor(base) {
    this.base = base;
    this.key = ""; // an API key, where the service asks for one
    this.before = Promise.resolve();
  }

  /** GET a JSON document: /ops, an example. */
  get(path, signal) {
    return this.#inTurn(() => this.#fetch(path, { signal }), signal);
  }

  /**
   * POST a body in which tensors stand as such; return the response likewise, and in `parameters` the values that the
   * service used for all of them.
   *
   * @param {string} path
   * @param {Record<string, unknown>} body
   * @param {AbortSignal} [signal]
   * @throws {Problem | Unreachable} or an AbortError
   */
  async call(path, body, signal) {
    const entries = Object.entries(body).map(([name, value]) => [name, isTensor(value) ? encodeTensor(value) : value]);
    const headers = { "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(Object.fromEntries(entries)), signal };
    const answer = await this.#inTurn(() => this.#fetch(path, request), signal);
    return Object.fromEntries(
      Object.entries(answer).map(([name, value]) => [name, value?.base64 !== undefined ? decodeTensor(value) : value]),
    );
  }

  async #inTurn(send, signal) {
    const before = this.before;
    let done;
    this.before = new Promise((resolve) => (done = resolve));
    try {
      await before;
      signal?.throwIfAborted();
      return await send();
    } finally {
      done();
    }
  }

  async #fetch(path, request) {
    const headers = { ...request.headers, ...(this.key && { Authorization: `Bearer ${this.key}` }) };
    let response, answer;
    try {
      response = await fetch(this.base + path, { ...request, headers });
      answer = await response.json();
    } catch (error) {
      if (isAborted(error)) throw error;
      throw new Unreachable(response ? `The service answered ${response.status} without JSON.` : "No answer.");
    }
    if (!response.ok) throw new Problem(answer, Number(response.headers.get("Retry-After") ?? 0));
    const parameters = response.headers.get("Convpool-Parameters");
    return parameters ? { ...answer, parameters: JSON.parse(parameters) } : answer;
  }
}
