"use strict";

/* Where a movie or clip is: beside the page, or carried in it. */
difflapse.source = (() => {
  const made = new Map();
  return (name) => {
    const carried = [...document.querySelectorAll("script.embedded")].find((one) => one.dataset.name === name);
    if (!carried) return encodeURI(name);
    if (!made.has(name)) {
      const letters = atob(carried.textContent);
      const bytes = new Uint8Array(letters.length);
      for (let k = 0; k < letters.length; k += 1) bytes[k] = letters.charCodeAt(k);
      made.set(name, URL.createObjectURL(new Blob([bytes], { type: carried.dataset.type })));
      carried.textContent = "";
    }
    return made.get(name);
  };
})();

/* Put the page together. */
(() => {
  const { el, known, number, plural } = difflapse;
  const night = difflapse.now("night");
  const stars = difflapse.now("stars");
  const place = (id) => document.getElementById(id);

  function header() {
    const { frames } = night;
    const used = frames.status.filter((status) => status === "used").length;
    const times = frames.time.filter(Boolean);
    place("title").textContent = night.object.trim() || night.name;
    const [begin, end] = [times[0], times[times.length - 1]];
    const until = times.length && difflapse.day(begin) !== difflapse.day(end) ? `${difflapse.day(end)}, ` : "";
    const span = times.length ? `${difflapse.day(begin)}, ${difflapse.clock(begin).slice(0, 5)} to ${until}${difflapse.clock(end).slice(0, 5)} UTC` : "";
    const how = night.meta.diff && night.meta.diff !== "none" ? `difference: ${night.meta.diff}` : "";
    const why = night.meta.diff_note ? [el("span", { class: "quiet", title: "what was asked for, and why it was not done" }, ` · ${night.meta.diff_note}`)] : [];
    place("subtitle").textContent = [span, night.object.trim() ? night.name : "", how].filter(Boolean).join(" · ");
    place("subtitle").append(...why);
    const rms = night.certificate && night.certificate.rms;
    const tile = (label, value) => el("div", {}, el("dt", {}, label), el("dd", {}, value));
    place("key-figures").append(
      tile("frames used", used === frames.status.length ? String(used) : `${used} of ${frames.status.length}`),
      night.hasChanges && !night.changesNote ? tile("changes", String(night.changes.length)) : "",
      night.hasStars ? tile("stars", stars.star.length.toLocaleString("en")) : "",
      rms ? tile("alignment", `${number(rms.median_pix, 3)} px`) : "");
    const sections = [["viewer", "Movie"], ["changes", "Changes"], ["quality", "Quality"], ["certificate", "Alignment"], ["completeness", "Depth"], ["how", "How it was made"]];
    place("contents").append(el("ul", {}, sections.map(([id, label]) => el("li", {}, el("a", { href: `#${id}` }, label)))));
    place("footer").append(`Made by ${night.made}. `, night.embedded ? `This one file holds the movie too (${difflapse.bytes(night.embedded)}); the other products are not in it.` : "This page needs the files beside it, and nothing else.", stars.note ? ` ${stars.note}` : "");
  }

  function viewer(transforms) {
    if (!night.movie || !night.movie.frames.length) {
      place("viewer").append(el("p", { class: "notice" }, "This run has no movie. Below is what is known of its frames."));
      return null;
    }
    return new difflapse.Viewer(place("viewer"), night, stars, transforms);
  }

  const transforms = {};
  header();
  const view = viewer(transforms);
  const selection = new difflapse.Selection(place("selection"), night, stars);
  const list = new difflapse.ChangeList(place("changes"), night);
  const varying = new difflapse.VaryingList(place("changes"), night);
  const show = (frame) => { if (view) view.show(frame); };
  const putHead = difflapse.sections.quality(place("quality"), night, show);
  difflapse.sections.certificate(place("certificate"), night);
  difflapse.sections.completeness(place("completeness"), night);
  difflapse.sections.how(place("how"), night);

  function choose(change, jump) {
    const star = change.kind === "star";
    list.select(star ? null : change);
    varying.select(star ? change : null);
    if (star) selection.varying(change);
    else selection.change(change);
    if (!view) return;
    view.select(change);
    if (jump && !star && (view.number < change.seen[0] || view.number > change.seen[1])) show(change.seen[0]);
  }
  list.picked.listen((change) => choose(change, true));
  varying.picked.listen((star) => choose(star, true));
  selection.frameWanted.listen(show);
  if (view) {
    view.changePicked.listen((change) => choose(change, false));
    view.starPicked.listen((row) => {
      list.select(null);
      varying.select(null);
      selection.star(row);
      view.select({ x: stars.x_pix[row], y: stars.y_pix[row] });
    });
    view.spotPicked.listen((spot, star) => {
      list.select(null);
      varying.select(null);
      selection.spot(spot, star);
      view.select({ x: spot.x, y: spot.y });
    });
    selection.lookWanted.listen((x, y, change) => {
      view.look(...(change ? view.placeOf(change) : [x, y]), 6);
      place("viewer").scrollIntoView({ block: "nearest" });
    });
    const follow = () => { selection.frame = view.number; putHead(view.shown); };
    view.player.moved.listen(follow);
    follow();
    difflapse.need("transforms").then((told) => Object.assign(transforms, told), () => {});
  }
  difflapse.view = view;
  document.documentElement.dataset.ready = "yes";
})();
