/** Pictures as tensors and back, and what one passes through: the part of the tab "image" without its page. */
import { filled } from "./service.js";

/** @typedef {import("./service.js").Tensor} Tensor */
/** @typedef {{name: string, size: number}} Step  A filter's name, or a pooling's with the size of its windows. */

export const MAX_SIDE = 512;
const SIDE = 160; // of the pictures that are drawn here
const PAPER = "#fff";
const INK = "#000";

/** Weights by the name of the filter, row by row. */
export const FILTERS = {
  identity: [0, 0, 0, 0, 1, 0, 0, 0, 0],
  "box blur": Array(9).fill(1 / 9),
  "Gaussian blur": [1, 4, 6, 4, 1].flatMap((row) => [1, 4, 6, 4, 1].map((column) => (row * column) / 256)),
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
  "Sobel across": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  "Sobel down": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  Laplacian: [0, 1, 0, 1, -4, 1, 0, 1, 0],
  emboss: [-2, -1, 0, -1, 1, 1, 0, 1, 2],
};
/** Poolings by name: their mode. */
export const POOLINGS = { "max pooling": "max", "average pooling": "avg" };

/** A sheet of paper to draw on. */
function sheet(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = PAPER;
  pen.fillRect(0, 0, width, height);
  pen.fillStyle = pen.strokeStyle = INK;
  return pen;
}

function drawing(draw) {
  const pen = sheet(SIDE, SIDE);
  draw(pen);
  return pen.canvas;
}

/** Pictures to begin with, by name: each draws a canvas. */
export const DRAWINGS = {
  "ramp and shapes": () =>
    drawing((pen) => {
      const ramp = pen.createLinearGradient(0, 0, SIDE, 0);
      ramp.addColorStop(0, "#102050");
      ramp.addColorStop(1, "#f0e0b0");
      pen.fillStyle = ramp;
      pen.fillRect(0, 0, SIDE, SIDE);
      pen.fillStyle = "#c03030";
      pen.fillRect(20, 24, 48, 40);
      pen.fillStyle = "#3070c0";
      pen.beginPath();
      pen.arc(108, 52, 26, 0, 2 * Math.PI);
      pen.fill();
      pen.fillStyle = "#208050";
      pen.beginPath();
      for (const [x, y] of [[30, 140], [80, 84], [130, 140]]) pen.lineTo(x, y);
      pen.fill();
    }),
  checkerboard: () =>
    drawing((pen) => {
      for (let row = 0; row < SIDE / 10; row++)
        for (let column = row % 2; column < SIDE / 10; column += 2) pen.fillRect(column * 10, row * 10, 10, 10);
    }),
  strokes: () =>
    drawing((pen) => {
      pen.lineWidth = 2;
      for (let line = 0; line < 7; line++)
        for (let letter = 0; letter < 12; letter++) {
          const [x, y, kind] = [10 + letter * 12, 12 + line * 21, (letter * 5 + line * 3) % 7];
          pen.beginPath();
          pen.moveTo(x, y);
          pen.lineTo(x, y + 12);
          if (kind % 2) pen.lineTo(x + 8, y + (kind > 3 ? 12 : 0));
          if (kind % 3) pen.arc(x + 4, y + 8, 4, 0, Math.PI * (kind > 4 ? 2 : 1));
          pen.stroke();
        }
    }),
};

/** A file as a canvas, no side larger than MAX_SIDE; what is transparent is white. */
export async function canvasOf(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const pen = sheet(width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return pen.canvas;
}

/** @returns {Tensor}  float32, channels last: one channel of brightness, or red, green and blue. */
export function tensorOf(canvas, isGray) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = [];
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
    if (isGray) values.push(Math.round((299 * red + 587 * green + 114 * blue) / 1000));
    else values.push(red, green, blue);
  }
  return { dtype: "float32", shape: [1, height, width, isGray ? 1 : 3], data: values };
}

/** The call that a step is. */
export function callOf({ name, size }, input, own) {
  const common = { data_format: "channels_last", input };
  if (POOLINGS[name]) return ["/pool/forward", { ...common, mode: POOLINGS[name], kernel_size: size }];
  const [height, width, values] = kernelOf(name, own);
  const channels = input.shape[3];
  const weight = filled([height, width, 1, channels], 0, "float32");
  weight.data = values.flatMap((value) => Array(channels).fill(value));
  // what is beyond the edge is the edge again: zeros would draw a dark frame
  return ["/conv/forward", { ...common, weight, groups: channels, padding: "same", padding_mode: "replicate" }];
}

function kernelOf(name, own) {
  if (own && !FILTERS[name]) return own;
  const values = FILTERS[name];
  return [Math.sqrt(values.length), Math.sqrt(values.length), values];
}

/** A weight of the picture above that a photograph can be filtered with: 1 → 1 channel in two dimensions. */
export function ownKernel(weight) {
  if (weight?.shape.length !== 4) return null;
  const [first, second, third, fourth] = weight.shape;
  if (third === 1 && fourth === 1) return [first, second, weight.data];
  return first === 1 && second === 1 ? [third, fourth, weight.data] : null;
}

/**
 * The rows and columns of the input that a cell of the result is computed from.
 *
 * @param {Step[]} steps
 * @param {number[]} position  Row and column.
 * @param {number[]} sizes  Of the input.
 * @returns {[number, number][]}  First and last, of the rows and of the columns.
 */
export function windowOf(steps, position, sizes, own) {
  let spans = position.map((at) => [at, at]);
  for (const { name, size } of [...steps].reverse()) {
    const kernel = POOLINGS[name] ? null : kernelOf(name, own);
    spans = spans.map(([first, last], axis) => {
      if (!kernel) return [first * size, last * size + size - 1];
      const before = Math.floor((kernel[axis] - 1) / 2);
      return [first - before, last + kernel[axis] - 1 - before];
    });
  }
  return spans.map(([first, last], axis) => [Math.max(0, first), Math.min(sizes[axis] - 1, last)]);
}

/** How numbers become brightness: a function, and words. */
export function contrastOf(name, data) {
  const [least, most] = data.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const range = `The numbers go from ${Number(least.toPrecision(4))} to ${Number(most.toPrecision(4))}`;
  const scale = most > least ? 255 / (most - least) : 0;
  return {
    clip: { words: `${range}; below 0 is black, above 255 white.`, of: (value) => value },
    absolute: { words: `${range}; the sign is left out, above 255 is white.`, of: Math.abs },
    stretch: { words: `${range}: the least is black, the largest white.`, of: (value) => (value - least) * scale },
  }[name];
}

/** Draw a tensor of one item; the canvas takes its size. */
export function paint(canvas, tensor, contrast) {
  const [, height, width, channels] = tensor.shape;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      // a clamped array: what is below 0 is 0, above 255 is 255, and fractions are rounded
      image.data[pixel * 4 + channel] = contrast(tensor.data[pixel * channels + (channels === 3 ? channel : 0)]);
    }
    image.data[pixel * 4 + 3] = 255;
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Outline a part of a canvas, visible on dark and light. */
export function outline(canvas, [[top, bottom], [left, right]]) {
  const pen = canvas.getContext("2d");
  const width = Math.max(1, canvas.width / 200);
  for (const [style, grown] of [["#000", 1.5], ["#ffdd57", 0.5]]) {
    pen.lineWidth = width;
    pen.strokeStyle = style;
    const edge = grown * width;
    pen.strokeRect(left - edge, top - edge, right - left + 1 + 2 * edge, bottom - top + 1 + 2 * edge);
  }
}
