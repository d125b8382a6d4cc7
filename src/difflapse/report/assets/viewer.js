"use strict";

/* The panels of the movie on a canvas: side by side, split, blinking or alone; zoom, pan, rings, and what is where. */
difflapse.Viewer = (() => {
  const { el, Event, known, number } = difflapse;
  const { toSky, carry, forward, backward } = difflapse.sky;
  const ICONS = {
    play: "M7 4.5v15l12.5-7.5z", pause: "M6.5 5h4v14h-4zM13.5 5h4v14h-4z",
    back: "M18 5v14L8 12zM5.5 5h2v14h-2z", forward: "M6 5v14l10-7zM16.5 5h2v14h-2z",
    reverse: "M12 5v14l-9-7zM21 5v14l-9-7z",
  };
  const REACH = 16; // of a click, css pixels
  const BLINK_MS = 700;

  class Viewer {
    /* A star (its row in the table of stars) or a change (itself) was clicked. */
    starPicked = new Event();
    changePicked = new Event();
    /* A sighting that was refused was clicked: itself, and the row of the star there or -1. */
    spotPicked = new Event();

    constructor(place, night, stars, transforms) {
      Object.assign(this, { place, night, stars, transforms, movie: night.movie });
      const first = (name) => ["aligned", "difference"].indexOf(name) & 7; // the two that are compared, then the others
      this.panels = Object.keys(this.movie.panels).sort((a, b) => first(a) - first(b));
      this.row = new Map(night.frames.file.map((file, k) => [file, k]));
      this.marks = difflapse.marks(night);
      this.showMarks = !this.movie.marks; // where they are drawn into the movie, not once more
      this.pointers = new Map();
      this.fraction = 0.5;
      this.lit = 0;
      this.spots = new difflapse.Spots(night);
      // The first picture of a running difference has none: begin where there is one.
      const begin = this.movie.frames.findIndex((one) => one.template);
      this.player = new difflapse.Player(this.movie, difflapse.source(this.movie.video), Math.max(0, begin));
      this.#build();
      this.#reset();
      this.player.moved.listen(() => this.#moved());
      this.player.painted.listen(() => this.redraw());
      this.player.changed.listen(() => this.#controls());
      this.player.failed.listen(() => this.#cannotPlay());
      this.spots.changed.listen(() => { this.spots.tell(this.number); this.redraw(); });
      new ResizeObserver(() => this.#resize()).observe(this.stage);
      matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.redraw());
      this.mode = this.panels.length < 2 ? "one:0" : matchMedia("(max-width: 760px)").matches ? "split" : "sides";
      this.setMode(this.mode);
      this.#moved();
      this.#controls();
    }

    /* Whether anything is marked in the night. */
    get #marked() { return this.night.changes.length + this.night.varying.stars.length > 0; }

    /* Row of frames.ecsv that is shown; undefined for a gap. */
    get shown() { return this.row.get(this.movie.frames[this.player.frame].file); }

    /* Number of the frame that is shown; -1 for a gap. */
    get number() { return this.shown === undefined ? -1 : this.night.frames.number[this.shown]; }

    /* Show the frame of a number, where the movie has it. */
    show(frame) {
      const k = this.movie.frames.findIndex((one) => this.night.frames.number[this.row.get(one.file)] === frame);
      if (k >= 0) { this.player.pause(); this.player.seek(k); }
    }

    /* Bring a native pixel of the reference to the middle, at least so near. */
    look(x, y, zoom) {
      const [sx, sy] = this.#shift();
      this.zoom = Math.max(this.zoom, zoom);
      // In a split view the middle lies under the divider: it goes to the middle of the right part.
      const aside = this.mode === "split" ? (this.width * this.fraction) / 2 / this.#scale : 0;
      [this.cx, this.cy] = [x - sx - aside, y - sy];
      this.#keep();
    }

    /* Where a change is now, or was first seen. */
    placeOf(change) {
      const now = this.marks(this.number).find((mark) => mark.change === change);
      return now ? [now.x, now.y] : [change.x_pix, change.y_pix];
    }

    select(target) {
      this.target = target;
      this.#tellPresent();
      this.redraw();
    }

    setMode(mode) {
      this.mode = mode;
      clearInterval(this.blinking);
      if (mode === "blink") this.blinking = setInterval(() => { this.lit = 1 - this.lit; this.#layout(); }, BLINK_MS);
      if (this.modes) this.modes.value = mode;
      this.#resize();
    }

    redraw() {
      if (this.drawing) return;
      this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.#draw(); });
    }

    /* ---- what it is made of ---- */

    #build() {
      this.canvas = el("canvas", {
        tabindex: "0", role: "application", "aria-roledescription": "zoomable movie", "aria-describedby": "viewer-keys",
        "aria-label": `Movie of ${this.night.title}`,
      });
      this.divider = el("button", {
        class: "divider", role: "separator", type: "button", "aria-label": "Divider between the panels",
        "aria-orientation": "vertical", "aria-valuemin": "5", "aria-valuemax": "95",
      }, el("span", { class: "grip", "aria-hidden": "true" }));
      this.names = [0, 1].map(() => el("p", { class: "panel-name" }));
      this.notice = el("p", { class: "stage-notice", hidden: true });
      this.stage = el("div", { class: "stage" }, this.canvas, ...this.names, this.divider, this.notice);
      const star = this.night.curves ? "; click a star for its light curve" : "";
      this.readout = el("div", { class: "readout", "aria-live": "off",
        "data-hint": `Point at the picture, or tap it, for the place ${this.night.sky ? "on the sky and " : ""}on the sensor${star}.` });
      this.present = el("div", { class: "present", role: "group", "aria-label": "Changes in this frame" });
      this.place.append(
        el("h2", { class: "unseen" }, "Movie"), this.stage, this.#marked ? this.present : "",
        el("div", { class: "under" }, this.readout, this.#legend()),
        this.#timeline(), this.#bar(),
        el("p", { class: "keys quiet", id: "viewer-keys" },
          "Keys: space plays, comma and full stop step, R reverses, B blinks, M marks; with the picture in focus, arrows move, ",
          "+ and − zoom, 0 shows all, Enter picks what is in the middle."),
        this.panels.includes("difference") ? this.spots.build() : "");
      this.#listen();
    }

    #bar() {
      const icon = (name) => el("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, el("path", { d: ICONS[name] }));
      const button = (label, act, content, more = {}) =>
        el("button", { type: "button", title: label, "aria-label": label, onclick: act, ...more }, content);
      const player = this.player;
      this.playIcon = icon("play");
      this.playButton = button("Play", () => player.toggle(), this.playIcon, { class: "primary" });
      this.reverseButton = button("Play backwards", () => player.reverse(), icon("reverse"), { "aria-pressed": "false" });
      this.speeds = el("select", { id: "speed", onchange: (event) => player.setSpeed(Number(event.target.value)) },
        [0.1, 0.25, 0.5, 1, 2, 4].map((speed) => el("option", { value: speed, selected: speed === 1 }, `${speed}×`)));
      const modes = this.panels.map((name, k) => [`one:${k}`, `${name[0].toUpperCase()}${name.slice(1)} alone`]);
      if (this.panels.length > 1) modes.unshift(["sides", "Side by side"], ["split", "Split"], ["blink", "Blink"]);
      this.modes = el("select", { id: "mode", onchange: (event) => this.setMode(event.target.value) },
        modes.map(([value, label]) => el("option", { value }, label)));
      this.marksButton = button("Marks of changes", () => this.toggleMarks(), "Marks", { "aria-pressed": String(this.showMarks) });
      const zoom = (label, act, sign) => button(label, act, sign, { class: "sign" });
      return el("div", { class: "bar", role: "toolbar", "aria-label": "Player" },
        el("div", { class: "group" },
          button("One frame back", () => player.step(-1), icon("back")), this.playButton,
          button("One frame on", () => player.step(1), icon("forward")), this.reverseButton,
          el("label", { class: "unseen", for: "speed" }, "Speed"), this.speeds),
        el("div", { class: "group" },
          el("label", { for: "mode", class: "quiet mode-label" }, "View"), this.modes,
          this.#marked ? this.marksButton : null),
        el("div", { class: "group" },
          zoom("Zoom out", () => this.#zoomBy(1 / 1.6), "−"),
          zoom("Zoom in", () => this.#zoomBy(1.6), "+"),
          button("Show all", () => this.#all(), "Fit")));
    }

    #legend() {
      const { colours, ticks } = this.night.palette;
      const { vmax, units } = this.movie;
      const unit = { sigma: "σ", adu: "ADU", percent: "%" }[units] || units;
      const sign = (share) => (share === 0 ? "" : (share > 0) === (units !== "mag") ? "+" : "\u2212"); // brighter is fewer magnitudes
      const stops = colours.map((colour, k) => `${colour} ${((100 * k) / (colours.length - 1)).toFixed(1)}%`);
      return el("div", { class: "legend", hidden: !this.panels.includes("difference") },
        el("span", { class: "quiet" }, "fainter"),
        el("div", { class: "scale" },
          el("div", { class: "ramp", style: `background: linear-gradient(90deg, ${stops.join(", ")})` }),
          ticks.map(([share, at]) => el("span", { style: `left: ${50 + 50 * at}%` },
            `${sign(share)}${difflapse.number(Math.abs(share) * vmax, Number.isInteger(share * vmax) ? 0 : 1)}`))),
        el("span", { class: "quiet" }, "brighter, ", unit));
    }

    /* Scrub by time: the handle lies where the time lies, and skipped frames are marked where they were. */
    #timeline() {
      const { frames } = this.night;
      const times = this.movie.frames.map((one) => frames.mjd[this.row.get(one.file)]);
      times.forEach((time, k) => { // a gap begins where the frame before it is over
        if (this.movie.frames[k].file === null && k > 0) times[k] = (times[k - 1] + (times[k + 1] || times[k - 1])) / 2;
      });
      this.byTime = times.every(known) && times.length > 1 && times[times.length - 1] > times[0];
      this.times = this.byTime ? times : times.map((time, k) => k);
      const [first, last] = [this.times[0], this.times[this.times.length - 1]];
      const span = last - first || 1;
      this.scrub = el("input", {
        type: "range", min: "0", max: "1", step: "any", value: "0", "aria-label": "Time", class: "scrub",
        oninput: () => { this.player.pause(); this.player.seek(this.#nearest(first + Number(this.scrub.value) * span)); },
        onkeydown: (event) => this.#scrubKey(event),
      });
      const at = (time) => `${(100 * (time - first)) / span}%`;
      const dots = this.times.length > 400 ? [] : this.times.map((time) => el("i", { style: `left: ${at(time)}` }));
      frames.status.forEach((status, k) => {
        const time = this.byTime ? frames.mjd[k] : null;
        if (status === "used" || !known(time) || time < first || time > last) return;
        dots.push(el("i", { class: "skipped", style: `left: ${at(time)}`, title: `${frames.file[k]} skipped: ${frames.reason[k]}` }));
      });
      this.when = el("div", { class: "when" });
      return el("div", { class: "timeline" }, this.when,
        el("div", { class: "track" }, el("div", { class: "dots", "aria-hidden": "true" }, dots), this.scrub));
    }

    #nearest(time) {
      let best = 0;
      this.times.forEach((t, k) => { if (Math.abs(t - time) < Math.abs(this.times[best] - time)) best = k; });
      return best;
    }

    #scrubKey(event) {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      const to = { Home: 0, End: this.player.count - 1 }[event.key];
      if (by === undefined && to === undefined) return;
      event.preventDefault();
      this.player.pause();
      this.player.seek(to === undefined ? this.player.frame + by : to);
    }

    /* ---- where things lie ---- */

    /* Native pixels by which a frame's panels look elsewhere: they follow a target. */
    #shift() { return this.movie.frames[this.player.frame].shift || [0, 0]; }

    /* Edges of a panel in native pixels as laid out: left, right, top (high y), bottom. */
    #edges(name) {
      const panel = this.movie.panels[name];
      const a = backward(panel.native_to_movie, panel.x - 0.5, panel.y - 0.5);
      const b = backward(panel.native_to_movie, panel.x + panel.width - 0.5, panel.y + panel.height - 0.5);
      return { left: a[0], top: a[1], right: b[0], bottom: b[1] };
    }

    #reset() {
      const edges = this.#edges(this.panels[0]);
      this.field = edges;
      this.zoom = 1;
      [this.cx, this.cy] = [(edges.left + edges.right) / 2, (edges.top + edges.bottom) / 2];
    }

    /* css pixels per native pixel. */
    get #scale() {
      const { left, right, top, bottom } = this.field;
      const wide = this.mode === "sides" ? this.width / 2 - 1 : this.width;
      return this.zoom * Math.min(wide / (right - left), this.height / (top - bottom));
    }

    #toScreen(port, x, y) {
      const [sx, sy] = this.#shift();
      return [port.mid + (x - sx - this.cx) * this.#scale, this.height / 2 - (y - sy - this.cy) * this.#scale];
    }

    #toNative(port, X, Y) {
      const [sx, sy] = this.#shift();
      return [this.cx + (X - port.mid) / this.#scale + sx, this.cy - (Y - this.height / 2) / this.#scale + sy];
    }

    #portAt(X) { return this.ports.find((port) => X >= port.x && X < port.x + port.width) || this.ports[0]; }

    /* Which panel is drawn where: x, width, and the x of its middle. */
    #layout() {
      const [a, b] = this.panels;
      const W = this.width;
      const cut = Math.round(W * this.fraction);
      const port = (name, x, width, mid) => ({ name, x, width, mid });
      if (this.mode === "sides") {
        this.ports = [port(a, 0, cut - 1, (cut - 1) / 2), port(b, cut + 1, W - cut - 1, (W + cut + 1) / 2)];
      } else if (this.mode === "split") {
        this.ports = [port(a, 0, cut, W / 2), port(b, cut, W - cut, W / 2)];
      } else {
        const name = this.mode === "blink" ? this.panels[this.lit] : this.panels[Number(this.mode.slice(4))];
        this.ports = [port(name, 0, W, W / 2)];
      }
      const two = this.ports.length === 2;
      this.divider.hidden = !two;
      this.divider.style.left = `${100 * this.fraction}%`;
      this.divider.setAttribute("aria-valuenow", Math.round(100 * this.fraction));
      this.names.forEach((label, k) => {
        label.hidden = k >= this.ports.length;
        if (label.hidden) return;
        // On the right of a split the name keeps to the right, so that the divider never covers it.
        const right = k === 1 && this.mode === "split";
        label.style.left = right ? "auto" : `${this.ports[k].x}px`;
        label.style.right = right ? "0" : "auto";
        label.textContent = this.#titleOf(this.ports[k].name);
      });
      this.redraw();
    }

    #titleOf(name) {
      const frame = this.movie.frames[this.player.frame];
      if (name !== "difference" || this.width < 560) return name;
      if (!frame.template) return "no difference";
      // What was subtracted: words, or the file of an earlier frame, of which the time tells more.
      const { time } = this.night.frames;
      const earlier = time[this.row.get(frame.template)];
      return `difference: minus ${earlier ? `${difflapse.clock(earlier)} UTC` : frame.template}`;
    }

    #resize() {
      const { left, right, top, bottom } = this.field;
      const shape = ((top - bottom) / (right - left)) / (this.mode === "sides" ? 2 : 1);
      const most = Math.max(240, window.innerHeight * 0.66);
      this.stage.style.maxWidth = `${Math.round(most / shape)}px`;
      this.width = this.stage.clientWidth;
      if (!this.width) return;
      this.height = Math.round(this.width * shape);
      this.stage.style.height = `${this.height}px`;
      const dense = window.devicePixelRatio || 1;
      [this.canvas.width, this.canvas.height] = [Math.round(this.width * dense), Math.round(this.height * dense)];
      this.#keep();
    }

    /* Keep the field in view. */
    #keep() {
      this.zoom = Math.min(Math.max(this.zoom, 1), 60);
      const half = (size, room) => Math.max(0, size - room / this.#scale) / 2;
      const { left, right, top, bottom } = this.field;
      const room = this.mode === "sides" ? this.width / 2 : this.width;
      const [hx, hy] = [half(right - left, room), half(top - bottom, this.height)];
      const [mx, my] = [(left + right) / 2, (top + bottom) / 2];
      this.cx = Math.min(Math.max(this.cx, mx - hx), mx + hx);
      this.cy = Math.min(Math.max(this.cy, my - hy), my + hy);
      this.canvas.style.touchAction = this.zoom > 1 ? "none" : "pan-y";
      this.#layout();
    }

    #all() { this.zoom = 1; this.#keep(); }

    #zoomBy(factor, X, Y) {
      const port = this.#portAt(X === undefined ? 0 : X);
      const before = X === undefined ? null : this.#toNative(port, X, Y);
      this.zoom = Math.min(Math.max(this.zoom * factor, 1), 60);
      if (before) {
        const after = this.#toNative(port, X, Y);
        this.cx += before[0] - after[0];
        this.cy += before[1] - after[1];
      }
      this.#keep();
    }

    /* ---- drawing ---- */

    #draw() {
      if (!this.width) return;
      const pen = this.canvas.getContext("2d");
      const dense = this.canvas.width / this.width;
      pen.setTransform(dense, 0, 0, dense, 0, 0);
      pen.clearRect(0, 0, this.width, this.height);
      for (const port of this.ports) {
        pen.save();
        pen.beginPath();
        pen.rect(port.x, 0, port.width, this.height);
        pen.clip();
        this.#drawPanel(pen, port);
        this.#drawSpots(pen, port);
        this.#drawMarks(pen, port);
        this.#drawTarget(pen, port);
        pen.restore();
      }
    }

    #drawPanel(pen, port) {
      if (!this.player.ready) return;
      const panel = this.movie.panels[port.name];
      const edges = this.#edges(port.name);
      const X = port.mid + (edges.left - this.cx) * this.#scale;
      const Y = this.height / 2 - (edges.top - this.cy) * this.#scale;
      const perPixel = ((edges.right - edges.left) / panel.width) * this.#scale;
      // Pixels are shown as pixels once they are large enough to be seen.
      pen.imageSmoothingEnabled = perPixel < 3;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.player.video, panel.x, panel.y, panel.width, panel.height,
        X, Y, panel.width * perPixel, panel.height * perPixel);
    }

    #drawMarks(pen, port) {
      const style = getComputedStyle(this.place);
      const written = this.ports.length < 2 || this.mode === "split" || port === this.ports[1];
      const radiusOf = (change) => (change.kind === "comet" ? 18 : 11);
      const seen = this.marks(this.number).map((mark) => ({ ...mark, at: this.#toScreen(port, mark.x, mark.y), radius: radiusOf(mark.change) }));
      const taken = seen.map(({ at: [X, Y], radius: r }) => [X - r, Y - r, X + r, Y + r]);
      pen.font = "600 12px system-ui, sans-serif";
      for (const mark of seen) {
        // Stars that vary by their light curves are in no movie.
        const shown = this.showMarks || (this.movie.marks && mark.change.kind === "star");
        if (!shown && mark.change !== this.target) continue;
        const colour = style.getPropertyValue(`--${mark.change.kind}`) || style.getPropertyValue("--unknown");
        const { at: [X, Y], radius } = mark;
        pen.beginPath();
        if (mark.end) {
          const [EX, EY] = this.#toScreen(port, ...mark.end);
          pen.moveTo(X, Y);
          pen.lineTo(EX, EY);
        } else {
          pen.arc(X, Y, radius, 0, 2 * Math.PI);
        }
        pen.setLineDash(mark.seen || mark.end ? [] : [3, 4]);
        for (const [width, ink] of [[4, "rgba(0, 0, 0, 0.55)"], [mark.change === this.target ? 2.6 : 1.6, colour]]) {
          pen.lineWidth = width;
          pen.strokeStyle = ink;
          pen.stroke();
        }
        pen.setLineDash([]);
        if (written && shown) this.#name(pen, port, mark.change, X, Y, radius, colour, taken);
      }
    }

    /* Small squares about what was refused in this frame. */
    #drawSpots(pen, port) {
      if (!this.spots.marked) return;
      for (const row of this.spots.rows(this.number)) {
        const { x, y } = this.spots.spot(row);
        const [X, Y] = this.#toScreen(port, x, y);
        for (const [width, ink] of [[3, "rgba(0, 0, 0, 0.5)"], [1.2, "#e8ecf1"]]) {
          pen.lineWidth = width;
          pen.strokeStyle = ink;
          pen.strokeRect(X - 5, Y - 5, 10, 10);
        }
      }
    }

    #drawTarget(pen, port) {
      if (!this.target || this.target.kind) return;
      const [X, Y] = this.#toScreen(port, this.target.x, this.target.y);
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(X + dx * 8, Y + dy * 8);
        pen.lineTo(X + dx * 17, Y + dy * 17);
      }
      for (const [width, ink] of [[4, "rgba(0, 0, 0, 0.6)"], [1.8, "#fff"]]) {
        pen.lineWidth = width;
        pen.strokeStyle = ink;
        pen.stroke();
      }
    }

    /* A name beside its ring, where none lies yet; where there is no room, only that of what is selected. */
    #name(pen, port, change, X, Y, radius, colour, taken) {
      const text = difflapse.shortName(change);
      const wide = pen.measureText(text).width;
      const places = [[X + radius + 5, Y - radius + 4], [X - radius - 5 - wide, Y - radius + 4],
        [X + radius + 5, Y + radius + 5], [X - radius - 5 - wide, Y + radius + 5]];
      const box = ([left, base]) => [left - 2, base - 12, left + wide + 2, base + 3];
      const free = (b) => b[0] > port.x && b[2] < port.x + port.width && !taken.some((t) => b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1]);
      const found = places.find((at) => free(box(at)));
      const cramped = this.width < 560 && this.zoom < 2;
      if ((cramped || !found) && change !== this.target) return;
      const at = found || places[0];
      taken.push(box(at));
      this.#write(pen, text, ...at, colour);
    }

    #write(pen, text, X, Y, colour) {
      pen.lineWidth = 3.5;
      pen.lineJoin = "round";
      pen.strokeStyle = "rgba(0, 0, 0, 0.75)";
      pen.strokeText(text, X, Y);
      pen.fillStyle = colour;
      pen.fillText(text, X, Y);
    }

    /* ---- what is told ---- */

    #moved() {
      const k = this.player.frame;
      const { frames } = this.night;
      this.noted ??= Boolean(frames.note && frames.note.some(Boolean)); // else nothing keeps its place
      const row = this.shown;
      const [first, last] = [this.times[0], this.times[this.times.length - 1]];
      this.scrub.value = last > first ? (this.times[k] - first) / (last - first) : 0;
      const iso = this.movie.frames[k].time_utc;
      const label = row === undefined ? "no frame" : `frame ${frames.number[row]}`;
      const note = row === undefined || !frames.note ? "" : frames.note[row];
      this.when.replaceChildren(
        el("strong", {}, iso ? `${difflapse.clock(iso)} UTC` : label),
        el("span", { class: "quiet" }, iso ? `${difflapse.day(iso)} · ${label}` : ""),
        this.noted ? el("span", { class: "quiet note", title: note }, note) : "");
      this.scrub.setAttribute("aria-valuetext", `${iso ? `${difflapse.clock(iso)} UTC, ` : ""}${label}, ${k + 1} of ${this.player.count}`);
      this.#layout();
      this.#tellPresent();
      this.spots.tell(this.number);
      if (this.pointed) this.#tell(...this.pointed);
    }

    /* Names of what is in this frame, to be read and tapped where those in the picture are too small. */
    #tellPresent() {
      const here = this.marks(this.number).map((mark) => mark.change);
      const key = [this.target, ...here].map((change) => (change && change.change !== undefined ? change.change : "")).join();
      if (key === this.presentKey) return;
      this.presentKey = key;
      this.present.replaceChildren(...(here.length ? here : [null]).map((change) => (change === null
        ? el("span", { class: "quiet" }, "Nothing that changed is in this frame.")
        : el("button", { type: "button", class: "chip", "aria-pressed": String(change === this.target), onclick: () => this.changePicked.tell(change) },
          el("i", { class: "dot", style: `--kind: var(--${change.kind}, var(--unknown))` }), difflapse.shortName(change)))));
      const chosen = this.present.querySelector("[aria-pressed=true]");
      if (chosen) this.present.scrollLeft = chosen.offsetLeft - this.present.offsetLeft - 6;
    }

    #controls() {
      const { playing, direction, speed } = this.player;
      this.playIcon.firstChild.setAttribute("d", ICONS[playing ? "pause" : "play"]);
      for (const name of ["title", "aria-label"]) this.playButton.setAttribute(name, playing ? "Pause" : "Play");
      this.reverseButton.setAttribute("aria-pressed", String(direction < 0));
      this.speeds.value = String(speed);
    }

    toggleMarks() {
      this.showMarks = !this.showMarks;
      this.marksButton.setAttribute("aria-pressed", String(this.showMarks));
      this.redraw();
    }

    /* Say where a point of the picture lies: reference pixel, the frame's own pixel, sky. */
    #tell(X, Y) {
      this.pointed = [X, Y];
      const port = this.#portAt(X);
      const [x, y] = this.#toNative(port, X, Y);
      const frame = this.transforms[this.number];
      const own = frame ? carry(frame, x, y) : null;
      const sky = this.night.sky ? toSky(this.night.sky, x, y) : null;
      const pair = (a, b, digits = 1) => `${number(a, digits)}, ${number(b, digits)}`;
      const item = (name, value, title, more = "") => el("span", { class: `item ${more}`, title }, el("span", { class: "quiet" }, `${name} `), value);
      const star = this.#starAt(port, X, Y);
      const spot = this.#spotAt(port, X, Y);
      Object.assign(this.readout.dataset, { x, y, ra: sky ? sky[0] : "", dec: sky ? sky[1] : "",
        frameX: own ? own[0] : "", frameY: own ? own[1] : "" });
      this.readout.replaceChildren(
        sky ? item("RA Dec", `${difflapse.hours(sky[0])} ${difflapse.degrees(sky[1])}`, `${sky[0].toFixed(6)}°, ${sky[1].toFixed(6)}°`) : "",
        item("reference px", pair(x, y), "native pixel of the reference frame, counted from 0"),
        own ? item("frame px", pair(...own), "native pixel of the frame that is shown") : "",
        star >= 0 ? item(`star ${this.stars.star[star]}`, `${number(this.stars.mag[star], 2)} mag`) : "",
        spot ? item(`refused, S/N ${number(spot.snr, 1)}`, spot.why.map((word) => word.split(":")[0]).join("; "), spot.why.join("; "), "long") : "");
    }

    /* The refused sighting of this frame near a point of the picture; null for none, and for the aligned panel unless marked there. */
    #spotAt(port, X, Y) {
      if (port.name !== "difference" && !this.spots.marked) return null;
      const row = this.spots.near(this.number, ...this.#toNative(port, X, Y), Math.max(REACH / this.#scale, 3));
      return row < 0 ? null : this.spots.spot(row);
    }

    /* Row of the star nearest to a point of the picture, within reach; -1 for none. */
    #starAt(port, X, Y) {
      const [x, y] = this.#toNative(port, X, Y);
      const reach = Math.max(REACH / this.#scale, 3);
      let best = -1;
      let least = reach * reach;
      const { x_pix: xs, y_pix: ys } = this.stars;
      for (let k = 0; k < xs.length; k += 1) {
        const d = (xs[k] - x) ** 2 + (ys[k] - y) ** 2;
        if (d < least) [best, least] = [k, d];
      }
      return best;
    }

    #pick(X, Y) {
      const port = this.#portAt(X);
      this.#tell(X, Y);
      const near = this.showMarks || this.movie.marks ? this.marks(this.number).find((mark) => {
        const ends = [[mark.x, mark.y], ...(mark.end ? [mark.end] : [])].map((p) => this.#toScreen(port, ...p));
        return ends.some(([EX, EY]) => Math.hypot(EX - X, EY - Y) < REACH + 2);
      }) : null;
      if (near) { this.changePicked.tell(near.change); return; }
      const star = this.#starAt(port, X, Y);
      const spot = this.#spotAt(port, X, Y);
      if (spot) this.spotPicked.tell(spot, star);
      else if (star >= 0) this.starPicked.tell(star);
    }

    #cannotPlay() {
      const { video } = this.movie;
      const place = video.includes("%") ? video.slice(0, video.lastIndexOf("/") + 1) : video;
      this.notice.hidden = false;
      this.notice.replaceChildren(`This browser cannot play ${video.split(".").pop()} here: open `,
        el("a", { href: encodeURI(place) }, place), " in a program that can. Times, marks and tables work all the same.");
      if (video.endsWith(".gif")) this.place.insertBefore(el("img", { src: encodeURI(video), alt: "The movie", class: "gif" }), this.stage.nextSibling);
    }

    /* ---- hands ---- */

    #listen() {
      const { canvas } = this;
      const at = (event) => {
        const box = canvas.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
      };
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        canvas.setPointerCapture(event.pointerId);
        this.pointers.set(event.pointerId, at(event));
        this.still = this.pointers.size === 1;
        this.pressed = at(event);
      });
      canvas.addEventListener("pointermove", (event) => this.#drag(event, at(event)));
      for (const name of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(name, (event) => {
          const had = this.pointers.delete(event.pointerId);
          if (name === "pointerup" && had && this.still && !this.pointers.size) this.#pick(...at(event));
        });
      }
      canvas.addEventListener("dblclick", (event) => this.#zoomBy(2.5, ...at(event)));
      let scrolled = -1e9;
      window.addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });
      canvas.addEventListener("wheel", (event) => {
        // A page that is being scrolled past, or a view that is all there is to see, keeps scrolling.
        if (!event.ctrlKey && (performance.now() - scrolled < 400 || (event.deltaY > 0 && this.zoom <= 1))) return;
        event.preventDefault();
        this.#zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...at(event));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.#key(event));
      this.#listenDivider();
      document.addEventListener("keydown", (event) => this.#pageKey(event));
    }

    #drag(event, [X, Y]) {
      const before = this.pointers.get(event.pointerId);
      if (!before) { this.#tell(X, Y); return; }
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const wide = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        this.pointers.set(event.pointerId, [X, Y]);
        this.#zoomBy(wide([X, Y]) / Math.max(wide(before), 1), (X + other[0]) / 2, (Y + other[1]) / 2);
        return;
      }
      if (this.still && Math.hypot(X - this.pressed[0], Y - this.pressed[1]) < 5) return;
      this.still = false;
      this.pointers.set(event.pointerId, [X, Y]);
      this.#pan((before[0] - X) / this.#scale, (Y - before[1]) / this.#scale);
    }

    #pan(dx, dy) {
      this.cx += dx;
      this.cy += dy;
      this.#keep();
    }

    #key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = 60 / this.#scale;
      const acts = {
        ArrowLeft: () => this.#pan(-step, 0), ArrowRight: () => this.#pan(step, 0),
        ArrowUp: () => this.#pan(0, step), ArrowDown: () => this.#pan(0, -step),
        "+": () => this.#zoomBy(1.4), "=": () => this.#zoomBy(1.4), "-": () => this.#zoomBy(1 / 1.4),
        0: () => this.#all(), Enter: () => this.#pick(this.ports[0].mid, this.height / 2),
      };
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
      if (event.key !== "Enter") {
        this.#tell(this.ports[0].mid, this.height / 2);
        difflapse.say(`Middle at ${this.readout.textContent}`);
      }
    }

    /* Keys of the player: with the focus on it, or on nothing at all. */
    #pageKey(event) {
      const free = document.activeElement === document.body || this.place.contains(document.activeElement);
      const typing = event.target.closest && event.target.closest("button, select, input, a, summary");
      if (!free || event.ctrlKey || event.metaKey || event.altKey) return;
      const acts = {
        " ": () => this.player.toggle(), ",": () => this.player.step(-1), ".": () => this.player.step(1),
        r: () => this.player.reverse(), m: () => this.toggleMarks(),
        b: () => { if (this.panels.length > 1) this.setMode(this.mode === "blink" ? "sides" : "blink"); },
      };
      if (!acts[event.key] || (event.key === " " && typing)) return;
      event.preventDefault();
      acts[event.key]();
    }

    #listenDivider() {
      const put = (fraction) => { this.fraction = Math.min(0.95, Math.max(0.05, fraction)); this.#layout(); };
      this.divider.addEventListener("pointerdown", (event) => this.divider.setPointerCapture(event.pointerId));
      this.divider.addEventListener("pointermove", (event) => {
        if (!this.divider.hasPointerCapture(event.pointerId)) return;
        const box = this.stage.getBoundingClientRect();
        put((event.clientX - box.left) / box.width);
      });
      this.divider.addEventListener("dblclick", () => put(0.5));
      this.divider.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
        if (by) { event.preventDefault(); put(this.fraction + by); }
      });
    }
  }

  return Viewer;
})();
