"use strict";

/* What stands below the movie: quality, certificate, completeness, how it was made. Each fills its own section. */
difflapse.sections = (() => {
  const { el, known, number, figure, plural } = difflapse;

  const heading = (place, text, ...more) => place.append(el("h2", { id: `${place.id}-title` }, text, ...more));
  const CLASSES = { Frame: "short", UTC: "short", Kind: "short", Package: "short", Version: "short", File: "file" };
  const table = (head, rows, caption) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, head.map((one) => el("th", { scope: "col" }, one)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, k) => el("td", { class: CLASSES[head[k]] }, cell)))))));

  /* What the rms of the alignment was measured on: where there are no stars, tiles of pixels. */
  function measuredOn(night) {
    const { stars, pixels } = (night.certificate && night.certificate.judged_on) || {};
    if (!pixels) return "held-out stars";
    return stars ? `held-out stars; in ${plural(pixels, "frame")} tiles of pixels` : "tiles of pixels";
  }

  /* Plots of each frame's quality; returns what puts the playhead. */
  function quality(place, night, wanted) {
    const { frames } = night;
    heading(place, "Quality of the frames");
    const timed = frames.mjd.every(known);
    const used = frames.status.map((status) => status === "used");
    const x = timed ? frames.mjd : frames.number;
    const marks = x.filter((value, k) => !used[k]);
    const of = (name) => (frames[name] || []).map((value, k) => (used[k] ? value : null));
    const kinds = [
      { title: "Transparency", unit: "1 = the reference", series: [{ name: "", y: of("transparency") }], least: 0.05 },
      { title: "FWHM", unit: "px", series: [{ name: "", y: night.starField ? of("fwhm_pix") : [] }], least: 0.2 },
      { title: "Sky", unit: "ADU", series: [{ name: "", y: of("background_adu") }] },
      { title: "Drift", unit: "px", series: [
        { name: "x", y: of("dx_pix"), colour: "var(--series-a)" }, { name: "y", y: of("dy_pix"), colour: "var(--series-b)" }], least: 0.5 },
      { title: "Rotation", unit: "arcmin, from the reference", series: [{ name: "", y: of("rotation_deg").map((v) => (known(v) ? v * 60 : null)) }], least: 0.5 },
      { title: "Alignment rms", unit: `px, on ${measuredOn(night)}`, series: [{ name: "", y: of("rms_pix").map((v, k) => (frames.method && frames.method[k] === "reference" ? null : v)) }], least: 0.02 },
    ];
    const grid = el("div", { class: "plots" });
    const plots = [];
    for (const kind of kinds) {
      if (!kind.series.some((one) => one.y.some(known))) continue;
      const plot = new difflapse.plot.Plot(grid, { height: 132, time: timed, x, marks, ...kind });
      plot.picked.listen((k) => wanted(frames.number[k]));
      plots.push(plot);
    }
    place.append(plots.length ? grid : el("p", { class: "empty" }, "No frame was measured."));
    const skipped = frames.number.map((value, k) => k).filter((k) => !used[k]);
    place.append(el("h3", {}, skipped.length ? `${plural(skipped.length, "frame")} skipped` : "No frame was skipped"));
    if (skipped.length) {
      place.append(
        el("p", { class: "quiet" }, "Marked in red below the plots and on the time bar."),
        table(["Frame", "UTC", "File", "Why"], skipped.map((k) => [String(frames.number[k]), difflapse.clock(frames.time[k]), frames.file[k], frames.reason[k]]), "Skipped frames"));
    }
    return (row) => { for (const plot of plots) plot.head = row === undefined ? null : x[row]; };
  }

  const tile = (label, value, note) => el("div", {}, el("dt", {}, label), el("dd", {}, value), note ? el("dd", { class: "quiet" }, note) : null);

  function certificate(place, night) {
    const told = night.certificate;
    heading(place, "Alignment");
    if (!told || !told.rms) {
      place.append(el("p", { class: "empty" }, told ? "Nothing was held out that could measure it." : "The run ended before frames were aligned."));
      if (!told) return;
    } else {
      const both = (pix, arcsec) => `${number(pix, 3)} px${known(arcsec) ? ` · ${figure(arcsec)}″` : ""}`;
      const row = (name, label) => (told[name] ? tile(label, both(told[name].median_pix, told[name].median_arcsec),
        `worst ${number(told[name].worst_pix, 3)} px, frame ${told[name].worst_frame}`) : null);
      place.append(el("dl", { class: "figures" }, row("rms", "Median rms"), row("p95", `95 % of ${measuredOn(night) === "tiles of pixels" ? "tiles" : "stars"}`), row("corner", "In the corners")));
    }
    const methods = Object.entries(told.frames.methods).map(([name, count]) => `${name} ${count}`).join(", ");
    const lines = [`Aligned by: ${methods || "nothing"}.`];
    if (told.rms && measuredOn(night) !== "held-out stars") lines.push(`Measured on ${measuredOn(night)}: where the scene itself moves, as the face of the Sun does, that is part of it.`);
    if (night.meta.wcs && night.meta.wcs !== "none") lines.push(`Sky: ${night.meta.wcs}.`);
    if (told.noise) {
      const limit = told.noise.photon_limit_pix;
      lines.push(`${number(told.noise.rms_pix, 3)} px rms of ${told.noise.stars.toLocaleString("en")} residuals of held-out stars${known(limit) ? `; photons alone would leave ${number(limit, 3)} px` : ""}.`);
    }
    if (told.systematic && told.systematic.fixed.verdict !== "unknown") {
      const { fixed } = told.systematic;
      lines.push(fixed.verdict === "systematic" ? `What is alike in all frames: ${number(fixed.rms_pix, 4)} px, more than noise explains.`
        : `What is alike in all frames is below ${number(fixed.below_pix, 4)} px: noise explains it.`);
    }
    if (told.required_rms_pix) lines.push(`Required: ${told.required_rms_pix} px in every frame, ${told.reached ? "reached" : "not reached"}.`);
    if (told.map) place.append(residualMap(night, told.map));
    place.append(...lines.map((line) => el("p", {}, line)));
  }

  /* Mean residuals over the field, drawn much too long. */
  function residualMap(night, map) {
    const { nx, ny } = night.reference;
    const good = map.x.map((v, k) => k).filter((k) => known(map.dx[k]) && known(map.dy[k]));
    if (!good.length) return "";
    const lengths = good.map((k) => Math.hypot(map.dx[k], map.dy[k])).sort((a, b) => a - b);
    const typical = lengths[Math.floor(lengths.length * 0.9)] || 1e-3;
    const unit = 10 ** Math.floor(Math.log10(typical));
    const bar = unit * (typical / unit >= 5 ? 5 : typical / unit >= 2 ? 2 : 1);
    const [W, H] = [600, (600 * ny) / nx];
    const cell = W / Math.max(2, Math.sqrt((map.x.length * nx) / ny));
    const at = (k) => [((map.x[k] + 0.5) / nx) * W, H - ((map.y[k] + 0.5) / ny) * H];
    // No arrow leaves the box: the very longest are cut, and all are drawn smaller if that is not enough.
    const longest = 1.5 * typical;
    const shorter = (k) => Math.min(1, longest / Math.hypot(map.dx[k], map.dy[k]));
    const room = (k) => {
      const [[X, Y], dx, dy] = [at(k), map.dx[k] * shorter(k), map.dy[k] * shorter(k)];
      return Math.min(dx ? (dx > 0 ? W - X : X) / Math.abs(dx) : Infinity, dy ? (dy > 0 ? Y : H - Y) / Math.abs(dy) : Infinity);
    };
    const scale = good.reduce((least, k) => Math.min(least, room(k)), (0.55 * cell) / typical);
    const arrows = good.map((k) => {
      const [X, Y] = at(k);
      const strong = map.significance[k] > 3;
      const cut = shorter(k) < 1;
      const [x2, y2] = [X + map.dx[k] * shorter(k) * scale, Y - map.dy[k] * shorter(k) * scale];
      return el("g", { class: strong ? "arrow strong" : "arrow" },
        el("line", { x1: X, y1: Y, x2, y2 }), el("circle", { cx: X, cy: Y, r: 2.2 }), cut ? el("circle", { class: "cut", cx: x2, cy: y2, r: 4 }) : null);
    });
    const cut = good.some((k) => shorter(k) < 1);
    return el("figure", { class: "map" },
      el("svg", { viewBox: `-6 -6 ${W + 12} ${H + 40}`, role: "img", "aria-label": `Mean residuals in ${good.length} cells of the field; nine in ten are below ${figure(typical)} pixels` },
        el("rect", { width: W, height: H, rx: 3 }), arrows,
        el("line", { class: "bar", x1: 0, x2: bar * scale, y1: H + 16, y2: H + 16 }),
        el("text", { x: bar * scale + 10, y: H + 22 }, `${figure(bar)} px`)),
      el("figcaption", { class: "quiet" }, `Mean residuals of held-out stars, all frames${cut ? "; ringed: longer than drawn" : ""}`));
  }

  function completeness(place, night) {
    const told = night.completeness;
    heading(place, "How deep was it?");
    const columns = told && told.columns;
    const axis = columns && ["mag", "snr"].find((name) => columns[name] && new Set(columns[name].filter(known)).size > 1);
    if (!axis || !columns.completeness) {
      place.append(el("p", { class: "empty" }, night.completenessNote ? `Not measured: ${night.completenessNote}.` : "No artificial stars were planted in this run, so how much was missed is not known."));
      return;
    }
    const kinds = [...new Set(columns.kind || ["all"])];
    const x = [...new Set(columns[axis].filter(known))].sort((a, b) => a - b);
    const palette = ["var(--series-a)", "var(--series-b)", "var(--series-c)", "var(--series-d)"];
    const series = kinds.map((kind, n) => {
      const row = x.map((value) => columns[axis].findIndex((v, k) => v === value && (!columns.kind || columns.kind[k] === kind)));
      const pick = (name) => row.map((k) => (k < 0 || !columns[name] ? null : columns[name][k]));
      return { name: kind, y: pick("completeness"), error: pick("completeness_err"), connect: true, colour: palette[n % palette.length] };
    });
    new difflapse.plot.Plot(place, {
      title: "Found again, of what was planted", unit: axis === "mag" ? "against magnitude" : "against S/N of a sighting",
      height: 230, x, series, yRange: [-0.04, 1.08],
    });
    const planted = columns.n_planted ? columns.n_planted.reduce((a, b) => a + (b || 0), 0) : null;
    if (known(planted)) place.append(el("p", {}, `${plural(planted, "artificial object")} planted into native pixels, and looked for as everything else.`));
    const limits = told.meta.limits || {};
    const falseOnes = told.meta.false_alarms;
    const each = (kind) => (falseOnes && known(falseOnes[kind]) ? String(falseOnes[kind]) : "–");
    if (Object.keys(limits).length) {
      place.append(table(["Kind", "Half found to", "90 % found to", "False ones"], Object.entries(limits).map(([kind, limit]) => [
        kind, known(limit.mag_50) ? `${number(limit.mag_50, 2)} mag` : "–", known(limit.mag_90) ? `${number(limit.mag_90, 2)} mag` : "–", each(kind)]), "Limits by kind"));
    }
    const facts = Object.entries(told.meta).filter(([name, value]) => typeof value !== "object" && !/^(CREATOR|comments|n_planted|diff|seed)$/i.test(name));
    if (facts.length) place.append(el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, Number.isFinite(value) && !Number.isInteger(value) ? figure(value) : String(value))))));
  }

  function how(place, night) {
    const { run } = night;
    heading(place, "How it was made");
    const command = el("pre", { tabindex: "0", id: "command" }, run.command);
    const copy = el("button", { type: "button", onclick: () => toClipboard(run.command, command, copy) }, "Copy");
    place.append(
      el("p", { class: "quiet" }, "Again, from the folder of this page:"), el("div", { class: "command" }, command, copy),
      el("p", { class: "quiet" }, `Made by ${night.made}${known(run.seconds) ? ` in ${figure(run.seconds)} s` : ""}. run.toml holds all options; --config run.toml uses them again.`));
    const details = (label, ...content) => el("details", {}, el("summary", {}, label), ...content);
    const inputs = Object.entries(run.inputs);
    place.append(el("h3", {}, "Products"), el("ul", { class: "products" }, run.products.map((one) => el("li", {},
      el("a", { href: encodeURI(one.name) }, one.name), el("span", {}, one.about),
      el("span", { class: "quiet" }, `${one.files > 1 ? `${plural(one.files, "file")}, ` : ""}${difflapse.bytes(one.bytes)}`)))));
    place.append(
      details(`Options (${run.changed.length ? `${run.changed.length} changed` : "all at their defaults"})`,
        table(["Option", "Value"], Object.entries(run.options).map(([name, value]) => [run.changed.includes(name) ? el("strong", {}, name) : name, value || "–"]), "Options in force")),
      details("Versions", table(["Package", "Version"], Object.entries(run.versions), "Versions")),
      details(`Inputs (${plural(inputs.length, "file")})`,
        el("p", { class: "quiet" }, run.root ? `Below ${run.root}, as seen from this folder. ` : "", "SHA-256 of each:"),
        el("pre", { class: "hashes", tabindex: "0" }, inputs.map(([file, hash]) => `${hash}  ${file}`).join("\n"))));
  }

  async function toClipboard(text, element, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Not allowed here: select it, so that a key copies it.
      getSelection().selectAllChildren(element);
      button.textContent = "Selected: now copy";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  }

  return { quality, certificate, completeness, how };
})();
