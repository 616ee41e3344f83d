// Lines over time, drawn as SVG. Numbers stand beside them as text, so that nobody has to read them off a line.

import { h, replace, s, setText } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;
/** A chart that has just begun shows at least this long a time, in milliseconds. */
const SHORTEST = 60000;

/** The next number of the form 1, 2 or 5 times a power of ten, counted in `unit`s. */
function ceiling(value, unit) {
  if (value <= 0) return unit;
  const power = 10 ** Math.floor(Math.log10(value / unit)) * unit;
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

export class Chart {
  /** `series` are names in the order of their colours; `format` makes text of a value. */
  constructor({ title, about, series, format, seconds, unit = 1 }) {
    this.unit = unit;
    this.series = series;
    this.format = format;
    this.longest = seconds * 1000;
    this.window = SHORTEST;
    this.title = title;
    this.paths = series.map((_, at) => s("path", { class: `line line-${at}`, "vector-effect": "non-scaling-stroke" }));
    this.area = s("path", { class: "area" });
    this.cursor = s("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden", "vector-effect": "non-scaling-stroke" });
    const grid = [0.5].map((at) => s("line", { class: "gridline", x1: 0, x2: WIDTH, y1: HEIGHT * at, y2: HEIGHT * at, "vector-effect": "non-scaling-stroke" }));
    this.svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, grid, this.area, this.paths, this.cursor);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.top = h("span", { class: "chart-top" });
    this.when = h("span", { class: "chart-when" });
    this.legend = h("ul", { class: "legend" });
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", null, h("strong", null, title), about ? h("small", null, about) : null),
      h("div", { class: "plot" }, this.svg, this.top, this.when),
      this.legend,
    );
    this.samples = [];
    this.pointed = null;
    this.draw();
  }

  /** Samples are `{ at, values }`, oldest first; a value that is not known is null. */
  show(samples) {
    this.samples = samples;
    this.draw();
  }

  draw() {
    const { samples } = this;
    const now = samples.length ? samples.at(-1).at : 0;
    // Full minutes, so that the lines do not crawl at every step.
    const known = samples.length ? Math.ceil((now - samples[0].at) / SHORTEST) * SHORTEST : 0;
    this.window = Math.min(this.longest, Math.max(SHORTEST, known));
    const x = (at) => WIDTH - ((now - at) / this.window) * WIDTH;
    const all = samples.flatMap(({ values }) => values.filter((value) => value !== null));
    const top = ceiling(Math.max(0, ...all), this.unit);
    const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 6);
    this.x = x;
    this.paths.forEach((path, at) => {
      let line = "";
      let pen = "M";
      for (const { at: time, values } of samples) {
        if (values[at] === null || values[at] === undefined) pen = "M";
        else {
          line += `${pen}${x(time).toFixed(1)} ${y(values[at]).toFixed(1)}`;
          pen = "L";
        }
      }
      path.setAttribute("d", line);
    });
    if (this.series.length === 1) this.area.setAttribute("d", this.below(x, y));
    setText(this.top, samples.length ? this.format(top) : "");
    this.tell();
  }

  /** What is below the only line, gap by gap. */
  below(x, y) {
    let area = "";
    let last = null;
    for (const { at, values } of this.samples) {
      const known = values[0] !== null && values[0] !== undefined;
      if (known) area += `${last === null ? `M${x(at).toFixed(1)} ${HEIGHT}` : ""}L${x(at).toFixed(1)} ${y(values[0]).toFixed(1)}`;
      else if (last !== null) area += `L${x(last).toFixed(1)} ${HEIGHT}Z`;
      last = known ? at : null;
    }
    return last === null ? area : `${area}L${x(last).toFixed(1)} ${HEIGHT}Z`;
  }

  /** The numbers: of the moment that is pointed at, else of now. */
  tell() {
    const sample = this.pointed ?? this.samples.at(-1);
    const text = (at) => {
      const value = sample?.values[at];
      return value === null || value === undefined ? "–" : this.format(value);
    };
    if (this.legend.children.length !== this.series.length) {
      replace(this.legend, this.series.map((name, at) => h("li", null, h("span", { class: `swatch swatch-${at}`, "aria-hidden": "true" }), h("span", { class: "legend-name" }, name), h("span", { class: "num legend-value" }))));
    }
    [...this.legend.children].forEach((item, at) => setText(item.lastChild, text(at)));
    setText(this.when, this.pointed ? `${Math.round((this.samples.at(-1).at - this.pointed.at) / 1000)} s ago` : `${this.window / 60000} min`);
    this.svg.setAttribute("aria-label", `${this.title}: ${this.series.map((name, at) => `${name} ${text(at)}`).join(", ")}`);
  }

  point(event) {
    if (event === null || this.samples.length === 0) {
      this.pointed = null;
      this.cursor.setAttribute("visibility", "hidden");
    } else {
      const box = this.svg.getBoundingClientRect();
      const wanted = ((event.clientX - box.left) / box.width) * WIDTH;
      const near = (one, other) => (Math.abs(this.x(other.at) - wanted) < Math.abs(this.x(one.at) - wanted) ? other : one);
      this.pointed = this.samples.reduce(near);
      this.cursor.setAttribute("x1", this.x(this.pointed.at));
      this.cursor.setAttribute("x2", this.x(this.pointed.at));
      this.cursor.setAttribute("visibility", "visible");
    }
    this.tell();
  }
}
