/** The form of the operands, made of GET /ops: their sizes, which of them there are, and their dtype. */
import { field, nameOf, select } from "./controls.js";
import { sizeOf } from "./service.js";
import { axesOf, MOST_VALUES, spatialCount, spatialRange } from "./state.js";
import { html, nothing } from "./vendor/lit-html.js";

const SPATIAL = ["D", "H", "W"];
const FLOATS = ["float64", "float32"];

/** The text of the field that is being edited, and the tensors when that began. */
let typing = { name: "" };

/** "1x5x5x1" as sizes, or null. */
function parsedShape(text) {
  const sizes = text.trim() === "" ? [] : text.trim().split(/\s*[x×,]\s*/i);
  return sizes.every((size) => /^\d{1,7}$/.test(size)) ? sizes.map(Number) : null;
}

/** "N × H × W × C". */
function axesLabel(axes, shape) {
  if (!axes) return "";
  if (!axes.length) return "one value";
  const count = spatialCount(shape, axes);
  const spatial = count <= SPATIAL.length ? SPATIAL.slice(SPATIAL.length - count) : ["…"];
  const names = axes.flatMap((axis) =>
    axis === "*spatial" ? spatial : axis.startsWith("*") ? spatial.map((name) => `${axis.slice(1)} ${name}`) : [axis],
  );
  return names.join(" × ");
}

function sizeField({ operation, state, problems, onChange }, operand) {
  const { name, required, description } = operand;
  const tensor = state.tensors[name];
  const id = `size:${name}`;
  const axes = axesOf(operation, operand, state.parameters);
  const setPresent = (isPresent) =>
    onChange(({ tensors: { [name]: _, ...others } }) => ({
      tensors: isPresent ? { ...others, [name]: null } : others,
    }));
  const shown = tensor?.shape.join("x") ?? "";
  const isTyped = typing.name === id && parsedShape(typing.text)?.join("x") === shown;
  const onFocus = ({ target }) => (typing = { name: id, text: target.value, tensors: state.tensors });
  const onInput = ({ target }, isDone) => {
    // Each size that is typed starts from what was there before: 5, 51 and 5 again leave the values as they were.
    typing = { ...typing, name: id, text: target.value, tensors: typing.tensors ?? state.tensors };
    const shape = parsedShape(target.value);
    const fits = shape && sizeOf(shape) <= MOST_VALUES && (shape.length > 0 || axes?.length === 0);
    target.setCustomValidity(fits ? "" : `sizes with x between them, as ${shown}, of at most ${MOST_VALUES} values`);
    if (!fits || (shape.length !== tensor.shape.length && !isDone)) return; // of another rank: not before it is whole
    const { tensors } = typing;
    onChange(() => ({ tensors, sizes: { [name]: shape } }));
  };
  const onDone = (event) => {
    onInput(event, true);
    event.target.reportValidity();
  };
  const onBlur = ({ target }) => {
    typing = { name: "" };
    if (!target.validity.valid) target.value = shown;
    target.setCustomValidity("");
  };
  return field({
    id,
    label: html`${name} <span class="axes">${axesLabel(axes, tensor?.shape)}</span>`,
    about: name,
    help: description,
    findings: problems.filter((finding) => nameOf(finding) === name),
    control: (ties) =>
      html`<span class="stepped">
        ${
          required
            ? nothing
            : html`<input
                type="checkbox"
                name="has:${name}"
                aria-label="with ${name}"
                .checked=${Boolean(tensor)}
                @change=${({ target }) => setPresent(target.checked)}
              />`
        }
        <input
          type="text"
          id=${ties.id}
          name=${id}
          .value=${isTyped ? typing.text : shown}
          ?disabled=${!tensor}
          placeholder=${tensor ? "one value" : "none"}
          autocomplete="off"
          spellcheck="false"
          aria-invalid=${ties.invalid}
          aria-errormessage=${ties.invalid ? ties.problem : nothing}
          aria-describedby=${ties.described}
          @focus=${onFocus}
          @input=${(event) => onInput(event, false)}
          @change=${onDone}
          @blur=${onBlur}
        />
      </span>`,
  });
}

function spatialField({ operation, state, problems, onChange }) {
  const name = "spatial_axes";
  const schema = operation.parameters.properties[name];
  const [least, most] = spatialRange(operation);
  const counts = operation.operands.map((operand) =>
    spatialCount(state.tensors[operand.name]?.shape, axesOf(operation, operand, state.parameters)),
  );
  const count = counts.find((one) => one !== undefined) ?? state.parameters[name];
  const choices = Array.from({ length: most - least + 1 }, (_, index) => least + index);
  if (!choices.includes(count)) choices.unshift(count ?? "");
  const onChoose = (text) => onChange(({ parameters }) => ({ parameters: { ...parameters, [name]: Number(text) } }));
  return field({
    id: `parameter-${name}`,
    label: name,
    about: name,
    help: schema.description,
    findings: problems.filter((finding) => nameOf(finding) === name),
    control: (ties) =>
      select({ name, options: choices.map((one) => [`${one}`, `${one}`]), value: `${count ?? ""}`, onChoose, ties }),
  });
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

function dtypeField({ operation, state, onChange }) {
  const dtype = state.tensors[operation.operands[0].name]?.dtype;
  const choices = FLOATS.includes(dtype) ? FLOATS : [dtype, ...FLOATS];
  return field({
    id: "dtype",
    label: "dtype",
    about: "dtype",
    help: "The type of the numbers that the service computes with.",
    findings: [],
    control: (ties) =>
      select({
        name: "dtype",
        options: choices.map((one) => [one, one]),
        value: dtype,
        onChoose: (chosen) => onChange(({ tensors }) => ({ tensors: cast(operation, tensors, chosen) })),
        ties,
      }),
  });
}

/**
 * The form of the operands: their sizes, which of them there are, and their dtype.
 *
 * @param {object} options  as of `parameterForm`
 */
export function sizesForm(options) {
  const { operation, state } = options;
  const takesFloats = FLOATS.every((dtype) => operation.operands[0].dtypes.includes(dtype));
  return html`<form id="sizes" autocomplete="off" aria-label="Sizes" @submit=${(event) => event.preventDefault()}>
    <h2>Sizes</h2>
    ${operation.operands.map((operand) => sizeField(options, operand))}
    ${operation.parameters.properties.spatial_axes ? spatialField(options) : nothing}
    ${takesFloats && state.tensors[operation.operands[0].name] ? dtypeField(options) : nothing}
  </form>`;
}
