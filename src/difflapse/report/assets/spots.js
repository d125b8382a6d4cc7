"use strict";

/* What a spot without a ring is: noise, or a sighting that was looked at and refused, and why. */
difflapse.Spots = (() => {
  const { el, Event, plural } = difflapse;
  const NOTHING = "nothing speaks against it, but it was seen too seldom, or is too weak, to be believed: what a single frame shows may be anything";

  class Spots {
    /* Sightings came, or are to be marked, or no more. */
    changed = new Event();

    constructor(night) {
      this.night = night;
      this.marked = false;
      this.told = null;
      this.byFrame = new Map();
      if (night.hasChanges && !night.changesNote) difflapse.need("refused").then((told) => this.#take(told), () => {});
    }

    /* Rows of what was refused in a frame. */
    rows(frame) { return this.byFrame.get(frame) || []; }

    /* A refused sighting. */
    spot(row) {
      const { told } = this;
      return { row, frame: told.frame[row], x: told.x_pix[row], y: told.y_pix[row], snr: told.snr[row], why: this.#why(told.flags[row]) };
    }

    /* Row of the one nearest to a place of a frame, within reach (native pixels); -1 for none. */
    near(frame, x, y, reach) {
      let best = -1;
      let least = reach * reach;
      for (const row of this.rows(frame)) {
        const d = (this.told.x_pix[row] - x) ** 2 + (this.told.y_pix[row] - y) ** 2;
        if (d < least) [best, least] = [row, d];
      }
      return best;
    }

    /* The words about it all, below the picture. */
    build() {
      this.count = el("span", { class: "quiet" });
      this.list = el("ul", { class: "reasons" });
      const box = el("input", { type: "checkbox", onchange: (event) => { this.marked = event.target.checked; this.changed.tell(); } });
      const looked = this.night.hasChanges && !this.night.changesNote;
      const what = looked
        ? ["Rings are drawn about what changed. All else in the difference is noise, or was looked at and refused: point at a spot there, or tap it, and the reason is told. ",
          "Noise beyond 3σ is met on 1 pixel in 400. Small dark squares and hatched places are masked: saturated, defective, or not seen."]
        : [`Nothing is ringed here, since changes were not looked for${this.night.changesNote ? `: ${this.night.changesNote}` : ""}. `,
          "Spots in the difference are changes, noise, or what the subtraction left of bright things."];
      return el("details", { class: "spots", id: "spots" },
        el("summary", {}, "What is a spot without a ring? ", this.count),
        el("p", {}, what),
        looked ? el("label", { class: "chip" }, box, "Mark what was refused") : null, this.list);
    }

    /* Say what was refused in a frame. */
    tell(frame) {
      if (!this.count) return; // there is no panel of differences, and no words about it
      const rows = this.rows(frame);
      this.count.textContent = this.told ? `${rows.length ? rows.length.toLocaleString("en") : "none"} refused in this frame` : "";
      const counts = new Map();
      for (const row of rows) for (const word of this.#why(this.told.flags[row])) counts.set(word, (counts.get(word) || 0) + 1);
      const lines = [...counts].sort((a, b) => b[1] - a[1]).map(([word, n]) => el("li", {}, el("strong", {}, n.toLocaleString("en")), ` ${word}`));
      const reasons = [...counts.values()].reduce((sum, n) => sum + n, 0);
      if (reasons > rows.length) lines.push(el("li", { class: "quiet" }, "These are more than there are spots: a spot may have several reasons against it."));
      if (this.told && this.told.left) lines.push(el("li", { class: "quiet" }, `${plural(this.told.left, "weaker sighting")} of the night are in detections.ecsv alone.`));
      this.list.replaceChildren(...lines);
    }

    #why(flags) {
      const words = Object.entries(this.told.why).filter(([bit]) => flags & Number(bit)).map(([, word]) => word);
      return words.length ? words : [NOTHING];
    }

    #take(told) {
      this.told = told;
      told.frame.forEach((frame, row) => {
        if (!this.byFrame.has(frame)) this.byFrame.set(frame, []);
        this.byFrame.get(frame).push(row);
      });
      this.changed.tell();
    }
  }

  return Spots;
})();
