// A student on the visitor's own device: onnxruntime-web and the student's files come from the app, pictures stay here.
const TIMED_MS = 1000;
const LARGEST_SIDE = 1024;

const base = new URL("../", import.meta.url);

async function fetched(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

const rounded = (milliseconds) => (milliseconds < 10 ? milliseconds.toFixed(1) : `${Math.round(milliseconds)}`);

class BrowserStudent extends HTMLElement {
  connectedCallback() {
    if (this.button) return;
    this.words = JSON.parse(this.dataset.words);
    this.button = this.#add("button", { type: "button", className: "kd-local-run", textContent: this.words.run });
    this.line = this.#add("p", { className: "kd-local-line", role: "status" });
    this.pictures = this.#add("div", { className: "kd-local-pictures" });
    this.button.addEventListener("click", () => this.#guarded(() => this.#first()));
  }

  #add(tag, properties, parent = this) {
    return parent.appendChild(Object.assign(document.createElement(tag), properties));
  }

  async #guarded(work) {
    this.button.disabled = true;
    try {
      await work();
    } catch (error) {
      this.line.textContent = this.words.failed.replace("{reason}", error.message);
    }
    this.button.disabled = false;
  }

  async #load() {
    if (this.session) return;
    this.line.textContent = this.words.loading;
    const source = new URL(this.dataset.source, base);
    const runtime = new URL(this.dataset.runtime, base);
    const facts = await (await fetched(new URL("facts.json", source))).json();
    const [model, x, out] = await Promise.all(
      ["student.onnx", "x.bin", "out.bin"].map(async (name) => (await fetched(new URL(name, source))).arrayBuffer()),
    );
    await fetched(new URL("ort-wasm-simd-threaded.wasm", runtime));
    const ort = await import(new URL("ort.wasm.min.mjs", runtime));
    ort.env.wasm.wasmPaths = runtime.href;
    ort.env.wasm.numThreads = 1;
    this.ort = ort;
    this.facts = facts;
    this.x = new Float32Array(x);
    this.expected = new Uint8Array(out);
    this.session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  }

  async #ask(x, dims) {
    const feeds = { x: new this.ort.Tensor("float32", x, dims) };
    for (const [name, { dims: own, values, type }] of Object.entries(this.facts.conditions)) {
      const array = type === "int64" ? BigInt64Array.from(values.map(BigInt)) : Float32Array.from(values);
      feeds[name] = new this.ort.Tensor(type, array, own);
    }
    const began = performance.now();
    const { out } = await this.session.run(feeds);
    return { data: out.data, dims: out.dims, ms: performance.now() - began };
  }

  async #first() {
    await this.#load();
    this.line.textContent = this.words.running;
    await new Promise(requestAnimationFrame);
    const { facts } = this;
    const first = await this.#ask(this.x, facts.x);
    const times = [];
    const until = performance.now() + TIMED_MS;
    do {
      times.push((await this.#ask(this.x, facts.x)).ms);
    } while (performance.now() < until);
    times.sort((a, b) => a - b);
    const octets = first.data.map((value) => Math.round((Math.min(Math.max(value, -1), 1) + 1) * 127.5));
    const largest = octets.reduce((most, value, at) => Math.max(most, Math.abs(value - this.expected[at])), 0);
    const milliseconds = times[times.length >> 1];
    Object.assign(this.dataset, { largest, milliseconds });
    this.pictures.replaceChildren();
    if (facts.restores) this.#draw(this.x, facts.x, this.words.input);
    this.#draw(first.data, first.dims, this.words.here);
    this.#draw(this.expected, facts.out, this.words.server);
    this.line.textContent = this.words.figures
      .replace("{parameters}", facts.parameters.toLocaleString())
      .replace("{here}", rounded(milliseconds))
      .replace("{server}", rounded(facts.server_ms))
      .replace("{largest}", largest);
    if (facts.restores && !this.own) this.#offerOwn();
  }

  #offerOwn() {
    this.own = this.#add("label", { className: "kd-local-own", textContent: this.words.own });
    const file = this.#add("input", { type: "file", accept: "image/*" }, this.own);
    this.#add("small", { textContent: this.words.own_info }, this.own);
    file.addEventListener("change", () => file.files[0] && this.#guarded(() => this.#restore(file.files[0])));
  }

  async #restore(file) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(16, Math.floor((side * scale) / 16) * 16));
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const channels = this.facts.x[1];
    const x = new Float32Array(channels * width * height);
    for (let at = 0; at < width * height; at++) {
      const colour = data.subarray(4 * at, 4 * at + 3);
      const values = channels === 1 ? [(colour[0] * 299 + colour[1] * 587 + colour[2] * 114) / 1000] : colour;
      for (let c = 0; c < channels; c++) x[c * width * height + at] = values[c] / 127.5 - 1;
    }
    this.line.textContent = this.words.running;
    await new Promise(requestAnimationFrame);
    const dims = [1, channels, height, width];
    const answer = await this.#ask(x, dims);
    this.pictures.replaceChildren();
    this.#draw(x, dims, this.words.input);
    this.#draw(answer.data, answer.dims, this.words.here);
    this.line.textContent = this.words.own_figures
      .replace("{width}", width).replace("{height}", height).replace("{here}", rounded(answer.ms));
  }

  #draw(values, [count, channels, height, width], caption) {
    const octet = values instanceof Uint8Array ? (value) => value : (value) => (value + 1) * 127.5;
    const across = Math.ceil(Math.sqrt(count));
    const figure = this.#add("figure", {}, this.pictures);
    const canvas = this.#add("canvas", { width: across * width, height: Math.ceil(count / across) * height }, figure);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    this.#add("figcaption", { textContent: caption }, figure);
    const context = canvas.getContext("2d");
    const size = width * height;
    for (let number = 0; number < count; number++) {
      const image = context.createImageData(width, height);
      for (let at = 0; at < size; at++) {
        for (let c = 0; c < 3; c++) {
          const from = (number * channels + Math.min(c, channels - 1)) * size + at;
          image.data[4 * at + c] = Math.round(octet(values[from]));
        }
        image.data[4 * at + 3] = 255;
      }
      context.putImageData(image, (number % across) * width, Math.floor(number / across) * height);
    }
  }
}

customElements.get("kd-browser-student") ?? customElements.define("kd-browser-student", BrowserStudent);
