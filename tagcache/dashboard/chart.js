// Charts of values over time in SVG: axes with units, and a cursor that follows the pointer or the arrow keys.

import { h, put, s, text } from "./dom.js";
import { clock, MISSING } from "./format.js";

const HEIGHT = 168;
const MARGIN = { top: 10, right: 12, bottom: 24, left: 58 };
const TICKS = { 300: 60, 900: 180, 3600: 600 };

function niceStep(rough, binary) {
  if (binary) return 2 ** Math.max(0, Math.ceil(Math.log2(rough * 0.999)));
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.999) * power;
}

/** The ticks of an axis from 0 to at least `most`. */
export function ticks(most, { binary = false, integer = false } = {}) {
  if (!(most > 0)) return [0, binary ? 1024 : 1];
  let step = niceStep(most / 4, binary);
  if (integer) step = Math.max(1, Math.ceil(step));
  const found = [0];
  while (found.at(-1) < most * 0.999) found.push(found.length * step);
  return found;
}

/** Group samples by time, so that there is at most one value for two pixels. */
export function gather(samples, series, from, bucket) {
  const found = [];
  for (const sample of samples) {
    if (sample.time < from) continue;
    const number = Math.floor(sample.time / bucket);
    if (found.at(-1)?.number !== number) found.push({ number, samples: [] });
    found.at(-1).samples.push(sample);
  }
  return found.map((each) => ({
    time: each.samples.at(-1).time,
    values: series.map((one) => valueOf(one, each.samples)),
  }));
}

/** The value of a series for a group of samples; null if it has none. */
export function valueOf({ name, of, peak }, samples) {
  const numbers = (column) =>
    samples.map((sample) => sample[column]).filter((value) => value !== null && value !== undefined);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const values = numbers(name);
  if (!values.length) return null;
  if (peak) return Math.max(...values);
  const whole = of ? sum(numbers(of)) : values.length;
  return whole ? sum(values) / whole : null;
}

/**
 * A chart in a card. `series` are {name, label, peak?, of?}: `name` is a column of the samples. A group of
 * samples is shown as its mean, or with `peak` as its maximum. With `of`, the name of another column, the
 * value is a share of that column, with a gap where that is 0. `format` writes a value with its unit; `none`
 * is the text for no value. `limit` names a column that is drawn as a limit where it is not 0; `domain`
 * fixes the top of the axis.
 */
export class Chart {
  constructor(
    {
      title,
      about,
      series,
      format,
      axis = format,
      binary = false,
      integer = false,
      domain = 0,
      limit = "",
      none = MISSING,
      wide = false,
    },
  ) {
    const write = (value) => (value === null || value === undefined ? none : format(value));
    Object.assign(this, { title, series, format: write, axis, binary, integer, domain, limit, none });
    this.samples = [];
    this.range = 300;
    this.interval = 2;
    this.at = null;
    this.points = [];
    this.values = series.map(() => h("span", { class: "value" }, MISSING));
    this.grid = s("g", { class: "grid" });
    this.area = s("path", { class: "area c1" });
    this.limitLine = s("path", { class: "limit" });
    this.lines = series.map((_, index) => s("path", { class: `line c${index + 1}` }));
    this.dots = series.map((_, index) => s("circle", { class: `dot c${index + 1}`, r: 3.5 }));
    this.cursor = s("path", { class: "cursor" });
    this.marks = s("g", { class: "marks" }, this.cursor, ...this.dots);
    this.svg = s(
      "svg",
      { class: "plot", height: HEIGHT, tabindex: "0", role: "img", "aria-roledescription": "chart" },
      this.grid,
      series.length === 1 ? this.area : null,
      this.limitLine,
      ...this.lines,
      this.marks,
    );
    this.tip = h("div", { class: "tip", role: "status", hidden: true });
    this.about = h("span", { class: "about" }, about);
    this.waiting = h("p", { class: "waiting" }, "Waiting for the first samples…");
    this.element = h(
      "figure",
      { class: `card chart ${wide ? "wide" : ""}` },
      h(
        "figcaption",
        {},
        h("h3", {}, title),
        this.about,
        h(
          "ul",
          { class: "legend" },
          series.map(({ label }, index) =>
            h(
              "li",
              {},
              series.length > 1 ? h("span", { class: `key c${index + 1}`, "aria-hidden": "true" }) : null,
              label ? h("span", {}, label) : null,
              this.values[index],
            )
          ),
        ),
      ),
      h("div", { class: "plot-area" }, this.svg, this.waiting, this.tip),
    );
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerdown", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#leave());
    this.svg.addEventListener("blur", () => this.#leave());
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  /** Show the last `range` seconds of these samples. */
  show(samples, range, interval) {
    Object.assign(this, { samples, range, interval });
    this.draw();
  }

  /** Set the note beside the title, which says what the numbers are. */
  explain(about) {
    text(this.about, about);
  }

  destroy() {
    this.observer.disconnect();
  }

  draw() {
    const width = this.svg.clientWidth || this.svg.parentElement?.clientWidth || 0;
    if (width < 80) return;
    const last = this.samples.at(-1);
    const inner = width - MARGIN.left - MARGIN.right;
    const end = last ? last.time : Date.now() / 1000;
    const start = end - this.range;
    const bucket = Math.max(this.interval, Math.ceil((this.range / inner) * 2 / this.interval) * this.interval);
    this.points = gather(this.samples, this.series, start, bucket);
    const bare = this.none !== MISSING && this.points.every(({ values }) => values.every((value) => value === null));
    this.waiting.hidden = Boolean(last) && !bare;
    text(
      this.waiting,
      last ? `${this.none[0].toUpperCase()}${this.none.slice(1)} in this time` : "Waiting for the first samples…",
    );
    const current = this.series.map((one) => (last ? valueOf(one, [last]) : null));
    const limit = this.limit && last ? last[this.limit] : 0;
    const most = this.domain ||
      Math.max(0, ...this.points.flatMap((point) => point.values.map((value) => value ?? 0)), limit || 0);
    const marks = this.domain ? [0, 0.25, 0.5, 0.75, 1].map((share) => share * this.domain) : ticks(most, this);
    const top = marks.at(-1);
    this.x = (time) => MARGIN.left + ((time - start) / this.range) * inner;
    this.y = (value) => MARGIN.top + (1 - value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#axes(marks, start, end, width);
    const gap = bucket * 2.5;
    this.lines.forEach((line, index) => line.setAttribute("d", this.#path(index, gap)));
    if (this.series.length === 1) this.area.setAttribute("d", this.#area(gap));
    this.limitLine.setAttribute("d", limit ? `M${MARGIN.left} ${this.y(limit)}H${width - MARGIN.right}` : "");
    this.values.forEach((value, index) => text(value, last ? this.format(current[index]) : MISSING));
    this.svg.setAttribute(
      "aria-label",
      `${this.title}: ${
        this.series.map(({ label }, index) =>
          `${label ? `${label} ` : ""}${last ? this.format(current[index]) : "no data"}`
        ).join(", ")
      }. Arrow keys read earlier values.`,
    );
    this.#mark();
  }

  #axes(marks, start, end, width) {
    const parts = [];
    for (const mark of marks) {
      const y = Math.round(this.y(mark)) + 0.5;
      parts.push(s("path", { class: mark === 0 ? "base" : "", d: `M${MARGIN.left} ${y}H${width - MARGIN.right}` }));
      parts.push(s("text", { x: MARGIN.left - 8, y: y + 3.5, "text-anchor": "end" }, this.axis(mark)));
    }
    let step = TICKS[this.range] ?? this.range / 5;
    if (width < 420) step *= 2;
    // Ticks are at whole steps of the local time.
    const shift = new Date(end * 1000).getTimezoneOffset() * 60;
    for (let time = Math.ceil((start - shift) / step) * step + shift; time <= end; time += step) {
      const x = this.x(time);
      if (x < MARGIN.left + 14 || x > width - MARGIN.right - 12) continue;
      parts.push(s("path", { class: "tick", d: `M${x.toFixed(1)} ${HEIGHT - MARGIN.bottom}v4` }));
      parts.push(s("text", { x: x.toFixed(1), y: HEIGHT - 6, "text-anchor": "middle" }, clock(time, false)));
    }
    put(this.grid, parts);
  }

  #runs(index, gap) {
    const runs = [];
    let before = null;
    for (const { time, values } of this.points) {
      const value = values[index];
      if (value === null) {
        before = null;
        continue;
      }
      if (before === null || time - before > gap) runs.push([]);
      runs.at(-1).push([this.x(time), this.y(value)]);
      before = time;
    }
    return runs;
  }

  #path(index, gap) {
    return this.#runs(index, gap).map((
      run,
    ) => (run.length === 1
      ? `M${(run[0][0] - 1.5).toFixed(1)} ${run[0][1].toFixed(1)}h3`
      : `M${run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`)
    ).join("");
  }

  #area(gap) {
    const base = this.y(0).toFixed(1);
    return this.#runs(0, gap).filter((run) => run.length > 1).map((run) =>
      `M${run[0][0].toFixed(1)} ${base}L${run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}V${base}Z`
    ).join("");
  }

  #point(event) {
    if (!this.points.length || !this.x) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    let best = this.points[0];
    for (const point of this.points) {
      if (Math.abs(this.x(point.time) - x) < Math.abs(this.x(best.time) - x)) best = point;
    }
    this.at = best.time;
    this.#mark();
  }

  #leave() {
    this.at = null;
    this.#mark();
  }

  #key(event) {
    if (!this.points.length) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") {
      this.#leave();
      return;
    }
    if (!(event.key in moves)) return;
    event.preventDefault();
    const now = this.at === null ? this.points.length : this.points.findIndex((point) => point.time >= this.at);
    const next = Math.min(Math.max(now + moves[event.key], 0), this.points.length - 1);
    this.at = this.points[next].time;
    this.#mark();
  }

  #mark() {
    const point = this.at === null ? null : this.points.find((each) => each.time >= this.at);
    this.marks.setAttribute("visibility", point ? "visible" : "hidden");
    this.tip.hidden = !point;
    if (!point) return;
    const x = this.x(point.time);
    this.cursor.setAttribute("d", `M${x.toFixed(1)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}`);
    this.dots.forEach((dot, index) => {
      const value = point.values[index];
      dot.setAttribute("visibility", value === null ? "hidden" : "inherit");
      if (value === null) return;
      dot.setAttribute("cx", x.toFixed(1));
      dot.setAttribute("cy", this.y(value).toFixed(1));
    });
    put(
      this.tip,
      h("span", { class: "tip-time" }, clock(point.time)),
      ...this.series.map(({ label }, index) =>
        h(
          "span",
          { class: "tip-row" },
          h("span", { class: `key c${index + 1}` }),
          h("span", {}, label || this.title),
          h("span", { class: "value" }, this.format(point.values[index])),
        )
      ),
    );
    const room = this.svg.clientWidth;
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${x + 14 + wide > room ? Math.max(x - 14 - wide, 0) : x + 14}px`;
  }
}
