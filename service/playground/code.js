/** The tab Code: the call that the picture shows, to be copied. */
import { KEY_VARIABLE, snippets } from "./snippets.js";
import { html, nothing } from "./vendor/lit-html.js";

const keyHint = html`<p class="hint">
  Your API key is not in the code, which reads it from the environment variable ${KEY_VARIABLE}.
</p>`;

export class Code {
  constructor(context) {
    this.context = context;
    this.chosen = "curl-json";
    this.isCopied = false;
  }

  template() {
    const { service, picture } = this.context;
    if (!picture) return "";
    if (picture !== this.picture) this.all = snippets({ base: service.base, picture, needsKey: Boolean(service.key) });
    this.picture = picture;
    const { all } = this;
    const one = all.find(({ id }) => id === this.chosen) ?? all[0];
    return html`<div class="code">
      <div class="choices" role="group" aria-label="Copy as">
        ${all.map(
          ({ id, title }) =>
            html`<button aria-pressed=${id === one.id} data-snippet=${id} @click=${() => this.#choose(id)}>
              ${title}
            </button>`,
        )}
        <button id="copy" class="copy" @click=${() => this.#copy(one.code)}>
          ${this.isCopied ? "Copied" : "Copy"}
        </button>
      </div>
      ${one.code.includes(KEY_VARIABLE) ? keyHint : nothing}
      <pre tabindex="0" aria-label="${one.title}"><code data-language=${one.language}>${one.code}</code></pre>
    </div>`;
  }

  update() {
    this.isCopied = false;
  }

  #choose(id) {
    this.chosen = id;
    this.isCopied = false;
    this.context.redraw();
  }

  async #copy(code) {
    await navigator.clipboard.writeText(code);
    this.isCopied = true;
    this.context.redraw();
  }
}
