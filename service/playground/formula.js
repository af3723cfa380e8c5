/** The sum behind a cell, with its numbers. Every number in it comes from the service's tensors and links. */
import { short } from "./grids.js";
import { axesOf, itemOffset, linkKey, linksOf, tensorOf } from "./picture.js";
import { positionOf } from "./service.js";

const MAX_TERMS = 60;

const factor = (value) => (value < 0 || Object.is(value, -0) ? `(${short(value)})` : short(value));

/** "output[0, 1, 2, 0]" */
export function cellName(picture, { tensor, index }) {
  const shape = tensor === "frame" ? picture.frame.tensor.shape : tensorOf(picture, tensor).shape;
  return `${tensor === "frame" ? "padded input" : tensor}[${positionOf(shape, index).join(", ")}]`;
}

/**
 * The formula of a cell.
 *
 * @param {{tensor: string, index: number}} cell
 * @returns {{label: string, terms: string, value: number | null, note: string}}
 */
export function formulaOf(picture, cell) {
  const label = cellName(picture, cell);
  const value =
    cell.tensor === "frame" ? picture.frame.tensor.data[cell.index] : tensorOf(picture, cell.tensor).data[cell.index];
  const links = linksOf(picture, cell);
  if (cell.tensor === "output") return { label, value, ...outputTerms(picture, links, cell) };
  if (cell.tensor.startsWith("grad_") && cell.tensor !== "grad_output") {
    return { label, value, ...gradientTerms(picture, links, cell) };
  }
  return { label, value, terms: "", note: reach(picture, links, cell) };
}

const joined = (terms, sign) =>
  terms.length > MAX_TERMS
    ? `${terms.slice(0, MAX_TERMS).join(sign)}${sign}… (${terms.length} terms)`
    : terms.join(sign) || "0";

const valueOfInput = (picture, link) =>
  link.frame >= 0
    ? picture.frame.tensor.data[link.frame]
    : picture.operands.input.data[link.input + itemOffset(picture, "input")];

function outputTerms(picture, links, cell) {
  const { operands, parameters } = picture;
  if (!links.length)
    return { terms: "", note: picture.links.complete ? "No cell of the input is linked with it." : "" };
  const inside = links.filter((link) => link.input >= 0);
  if (operands.weight) return productTerms(picture, links);
  if (parameters.mode === "max")
    return {
      terms: `max(${joined(
        inside.map((link) => short(valueOfInput(picture, link))),
        ", ",
      )})`,
      note: ties(picture, links),
    };
  if (parameters.mode === "lp") {
    const p = short(parameters.norm_type);
    return {
      terms: `(${joined(
        inside.map((link) => `|${short(valueOfInput(picture, link))}|^${p}`),
        " + ",
      )})^(1/${p})`,
      note: "",
    };
  }
  if (parameters.mode === "avg") {
    const divisor = 1 / inside[0].coefficient;
    const padding = links.length - inside.length;
    const note = padding ? `${padding} of its ${links.length} cells lie in the padding.` : "";
    return {
      terms: `(${joined(
        inside.map((link) => factor(valueOfInput(picture, link))),
        " + ",
      )}) / ${factor(divisor)}`,
      note,
    };
  }
  return {
    terms: joined(
      links.map((link) => scaled(valueOfInput(picture, link), link.coefficient)),
      " + ",
    ),
    note: "",
  };
}

const scaled = (value, coefficient) => (coefficient === 1 ? factor(value) : `${factor(value)}×${factor(coefficient)}`);

function productTerms(picture, links) {
  const { bias, input_zero_point: inputZero, weight_zero_point: weightZero, weight } = picture.operands;
  const less = (value, zero) => (zero ? `(${short(value)} − ${short(zero)})` : factor(value));
  const perChannel = (tensor, link) => tensor?.data[tensor.data.length > 1 ? channelOfWeight(picture, link) : 0];
  const factors = links.filter((link) => link.weight >= 0); // a transposed convolution may have a bias alone
  const products = factors.map((link) => {
    const value = less(valueOfInput(picture, link), inputZero?.data[0]);
    return `${value}×${less(weight.data[link.weight], perChannel(weightZero, link))}`;
  });
  const [first] = links;
  const ofBias = bias && bias.data[first.bias >= 0 ? first.bias : channelOfWeight(picture, first)];
  const sum = joined(products, " + ") + (bias ? ` + ${factor(ofBias)}` : "");
  const note = bias ? "The last term is the bias." : "";
  if (!picture.operands.output_scale) return { terms: sum, note };
  const { input_scale, weight_scale, output_scale, output_zero_point: zero } = picture.operands;
  const scales = `${short(input_scale.data[0])}×${short(perChannel(weight_scale, first))}/${short(output_scale.data[0])}`;
  return {
    terms: `round((${sum})×${scales}) + ${short(zero.data[0])}`,
    note: `${note} The result is clipped to its type.`,
  };
}

function channelOfWeight(picture, link) {
  const axes = axesOf(picture, "weight");
  return positionOf(picture.operands.weight.shape, link.weight)[axes.indexOf("C_out")];
}

function ties(picture, links) {
  const receiving = links.filter((link) => link.coefficient !== 0);
  if (receiving.length === 1 && links.length > 1) {
    const maximum = valueOfInput(picture, receiving[0]);
    const equal = links.filter((link) => link.input >= 0 && valueOfInput(picture, link) === maximum);
    return equal.length > 1 ? `${equal.length} cells are equal to the maximum; one of them receives the gradient.` : "";
  }
  return receiving.length > 1 ? `${receiving.length} cells share the gradient.` : "";
}

function gradientTerms(picture, links, cell) {
  const gradOutput = picture.gradOutput.data;
  const offset = itemOffset(picture, "grad_output");
  const isSummed = picture.gradOutput.shape[0] > 1 && linkKey(cell.tensor) !== "input"; // over the batch
  const factors = {
    input: (link) => link.coefficient,
    weight: (link) => valueOfInput(picture, link),
    bias: () => 1,
  }[linkKey(cell.tensor)];
  if (!factors) return { terms: "", note: "" };
  const used =
    linkKey(cell.tensor) === "bias" ? [...new Map(links.map((link) => [link.output, link])).values()] : links;
  const terms = used
    .filter((link) => factors(link) !== 0 || linkKey(cell.tensor) !== "input")
    .map(
      (link) =>
        `${factor(gradOutput[link.output + offset])}${linkKey(cell.tensor) === "bias" ? "" : `×${factor(factors(link))}`}`,
    );
  const sum = joined(terms, " + ");
  if (!isSummed) return { terms: sum, note: "" };
  return { terms: `${sum} + …`, note: `The dots are the terms of the other items; item ${picture.item} is shown.` };
}

function reach(picture, links, cell) {
  const counted = (set, name) => (set.size ? [`${set.size} ${set.size === 1 ? "cell" : "cells"} of the ${name}`] : []);
  const outputs = new Set(links.map((link) => link.output));
  const key = linkKey(cell.tensor, picture);
  if (!key || !picture.links.complete) return "";
  if (key === "output") {
    const inputs = new Set(links.filter((link) => link.input >= 0).map((link) => link.input));
    return `It goes back to ${counted(inputs, "input")[0] ?? "no cell of the input"}.`;
  }
  return `It reaches ${counted(outputs, "output")[0] ?? "no cell of the output"}.`;
}
