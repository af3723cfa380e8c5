/**
 * Values as source text. Those of parameters may come from a link that somebody else made: whatever they hold, it stays
 * one value of the program. All text is printable ASCII, so that nothing happens while it is being pasted.
 */

/** @typedef {import("../service.js").Tensor} Tensor */

const WIDTH = 80;
const hexadecimal = (number, digits) => number.toString(16).padStart(digits, "0");

/** A value as JSON, which is JavaScript too. No "!" either, which an interactive shell would expand. */
export const json = (value) =>
  JSON.stringify(value).replace(/[^\x20-\x7e]|!/g, (unit) => `\\u${hexadecimal(unit.charCodeAt(0), 4)}`);

/** A string, number, boolean, null or list of these as Python. */
export function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "number") return number(value);
  if (typeof value !== "string") return { true: "True", false: "False", null: "None" }[value];
  return `"${value.replace(/[^\x20-\x7e]|["\\]/gu, escaped)}"`;
}

function escaped(character) {
  const point = character.codePointAt(0);
  return point > 0xffff ? `\\U${hexadecimal(point, 8)}` : `\\u${hexadecimal(point, 4)}`;
}

/** One word of a POSIX shell. */
export const shell = (text) => (/^[\w=.,:/@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** A number as JSON, or as Python with `from math import inf, nan`. */
export function number(value) {
  if (Object.is(value, -0)) return "-0.0"; // -0 would be an integer, which has no sign
  return String(Number(value)).replace("NaN", "nan").replace("Infinity", "inf");
}

/** Whether JSON has all numbers of a tensor. @param {Tensor} tensor */
export const isFinite = ({ data }) => data.every(Number.isFinite);

/**
 * A tensor as nested lists, a line for each list that fits.
 *
 * @param {Tensor} tensor
 * @param {number} indent  Columns before the lines that follow the first.
 */
export function nested({ shape, data }, indent = 0) {
  let index = 0;
  const listed = (axis, column) => {
    if (axis === shape.length) return number(data[index++]);
    const parts = Array.from({ length: shape[axis] }, () => listed(axis + 1, column + 2));
    const line = `[${parts.join(", ")}]`;
    if (column + line.length <= WIDTH && !line.includes("\n")) return line;
    const isNumbers = axis === shape.length - 1;
    const space = " ".repeat(column);
    const lines = isNumbers ? filledLines(parts, column + 2) : parts;
    return `[\n${lines.map((part) => `${space}  ${part}`).join(",\n")}\n${space}]`;
  };
  return listed(0, indent);
}

/** Numbers, several a line. */
function filledLines(numbers, column) {
  const lines = [];
  for (const one of numbers) {
    const last = lines.at(-1);
    if (last !== undefined && column + last.length + one.length + 3 <= WIDTH)
      lines[lines.length - 1] = `${last}, ${one}`;
    else lines.push(one);
  }
  return lines;
}

/** Integers as Python: one for all axes if they are equal, else a tuple. */
export const perAxis = (values) => (values.every((value) => value === values[0]) ? `${values[0]}` : tuple(values));

/** @param {unknown[]} values  Numbers, source text, or lists of these. */
export function tuple(values) {
  const parts = values.map((value) => (Array.isArray(value) ? tuple(value) : value));
  return `(${parts.join(", ")}${parts.length === 1 ? "," : ""})`;
}

/** A call as Python or JavaScript; arguments that are "" are left out. */
export const called = (name, ...given) => `${name}(${given.filter((one) => one !== "").join(", ")})`;

/** A keyword argument, or "" where the value is the default. */
export const keyword = (name, value, byDefault) => (`${value}` === `${byDefault}` ? "" : `${name}=${value}`);
