"use strict";

/* Where a change is in a frame: the marks on the picture. */
difflapse.marks = (night) => {
  const { known } = difflapse;
  const sightings = new Map(night.changes.map((change) => [change.change, []]));
  night.sightings.change.forEach((id, k) => {
    const at = (name) => (night.sightings[name] ? night.sightings[name][k] : null);
    if (!sightings.has(id)) return;
    sightings.get(id).push({ frame: at("frame"), x: at("x_pix"), y: at("y_pix"), end: [at("x_end_pix"), at("y_end_pix")] });
  });
  for (const own of sightings.values()) own.sort((a, b) => a.frame - b.frame);

  /* Where a comet's track has it: of a coma single frames say little. */
  function onTrack(change, frame) {
    const share = (frame - change.first_frame) / Math.max(change.last_frame - change.first_frame, 1);
    return { x: change.x_pix + share * (change.x_end_pix - change.x_pix), y: change.y_pix + share * (change.y_end_pix - change.y_pix) };
  }

  /* A place for a frame between sightings: on the line between them for what moves, else where it was. */
  function placed(change, own, frame) {
    const after = own.findIndex((one) => one.frame > frame);
    const moves = change.kind === "mover" || change.kind === "comet";
    if (after <= 0 || !moves) return { x: change.x_pix, y: change.y_pix };
    const [a, b] = [own[after - 1], own[after]];
    const share = (frame - a.frame) / (b.frame - a.frame);
    return { x: a.x + share * (b.x - a.x), y: a.y + share * (b.y - a.y) };
  }

  return (frame) => [...night.changes, ...night.varying.stars].flatMap((change) => {
    const own = sightings.get(change.change) || [];
    const seen = own.find((one) => one.frame === frame);
    const within = frame >= change.first_frame && frame <= change.last_frame;
    if (!seen && !within && !["variable", "star"].includes(change.kind)) return [];
    if (frame < 0) return [];
    const tracked = change.kind === "comet" && known(change.x_end_pix);
    const place = tracked ? onTrack(change, frame) : seen || placed(change, own, frame);
    let end = seen && known(seen.end[0]) ? seen.end : null;
    if (!end && change.kind === "streak" && known(change.x_end_pix) && frame === change.first_frame) {
      end = [change.x_end_pix, change.y_end_pix];
    }
    if (!known(place.x)) return [];
    return [{ change, x: place.x, y: place.y, end, seen: Boolean(seen) }];
  });
};

/* A change's name without the time in it, which stands beside it. */
difflapse.shortName = (change) => change.name.replace(/ \d{4}-\d\d-\d\dT[\d:]*/, "");

/* The list of what changed: sorted by any column, filtered by kind. */
difflapse.ChangeList = (() => {
  const { el, Event, known, number, figure } = difflapse;

  class ChangeList {
    picked = new Event();

    constructor(place, night) {
      this.night = night;
      this.sort = { key: "snr", down: true };
      this.kinds = [...new Set(night.changes.map((change) => change.kind))].sort();
      this.hiddenKinds = new Set();
      place.append(el("div", { class: "heading" },
        el("h2", { id: "changes-title" }, "What changed ", el("span", { class: "count" }, night.changesNote || !night.hasChanges ? "–" : String(night.changes.length))),
        night.highlights ? el("a", { href: difflapse.source(night.highlights) }, "Highlights, a movie") : ""));
      if (!night.changes.length) {
        place.append(el("p", { class: "empty" }, night.changesNote ? `Not looked for: ${night.changesNote}.` : night.hasChanges
          ? "Nothing changed that deserves belief. What was looked at and refused is in detections.ecsv."
          : "No list of changes was made in this run."));
        return;
      }
      this.table = el("table", { class: "changes" });
      place.append(this.#filters(), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes" }, this.table));
      this.#draw();
    }

    select(change) {
      this.selected = change;
      if (this.table) this.#draw();
    }

    #columns() {
      const { frames } = this.night;
      const times = frames.mjd.filter(known);
      const days = times.length > 1 && times[times.length - 1] - times[0] > 1;
      const time = (frame) => {
        const iso = frames.time[frames.number.indexOf(frame)];
        return iso ? `${days ? `${difflapse.day(iso).slice(5)} ` : ""}${difflapse.clock(iso).slice(0, 5)}` : `frame ${frame}`;
      };
      const rate = (c) => (known(c.rate_arcsec_per_hour) ? `${figure(c.rate_arcsec_per_hour)}″/h`
        : known(c.rate_pix_per_hour) ? `${figure(c.rate_pix_per_hour)} px/h` : "");
      return [
        { key: "name", label: "Name", of: (c) => difflapse.shortName(c) },
        { key: "seen", label: "Seen", of: (c) => c.seen[0],
          text: ({ seen: [first, last] }) => (first === last ? time(first) : `${time(first)}–${time(last)}`) },
        { key: "n_detections", label: "Sighted", of: (c) => c.n_detections, text: (c) => String(c.n_detections || ""), number: true, wide: true },
        { key: "snr", label: "S/N", of: (c) => Math.abs(c.snr), text: (c) => number(c.snr, 1), number: true },
        { key: "amplitude_mag", label: "Ampl.", of: (c) => c.amplitude_mag, text: (c) => (known(c.amplitude_mag) ? `${number(c.amplitude_mag, 2)} mag` : ""), number: true, wide: true },
        { key: "rate", label: "Rate", of: (c) => c.rate_arcsec_per_hour ?? c.rate_pix_per_hour, text: rate, number: true, wide: true },
      ];
    }

    #filters() {
      return el("fieldset", { class: "filters" }, el("legend", { class: "unseen" }, "Kinds shown"),
        this.kinds.map((kind) => {
          const count = this.night.changes.filter((change) => change.kind === kind).length;
          return el("label", { class: "chip" },
            el("input", { type: "checkbox", checked: true, onchange: (event) => {
              if (event.target.checked) this.hiddenKinds.delete(kind); else this.hiddenKinds.add(kind);
              this.#draw();
            } }),
            el("i", { class: "dot", style: `--kind: var(--${kind}, var(--unknown))` }), `${kind} `, el("span", { class: "quiet" }, String(count)));
        }));
    }

    #draw() {
      const columns = this.#columns();
      const { key, down } = this.sort;
      const column = columns.find((one) => one.key === key);
      const shown = this.night.changes.filter((change) => !this.hiddenKinds.has(change.kind));
      const order = (a, b) => {
        const [u, v] = [column.of(a), column.of(b)];
        if (u === v) return a.change - b.change;
        if (u === null || u === undefined) return 1;
        if (v === null || v === undefined) return -1;
        return (u < v ? -1 : 1) * (down ? -1 : 1);
      };
      const focus = this.table.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
      this.table.replaceChildren(
        el("thead", {}, el("tr", {}, columns.map((one) => el("th", {
          scope: "col", class: `${one.number ? "number" : ""} ${one.wide ? "wide" : ""}`,
          "aria-sort": one.key === key ? (down ? "descending" : "ascending") : null,
        }, el("button", { type: "button", "data-focus": `head ${one.key}`, onclick: () => {
          this.sort = { key: one.key, down: one.key === key ? !down : Boolean(one.number) };
          this.#draw();
        } }, one.label))))),
        el("tbody", {}, shown.sort(order).map((change) => this.#row(change, columns))));
      if (!shown.length) this.table.tBodies[0].append(el("tr", {}, el("td", { colspan: columns.length, class: "empty" }, "All kinds are hidden.")));
      const again = focus && [...this.table.querySelectorAll("button")].find((button) => button.dataset.focus === focus);
      if (again) again.focus();
    }

    #row(change, columns) {
      const [name, ...others] = columns;
      return el("tr", { class: change === this.selected ? "selected" : "", onclick: () => this.picked.tell(change) },
        el("th", { scope: "row" }, el("button", {
          type: "button", class: "name", title: change.name, "data-focus": `row ${change.change}`, "aria-pressed": String(change === this.selected),
        }, el("i", { class: "dot", style: `--kind: var(--${change.kind}, var(--unknown))` }), name.of(change))),
        others.map((one) => el("td", { class: `${one.number ? "number" : ""} ${one.wide ? "wide" : ""}` }, one.text(change))));
    }
  }

  return ChangeList;
})();

/* Stars that vary by their light curves alone, strongest first: a list of its own below what changed. */
difflapse.VaryingList = (() => {
  const { el, Event, known, number, plural } = difflapse;

  class VaryingList {
    picked = new Event();

    constructor(place, night) {
      this.stars = night.varying.stars;
      const { tested, falseAlarms } = night.varying;
      if (!tested) return;
      place.append(el("h3", { id: "varying-title" }, "Stars that vary by their light curves ", el("span", { class: "count" }, String(this.stars.length))));
      if (!this.stars.length) {
        place.append(el("p", { class: "quiet" }, `Beside what changed, none of ${plural(tested, "star")} does.`));
        return;
      }
      place.append(el("p", { class: "quiet" }, `What single differences show there is too little or too uneven to be listed as a change, but its light through the whole night departs from that of stars like it. Of ${plural(tested, "star")} noise would list ${falseAlarms} on average.`));
      this.table = el("table", { class: "changes" });
      place.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "varying-title" }, this.table));
      this.select(null);
    }

    select(star) {
      if (!this.table) return;
      const focused = this.table.contains(document.activeElement) ? document.activeElement.dataset.star : null;
      const head = (label, more = "") => el("th", { scope: "col", class: more }, label);
      this.table.replaceChildren(
        el("thead", {}, el("tr", {}, head("Name"), head("Ampl.", "number"), head("False alarm", "number"), head("Star", "number wide"))),
        el("tbody", {}, this.stars.map((one) => el("tr", { class: one === star ? "selected" : "", onclick: () => this.picked.tell(one) },
          el("th", { scope: "row" }, el("button", { type: "button", class: "name", "data-star": one.star, "aria-pressed": String(one === star) },
            el("i", { class: "dot", style: "--kind: var(--star)" }), one.name)),
          el("td", { class: "number" }, known(one.amplitude_mag) ? `${number(one.amplitude_mag, 2)} mag` : ""),
          el("td", { class: "number" }, difflapse.chance(one.false_alarm)),
          el("td", { class: "number wide" }, String(one.star))))));
      const again = focused && this.table.querySelector(`[data-star="${focused}"]`);
      if (again) again.focus();
    }
  }

  return VaryingList;
})();

/* What is selected, a star or a change: its facts, its light curve with the playhead in it, its clip. */
difflapse.Selection = (() => {
  const { el, Event, known, number, figure } = difflapse;
  const COLOURS = { R: "var(--channel-r)", G: "var(--channel-g)", B: "var(--channel-b)", L: "var(--accent)" };

  class Selection {
    /* A frame (its number) is wanted. */
    frameWanted = new Event();
    /* A place (x, y) is wanted in the middle. */
    lookWanted = new Event();

    constructor(place, night, stars) {
      Object.assign(this, { place, night, stars });
      this.mjd = new Map(night.frames.number.map((frame, k) => [frame, night.frames.mjd[k]]));
      this.timed = night.frames.mjd.every(known);
      this.title = el("h2", { id: "selection-title" }, "Light curve");
      this.body = el("div", { class: "selection" });
      place.append(this.title, this.body);
      this.body.append(el("p", { class: "empty" }, this.#invitation()));
    }

    #invitation() {
      if (this.night.curves) return `Click any star in the movie${this.night.changes.length ? ", or a change in the list," : ""} to see how its light went.`;
      return this.night.changes.length ? "Click a change in the list or in the movie: what is known of it is told here."
        : "No light curves were made in this run.";
    }

    /* Put the playhead. */
    set frame(frame) {
      this.at = frame;
      if (this.plot) this.plot.head = this.#x(frame);
    }

    #x(frame) { return this.timed ? this.mjd.get(frame) : frame; }

    async star(row) {
      const { stars } = this;
      const number_ = stars.star[row];
      const of = (name) => (stars[name] ? stars[name][row] : null);
      const facts = [
        ["Magnitude", known(of("mag")) ? `${number(of("mag"), 2)} (camera's own scale)` : ""],
        ["Scatter", known(of("scatter_mag")) ? `${figure(1000 * of("scatter_mag"))} mmag` : ""],
        ["Expected", known(of("expected_scatter_mag")) ? `${figure(1000 * of("expected_scatter_mag"))} mmag` : ""],
        ["Amplitude", known(of("amplitude_mag")) && of("false_alarm") < 0.01 ? `${number(of("amplitude_mag"), 3)} mag` : ""],
        ["False alarm", known(of("false_alarm")) && of("false_alarm") < 0.01 ? difflapse.chance(of("false_alarm")) : ""],
        ["Frames", known(of("n_frames")) ? String(of("n_frames")) : ""],
        ...this.#place(of("x_pix"), of("y_pix"), of("ra_deg"), of("dec_deg")),
        ["Flags", this.#flags(of("flags"))],
      ];
      this.#begin(`Star ${number_}`, null, facts, of("x_pix"), of("y_pix"));
      await this.#curve(number_, this.ticket);
    }

    /* A star that varies by its light curve alone. */
    async varying(star) {
      const facts = [
        ["Star", String(star.star)],
        ["Amplitude", known(star.amplitude_mag) ? `${number(star.amplitude_mag, 3)} mag` : ""],
        ["False alarm", difflapse.chance(star.false_alarm)],
        ["Magnitude", known(star.mag) ? `${number(star.mag, 2)} (camera's own scale)` : ""],
        ["Differences agree", known(star.borne_out) ? `correlation ${number(star.borne_out, 2)}` : ""],
        ["Frames", known(star.n_frames) ? String(star.n_frames) : ""],
        ...this.#place(star.x_pix, star.y_pix, star.ra_deg, star.dec_deg),
      ];
      this.#begin(star.name, star, facts, star.x_pix, star.y_pix);
      await this.#curve(star.star, this.ticket);
    }

    async change(change) {
      const facts = [
        ["Kind", change.kind],
        ["S/N", number(change.snr, 1)],
        ["Amplitude", known(change.amplitude_mag) ? `${number(change.amplitude_mag, 2)} mag` : ""],
        ["Rate", ...this.#rate(change)],
        ["Position angle", this.#rate(change)[0] && known(change.position_angle_deg)
          ? `${within(change.position_angle_deg, change.position_angle_err_deg)}°` : ""],
        ["Sighted", change.n_detections ? difflapse.plural(change.n_detections, "time") : ""],
        ...this.#place(change.x_pix, change.y_pix, change.ra_deg, change.dec_deg),
      ];
      this.#begin(change.name, change, facts, change.x_pix, change.y_pix);
      if (change.note) this.body.querySelector(".facts").after(el("p", { class: "quiet note" }, change.note));
      const star = change.kind === "variable" || known(change.star) ? this.#starOf(change) : null;
      if (star !== null && (await this.#curve(star, this.ticket))) return;
      this.#fluxes(change);
    }

    /* A sighting that was refused: why, and the light of the star there. */
    async spot(spot, star) {
      const { sky } = this.night;
      const facts = [
        ["Frame", String(spot.frame)],
        ["S/N", number(spot.snr, 1)],
        ...this.#place(spot.x, spot.y, ...(sky ? difflapse.sky.toSky(sky, spot.x, spot.y) : [])),
        ["Star here", star >= 0 ? String(this.stars.star[star]) : ""],
      ];
      this.#begin("Refused sighting", null, facts, spot.x, spot.y);
      this.body.querySelector(".facts").before(el("ul", { class: "reasons" }, spot.why.map((word) => el("li", {}, word))));
      if (star >= 0) await this.#curve(this.stars.star[star], this.ticket);
      else this.plotPlace.replaceChildren();
    }

    /* Flags in words, where the table has them. */
    #flags(flags) {
      const words = Object.entries(this.stars.flagNames || {}).filter(([bit]) => flags & Number(bit)).map(([, word]) => word);
      return flags ? words.join("; ") || String(flags) : "";
    }

    #rate(change) {
      for (const [name, unit] of [["arcsec", "″/h"], ["pix", " px/h"]]) {
        const rate = change[`rate_${name}_per_hour`];
        if (known(rate)) return [`${within(rate, change[`rate_err_${name}_per_hour`])}${unit}`];
      }
      return [""];
    }

    #place(x, y, ra, dec) {
      return [
        ["RA", known(ra) ? difflapse.hours(ra) : ""], ["Dec", known(dec) ? difflapse.degrees(dec) : ""],
        ["Pixel", known(x) ? `${number(x, 1)}, ${number(y, 1)}` : ""],
      ];
    }

    /* Number of the star that a change is: told, or the nearest within three pixels. */
    #starOf(change) {
      if (known(change.star) && change.star >= 0) return change.star;
      let [best, least] = [null, 9];
      this.stars.x_pix.forEach((x, k) => {
        const d = (x - change.x_pix) ** 2 + (this.stars.y_pix[k] - change.y_pix) ** 2;
        if (d < least) [best, least] = [this.stars.star[k], d];
      });
      return best;
    }

    #begin(title, change, facts, x, y) {
      this.plot = null;
      this.ticket = (this.ticket || 0) + 1;
      this.title.replaceChildren(change ? el("i", { class: "dot", style: `--kind: var(--${change.kind}, var(--unknown))` }) : "", title);
      this.plotPlace = el("div", { class: "curve" });
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const clip = change && change.clip ? el("video", {
        src: `${difflapse.source(change.clip)}#t=0.1`, controls: true, loop: true, muted: true, playsinline: true, autoplay: !still,
        preload: "metadata", class: "clip", "aria-label": `Clip of ${change.name}`,
      }) : null;
      if (clip) clip.muted = true; // by script the attribute alone does not do it
      const acts = [el("button", { type: "button", onclick: () => this.lookWanted.tell(x, y, change) }, "Zoom to it")];
      if (change && change.kind !== "star") {
        for (const [label, frame] of [["First seen", change.seen[0]], ["Last seen", change.seen[1]]]) {
          acts.push(el("button", { type: "button", onclick: () => this.frameWanted.tell(frame) }, label));
        }
      }
      this.body.replaceChildren(this.plotPlace, ...(clip ? [clip] : []),
        el("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
        el("div", { class: "acts" }, acts));
      difflapse.say(`${title} is selected`);
    }

    /* Draw a star's curve; false where there is none. */
    async #curve(star, ticket) {
      let curve = null;
      let missing = "This star has no light curve.";
      try {
        curve = await difflapse.curves.of(star);
      } catch (error) {
        missing = error.message;
      }
      if (ticket !== this.ticket) return true; // another was chosen meanwhile
      if (!curve) {
        const { curves } = this.night;
        this.plotPlace.replaceChildren(el("p", { class: "empty" }, curves && curves.note ? `${missing} ${curves.note}` : missing));
        return false;
      }
      const frames = this.night.curves.frames;
      const names = Object.keys(curve);
      const main = names.includes("G") ? "G" : names[0];
      const series = names.map((name) => ({
        name, y: curve[name].flux, error: curve[name].error, faint: curve[name].faint, colour: COLOURS[name], line: false, hidden: name !== main,
      }));
      this.#draw(`Brightness of star ${star}`, "relative flux, 1 = its median", frames, series);
      if (names.length > 1) this.plotPlace.append(this.#channels(series));
      return true;
    }

    #channels(series) {
      return el("fieldset", { class: "filters" }, el("legend", { class: "unseen" }, "Colours shown"),
        series.map((one) => el("label", { class: "chip" },
          el("input", { type: "checkbox", checked: !one.hidden, onchange: (event) => { one.hidden = !event.target.checked; this.plot.draw(); } }),
          el("i", { class: "dot", style: `--kind: ${one.colour}` }), { R: "red", G: "green", B: "blue", L: "light" }[one.name])));
    }

    /* Fluxes of a change's sightings, where it is no star that has a light curve. */
    #fluxes(change) {
      const { sightings } = this.night;
      const own = sightings.change.map((id, k) => k).filter((k) => sightings.change[k] === change.change);
      own.sort((a, b) => sightings.frame[a] - sightings.frame[b]);
      if (own.length < 2) {
        this.plotPlace.replaceChildren(el("p", { class: "empty" }, "Seen too seldom for a light curve."));
        return;
      }
      const pick = (name) => own.map((k) => sightings[name][k]);
      this.#draw("Brightness in the difference", "ADU", pick("frame"),
        [{ name: "flux", y: pick("flux_adu"), error: pick("flux_err_adu"), colour: "var(--accent)", line: false }]);
    }

    #draw(title, unit, frames, series) {
      this.plotPlace.replaceChildren();
      const times = this.night.frames.mjd.filter(known);
      this.plot = new difflapse.plot.Plot(this.plotPlace, {
        title, unit, height: 210, switched: true, time: this.timed, x: frames.map((frame) => this.#x(frame)), series,
        xRange: this.timed && times.length > 1 ? padded(times) : null,
      });
      this.plot.picked.listen((k) => this.frameWanted.tell(frames[k]));
      this.frame = this.at;
    }
  }

  const within = (value, error) => (known(error) && error > 0 ? difflapse.uncertain(value, error) : figure(value));

  function padded(times) {
    const [low, high] = [Math.min(...times), Math.max(...times)];
    const room = (high - low) * 0.02;
    return [low - room, high + room];
  }

  return Selection;
})();
