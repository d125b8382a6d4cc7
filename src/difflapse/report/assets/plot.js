"use strict";

/* A small plot: points and lines against time or magnitude, as SVG that is as wide as its place. */
difflapse.plot = (() => {
  const { el, Event, known, figure } = difflapse;
  const MARGIN = { left: 54, right: 12, top: 8, bottom: 22 };

  /* Round values between two ends, at most about so many, and two at least. */
  function ticks(low, high, most) {
    const found = ticksOf((high - low) / most, low, high);
    return found.values.length > 1 ? found : ticksOf((high - low) / (1.6 * most), low, high);
  }

  function ticksOf(raw, low, high) {
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= raw);
    const out = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) out.push(n * step);
    return { values: out, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  /* Round times between two ends in MJD: whole minutes or hours. */
  function timeTicks(low, high, most) {
    const minutes = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440];
    const raw = ((high - low) * 1440) / most;
    const step = (minutes.find((n) => n >= raw) || Math.ceil(raw / 1440) * 1440) / 1440;
    const out = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9; n += 1) out.push(n * step);
    return out;
  }

  function range(values, least) {
    const good = values.filter(known);
    if (!good.length) return [0, 1];
    let low = good[0];
    let high = good[0];
    for (const value of good) { low = Math.min(low, value); high = Math.max(high, value); }
    const room = Math.max((high - low) * 0.08, (least || Math.abs(low) * 1e-3 || 1e-3) / 2);
    return [low - room, high + room];
  }

  /*
   * options: title, unit, height, x (values), time (x is MJD), series [{name, y, error, faint, colour, line, points}],
   * connect in a series draws its line over points that it lacks; marks (x values of what is missing), yRange, xRange, reversed (x runs down), least (smallest range of y),
 * switched (what is shown is switched beside the plot)
   */
  class Plot {
    picked = new Event();

    constructor(place, options) {
      this.options = options;
      this.value = el("span", { class: "plot-value" });
      // A slider along its points: arrow keys step from one to the next, and a screen reader says the value.
      this.svg = el("svg", { class: "plot", height: options.height, role: "slider", tabindex: "0", "aria-label": this.#summary(),
        "aria-valuemin": "1", "aria-valuemax": String(Math.max(1, options.x.length)), "aria-valuenow": "1" });
      place.append(
        el("figure", { class: "plot-box" },
          el("figcaption", {}, el("span", { class: "plot-title" }, options.title),
            options.unit ? el("span", { class: "quiet" }, ` ${options.unit}`) : null, this.#key(), this.value),
          this.svg));
      this.svg.addEventListener("pointermove", (event) => this.#point(event));
      this.svg.addEventListener("pointerleave", () => this.#rest());
      this.svg.addEventListener("click", (event) => this.#pick(this.#nearest(event)));
      this.svg.addEventListener("keydown", (event) => this.#pressed(event));
      this.svg.addEventListener("blur", () => { this.cursor = undefined; this.#drawHead(); this.#rest(); });
      new ResizeObserver(() => this.draw()).observe(this.svg);
    }

    /* Which colour is what, where several series share the plot and no switches beside it tell. */
    #key() {
      const { series, switched } = this.options;
      if (series.length < 2 || switched) return null;
      return el("span", { class: "key" }, series.map((one) => el("span", {}, el("i", { class: "dot", style: `--kind: ${one.colour}` }), one.name)));
    }

    /* A point is chosen: by hand or by key. */
    #pick(k) {
      if (k < 0) return;
      this.cursor = k;
      this.picked.tell(k);
      this.#drawHead();
      this.#tell(k);
    }

    #pressed(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { x, series, reversed } = this.options;
      const shown = series.filter((one) => !one.hidden);
      const stops = x.map((v, k) => k).filter((k) => known(x[k]) && shown.some((one) => known(one.y[k]))).sort((a, b) => (reversed ? x[b] - x[a] : x[a] - x[b]));
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      const to = { Home: 0, End: stops.length - 1 }[event.key];
      if (!stops.length || (by === undefined && to === undefined)) return;
      event.preventDefault();
      event.stopPropagation();
      const at = this.cursor !== undefined ? x[this.cursor] : this.at;
      const away = (k) => (known(at) ? Math.abs(x[k] - at) : k);
      const now = stops.reduce((best, k, n) => (away(k) < away(stops[best]) ? n : best), 0);
      const next = to === undefined ? Math.min(Math.max(now + by, 0), stops.length - 1) : to;
      this.#pick(stops[next]);
    }

    /* Put the playhead at a value of x, and say the series' values there. */
    set head(x) {
      this.at = x;
      if (this.cursor !== undefined && known(x)) this.cursor = undefined;
      this.#drawHead();
      this.#rest();
    }

    draw() {
      const width = this.svg.clientWidth;
      const { height, x, series, marks = [], reversed } = this.options;
      if (!width) return;
      const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
      const shown = series.filter((one) => !one.hidden);
      const [x0, x1] = this.options.xRange || range([...x, ...marks], this.options.time ? 1e-4 : 1);
      const doubtful = (one, k) => Boolean(one.faint && one.faint[k]);
      const ends = (all) => shown.flatMap((one) => one.y.flatMap((y, k) => {
        if (!known(y) || (!all && doubtful(one, k))) return [];
        const e = one.error && known(one.error[k]) && !doubtful(one, k) ? one.error[k] : 0;
        return [y - e, y + e];
      }));
      // Doubtful points do not set the scale, as long as there are others; beyond it they lie on its edge.
      const good = ends(false);
      const spread = good.length ? good : ends(true);
      const [y0, y1] = this.options.yRange || range(spread, this.options.least);
      const px = (v) => MARGIN.left + inner.w * (reversed ? (x1 - v) / (x1 - x0) : (v - x0) / (x1 - x0));
      const py = (v) => MARGIN.top + (inner.h * (y1 - Math.min(Math.max(v, y0), y1))) / (y1 - y0);
      this.place = { px, py, x0, x1, inner };
      const parts = [];
      const rows = ticks(y0, y1, Math.max(2, inner.h / 34));
      for (const v of rows.values) {
        parts.push(el("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: py(v), y2: py(v) }));
        parts.push(el("text", { x: MARGIN.left - 7, y: py(v) + 4, "text-anchor": "end" },
          difflapse.number(v, rows.digits)));
      }
      const columns = this.options.time
        ? timeTicks(x0, x1, Math.max(2, inner.w / 80)).map((v) => [v, this.#when(v, x1 - x0)])
        : ((t) => t.values.map((v) => [v, difflapse.number(v, t.digits)]))(ticks(x0, x1, Math.max(2, inner.w / 60)));
      for (const [v, label] of columns) {
        const X = px(v);
        parts.push(el("line", { class: "tick", x1: X, x2: X, y1: height - MARGIN.bottom, y2: height - MARGIN.bottom + 4 }));
        parts.push(el("text", { x: Math.min(Math.max(X, MARGIN.left + 12), width - 20), y: height - 5,
          "text-anchor": "middle" }, label));
      }
      for (const v of marks) {
        parts.push(el("path", { class: "missing", d: `M${px(v)} ${height - MARGIN.bottom}v-9` }));
      }
      for (const one of shown) parts.push(...this.#series(one, px, py, inner.w));
      this.head_ = el("line", { class: "head", y1: MARGIN.top, y2: height - MARGIN.bottom });
      parts.push(this.head_);
      this.svg.replaceChildren(...parts);
      this.#drawHead();
    }

    /* A tick's time: midnights of more than a day are told by their date. */
    #when(v, span) {
      const time = difflapse.clockOf(v);
      return span > 1 && time === "00:00" ? difflapse.dayOf(v) : time;
    }

    #series(one, px, py, room) {
      const { x } = this.options;
      const parts = [];
      const good = x.map((v, k) => k).filter((k) => known(one.y[k]) && known(x[k]));
      const style = `--series: ${one.colour || "var(--accent)"}`;
      const dense = good.length > room / 5;
      if (one.error && !dense) {
        const bars = good.filter((k) => known(one.error[k]) && !(one.faint && one.faint[k]))
          .map((k) => `M${px(x[k]).toFixed(1)} ${py(one.y[k] - one.error[k]).toFixed(1)}V${py(one.y[k] + one.error[k]).toFixed(1)}`);
        parts.push(el("path", { class: "bars", style, d: bars.join("") }));
      }
      if (one.line !== false) {
        let last = -2;
        const line = good.map((k) => {
          const move = k === last + 1 || (one.connect && last >= 0) ? "L" : "M";
          last = k;
          return `${move}${px(x[k]).toFixed(1)} ${py(one.y[k]).toFixed(1)}`;
        });
        parts.push(el("path", { class: "line", style, d: line.join("") }));
      }
      if (one.points !== false) {
        for (const faint of [true, false]) {
          const own = good.filter((k) => Boolean(one.faint && one.faint[k]) === faint)
            .map((k) => `M${px(x[k]).toFixed(1)} ${py(one.y[k]).toFixed(1)}h0`);
          if (own.length) parts.push(el("path", { class: `points${faint ? " faint" : ""}${dense ? " dense" : ""}`, style, d: own.join("") }));
        }
      }
      return parts;
    }

    #drawHead() {
      if (!this.head_) return;
      const at = this.cursor !== undefined ? this.options.x[this.cursor] : this.at;
      const shown = known(at) && at >= this.place.x0 && at <= this.place.x1;
      this.head_.style.display = shown ? "" : "none";
      if (!shown) return;
      this.head_.setAttribute("x1", this.place.px(at));
      this.head_.setAttribute("x2", this.place.px(at));
    }

    #nearest(event) {
      const X = event.clientX - this.svg.getBoundingClientRect().left;
      let best = -1;
      let least = Infinity;
      this.options.x.forEach((v, k) => {
        const d = known(v) && this.place ? Math.abs(this.place.px(v) - X) : Infinity;
        if (d < least) [best, least] = [k, d];
      });
      return best;
    }

    #point(event) { this.#tell(this.#nearest(event)); }

    #rest() {
      if (this.cursor !== undefined) this.#tell(this.cursor);
      else if (known(this.at)) this.#tell(this.options.x.findIndex((v) => known(v) && Math.abs(v - this.at) < 1e-9));
      else this.value.textContent = "";
    }

    #tell(k) {
      const { x, series, time } = this.options;
      if (k < 0) { this.value.textContent = ""; return; }
      const values = series.filter((one) => !one.hidden).map((one) => {
        const name = series.length > 1 ? `${one.name} ` : "";
        const error = one.error && known(one.y[k]) && one.error[k] > 0 ? one.error[k] : null;
        return `${name}${error ? difflapse.uncertain(one.y[k], error) : figure(one.y[k])}`;
      });
      const date = time && this.place && this.place.x1 - this.place.x0 > 1 ? `${difflapse.dayOf(x[k])} ` : "";
      const text = `${time ? date + difflapse.clockOf(x[k], true) : figure(x[k])}  ${values.join("  ")}`;
      this.value.textContent = text;
      this.svg.setAttribute("aria-valuenow", String(k + 1));
      this.svg.setAttribute("aria-valuetext", text);
    }

    #summary() {
      const { title, unit, series } = this.options;
      const told = series.map((one) => {
        const good = one.y.filter(known);
        if (!good.length) return `${one.name || title}: no values`;
        const low = good.reduce((a, b) => Math.min(a, b));
        const high = good.reduce((a, b) => Math.max(a, b));
        return `${one.name || title}: ${good.length} values from ${figure(low)} to ${figure(high)}`;
      });
      return `${title}${unit ? `, ${unit}` : ""}. ${told.join("; ")}`;
    }
  }

  return { Plot };
})();
