/** The call that the picture shows as code that runs as it is: in a shell, Python, JavaScript, and other frameworks. */
import { jax } from "./snippets/jax.js";
import { layerOf, Missing } from "./snippets/layer.js";
import { isFinite, json, nested, number, python, shell } from "./snippets/literals.js";
import { onnx } from "./snippets/onnx.js";
import { tensorflow } from "./snippets/tensorflow.js";
import { torch } from "./snippets/torch.js";
import { DTYPES, encodeTensor } from "./service.js";

/** @typedef {import("./service.js").Tensor} Tensor */
/** @typedef {{id: string, title: string, language: string, code: string}} Snippet */

const FRAMEWORKS = [
  ["torch", "PyTorch", torch],
  ["tensorflow", "TensorFlow", tensorflow],
  ["jax", "JAX", jax],
  ["onnx", "ONNX", onnx],
];
const CLASSES = {
  conv: "Conv",
  conv_transpose: "ConvTranspose",
  max: "MaxPool",
  avg: "AvgPool",
  lp: "LpPool",
  unpool: "MaxUnpool",
  unfold: "Unfold",
  fold: "Fold",
  conv_integer: "ConvInteger",
  qlinear_conv: "QLinearConv",
};
/** Letters of NumPy's types: "<f8" is float64. */
const NPY_KINDS = { float: "f", int: "i", uint: "u" };
const NPY_MAGIC = "\x93NUMPY\x01\x00";
const NPY_ALIGNMENT = 192; // a multiple of 64, as NumPy writes it, and of 3: its base64 can be followed by other base64
const BASE64_LINE = 100;
const WORD = /^[a-z_]+$/;
const CONSTANTS = ["true", "false", "null"]; // words that are JSON

/** The environment variable that the code takes an API key from, as convpool.client does: no key is ever in the code. */
export const KEY_VARIABLE = "CONVPOOL_API_KEY";

/**
 * @param {object} given
 * @param {string} given.base  The service's URL, with its path prefix.
 * @param given.picture  As computePicture makes it.
 * @param {boolean} [given.needsKey]  Whether the service asks for an API key.
 * @returns {Snippet[]}
 */
export function snippets({ base, picture, needsKey = false }) {
  const call = { ...callOf(base, picture), needsKey };
  return [
    { id: "curl-json", title: "curl, JSON", language: "bash", code: curlJson(call) },
    { id: "curl-multipart", title: "curl, files", language: "bash", code: curlMultipart(call) },
    { id: "python", title: "Python, httpx", language: "python", code: pythonHttpx(call) },
    { id: "fetch", title: "JavaScript", language: "javascript", code: fetched(call) },
    ...core(call, picture),
    ...FRAMEWORKS.map(([id, title, build]) => {
      return { id, title, language: "python", code: framework(build, title, picture) };
    }),
  ];
}

/**
 * @typedef {object} Call
 * @property {string} url
 * @property {[string, unknown][]} parameters
 * @property {[string, Tensor][]} operands
 * @property {boolean} isFinite  whether JSON has all numbers that are sent and answered
 * @property {string} result  the gradient that is asked for, or ""
 * @property {boolean} needsKey
 */

/** @returns {Omit<Call, "needsKey">} */
function callOf(base, picture) {
  const { layer, state } = picture;
  const result = picture.view.startsWith("grad_") ? picture.view : "";
  const operation = result ? layer.backward : layer.forward;
  const { properties } = operation.parameters;
  const tensors = { ...picture.operands, grad_output: picture.gradOutput };
  const names = operation.operands.map(({ name }) => name).filter((name) => tensors[name]);
  const operands = names.map((name) => [name, tensors[name]]);
  for (const [name, { dtype }] of operands)
    if (!DTYPES.includes(dtype)) throw new TypeError(`${name} has no dtype of the page`);
  const isOwn = (name) => name !== "wrt" && Object.hasOwn(properties, name);
  const parameters = Object.entries(state.parameters).filter(([name]) => isOwn(name));
  if (result && properties.wrt) parameters.push(["wrt", [result.slice("grad_".length)]]);
  const all = [...operands.map(([, tensor]) => tensor), ...Object.values(picture.results)];
  return { url: safeUrl(base) + operation.path, parameters, operands, isFinite: all.every(isFinite), result };
}

/** The same URL without any character that means something to a shell, to curl or in a string. */
function safeUrl(url) {
  const [, host, path] = url.match(/^(\w+:\/\/[\w.:[\]-]*)?(.*)$/s); // in a path, brackets are a pattern of curl's
  return (host ?? "") + [...path].map((one) => (/[\w\-.~:/%@]/.test(one) ? one : percentEncoded(one))).join("");
}

const percentEncoded = (character) =>
  [...new TextEncoder().encode(character)]
    .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`)
    .join("");

/** An operand as JSON: nested lists are float64, another type is named, and NaN and infinities need base64. */
function operand(tensor, call, indent) {
  const { dtype, shape, data } = tensor;
  if (!call.isFinite) return json(encodeTensor(tensor));
  if (dtype === "float64") return nested(tensor, indent);
  return `{"dtype": ${json(dtype)}, "shape": ${json(shape)}, "data": [${data.map(number).join(", ")}]}`;
}

function body(call, indent) {
  const space = " ".repeat(indent);
  const lines = [
    ...call.parameters.map(([name, value]) => `${json(name)}: ${json(value)}`),
    ...call.operands.map(([name, tensor]) => `${json(name)}: ${operand(tensor, call, indent + 2)}`),
  ];
  return `{\n${lines.map((line) => `${space}  ${line}`).join(",\n")}\n${space}}`;
}

const note = ({ isFinite }, comment) =>
  isFinite ? "" : `${comment} JSON has no NaN and no infinity: the numbers are base64, little-endian\n`;

/** Options of curl that send the key: the shell fills in the variable between the double quotes. */
const curlKey = ({ needsKey }) => (needsKey ? [`-H "Authorization: Bearer $${KEY_VARIABLE}"`] : []);

function curlJson(call) {
  const options = ["-H 'Content-Type: application/json'", ...curlKey(call), "--data-binary @-"].join(" ");
  const head = `curl -sS ${shell(call.url)} ${options} <<'JSON'`;
  return `${note(call, "#")}${head}\n${body(call, 0)}\nJSON\n`;
}

function curlMultipart(call) {
  const files = call.operands.map(
    ([name, tensor]) => `base64 --decode > "$folder/${name}.npy" <<'NPY'\n${npy(tensor)}\nNPY\n`,
  );
  const fields = [
    ...call.operands.map(([name]) => `-F ${name}=@"$folder/${name}.npy"`),
    // not -F: that reads a file where a value begins with @ or <
    ...call.parameters.map(([name, value]) => `--form-string ${shell(`${name}=${field(value)}`)}`),
  ];
  const curl = ["curl -sS", shell(call.url), ...curlKey(call), ...fields].join(" \\\n  ");
  if (call.isFinite) return `folder=$(mktemp -d)\n${files.join("")}${curl} \\\n  -H 'Accept: application/json'\n`;
  const print = "import sys, numpy; print({name: array.tolist() for name, array in numpy.load(sys.argv[1]).items()})";
  return (
    "# JSON has no NaN and no infinity: the results come as a file\n" +
    `folder=$(mktemp -d)\n${files.join("")}${curl} \\\n` +
    `  -H 'Accept: application/x-npz' -o "$folder/results.npz"\npython3 -c '${print}' "$folder/results.npz"\n`
  );
}

/** A parameter in a form: JSON, or a bare word where that is a string. */
const field = (value) =>
  typeof value === "string" && WORD.test(value) && !CONSTANTS.includes(value) ? value : json(value);

/** A .npy file as base64. @param {Tensor} tensor */
function npy(tensor) {
  const [, kind, bits] = tensor.dtype.match(/^([a-z]+)(\d+)$/);
  const descr = `${bits === "8" ? "|" : "<"}${NPY_KINDS[kind]}${bits / 8}`;
  const shape = `(${tensor.shape.map((size) => `${size},`).join(" ")})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const total = Math.ceil((NPY_MAGIC.length + 2 + text.length + 1) / NPY_ALIGNMENT) * NPY_ALIGNMENT;
  const size = total - NPY_MAGIC.length - 2;
  const length = String.fromCharCode(size % 256, Math.floor(size / 256));
  const encoded = btoa(`${NPY_MAGIC}${length}${text.padEnd(size - 1)}\n`) + encodeTensor(tensor).base64;
  return encoded.match(new RegExp(`.{1,${BASE64_LINE}}`, "g")).join("\n");
}

function pythonHttpx(call) {
  const items = [
    ...call.parameters.map(([name, value]) => `    ${python(name)}: ${python(value)},`),
    ...call.operands.map(([name, tensor]) => `    ${python(name)}: ${operand(tensor, call, 4)},`),
  ];
  const key = call.needsKey ? [`headers = {"Authorization": f"Bearer {os.environ['${KEY_VARIABLE}']}"}`] : [];
  const post = `httpx.post(${python(call.url)}, json=body${call.needsKey ? ", headers=headers" : ""})`;
  const lines = ["body = {", ...items, "}", ...key, `answer = ${post}.json()`];
  const standard = [...(call.isFinite ? [] : ["import base64"]), ...(call.needsKey ? ["import os"] : [])];
  const head = [...standard, ...(standard.length ? [""] : []), "import httpx"];
  if (call.isFinite) return [...head, "", ...lines, "print(answer)", ""].join("\n");
  const decoded = [
    "for name, tensor in answer.items():",
    '    flat = np.frombuffer(base64.b64decode(tensor["base64"]), tensor["dtype"])',
    '    print(name, flat.reshape(tensor["shape"]).tolist())',
  ];
  return note(call, "#") + [...head, "import numpy as np", "", ...lines, ...decoded, ""].join("\n");
}

function fetched(call) {
  const key = call.needsKey ? `, Authorization: \`Bearer \${process.env.${KEY_VARIABLE}}\`` : "";
  return `${note(call, "//")}const response = await fetch(${json(call.url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${key} },
  body: JSON.stringify(${body(call, 2)}),
});
console.log(JSON.stringify(await response.json()));
`;
}

/** The call of the library, if it has the layer under a name that is known here. */
function core(call, picture) {
  const type = CLASSES[picture.parameters.mode ?? picture.layer.name];
  if (!type) return [];
  const keywords = call.parameters
    .filter(([name]) => !["mode", "wrt"].includes(name))
    .map(([name, value]) => `${name}=${python(value)}`);
  const direction = call.result ? "backward" : "forward";
  const names = Object.keys(Object.fromEntries(call.operands));
  const isNamed = call.result && call.parameters.some(([name]) => name === "wrt");
  const lines = [
    `op = ${type}(${keywords.join(", ")})`,
    `result = op.${direction}(${names.map((name) => (name === "grad_output" ? name : `${name}=${name}`)).join(", ")})`,
  ];
  if (!call.result && picture.results.indices)
    lines.push("print(result.output.tolist())", "print(result.indices.tolist())");
  else lines.push(`print(result${isNamed ? `.${call.result}` : ""}.tolist())`);
  const { operands: described } = picture.layer.forward;
  const operands = call.operands.map(([name, tensor]) => {
    const takesIntegers = described.find((one) => one.name === name)?.dtypes.includes("int64") ?? true;
    const more = tensor.dtype === "float64" && takesIntegers ? "" : `, np.${tensor.dtype}`;
    return `${name} = np.array(${nested(tensor)}${more})`;
  });
  const imports = ["import numpy as np", `from cnn_core import ${type}  # installed by pip: from convpool.cnn_core`];
  const tensors = call.operands.map(([, tensor]) => tensor);
  return [
    {
      id: "cnn_core",
      title: "Python, NumPy only",
      language: "python",
      code: program({ imports, operands, lines }, tensors),
    },
  ];
}

function framework(build, title, picture) {
  try {
    const resolved = layerOf(picture);
    const tensors = [...Object.values(resolved.operands), resolved.gradOutput];
    return program(build(resolved), tensors);
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    return `# No call of ${title} gives these numbers.\n# ${error.message}\n`;
  }
}

function program({ imports, operands, lines }, tensors) {
  const special = tensors.every(isFinite) ? [] : ["from math import inf, nan", ""];
  return `${[...special, ...imports, "", ...operands, ...lines].join("\n")}\n`;
}
